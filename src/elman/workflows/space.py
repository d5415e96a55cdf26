"""What a search may try: an axis for each setting, and settings drawn from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.errors import InputError

_DIGITS = 3  # of a learning rate: one that a person can read and type


@dataclass(frozen=True)
class LogRange:
    """All numbers between two, both above 0, even in their logarithms. Raises InputError where least is not less."""

    least: float
    most: float

    def __post_init__(self) -> None:
        if not 0 < self.least < self.most:
            raise InputError(
                f"a range is from a number above 0 to a larger one, not from {self.least:g} to {self.most:g}"
            )

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most

    def spread(self, count: int, rng: np.random.Generator) -> list[float]:
        """So many numbers in any order, one from each of as many equal parts of the range."""
        places = (rng.permutation(count) + rng.random(count)) / count
        numbers = (float(f"{self.least * (self.most / self.least) ** place:.{_DIGITS}g}") for place in places)
        return [min(max(number, self.least), self.most) for number in numbers]


Axis = LogRange | tuple[Any, ...]
Settings = dict[str, Any]


def draw(space: Mapping[str, Axis], trials: int, rng: np.random.Generator, first: Settings) -> list[Settings]:
    """So many settings, a value of every axis each; ``first`` is the first of them where it lies in the space.

    Where an axis is a range they are a Latin hypercube (McKay, Beckman and Conover 1979): the range is evenly filled,
    and the values of the other axes are taken equally often. Without a range they are points of the grid, which may
    have fewer.
    """
    drawn = [first] if all(first[name] in axis for name, axis in space.items()) else []
    count = trials - len(drawn)
    lists = [axis for axis in space.values() if not isinstance(axis, LogRange)]
    if len(lists) < len(space):
        columns = [_column(axis, count, rng) for axis in space.values()]
        return drawn + [dict(zip(space, values, strict=True)) for values in zip(*columns, strict=True)]
    grid = [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]
    return drawn + [grid[index] for index in rng.permutation(len(grid)) if grid[index] not in drawn][:count]


def _column(axis: Axis, count: int, rng: np.random.Generator) -> list[Any]:
    if isinstance(axis, LogRange):
        return axis.spread(count, rng)
    return [axis[index] for index in rng.permutation(np.arange(count) % len(axis))]


def around(settings: Settings) -> dict[str, Axis]:
    """The space about given settings.

    A fourth of the learning rate to four times as much; half the hidden size, the same and twice; the dropout, and 0.2
    less and more.
    """
    rate, size, dropout = settings["learning_rate"], settings["hidden_size"], settings["dropout"]
    less, more = round(dropout - 0.2, 3), round(dropout + 0.2, 3)
    return {
        "learning_rate": LogRange(rate / 4, rate * 4),
        "hidden_size": distinct([max(1, size // 2), size, 2 * size]),
        "dropout": distinct([max(0.0, less), dropout, more if more < 1 else dropout]),
    }


def distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each value once, in order."""
    return tuple(dict.fromkeys(values))
