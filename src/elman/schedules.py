"""Learning rates over a run: pure functions of how far it has come.

``progress`` is the part of the run that is done, from 0 to 1: steps of all steps, or seconds of all seconds. Each
function returns a factor of the base learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from elman.errors import InputError


def constant(progress: float) -> float:
    """1, all the way."""
    return 1.0


def linear(progress: float) -> float:
    """From 1 down to 0 in a straight line."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """From 1 down to 0 along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def halving(progress: float) -> float:
    """1 for 4 of 13 equal parts of the run, then half as much in each part as in the one before.

    With 13 epochs that is the small model of Zaremba et al. 2014, arXiv:1409.2329.
    """
    part = math.floor(13 * progress + 1e-9)  # an epoch's first step belongs to it, however 13 · progress is rounded
    return 0.5 ** max(0, part - 3)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "halving": halving,
}


def learning_rate(schedule: str, base: float, progress: float, step: int = 0, warmup_steps: int = 0) -> float:
    """The learning rate of a step (0 the first): ``base`` times the schedule, rising in a line over the first steps.

    progress is cut to [0, 1]; with warmup_steps W the factor (step + 1) / W holds until it reaches 1.
    Raises InputError for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"no schedule {schedule!r}; there are {', '.join(SCHEDULES)}")
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return base * warmup * SCHEDULES[schedule](min(1.0, max(0.0, progress)))
