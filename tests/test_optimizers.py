"""Optimisers by hand on two small updates, clipping, norms and schedules."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest

from elman import schedules
from elman.errors import InputError
from elman.optimizers import (
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    RMSProp,
    clip_by_global_norm,
    clip_by_value,
    global_norm,
)

# w is 1, its gradient first 0.5, then -1, the learning rate 0.1. After the optimiser: its two steps, then its slots.
BY_HAND = {
    "sgd": (
        lambda: SGD(0.1),
        lambda w: w - 0.1 * 0.5,
        lambda w: w - 0.1 * -1,
        {"velocity": -1},
    ),
    "momentum": (
        lambda: SGD(0.1, momentum=0.9),
        lambda w: w - 0.1 * 0.5,
        lambda w: w - 0.1 * (0.9 * 0.5 - 1),
        {"velocity": -0.55},
    ),
    "adagrad": (
        lambda: Adagrad(0.1, epsilon=0.11),
        lambda w: w - 0.1 * 0.5 / 0.6,  # sqrt(0.25 + 0.11): epsilon inside the root
        lambda w: w - 0.1 * -1 / math.sqrt(0.25 + 1 + 0.11),
        {"sum_of_squares": 1.25},
    ),
    "rmsprop": (
        lambda: RMSProp(0.1, decay=0.75, epsilon=0.1),
        lambda w: w - 0.1 * 0.5 / (0.25 + 0.1),  # sqrt(0.25 · 0.25), then epsilon
        lambda w: w - 0.1 * -1 / (math.sqrt(0.75 * 0.0625 + 0.25) + 0.1),
        {"mean_square": 0.296875},
    ),
    "adam": (
        lambda: Adam(0.1, beta1=0.5, beta2=0.75, epsilon=0.1),
        lambda w: w - 0.1 * 0.5 / (0.5 + 0.1),  # corrected, the means are g and g²
        lambda w: w - 0.1 * (-0.375 / 0.75) / (math.sqrt(0.296875 / 0.4375) + 0.1),
        {"mean": -0.375, "mean_square": 0.296875},
    ),
    "adamw": (
        lambda: AdamW(0.1, beta1=0.5, beta2=0.75, epsilon=0.1, weight_decay=2),
        lambda w: 0.8 * w - 0.1 * 0.5 / (0.5 + 0.1),
        lambda w: 0.8 * w - 0.1 * (-0.375 / 0.75) / (math.sqrt(0.296875 / 0.4375) + 0.1),
        {"mean": -0.375, "mean_square": 0.296875},
    ),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BY_HAND)
def test_two_updates_equal_those_by_hand(name, dtype):
    make, first, second, slots = BY_HAND[name]
    optimizer, w = make(), np.array([[1.0], [-3.0]], dtype)
    gradients = np.array([0.5], dtype), np.array([-1.0], dtype)
    assert all(not slot for slot in optimizer.slots.values())
    for step, gradient in enumerate(gradients):
        parameters = {"w": w, "still": np.ones(3, dtype)}
        optimizer.update(parameters, {"w": np.broadcast_to(gradient, w.shape), "still": np.zeros(3, dtype)})
        expected = [first(1), first(-3)] if step == 0 else [second(first(1)), second(first(-3))]
        np.testing.assert_allclose(w.ravel(), expected, rtol=2e-7 if dtype == "float32" else 1e-15)
        decay = 0.8 if name == "adamw" else 1
        np.testing.assert_allclose(parameters["still"], decay, rtol=1e-6)  # a parameter does not see another's slots
    assert optimizer.steps == 2
    assert optimizer.slots.keys() == slots.keys()
    for slot, value in slots.items():
        np.testing.assert_allclose(optimizer.slots[slot]["w"], np.full((2, 1), value), rtol=2e-7)
        assert optimizer.slots[slot]["w"].dtype == dtype
        assert not optimizer.slots[slot]["still"].any()


@every_optimizer
def test_an_update_is_in_place_and_leaves_the_gradients_alone(name):
    rng = np.random.default_rng(0)
    parameters = {"W": rng.standard_normal((3, 4)), "b": rng.standard_normal(3)}
    gradients = {"W": np.asfortranarray(rng.standard_normal((3, 4))), "b": rng.standard_normal(3)}
    arrays, kept = dict(parameters), copy.deepcopy(gradients)
    before = copy.deepcopy(parameters)
    OPTIMIZERS[name]().update(parameters, gradients)
    for key in parameters:
        assert parameters[key] is arrays[key]
        assert (parameters[key] != before[key]).all()
        assert np.array_equal(gradients[key], kept[key])


@every_optimizer
def test_a_given_learning_rate_counts_for_that_update(name):
    w, other = {"w": np.ones(3)}, {"w": np.ones(3)}
    g = {"w": np.array([0.5, -1, 2])}
    one, two = OPTIMIZERS[name](learning_rate=0.5), OPTIMIZERS[name](learning_rate=0.01)
    one.update(w, g, learning_rate=0.01)
    two.update(other, g)
    assert np.array_equal(w["w"], other["w"])
    one.update(w, g)
    two.update(other, g, learning_rate=0.5)
    assert np.array_equal(w["w"], other["w"])
    stays = {"w": np.ones(3)}
    OPTIMIZERS[name]().update(stays, g, learning_rate=0.0)  # the end of a linear schedule
    assert (stays["w"] == 1).all()


@every_optimizer
def test_slots_and_steps_are_all_the_memory_there_is(name):
    rng = np.random.default_rng(1)
    gradients = [{"w": rng.standard_normal(4)} for _ in range(6)]
    whole, halves = {"w": np.ones(4)}, {"w": np.ones(4)}
    optimizer, first, second = (OPTIMIZERS[name](learning_rate=0.1) for _ in "123")
    for gradient in gradients:
        optimizer.update(whole, gradient)
    for gradient in gradients[:3]:
        first.update(halves, gradient)
    second.steps, second.slots = first.steps, copy.deepcopy(first.slots)
    for gradient in gradients[3:]:
        second.update(halves, gradient)
    assert np.array_equal(whole["w"], halves["w"])


def test_adagrad_without_epsilon_leaves_an_entry_without_gradients_alone():
    w = {"w": np.array([1.0, 2.0])}
    Adagrad(0.1, epsilon=0).update(w, {"w": np.array([0.0, 4.0])})
    np.testing.assert_allclose(w["w"], [1.0, 1.9], rtol=1e-15)


@every_optimizer
def test_bad_settings_are_refused_by_name(name):
    bad = [(setting, value) for setting in ("learning_rate", "epsilon") for value in (-1, math.nan, math.inf)]
    bad += [("learning_rate", 0), ("weight_decay", -0.1), ("weight_decay", math.nan)]
    bad += [(setting, value) for setting in ("momentum", "decay", "beta1", "beta2") for value in (-0.1, 1, math.nan)]
    own = [pair for pair in bad if hasattr(OPTIMIZERS[name](), pair[0])]
    assert len(own) >= 4
    for setting, value in own:
        with pytest.raises(InputError, match=f"{setting} must be a number .*, not {value!r}"):
            OPTIMIZERS[name](**{setting: value})


def test_a_setting_that_is_no_number_is_refused():
    for make in OPTIMIZERS.values():
        with pytest.raises(InputError, match=r"learning_rate must be a number above 0, not '0\.1'"):
            make(learning_rate="0.1")


# Clipping


def test_clip_by_value_cuts_in_place():
    a, b = np.array([[-7.0, -5.0], [5.0, 0.25]]), np.array([math.inf, -math.inf, math.nan, 6], np.float32)
    clip_by_value({"a": a, "b": b}, 5.0)
    assert a.tolist() == [[-5, -5], [5, 0.25]]
    np.testing.assert_array_equal(b, [5, -5, math.nan, 5])


def test_clip_by_global_norm_scales_all_by_one_factor_and_returns_the_norm_before():
    a, b = np.array([[3.0], [0.0]]), np.array([0.0, -4.0], np.float32)
    assert clip_by_global_norm({"a": a, "b": b}, 1.0) == 5
    np.testing.assert_allclose(a, [[0.6], [0]], rtol=1e-6)
    np.testing.assert_allclose(b, [0, -0.8], rtol=1e-6)
    assert global_norm({"a": a, "b": b}) == pytest.approx(1, rel=1e-6)
    assert global_norm({"a": a, "b": b}) <= 1


@pytest.mark.parametrize("limit", [5.0001, 6.0, 1e30, math.inf])
def test_a_norm_below_the_limit_leaves_the_bytes_alone(limit):
    gradients = {"a": np.array([3.0]), "b": np.array([4.0], np.float32)}
    before = [gradient.tobytes() for gradient in gradients.values()]
    assert clip_by_global_norm(gradients, limit) == 5
    assert [gradient.tobytes() for gradient in gradients.values()] == before
    assert clip_by_global_norm({"a": np.zeros(3)}, 1.0) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_norm_that_is_not_finite_is_returned_as_such(dtype):
    for entry in (math.inf, -math.inf, math.nan):
        gradients = {"a": np.ones(3, dtype), "b": np.array([1, entry], dtype)}
        expected = math.nan if math.isnan(entry) else math.inf
        np.testing.assert_equal(global_norm(gradients), expected)
        with np.errstate(invalid="ignore"):
            np.testing.assert_equal(clip_by_global_norm(gradients, 1.0), expected)
    np.testing.assert_equal(global_norm({"a": np.array([math.inf], dtype), "b": np.array([math.nan], dtype)}), math.nan)


def test_the_norm_of_entries_whose_squares_overflow_float32_is_right():
    gradients = {"a": np.full((2, 2), 3e30, np.float32), "b": np.asfortranarray(np.full((4, 3), -3e30, np.float32))}
    assert global_norm(gradients) == pytest.approx(1.2e31, rel=1e-6)
    clip_by_global_norm(gradients, 2.0)
    np.testing.assert_allclose(gradients["a"], 0.5, rtol=1e-5)
    np.testing.assert_allclose(gradients["b"], -0.5, rtol=1e-5)


def test_the_norm_of_entries_whose_squares_overflow_float64_is_right():
    assert global_norm({"a": np.array([3e200, 4e200])}) == pytest.approx(5e200, rel=1e-12)


def test_a_limit_that_is_not_above_0_is_refused():
    for clip, limit in itertools.product((clip_by_value, clip_by_global_norm), (0.0, -1.0, math.nan)):
        with pytest.raises(InputError):
            clip({"a": np.array([3.0, 1.0])}, limit)


# Schedules


@pytest.mark.parametrize(
    ("schedule", "at"),
    [
        ("constant", {0: 1, 0.25: 1, 0.5: 1, 1: 1}),
        ("linear", {0: 1, 0.25: 0.75, 0.5: 0.5, 1: 0}),
        ("cosine", {0: 1, 0.25: 0.5 + math.sqrt(0.125), 0.5: 0.5, 1: 0}),
        ("halving", {0: 1, 3.99 / 13: 1, 4 / 13: 0.5, 4.99 / 13: 0.5, 5 / 13: 0.25, 12 / 13: 0.5**9, 1: 0.5**10}),
    ],
)
def test_a_schedule_at_the_start_the_middle_and_the_end(schedule, at):
    assert set(schedules.SCHEDULES) == {"constant", "linear", "cosine", "halving"}
    for progress, factor in at.items():
        assert schedules.SCHEDULES[schedule](progress) == pytest.approx(factor, abs=1e-15)
        assert schedules.learning_rate(schedule, 0.2, progress) == pytest.approx(0.2 * factor, abs=1e-15)
    assert schedules.learning_rate(schedule, 0.2, -0.5) == 0.2  # progress is cut to 0 … 1
    assert schedules.learning_rate(schedule, 0.2, 7.0) == pytest.approx(0.2 * at[1], abs=1e-15)


def test_a_warm_up_rises_in_a_line_and_multiplies_the_schedule():
    rates = [schedules.learning_rate("constant", 0.2, 0.1, step, warmup_steps=4) for step in range(6)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2], rel=1e-15)
    assert schedules.learning_rate("linear", 0.2, 0.5, 1, warmup_steps=4) == pytest.approx(0.2 * 0.5 * 0.5)
    assert schedules.learning_rate("cosine", 0.2, 0.5, 9, warmup_steps=0) == pytest.approx(0.1)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(InputError, match="cosine"):
        schedules.learning_rate("cosin", 0.1, 0.5)


def test_numbers_of_numpy_are_numbers_and_a_truth_is_not():
    assert SGD(np.float32(0.1)).learning_rate == np.float32(0.1)
    with pytest.raises(InputError, match="learning_rate"):
        SGD(True)
    with pytest.raises(InputError, match="learning_rate"):
        SGD(0.1).update({"w": np.ones(1)}, {"w": np.ones(1)}, learning_rate="1")


def test_clipping_leaves_gradients_alone_whose_norm_is_not_finite():
    gradients = {"w": np.array([1.0, np.inf])}
    assert clip_by_global_norm(gradients, 1.0) == np.inf
    assert gradients["w"].tolist() == [1.0, np.inf]
