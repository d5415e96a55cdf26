"""Sources: what is read, and what is said of a text that cannot be."""

from __future__ import annotations

import hashlib
import os

import pytest

from elman.errors import InputError
from elman.text.corpora import CORPORA, DEFAULT_CORPUS
from elman.text.sources import read_corpus, read_text


def refusal(*texts, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_text(texts, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_read_to_the_letter(tmp_path):
    path = tmp_path / "poem.txt"
    text = "eins\r\nzwei\rdrei\0 狗\u2028"
    path.write_bytes(text.encode())
    source = read_text([path])
    assert (source.content, source.name, source.origin) == (text, "poem", (str(path),))
    assert source.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_a_relative_path_is_remembered_as_an_absolute_one(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    assert read_text(["a.txt"]).origin == (str(tmp_path / "a.txt"),)


def test_several_texts_are_joined_in_order(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name * 3)
    source = read_text([tmp_path / "b.txt", "hello", str(tmp_path / "a.txt")])
    assert (source.content, source.name) == ("bbbhelloaaa", "b+hello+a")
    assert source.origin == (str(tmp_path / "b.txt"), "hello", str(tmp_path / "a.txt"))
    assert source.sha256 == hashlib.sha256(b"bbbhelloaaa").hexdigest()


def test_the_encoding_is_used(tmp_path):
    path = tmp_path / "dream.txt"
    path.write_bytes("红楼梦，第一回".encode("gb18030"))
    source = read_text([path], "gb18030")
    assert source.content == "红楼梦，第一回"
    assert source.sha256 == hashlib.sha256("红楼梦，第一回".encode()).hexdigest()


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_has_a_name_and_some_text(name):
    source = read_corpus(name)
    assert (source.name, source.origin) == (name, (name,)) and source.content
    assert source == read_text([name])


def test_the_default_corpus_is_pythons_documentation():
    text = read_corpus(DEFAULT_CORPUS).content
    assert len(text) > 300_000 and "lambda" in text and read_corpus("hello").content == "hello"


def test_a_file_goes_before_a_corpus_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / "hello").write_text("goodbye")
    monkeypatch.chdir(tmp_path)
    assert read_text(["hello"]).content == "goodbye" and read_corpus("hello").content == "hello"


def test_a_missing_file_is_named_with_the_corpora(tmp_path):
    message = refusal(tmp_path / "nothere.txt")
    assert "nothere.txt" in message and "no file" in message and all(name in message for name in CORPORA)


def test_a_corpus_name_that_is_nearly_right_is_corrected():
    assert "Did you mean python-topics?" in refusal("python-topcis")
    assert "Did you mean hello?" in refusal("helo")
    assert "Did you mean" not in refusal("xqz")


def test_a_directory_is_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path} is a directory; give a text file"


def test_an_empty_file_is_refused_also_beside_others(tmp_path):
    path = tmp_path / "empty.txt"
    path.touch()
    assert "empty.txt is empty" in refusal("hello", path)


def test_bytes_that_do_not_decode_are_named_with_their_offset(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("naïve".encode("latin-1"))
    message = refusal(path)
    assert "latin.txt is not utf-8 text" in message and "0xef at offset 2" in message and "--encoding" in message
    assert read_text([path], "latin-1").content == "naïve"


def test_a_text_cut_inside_a_character_is_refused_with_the_offset(tmp_path):
    path = tmp_path / "cut.txt"
    path.write_bytes("ab狗".encode()[:-1])
    assert "offset 2" in refusal(path)


def test_an_unknown_encoding_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a")
    assert "'klingon'" in refusal(path, encoding="klingon")


@pytest.mark.parametrize("encoding", ["rot13", "hex", "base64", "zlib", "undefined", "punycode", "utf\0-8"])
def test_a_codec_that_is_no_text_encoding_is_refused_by_name(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(b"text \xff that is not of this encoding")
    assert repr(encoding)[1:-1] in refusal(path, encoding=encoding)


def test_a_lone_surrogate_is_no_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"ab+3gDYPQ-")  # U+DE00, U+D83D: as JSON, sorted, they would become one character
    assert "offset 2" in refusal(path, encoding="utf-7") and "U+DE00" in refusal(path, encoding="utf-7")


def test_text_given_instead_of_a_path_is_refused_as_a_missing_file():
    assert "no file" in refusal("a whole text, given by mistake. " * 20)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    path.chmod(0)
    message = refusal(path)
    assert "cannot read" in message and "secret.txt" in message and "ermission" in message


def test_a_file_that_fails_to_be_read_is_refused_with_the_systems_reason(tmp_path, monkeypatch):
    path = tmp_path / "secret.txt"
    path.write_text("secret")

    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", fail)
    assert refusal(path) == f"cannot read {path}: Permission denied"
