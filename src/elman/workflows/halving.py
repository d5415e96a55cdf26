"""Successive halving: how a time is shared among trials, of which the best go on (arXiv:1502.07943, with ETA 3)."""

from __future__ import annotations

from dataclasses import dataclass

ETA = 3


@dataclass(frozen=True)
class Rung:
    """So many trials, and the seconds that each of them gets here."""

    trials: int
    seconds: float


def halving(trials: int, seconds: float) -> list[Rung]:
    """The rungs of so many trials, 1 or more, within so many seconds; one of ``ETA`` goes on until one is left.

    All rungs take equally long, so a trial has about ``ETA`` times as long on each as on the one before. A single
    trial has no rung.
    """
    sizes = []
    while trials > 1:
        sizes.append(trials)
        trials = survivors(trials)
    return [Rung(size, seconds / len(sizes) / size) for size in sizes]


def survivors(trials: int) -> int:
    """How many of the trials of a rung go on to the next, or win: one of ``ETA``, rounded up."""
    return -(-trials // ETA)
