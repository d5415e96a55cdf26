"""Text in parts of a bounded size, whatever the sizes of the chunks that it comes in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

BLOCK = 1 << 16  # characters: few calls, and what a call needs stays in the cache


def blocks(chunks: str | Iterable[str]) -> Iterator[str]:
    """The text of the chunks in blocks of ``BLOCK`` to 2 ``BLOCK`` characters; the last may be shorter."""
    waiting: list[str] = []
    length = 0
    for chunk in [chunks] if isinstance(chunks, str) else chunks:
        for start in range(0, len(chunk), BLOCK):
            part = chunk[start : start + BLOCK]
            waiting.append(part)
            length += len(part)
            if length >= BLOCK:
                yield "".join(waiting)
                waiting, length = [], 0
    if waiting:
        yield "".join(waiting)


def stretches(chunks: str | Iterable[str], up_to_last_cut: re.Pattern[str]) -> Iterator[str]:
    """The text of the chunks in stretches that may be cut into tokens one by one.

    ``up_to_last_cut`` matches a block up to the last place that no token goes across, whatever stands before the block
    and after it. What follows that place is held back until there is another.
    """
    held: list[str] = []
    for block in blocks(chunks):
        found = up_to_last_cut.match(block)
        if found:
            yield "".join([*held, found[0]])
            held = [block[found.end() :]]
        else:
            held.append(block)
    if any(held):
        yield "".join(held)
