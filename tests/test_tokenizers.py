"""Tokenizers: text comes back to the letter, and what a model never saw is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elman.errors import InputError, ModelFileError
from elman.text.tokenizers import ByteTokenizer, CharTokenizer, tokenizer_from_json, train_tokenizer

AWKWARD = (
    "",
    "\0",
    "a\rb\r\nc\n",
    "\U0001f600\U00010000\U0010ffff",
    "e\u0301 \u00e9 \u0928\u093f",
    "\ufeffbom\ufffd",
    "\u2028\x85\x1b",
    "狗\N{ZERO WIDTH JOINER}",
)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
many = settings(max_examples=300, deadline=None)


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
@pytest.mark.parametrize("kind", ["char", "byte"])
def test_awkward_text_comes_back_to_the_letter(kind, text):
    tokenizer = train_tokenizer(kind, text, unknown=False)
    assert tokenizer.decode(tokenizer.encode(text)) == text == fed_id_by_id(tokenizer, tokenizer.encode(text))


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
        {"kind": "word"},
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


def test_the_error_policy_names_five_characters_and_counts_the_rest():
    with pytest.raises(InputError, match=r"'1' .*'5' .* and 3 more, first at offset 1;") as caught:
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
