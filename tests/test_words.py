"""Words: where text is cut, which words get an id, and which segmenter cuts Chinese."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
import warnings
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import corpus
from elman.errors import InputError, ModelFileError
from elman.text.tokenizers import WordTokenizer, segmenter, tokenizer_from_json, train_tokenizer

RJIEBA = ("rjieba", metadata.version("rjieba"))


def pieces(text: str, **options) -> list[str]:
    """The text of each token, from a tokenizer that knows them all."""
    tokenizer = WordTokenizer.train(text, False, **options)
    return [tokenizer.describe(token) for token in tokenizer.encode(text, "error")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, it's o'clock", ["Don't", " ", "stop", ",", " ", "it's", " ", "o'clock"]),
        ("l’été ’tis dogs' 'quoted'", ["l’été", " ", "’", "tis", " ", "dogs", "'", " ", "'", "quoted", "'"]),
        ("rock'n'roll a''b don'", ["rock'n'roll", " ", "a", "'", "'", "b", " ", "don", "'"]),
        ("in 1984: 3.14 x2y", ["in", " ", "1984", ":", " ", "3", ".", "14", " ", "x", "2", "y"]),
        ("１２٣4 ½ x²", ["１２٣4", " ", "½", " ", "x²"]),
        ("a\r\nb\n\n  c\rd", ["a", "\r", "\n", "b", "\n", "\n", "  ", "c", "\r", "d"]),
        ("a \t\u3000\n b", ["a", " \t\u3000", "\n", " ", "b"]),
        ("snake_case-word...", ["snake", "_", "case", "-", "word", ".", ".", "."]),
        ("👩\u200d🚀!😀😀", ["👩", "\u200d", "🚀", "!", "😀", "😀"]),
        ("e\u0301te\u0301 \u0301x", ["e\u0301te\u0301", " ", "\u0301", "x"]),
        ("हिन्दी क्\u200dष می\u200cخواهم", ["हिन्दी", " ", "क्\u200dष", " ", "می\u200cخواهم"]),
        ("\U0001e900\U0001e944\U0001e901", ["\U0001e900\U0001e944\U0001e901"]),  # Adlam, above U+FFFF, with a mark
        ("a\U000e0100b", ["a\U000e0100b"]),
        ("Straße, жизнь! 한국어 ひらがな", ["Straße", ",", " ", "жизнь", "!", " ", "한국어", " ", "ひらがな"]),
        ("我们在北京大学。", ["我们", "在", "北京大学", "。"]),
        ("我们\n在北京，ok北京大学3岁", ["我们", "\n", "在", "北京", "，", "ok", "北京大学", "3", "岁"]),
        ("𠀀々〇", ["𠀀", "々", "〇"]),
        ("人々abc、〇x", ["人", "々", "abc", "、", "〇", "x"]),
        ("\0\ufeff\ufffd", ["\0", "\ufeff", "\ufffd"]),
        ("a_\x1fb", ["a", "_", "\x1f", "b"]),
        ("", []),
    ],
)
def test_text_is_cut_into_words(text, expected):
    assert pieces(text) == expected


def test_every_combining_mark_belongs_to_the_letter_before_it():
    marks = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)).startswith("M")]
    words = [f"a{mark}b" for mark in marks]
    assert len(words) > 2000 and WordTokenizer(["x"], True).unknown_pieces(" ".join(words))[::2] == words


@pytest.mark.parametrize(
    ("text", "expected", "back"),
    [
        ("no it was n't\n", ["no", "it", "was", "n't", "<eos>"], "no it was n't\n"),
        ("  a \t b\r\n\n c", ["a", "b", "<eos>", "<eos>", "c"], "a b\n\nc"),
        ("the <unk> of N <eos> x", ["the", "<unk>", "of", "N", "<eos>", "x"], "the <unk> of N\nx"),
        ("我们在北京\u3000大学", ["我们在北京", "大学"], "我们在北京 大学"),
    ],
)
def test_the_whitespace_splitter_is_the_penn_treebank_convention(text, expected, back):
    tokenizer = train_tokenizer("word", text, unknown=True, word_splitter="whitespace")
    ids = tokenizer.encode(text)
    assert [tokenizer.describe(token) for token in ids] == expected and tokenizer.decode(ids) == back
    decoder = tokenizer.decoder()
    assert "".join(decoder.feed(token) for token in ids.tolist()) + decoder.finish() == back
    if "<eos>" in expected:
        assert tokenizer.encode("\n").tolist() == [tokenizer.line_end_id]
    else:
        assert tokenizer.line_end_id is None


def test_a_word_unk_in_the_text_is_the_unknown_word_and_makes_it_one_of_the_vocabulary():
    tokenizer = WordTokenizer.train("a <unk> b\n", False, word_splitter="whitespace")
    assert tokenizer.words == ("<eos>", "a", "b") and tokenizer.unknown_id == 3
    assert tokenizer.encode("<unk> z a").tolist() == [3, 3, 1]
    assert tokenizer.unknown_pieces("<unk> z a") == ["<unk>", "z"]
    assert tokenizer.encode("<unk> a", "error").tolist() == [3, 1]


def test_word_ids_are_sorted_by_falling_count_and_ties_by_text():
    tokenizer = WordTokenizer.train(["b a c", " a d"], unknown=True)
    assert tokenizer.words == (" ", "a", "b", "c", "d") and tokenizer.unknown_id == 5 and tokenizer.vocab_size == 6


@pytest.mark.parametrize(
    ("limits", "words", "has_unknown"),
    [
        ({"max_vocab": 5}, (" ", "a", "b", "c", "d"), False),
        ({"max_vocab": 4}, (" ", "a", "b"), True),
        ({"min_count": 2}, (" ", "a"), True),
        ({"min_count": 2, "max_vocab": 2}, (" ",), True),
        ({"min_count": 100}, (), True),
    ],
)
def test_rare_words_are_left_out(limits, words, has_unknown):
    tokenizer = WordTokenizer.train("b a c a d", False, **limits)
    assert (tokenizer.words, tokenizer.unknown_id) == (words, len(words) if has_unknown else None)


def test_unknown_words_get_the_last_id_and_are_shown_as_a_replacement_character():
    tokenizer = WordTokenizer.train("a cat", unknown=True)
    ids = tokenizer.encode("a dog")
    assert ids.tolist()[-1] == tokenizer.unknown_id == 3 and tokenizer.decode(ids) == "a \ufffd"
    assert tokenizer.describe(3) == "<unk>" and tokenizer.unknown_pieces("a dog dog") == ["dog", "dog"]
    assert WordTokenizer.train("a cat", unknown=False).unknown_pieces("dog") == []


@pytest.mark.parametrize("splitter", ["unicode", "whitespace"])
def test_the_error_policy_names_words_and_offset_and_skip_leaves_them_out(splitter):
    tokenizer = WordTokenizer.train("a cat", False, word_splitter=splitter)
    text = f"a cat dog dog b c d {'e' * 50} f cat"
    with pytest.raises(InputError, match=r"never saw 'dog', 'b', 'c', 'd', 'e{40}…' and others, first at offset 6;"):
        tokenizer.encode(text, "error")
    kept = tokenizer.decode(tokenizer.encode(text, "skip"))
    assert kept.split() == ["a", "cat", "cat"]


@pytest.mark.parametrize("policy", ["unknown", "error"])
def test_a_word_that_has_no_id_is_an_error_where_there_is_no_unk(policy):
    with pytest.raises(InputError, match="never saw 'dog'"):
        WordTokenizer.train("a cat", False).encode("dog", policy)


# The segmenter


@pytest.fixture
def installed(monkeypatch):
    """Says which segmenters are installed; each cuts in its own way, and tells the text that it was given."""
    given_text: list[str] = []

    def install(**versions: str) -> list[str]:
        def version(name: str) -> str:
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        def cutter(length: int):
            def cut(text: str) -> list[str]:
                given_text.append(text)
                return re.findall(rf"\n|[^\n]{{1,{length}}}", text)

            return cut

        monkeypatch.setattr(segmenter.metadata, "version", version)
        monkeypatch.setitem(sys.modules, "rjieba", SimpleNamespace(cut=cutter(2)))
        monkeypatch.setitem(sys.modules, "jieba", SimpleNamespace(lcut=cutter(3), setLogLevel=lambda level: None))
        return given_text

    return install


def test_rjieba_cuts_where_it_is_installed_and_jieba_where_only_that_is(installed):
    installed(rjieba="1.0", jieba="2.0")
    first = WordTokenizer.train("甲乙丙丁", False)
    assert first.segmenter == ("rjieba", "1.0") and set(first.words) == {"甲乙", "丙丁"}
    installed(jieba="2.0")
    second = WordTokenizer.train("甲乙丙丁", False)
    assert second.segmenter == ("jieba", "2.0") and set(second.words) == {"甲乙丙", "丁"}
    assert second.to_json()["segmenter"] == {"name": "jieba", "version": "2.0"}


def test_the_segmenter_gets_chinese_runs_and_a_line_end_for_each_other_piece(installed):
    given_text = installed(rjieba="1.0")
    assert pieces("a 甲乙丙, b丁\t丁") == ["a", " ", "甲乙", "丙", ",", " ", "b", "丁", "\t", "丁"]
    assert given_text == ["\n\n甲乙丙\n\n\n丁\n", "丁"] * 2  # cut behind the last white space


def test_without_a_segmenter_chinese_is_refused_with_the_command_and_the_rest_is_not(installed):
    installed()
    assert pieces("a b") == ["a", " ", "b"]
    with pytest.raises(InputError, match=r"python -m pip install 'elman\[zh\]'"):
        WordTokenizer.train("甲", False)


def test_a_model_without_chinese_takes_each_chinese_character_for_a_word(installed):
    installed()
    tokenizer = WordTokenizer.train("a b", True)
    assert tokenizer.segmenter is None and tokenizer.unknown_pieces("a 甲乙") == ["甲", "乙"]


def test_the_recorded_segmenter_cuts_even_where_another_is_preferred(installed):
    installed(jieba="2.0")
    trained = WordTokenizer.train("甲乙丙丁", True)
    installed(rjieba="1.0", jieba="2.0")
    again = tokenizer_from_json(json.loads(json.dumps(trained.to_json())))
    np.testing.assert_array_equal(again.encode("甲乙丙丁"), trained.encode("甲乙丙丁"))
    assert again.unknown_pieces("甲乙丙丁") == []


def test_cutting_with_another_segmenter_is_refused_and_decoding_is_not(installed):
    installed(rjieba="1.0")
    data = WordTokenizer.train("甲乙 a", True).to_json()
    installed(jieba="2.0")
    tokenizer = tokenizer_from_json(data)
    assert tokenizer.encode("a").tolist() == [1] and tokenizer.decode([2, 0, 1]) == "甲乙 a"
    for ask in (tokenizer.encode, tokenizer.unknown_pieces, tokenizer.first_bytes):
        with pytest.raises(InputError, match=r"rjieba 1\.0 cut .* pip install 'rjieba==1\.0'") as caught:
            ask("甲乙")
        assert "\n" not in str(caught.value)


def test_another_version_of_the_segmenter_is_warned_of_once(installed):
    installed(rjieba="1.0")
    data = WordTokenizer.train("甲乙 a", True).to_json()
    installed(rjieba="1.1")
    tokenizer = tokenizer_from_json(data)
    with pytest.warns(UserWarning, match="rjieba 1.0 cut .* but 1.1 is installed"):
        assert tokenizer.encode("甲乙").tolist() == [2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer.encode("甲乙")
    assert tokenizer.to_json() == data


@given(
    runs=st.lists(
        st.text(
            "我们在北京大学的是一不了人有这中来上为和国地到说时要就出会可也你对生能而子那得于着下々〇㐀𠀀豈", min_size=1
        ),
        min_size=1,
    )
)
@settings(deadline=None)
def test_a_run_is_cut_the_same_whatever_stands_beside_it(runs):
    import rjieba

    expected = [word for number, run in enumerate(runs) for word in ["\n"] * (number > 0) + rjieba.cut(run)]
    assert segmenter.Segmenter().cut("\n".join(runs)) == expected


def test_a_novel_is_cut_as_its_runs_are():
    import rjieba

    novel = corpus("zh_hongloumeng.gbk.txt").read_bytes().decode("gb18030")[:150_000]
    found = pieces(novel)
    assert "".join(found) == novel
    words = [word for run in re.findall("[\u4e00-\u9fff]+", novel) for word in rjieba.cut(run)]
    assert [piece for piece in found if re.match("[\u4e00-\u9fff]", piece)] == words


# What the model file holds


@given(text=st.text(st.sampled_from("ab 我们\n'.é"), max_size=30), unknown=st.booleans())
@settings(deadline=None)
@pytest.mark.parametrize("splitter", ["unicode", "whitespace"])
def test_a_word_tokenizer_read_back_from_json_is_the_same(text, unknown, splitter):
    tokenizer = WordTokenizer.train(text + " x", unknown, word_splitter=splitter)
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert isinstance(again, WordTokenizer) and again.to_json() == tokenizer.to_json()
    assert (again.vocab_size, again.unknown_id) == (tokenizer.vocab_size, tokenizer.unknown_id)
    assert again.line_end_id == tokenizer.line_end_id
    other = text + " unheard-of\n"
    np.testing.assert_array_equal(again.encode(other, "skip"), tokenizer.encode(other, "skip"))
    everything = range(tokenizer.vocab_size)
    assert again.decode(everything) == tokenizer.decode(everything)


SOUND = {"kind": "word", "words": ["a", " "], "unknown": True, "word_splitter": "unicode", "segmenter": None}


@pytest.mark.parametrize(
    "change",
    [
        {"words": []},
        {"words": "ab"},
        {"words": None},
        {"words": ["a", "a"]},
        {"words": ["a", ""]},
        {"words": ["a", 1]},
        {"words": [["a"], {}]},
        {"words": ["a", "<unk>"]},
        {"unknown": 1},
        {"unknown": None},
        {"word_splitter": "whitespaces"},
        {"word_splitter": ["unicode"]},
        {"word_splitter": None},
        {"segmenter": "rjieba"},
        {"segmenter": {}},
        {"segmenter": {"name": "rjieba"}},
        {"segmenter": {"name": "os", "version": "1"}},
        {"segmenter": {"name": "rjieba", "version": 1}},
        {"segmenter": {"name": "rjieba", "version": "1'; rm x"}},
        {"segmenter": {"name": "rjieba", "version": ""}},
        {"segmenter": {"name": ["rjieba"], "version": "1"}},
        {"segmenter": {"name": "rjieba", "version": "1"}, "word_splitter": "whitespace"},
    ],
)
def test_json_that_is_no_word_tokenizer_is_refused(change):
    assert tokenizer_from_json(SOUND).vocab_size == 3
    with pytest.raises(ModelFileError, match="tokenizer"):
        tokenizer_from_json(SOUND | change)


@pytest.mark.parametrize("key", [*SOUND])
def test_json_of_a_word_tokenizer_that_lacks_a_key_is_refused(key):
    with pytest.raises(ModelFileError, match="tokenizer"):
        tokenizer_from_json({name: value for name, value in SOUND.items() if name != key})


@pytest.mark.parametrize(
    ("splitter", "text", "first"),
    [
        ("unicode", "don't go", "don't"),
        ("unicode", "北京大学的", "北京大学"),
        ("whitespace", "né \t bo\n", "né \t "),
        ("whitespace", "  né\nbo", "  né"),
        ("whitespace", "\r\n bo", "\r\n "),
        ("whitespace", "né", "né"),
    ],
)
def test_the_first_word_covers_its_text_and_the_blanks_around_it(splitter, text, first):
    tokenizer = WordTokenizer.train(text, True, word_splitter=splitter)
    assert tokenizer.first_bytes(text) == len(first.encode())


def test_the_segmenter_in_these_tests_is_recorded():
    assert WordTokenizer.train("我们", False).segmenter == RJIEBA
