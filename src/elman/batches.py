"""TOKENS -> BATCHES: windows of T steps over B streams of a text, or over its items.

A text is cut into B streams that lie side by side; each step of training reads the next T tokens of every stream
and carries the recurrent state on, so that a stream is read as one long text (truncated back-propagation through
time). Items are short texts of their own: each begins from the zero state. A batch is a pure function of the step's
number, so the place in the data *is* that number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from elman.errors import InputError


class Ids(Protocol):
    """The ids of a text, in memory or on disk: as many as its length, and arrays of them by slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Batch:
    """Ids to read and ids to predict, one token later: inputs and targets (T, B), targets -1 where nothing is scored.

    reset (B,) says which streams begin here, from the zero state.
    """

    inputs: np.ndarray
    targets: np.ndarray
    reset: np.ndarray

    @property
    def tokens(self) -> int:
        """How many targets are scored."""
        return int(np.count_nonzero(self.targets >= 0))


class Windows(Protocol):
    """All windows of an epoch over ``ids``; steps count from 0, and epochs follow each other without end."""

    ids: Ids
    batch_size: int
    seq_length: int
    steps_per_epoch: int
    targets: int  # scored in an epoch

    def batch(self, step: int) -> Batch:
        """The batch of a step."""


class StreamWindows:
    """All windows of an epoch over ids (N,), N 2 or more: B = ``batch_size`` streams, T = ``seq_length`` steps.

    Every token but the first is a target exactly once an epoch: the streams share the N - 1 targets evenly (the first
    ones have one more where the division leaves a rest, and -1 fills the others), and an epoch's last window may be
    shorter than T. A text with fewer targets than ``batch_size`` makes fewer streams.

    ``tail="drop"`` is the wrap rule of tutorial 3 instead: an epoch ends as soon as the next window would not leave
    one more token behind it (``p + T + 1 >= N``), and what is left is not read. Raises InputError for fewer than 2 ids.
    """

    def __init__(self, ids: Ids, batch_size: int, seq_length: int, tail: str = "keep"):
        self.targets = len(ids) - 1
        if self.targets < 1:
            raise InputError(f"a text needs at least 2 tokens to learn from, this one has {len(ids)}")
        self.ids = ids
        self.batch_size = min(batch_size, self.targets)
        shortest, longer = divmod(self.targets, self.batch_size)
        lengths = np.full(self.batch_size, shortest)
        lengths[:longer] += 1
        self._starts = np.cumsum(lengths) - lengths
        self._ends = self._starts + lengths
        longest = shortest + (longer > 0)
        self.seq_length = min(seq_length, longest if tail == "keep" else shortest)
        if tail == "keep":
            self._read = longest
        else:  # windows k = 0, 1, … with k·T + T < length, and at least one
            self._read = max(1, -(-(shortest - self.seq_length) // self.seq_length)) * self.seq_length
        self.steps_per_epoch = -(-self._read // self.seq_length)

    def batch(self, step: int) -> Batch:
        """The batch of a step, 0 the first; epochs follow each other without end."""
        window = step % self.steps_per_epoch
        first = window * self.seq_length
        last = min(first + self.seq_length, self._read)
        inputs, targets = _read(self.ids, self._starts, self._ends, first, last)
        return Batch(inputs, targets, np.full(self.batch_size, window == 0))


class ItemWindows:
    """All windows of an epoch over the items of ids (N,): what lies between two marks, say line ends.

    An item is read from the mark before it and predicted to the mark after it, from the zero state: every token but
    the first mark is a target exactly once an epoch. A batch has ``batch_size`` items, padded at their ends with -1 as
    targets. Items longer than ``seq_length`` take several windows, which carry the state on, and share batches with
    others that take as many. With a ``seed`` each epoch shuffles the items and the batches; ``most`` targets leave out
    the items behind them, but the first. Raises InputError where there are no two marks.
    """

    def __init__(
        self, ids: Ids, mark: int, batch_size: int, seq_length: int, seed: int | None = None, most: int | None = None
    ):
        marks = _positions(ids, mark)
        if len(marks) < 2:
            raise InputError("there is no item to learn from: an item stands between two line ends")
        if most is not None:
            marks = marks[: max(2, int(np.searchsorted(marks, marks[0] + most, side="right")))]
        self.ids = ids
        self._starts, self._ends = marks[:-1], marks[1:]
        self._lengths = self._ends - self._starts
        self.targets = int(self._lengths.sum())
        self.batch_size = min(batch_size, len(self._starts))
        self.seq_length = min(seq_length, int(self._lengths.max()))
        self._seed = seed
        self._windows_of_item = -(-self._lengths // self.seq_length)
        # Each batch has items of the same numbers of windows in every epoch, so that all epochs have as many steps.
        in_order = np.sort(self._windows_of_item)
        self._windows = np.maximum.reduceat(in_order, np.arange(0, len(in_order), self.batch_size))
        self.steps_per_epoch = int(self._windows.sum())
        self._epoch: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None

    def batch(self, step: int) -> Batch:
        """The batch of a step, 0 the first; epochs follow each other without end."""
        epoch, window = divmod(step, self.steps_per_epoch)
        items, groups, ends = self._order(epoch)
        place = int(np.searchsorted(ends, window, side="right"))
        group = groups[place]
        window -= int(ends[place] - self._windows[group])
        chosen = items[group * self.batch_size : (group + 1) * self.batch_size]
        first = window * self.seq_length
        last = min(first + self.seq_length, int(self._lengths[chosen].max()))
        inputs, targets = _read(self.ids, self._starts[chosen], self._ends[chosen], first, last, self.batch_size)
        return Batch(inputs, targets, np.full(self.batch_size, window == 0))

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The items, batch after batch; the order of the batches; and the window after each of these."""
        if self._epoch is None or self._epoch[0] != epoch:
            items, groups = np.arange(len(self._lengths)), np.arange(len(self._windows))
            if self._seed is not None:
                rng = np.random.default_rng([self._seed, epoch])
                rng.shuffle(items)
                rng.shuffle(groups)
            items = items[np.argsort(self._windows_of_item[items], kind="stable")]
            self._epoch = epoch, items, groups, np.cumsum(self._windows[groups])
        return self._epoch[1:]


_AT_ONCE = 1 << 20  # ids that are looked through in one piece


def _positions(ids: Ids, mark: int) -> np.ndarray:
    found = [start + np.flatnonzero(ids[start : start + _AT_ONCE] == mark) for start in range(0, len(ids), _AT_ONCE)]
    return np.concatenate(found or [np.empty(0, np.int64)])


def _read(
    ids: Ids, starts: np.ndarray, ends: np.ndarray, first: int, last: int, streams: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (T, B) of steps [first, last) of the streams that lie from starts to ends in the ids.

    Where a stream has ended, and in those beyond the given ones up to ``streams``, inputs are 0 and targets -1.
    """
    shape = (max(len(starts), streams), last - first)
    inputs, targets = np.zeros(shape, np.int64), np.full(shape, -1)
    for stream, (start, end) in enumerate(zip((starts + first).tolist(), ends.tolist(), strict=True)):
        run = ids[start : min(start + last - first, end) + 1]
        if len(run) > 1:
            inputs[stream, : len(run) - 1], targets[stream, : len(run) - 1] = run[:-1], run[1:]
    return np.ascontiguousarray(inputs.T), np.ascontiguousarray(targets.T)
