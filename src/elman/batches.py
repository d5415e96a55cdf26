"""TOKENS -> BATCHES: windows of T steps over B contiguous streams.

The text is cut into B streams that lie side by side; each step of training reads the next T tokens of every stream
and carries the recurrent state on, so that a stream is read as one long text (truncated back-propagation through
time). A batch is a pure function of the step's number, so the place in the data *is* that number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elman.errors import InputError


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


class StreamWindows:
    """All windows of an epoch over ids (N,), N 2 or more.

    Every token but the first is a target exactly once an epoch: the streams share the N - 1 targets evenly (the first
    ones have one more where the division leaves a rest, and -1 fills the others), and an epoch's last window may be
    shorter than T. A text with fewer targets than ``batch_size`` makes fewer streams.

    ``tail="drop"`` is the wrap rule of tutorial 3 instead: an epoch ends as soon as the next window would not leave
    one more token behind it (``p + T + 1 >= N``), and what is left is not read.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, seq_length: int, tail: str = "keep"):
        targets = len(ids) - 1
        if targets < 1:
            raise InputError(f"a text needs at least 2 tokens to learn from, this one has {len(ids)}")
        self.ids = ids
        self.batch_size = min(batch_size, targets)
        shortest, longer = divmod(targets, self.batch_size)
        lengths = np.full(self.batch_size, shortest)
        lengths[:longer] += 1
        self._starts = np.cumsum(lengths) - lengths
        self._ends = self._starts + lengths
        self._shortest = shortest
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
        positions = self._starts + np.arange(first, last + 1)[:, np.newaxis]  # (T + 1, B)
        ends = last > self._shortest  # some stream ends before this window
        block = self.ids[np.minimum(positions, self._ends) if ends else positions].astype(np.int64)
        inputs, targets = block[:-1], block[1:]
        if ends:
            scored = positions[:-1] < self._ends
            inputs, targets = np.where(scored, inputs, self.ids[0]), np.where(scored, targets, -1)
        return Batch(inputs, targets, np.full(self.batch_size, window == 0))
