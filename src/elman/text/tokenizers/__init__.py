"""The tokenizers by name: text -> ids and back. Nothing here loads a segmenter or a library before text needs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from elman.errors import InputError, ModelFileError, did_you_mean
from elman.text.tokenizers.bpe import BpeTokenizer
from elman.text.tokenizers.byte import ByteTokenizer
from elman.text.tokenizers.char import CharTokenizer
from elman.text.tokenizers.tokenizer import Decoder, Tokenizer
from elman.text.tokenizers.word import WORD_SPLITTERS, WordTokenizer

__all__ = [
    "TOKENIZERS",
    "WORD_SPLITTERS",
    "BpeTokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Decoder",
    "Tokenizer",
    "WordTokenizer",
    "tokenizer_from_json",
    "train_tokenizer",
]

TOKENIZERS = {kind.kind: kind for kind in (CharTokenizer, ByteTokenizer, WordTokenizer, BpeTokenizer)}


def train_tokenizer(
    kind: str,
    chunks: str | Iterable[str],
    unknown: bool,
    max_vocab: int | None = None,
    min_count: int = 1,
    word_splitter: str = "unicode",
) -> Tokenizer:
    """The tokenizer of this kind for a training text, which is counted chunk by chunk.

    ``unknown``: have a ``<unk>`` where the kind needs one. ``max_vocab`` ids are kept, ``<unk>`` among them, and
    pieces seen ``min_count`` times or more; for bpe they limit the vocabulary (4096 without) and the merges.
    ``word_splitter`` is "unicode" or "whitespace". ``kind`` may be the path of a tokenizer.json, which is then used as
    it is. Raises InputError for what the kind does not take, and where it needs a package that is missing.
    """
    for name, limit in (("max_vocab", max_vocab), ("min_count", min_count)):
        if limit is not None and limit < 1:
            raise InputError(f"{name} must be 1 or more, not {limit}")
    if word_splitter != "unicode" and kind != "word":
        raise InputError(f"word_splitter is for the tokenizer word, not for {kind}")
    if (kind == "byte" or kind.endswith(".json")) and (max_vocab is not None or min_count != 1):
        raise InputError(f"the vocabulary of {kind} is given: leave out max_vocab and min_count")
    match kind:
        case "char":
            return CharTokenizer.train(chunks, unknown, max_vocab, min_count)
        case "byte":
            return ByteTokenizer()
        case "word":
            return WordTokenizer.train(chunks, unknown, max_vocab, min_count, word_splitter)
        case "bpe":
            return BpeTokenizer.train(chunks, max_vocab, min_count)
    if kind.endswith(".json"):
        return BpeTokenizer.read(kind)
    raise InputError(
        f"no tokenizer {kind!r}; there are {', '.join(TOKENIZERS)} and the path of a tokenizer.json."
        f"{did_you_mean(kind, list(TOKENIZERS))}"
    )


def tokenizer_from_json(data: Any) -> Tokenizer:
    """The tokenizer that ``to_json`` described; raises ModelFileError for anything else."""
    match data:
        case {"kind": str(kind)} if kind in TOKENIZERS:
            tokenizer = TOKENIZERS[kind].from_json(data)
            if tokenizer is not None:
                return tokenizer
    raise ModelFileError("the tokenizer in the file is not one that this version knows")
