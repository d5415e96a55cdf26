"""Characters as tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from elman.errors import InputError
from elman.text.tokenizers.chunks import blocks
from elman.text.tokenizers.tokenizer import Decoder
from elman.text.tokenizers.vocabulary import (
    UNKNOWN,
    UNKNOWN_SHOWN,
    check_id,
    check_ids,
    choose,
    id_type,
    join_ids,
    never_saw,
    settle_unknown,
)


class CharTokenizer:
    """One id a character (Unicode code point). ``characters`` are the vocabulary in order of their ids.

    With ``unknown=True`` the last id is ``<unk>``, for every character that the vocabulary does not have; it is
    decoded as U+FFFD.
    """

    kind = "char"

    def __init__(self, characters: str, unknown: bool):
        self.characters = characters
        self.unknown_id = len(characters) if unknown else None
        self.vocab_size = len(characters) + unknown
        codes = _codes(characters)
        self._ids = np.full(codes.max(initial=0) + 2, -1, np.int32)  # id by code point, -1 for none; last: all beyond
        self._ids[codes] = np.arange(len(codes))
        self._table = np.append(codes, ord(UNKNOWN_SHOWN)).astype("<u4")
        self.line_end_id = characters.index("\n") if "\n" in characters else None

    @classmethod
    def train(
        cls, chunks: str | Iterable[str], unknown: bool, max_vocab: int | None = None, min_count: int = 1
    ) -> CharTokenizer:
        """The tokenizer whose vocabulary is the distinct characters of a text, sorted; limits as in ``choose``."""
        counts = np.zeros(0, np.int64)  # by code point
        for block in blocks(chunks):
            found = np.bincount(_codes(block), minlength=len(counts))
            found[: len(counts)] += counts
            counts = found
        kept, unknown = choose(
            {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}, unknown, max_vocab, min_count
        )
        return cls("".join(sorted(kept)), unknown)

    @classmethod
    def from_json(cls, data: Any) -> CharTokenizer | None:
        """What ``to_json`` described; None for anything else."""
        match data:
            case {"characters": str(characters), "unknown": bool(unknown)} if characters and len(
                set(characters)
            ) == len(characters):
                return cls(characters, unknown)
        return None

    def encode(self, text: str, on_unknown: str = "unknown") -> np.ndarray:
        """Text -> ids (N,); see :class:`Tokenizer`."""
        return join_ids(self.encode_chunks(text, on_unknown), self.vocab_size)

    def encode_chunks(self, chunks: str | Iterable[str], on_unknown: str = "unknown") -> Iterator[np.ndarray]:
        """The ids of the joined chunks; see :class:`Tokenizer`."""
        start = 0
        for block in blocks(chunks):
            yield self._encode_block(block, start, on_unknown)
            start += len(block)

    def _encode_block(self, block: str, start: int, on_unknown: str) -> np.ndarray:
        def error(places: np.ndarray) -> InputError:
            return never_saw((_name(block[place]) for place in places), start + places[0])

        ids = settle_unknown(self._look_up(block), on_unknown, self.unknown_id, error)
        return ids.astype(id_type(self.vocab_size))

    def _look_up(self, text: str) -> np.ndarray:
        """Ids (N,), -1 for what has none."""
        return self._ids.take(_codes(text), mode="clip")

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""
        return self._table[check_ids(ids, self.vocab_size)].tobytes().decode("utf-32-le", "surrogatepass")

    def decoder(self) -> Decoder:
        """A decoder; every id is a whole character."""
        return _CharDecoder(self._table[: self.vocab_size])

    def first_bytes(self, text: str) -> int:
        """The bytes of the first character."""
        return len(text[:1].encode("utf-8", "surrogatepass"))

    def unknown_pieces(self, text: str) -> list[str]:
        """The characters that get the id of ``<unk>``, in order."""
        if self.unknown_id is None:
            return []
        return [block[place] for block in blocks(text) for place in np.flatnonzero(self._look_up(block) < 0)]

    def describe(self, token: int) -> str:
        """The character, or ``<unk>``."""
        return UNKNOWN if check_id(token, self.vocab_size) == self.unknown_id else self.characters[token]

    def to_json(self) -> dict[str, Any]:
        """Kind, characters and whether there is ``<unk>``."""
        return {"kind": self.kind, "characters": self.characters, "unknown": self.unknown_id is not None}


class _CharDecoder:
    def __init__(self, codes: np.ndarray):
        self._codes = codes

    def feed(self, token: int) -> str:
        return chr(self._codes[check_id(token, len(self._codes))])

    def finish(self) -> str:
        return ""


def _codes(text: str) -> np.ndarray:
    """Text -> code points (N,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _name(character: str) -> str:
    return f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'unnamed')})"
