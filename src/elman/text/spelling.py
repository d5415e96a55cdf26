"""What a text outside the vocabulary costs, so that bits a character of different vocabularies can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterable

_BYTE = math.log(256)


def spelling_nats(pieces: Iterable[str]) -> float:
    """Nats to spell out texts whose token is ``<unk>``: 8 bits for each byte of the UTF-8 form, and 8 for its end.

    Beside the probability of ``<unk>`` this is what a code would need, so that a small vocabulary does not make a text
    look more predictable than it is.
    """
    return _BYTE * sum(len(piece.encode("utf-8", "surrogatepass")) + 1 for piece in pieces)
