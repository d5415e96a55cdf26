"""Sampling: one or several texts, piece by piece, up to a stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from elman.config import SampleConfig
from elman.errors import InputError
from elman.text_model import TextModel


def samples(
    model: TextModel,
    prompt: str,
    config: SampleConfig,
    num: int = 1,
    stop: str | None = None,
    on_unknown: str = "error",
) -> Iterator[tuple[int, Iterator[str]]]:
    """``num`` texts, each as its seed and the pieces that follow the prompt; seeds count up from config.seed.

    ``stop``: a text ends before the first place where this stands. Raises InputError as TextModel.stream does.
    """
    if num < 1:
        raise InputError(f"num must be a whole number 1 or more, not {num}")
    if stop == "":
        raise InputError("stop must be a text of at least one character")
    for seed in range(config.seed, config.seed + num):
        pieces = model.stream(prompt, dataclasses.replace(config, seed=seed), on_unknown)
        yield seed, pieces if stop is None else until(stop, pieces)


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
