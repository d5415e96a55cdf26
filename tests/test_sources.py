"""Sources: what is read, that it is read as a stream, and what is said of a text that cannot be."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import subprocess
import sys

import pytest

from elman.errors import InputError
from elman.text import files, pieces
from elman.text.corpora import BUILT_IN, CORPORA, DEFAULT_CORPUS
from elman.text.sources import open_again, open_corpus, open_text, text_of

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files and pipes")
COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def refusal(*texts, **options) -> str:
    with pytest.raises(InputError) as caught:
        open_text(texts, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(params=[None, 3], ids=["kept in memory", "read again, in blocks of 3"])
def reading(request, monkeypatch) -> None:
    """Texts are small enough to be kept, or are read again in small blocks."""
    if request.param:
        monkeypatch.setattr(files, "BLOCK", request.param)
        monkeypatch.setattr(pieces, "_KEPT", 0)


@pytest.fixture
def stdin(monkeypatch):
    """Give standard input some bytes."""

    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


@pytest.fixture
def folder(tmp_path):
    """A folder with texts, and with what is no text."""
    content = {
        "b.txt": b"bb\r\n",
        "a.txt": b"aa\n",
        "sub/c.txt.gz": gzip.compress(b"cc\r\n"),
        "sub/d.txt": "дом\n".encode("utf-16"),
        "sub/empty.txt": b"",
        "sub/picture.png": b"\x89PNG",
        "tar.gz": gzip.compress(b"a\0b"),
        ".hidden": b"hidden",
        ".git/config": b"hidden",
    }
    for name, data in content.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "data"


# files


def test_a_file_is_read_to_the_letter(tmp_path, reading):
    path = tmp_path / "poem.txt"
    content = "eins\rzwei\n 狗\u2028\U0001f600\x85"
    path.write_bytes(content.encode())
    text = open_text([path])
    assert (text.read(), text.name, text.origin) == (content, "poem", (str(path),))
    assert (text.characters, text.sha256) == (len(content), digest(content))
    assert (text.encodings, text.notes) == (("utf-8",), ())


def test_a_relative_path_is_remembered_as_an_absolute_one(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    assert open_text(["a.txt"]).origin == (str(tmp_path / "a.txt"),)


def test_several_texts_are_joined_in_order(tmp_path, reading):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name * 3)
    text = open_text([tmp_path / "b.txt", "hello", str(tmp_path / "a.txt")])
    assert (text.read(), text.name) == ("bbbhelloaaa", "b+hello+a")
    assert text.origin == (str(tmp_path / "b.txt"), "hello", str(tmp_path / "a.txt"))
    assert text.sha256 == digest("bbbhelloaaa")
    again = open_again(text.origin)
    assert (again.read(), again.name, again.sha256) == (text.read(), text.name, text.sha256)


def test_the_name_of_many_texts_is_short():
    assert open_text(["hello"] * 5).name == "hello+hello+hello+2-more"


def test_any_part_of_a_text_can_be_read(tmp_path, reading):
    for name, content in {"a": "狗ab\r\nc", "b": "d\U0001f600", "c": "é"}.items():
        (tmp_path / name).write_bytes(content.encode())
    text = open_text([tmp_path / "a", tmp_path / "b", "hello", tmp_path / "c"])
    whole = "狗ab\ncd\U0001f600helloé"
    for start in range(len(whole) + 2):
        assert text.read(start) == whole[start:]
        for stop in range(len(whole) + 2):
            assert text.read(start, stop) == whole[start:stop]
            assert all(text.chunks(start, stop))


def test_chunks_are_about_a_megabyte(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "_KEPT", 0)
    (tmp_path / "a.txt").write_bytes(b"a" * 2_500_000)
    text = open_text([tmp_path / "a.txt"])
    assert [len(piece) for piece in text.chunks()] == [1 << 20, 1 << 20, 2_500_000 - (2 << 20)]
    assert [len(piece) for piece in text_of("a" * 2_500_000, "a").chunks()] == [1 << 20, 1 << 20, 2_500_000 - (2 << 20)]


def test_two_readers_do_not_disturb_each_other(tmp_path, monkeypatch, stdin):
    monkeypatch.setattr(files, "BLOCK", 3)
    monkeypatch.setattr(pieces, "_KEPT", 0)
    stdin(b"0123456789")
    (tmp_path / "a.txt").write_text("abcdefghij")
    text = open_text(["-", tmp_path / "a.txt"])
    pairs = list(zip(text.chunks(), text.chunks(), strict=True))
    assert "".join(one for one, _ in pairs) == "".join(other for _, other in pairs) == "0123456789abcdefghij"


def test_a_large_text_is_read_again_and_a_small_one_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    for kept in (True, False):
        path.write_text("some text")
        monkeypatch.setattr(pieces, "_KEPT", 1000 if kept else 0)
        text = open_text([path])
        path.unlink()
        if kept:
            assert text.read() == "some text"
        else:
            with pytest.raises(InputError, match=r"^cannot read .*a.txt: No such file"):
                text.read()


def test_only_the_first_files_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "_KEPT", 5000)
    for name in "abc":
        (tmp_path / name).write_text(name * 2000)
    text = open_text([tmp_path / name for name in "abc"])
    (tmp_path / "a").unlink()
    (tmp_path / "b").unlink()
    assert text.read(0, 4000) == "a" * 2000 + "b" * 2000
    (tmp_path / "c").unlink()
    with pytest.raises(InputError, match=r"^cannot read .*c: No such file"):
        text.read()


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_changes_between_two_readings_is_refused(tmp_path, monkeypatch, change):
    monkeypatch.setattr(pieces, "_KEPT", 0)
    path = tmp_path / "a.txt"
    path.write_text("some text")
    text = open_text([path])
    assert text.read() == "some text"
    if change == "size":
        status = path.stat()
        path.write_text("some other text")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        path.write_text("same size")
        os.utime(path, (0, 0))
    with pytest.raises(InputError) as caught:
        text.read()
    assert str(caught.value) == f"{path} has changed since it was first read; start again"


MEASURE = """
import re, sys
from pathlib import Path
from elman.text.sources import open_text
def peak():  # getrusage would begin with the peak of the process that started this one
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
text = open_text([sys.argv[1]])
for _ in range(2):
    assert sum(map(len, text.chunks())) == text.characters
