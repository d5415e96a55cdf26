"""A text as pieces that can be read again and again; a large one is never whole in memory."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

from elman.errors import InputError

_KEPT = 16 << 20  # bytes of memory for pieces that are not read and decoded again
_PIECE = 1 << 20  # characters of a content in memory

Pieces = Callable[[], Iterator[str]]  # gives those of one part, from its first character on


@dataclass(frozen=True, eq=False)
class Text:
    """A text, and what there is to say of it.

    name: a short one; origin: absolute paths of files and folders, names of corpora, ``-`` for standard input;
    characters: how many; sha256: of its UTF-8 bytes; encodings: what its files are in, each once; notes: what was
    guessed, changed and left out, a line each.
    """

    name: str
    origin: tuple[str, ...]
    characters: int
    sha256: str
    encodings: tuple[str, ...]
    notes: tuple[str, ...]
    _parts: tuple[tuple[int, Pieces], ...] = field(repr=False)  # the characters of each

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The characters [start, stop) in pieces of at most a megabyte.

        Raises InputError for a file that is gone or has changed since the text was opened.
        """
        stop, end = self.characters if stop is None else stop, 0
        for characters, pieces in self._parts:
            at, end = end, end + characters
            if start < end and at < stop:
                for piece in pieces():
                    if wanted := piece[max(0, start - at) : stop - at]:
                        yield wanted
                    at += len(piece)
                    if at >= stop:
                        break

    def bounds(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Where the files of the characters [start, stop) begin and end among all characters."""
        ends = list(accumulate(characters for characters, _ in self._parts))
        begins = [0, *ends[:-1]]
        return [(max(start, a), min(stop, b)) for a, b in zip(begins, ends, strict=True) if a < stop and start < b]

    def read(self, start: int = 0, stop: int | None = None) -> str:
        """The characters [start, stop) in one piece."""
        return "".join(self.chunks(start, stop))


class Gathering:
    """A text while it is put together: each part is read through once, counted and digested, the first ones kept."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._room = _KEPT
        self._parts: list[tuple[int, Pieces]] = []

    def add(self, pieces: Iterable[str], again: Pieces, shown: str) -> bool:
        """Take a part; False where it has no characters. Nothing is taken where reading ``pieces`` raises.

        again: what reads the part once more, if it is not kept; shown: its name in the error for half a character.
        """
        sha256, room, characters = self._sha256.copy(), self._room, 0
        kept: list[str] = []
        for piece in pieces:
            try:
                sha256.update(piece.encode())
            except UnicodeEncodeError as error:
                half, at = ord(piece[error.start]), characters + error.start
                raise InputError(f"{shown} holds half a character (U+{half:04X}) at offset {at}; mend it") from None
            characters += len(piece)
            room -= sys.getsizeof(piece)
            if room >= 0:
                kept.append(piece)
            else:
                kept.clear()
        if kept:
            self._room, again = room, partial(iter, kept)
        if characters:
            self._sha256 = sha256
            self._parts.append((characters, again))
        return characters > 0

    def add_content(self, content: str, shown: str) -> None:
        """Take what is in memory already, to the letter."""
        pieces = [content[at : at + _PIECE] for at in range(0, len(content), _PIECE)]
        self.add(pieces, partial(iter, pieces), shown)

    def text(self, name: str, origin: Iterable[str], encodings: Iterable[str], notes: Iterable[str]) -> Text:
        """All that was taken."""
        characters = sum(characters for characters, _ in self._parts)
        digest = self._sha256.hexdigest()
        return Text(name, tuple(origin), characters, digest, tuple(encodings), tuple(notes), tuple(self._parts))
