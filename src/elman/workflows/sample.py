"""Sampling: one or several texts, piece by piece, up to a stop."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from elman.config import SampleConfig
from elman.errors import InputError
from elman.text import items
from elman.text_model import TextModel

_TRIES = 1000  # for each new item


def samples(
    model: TextModel,
    prompt: str,
    config: SampleConfig,
    num: int = 1,
    stop: str | None = None,
    on_unknown: str = "error",
    novel: bool = False,
) -> Iterator[tuple[int, Iterator[str]]]:
    """``num`` texts, each as its seed and the pieces that follow the prompt; seeds count up from config.seed.

    ``stop``: a text ends before the first place where this stands. ``novel``: only items that the model was not trained
    on; the seeds of others are passed over. Raises InputError as TextModel.stream does, for ``novel`` where the model
    does not know its items, and where hardly any item is new.
    """
    if num < 1:
        raise InputError(f"num must be a whole number 1 or more, not {num}")
    if stop == "":
        raise InputError("stop must be a text of at least one character")
    if novel and model.trained_items is None:
        raise InputError(
            "novel needs a model that knows its items: one trained with --items lines, on a million at most"
        )
    written = 0
    for seed in itertools.count(config.seed):
        pieces = model.stream(prompt, dataclasses.replace(config, seed=seed), on_unknown)
        if stop is not None:
            pieces = until(stop, pieces)
        if novel:
            text = "".join(pieces)
            if not _is_new(prompt + text, model):
                if seed - config.seed - written >= _TRIES * num:
                    raise InputError(
                        f"only {written} of {num} items are new in {seed - config.seed + 1:,} tries; "
                        "try a higher temperature"
                    )
                continue
            pieces = iter([text])
        yield seed, pieces
        written += 1
        if written == num:
            return


def _is_new(item: str, model: TextModel) -> bool:
    known = model.trained_items
    assert known is not None
    place = int(np.searchsorted(known, np.uint64(items.digest(item))))
    return bool(item.strip()) and (place == len(known) or known[place] != items.digest(item))


def until(stop: str, pieces: Iterator[str]) -> Iterator[str]:
    """The pieces up to the first occurrence of ``stop``, which may stand across pieces; the rest is not drawn."""
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held[: held.index(stop)]
            return
        sure = len(held) - len(stop) + 1  # the last len(stop) - 1 characters may begin it
        if sure > 0:
            yield held[:sure]
            held = held[sure:]
    yield held
