"""Layers and the language model: time runs one way, state carries over, names and shapes hold, wrong input is refused.

Run as a script, this file writes golden/parameters.json anew.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import elman
from conftest import open_layer, parts_of
from elman import LanguageModel, ModelConfig, SampleConfig
from elman.cells import CELLS
from elman.errors import InputError, KernelError, ModelFileError
from elman.layers import dropout, stack
from elman.models import language_model

GOLDEN = Path(__file__).parent / "golden" / "parameters.json"
INPUTS = {"one-hot": {}, "embedding": {"embedding_size": 5}, "tied": {"embedding_size": 8, "tie_weights": True}}
all_cells = pytest.mark.parametrize("cell", CELLS)
both_depths = pytest.mark.parametrize("L", [1, 2])
V, H = 7, 8


def model(cell="gru", num_layers=2, seed=0, **options):
    return LanguageModel(ModelConfig(V, cell, H, num_layers, **{"dtype": "float64"} | options), seed=seed)


def ids_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, V, shape)


def assert_same_state(state, other, atol=0.0):
    for part, other_part in zip(parts_of(state), parts_of(other), strict=True):
        np.testing.assert_allclose(part, other_part, rtol=0, atol=atol)


# Time


@both_depths
@all_cells
def test_a_future_token_changes_no_earlier_logit_and_no_other_stream(cell, L):
    lm, inputs = model(cell, L, embedding_size=4), ids_of(6, 2)
    logits, _ = lm.forward(inputs)
    for t in range(6):
        changed = inputs.copy()
        changed[t, 0] = (changed[t, 0] + 1) % V
        changed_logits, _ = lm.forward(changed)
        assert np.array_equal(changed_logits[:t], logits[:t])
        assert np.array_equal(changed_logits[:, 1], logits[:, 1])
        assert (changed_logits[t:, 0] != logits[t:, 0]).any(axis=1).all()  # and every later one hears of it


@both_depths
@all_cells
def test_a_model_step_by_step_equals_the_whole_sequence(cell, L):
    lm, inputs = model(cell, L), ids_of(9, 2)
    whole, last = lm.forward(inputs)
    net, alone, state = lm.stepper(), lm.stepper(), None
    for t in range(9):
        logits, state = lm.step(inputs[t], state)
        assert logits.shape == (2, V)
        np.testing.assert_allclose(logits, whole[t], rtol=0, atol=1e-12)
        np.testing.assert_allclose(net.step(inputs[t]), whole[t], rtol=0, atol=1e-12)
        scores = alone.step(int(inputs[t, 1]))  # one stream, one id, as in the tutorials
        assert scores.shape == (V,)
        np.testing.assert_allclose(scores, whole[t, 1], rtol=0, atol=1e-12)
    assert_same_state(state, last, 1e-12)
    assert_same_state(net.state, last, 1e-12)
    net.state = None
    np.testing.assert_allclose(net.step(inputs[0]), whole[0], rtol=0, atol=1e-12)


@both_depths
@all_cells
def test_a_layer_step_by_step_equals_the_whole_sequence(cell, L):
    layer = open_layer(cell, 4, 3, L, dtype="float64")
    x = np.random.default_rng(1).standard_normal((9, 2, 4))
    whole, last, _ = layer(x)
    rnn, alone, state = layer.stepper(), layer.stepper(), None
    for t in range(9):
        y, state = layer.step(x[t], state)
        assert y.shape == (2, 3)
        np.testing.assert_allclose(y, whole[t], rtol=0, atol=1e-12)
        np.testing.assert_allclose(rnn.step(x[t]), whole[t], rtol=0, atol=1e-12)
        y = alone.step(x[t, 1])
        assert y.shape == (3,)
        np.testing.assert_allclose(y, whole[t, 1], rtol=0, atol=1e-12)
    assert_same_state(state, last, 1e-12)
    assert_same_state(rnn.state, last, 1e-12)


@all_cells
def test_two_stacked_steppers_equal_two_layers(cell):
    both = open_layer(cell, 4, 3, 2, dtype="float64")
    lower, upper = open_layer(cell, 4, 3, dtype="float64", seed=1), open_layer(cell, 3, 3, dtype="float64", seed=2)
    for number, one in enumerate((lower, upper)):
        for name in one.parameters:
            one.parameters[name][...] = both.parameters[name.replace("0", str(number))]
    x = np.random.default_rng(2).standard_normal((8, 4))
    whole, _, _ = both(x[:, np.newaxis])
    rnn1, rnn2 = lower.stepper(), upper.stepper()
    for t in range(8):
        y1 = rnn1.step(x[t])
        y = rnn2.step(y1)
        np.testing.assert_allclose(y, whole[t, 0], rtol=0, atol=1e-12)


@both_depths
@all_cells
def test_two_half_windows_equal_one_whole(cell, L):
    lm, inputs, targets = model(cell, L), ids_of(10, 3), ids_of(10, 3, seed=1)
    whole, last = lm.forward(inputs)
    first, middle = lm.forward(inputs[:4])
    second, end = lm.forward(inputs[4:], middle)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-12)
    assert_same_state(end, last, 1e-12)

    loss, _, last = lm.loss_and_gradients(inputs, targets, reduction="sum")
    first_loss, _, middle = lm.loss_and_gradients(inputs[:4], targets[:4], reduction="sum")
    second_loss, _, end = lm.loss_and_gradients(inputs[4:], targets[4:], middle, reduction="sum")
    assert first_loss + second_loss == pytest.approx(loss, rel=1e-12)
    assert_same_state(end, last, 1e-12)

    layer = open_layer(cell, 4, 3, L, dtype="float64")
    x = np.random.default_rng(3).standard_normal((10, 2, 4))
    whole, last, _ = layer(x)
    first, middle, _ = layer(x[:4])
    second, end, _ = layer(x[4:], middle)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-12)
    assert_same_state(end, last, 1e-12)


@both_depths
@all_cells
def test_a_state_is_h_or_h_and_c_of_layers_batch_hidden(cell, L):
    count = 2 if cell == "lstm" else 1
    for dtype, owner in itertools.product(("float32", "float64"), (model, open_layer)):
        made = owner(cell, L, dtype=dtype) if owner is model else owner(cell, 4, H, L, dtype=dtype)
        after = made.forward(ids_of(5, 2))[1] if owner is model else made(np.zeros((5, 2, 4)))[1]
        for state in (made.initial_state(2), after):
            assert isinstance(state, tuple) == (count == 2)
            assert [(part.shape, part.dtype) for part in parts_of(state)] == [((L, 2, H), dtype)] * count
        assert not any(part.any() for part in parts_of(made.initial_state(2)))
        assert all(part.all() for part in parts_of(after)) or cell == "rnn-relu"


@all_cells
def test_a_forward_leaves_the_given_state_alone(cell):
    lm = model(cell)
    _, state = lm.forward(ids_of(3, 2))
    before = [part.tobytes() for part in parts_of(state)]
    lm.loss_and_gradients(ids_of(4, 2), ids_of(4, 2), state)
    assert [part.tobytes() for part in parts_of(state)] == before


# The variant of each cell, for machines without PyTorch


def one_step_by_hand(cell, parameters, x, h, c):
    def s(a):
        return 1 / (1 + np.exp(-a))

    def x_part(gate):
        return parameters["layers.0.W_xh"][gate * H : (gate + 1) * H] @ x + parameters["layers.0.b_h"][gate * H :][:H]

    def h_part(gate):
        return parameters["layers.0.W_hh"][gate * H : (gate + 1) * H] @ h

    if cell == "gru":
        r, z = s(x_part(0) + h_part(0)), s(x_part(1) + h_part(1))
        n = np.tanh(x_part(2) + r * (h_part(2) + parameters["layers.0.b_hn"]))
        return ((1 - z) * n + z * h,)
    if cell == "lstm":
        i, f, o = (s(x_part(gate) + h_part(gate)) for gate in (0, 1, 3))
        c = f * c + i * np.tanh(x_part(2) + h_part(2))
        return o * np.tanh(c), c
    a = x_part(0) + h_part(0)
    return (np.tanh(a) if cell == "rnn" else np.where(a > 0, a, 0),)


@all_cells
def test_one_step_of_a_cell_equals_its_equations(cell):
    layer, rng = open_layer(cell, 4, H, dtype="float64"), np.random.default_rng(0)
    x, h, c = rng.standard_normal((3, 4)), *rng.standard_normal((2, 1, 3, H))
    y, after = layer.step(x, (h, c) if cell == "lstm" else h)
    for b in range(3):
        by_hand = one_step_by_hand(cell, layer.parameters, x[b], h[0, b], c[0, b])
        np.testing.assert_allclose(y[b], by_hand[0], rtol=0, atol=1e-14)
        for part, hand_part in zip(parts_of(after), by_hand, strict=True):
            np.testing.assert_allclose(part[0, b], hand_part, rtol=0, atol=1e-14)


# Parameters


def shapes_of(cell, kind, num_layers):
    return {name: str(array.shape) for name, array in model(cell, num_layers, **INPUTS[kind]).parameters.items()}


def golden_now():
    return {
        cell: {
            f"{kind}, {num_layers} layer{'s' * (num_layers > 1)}": shapes_of(cell, kind, num_layers)
            for kind in INPUTS
            for num_layers in (1, 2)
        }
        for cell in CELLS
    }


def test_names_and_shapes_of_parameters_are_those_of_every_saved_model():
    advice = (
        "every saved model has the old names and shapes; if the change is meant: python tests/test_language_model.py"
    )
    assert json.dumps(golden_now(), indent=1) + "\n" == GOLDEN.read_text(encoding="utf-8"), advice


@both_depths
@all_cells
def test_a_layer_drops_the_prefix_of_its_parameters(cell, L):
    in_model = shapes_of(cell, "embedding", L)
    layer = open_layer(cell, 5, H, L)
    assert {f"recurrent.{name}": str(array.shape) for name, array in layer.parameters.items()} == {
        name: shape for name, shape in in_model.items() if name.startswith("recurrent.")
    }
    lm = model(cell, L, embedding_size=5)
    assert lm.num_parameters == sum(array.size for array in lm.parameters.values())


@pytest.mark.parametrize("initialization", ["uniform", "normal-0.01"])
@pytest.mark.parametrize("kind", INPUTS)
@all_cells
def test_the_forget_bias_starts_at_1_and_nothing_else_does(cell, kind, initialization):
    for name, array in model(cell, initialization=initialization, **INPUTS[kind]).parameters.items():
        ones = np.zeros(array.shape, bool)
        if cell == "lstm" and name.endswith("b_h"):
            ones[H : 2 * H] = True  # gate order i, f, g, o
        assert np.array_equal(array == 1, ones), name


@all_cells
def test_initial_parameters_have_the_spread_of_their_initialization(cell):
    for kind in ({"embedding_size": None}, {"embedding_size": 64}, {"embedding_size": 64, "tie_weights": True}):
        for initialization in ("uniform", "normal-0.01", "uniform-0.1"):
            lm = LanguageModel(ModelConfig(50, cell, 64, 2, initialization=initialization, **kind))
            for name, array in lm.parameters.items():
                is_one = cell == "lstm" and name.endswith("b_h") and initialization != "uniform-0.1"
                start = np.delete(array, np.s_[64:128]) if is_one else array
                if initialization == "uniform-0.1":
                    assert np.abs(start).max() <= 0.1
                    expected = 0.1 / np.sqrt(3)
                elif initialization == "normal-0.01":
                    expected = 0.0 if "b_" in name else 0.01
                elif name == "embedding.E" and not kind.get("tie_weights"):
                    expected = 1.0
                else:
                    assert np.abs(start).max() <= 1 / 8  # 1/sqrt(H)
                    expected = 1 / 8 / np.sqrt(3)
                assert start.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * start.size)), name
                assert abs(start.mean()) <= 5 * expected / np.sqrt(start.size), name


@all_cells
def test_parameters_are_drawn_from_the_seed_alone(cell):
    before = np.random.get_state()[1].tobytes()
    one, same, other = (model(cell, seed=seed, embedding_size=4).parameters for seed in (1, 1, 2))
    assert all(one[name].tobytes() == same[name].tobytes() for name in one)
    assert not any(np.array_equal(one[name], other[name]) for name in one)
    layer, same_layer, other_layer = (open_layer(cell, 4, 3, seed=seed).parameters for seed in (1, 1, 2))
    assert all(layer[name].tobytes() == same_layer[name].tobytes() for name in layer)
    assert not any(np.array_equal(layer[name], other_layer[name]) for name in layer)
    assert np.random.get_state()[1].tobytes() == before


@pytest.mark.parametrize("kind", INPUTS)
@all_cells
def test_the_dtype_follows_the_config_and_both_start_alike(cell, kind):
    single, double = (model(cell, dtype=dtype, **INPUTS[kind]) for dtype in ("float32", "float64"))
    for lm, dtype in ((single, "float32"), (double, "float64")):
        assert {array.dtype for array in lm.parameters.values()} == {np.dtype(dtype)}
        assert lm.forward(ids_of(3, 2))[0].dtype == dtype
        assert lm.losses(ids_of(3, 2), ids_of(3, 2))[0].dtype == dtype
        assert isinstance(lm.loss_and_gradients(ids_of(3, 2), ids_of(3, 2))[0], float)
    for name, array in double.parameters.items():
        assert np.array_equal(array.astype(np.float32), single.parameters[name]), name
    np.testing.assert_allclose(single.forward(ids_of(9, 2))[0], double.forward(ids_of(9, 2))[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", INPUTS)
@all_cells
def test_changing_or_replacing_a_parameter_changes_the_logits(cell, kind):
    inputs = np.arange(V).repeat(3)[:, np.newaxis]  # every id, so that every row is used
    for name in model(cell, **INPUTS[kind]).parameters:
        lm = model(cell, **INPUTS[kind])
        before = lm.forward(inputs)[0]
        lm.parameters[name][...] += 0.1
        changed = lm.forward(inputs)[0]
        assert not np.array_equal(changed, before), name
        lm.parameters[name] = lm.parameters[name] - 0.1
        np.testing.assert_allclose(lm.forward(inputs)[0], before, rtol=0, atol=1e-12)


def test_a_model_takes_the_given_parameters_and_refuses_others():
    lm = model(seed=3)
    again = LanguageModel(lm.config, parameters=lm.parameters)
    assert all(again.parameters[name] is array for name, array in lm.parameters.items())
    b_y = lm.parameters["output.b_y"]
    without = {name: array for name, array in lm.parameters.items() if name != "output.b_y"}
    for parameters, message in (
        (without, "the parameter output.b_y is missing"),
        (lm.parameters | {"output.b_z": b_y}, "unknown parameter output.b_z"),
        (lm.parameters | {"output.b_y": b_y[:-1]}, r"output.b_y is float64 \(6,\), but the config says float64 \(7,\)"),
        (lm.parameters | {"output.b_y": b_y.astype(np.float32)}, r"output.b_y is float32 \(7,\)"),
    ):
        with pytest.raises(ModelFileError, match=message):
            LanguageModel(lm.config, parameters=parameters)


# Losses


@pytest.mark.parametrize("kind", INPUTS)
@all_cells
def test_losses_are_minus_the_logarithm_of_the_softmax_at_the_target(cell, kind):
    lm, inputs, targets = model(cell, **INPUTS[kind]), ids_of(5, 3), ids_of(5, 3, seed=1)
    targets[2, 1] = targets[4, 0] = -1
    _, state = lm.forward(ids_of(2, 3, seed=2))
    logits, _ = lm.forward(inputs, state)
    nats, after = lm.losses(inputs, targets, state)
    for t, b in np.ndindex(5, 3):
        p = np.exp(logits[t, b]) / np.exp(logits[t, b]).sum()
        assert nats[t, b] == (0 if targets[t, b] == -1 else pytest.approx(-np.log(p[targets[t, b]]), rel=1e-12))
    mean, _, mean_after = lm.loss_and_gradients(inputs, targets, state)
    total, _, _ = lm.loss_and_gradients(inputs, targets, state, reduction="sum")
    assert total == pytest.approx(nats.sum(), rel=1e-14)
    assert mean == pytest.approx(nats.sum() / 13, rel=1e-14)
    assert_same_state(mean_after, after)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_of_huge_logits_are_exact_and_finite(dtype):
    lm = model(dtype=dtype)
    lm.parameters["output.b_y"][...] = [1e30, -1e30, 1e30, 0, 0, 0, 0]
    targets = np.array([[0, 1, 2, 3, -1]])
    expected = [np.log(2), 2e30, np.log(2), 1e30, 0]
    np.testing.assert_allclose(lm.losses(ids_of(1, 5), targets)[0], [expected], rtol=1e-6)
    loss, gradients, _ = lm.loss_and_gradients(ids_of(1, 5), targets, reduction="sum")
    assert loss == pytest.approx(sum(expected), rel=1e-6)
    # (p - one_hot), summed over the four: p is 1/2 at 0 and 2
    np.testing.assert_allclose(gradients["output.b_y"], [1, -1, 1, -1, 0, 0, 0], atol=1e-6)


@all_cells
def test_the_mean_scales_the_gradients_of_the_sum_and_a_target_of_minus_1_adds_nothing(cell):
    lm, inputs, targets = model(cell), ids_of(5, 3), ids_of(5, 3, seed=1)
    targets[3:] = -1
    _, mean, _ = lm.loss_and_gradients(inputs, targets)
    _, total, _ = lm.loss_and_gradients(inputs, targets, reduction="sum")
    _, short, _ = lm.loss_and_gradients(inputs[:3], targets[:3], reduction="sum")
    for name in lm.parameters:
        np.testing.assert_allclose(mean[name] * 9, total[name], rtol=1e-12, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(short[name], total[name], rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("held", [1 << 22, 40])  # the second: more pieces than tokens of one piece
@all_cells
def test_score_equals_the_losses_of_one_pass(cell, held, monkeypatch):
    monkeypatch.setattr(language_model, "_SCORED_AT_ONCE", held)
    lm, ids = model(cell), ids_of(1500)
    nats, _ = lm.losses(ids[:-1, np.newaxis], ids[1:, np.newaxis])
    score = lm.score(ids)
    assert score.shape == (1499,)
    np.testing.assert_allclose(score, nats[:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(lm.score(ids[:2]), nats[:1, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("held", [1 << 22, 200])
@pytest.mark.parametrize("window", [1, 7, 10, 49, 50, 1000])
@all_cells
def test_score_in_windows_starts_each_from_zero(cell, window, held, monkeypatch):
    monkeypatch.setattr(language_model, "_SCORED_AT_ONCE", held)
    lm, ids = model(cell), ids_of(51)
    by_hand = []
    for start in range(0, 50, window):
        stop = min(start + window, 50)
        by_hand.append(lm.losses(ids[start:stop, np.newaxis], ids[start + 1 : stop + 1, np.newaxis])[0][:, 0])
    np.testing.assert_allclose(lm.score(ids, window), np.concatenate(by_hand), rtol=0, atol=1e-12)
    if window >= 50:
        np.testing.assert_allclose(lm.score(ids, window), lm.score(ids), rtol=0, atol=1e-12)


# Dropout


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_keeps_the_mean_and_its_backward_has_the_same_mask(probability, dtype):
    x = np.full((100, 20, 50), 3, dtype)
    y, backward = dropout.forward(x, probability, np.random.default_rng(0))
    assert y.dtype == dtype
    kept = 3 / (1 - probability)
    assert set(np.unique(y)) <= {0, y.max()}
    assert y.max() == pytest.approx(kept, rel=1e-6)
    sigma = 3 * np.sqrt(probability / (1 - probability) / x.size)
    assert abs(y.mean(dtype=np.float64) - 3) <= 5 * sigma + 1e-6
    assert np.array_equal(backward(x), y)


@both_depths
@all_cells
def test_dropout_acts_only_with_an_rng_and_never_on_scores(cell, L):
    dropped, plain = model(cell, L, dropout=0.5), model(cell, L)
    inputs, targets = ids_of(6, 2), ids_of(6, 2, seed=1)
    assert np.array_equal(dropped.forward(inputs)[0], plain.forward(inputs)[0])
    assert np.array_equal(dropped.score(inputs[:, 0]), plain.score(inputs[:, 0]))
    assert np.array_equal(dropped.score(inputs[:, 0], window=2), plain.score(inputs[:, 0], window=2))
    expected, unused = plain.loss_and_gradients(inputs, targets)[0], np.random.default_rng(1)
    assert dropped.loss_and_gradients(inputs, targets)[0] == expected
    assert plain.loss_and_gradients(inputs, targets, rng=unused)[0] == expected
    assert unused.random() == np.random.default_rng(1).random()  # without dropout nothing is drawn
    one, same, other = (
        dropped.loss_and_gradients(inputs, targets, rng=np.random.default_rng(seed))[0] for seed in (1, 1, 2)
    )
    assert one == same
    assert len({one, other, expected}) == 3


@all_cells
def test_dropout_leaves_the_recurrent_connections_of_the_first_layer_alone(cell):
    dropped = model(cell, dropout=0.5)
    _, state = dropped.forward(ids_of(6, 2))
    _, _, dropped_state = dropped.loss_and_gradients(ids_of(6, 2), ids_of(6, 2), rng=np.random.default_rng(1))
    for part, dropped_part in zip(parts_of(state), parts_of(dropped_state), strict=True):
        assert np.array_equal(part[0], dropped_part[0])
        assert not np.array_equal(part[1], dropped_part[1])


@all_cells
def test_a_stream_of_some_length_is_what_it_would_be_alone(cell):
    rng, lengths = np.random.default_rng(0), [5, 1, 3]
    layer = open_layer(cell, 4, 3, 2, dtype="float64", kernel="numpy")
    x, d_outputs = rng.standard_normal((5, 3, 4)), rng.standard_normal((5, 3, 3))
    first, d_last = (tuple(rng.standard_normal((2, 3, 3)) for _ in CELLS[cell].states) for _ in "12")
    outputs, last, backward = layer(x, stack.public_state(first), lengths)
    d_x, d_first, gradients = backward(d_outputs, stack.public_state(d_last))
    sums = {name: np.zeros_like(array) for name, array in gradients.items()}
    for b, length in enumerate(lengths):

        def own(parts, b=b):
            return stack.public_state(tuple(part[:, b : b + 1] for part in parts))

        y, own_last, own_backward = layer(x[:length, b : b + 1], own(first))
        own_d_x, own_d_first, own_gradients = own_backward(d_outputs[:length, b : b + 1], own(d_last))
        pairs = [(outputs, y), (d_x, own_d_x)]
        for whole, alone in pairs:
            np.testing.assert_allclose(whole[:length, b : b + 1], alone, rtol=1e-12, atol=1e-14)
            assert not whole[length:, b].any()
        for whole, alone in ((last, own_last), (d_first, own_d_first)):
            for part, own_part in zip(parts_of(own(parts_of(whole))), parts_of(alone), strict=True):
                np.testing.assert_allclose(part, own_part, rtol=1e-12, atol=1e-14)
        for name, gradient in own_gradients.items():
            sums[name] += gradient
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, sums[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([2], "3 whole numbers, one a stream, not int64 (1,)"),
        ([1, 2, 0], "from 1 to 5, not 0 to 2"),
        ([1, 2, 6], "from 1 to 5, not 1 to 6"),
        ([1.0, 2.0, 3.0], "3 whole numbers, one a stream, not float64 (3,)"),
    ],
)
def test_other_lengths_are_refused(lengths, words):
    with pytest.raises(InputError, match=re.escape(words)):
        open_layer("lstm", 2, 3)(np.zeros((5, 3, 2)), lengths=lengths)


@all_cells
def test_a_layers_dropout_lies_between_its_layers(cell):
    x = np.random.default_rng(0).standard_normal((5, 2, 4))
    for L, acts in ((1, False), (2, True)):
        layer = open_layer(cell, 4, 3, L, dropout=0.5)
        plain, random = layer(x)[0], layer(x, rng=np.random.default_rng(1))[0]
        assert np.array_equal(plain, random) == (not acts)
        assert random.all() or cell == "rnn-relu"  # the last layer's outputs are whole


# Threads


@all_cells
def test_four_threads_may_use_one_model(cell):
    lm = model(cell, embedding_size=4, dropout=0.2)

    def work(seed):
        inputs, targets = ids_of(20, 3, seed=seed), ids_of(20, 3, seed=seed + 100)
        loss, gradients, state = lm.loss_and_gradients(inputs, targets, rng=np.random.default_rng(seed))
        text = list(lm.generate(inputs[:, 0], SampleConfig(length=10, seed=seed)))
        scores = lm.score(inputs[:, 1], window=6).tobytes()
        parts = [part.tobytes() for part in parts_of(state)]
        return loss, [gradient.tobytes() for gradient in gradients.values()], parts, text, scores

    alone = [work(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(12))) == alone


# Refusals


def test_asking_for_a_native_kernel_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr("elman.kernels.available_kernels", lambda: ["numpy"])
    with pytest.raises(KernelError, match="native"):
        LanguageModel(ModelConfig(5), kernel="native")
    for cell in CELLS:
        with pytest.raises(KernelError, match="native"):
            open_layer(cell, 2, 3, kernel="native")


def test_an_unknown_kernel_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"no kernel 'nativ'; there are auto, numpy, native\. Did you mean native\?"):
        LanguageModel(ModelConfig(5), kernel="nativ")
    with pytest.raises(InputError, match="threads must be a whole number from 1 to 1024, not 0"):
        LanguageModel(ModelConfig(5), threads=0)
    assert LanguageModel(ModelConfig(5), kernel="numpy").kernel.NAME == "numpy"


@all_cells
def test_what_is_not_there_yet_says_so(cell):
    with pytest.raises(NotImplementedError, match="bidirectional layers are not part of this version; use"):
        open_layer(cell, 2, 3, bidirectional=True)


ONE = np.zeros((2, 3), int)
SCORING = ("losses", "loss_and_gradients")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.full((2, 3), -1), "ids must be from 0 to 6, not -1 to -1"),
        (np.array([[0, 1, 7]]), "ids must be from 0 to 6, not 0 to 7"),
        (np.zeros(3, int), r"inputs must be whole numbers of shape \(time, batch\), not int64 \(3,\)"),
        (np.zeros((2, 3)), r"inputs must be whole numbers .*, not float64 \(2, 3\)"),
        (np.zeros((2, 3), bool), r"inputs must be whole numbers .*, not bool \(2, 3\)"),
        (np.zeros((2, 3, 1), int), r"inputs must be whole numbers .*, not int64 \(2, 3, 1\)"),
        (np.zeros((0, 3), int), r"inputs must be whole numbers .*, not int64 \(0, 3\)"),
        (np.zeros((2, 0), int), r"inputs must be whole numbers .*, not int64 \(2, 0\)"),
    ],
)
def test_wrong_inputs_are_refused(inputs, message):
    lm = model()
    calls = [lm.forward]
    if inputs.size:
        targets = np.zeros(inputs.shape, int)
        calls += [functools.partial(getattr(lm, name), targets=targets) for name in SCORING]
    for call in calls:
        with pytest.raises(InputError, match=message):
            call(inputs)


def test_an_empty_window_is_refused():
    for name, shape in itertools.product(SCORING, ((0, 3), (2, 0))):
        with pytest.raises(InputError):
            getattr(model(), name)(np.zeros(shape, int), np.zeros(shape, int))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.full((2, 3), -2), "targets must be from 0 to 6, or -1 for not scored, not -2 to -2"),
        (np.full((2, 3), 7), "targets must be from 0 to 6, or -1 for not scored, not 7 to 7"),
        (np.zeros((2, 3)), r"targets must be whole numbers of the inputs' shape \(2, 3\), not float64 \(2, 3\)"),
        (np.zeros((3, 2), int), r"targets must be whole numbers .*, not int64 \(3, 2\)"),
        (np.zeros(6, int), r"targets must be whole numbers .*, not int64 \(6,\)"),
    ],
)
def test_wrong_targets_are_refused(targets, message):
    for name in SCORING:
        with pytest.raises(InputError, match=message):
            getattr(model(), name)(ONE, targets)


@both_depths
@all_cells
def test_a_wrong_state_is_refused(cell, L):
    lm, layer = model(cell, L), open_layer(cell, 4, H, L)
    right = np.zeros((L, 3, H))
    shape = rf"\(layers, batch, hidden\) = \({L}, 3, {H}\)"
    wrong = [right[0], right[:, :2], right[:, :, :2], np.zeros((L + 1, 3, H)), (right, right, right)]
    if cell == "lstm":
        wrong = [right, (right,), *((right, part) for part in wrong[:-1]), wrong[-1]]
    else:
        wrong.append((right, right))
    for state in wrong:
        for call in (
            lambda state=state: lm.forward(ONE, state),
            lambda state=state: lm.step(ONE[0], state),
            lambda state=state: lm.losses(ONE, ONE, state),
            lambda state=state: lm.loss_and_gradients(ONE, ONE, state),
            lambda state=state: layer(np.zeros((2, 3, 4)), state),
            lambda state=state: layer.step(np.zeros((3, 4)), state),
        ):
            with pytest.raises(InputError, match=f"the state of {cell} is h.* of shape {shape}, not "):
                call()


@all_cells
def test_wrong_input_of_a_layer_is_refused(cell):
    layer = open_layer(cell, 4, H)
    for x, message in (
        (np.zeros((2, 3, 5)), r"x must have the shape \(time, batch, 4\), not \(2, 3, 5\)"),
        (np.zeros((2, 4)), r"x must have the shape \(time, batch, 4\), not \(2, 4\)"),
        (np.zeros((0, 3, 4)), r"at least one time step and one stream, not the shape \(0, 3, 4\)"),
        (np.zeros((2, 0, 4)), r"at least one time step and one stream, not the shape \(2, 0, 4\)"),
        (np.array([[0, 4]]), "ids must be from 0 to 3, not 0 to 4"),
        (np.array([[-1, 0]]), "ids must be from 0 to 3, not -1 to 0"),
    ):
        with pytest.raises(InputError, match=message):
            layer(x)


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="reduction must be mean or sum, not 'median'"):
        model().loss_and_gradients(ONE, ONE, reduction="median")
    with pytest.raises(InputError, match="nonlinearity must be tanh or relu, not 'sigmoid'"):
        elman.RNN(2, 3, nonlinearity="sigmoid")
    for options, message in (
        ({"hidden_size": 0}, "hidden_size must be a whole number .*, not 0"),
        ({"num_layers": 0}, "num_layers must be a whole number .*, not 0"),
        ({"dropout": 1.0}, r"dropout must be a number .*, not 1\.0"),
        ({"dtype": "float16"}, "dtype must be one of float32, float64, not 'float16'"),
    ):
        with pytest.raises(InputError, match=message):
            elman.GRU(2, **{"hidden_size": 3} | options)


def test_a_wrong_input_size_is_refused_by_its_name():
    with pytest.raises(InputError, match="input_size must be a whole number 1 or more, not 0"):
        elman.GRU(0, 3)


@pytest.mark.parametrize("window", [None, 2])
def test_wrong_texts_to_score_are_refused(window):
    for ids, message in (
        (np.zeros(1, int), r"at least 2 tokens in one row, not the shape \(1,\)"),
        (np.zeros((3, 1), int), r"at least 2 tokens in one row, not the shape \(3, 1\)"),
        (np.array([0, 7, 0]), "from 0 to 6"),
        (np.array([0, 0, 7]), "from 0 to 6"),
        (np.array([0, -1, 0]), "from 0 to 6"),
    ):
        with pytest.raises(InputError, match=message):
            model().score(ids, window)
    with pytest.raises(InputError, match="window must be a whole number 1 or more, not 0"):
        model().score(np.zeros(3, int), window=0)


@pytest.mark.parametrize("window", [None, 2])
def test_a_last_token_of_minus_1_is_refused(window):
    with pytest.raises(InputError, match="from 0 to 6"):
        model().score(np.array([0, 1, -1]), window)


def test_tokens_with_fractions_are_refused():
    with pytest.raises(InputError):
        model().score(np.array([0.2, 1.7, 2.0]), window=2)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(golden_now(), indent=1) + "\n", encoding="utf-8")
