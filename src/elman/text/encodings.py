"""Bytes -> characters: which encoding a file is in, and its text decoded and normalised.

Normalised text has no byte-order mark (U+FEFF), at its start or inside, and its CRLF line ends are LF; a lone CR stays.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from elman.errors import InputError

_SAMPLE = 1 << 18  # bytes that an encoding is guessed from
_SEARCH = 1 << 20  # bytes in which their lines are looked for
_LINE = 1 << 16  # bytes of a line before the one that is not UTF-8
_WIDE_OF_UTF8 = 3  # so many characters of several bytes that are valid UTF-8 are no accident

_BYTE_ORDER_MARK = "\ufeff"
_MARKED = {  # the longer ones first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_ORDER_IN_MARK = ("utf-16", "utf-32")
_NOT_FOR_TEXT = ("idna", "punycode")  # for names; a text cannot be decoded piece by piece with them
_NOT_GUESSED = [  # UTF-16 has a mark or NULs, which were looked for; the last are rare, and read Russian as Japanese
    *("utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le"),
    *("shift_jis_2004", "shift_jisx0213", "euc_jis_2004", "euc_jisx0213"),
]
_GUESSED_AS = {"gb2312": "gb18030", "gbk": "gb18030"}  # the same bytes, and more of them
_USUAL = ("cp1252", "gb18030")  # what is taken of guesses that are equally good

_SIGNATURES = {
    b"%PDF-": "PDF",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "zstd",
    b"7z\xbc\xaf'\x1c": "7z",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "Office",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\x7fELF": "ELF",
    b"SQLite format 3\0": "SQLite",
}
_CONTROLS = bytes({*range(32), 127} - {*b"\a\b\t\n\v\f\r\x1a\x1b"})  # that no text has reason to hold
_MOST_CONTROLS = 0.05  # of all bytes; of random ones they are 0.09

_UNDECODED = "\udfff"  # stands for what does not decode until it is counted; no text holds it


def _mark_undecoded(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _UNDECODED, error.end


codecs.register_error("elman.undecoded", _mark_undecoded)


class BadByteError(Exception):
    """A byte that does not decode: where it is, and whether the UTF-8 before it is more than an accident."""

    def __init__(self, offset: int, value: int, is_utf8: bool):
        super().__init__(f"byte 0x{value:02x} at offset {offset}")
        self.offset, self.is_utf8 = offset, is_utf8


@dataclass
class Cleaned:
    """What decoding changed: byte-order marks at the start (0 or 1) and inside, line ends, places not decoded."""

    mark: int = 0
    marks_inside: int = 0
    crlf: int = 0
    replaced: int = 0


class Decoder:
    """Decodes one file from its first byte to its last, and normalises it. ``errors`` is ``strict`` or ``replace``."""

    def __init__(self, encoding: str, errors: str):
        self.encoding = encoding
        self.cleaned = Cleaned()
        self._decoder = codecs.getincrementaldecoder(encoding)("strict" if errors == "strict" else "elman.undecoded")
        self._fed = 0  # bytes
        self._wide = 0  # characters outside ASCII, counted up to a few
        self._begun = False
        self._held = ""  # a CR that may be the first half of a line end

    def pieces(self, blocks: Iterable[bytes]) -> Iterator[str]:
        """Blocks of bytes -> pieces of text, none of them empty. Raises BadByteError."""
        for block in blocks:
            if piece := self._normalise(self._decode(block)):
                yield piece
        if piece := self._normalise(self._decode(b"", final=True)) + self._held:
            yield piece

    def _decode(self, block: bytes, final: bool = False) -> str:
        self._fed += len(block)
        try:
            text = self._decoder.decode(block, final)
        except UnicodeDecodeError as error:  # error.object: the bytes that the decoder held back, and this block
            before = islice(re.finditer(rb"[\xc2-\xf4]", error.object[: error.start]), _WIDE_OF_UTF8)
            wide = self._wide + sum(1 for _ in before)
            offset = self._fed - len(error.object) + error.start
            raise BadByteError(offset, error.object[error.start], wide >= _WIDE_OF_UTF8) from None
        if self._wide < _WIDE_OF_UTF8 and not text.isascii():
            self._wide += sum(1 for _ in islice(re.finditer(r"[^\x00-\x7f]", text), _WIDE_OF_UTF8))
        return text

    def _normalise(self, text: str) -> str:
        cleaned = self.cleaned
        if count := text.count(_UNDECODED):
            cleaned.replaced += count
            text = text.replace(_UNDECODED, "\N{REPLACEMENT CHARACTER}")
        if text and not self._begun:
            self._begun = True
            cleaned.mark = int(text.startswith(_BYTE_ORDER_MARK))
            text = text.removeprefix(_BYTE_ORDER_MARK)
        if count := text.count(_BYTE_ORDER_MARK):
            cleaned.marks_inside += count
            text = text.replace(_BYTE_ORDER_MARK, "")
        if text:
            text, self._held = self._held + text, ""
        if text.endswith("\r"):
            text, self._held = text[:-1], "\r"
        if count := text.count("\r\n"):
            cleaned.crlf += count
            text = text.replace("\r\n", "\n")
        return text


def codec_name(encoding: str) -> str:
    """The usual name of a text encoding; UTF-8 with a signature is UTF-8 here. Raises InputError for what is none."""
    try:
        name = codecs.lookup(encoding).name.removesuffix("-sig")
        b"a".decode(encoding, "ignore")
        if name not in _NOT_FOR_TEXT:
            return name
    except (LookupError, ValueError):  # no codec of that name, or one that is not for text
        pass
    raise InputError(f"no text encoding is called {encoding!r}; usual ones are utf-8, gb18030, cp1252")


def known_encoding(head: bytes, named: str | None, shown: str) -> str | None:
    """The encoding that is named, or else that the byte-order mark at the start of a file tells; None: neither.

    Raises InputError where the encoding named leaves the order of bytes to a mark, and the file, shown so, has none.
    """
    marked = next((name for mark, name in _MARKED.items() if head.startswith(mark)), None)
    if named not in _ORDER_IN_MARK or not head:
        return named or marked
    if marked is None or not marked.startswith(named):
        raise InputError(
            f"{shown} has no byte-order mark, which {named} needs; give --encoding {named}-le or {named}-be"
        )
    return marked


def why_binary(head: bytes, named: str | None) -> str | None:
    """Why the start of a file looks like a binary file's, or None. ``named``: the encoding named for it, if any."""
    if head.startswith(tuple(_MARKED)):
        return None
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return f"it begins as {kind} does"
    if named is not None and named.startswith(_ORDER_IN_MARK):
        return None
    if b"\0" in head:
        order = "le" if head[1::2].count(0) > head[::2].count(0) else "be"
        return f"it holds NUL bytes; if it is UTF-16 without a byte-order mark, give --encoding utf-16-{order}"
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return "much of it is control characters" if controls > _MOST_CONTROLS * len(head) else None


