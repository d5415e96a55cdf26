"""Where text comes from: files, folders, patterns, standard input, or a corpus by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from elman.errors import InputError, did_you_mean
from elman.text.corpora import BUILT_IN, CORPORA, DOWNLOADS, fetch
from elman.text.encodings import BadByteError, Decoder, codec_name, guess_encoding, known_encoding, why_binary
from elman.text.files import Blocks, File, Spool, files_below, files_matching, stem
from elman.text.notes import Found, describe, describe_left_out
from elman.text.pieces import Gathering, Text

_HEAD = 1 << 16  # bytes at the start of a file that tell a marked or a binary one
_STEMS = 3  # of files in a name
_STANDARD_INPUT = "-"
_REPLACE = "give --encoding-errors replace to have U+FFFD in its place"
_BY_OPTION = f"with --encoding, for example gb18030 for Chinese or cp1252 for Western text, or {_REPLACE}"


def open_text(texts: Sequence[str | Path], encoding: str | None = None, errors: str = "strict") -> Text:
    """Join files, all files of folders, those that patterns with * ? [ match, ``-`` for standard input, and corpora.

    A path that exists goes before a pattern, and both before a corpus of that name. A file is decoded by ``encoding``,
    else by its byte-order mark, else as UTF-8, else as a detector guesses; ``errors="replace"`` puts U+FFFD where a
    byte does not decode. All is read once here, so that what is wrong is found before the text is used.

    Raises InputError for what is missing, empty, binary, damaged, or not text in its encoding (with the offset).
    """
    reading = _Reading(encoding, errors)
    for text in texts:
        reading.take(str(text))
    return reading.text()


def open_again(origin: Sequence[str], encoding: str | None = None, errors: str = "strict") -> Text:
    """The text of a :attr:`Text.origin`: absolute paths are files or folders, and all else corpora, whatever files
    there are.

    Raises InputError as :func:`open_text` does, and for standard input.
    """
    reading = _Reading(encoding, errors)
    for one in origin:
        if one == _STANDARD_INPUT:
            raise InputError("standard input cannot be read again; give the same text once more, as a file or by -")
        if Path(one).is_absolute():
            reading.take(one)
        else:
            reading.take_corpus(one)
    return reading.text()


def open_corpus(name: str) -> Text:
    """The corpus of this name, whatever files there are. Raises InputError for an unknown name."""
    return open_again([name])


def text_of(content: str, name: str, origin: Sequence[str] = ()) -> Text:
    """A text that is in memory, to the letter. Raises InputError for half a character (a lone surrogate) in it."""
    gathering = Gathering()
    gathering.add_content(content, name)
    return gathering.text(name, origin, encodings=(), notes=())


class _Reading:
    """Takes texts one by one as a person names them, and finds out what they are."""

    def __init__(self, encoding: str | None, errors: str):
        if errors not in ("strict", "replace"):
            raise InputError(f"encoding_errors must be one of strict, replace, not {errors!r}")
        self._encoding = None if encoding is None else codec_name(encoding)
        self._errors = errors
        self._gathering = Gathering()
        self._names: list[str] = []
        self._origin: list[str] = []
        self._encodings: dict[str, None] = {}
        self._notes: list[str] = []

    def text(self) -> Text:
        more = len(self._names) - _STEMS
        names = [*self._names[:_STEMS], *([f"{more}-more"] if more > 0 else [])]
        return self._gathering.text("+".join(names), self._origin, self._encodings, self._notes)

    def take(self, text: str) -> None:
        path = Path(_spelt_here(text))
        try:
            exists = text != "" and path.exists()
        except (OSError, ValueError):  # too long for a path, or with a NUL in it
            exists = False
        if text == _STANDARD_INPUT:
            self._take_standard_input()
        elif exists and path.is_dir():
            self._take_folder(path)
        elif exists:
            self._take_file(File(path) if path.is_file() else _spooled(path), text)
            self._call(stem(path), path)
        elif set(text) & set("*?["):
            self._take_pattern(text)
        else:
            self.take_corpus(text)

    def take_corpus(self, name: str) -> None:
        if name in BUILT_IN:
            self._gathering.add_content(BUILT_IN[name](), name)
        elif name in DOWNLOADS:
            path = fetch(name)
            self._decode_as(File(path), str(path), "utf-8", sure=1.0)
        else:
            raise InputError(
                f"there is no file {_shorten(name)!r} here, and no corpus of that name; "
                f"the corpora are {', '.join(CORPORA)}.{did_you_mean(name, CORPORA)}"
            )
        self._call(name, name)

    def _take_standard_input(self) -> None:
        if _STANDARD_INPUT in self._origin:
            raise InputError("standard input was given twice; it can be read only once")
        if sys.stdin is None:
            raise InputError("standard input is closed; give a file")
        self._take_file(Spool(sys.stdin.buffer, "standard input"), "standard input")
        self._call("stdin", _STANDARD_INPUT)

    def _take_file(self, source: Blocks, shown: str) -> None:
        head = _head(source)
        if self._encoding is None and (why := why_binary(head, None)):
            raise InputError(f"{shown} looks like a binary file: {why}")
        found = self._decode(source, shown, head)
        if found is None:
            raise InputError(f"{shown} is empty; give a file with text in it")
        self._notes += describe([found])

    def _take_folder(self, path: Path) -> None:
        name = path.resolve().name
        self._take_group(*files_below(path), f"{name}/")
        self._call(name, path)

    def _take_pattern(self, pattern: str) -> None:
        files = files_matching(pattern)
        if not files:
            raise InputError(f"no file matches {_shorten(pattern)!r}")
        for path in self._take_group(files, {}, pattern):
            self._call(stem(path), path)

    def _take_group(self, files: Sequence[Path], left_out: Mapping[str, Sequence[str]], group: str) -> list[Path]:
        """Take the files that are text and return them; notes say which are left out besides those known already."""
        taken, found = [], []
        binary: list[str] = []
        empty: list[str] = []
        for path in files:
            source = File(path)
            head = _head(source)
            if why_binary(head, self._encoding):
                binary.append(path.name)
            elif one := self._decode(source, str(path), head):
                taken.append(path)
                found.append(one)
            else:
                empty.append(path.name)
        without = describe_left_out({"binary": binary, "empty": empty, **left_out})
        if not taken:
            raise InputError(f"there is no text in {group}{': ' * bool(without)}{', '.join(without)}; give text files")
        self._notes += [*describe(found, group), *(f"{group}: {line}" for line in without)]
        return taken

    def _decode(self, source: Blocks, shown: str, head: bytes) -> Found | None:
        """Take a file in the encoding that is known, or found out; None where it holds no text."""
        if encoding := known_encoding(head, self._encoding, shown):
            return self._decode_as(source, shown, encoding, sure=1.0)
        try:
            return self._add(source, shown, Decoder("utf-8", "strict"), sure=1.0)
        except BadByteError as bad:
            encoding, sure = self._other_encoding(source, shown, bad)
        return self._decode_as(source, shown, encoding, sure)

    def _other_encoding(self, source: Blocks, shown: str, bad: BadByteError) -> tuple[str, float]:
        """What a file is in that is not UTF-8 throughout, and how sure that is (1: it is UTF-8, with damage)."""
        if not bad.is_utf8 and (guess := guess_encoding(source.blocks(), bad.offset)):
            return guess
        if self._errors == "replace":
            return "utf-8", 1.0
        if bad.is_utf8:
            raise InputError(f"{shown} is utf-8 text, but {bad} does not decode; mend it, or {_REPLACE}") from None
        raise InputError(
            f"{shown} is not utf-8 text: {bad} does not decode, and no other encoding fits; name it {_BY_OPTION}"
        ) from None

    def _decode_as(self, source: Blocks, shown: str, encoding: str, sure: float) -> Found | None:
        try:
            return self._add(source, shown, Decoder(encoding, self._errors), sure)
        except BadByteError as bad:
            guess = f" (a guess, {sure:.0%} sure)" if sure < 1 else ""
            raise InputError(
                f"{shown} is not {encoding} text{guess}: {bad} does not decode; name another {_BY_OPTION}"
            ) from None

    def _add(self, source: Blocks, shown: str, decoder: Decoder, sure: float) -> Found | None:
        encoding, errors = decoder.encoding, self._errors
        pieces = decoder.pieces(source.blocks())
        if not self._gathering.add(pieces, lambda: Decoder(encoding, errors).pieces(source.blocks()), shown):
            return None
        self._encodings[encoding] = None
        return Found(shown, encoding, sure, decoder.cleaned)

    def _call(self, name: str, origin: str | Path) -> None:
        self._names.append(name)
        self._origin.append(str(origin.absolute()) if isinstance(origin, Path) else origin)


def _head(source: Blocks) -> bytes:
    head = b""
    for block in source.blocks():
        head += block
        if len(head) >= _HEAD:
            break
    return head[:_HEAD]


def _spooled(path: Path) -> Spool:
    """What a pipe or a device gives, such as the shell's <(command)."""
    try:
        with path.open("rb") as stream:
            return Spool(stream, str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _spelt_here(path: str) -> str:
    """A path as this locale spells it, which may lack characters of the one in which a run began."""
    try:
        os.fsencode(path)
        return path
    except UnicodeEncodeError:
        return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def _shorten(name: str) -> str:
    return name if len(name) <= 100 else name[:100] + "…"
