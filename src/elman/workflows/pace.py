"""How far a run has come, when it ends, and when something that happens now and then is due."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from elman.config import TrainConfig

_ABOUT = 10  # how often a run of some minutes evaluates and samples, where no interval is stated
_SPARING = 30  # times what it takes passes before it is done again
_LONGEST_RESERVE = 0.5  # of the time limit
_MARGIN = 1.4  # for what may take longer than it did before
_OUTSIDE = 0.3  # seconds of the process before the clock begins and after the last record


@dataclass
class Pace:
    """The run's clock and its end: after so many steps, or after so many seconds of wall time.

    ``seconds`` goes on from ``already`` where a run is resumed. Under a time limit some of it is kept in reserve for
    the last evaluation and the saving of files, so that the whole run ends in time and not long before.
    """

    total_steps: int | None
    limit: float | None
    already: float = 0.0
    evaluation: float = 0.0  # seconds that one takes, as far as is known
    saving: float = 0.0  # and all files of the run
    over: bool = False  # no step follows
    _start: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, train: TrainConfig, steps_per_epoch: int, already: float, start: float) -> Pace:
        """The pace that a configuration asks for; ``start`` is when the clock began to run (time.perf_counter)."""
        if train.minutes is not None:
            return cls(None, train.minutes * 60, already, _start=start)
        return cls(train.steps or (train.epochs or 1) * steps_per_epoch, None, already, _start=start)

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, of earlier sessions too."""
        return self.already + time.perf_counter() - self._start

    def progress(self, step: int) -> float:
        """The part that is done, from 0 to 1."""
        if self.limit is None:
            return min(1.0, step / (self.total_steps or 1))
        end = _OUTSIDE + _MARGIN * (
            self.evaluation + 2 * self.saving
        )  # files are saved before the evaluation and after
        return min(1.0, self.seconds / (self.limit - min(end, _LONGEST_RESERVE * self.limit)))

    @property
    def spent(self) -> float:
        """Seconds of the run so far; of one that is over all that it had, whatever its end left of them."""
        return max(self.seconds, self.limit or 0.0) if self.over else self.seconds


class Interval:
    """Something that is due every so many steps (0: never).

    Where no number is given: about ten times under a time limit; else at round steps, which do not depend on where the
    run is to end: multiples of 10, from 100 on of 100, from 1,000 on of 1,000, and so on, but of ``least`` at least.
    """

    def __init__(self, every: int | None, pace: Pace, least: int):
        self._every, self._pace, self._least = every, pace, least
        self._seconds = max(1e-3, (pace.limit or 0.0) / _ABOUT)
        self._last = pace.seconds
        self._next = (int(pace.seconds / self._seconds) + 1) * self._seconds

    def due(self, step: int, cost: float = 0.0) -> bool:
        """Whether it is due after this many steps, 1 or more, when it takes ``cost`` seconds."""
        if self._every is None and self._pace.limit is not None:
            return self._pace.seconds >= max(self._next, self._last + _SPARING * cost)
        every = max(self._least, 10 ** (len(str(step)) - 1)) if self._every is None else self._every
        return every > 0 and step % every == 0

    def done(self) -> None:
        """It was done."""
        self._last = self._pace.seconds
        self._next = (int(self._last / self._seconds) + 1) * self._seconds
