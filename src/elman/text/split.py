"""TEXT -> TOKENS: a text cut into a training and a validation part, its tokenizer, and both parts as ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from elman.config import TrainConfig
from elman.errors import InputError
from elman.text import cache, items
from elman.text.cache import IdFile
from elman.text.sources import Text
from elman.text.spelling import spelling_nats
from elman.text.tokenizers import Tokenizer, train_tokenizer

_AT_ONCE = 1 << 20  # ids
_NOTHING_HELD_OUT = "the whole text is trained on, nothing is held out"


@dataclass(frozen=True)
class Part:
    """The characters [start, stop) of a text; as items, or as one text that goes on."""

    text: Text
    start: int
    stop: int
    as_items: bool

    @property
    def characters(self) -> int:
        """How many it has."""
        return self.stop - self.start

    def chunks(self) -> Iterator[str]:
        """What is cut into tokens."""
        if not self.as_items:
            return self.text.chunks(self.start, self.stop)
        files = (self.text.chunks(*bounds) for bounds in self.text.bounds(self.start, self.stop))
        return items.lines(items.end_with_mark(files), self.text.name, self._first_line)

    @cached_property
    def _first_line(self) -> int:
        return 1 + sum(chunk.count(items.MARK) for chunk in self.text.chunks(0, self.start))

    def ids(self, tokenizer: Tokenizer) -> np.ndarray | IdFile:
        """Its ids; those of a large part are on disk, see :mod:`elman.text.cache`."""
        files = self.text.bounds(self.start, self.stop) if self.as_items else None  # no item goes across files
        digest = f"{self.text.sha256} {self.start} {self.stop} {files}"
        return cache.encode(self.chunks(), tokenizer, self.characters, digest)


@dataclass(frozen=True)
class SplitText:
    """Both parts as ids, the tokenizer that the training part made, the split in words, and notes for a person."""

    text: Text
    valid_text: Text | None
    tokenizer: Tokenizer
    train: Part
    train_ids: np.ndarray | IdFile
    valid_ids: np.ndarray | IdFile | None
    split: str
    valid: Part | None = None
    train_spelling: float = 0.0  # nats to spell out what is <unk> in the training part,
    valid_spelling: float = 0.0  # and in the validation part
    trained_items: np.ndarray | None = None  # digests of the training part's items
    notes: tuple[str, ...] = ()


def split_text(
    text: Text, valid_text: Text | None, train: TrainConfig, tokenizer: Tokenizer | None = None
) -> SplitText:
    """Hold out ``valid_text``, or else the last ``train.valid_fraction`` of the text, in one piece.

    The vocabulary comes from the training part; ``tokenizer``: use this one instead of a new one. A text too short to
    hold anything out is trained on whole, and a note says so. Raises InputError for a text or part too short.
    """
    notes = [*text.notes, *(valid_text.notes if valid_text is not None else ())]
    as_items = train.items is not None
    valid: Part | None
    if valid_text is not None:
        part, valid = Part(text, 0, text.characters, as_items), Part(valid_text, 0, valid_text.characters, as_items)
        split = f"validation is {valid_text.name}"
    else:
        part, valid, split = _cut(text, train, as_items)
        if valid is None and train.valid_fraction > 0:
            held = "one line" if as_items else f"{text.characters} characters"
            notes.append(f"the text has only {held}, too short for a validation part: it is trained on whole")
    if tokenizer is None:
        tokenizer = train_tokenizer(
            train.tokenizer, part.chunks(), valid is not None, train.max_vocab, train.min_count, train.word_splitter
        )
    if tokenizer.vocab_size - (tokenizer.unknown_id is not None) < 2 <= part.characters:
        raise InputError(f"{text.name} has one symbol only, {tokenizer.describe(0)!r}: there is nothing to predict")
    train_ids = part.ids(tokenizer)
    if len(train_ids) < 2:
        raise InputError(f"a text needs at least 2 tokens to learn from, {text.name} has {len(train_ids)}")
    valid_ids = None if valid is None else valid.ids(tokenizer)
    if valid_ids is not None and valid is not None and len(valid_ids) < 2:
        raise InputError(f"the validation text {valid.text.name} has {len(valid_ids)} token(s); it needs at least 2")
    shares = [("training", unknown_share(train_ids, tokenizer))]
    if valid_ids is not None:
        shares.append(("validation", unknown_share(valid_ids, tokenizer)))
    if any(share for _, share in shares):
        notes.append("<unk> are " + " and ".join(f"{share:.2%} of the {name} tokens" for name, share in shares))
    train_spelling = _spelling(part, tokenizer) if shares[0][1] else 0.0
    valid_spelling = _spelling(valid, tokenizer) if valid is not None and shares[-1][1] else 0.0
    digests = items.digests(part.chunks()) if as_items else None
    return SplitText(
        text,
        valid_text,
        tokenizer,
        part,
        train_ids,
        valid_ids,
        split,
        valid,
        train_spelling,
        valid_spelling,
        digests,
        tuple(notes),
    )


def unknown_share(ids: np.ndarray | IdFile, tokenizer: Tokenizer) -> float:
    """The share of ids (N,), N 1 or more, that are ``<unk>``."""
    if tokenizer.unknown_id is None:
        return 0.0
    parts = (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
    return sum(int(np.count_nonzero(part == tokenizer.unknown_id)) for part in parts) / len(ids)


def _spelling(part: Part, tokenizer: Tokenizer) -> float:
    if tokenizer.unknown_id is None:
        return 0.0
    return spelling_nats(piece for text in _whole_lines(part.chunks()) for piece in tokenizer.unknown_pieces(text))


def _whole_lines(chunks: Iterable[str]) -> Iterator[str]:
    rest = ""
    for chunk in chunks:
        whole, mark, rest = (rest + chunk).rpartition("\n")
        yield whole + mark
    yield rest


def _cut(text: Text, train: TrainConfig, as_items: bool) -> tuple[Part, Part | None, str]:
    """The training part, the validation part and the split in words."""
    whole = Part(text, 0, text.characters, as_items)
    if train.valid_fraction == 0:
        return whole, None, _NOTHING_HELD_OUT
    cut_at = int(text.characters * (1 - train.valid_fraction))
    if as_items and cut_at > 0:
        cut_at += items.line_start(text.chunks(cut_at - 1)) - 1
    if cut_at < 2 <= text.characters - cut_at:
        raise InputError(
            f"valid_fraction {train.valid_fraction} leaves {cut_at} of {text.characters} characters to "
            "train on; make it smaller"
        )
    if text.characters - cut_at < 2:
        return whole, None, _NOTHING_HELD_OUT
    unit = "lines" if as_items else "text"
    split = f"the last {train.valid_fraction:.0%} of the {unit} is validation"
    return Part(text, 0, cut_at, as_items), Part(text, cut_at, text.characters, as_items), split
