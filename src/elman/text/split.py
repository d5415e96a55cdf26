"""TEXT -> TOKENS: a text cut into a training and a validation part, and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elman.config import TrainConfig
from elman.errors import InputError
from elman.text.sources import Source
from elman.text.tokenizers import Tokenizer, train_tokenizer

_NOTHING_HELD_OUT = "the whole text is trained on, nothing is held out"


@dataclass(frozen=True)
class SplitText:
    """Both parts as ids, the tokenizer that the training part made, the split in words, and notes for a person."""

    source: Source
    valid_source: Source | None
    tokenizer: Tokenizer
    train_ids: np.ndarray
    valid_ids: np.ndarray | None
    train_characters: int
    split: str
    notes: tuple[str, ...] = ()


def split_text(
    source: Source, valid_source: Source | None, train: TrainConfig, tokenizer: Tokenizer | None = None
) -> SplitText:
    """Hold out ``valid_source``, or else the last ``train.valid_fraction`` of the text, in one piece.

    The vocabulary comes from the training part; ``tokenizer``: use this one instead of a new one. A text too short to
    hold anything out is trained on whole, and a note says so. Raises InputError for a validation text too short.
    """
    text, notes = source.content, []
    if valid_source is not None:
        train_text, valid_text, split = text, valid_source.content, f"validation is {valid_source.name}"
    else:
        cut_at = int(len(text) * (1 - train.valid_fraction))
        train_text, valid_text = text[:cut_at], text[cut_at:]
        split = f"the last {train.valid_fraction:.0%} of the text is validation"
        if train.valid_fraction == 0:
            split = _NOTHING_HELD_OUT
        elif len(train_text) < 2 <= len(valid_text):
            raise InputError(
                f"valid_fraction {train.valid_fraction} leaves {len(train_text)} of {len(text)} characters to "
                "train on; make it smaller"
            )
        elif len(valid_text) < 2:
            train_text, valid_text, split = text, "", _NOTHING_HELD_OUT
            notes.append(
                f"the text has only {len(text)} characters, too short for a validation part: it is trained on whole"
            )
    if tokenizer is None:
        tokenizer = train_tokenizer(train.tokenizer, train_text, unknown=bool(valid_text))
    valid_ids = tokenizer.encode(valid_text) if valid_text else None
    if valid_ids is not None and len(valid_ids) < 2:
        name = source.name if valid_source is None else valid_source.name
        raise InputError(f"the validation text {name} has {len(valid_ids)} token(s); it needs at least 2")
    train_ids = tokenizer.encode(train_text)
    return SplitText(source, valid_source, tokenizer, train_ids, valid_ids, len(train_text), split, tuple(notes))
