"""TEXT -> TOKENS: a text as items, each line a short text of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from elman.errors import InputError

MARK = "\n"  # begins and ends an item: read before its first symbol, predicted after its last
_MOST_DIGESTS = 1 << 20  # 8 MB


def lines(chunks: Iterable[str], name: str, first: int = 1) -> Iterator[str]:
    """The text with a mark before its first line and one after each, in chunks of whole lines; blanks at line ends go.

    first: the number of the first line, for errors. Raises InputError for a line without text.
    """
    yield MARK
    number, rest = first, ""
    for chunk in chunks:
        whole, mark, rest = (rest + chunk).rpartition(MARK)
        if mark:
            yield _whole_lines(whole, name, number)
            number += whole.count(MARK) + 1
    if rest:
        yield _whole_lines(rest, name, number)


def end_with_mark(files: Iterable[Iterable[str]]) -> Iterator[str]:
    """The chunks of several files one after the other, a mark after each that does not end with one."""
    for chunks in files:
        last = MARK
        for chunk in chunks:
            yield chunk
            last = chunk or last
        if not last.endswith(MARK):
            yield MARK


def line_start(chunks: Iterable[str]) -> int:
    """How many characters there are up to the first line that begins after the first character's."""
    before = 0
    for chunk in chunks:
        if (end := chunk.find(MARK)) >= 0:
            return before + end + 1
        before += len(chunk)
    return before


def digests(chunks: Iterable[str]) -> np.ndarray | None:
    """Sorted digests (N,) of the items that :func:`lines` gave, to know them again by; None where they are too many."""
    found: set[int] = set()
    for chunk in chunks:
        found |= {digest(line) for line in chunk.split(MARK) if line}
        if len(found) > _MOST_DIGESTS:
            return None
    return np.sort(np.fromiter(found, np.uint64, len(found)))


def digest(item: str) -> int:
    """64 bits that tell an item from others."""
    raw = hashlib.blake2b(item.rstrip().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "little")


def _whole_lines(text: str, name: str, number: int) -> str:
    stripped = [line.rstrip() for line in text.split(MARK)]
    if "" in stripped:
        raise InputError(
            f"{name}: line {number + stripped.index('')} is empty; an item is a line with text in it: "
            "remove the empty lines, or train without --items"
        )
    return MARK.join(stripped) + MARK
