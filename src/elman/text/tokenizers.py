"""Tokenizers: text -> ids and back. Each is saved whole, vocabulary included, as JSON in the model file."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from elman.errors import InputError, ModelFileError

UNKNOWN_SHOWN = "\N{REPLACEMENT CHARACTER}"


class Decoder(Protocol):
    """Turns ids into text as they come; what is not yet a whole character waits."""

    def feed(self, token: int) -> str:
        """The text that is complete with this id."""

    def finish(self) -> str:
        """What is left."""


class Tokenizer(Protocol):
    """What text is cut with. ``on_unknown`` in encode says what happens to text outside the vocabulary.

    "unknown" gives it the id of ``<unk>`` and is an error where there is none; "error" names it; "skip" leaves it out.
    """

    kind: str
    vocab_size: int
    unknown_id: int | None

    def encode(self, text: str, on_unknown: str = "unknown") -> np.ndarray:
        """Text -> ids (N,), the smallest unsigned integers that hold the vocabulary."""

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""

    def decoder(self) -> Decoder:
        """A fresh decoder for a stream of ids."""

    def first_bytes(self, text: str) -> int:
        """How many bytes of the text's UTF-8 form its first token covers."""

    def to_json(self) -> dict[str, Any]:
        """All that ``tokenizer_from_json`` needs."""


class CharTokenizer:
    """One id a character (Unicode code point). ``characters`` are the vocabulary in order of their ids.

    With ``unknown=True`` the last id is ``<unk>``, for every character that the training text did not have; it is
    decoded as U+FFFD.
    """

    kind = "char"

    def __init__(self, characters: str, unknown: bool):
        self.characters = characters
        self.unknown_id = len(characters) if unknown else None
        self.vocab_size = len(characters) + unknown
        codes = np.array([ord(character) for character in characters], np.int64)
        self._dtype = np.min_scalar_type(max(1, self.vocab_size - 1))
        self._ids = np.full(codes.max(initial=0) + 1, -1, np.int32)  # id by code point, -1 for none
        self._ids[codes] = np.arange(len(codes))
        self._table = np.append(codes, ord(UNKNOWN_SHOWN)).astype("<u4")

    @classmethod
    def train(cls, text: str, unknown: bool) -> CharTokenizer:
        """The tokenizer whose vocabulary is the distinct characters of a text, sorted."""
        return cls("".join(sorted(set(text))), unknown)

    def encode(self, text: str, on_unknown: str = "unknown") -> np.ndarray:
        """Text -> ids (N,); see :class:`Tokenizer`."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        known = codes < len(self._ids)
        ids = np.where(known, self._ids[np.where(known, codes, 0)], -1)
        missing = ids < 0
        if missing.any():
            if on_unknown == "skip":
                ids = ids[~missing]
            elif on_unknown == "unknown" and self.unknown_id is not None:
                ids[missing] = self.unknown_id
            else:
                raise InputError(_describe_unknown(text, missing))
        return ids.astype(self._dtype)

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""
        return self._table[np.asarray(list(ids), np.int64)].tobytes().decode("utf-32-le", "surrogatepass")

    def decoder(self) -> Decoder:
        """A decoder; every id is a whole character."""
        return _CharDecoder(self)

    def first_bytes(self, text: str) -> int:
        """The bytes of the first character."""
        return len(text[:1].encode("utf-8", "surrogatepass"))

    def to_json(self) -> dict[str, Any]:
        """Kind, characters and whether there is ``<unk>``."""
        return {"kind": self.kind, "characters": self.characters, "unknown": self.unknown_id is not None}


class _CharDecoder:
    def __init__(self, tokenizer: CharTokenizer):
        self._tokenizer = tokenizer

    def feed(self, token: int) -> str:
        return self._tokenizer.decode([token])

    def finish(self) -> str:
        return ""


class ByteTokenizer:
    """One id a byte of the UTF-8 form: 256 ids, nothing unknown. Bytes that are not UTF-8 are decoded as U+FFFD."""

    kind = "byte"
    vocab_size = 256
    unknown_id: int | None = None

    def encode(self, text: str, on_unknown: str = "unknown") -> np.ndarray:
        """Text -> ids (N,). Raises InputError for a lone surrogate, which UTF-8 has no bytes for."""
        try:
            return np.frombuffer(text.encode("utf-8"), np.uint8)
        except UnicodeEncodeError as error:
            raise InputError(
                f"the lone surrogate U+{ord(text[error.start]):04X} at offset {error.start} is not text; remove it"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""
        return bytes(ids).decode("utf-8", "replace")

    def decoder(self) -> Decoder:
        """A decoder that waits for the last byte of a character."""
        return _ByteDecoder()

    def first_bytes(self, text: str) -> int:
        """1."""
        return 1

    def to_json(self) -> dict[str, Any]:
        """Only the kind: there is nothing to learn."""
        return {"kind": self.kind}


class _ByteDecoder:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        return self._decoder.decode(bytes([token]))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


TOKENIZERS = ("char", "byte")


def train_tokenizer(kind: str, text: str, unknown: bool) -> Tokenizer:
    """The tokenizer of this kind for a training text; ``unknown``: have a ``<unk>`` where the kind needs one."""
    return ByteTokenizer() if kind == "byte" else CharTokenizer.train(text, unknown)


def tokenizer_from_json(data: Any) -> Tokenizer:
    """The tokenizer that ``to_json`` described; raises ModelFileError for anything else."""
    match data:
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "char", "characters": str(characters), "unknown": bool(unknown)} if characters and len(
            set(characters)
        ) == len(characters):
            return CharTokenizer(characters, unknown)
    raise ModelFileError("the tokenizer in the file is not one that this version knows")


def _describe_unknown(text: str, missing: np.ndarray) -> str:
    """A line that names the first few characters that a model never saw."""
    offsets = np.flatnonzero(missing)
    distinct = list(dict.fromkeys(text[offset] for offset in offsets))
    names = [
        f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'unnamed')})" for character in distinct[:5]
    ]
    more = f" and {len(distinct) - 5} more" if len(distinct) > 5 else ""
    return (
        f"the model never saw {', '.join(names)}{more}, first at offset {offsets[0]}; "
        f"leave it out, or give --on-unknown skip to have it skipped"
    )
