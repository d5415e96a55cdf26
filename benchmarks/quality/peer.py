"""What the two PyTorch peers share: the data of an elman run, a budget of time or steps, and the figures of a run."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elman.config import TrainConfig
from elman.text import items
from elman.text.sources import open_text
from elman.text.split import split_text

EVALUATIONS = 10  # of a run, about as many as elman's own
WINDOW = 256  # tokens of a cold window
Tables = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Data:
    """Ids of what is trained on, of what picks the best model, and of what is scored; ``mark``: between items."""

    vocab_size: int
    train: np.ndarray
    valid: np.ndarray
    score: np.ndarray
    mark: int | None
    unknown: float  # share of the scored tokens


def parser(description: str) -> argparse.ArgumentParser:
    """The options of both."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--config", type=Path, required=True, metavar="FILE", help="config.toml of an elman run")
    made.add_argument("--text", required=True, metavar="FILE", help="the text that the run was trained on")
    made.add_argument("--valid", metavar="FILE", help="what it was validated on, if not the text's last part")
    made.add_argument("--score", required=True, metavar="FILE", help="the text to score")
    made.add_argument("--seed", type=int, default=1, metavar="N")
    made.add_argument("--threads", type=int, default=2, metavar="N")
    made.add_argument("--minutes", type=float, metavar="M")
    return made


def read_recipe(path: Path) -> Tables:
    """The tables of a run's config.toml."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def read_data(train: TrainConfig, text: str, valid: str | None, score: str) -> Data:
    """The ids that the elman run has of the same texts."""
    data = split_text(open_text([text]), None if valid is None else open_text([valid]), train)
    scored = open_text([score])
    chunks = scored.chunks() if train.items is None else items.lines(scored.chunks(), scored.name)
    ids = np.concatenate(list(data.tokenizer.encode_chunks(chunks))).astype(np.int64)
    if data.valid_ids is None:
        raise SystemExit(f"{text} holds nothing out to validate on")
    return Data(
        data.tokenizer.vocab_size,
        np.asarray(data.train_ids[:], np.int64),
        np.asarray(data.valid_ids[:], np.int64),
        ids,
        None if train.items is None else data.tokenizer.line_end_id,
        float(np.mean(ids[1:] == data.tokenizer.unknown_id)),
    )


class Budget:
    """So many seconds, or so many steps: how much of it is spent."""

    def __init__(self, seconds: float | None, steps: int | None):
        self._limit, self._steps = seconds, steps
        self._start, self._off = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Spent so far, without what was off the clock."""
        return time.perf_counter() - self._start - self._off

    def progress(self, step: int) -> float:
        """The part that is spent, from 0 to 1."""
        if self._limit is not None:
            return min(1.0, self.seconds / self._limit)
        return step / (self._steps or 1)

    @contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """What happens in the block takes no time."""
        began = time.perf_counter()
        yield
        self._off += time.perf_counter() - began


def train(
    model: torch.nn.Module,
    take_step: Callable[[int, float], tuple[float, int]],
    validate: Callable[[], float],
    budget: Budget,
) -> dict[str, Any]:
    """Train until the budget is spent; the model ends as what did best in ten validations, which are off the clock.

    take_step: step (0 the first) and progress -> loss, tokens.
    """
    step, tokens, done, progress, best, kept = 0, 0, 0, 0.0, math.inf, {}
    while progress < 1:
        loss, read = take_step(step, progress)
        if not math.isfinite(loss):
            raise SystemExit(f"step {step + 1}: the loss is {loss}")
        step, tokens = step + 1, tokens + read
        progress = budget.progress(step)
        if int(EVALUATIONS * progress) > done:
            done = int(EVALUATIONS * progress)
            with budget.off_the_clock():
                valid = validate()
                if valid < best:
                    best, kept = valid, copy.deepcopy(model.state_dict())
    seconds = budget.seconds
    model.load_state_dict(kept)
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {"parameters": parameters, "tokens": tokens, "steps": step, "seconds": seconds}


def report(model: str, data: Data, figures: dict[str, Any]) -> None:
    """Print the figures as a line of JSON."""
    print(json.dumps({"model": model, **figures, "scored": len(data.score) - 1, "unknown": data.unknown}))
