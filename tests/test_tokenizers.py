"""Tokenizers: text comes back to the letter, and what a model never saw is named."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elman.errors import InputError, ModelFileError
from elman.text.tokenizers import (
    TOKENIZERS,
    BpeTokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    chunks,
    tokenizer_from_json,
    train_tokenizer,
)

AWKWARD = (
    "",
    "\0",
    "a\rb\r\nc\n",
    "\U0001f600\U00010000\U0010ffff",
    "e\u0301 \u00e9 \u0928\u093f",
    "\ufeffbom\ufffd",
    "\u2028\x85\x1b",
    "狗\N{ZERO WIDTH JOINER}",
    "我们don't cut 3.14中文，l’été １２³ \u3000々〇𠀀 'tis rock'n'roll'",
)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# Text in which the rules of words and of white space meet each other often.
SEAMS = (
    "aZéßж'’`-_.,:。， \t\r\n\n\u3000\xa0\x1f019１٣²½\u0301\u0928\u093f\u200d\u200c"
    "我们在北京大学的々〇𠀀\U0002fa1dひ한😀👩\U0001e8d0\0"
)
seams = st.text(st.sampled_from(SEAMS), max_size=60)
many = settings(max_examples=300, deadline=None)
enough = settings(max_examples=200, deadline=None)
long_form = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
KINDS = list(TOKENIZERS)


@cache
def trained_bpe() -> BpeTokenizer:
    """Of a vocabulary with merges of letters, of Chinese, of line ends and of blanks."""
    return BpeTokenizer.train("the cat sat on the mat, 我们在北京大学。\n\n  don't 12 12\r\n" * 9, 330)


def tokenizer_for(kind: str, text: str) -> Tokenizer:
    """One that knows all of a text."""
    return trained_bpe() if kind == "bpe" else train_tokenizer(kind, text, unknown=False)


def fed_id_by_id(tokenizer, ids) -> str:
    decoder = tokenizer.decoder()
    return "".join(decoder.feed(int(token)) for token in ids) + decoder.finish()


@given(text=any_text, unknown=st.booleans())
@many
def test_a_char_tokenizer_gives_its_training_text_back(text, unknown):
    tokenizer = CharTokenizer.train(text, unknown)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text) and tokenizer.decode(ids) == text == fed_id_by_id(tokenizer, ids)
    assert tokenizer.vocab_size == len(set(text)) + unknown


@given(text=any_text)
@many
def test_a_byte_tokenizer_gives_any_text_back(text):
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert ids.tolist() == list(text.encode()) and tokenizer.decode(ids) == text == fed_id_by_id(tokenizer, ids)


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize("kind", KINDS)
def test_awkward_text_comes_back_to_the_letter(kind, text):
    check_lossless(kind, text)


@pytest.mark.parametrize("kind", ["word", "bpe"])
@given(text=any_text | seams)
@enough
def test_any_text_comes_back_to_the_letter(kind, text):
    check_lossless(kind, text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(text=any_text | seams)
@long_form
def test_ten_thousand_texts_come_back_to_the_letter(kind, text):
    check_lossless(kind, text)


def check_lossless(kind: str, text: str) -> None:
    tokenizer = tokenizer_for(kind, text)
    ids = tokenizer.encode(text, "error")
    assert tokenizer.decode(ids) == text == fed_id_by_id(tokenizer, ids)
    assert tokenizer.unknown_pieces(text) == []


cuts = st.lists(st.integers(0, 60), max_size=8)


@pytest.mark.parametrize("kind", [*KINDS, "whitespace"])
@given(text=any_text | seams, places=cuts, block=st.integers(1, 9))
@enough
def test_ids_do_not_depend_on_where_the_chunks_are_cut(kind, text, places, block):
    check_cuts(kind, text, places, block)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "whitespace"])
@given(text=any_text | seams, places=cuts, block=st.integers(1, 9))
@long_form
def test_ids_do_not_depend_on_where_ten_thousand_texts_are_cut(kind, text, places, block):
    check_cuts(kind, text, places, block)


def check_cuts(kind: str, text: str, places: list[int], block: int) -> None:
    parts = cut(text, places)
    if kind == "whitespace":
        tokenizer = train_tokenizer("word", text, unknown=True, word_splitter="whitespace")
    else:
        tokenizer = tokenizer_for(kind, text)
    with patch.object(chunks, "BLOCK", block):
        arrays = list(tokenizer.encode_chunks(parts))
        again = train_tokenizer("word", parts, True, None, 1, kind) if kind == "whitespace" else tokenizer
        if kind in ("char", "word"):
            again = train_tokenizer(kind, parts, unknown=False)
    whole = tokenizer.encode(text)
    assert all(array.dtype == whole.dtype for array in arrays)
    assert [token for array in arrays for token in array.tolist()] == whole.tolist()
    assert again.to_json() == tokenizer.to_json()


def cut(text: str, places: list[int]) -> list[str]:
    """The text in parts, some of them empty."""
    borders = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_is_held_back_only_up_to_its_last_certain_cut(kind):
    text = "to be or not to be, that is the question 我们在北京大学，\n" * 20
    tokenizer = tokenizer_for(kind, text)
    tokenizer.encode(text)
    asked = []

    def tell_what_is_asked():
        for start in range(0, len(text), 10):
            asked.append(start)
            yield text[start : start + 10]

    with patch.object(chunks, "BLOCK", 40):
        ids = tokenizer.encode_chunks(tell_what_is_asked())
        assert len(next(ids)) > 0 and len(asked) <= 5
        assert len(next(ids)) > 0 and len(asked) <= 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_larger_than_a_block_is_cut_as_one(kind):
    text = "".join(f"number {n}, 第{n}个数，isn’t\t  it?\r\n" for n in range(6000))
    assert len(text) > 2 * chunks.BLOCK
    check_lossless(kind, text)
    tokenizer = tokenizer_for(kind, text)
    lines = np.concatenate(list(tokenizer.encode_chunks(text.splitlines(keepends=True))))
    np.testing.assert_array_equal(lines, tokenizer.encode(text))


@pytest.mark.parametrize("kind", ["char", "word"])
def test_an_error_names_the_offset_in_the_whole_text(kind):
    tokenizer = train_tokenizer(kind, "ab 我们", unknown=False)
    with patch.object(chunks, "BLOCK", 4), pytest.raises(InputError, match="offset 20;"):
        list(tokenizer.encode_chunks(["ab ab ab 我们ab ab ", "ab zz"]))


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_a_lone_surrogate_is_refused_with_its_offset(kind):
    with patch.object(chunks, "BLOCK", 4), pytest.raises(InputError, match=r"U\+D800 at offset 12"):
        list(tokenizer_for(kind, "").encode_chunks(["some text ", "ab\ud800"]))


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_has_no_tokens(kind):
    tokenizer = tokenizer_for(kind, "a")
    assert tokenizer.encode("").tolist() == [] and tokenizer.decode([]) == ""
    assert tokenizer.encode("").dtype == tokenizer.encode("a").dtype


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_end_has_an_id_where_the_text_had_one(kind):
    tokenizer = tokenizer_for(kind, "a\nb")
    assert tokenizer.encode("\n").tolist() == [tokenizer.line_end_id]
    if kind in ("char", "word"):
        assert train_tokenizer(kind, "ab", unknown=True).line_end_id is None


@pytest.mark.parametrize(("kind", "token", "shown"), [("char", 0, "a"), ("char", 2, "<unk>"), ("byte", 0x61, "a")])
def test_ids_are_described_for_people(kind, token, shown):
    assert train_tokenizer(kind, "ab", unknown=True).describe(token) == shown


def test_a_byte_that_is_part_of_a_character_is_described_by_its_number():
    assert ByteTokenizer().describe(0xE7) == "<0xE7>"


def test_unknown_characters_can_be_listed():
    tokenizer = CharTokenizer.train("abc", unknown=True)
    with patch.object(chunks, "BLOCK", 2):
        assert tokenizer.unknown_pieces("aXbYYc狗") == ["X", "Y", "Y", "狗"]
    assert CharTokenizer.train("abc", unknown=False).unknown_pieces("X") == ByteTokenizer().unknown_pieces("X") == []


@pytest.mark.parametrize(
    ("limits", "characters", "has_unknown"),
    [
        ({}, "abcd", False),
        ({"max_vocab": 4}, "abcd", False),
        ({"max_vocab": 3}, "ab", True),  # b and c tie: by their text
        ({"max_vocab": 2}, "a", True),
        ({"min_count": 2}, "abc", True),
        ({"min_count": 2, "max_vocab": 4}, "abc", True),
        ({"min_count": 2, "max_vocab": 3}, "ab", True),
        ({"min_count": 3}, "a", True),
        ({"min_count": 9}, "", True),
    ],
)
def test_the_most_frequent_characters_are_kept(limits, characters, has_unknown):
    tokenizer = CharTokenizer.train(["dcb", "bcaa", "a"], False, **limits)
    assert (tokenizer.characters, tokenizer.unknown_id is not None) == (characters, has_unknown)


def test_an_unknown_that_is_asked_for_is_one_of_the_ids():
    assert CharTokenizer.train("aab", unknown=True, max_vocab=2).characters == "a"
    assert CharTokenizer.train("aab", unknown=True, max_vocab=3).characters == "ab"


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("byte", {"max_vocab": 300}, "leave out max_vocab"),
        ("byte", {"min_count": 2}, "leave out max_vocab"),
        ("some/tokenizer.json", {"min_count": 2}, "leave out max_vocab"),
        ("char", {"max_vocab": 0}, "max_vocab must be 1 or more, not 0"),
        ("word", {"min_count": -1}, "min_count must be 1 or more, not -1"),
        ("char", {"word_splitter": "whitespace"}, "word_splitter is for the tokenizer word, not for char"),
        ("word", {"word_splitter": "white"}, "Did you mean whitespace?"),
        ("wrd", {}, "Did you mean word?"),
    ],
)
def test_what_a_kind_does_not_take_is_refused(kind, options, said):
    with pytest.raises(InputError) as caught:
        train_tokenizer(kind, "a b", unknown=True, **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_segmenters_and_libraries_are_loaded_when_text_needs_them(tmp_path):
    program = """
