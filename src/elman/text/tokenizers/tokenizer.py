"""What a tokenizer is: text -> ids and back. Each is saved whole, vocabulary included, as JSON in the model file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np


class Decoder(Protocol):
    """Turns ids into text as they come; what is not yet a whole character waits."""

    def feed(self, token: int) -> str:
        """The text that is complete with this id."""

    def finish(self) -> str:
        """What is left."""


class Tokenizer(Protocol):
    """What text is cut with. ``on_unknown`` in encode says what happens to text outside the vocabulary.

    "unknown" gives it the id of ``<unk>`` and is an error where there is none; "error" names it; "skip" leaves it out.
    ``line_end_id`` is the id of a line end, None where the vocabulary has none.
    """

    kind: str
    vocab_size: int
    unknown_id: int | None
    line_end_id: int | None

    def encode(self, text: str, on_unknown: str = "unknown") -> np.ndarray:
        """Text -> ids (N,), the smallest unsigned integers that hold the vocabulary."""

    def encode_chunks(self, chunks: str | Iterable[str], on_unknown: str = "unknown") -> Iterator[np.ndarray]:
        """The ids of the joined chunks in arrays (n,), wherever the chunks were cut.

        Memory holds some blocks of text, or the longest piece that must be cut as a whole. An error's offset is that
        in the whole text.
        """

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""

    def decoder(self) -> Decoder:
        """A fresh decoder for a stream of ids."""

    def first_bytes(self, text: str) -> int:
        """How many bytes of the text's UTF-8 form its first token covers, for a text of at least one token."""

    def unknown_pieces(self, text: str) -> list[str]:
        """The pieces of a text that encode gives the id of ``<unk>``, in order; none where there is no ``<unk>``."""

    def describe(self, token: int) -> str:
        """The text of an id for people; ``<unk>`` and ``<eos>`` by those names."""

    def to_json(self) -> dict[str, Any]:
        """All that ``tokenizer_from_json`` needs."""
