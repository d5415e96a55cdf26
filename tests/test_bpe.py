"""Byte-level BPE: the library trains and applies it, and its tokenizer.json can be read and written."""

from __future__ import annotations

import json
import sys
from unittest.mock import patch

import numpy as np
import pytest

from elman.errors import InputError, ModelFileError
from elman.text.tokenizers import BpeTokenizer, chunks, tokenizer_from_json, train_tokenizer


@pytest.fixture(scope="module")
def trained(verse) -> BpeTokenizer:
    return BpeTokenizer.train(verse + "狗狗狗狗 né\n", 300)


@pytest.fixture(scope="module")
def file_content(trained, tmp_path_factory) -> dict:
    """The tokenizer.json of the trained one."""
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    trained.write(path)
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_vocabulary_is_bytes_and_merges_up_to_its_size(trained, verse):
    assert trained.vocab_size == 300 and trained.unknown_id is None and len(trained.merges) == 300 - 256
    assert {trained.describe(token) for token in range(256)} >= set(map(chr, range(128))) | {"<0xFF>"}
    assert len(trained.encode(verse)) < len(verse) and trained.encode(verse).dtype == np.uint16
    assert train_tokenizer("bpe", verse, True).vocab_size <= 4096
    assert BpeTokenizer.train("", 300).vocab_size == 256
    assert BpeTokenizer.train(verse, 256).encode("ab").dtype == np.uint8


def test_pairs_are_merged_in_the_order_of_their_counts():
    tokenizer = BpeTokenizer.train("cd ab ab ab x", 258)
    assert tokenizer.merges == [("a", "b"), ("Ġ", "ab")]
    assert [tokenizer.describe(token) for token in tokenizer.encode("abab ab cd")] == ["ab", "ab", " ab", " ", "c", "d"]


def test_pairs_rarer_than_min_count_are_not_merged(verse):
    assert BpeTokenizer.train("ab ab ab cd", 4096, 3).merges == [("a", "b")]
    assert BpeTokenizer.train(verse, 4096, 10**6).vocab_size == 256


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(InputError, match="256 or more for bpe"):
        train_tokenizer("bpe", "text", True, max_vocab=255)


def test_a_stream_waits_for_whole_characters(trained):
    ids = trained.encode("\U0001f600").tolist()
    decoder = trained.decoder()
    assert [decoder.feed(token) for token in ids] == [""] * (len(ids) - 1) + ["\U0001f600"]
    decoder.feed(ids[0])
    assert decoder.finish() == "\ufffd" == trained.decode(ids[:1])


@pytest.mark.parametrize("piece", [" the", "   ", "!'!", "'ll", "\n\n", ".\n", "a.b", "我们，"])
def test_a_cut_never_divides_what_is_merged(piece):
    tokenizer = BpeTokenizer.train([f"x{piece}x "] * 50, 400)
    text = f"x{piece}x " * 3
    for block in range(1, 12):
        with patch.object(chunks, "BLOCK", block):
            found = np.concatenate(list(tokenizer.encode_chunks(text)))
        np.testing.assert_array_equal(found, tokenizer.encode(text))


def test_a_line_end_has_the_id_of_its_byte(trained):
    assert trained.encode("\n").tolist() == [trained.line_end_id] and trained.describe(trained.line_end_id) == "\n"


def test_the_library_opens_what_is_written_and_gives_the_same_ids(trained, file_content, verse):
    from tokenizers import Tokenizer

    library = Tokenizer.from_str(json.dumps(file_content))
    text = verse[:500] + " 狗's 12\r\n  \0"
    assert library.encode(text).ids == trained.encode(text).tolist()
    assert library.decode(library.encode(text).ids) == text


def test_a_tokenizer_json_is_read_by_its_path(trained, file_content, tmp_path, verse):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file_content), encoding="utf-8")
    again = train_tokenizer(str(path), "", unknown=True)
    assert again.kind == "bpe" and again.to_json() == trained.to_json()


def test_a_file_as_gpt2s_is_read(trained, file_content, tmp_path, verse):
    """Its merges are texts, its model has no type, and an added token has the last id."""
    model = {**file_content["model"], "merges": [" ".join(pair) for pair in trained.merges], "unk_token": ""}
    del model["type"]
    added = {"id": 300, "content": "<|endoftext|>", "special": True}
    path = tmp_path / "gpt2.json"
    path.write_text(json.dumps({**file_content, "model": model, "added_tokens": [added]}), encoding="utf-8")
    tokenizer = BpeTokenizer.read(path)
    assert tokenizer.vocab_size == 301 and tokenizer.decode([300]) == "<|endoftext|>"
    text = verse[:100] + "<|endoftext|>"
    np.testing.assert_array_equal(tokenizer.encode(text), trained.encode(text))
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    np.testing.assert_array_equal(again.encode(text), trained.encode(text))