assert text.read(text.characters - 3) == "end"
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("megabytes", [50, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("last", ["", "Все счастливые семьи похожи друг на друга.\n"], ids=["utf-8", "guessed late"])
def test_a_large_text_is_never_whole_in_memory(tmp_path, megabytes, last):
    line = f"The {'' if last else '狗 '}heron waits, and nobody sees it but the fish in the river.\r\n".encode()
    with (tmp_path / "large.txt").open("wb") as file:
        for _ in range(megabytes):
            file.write(line * ((1 << 20) // len(line)))
        file.write(last.encode("cp1251") + b"end")
    result = subprocess.run([sys.executable, "-c", MEASURE, tmp_path / "large.txt"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 32  # MB; 18 to 24 seen: 16 to keep a small text in, the rest buffers


# compressed files


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_is_read_by_its_name(tmp_path, reading, suffix):
    path = tmp_path / f"poem.txt{suffix}"
    path.write_bytes(COMPRESS[suffix]("狗 and heron\r\n".encode() * 9))
    text = open_text([path])
    assert (text.read(), text.name, text.origin) == ("狗 and heron\n" * 9, "poem", (str(path),))
    assert text.notes == (f"poem.txt{suffix}: 9 CRLF line ends became LF",)
    path.write_bytes(COMPRESS[suffix]("红楼梦".encode("gbk")))
    assert open_text([path], "gbk").read() == "红楼梦"
    assert "is not utf-8 text: byte 0xba at offset 0" in refusal(path, encoding="utf-8")


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "flipped", "garbled", "never compressed"])
def test_a_damaged_compressed_file_is_refused(tmp_path, reading, suffix, damage):
    data = COMPRESS[suffix](os.urandom(300))
    path = tmp_path / f"poem.txt{suffix}"
    flipped = data[:40] + bytes([data[40] ^ 255, data[41] ^ 255]) + data[42:]
    garbled = data[:10] + b"\xff" * 50
    damaged = {"cut": data[:-20], "flipped": flipped, "garbled": garbled, "never compressed": b"plain text"}
    path.write_bytes(damaged[damage])
    message = refusal(path, encoding="latin-1")
    assert message.startswith(f"{path} is not a whole {suffix} file: ") and message.endswith("; get or make it again")


# folders and patterns


def test_a_folder_is_all_its_texts_sorted(folder, reading):
    text = open_text([folder])
    assert text.read() == "aa\nbb\ncc\nдом\n"
    assert (text.name, text.origin, text.encodings) == ("data", (str(folder),), ("utf-8", "utf-16-le"))
    assert text.notes == (
        f"{folder}/sub/d.txt: a byte-order mark left out",
        "data/, 2 files (b.txt, c.txt.gz): 2 CRLF line ends became LF",
        "data/: 2 binary files left out (picture.png, tar.gz)",
        "data/: 1 empty file left out (empty.txt)",
        "data/: 2 hidden files left out (.git, .hidden)",
    )
    assert open_again(text.origin).sha256 == text.sha256


def test_a_folder_has_a_name_however_it_is_given(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert open_text(["."]).name == open_text(["../data/"]).name == "data"
    monkeypatch.chdir(folder / "sub")
    assert open_text([".."]).name == "data"


def test_notes_name_a_few_files_and_count_the_rest(folder):
    for number in range(9):
        (folder / f"{number}.bin").write_bytes(b"\0")
    assert "data/: 11 binary files left out (0.bin, 1.bin, 2.bin, …)" in open_text([folder]).notes


def test_guesses_in_a_folder_are_told_by_encoding(folder):
    russian = "Все счастливые семьи похожи друг на друга.\n"
    for name in ("e.txt", "f.txt"):
        (folder / name).write_text(russian, "cp1251")
    text = open_text([folder])
    said = "data/, 2 files (e.txt, f.txt): read as cp1251 (guessed, 99% sure; --encoding names another)"
    assert russian * 2 in text.read() and text.notes[0] == said


def test_a_guess_in_a_folder_is_as_sure_as_the_least_sure(tmp_path):
    french = "Parfois, à peine ma bougie éteinte, mes yeux se fermaient si vite.\n"
    (tmp_path / "a.txt").write_text(french, "cp1252")
    (tmp_path / "b.txt").write_text("It costs £5 per mañana\n", "cp1252")
    alone = [open_text([tmp_path / name]).notes[0].partition(": ")[2] for name in ("a.txt", "b.txt")]
    assert alone[0] != alone[1] and open_text([tmp_path]).notes[0].partition("): ")[2] == alone[1]


def test_a_file_of_a_folder_that_does_not_decode_is_refused_by_name(folder):
    path = folder / "sub" / "a.txt"
    path.write_bytes("дом".encode() + b"\xff")
    assert refusal(folder).startswith(f"{path} is utf-8 text, but byte 0xff at offset 6 does not decode")


def test_binary_files_of_a_folder_are_left_out_also_where_an_encoding_is_named(folder):
    (folder / "sub" / "d.txt").unlink()
    assert open_text([folder], "utf-8").read() == "aa\nbb\ncc\n"
    for path in folder.rglob("*.*"):
        if path.suffix in (".txt", ".gz"):
            path.unlink()
    (folder / "e.txt").write_bytes("plain English".encode("utf-16-le"))
    assert open_text([folder], "utf-16-le").read() == "plain English"


@posix
def test_links_to_folders_and_pipes_in_a_folder_are_left_out(folder):
    (folder / "again").symlink_to(folder)
    (folder / "lost").symlink_to(folder / "nothere")
    (folder / "linked.txt").symlink_to(folder / "a.txt")
    os.mkfifo(folder / "pipe")
    text = open_text([folder])
    assert "data/: 3 special files left out (again, lost, pipe)" in text.notes
    assert text.read() == "aa\nbb\naa\ncc\nдом\n"


def test_a_folder_without_text_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    assert refusal(tmp_path / "data") == "there is no text in data/; give text files"
    (tmp_path / "data" / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "data" / "b.txt").touch()
    said = "there is no text in data/: 1 binary file left out (a.png), 1 empty file left out (b.txt); give text files"
    assert refusal(tmp_path / "data") == said


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_refused(folder):
    (folder / "sub").chmod(0)
    assert refusal(folder) == f"cannot read the folder {folder / 'sub'}: Permission denied"


def test_a_folder_that_fails_to_be_listed_is_refused_with_the_systems_reason(folder, monkeypatch):
    def walk(where, onerror):
        onerror(PermissionError(13, "Permission denied", str(where)))

    monkeypatch.setattr(os, "walk", walk)
    assert refusal(folder) == f"cannot read the folder {folder}: Permission denied"


def test_names_that_would_steer_a_terminal_are_escaped_in_notes(tmp_path):
    path = tmp_path / "evil\x1b[2J\n.txt"
    path.write_bytes(b"a\r\n")
    assert open_text([path]).notes == ("'evil\\x1b[2J\\n.txt': 1 CRLF line end became LF",)


def test_a_pattern_is_all_files_that_match_sorted(folder, monkeypatch):
    monkeypatch.chdir(folder)
    text = open_text(["*.txt"])
    assert (text.read(), text.name) == ("aa\nbb\n", "a+b")
    assert text.origin == (str(folder / "a.txt"), str(folder / "b.txt"))
    deep = open_text(["**/*.*"])
    assert deep.read() == "aa\nbb\ncc\nдом\n" and deep.name == "a+b+c+1-more"
    assert deep.notes[-2:] == (
        "**/*.*: 2 binary files left out (picture.png, tar.gz)",
        "**/*.*: 1 empty file left out (empty.txt)",
    )
    assert open_again(deep.origin).sha256 == deep.sha256
    assert open_text([f"{folder}/[ab].tx?"]).read() == "aa\nbb\n"


def test_a_pattern_without_a_match_is_refused(folder):
    assert refusal(f"{folder}/*.md") == f"no file matches '{folder}/*.md'"
    assert refusal(f"{folder}/s*b").startswith("no file matches")
    assert refusal(f"{folder}/sub/*.png") == (
        f"there is no text in {folder}/sub/*.png: 1 binary file left out (picture.png); give text files"
    )
    assert "no file matches 'what? what?" in refusal("what? " * 2000)
    assert "no file matches" in refusal("what\0?")


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    (tmp_path / "a[1].txt").write_text("one")
    (tmp_path / "a1.txt").write_text("other")
    assert open_text([tmp_path / "a[1].txt"]).read() == "one"


# standard input


def test_standard_input_is_read(stdin, reading):
    stdin(b"\xef\xbb\xbfone\r\ntwo" + "狗".encode())
    text = open_text(["-"])
    assert (text.read(), text.name, text.origin) == ("one\ntwo狗", "stdin", ("-",))
    assert text.read(3, 5) == "\nt" and text.sha256 == digest("one\ntwo狗")
    assert text.notes[1] == "standard input: 1 CRLF line end became LF"


def test_what_is_wrong_with_standard_input_is_said_by_its_name(stdin, monkeypatch):
    stdin(b"")
    assert refusal("-") == "standard input is empty; give a file with text in it"
    stdin(b"\x89PNG")
    assert refusal("-") == "standard input looks like a binary file: it begins as PNG does"
    stdin(b"text")
    assert refusal("-", "-") == "standard input was given twice; it can be read only once"
    monkeypatch.setattr(sys, "stdin", None)
    assert refusal("-") == "standard input is closed; give a file"


def test_standard_input_cannot_be_read_again():
    with pytest.raises(InputError) as caught:
        open_again(["-"])
    assert str(caught.value) == "standard input cannot be read again; give the same text once more, as a file or by -"


@posix
def test_a_pipe_with_a_name_is_read_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "_KEPT", 0)
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", f"echo some text > '{tmp_path}/pipe'"]):
        text = open_text([tmp_path / "pipe"])
    assert text.read() == text.read() == "some text\n" and text.name == "pipe"


# corpora and texts in memory


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_corpus_has_a_name_and_some_text(name):
    text = open_corpus(name)
    assert (text.name, text.origin) == (name, (name,)) and text.characters == len(text.read()) > 0
    assert text.sha256 == open_text([name]).sha256 == digest(text.read())


def test_the_default_corpus_is_pythons_documentation():
    content = open_corpus(DEFAULT_CORPUS).read()
    assert len(content) > 300_000 and "lambda" in content and open_corpus("hello").read() == "hello"


def test_a_file_goes_before_a_corpus_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / "hello").write_text("goodbye")
    monkeypatch.chdir(tmp_path)
    assert open_text(["hello"]).read() == "goodbye"
    assert open_corpus("hello").read() == open_again(["hello"]).read() == "hello"


def test_a_text_in_memory_is_taken_to_the_letter():
    content = "\ufeffa\r\n狗"
    text = text_of(content, "mine", ["hello"])
    assert (text.read(), text.characters, text.sha256) == (content, 5, digest(content))
    assert (text.name, text.origin, text.encodings, text.notes) == ("mine", ("hello",), (), ())
    with pytest.raises(InputError, match=r"^mine holds half a character \(U\+D83D\) at offset 1; mend it$"):
        text_of("a\ud83d", "mine")


# refusals


def test_a_missing_file_is_named_with_the_corpora(tmp_path):
    for message in (refusal(tmp_path / "nothere.txt"), refusal("")):
        assert "there is no file " in message and all(name in message for name in CORPORA)
    assert "nothere.txt" in refusal(tmp_path / "nothere.txt")


def test_a_corpus_name_that_is_nearly_right_is_corrected():
    assert "Did you mean python-topics?" in refusal("python-topcis")
    assert "Did you mean tiny-shakespeare?" in refusal("tinyshakespeare")
    assert "Did you mean hello?" in refusal("helo")
    assert "Did you mean" not in refusal("xqz")


def test_an_empty_file_is_refused_also_beside_others(tmp_path):
    path = tmp_path / "empty.txt"
    path.touch()
    assert refusal("hello", path) == f"{path} is empty; give a file with text in it"
    path.write_bytes(b"\xef\xbb\xbf")
    assert "empty.txt is empty" in refusal(path)


def test_text_given_instead_of_a_path_is_refused_as_a_missing_file():
    assert "no file" in refusal("a whole text, given by mistake. " * 20)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    path.chmod(0)
    assert refusal(path) == f"cannot read {path}: Permission denied"


def test_a_file_that_fails_to_be_read_is_refused_with_the_systems_reason(tmp_path, monkeypatch):
    path = tmp_path / "secret.txt"
    path.write_text("secret")

    def fail(self, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", fail)
    assert refusal(path) == f"cannot read {path}: Permission denied"
