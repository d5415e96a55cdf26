"""Words as tokens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from elman.errors import InputError, did_you_mean
from elman.text.tokenizers.chunks import stretches
from elman.text.tokenizers.segmenter import SEGMENTERS, Segmenter
from elman.text.tokenizers.splitters import Splitter, UnicodeSplitter, WhitespaceSplitter
from elman.text.tokenizers.tokenizer import Decoder
from elman.text.tokenizers.vocabulary import (
    UNKNOWN,
    check_id,
    check_ids,
    choose,
    id_type,
    join_ids,
    never_saw,
    settle_unknown,
)

WORD_SPLITTERS = ("unicode", "whitespace")


class WordTokenizer:
    """One id a word, as ``word_splitter`` cuts them; ``words`` are the vocabulary in order of their ids.

    With ``unknown=True`` the last id is ``<unk>``. ``segmenter`` (name, version) is what cut the Chinese of the
    training text, None where it had none: then each Chinese character of other text is a word, and no segmenter is
    needed. Decoding never needs one.
    """

    kind = "word"

    def __init__(
        self,
        words: Sequence[str],
        unknown: bool,
        word_splitter: str = "unicode",
        segmenter: tuple[str, str] | None = None,
    ):
        self.words = tuple(words)
        self.segmenter = segmenter
        self.unknown_id = len(self.words) if unknown else None
        self.vocab_size = len(self.words) + unknown
        self._splitter: Splitter = WhitespaceSplitter()
        if word_splitter == "unicode":
            self._splitter = UnicodeSplitter(Segmenter(segmenter) if segmenter else None)
        self._ids = {word: token for token, word in enumerate(self.words)}
        self.line_end_id = self._ids.get(self._splitter.line_end)
        if unknown:
            self._ids[UNKNOWN] = len(self.words)
        self._texts = ["\n" if word == self._splitter.line_end else word for word in self.words]
        self._texts += [self._splitter.unknown_shown] * unknown

    @classmethod
    def train(
        cls,
        chunks: str | Iterable[str],
        unknown: bool,
        max_vocab: int | None = None,
        min_count: int = 1,
        word_splitter: str = "unicode",
    ) -> WordTokenizer:
        """The tokenizer whose vocabulary is the words of a text, the most frequent first; limits as in ``choose``.

        Raises InputError for another splitter, and for Chinese where there is no segmenter.
        """
        if word_splitter not in WORD_SPLITTERS:
            hint = did_you_mean(word_splitter, WORD_SPLITTERS)
            raise InputError(f"word_splitter must be one of {', '.join(WORD_SPLITTERS)}, not {word_splitter!r}.{hint}")
        segmenter = Segmenter()
        splitter: Splitter = UnicodeSplitter(segmenter) if word_splitter == "unicode" else WhitespaceSplitter()
        counts: Counter[str] = Counter()
        for stretch in stretches(chunks, splitter.up_to_last_cut):
            counts.update(splitter.cut(stretch))
        unknown = unknown or UNKNOWN in counts
        del counts[UNKNOWN]
        words, unknown = choose(counts, unknown, max_vocab, min_count)
        return cls(words, unknown, word_splitter, segmenter.used)

    @classmethod
    def from_json(cls, data: Any) -> WordTokenizer | None:
        """What ``to_json`` described; None for anything else."""
        match data:
            case {"words": list(words), "unknown": bool(unknown), "word_splitter": str(splitter), "segmenter": None}:
                segmenter = None
            case {
                "words": list(words),
                "unknown": bool(unknown),
                "word_splitter": "unicode" as splitter,
                "segmenter": {"name": str(name), "version": str(version)},
            } if name in SEGMENTERS and re.fullmatch(r"[0-9A-Za-z.+!_-]{1,40}", version):
                segmenter = (name, version)
            case _:
                return None
        if splitter not in WORD_SPLITTERS or not words or not all(isinstance(word, str) and word for word in words):
            return None
        if len(set(words)) < len(words) or UNKNOWN in words:
            return None
        return cls(words, unknown, splitter, segmenter)

    def encode(self, text: str, on_unknown: str = "unknown") -> np.ndarray:
        """Text -> ids (N,); see :class:`Tokenizer`. Chinese may raise or warn; see :class:`Segmenter`."""
        return join_ids(self.encode_chunks(text, on_unknown), self.vocab_size)

    def encode_chunks(self, chunks: str | Iterable[str], on_unknown: str = "unknown") -> Iterator[np.ndarray]:
        """The ids of the joined chunks; see :class:`Tokenizer`."""
        start = 0
        for stretch in stretches(chunks, self._splitter.up_to_last_cut):
            yield self._encode_stretch(stretch, start, on_unknown)
            start += len(stretch)

    def _encode_stretch(self, stretch: str, start: int, on_unknown: str) -> np.ndarray:
        pieces = self._splitter.cut(stretch)

        def error(places: np.ndarray) -> InputError:
            return never_saw(
                (_name(pieces[place]) for place in places), start + self._splitter.offset(stretch, places[0])
            )

        ids = np.fromiter(map(self._ids.get, pieces, repeat(-1)), np.int32, len(pieces))
        return settle_unknown(ids, on_unknown, self.unknown_id, error).astype(id_type(self.vocab_size))

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""
        return "".join(map(self.decoder().feed, check_ids(ids, self.vocab_size).tolist()))

    def decoder(self) -> Decoder:
        """A decoder; a word is whole, and comes with the blank before it."""
        return _WordDecoder(self._texts, self._splitter.blank)

    def first_bytes(self, text: str) -> int:
        """The bytes of the part that the first word stands for: with ``whitespace`` the blanks around it too."""
        return len(self._splitter.first(text).encode("utf-8", "surrogatepass"))

    def unknown_pieces(self, text: str) -> list[str]:
        """The words that get the id of ``<unk>``, in order."""
        if self.unknown_id is None:
            return []
        return [
            piece
            for stretch in stretches(text, self._splitter.up_to_last_cut)
            for piece in self._splitter.cut(stretch)
            if self._ids.get(piece, self.unknown_id) == self.unknown_id
        ]

    def describe(self, token: int) -> str:
        """The word, ``<unk>``, or with ``whitespace`` ``<eos>``."""
        return UNKNOWN if check_id(token, self.vocab_size) == self.unknown_id else self.words[token]

    def to_json(self) -> dict[str, Any]:
        """Words, whether there is ``<unk>``, the splitter and the segmenter's name and version."""
        return {
            "kind": self.kind,
            "words": list(self.words),
            "unknown": self.unknown_id is not None,
            "word_splitter": self._splitter.name,
            "segmenter": self.segmenter and {"name": self.segmenter[0], "version": self.segmenter[1]},
        }


class _WordDecoder:
    def __init__(self, texts: Sequence[str], blank: str):
        self._texts, self._blank = texts, blank
        self._before = ""  # the blank that the next word has before it

    def feed(self, token: int) -> str:
        text = self._texts[check_id(token, len(self._texts))]
        if text == "\n":
            self._before = ""
            return text
        before, self._before = self._before, self._blank
        return before + text

    def finish(self) -> str:
        return ""


def _name(word: str) -> str:
    return repr(word if len(word) <= 40 else word[:40] + "…")