import sys
from elman.text.tokenizers import tokenizer_from_json, train_tokenizer
def loaded(): return sorted({"rjieba", "jieba", "tokenizers"} & set(sys.modules))
train_tokenizer("char", "我们", True), train_tokenizer("byte", "我们", True)
words = train_tokenizer("word", "the cat", True)
assert words.unknown_pieces("the 我们") == ["我", "们"]
assert tokenizer_from_json(words.to_json() | {"segmenter": {"name": "rjieba", "version": "0.0"}}).decode([0]) == " "
assert not loaded(), loaded()
train_tokenizer("word", "我们", True)
assert loaded() == ["rjieba"], loaded()
bpe = train_tokenizer("bpe", "the cat", True, 256)
assert loaded() == ["rjieba", "tokenizers"], loaded()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_ids_number_the_sorted_characters():
    assert CharTokenizer.train("hello", unknown=True).encode("hello").tolist() == [1, 0, 2, 2, 3]


@given(text=any_text, other=any_text, unknown=st.booleans())
@many
def test_a_tokenizer_read_back_from_json_is_the_same(text, other, unknown):
    for tokenizer in (CharTokenizer.train(text + "a", unknown), ByteTokenizer()):
        again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
        assert (type(again), again.kind, again.vocab_size) == (type(tokenizer), tokenizer.kind, tokenizer.vocab_size)
        assert again.unknown_id == tokenizer.unknown_id
        np.testing.assert_array_equal(again.encode(other, "skip"), tokenizer.encode(other, "skip"))
        everything = range(tokenizer.vocab_size)
        assert again.decode(everything) == tokenizer.decode(everything)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "char",
        5,
        {},
        {"kind": "words"},
        {"kind": ["char"]},
        {"kind": "char"},
        {"kind": "char", "characters": "ab"},
        {"kind": "char", "characters": "", "unknown": False},
        {"kind": "char", "characters": "aba", "unknown": False},
        {"kind": "char", "characters": ["a", "b"], "unknown": False},
        {"kind": "char", "characters": "ab", "unknown": 1},
        {"kind": "char", "characters": "ab", "unknown": None},
    ],
)
def test_json_that_is_no_tokenizer_is_refused(data):
    with pytest.raises(ModelFileError, match="tokenizer"):
        tokenizer_from_json(data)


