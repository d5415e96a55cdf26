"""Byte-level byte-pair encoding, trained and applied by the library ``tokenizers``.

Text is cut as GPT-2 does (Radford et al. 2019), and the UTF-8 bytes of each piece are joined pair by pair (Sennrich et
al. 2016, arXiv:1508.07909). Every byte has an id, so nothing is unknown or lost. In vocabularies and files a byte is
written as a printable character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import InputError
from elman.text.tokenizers.byte import Utf8Decoder, shown, utf8
from elman.text.tokenizers.chunks import stretches
from elman.text.tokenizers.tokenizer import Decoder
from elman.text.tokenizers.vocabulary import check_id, check_ids, id_type, join_ids

DEFAULT_VOCAB = 4096
_MOST_VOCAB = 1_000_000  # the library makes room for all of it at once, and ends the process where there is none

# No piece has white space behind another character, nor punctuation behind a letter.
_UP_TO_LAST_CUT = re.compile(r"(?s).*(?:\S(?=[ \n\r\t])|[A-Za-z\u4e00-\u9fff](?=[.,;:!?。，、；：！？“”]))")


def _byte_characters() -> str:
    """The characters that stand for the bytes 0 to 255: the visible ones for themselves, the others from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in visible else next(others)) for byte in range(256))


_CHARACTERS = _byte_characters()
_BYTE = {character: byte for byte, character in enumerate(_CHARACTERS)}


