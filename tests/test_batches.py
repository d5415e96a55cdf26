"""Batches: streams cover the text, follow each other, and wrap as tutorial 3 does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elman.batches import Batch, ItemWindows, StreamWindows
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


# Items

MARK = 0
items = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=20), min_size=1, max_size=60)


def ids_of(some: list[list[int]]) -> np.ndarray:
    return np.array([MARK, *itertools.chain.from_iterable([*item, MARK] for item in some)])


def read_items(windows: ItemWindows, epoch: int = 0) -> list[list[int]]:
    """The items that an epoch reads, put together from its windows as the state is carried."""
    read, under_way = [], {}
    for step in range(epoch * windows.steps_per_epoch, (epoch + 1) * windows.steps_per_epoch):
        batch = windows.batch(step)
        assert batch.inputs.shape == batch.targets.shape == (len(batch.inputs), windows.batch_size)
        assert 1 <= len(batch.inputs) <= windows.seq_length and (batch.targets >= 0).any()
        assert batch.reset.all() or not batch.reset.any()
        if batch.reset.all():
            read += under_way.values()
            under_way = {}
        for stream in range(windows.batch_size):
            mask = batch.targets[:, stream] >= 0
            inputs, targets = batch.inputs[mask, stream].tolist(), batch.targets[mask, stream].tolist()
            assert (np.diff(mask.astype(int)) <= 0).all()  # padding stands at the end
            if batch.reset[stream] and inputs:
                assert inputs[0] == MARK
                under_way[stream] = []
            elif inputs:
                assert inputs[0] == under_way[stream][-1]
            if inputs:
                assert inputs[1:] == targets[:-1]
                under_way[stream] += targets
    read += under_way.values()
    assert all(item[-1] == MARK and MARK not in item[:-1] for item in read)
    return [item[:-1] for item in read]


@given(some=items, B=streams, T=st.integers(1, 25), seed=st.none() | st.integers(0, 5))
@settings(deadline=None)
def test_every_item_is_read_once_an_epoch_from_the_zero_state_and_padding_is_never_a_target(some, B, T, seed):
    windows = ItemWindows(ids_of(some), MARK, B, T, seed)
    assert windows.targets == sum(len(item) + 1 for item in some)
    assert windows.batch_size == min(B, len(some)) and windows.seq_length <= T
    for epoch in range(3):
        assert sorted(read_items(windows, epoch)) == sorted(some)


def test_items_are_shuffled_each_epoch_by_the_seed_alone():
    some = [[1 + i // 9, 1 + i % 9] for i in range(50)]
    first, second = (read_items(ItemWindows(ids_of(some), MARK, 4, 8, seed=3), epoch) for epoch in (0, 1))
    again, other = (read_items(ItemWindows(ids_of(some), MARK, 4, 8, seed), 0) for seed in (3, 4))
    assert first == again and first != second and first != other and first != some
    assert read_items(ItemWindows(ids_of(some), MARK, 4, 8), 1) == some


def test_items_that_take_as_many_windows_share_batches():
    some = [[1] * n for n in (1, 19, 2, 18, 1, 19, 2, 18)]
    for seed in range(5):
        windows = ItemWindows(ids_of(some), MARK, 2, 10, seed=seed)
        shapes = [len(windows.batch(step).inputs) for step in range(windows.steps_per_epoch)]
        assert sorted(shapes)[:2] in ([2, 3], [3, 3]) and sorted(shapes)[4:] == [10, 10]


def test_items_may_be_limited_but_for_the_first():
    some = [[1] * 5, [2] * 3, [3] * 4]
    for most, left in ((1, 1), (9, 1), (10, 2), (14, 2), (15, 3), (99, 3)):
        assert read_items(ItemWindows(ids_of(some), MARK, 1, 9, most=most)) == some[:left]


@pytest.mark.parametrize("ids", [[], [1, 2], [MARK], [1, MARK, 2]])
def test_without_two_marks_there_is_no_item(ids):
    with pytest.raises(InputError, match="an item stands between two line ends"):
        ItemWindows(np.array(ids, int), MARK, 2, 3)