def test_unknown_characters_get_the_last_id_and_are_shown_as_a_replacement_character():
    tokenizer = CharTokenizer.train("abc", unknown=True)
    assert tokenizer.unknown_id == 3 and tokenizer.vocab_size == 4
    ids = tokenizer.encode("aX\U0010ffff\0b")
    assert ids.tolist() == [0, 3, 3, 3, 1]
    assert tokenizer.decode(ids) == "a\ufffd\ufffd\ufffdb"


@pytest.mark.parametrize(("unknown", "policy"), [(True, "error"), (False, "error"), (False, "unknown")])
def test_the_error_policy_names_character_code_point_and_offset(unknown, policy):
    tokenizer = CharTokenizer.train("abc", unknown)
    with pytest.raises(InputError) as caught:
        tokenizer.encode("ab\N{SNOWMAN}c\0\U0001f600", policy)
    message = str(caught.value)
    assert "'\N{SNOWMAN}' (U+2603 SNOWMAN)" in message and "U+0000" in message and "U+1F600 GRINNING FACE" in message
    assert "offset 2" in message and "\n" not in message and "\0" not in message


def test_the_error_policy_names_five_characters_and_says_that_there_are_others():
    with pytest.raises(InputError, match=r"'1' .*'5' .* and others, first at offset 1;") as caught:
        CharTokenizer.train("abc", unknown=False).encode("a123454321678")
    assert "'6'" not in str(caught.value)