def change(content: dict, *path: str, to) -> dict:
    """A copy in which the value at this path is another."""
    head, *rest = path
    return {**content, head: change(content.get(head) or {}, *rest, to=to) if rest else to}


@pytest.mark.parametrize(
    ("path", "to", "said"),
    [
        (["model"], None, "no BPE model"),
        (["model", "type"], "WordPiece", "no BPE model"),
        (["model", "vocab"], [], "no BPE model"),
        (["model", "vocab"], {}, "some bytes"),
        (["model", "vocab", "zzz"], 301, "ids are not 0 to 300"),
        (["model", "vocab", "zzz"], 0, "ids are not 0 to 300"),
        (["model", "vocab", "zzz"], "300", "ids are not"),
        (["model", "vocab", "zzz"], [300], "ids are not"),
        (["model", "vocab", "zzz"], 300.0, "ids are not"),
        (["model", "vocab", "zzz"], True, "ids are not"),
        (["model", "vocab", ""], 300, "strings of bytes"),
        (["model", "vocab", "a b"], 300, "strings of bytes"),
        (["model", "vocab", "\ud800"], 300, "strings of bytes"),
        (["model", "merges"], [["狗", "a"]], "not its tokens"),
        (["model", "merges"], [["z", "q"]], "not its tokens"),
        (["model", "merges"], [["a"]], "not pairs"),
        (["model", "merges"], ["a b c"], "not pairs"),
        (["model", "merges"], [["a", 1]], "not pairs"),
        (["model", "merges"], [5], "not pairs"),
        (["model", "dropout"], 0.1, "dropout"),
        (["model", "end_of_word_suffix"], "</w>", "end_of_word_suffix"),
        (["model", "continuing_subword_prefix"], "##", "continuing_subword_prefix"),
        (["model", "ignore_merges"], True, "ignore_merges"),
        (["normalizer"], {"type": "NFC"}, "changes the text"),
        (["pre_tokenizer"], None, "another way"),
        (["pre_tokenizer", "add_prefix_space"], True, "another way"),
        (["pre_tokenizer", "use_regex"], False, "another way"),
        (["pre_tokenizer"], {"type": "Metaspace"}, "another way"),
        (["added_tokens"], 5, "added tokens"),
        (["added_tokens"], [{"id": 300}], "added tokens"),
        (["added_tokens"], [{"content": "a"}], "ids are not"),
        (["added_tokens"], ["x"], "added tokens"),
    ],
)
def test_a_file_of_another_tokenizer_is_refused(file_content, tmp_path, path, to, said):
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(change(file_content, *path, to=to)), encoding="utf-8")
    with pytest.raises(InputError, match="of a byte-level BPE") as caught:
        train_tokenizer(str(file), "", unknown=True)
    assert said in str(caught.value) and str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"null", b"[]", b"5", b'"model"'])
def test_a_file_that_is_no_tokenizer_json_is_refused(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match="of a byte-level BPE"):
        BpeTokenizer.read(file)


def test_a_file_that_cannot_be_read_or_written_is_named(trained, tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*missing\.json: No such file"):
        train_tokenizer(str(tmp_path / "missing.json"), "", unknown=True)
    with pytest.raises(InputError, match=r"cannot write .*: No such file"):
        trained.write(tmp_path / "none" / "tokenizer.json")


def test_a_bpe_tokenizer_read_back_from_json_is_the_same(trained, verse):
    again = tokenizer_from_json(json.loads(json.dumps(trained.to_json())))
    assert isinstance(again, BpeTokenizer) and again.to_json() == trained.to_json()
    np.testing.assert_array_equal(again.encode(verse), trained.encode(verse))
    everything = range(trained.vocab_size)
    assert again.decode(everything) == trained.decode(everything)


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": []},
        {"tokens": None},
        {"tokens": "abc"},
        {"tokens": ["a", "b"]},
        {"tokens": [1, 2]},
        {"tokens": [["a"], {}]},
        {"merges": None},
        {"merges": [["z", "q"]]},
        {"merges": [[["a"], "b"]]},
        {"merges": [None]},
    ],
)
def test_json_that_is_no_bpe_tokenizer_is_refused(trained, change):
    with pytest.raises(ModelFileError, match="tokenizer"):
        tokenizer_from_json(trained.to_json() | change)
    twice = [*trained.tokens, trained.tokens[0]]
    with pytest.raises(ModelFileError, match="tokenizer"):
        tokenizer_from_json(trained.to_json() | {"tokens": twice})


def test_without_the_library_text_is_refused_with_the_command_and_ids_are_decoded(trained, monkeypatch):
    ids = trained.encode("the heron")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    tokenizer = tokenizer_from_json(trained.to_json())
    assert tokenizer.decode(ids) == "the heron"
    for ask in (lambda: tokenizer.encode("the heron"), lambda: BpeTokenizer.train("the heron")):
        with pytest.raises(InputError, match=r"python -m pip install 'elman\[bpe\]'"):
            ask()
