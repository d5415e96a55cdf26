"""Where text comes from: a file, or a corpus by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elman.errors import InputError, did_you_mean
from elman.text.corpora import CORPORA


@dataclass(frozen=True)
class Source:
    """A text that was read: its content, a short name, where it came from, and the SHA-256 of its UTF-8 bytes."""

    content: str
    name: str
    origin: tuple[str, ...]
    sha256: str


def read_text(texts: Sequence[str | Path], encoding: str = "utf-8") -> Source:
    """Read files (paths that exist) or named corpora, and join them in order.

    Raises InputError for what is missing, a directory, empty, or not text in this encoding (with the offset).
    """
    return _join([_read_one(text, encoding) for text in texts])


def read_again(origin: Sequence[str], encoding: str = "utf-8") -> Source:
    """The text of a :attr:`Source.origin`: absolute paths are files, and all else corpora, whatever files there are."""
    parts = [_read_one(one, encoding) if Path(one).is_absolute() else read_corpus(one) for one in origin]
    return _join(parts)


def read_corpus(name: str) -> Source:
    """The corpus of this name, whatever files there are. Raises InputError for an unknown name."""
    if name not in CORPORA:
        shown = name if len(name) <= 100 else name[:100] + "…"
        raise InputError(
            f"there is no file {shown!r} here, and no corpus of that name; "
            f"the corpora are {', '.join(CORPORA)}.{did_you_mean(name, list(CORPORA))}"
        )
    return _source(CORPORA[name](), name, name)


def _read_one(text: str | Path, encoding: str) -> Source:
    path = Path(text)
    try:
        exists = path.exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        exists = False
    if not exists:
        return read_corpus(str(text))
    return _source(_read_file(path, encoding), path.stem, str(path.absolute()))


def _join(parts: list[Source]) -> Source:
    origin = [one for part in parts for one in part.origin]
    return _source("".join(part.content for part in parts), "+".join(part.name for part in parts), *origin)


def _source(content: str, name: str, *origin: str) -> Source:
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
    return Source(content, name, origin, digest)


def _read_file(path: Path, encoding: str) -> str:
    if path.is_dir():
        raise InputError(f"{path} is a directory; give a text file")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if not raw:
        raise InputError(f"{path} is empty; give a file with text in it")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not {encoding} text: byte 0x{raw[error.start]:02x} at offset {error.start} does not decode; "
            f"name its encoding with --encoding, for example --encoding gb18030 for Chinese or cp1252 for Western text"
        ) from None
    except (LookupError, ValueError):  # no codec of that name, or one that is not for text
        raise InputError(f"no text encoding is called {encoding!r}; usual ones are utf-8, gb18030, cp1252") from None
    if lone := re.search("[\ud800-\udfff]", text):
        raise InputError(
            f"{path} holds half a character (U+{ord(lone[0]):04X}) at offset {lone.start()}; mend the file"
        )
    return text