class BpeTokenizer:
    """``tokens`` are the vocabulary in order of their ids, ``merges`` the pairs of them in the order of joining.

    Raises InputError where they are no byte-level vocabulary. The library is loaded when text is encoded.
    """

    kind = "bpe"
    unknown_id: int | None = None

    def __init__(self, tokens: Sequence[str], merges: Sequence[Sequence[str]]):
        self.tokens = tuple(tokens)
        self.merges = [(left, right) for left, right in merges]
        self.vocab_size = len(self.tokens)
        ids = {token: number for number, token in enumerate(self.tokens)}
        if len(ids) < len(self.tokens) or not all(token and set(token) <= _BYTE.keys() for token in self.tokens):
            raise InputError("its tokens are not distinct strings of bytes")
        if not _BYTE.keys() <= ids.keys():
            raise InputError("some bytes are no tokens of it")
        if not all(left in ids and right in ids and left + right in ids for left, right in self.merges):
            raise InputError("it merges what are not its tokens")
        self.line_end_id: int | None = ids[_CHARACTERS[0x0A]]
        self._bytes = [bytes(_BYTE[character] for character in token) for token in self.tokens]

    @classmethod
    def train(cls, chunks: str | Iterable[str], max_vocab: int | None = None, min_count: int = 1) -> BpeTokenizer:
        """Join the most frequent pairs of a text, of those seen ``min_count`` times, up to ``max_vocab`` tokens (4096).

        Raises InputError for fewer than 256 tokens, for more than a million, for a lone surrogate in the text, and
        where the library is missing.
        """
        max_vocab = DEFAULT_VOCAB if max_vocab is None else max_vocab
        if max_vocab < len(_BYTE):
            raise InputError(f"max_vocab must be 256 or more for bpe, as every byte is a token, not {max_vocab}")
        if max_vocab > _MOST_VOCAB:
            raise InputError(f"max_vocab must be {_MOST_VOCAB:,} or less for bpe, not {max_vocab:,}")
        library = _load_library()
        trained = _byte_level(library.models.BPE())
        trainer = library.trainers.BpeTrainer(
            vocab_size=max_vocab, min_frequency=min_count, initial_alphabet=list(_BYTE), show_progress=False
        )
        trained.train_from_iterator(_sound_stretches(chunks), trainer)
        return cls._from_file(json.loads(trained.to_str()))

    @classmethod
    def read(cls, path: str | Path) -> BpeTokenizer:
        """Read a ``tokenizer.json``: byte-level BPE that cuts text as GPT-2 does and changes nothing before.

        Its added tokens, such as ``<|endoftext|>``, keep their ids, but are not looked for in text. Raises InputError
        where the file is missing or holds another thing.
        """
        try:
            return cls._from_file(json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        except InputError as error:
            raise InputError(f"{path} is not the tokenizer.json of a byte-level BPE like GPT-2's: {error}") from None
        except (ValueError, RecursionError):
            raise InputError(f"{path} is not JSON; give the tokenizer.json of a byte-level BPE") from None

    @classmethod
    def _from_file(cls, data: Any) -> BpeTokenizer:
        """The tokenizer of what a tokenizer.json holds. Raises InputError that says what is wrong."""
        match data:
            case {"model": {"vocab": dict(ids), "merges": list(merges)} as model} if model.get("type", "BPE") == "BPE":
                pass
            case _:
                raise InputError("it has no BPE model")
        match data.get("pre_tokenizer"):
            case {"type": "ByteLevel", "add_prefix_space": False} as cutting if cutting.get("use_regex", True) is True:
                pass
            case _:
                raise InputError("it cuts text in another way")
        if data.get("normalizer"):
            raise InputError("it changes the text before it is cut")
        for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
            if model.get(option):
                raise InputError(f"its model has the option {option}")
        match data.get("added_tokens"):
            case None:
                pass
            case [*added] if all(isinstance(token, dict) and isinstance(token.get("content"), str) for token in added):
                ids = ids | {token["content"]: token.get("id") for token in added}
            case _:
                raise InputError("its added tokens are none")
        if not all(type(number) is int for number in ids.values()) or sorted(ids.values()) != list(range(len(ids))):
            raise InputError(f"its ids are not 0 to {len(ids) - 1}")
        return cls(sorted(ids, key=ids.__getitem__), _pairs(merges))

    @classmethod
    def from_json(cls, data: Any) -> BpeTokenizer | None:
        """What ``to_json`` described; None for anything else."""
        match data:
            case {"tokens": list(tokens), "merges": list(merges)} if all(isinstance(token, str) for token in tokens):
                try:
                    return cls(tokens, _pairs(merges))
                except InputError:
                    pass
        return None

    def write(self, path: str | Path) -> None:
        """Write a ``tokenizer.json`` that the library opens. Raises InputError where that cannot be."""
        try:
            Path(path).write_text(self._library.to_str(pretty=True), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None

    @cached_property
    def _library(self) -> Any:
        """The library's tokenizer. It is never given a vocabulary that is not sound, as on some it panics."""
        ids = {token: number for number, token in enumerate(self.tokens)}
        return _byte_level(_load_library().models.BPE(ids, self.merges))

    def encode(self, text: str, on_unknown: str = "unknown") -> np.ndarray:
        """Text -> ids (N,). Raises InputError for a lone surrogate, and where the library is missing."""
        return join_ids(self.encode_chunks(text), self.vocab_size)

    def encode_chunks(self, chunks: str | Iterable[str], on_unknown: str = "unknown") -> Iterator[np.ndarray]:
        """The ids of the joined chunks; see :class:`Tokenizer`."""
        for stretch in _sound_stretches(chunks):
            ids = self._library.encode(stretch, add_special_tokens=False).ids
            yield np.array(ids, id_type(self.vocab_size))

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text. Bytes that are not UTF-8 become U+FFFD."""
        tokens = check_ids(ids, self.vocab_size).tolist()
        return b"".join([self._bytes[token] for token in tokens]).decode("utf-8", "replace")

    def decoder(self) -> Decoder:
        """A decoder that waits for the last byte of a character."""
        return Utf8Decoder(self._bytes)

    def first_bytes(self, text: str) -> int:
        """The bytes of the first token, which may end inside a character."""
        return len(self._bytes[next(self.encode_chunks(text))[0]])

    def unknown_pieces(self, text: str) -> list[str]:
        """None: every byte has an id."""
        return []

    def describe(self, token: int) -> str:
        """The token's characters, or its bytes in hexadecimal form where they are not whole characters."""
        return shown(self._bytes[check_id(token, self.vocab_size)])

    def to_json(self) -> dict[str, Any]:
        """Tokens and merges, as a tokenizer.json writes them."""
        return {"kind": self.kind, "tokens": list(self.tokens), "merges": [list(pair) for pair in self.merges]}


def _sound_stretches(chunks: str | Iterable[str]) -> Iterator[str]:
    """The text in stretches that are encoded one by one. Raises InputError for a lone surrogate."""
    start = 0
    for stretch in stretches(chunks, _UP_TO_LAST_CUT):
        utf8(stretch, start)
        yield stretch
        start += len(stretch)


def _load_library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise InputError(
            "bpe needs the library tokenizers, which is not installed: python -m pip install 'elman[bpe]'"
        ) from None
    return tokenizers


def _byte_level(model: Any) -> Any:
    """The library's tokenizer with this model, which cuts text as GPT-2 does and writes bytes as characters."""
    library = _load_library()
    tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


def _pairs(merges: list[Any]) -> list[Sequence[str]]:
    """The merges of a file, of which older ones write a pair as one text with a space. Raises InputError for others."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    if not all(isinstance(pair, list) and [*map(type, pair)] == [str, str] for pair in pairs):
        raise InputError("its merges are not pairs")
    return pairs
