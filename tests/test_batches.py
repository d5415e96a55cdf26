"""Batches: streams cover the text, follow each other, and wrap as tutorial 3 does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elman.batches import Batch, StreamWindows
from elman.errors import InputError

lengths = st.integers(2, 300)
streams = st.integers(1, 40)
steps = st.integers(1, 60)
tails = st.sampled_from(["keep", "drop"])


def epoch(windows: StreamWindows) -> list[Batch]:
    return [windows.batch(step) for step in range(windows.steps_per_epoch)]


def scored(batch: Batch) -> np.ndarray:
    return batch.targets[batch.targets >= 0]


@given(N=lengths, B=streams, T=steps)
@example(N=2, B=1, T=1)
@example(N=2, B=7, T=9)
@settings(deadline=None)
def test_every_token_but_the_first_is_a_target_once_an_epoch_and_its_input_is_the_token_before(N, B, T):
    batches = epoch(StreamWindows(np.arange(N), B, T))
    assert sorted(np.concatenate([scored(batch) for batch in batches])) == list(range(1, N))
    for batch in batches:
        mask = batch.targets >= 0
        np.testing.assert_array_equal(batch.inputs[mask], batch.targets[mask] - 1)
        assert (batch.targets[~mask] == -1).all()
        assert batch.inputs.min() >= 0 and batch.inputs.max() < N
        assert batch.tokens == mask.sum()


@given(N=lengths, B=streams, T=steps, tail=tails)
@settings(deadline=None)
def test_windows_have_one_shape_and_only_the_last_of_an_epoch_may_be_shorter(N, B, T, tail):
    windows = StreamWindows(np.arange(N), B, T, tail)
    shapes = [batch.inputs.shape for batch in epoch(windows)]
    assert all(shape == (windows.seq_length, windows.batch_size) for shape in shapes[:-1])
    assert 1 <= shapes[-1][0] <= windows.seq_length <= T and shapes[-1][1] == windows.batch_size == min(B, N - 1)
    assert [batch.targets.shape for batch in epoch(windows)] == shapes


def test_a_window_is_as_long_as_asked_where_the_text_allows_it():
    windows = StreamWindows(np.arange(100), 3, 10)
    assert [batch.inputs.shape for batch in epoch(windows)] == [(10, 3), (10, 3), (10, 3), (3, 3)]


@given(N=lengths, B=streams, T=steps, tail=tails)
@settings(deadline=None)
def test_each_window_goes_on_where_the_one_before_ended_in_every_stream(N, B, T, tail):
    batches = epoch(StreamWindows(np.arange(N), B, T, tail))
    for before, after in itertools.pairwise(batches):
        going_on = after.targets[0] >= 0
        np.testing.assert_array_equal(after.inputs[0][going_on], before.targets[-1][going_on])
    inputs, targets = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("inputs", "targets"))
    for stream in range(inputs.shape[1]):
        mask = targets[:, stream] >= 0
        assert not np.any(np.diff(mask.astype(int)) > 0)  # what is missing stands at the end
        assert (np.diff(inputs[mask, stream]) == 1).all()


@given(N=lengths, B=streams, T=steps)
@settings(deadline=None)
def test_streams_share_the_text_evenly_and_in_order(N, B, T):
    batches = epoch(StreamWindows(np.arange(N), B, T))
    counts = sum((batch.targets >= 0).sum(axis=0) for batch in batches)
    assert counts.max() - counts.min() <= 1 and (np.diff(counts) <= 0).all()
    np.testing.assert_array_equal(batches[0].inputs[0], np.cumsum(counts) - counts)


@given(N=lengths, B=streams, T=steps, tail=tails)
@settings(deadline=None)
def test_streams_are_reset_in_the_first_window_of_an_epoch_only_and_epochs_repeat(N, B, T, tail):
    windows = StreamWindows(np.arange(N), B, T, tail)
    for step in range(3 * windows.steps_per_epoch):
        batch, first = windows.batch(step), step % windows.steps_per_epoch == 0
        assert batch.reset.dtype == bool and batch.reset.tolist() == [first] * windows.batch_size
        np.testing.assert_array_equal(batch.inputs, windows.batch(step % windows.steps_per_epoch).inputs)
        np.testing.assert_array_equal(batch.targets, windows.batch(step % windows.steps_per_epoch).targets)


@given(T=steps, more=st.integers(1, 300))
@example(T=25, more=1)  # one window, read again and again
@example(T=5, more=6)  # the last window would fit the text exactly, and tutorial 3 leaves it out
@settings(deadline=None)
def test_tail_drop_reads_the_windows_of_tutorial_3(T, more):
    N = T + more
    data = np.arange(N)
    windows = StreamWindows(data, 1, T, tail="drop")
    p = 0
    for n in range(50):
        reset = False
        if p + T + 1 >= N or n == 0:
            reset, p = True, 0
        batch = windows.batch(n)
        np.testing.assert_array_equal(batch.inputs[:, 0], data[p : p + T])
        np.testing.assert_array_equal(batch.targets[:, 0], data[p + 1 : p + T + 1])
        assert batch.reset.tolist() == [reset]
        p += T


@given(N=lengths, B=streams, T=steps)
@settings(deadline=None)
def test_tail_drop_reads_whole_windows_only_and_no_target_twice(N, B, T):
    windows = StreamWindows(np.arange(N), B, T, tail="drop")
    targets = np.concatenate([scored(batch) for batch in epoch(windows)])
    assert len(set(targets)) == len(targets) == windows.steps_per_epoch * windows.seq_length * windows.batch_size


def test_two_tokens_make_one_window_of_one_step():
    windows = StreamWindows(np.array([7, 3]), 32, 64)
    assert windows.steps_per_epoch == 1
    assert (windows.batch(5).inputs.tolist(), windows.batch(5).targets.tolist()) == ([[7]], [[3]])


@pytest.mark.parametrize("N", [0, 1])
def test_fewer_than_two_tokens_are_refused_with_their_number(N):
    with pytest.raises(InputError, match=f"at least 2 tokens.* has {N}$"):
        StreamWindows(np.arange(N), 1, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_small_unsigned_ids_are_widened_so_that_a_missing_target_is_minus_one(dtype):
    top = np.iinfo(dtype).max
    ids = np.array([top, 0, top - 1, top, 1], dtype)
    batch = StreamWindows(ids, 3, 2).batch(0)
    assert batch.inputs.dtype == batch.targets.dtype == np.int64
    assert batch.targets.tolist() == [[0, top, 1], [top - 1, -1, -1]]
    assert batch.inputs[0].tolist() == [top, top - 1, top]