@pytest.mark.parametrize("unknown", [True, False])
def test_the_skip_policy_leaves_unknown_characters_out(unknown):
    tokenizer = CharTokenizer.train("abc", unknown)
    assert tokenizer.decode(tokenizer.encode("xaybzc", "skip")) == "abc"
    assert tokenizer.encode("xyz", "skip").tolist() == []


@given(raw=st.binary(max_size=40))
@example(raw="né狗\U0001f600".encode())
@example(raw=b"\xff\xf0\x9f\x98a\xe7\x8b")
@example(raw=b"\xed\xa0\x80\xc0\x80\xf4\x90\x80\x80")
@many
def test_any_bytes_decode_and_a_stream_gives_the_same_text_as_the_whole(raw):
    tokenizer = ByteTokenizer()
    assert fed_id_by_id(tokenizer, raw) == tokenizer.decode(raw) == raw.decode("utf-8", "replace")


@given(text=any_text, cut=st.integers(0, 200))
@many
def test_a_byte_stream_cut_inside_a_character_shows_one_replacement_character(text, cut):
    raw = text.encode()[:cut]
    whole = raw.decode("utf-8", "ignore")
    rest = "\ufffd" if len(whole.encode()) < len(raw) else ""
    assert fed_id_by_id(ByteTokenizer(), raw) == whole + rest


def test_a_byte_stream_waits_for_the_end_of_a_character():
    decoder = ByteTokenizer().decoder()
    assert [decoder.feed(byte) for byte in "狗a".encode()] == ["", "", "狗", "a"]
    assert decoder.finish() == ""


def test_a_byte_tokenizer_refuses_a_lone_surrogate_with_its_offset():
    with pytest.raises(InputError, match=r"U\+D800 at offset 2"):
        ByteTokenizer().encode("ab\ud800")


@pytest.mark.parametrize(
    ("characters", "unknown", "dtype"),
    [
        (1, False, np.uint8),
        (255, True, np.uint8),
        (256, False, np.uint8),
        (256, True, np.uint16),
        (5000, True, np.uint16),
    ],
)
def test_ids_have_the_smallest_unsigned_type_that_holds_the_vocabulary(characters, unknown, dtype):
    text = "".join(map(chr, range(1000, 1000 + characters)))
    ids = CharTokenizer.train(text, unknown).encode(text + "\0" * unknown)
    assert ids.dtype == dtype and ids[-1] == characters - 1 + unknown


def test_byte_ids_are_bytes():
    assert ByteTokenizer().encode("\xff").dtype == np.uint8
    assert (ByteTokenizer.vocab_size, ByteTokenizer.unknown_id) == (256, None)


@given(text=any_text.filter(bool))
@settings(deadline=None)
def test_the_first_token_covers_the_first_character_or_byte(text):
    assert CharTokenizer.train(text, False).first_bytes(text) == len(text[0].encode())
    assert ByteTokenizer().first_bytes(text) == 1


@pytest.mark.parametrize("kind", ["word", "bpe"])
@given(text=(any_text | seams).filter(bool))
@enough
def test_the_first_token_covers_as_many_bytes_as_it_has(kind, text):
    tokenizer = tokenizer_for(kind, text)
    rest = tokenizer.encode(text)[1:]
    raw = text.encode()
    assert raw[tokenizer.first_bytes(text) :].decode("utf-8", "replace") == tokenizer.decode(rest)
