"""Bytes of the UTF-8 form as tokens, and what they share with pieces of bytes."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from elman.errors import InputError
from elman.text.tokenizers.chunks import blocks
from elman.text.tokenizers.tokenizer import Decoder
from elman.text.tokenizers.vocabulary import check_id, check_ids, join_ids

_BYTES = [bytes([byte]) for byte in range(256)]


class ByteTokenizer:
    """One id a byte of the UTF-8 form: 256 ids, nothing unknown. Bytes that are not UTF-8 are decoded as U+FFFD."""

    kind = "byte"
    vocab_size = 256
    unknown_id: int | None = None
    line_end_id: int | None = 0x0A

    @classmethod
    def from_json(cls, data: Any) -> ByteTokenizer:
        """A byte tokenizer; there is nothing to read."""
        return cls()

    def encode(self, text: str, on_unknown: str = "unknown") -> np.ndarray:
        """Text -> ids (N,). Raises InputError for a lone surrogate, which UTF-8 has no bytes for."""
        return join_ids(self.encode_chunks(text), self.vocab_size)

    def encode_chunks(self, chunks: str | Iterable[str], on_unknown: str = "unknown") -> Iterator[np.ndarray]:
        """The ids of the joined chunks; see :class:`Tokenizer`."""
        start = 0
        for block in blocks(chunks):
            yield np.frombuffer(utf8(block, start), np.uint8)
            start += len(block)

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""
        return check_ids(ids, self.vocab_size).astype(np.uint8).tobytes().decode("utf-8", "replace")

    def decoder(self) -> Decoder:
        """A decoder that waits for the last byte of a character."""
        return Utf8Decoder(_BYTES)

    def first_bytes(self, text: str) -> int:
        """1."""
        return 1

    def unknown_pieces(self, text: str) -> list[str]:
        """None: every byte has an id."""
        return []

    def describe(self, token: int) -> str:
        """The character that the byte is, or its hexadecimal form where it is only a part of one."""
        return shown(_BYTES[check_id(token, self.vocab_size)])

    def to_json(self) -> dict[str, Any]:
        """Only the kind: there is nothing to learn."""
        return {"kind": self.kind}


class Utf8Decoder:
    """A decoder of ids that stand for bytes, ``token_bytes`` in order of the ids: it waits for whole characters."""

    def __init__(self, token_bytes: Sequence[bytes]):
        self._bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The characters that are complete with this id."""
        return self._decoder.decode(self._bytes[check_id(token, len(self._bytes))])

    def finish(self) -> str:
        """U+FFFD where bytes are left that are not a whole character."""
        return self._decoder.decode(b"", final=True)


def utf8(text: str, start: int) -> bytes:
    """The UTF-8 form of a part of a text, which begins at offset ``start``.

    Raises InputError for a lone surrogate, which has no such form.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the lone surrogate U+{ord(text[error.start]):04X} at offset {start + error.start} is not text; remove it"
        ) from None


def shown(raw: bytes) -> str:
    """Bytes for people: their characters, or as <0xE7><0x8B> where they are not whole characters."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in raw)
