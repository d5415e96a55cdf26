"""Every gradient is the slope of its loss, by finite differences and complex steps; a wrong one is found and named."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from conftest import open_layer, parts_of
from elman import LanguageModel, ModelConfig
from elman.cells import CELLS
from elman.errors import InputError
from elman.explain.breaks import terms, without
from elman.explain.recording import recording
from elman.kernels import reference
from elman.layers import output
from elman.testing import GradientError, check_cell, check_gradients, check_language_model

SIZES = list(itertools.product((1, 2, 5), (1, 3), (1, 2)))  # T, B, L
INPUTS = {
    "one-hot": {},
    "embedding": {"embedding_size": 2},
    "tied": {"embedding_size": 3, "tie_weights": True},
    "dropout": {"embedding_size": 2, "dropout": 0.4},
    "variational dropout": {"dropout": 0.4, "variational_dropout": True},
    "embedding dropout": {"embedding_size": 2, "embedding_dropout": 0.4},
    "all dropout, tied": {"embedding_size": 3, "tie_weights": True, "dropout": 0.4, "embedding_dropout": 0.3},
}
# The loss of check_cell is of the size of its gradients, so central differences reach 1.1e-9 in all cases below.
TIGHT = 5e-9
# A model's gradients can be a thousandth of its loss, whose last bits are the noise of a difference: 3e-8 is the worst.
MODEL = 1e-7
# A complex step subtracts nothing, so only the rounding of a few sums is left: 8e-15 is the worst.
COMPLEX = 1e-13


def watched(cell, seen):
    def forward(gates_x, gates_h, state):
        seen.append(np.abs(gates_x + gates_h).min())
        return cell.forward(gates_x, gates_h, state)

    return dataclasses.replace(cell, forward=forward)


def assert_no_kink_is_near(cell_name, seen):
    # A difference across the kink of relu is not a slope; `seen` holds the disturbed pre-activations too.
    assert cell_name != "rnn-relu" or min(seen) > 1e-4, "choose another seed"


def slopes_by_complex_step(loss, arrays):
    # W. Squire and G. Trapp (1998): f(w + ih).imag / h is f'(w) to the last bits, with no difference of near numbers.
    kept = dict(arrays)
    arrays.update({name: array.astype(complex) for name, array in kept.items()})
    slopes = {name: np.empty(array.shape) for name, array in kept.items()}
    for name, slope in slopes.items():
        for index in np.ndindex(slope.shape):
            arrays[name][index] += 1e-30j
            slope[index] = loss().imag / 1e-30
            arrays[name][index] -= 1e-30j
    arrays.update(kept)
    return slopes


@pytest.mark.parametrize(("T", "B", "L"), SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_every_array_of_a_cell_in_layers_by_finite_differences(name, T, B, L):
    seen = []
    checks = check_cell(watched(CELLS[name], seen), T, B, 3, 4, L, seed=0, tolerance=TIGHT)
    assert_no_kink_is_near(name, seen)
    kinds = ["W_xh", "W_hh", "b_h"] + ["b_hn"] * (name == "gru")
    wanted = [f"layers.{layer}.{kind}" for layer in range(L) for kind in kinds]
    wanted += ["x", "initial h"] + ["initial c"] * (name == "lstm")
    assert [check.name for check in checks] == wanted


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", CELLS)
def test_every_parameter_of_a_model_by_finite_differences(name, kind, reduction, monkeypatch):
    seen = []
    monkeypatch.setitem(CELLS, name, watched(CELLS[name], seen))
    config = ModelConfig(4, name, 3, 2, dtype="float64", **INPUTS[kind])
    checks = check_language_model(config, 5, 3, reduction, seed=0, tolerance=MODEL)
    assert_no_kink_is_near(name, seen)
    assert [check.name for check in checks] == list(LanguageModel(config).parameters)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", CELLS)
def test_activation_regularization_by_finite_differences(name, kind, reduction, monkeypatch):
    seen = []
    monkeypatch.setitem(CELLS, name, watched(CELLS[name], seen))
    lm = LanguageModel(ModelConfig(4, name, 3, 2, dtype="float64", **INPUTS[kind]), kernel="numpy")
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(0, 4, (2, 5, 3))
    targets[-1, -1] = targets[2, 0] = -1

    def run(regularization):
        return lm.loss_and_gradients(inputs, targets, None, reduction, np.random.default_rng(1), regularization)

    def objective():
        outputs = lm.hidden(inputs, None, np.random.default_rng(1))[0][targets >= 0]  # (scored targets, H)
        squares = (outputs**2).mean() if reduction == "mean" else (outputs**2).mean(axis=1).sum()
        return run(0.0)[0] + 0.7 * squares

    loss, gradients, _ = run(0.7)
    assert loss == run(0.0)[0]  # it says nats, without the term
    check_gradients(objective, lm.parameters, gradients, tolerance=MODEL)
    assert_no_kink_is_near(name, seen)


@pytest.mark.parametrize(("T", "B", "L"), SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_a_model_of_every_size_by_finite_differences(name, T, B, L, monkeypatch):
    seen = []
    monkeypatch.setitem(CELLS, name, watched(CELLS[name], seen))
    check_language_model(ModelConfig(4, name, 3, L, dtype="float64"), T, B, seed=0, tolerance=MODEL)
    assert_no_kink_is_near(name, seen)


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")  # the last state, which no loss here reads
@pytest.mark.parametrize("initialization", ["uniform", "normal-0.01"])
@pytest.mark.parametrize("kind", ["one-hot", "embedding", "tied"])
@pytest.mark.parametrize("name", CELLS)
def test_every_parameter_of_a_model_by_complex_steps(name, kind, initialization):
    # With normal-0.01 some gradients are 1e-9 of the loss: no finite difference sees them to 1e-7, this does.
    config = ModelConfig(4, name, 3, 2, dtype="float64", initialization=initialization, **INPUTS[kind])
    lm = LanguageModel(config, seed=1, kernel="numpy")
    rng = np.random.default_rng(1)
    inputs, targets = rng.integers(0, 4, (2, 5, 3))
    targets[1, 2] = targets[4, 0] = -1
    parts = tuple(rng.standard_normal((2, 3, 3)) for _ in lm.cell.states)
    state = parts if len(parts) > 1 else parts[0]
    for reduction, scored in (("mean", 13), ("sum", 1)):
        loss, gradients, _ = lm.loss_and_gradients(inputs, targets, state, reduction)
        slopes = slopes_by_complex_step(lambda: lm.losses(inputs, targets, state)[0].sum(), lm.parameters)
        assert loss == pytest.approx(lm.losses(inputs, targets, state)[0].sum() / scored, rel=1e-14)
        assert gradients.keys() == slopes.keys()
        for array, slope in slopes.items():
            assert np.abs(gradients[array] - slope / scored).max() <= COMPLEX * np.abs(slope / scored).max(), array


@pytest.mark.parametrize("name", CELLS)
def test_ids_are_one_hot_vectors(name):
    layer = open_layer(name, 4, 3, num_layers=2, dtype="float64", seed=2)
    ids = np.random.default_rng(2).integers(0, 4, (6, 3))
    for x in (ids, ids.astype(np.uint8)):
        outputs, state, backward = layer(x)
        dense_outputs, dense_state, dense_backward = layer(np.eye(4)[ids])
        d_outputs = np.random.default_rng(3).standard_normal(outputs.shape)
        d_x, _, gradients = backward(d_outputs)
        dense_d_x, _, dense_gradients = dense_backward(d_outputs)
        assert d_x is None
        assert dense_d_x.shape == (6, 3, 4)
        np.testing.assert_allclose(outputs, dense_outputs, rtol=0, atol=1e-14)
        for part, dense_part in zip(parts_of(state), parts_of(dense_state), strict=True):
            np.testing.assert_allclose(part, dense_part, rtol=0, atol=1e-14)
        for array in layer.parameters:
            np.testing.assert_allclose(gradients[array], dense_gradients[array], rtol=0, atol=1e-13, err_msg=array)


@pytest.mark.parametrize("name", CELLS)
def test_a_layers_backward_may_run_twice_and_changes_nothing(name):
    layer = open_layer(name, 3, 4, num_layers=2, dropout=0.5, seed=4)
    rng = np.random.default_rng(4)
    x, d_outputs = rng.standard_normal((5, 2, 3)), rng.standard_normal((5, 2, 4))
    state, d_state = (rng.standard_normal((len(layer.cell.states), 2, 2, 4)).astype(np.float32) for _ in "12")
    state, d_state = (tuple(s) if len(s) > 1 else s[0] for s in (state, d_state))
    given = [x, d_outputs, *parts_of(state), *parts_of(d_state), *layer.parameters.values()]
    given_before = [array.tobytes() for array in given]
    outputs, last, backward = layer(x, state, rng=rng)

    def run():
        d_x, d_first, gradients = backward(d_outputs, d_state)
        return [outputs, *parts_of(last), d_x, *parts_of(d_first), *gradients.values()]

    first = run()
    first_bytes = [array.tobytes() for array in first]
    assert [array.tobytes() for array in run()] == first_bytes
    assert [array.tobytes() for array in first] == first_bytes  # the second run did not write into the first's arrays
    assert [array.tobytes() for array in given] == given_before


@pytest.mark.parametrize("name", CELLS)
def test_a_missing_gradient_of_the_last_state_means_zeros(name):
    layer = open_layer(name, 3, 4, num_layers=2, dtype="float64")
    outputs, last, backward = layer(np.random.default_rng(5).standard_normal((5, 2, 3)))
    d_outputs = np.ones(outputs.shape)
    zeros = tuple(np.zeros_like(part) for part in parts_of(last))
    one = backward(d_outputs)
    other = backward(d_outputs, zeros if len(zeros) > 1 else zeros[0])
    assert one[0].tobytes() == other[0].tobytes()
    assert all(one[2][array].tobytes() == other[2][array].tobytes() for array in layer.parameters)


@pytest.mark.parametrize("name", CELLS)
def test_a_models_gradients_are_the_same_bytes_twice(name):
    lm = LanguageModel(ModelConfig(5, name, 4, 2, embedding_size=4, tie_weights=True, dropout=0.3))
    inputs, targets = np.random.default_rng(6).integers(0, 5, (2, 6, 3))
    runs = [lm.loss_and_gradients(inputs, targets, rng=np.random.default_rng(7)) for _ in "12"]
    assert runs[0][0] == runs[1][0]
    assert all(runs[0][1][array].tobytes() == runs[1][1][array].tobytes() for array in lm.parameters)


def test_the_output_layer_changes_nothing_that_it_is_given():
    rng = np.random.default_rng(8)
    given = W_hy, b_y, hidden = rng.standard_normal((5, 4)), rng.standard_normal(5), rng.standard_normal((6, 3, 4))
    targets = rng.integers(-1, 5, (6, 3))
    before = [array.tobytes() for array in given]
    runs = [[a.tobytes() for a in output.gradients(reference, W_hy, b_y, hidden, targets, 0.5)] for _ in "12"]
    assert runs[0] == runs[1]
    assert output.losses(reference, W_hy, b_y, hidden, targets).tobytes() == runs[0][0]
    assert [array.tobytes() for array in given] == before


@pytest.mark.parametrize("name", CELLS)
def test_gradients_have_the_shape_and_dtype_of_their_parameters(name):
    for dtype, kind in itertools.product(("float32", "float64"), INPUTS):
        lm = LanguageModel(ModelConfig(4, name, 3, 2, dtype=dtype, **INPUTS[kind]))
        _, gradients, _ = lm.loss_and_gradients(np.ones((2, 3), int), np.ones((2, 3), int), rng=np.random.default_rng())
        assert {n: (g.shape, g.dtype) for n, g in gradients.items()} == {
            n: (p.shape, p.dtype) for n, p in lm.parameters.items()
        }


@pytest.mark.parametrize("name", CELLS)
def test_a_window_without_a_scored_target_has_loss_and_gradients_0(name):
    loss, gradients, _ = LanguageModel(ModelConfig(4, name, 3)).loss_and_gradients(
        np.zeros((2, 3), int), np.full((2, 3), -1)
    )
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients.values())


def with_a_wrong_sign(d_gates_x, d_gates_h, d_state, saved):
    return -d_gates_x, -d_gates_h, d_state


def off_by_a_millionth(d_gates_x, d_gates_h, d_state, saved):
    return d_gates_x * (1 + 1e-6), d_gates_h * (1 + 1e-6), d_state


# One step of one layer: nothing but the faulty array is wrong, so the name tells where to look.
@pytest.mark.parametrize(
    ("name", "term", "array"),
    [
        *((name, "d_h", r"layers\.0\.W_xh") for name in CELLS),
        ("lstm", "d_c_prev", "initial c"),
        ("gru", "reset", r"layers\.0\.W_hh"),
        ("gru", "d_h_prev", "initial h"),
    ],
)
def test_a_dropped_term_is_found_and_the_array_named(name, term, array):
    with pytest.raises(GradientError, match=rf"the gradient of {array} is wrong: error .* analytic .*, numeric "):
        check_cell(without(CELLS[name], term), seq_length=1, num_layers=1)


@pytest.mark.parametrize(("name", "term"), [(name, term.name) for name in CELLS for term in terms(CELLS[name])])
def test_every_term_that_can_be_dropped_is_missed(name, term):
    broken = without(CELLS[name], term)
    assert broken.forward is CELLS[name].forward
    assert max(check.error for check in check_cell(broken, seq_length=3, num_layers=1, tolerance=None)) > 1e-3


def test_the_terms_are_those_of_the_equations():
    assert {name: [term.name for term in terms(cell)] for name, cell in CELLS.items()} == {
        "rnn": ["d_h", "slope_h"],
        "rnn-relu": ["d_h", "slope_h"],
        "gru": ["d_h", *(f"{what}_{gate}" for gate in "rzn" for what in ("d", "slope")), "d_h_prev", "reset"],
        "lstm": ["d_h", "d_c", *(f"{what}_{gate}" for gate in "ifgo" for what in ("d", "slope")), "d_c_prev"],
    }
    with pytest.raises(InputError, match=r"lstm has no term 'd_cprev'; it has d_h, d_c, .*\. Did you mean d_c_prev\?"):
        without(CELLS["lstm"], "d_cprev")


def test_forgetting_what_comes_in_is_the_mistake_of_tutorial_5():
    h = np.array([[0.5, -0.25]])
    d_a, _, _ = without(CELLS["rnn"], "d_h").backward((np.array([[3.0, 7.0]]),), h)
    np.testing.assert_array_equal(d_a, 1 - h * h)  # its z, whatever d_next is


@pytest.mark.parametrize(
    ("name", "gate"), [(name, gate) for name in ("gru", "lstm") for gate in CELLS[name].gate_names]
)
def test_a_dropped_slope_or_gate_changes_its_own_block_alone(name, gate):
    cell, rng = CELLS[name], np.random.default_rng(4)
    state = tuple(rng.standard_normal((2, 3)) for _ in cell.states)
    with recording(cell.forward) as calls:
        _, saved = cell.forward(*rng.standard_normal((2, 2, 3 * cell.gates)), state)
    y = calls[0].values[gate]
    slope = y * (1 - y) if gate in cell.switches else 1 - y * y
    right, dropped = cell.backward(state, saved), without(cell, f"slope_{gate}").backward(state, saved)
    gone = without(cell, f"d_{gate}").backward(state, saved)
    block = cell.gate_names.index(gate) * 3 + np.arange(3)
    others = np.setdiff1d(np.arange(3 * cell.gates), block)
    for part in (0, 1):
        np.testing.assert_allclose(dropped[part][:, block], right[part][:, block] / slope, rtol=1e-14)
        assert not gone[part][:, block].any()
        for changed in (dropped, gone):
            np.testing.assert_array_equal(changed[part][:, others], right[part][:, others])


@pytest.mark.parametrize(
    ("name", "fault", "array"),
    [
        *((name, with_a_wrong_sign, r"layers\.0\.W_xh") for name in CELLS),
        *((name, off_by_a_millionth, r"layers\.0\.W_xh") for name in CELLS),
    ],
)
def test_a_faulty_backward_is_found_and_the_array_named(name, fault, array):
    cell = CELLS[name]

    def backward(d_state, saved):
        return fault(*cell.backward(d_state, saved), saved)

    broken = dataclasses.replace(cell, backward=backward)
    # One step of one layer: nothing but the faulty array is wrong, so the name tells where to look.
    with pytest.raises(GradientError, match=rf"the gradient of {array} is wrong: error .* analytic .*, numeric "):
        check_cell(broken, seq_length=1, num_layers=1)
    assert any(check.error > 1e-7 for check in check_cell(broken, 1, num_layers=1, tolerance=None))


def test_a_faulty_cell_is_found_in_a_model(monkeypatch):
    monkeypatch.setitem(CELLS, "lstm", without(CELLS["lstm"], "d_c_prev"))
    with pytest.raises(GradientError, match=r"the gradient of recurrent\.layers\.0\.W_xh is wrong"):
        check_language_model(ModelConfig(4, "lstm", 3, 1, dtype="float64"))


def test_a_gradient_that_is_nan_or_zero_or_of_another_shape_is_found():
    w = np.array([1.0, 2.0])
    right = {"w": 2 * w}
    for wrong in (np.array([2.0, np.nan]), np.zeros(2)):
        with pytest.raises(GradientError, match="the gradient of w is wrong"):
            check_gradients(lambda: float(w @ w), {"w": w}, {"w": wrong})
    with pytest.raises(GradientError, match=r"the gradient of w has the shape \(1, 2\), the array \(2,\)"):
        check_gradients(lambda: float(w @ w), {"w": w}, {"w": 2 * w[np.newaxis]})
    (check,) = check_gradients(lambda: float(w @ w), {"w": w}, right)
    assert (check.name, check.size) == ("w", 2)
    assert check.error < 1e-10
    assert w.tolist() == [1.0, 2.0]  # put back to the last bit


def test_a_check_in_float32_is_refused():
    with pytest.raises(GradientError, match="needs dtype float64, not float32"):
        check_language_model(ModelConfig(4, dtype="float32"))


def test_a_check_of_some_entries_takes_the_largest_and_as_many_others():
    w = np.arange(1.0, 101.0).reshape(10, 10)
    seen = set()

    def loss():
        seen.update(map(tuple, np.argwhere(w != kept)))
        return float((w * w).sum())

    kept = w.copy()
    (check,) = check_gradients(loss, {"w": w}, {"w": 2 * w}, entries=9)
    assert (check.size, check.checked, len(seen)) == (100, 9, 9)
    assert {(9, column) for column in range(5, 10)} <= seen
    wrong = 2 * w
    wrong[9, 9] += 1
    with pytest.raises(GradientError, match=r"at \(9, 9\) analytic 201, numeric 200"):
        check_gradients(loss, {"w": w}, {"w": wrong}, entries=2)