def guess_encoding(blocks: Iterable[bytes], offset: int) -> tuple[str, float] | None:
    """What the detector makes of a file whose byte at this offset is not UTF-8 -> encoding, confidence; None: nothing.

    The confidence is the detector's, shared among the readings that it finds equally good, and never 1.
    """
    from charset_normalizer import from_bytes

    sample, whole = _sample_lines(blocks, offset)
    for cut in range(1 if whole else 4):  # a character cut in two is not recognised
        matches = from_bytes(sample[: len(sample) - cut], cp_exclusion=_NOT_GUESSED)
        if best := matches.best():
            break
    else:
        return None
    equal = [match for match in matches if (match.chaos, match.coherence) == (best.chaos, best.coherence)]
    names = [codecs.lookup(name).name for match in equal for name in match.could_be_from_charset]
    name = next((usual for usual in _USUAL if usual in names), names[0])
    return _GUESSED_AS.get(name, name), min(0.99, (1 - best.chaos) / len(equal))


def _sample_lines(blocks: Iterable[bytes], offset: int) -> tuple[bytes, bool]:
    """Whole lines that are not ASCII, from that of the offset on; False: no line ends there, and the last is cut."""
    window, start, ended = b"", 0, True
    for block in blocks:
        window += block
        if start + len(window) <= offset:
            begun = max(window.rfind(b"\n") + 1, len(window) - _LINE)
            window, start = window[begun:], start + begun
        elif start + len(window) >= offset + _SEARCH:
            ended = False
            break
    lines = window[window.rfind(b"\n", 0, offset - start) + 1 :].splitlines(keepends=True)
    whole = ended or len(lines) > 1
    if not ended and len(lines) > 1:
        lines.pop()
    sample: list[bytes] = []
    size = 0
    for line in lines:
        if not line.isascii():
            size += len(line)
            if sample and size > _SAMPLE:
                break
            sample.append(line)
    return b"".join(sample)[:_SEARCH], whole
