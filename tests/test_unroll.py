"""What is shown of a pass is what the code computed: against its gradients, finite differences, and tutorial 2."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from elman.cells import CELLS
from elman.config import ModelConfig
from elman.errors import InputError
from elman.explain.unroll import unroll
from elman.layers.stack import state_parts
from elman.models import LanguageModel
from elman.testing import check_gradients

INPUTS, TARGETS = [2, 0, 1, 1, 3], [0, 1, -1, 3, 4]
KINDS = {
    "one-hot": {},
    "two layers": {"num_layers": 2},
    "embedding": {"embedding_size": 4},
    "embedding, two layers": {"embedding_size": 4, "num_layers": 2},
    "tied": {"embedding_size": 3, "tie_weights": True, "num_layers": 2},
}


def model_of(cell: str, dtype: str = "float64", **options) -> LanguageModel:
    return LanguageModel(ModelConfig(5, cell, **{"hidden_size": 3, "num_layers": 1, "dtype": dtype} | options), seed=1)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_what_the_steps_add_up_to_is_the_gradient_that_the_code_computed(cell, options):
    model = model_of(cell, **options)
    unrolled = unroll(model, INPUTS, TARGETS)
    sums = list(unrolled.accumulated())
    assert [t for t, _ in sums] == [4, 3, 2, 1, 0]
    assert list(sums[-1][1]) == list(unrolled.gradients) == list(unrolled.steps[0].factors)
    assert set(unrolled.gradients) == set(model.parameters)
    inputs, targets = np.array(INPUTS)[:, np.newaxis], np.array(TARGETS)[:, np.newaxis]
    loss, gradients, _ = model.loss_and_gradients(inputs, targets, reduction="sum")
    assert unrolled.loss == pytest.approx(loss, rel=1e-12)
    assert unrolled.loss == pytest.approx(sum(step.loss for step in unrolled.steps), rel=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(sums[-1][1][name], gradient, rtol=1e-10, atol=1e-14)
        np.testing.assert_array_equal(unrolled.gradients[name].shape, sums[0][1][name].shape)
    for (_, later), (t, now) in itertools.pairwise(sums):
        own = np.outer(unrolled.steps[t].d_logits, unrolled.steps[t].layers[-1].forward["h"])
        name = "embedding.E" if model.config.tie_weights else "output.W_hy"
        if not model.config.tie_weights:
            np.testing.assert_allclose(now[name] - later[name], own, atol=1e-14)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_the_scores_states_and_inputs_are_slopes_of_the_loss(cell, options):
    """By the last accumulated gradient and by what reaches the state before the first step."""
    model = model_of(cell, **options)
    state = model.initial_state(1)
    for part in state_parts(state):
        part += 0.3
    unrolled = unroll(model, INPUTS, TARGETS, state)
    inputs, targets = np.array(INPUTS)[:, np.newaxis], np.array(TARGETS)[:, np.newaxis]

    def loss() -> float:
        return float(model.losses(inputs, targets, state)[0].sum())

    (*_, (_, sums)) = unrolled.accumulated()
    check_gradients(loss, model.parameters, sums)
    first = [layer.backward for layer in unrolled.steps[0].layers]
    names = model.cell.states
    arrays = dict(zip(names, state_parts(state), strict=True))
    check_gradients(
        loss, arrays, {name: np.stack([each[f"d_{name}_prev"] for each in first])[:, np.newaxis] for name in names}
    )


@pytest.mark.parametrize("cell", CELLS.values(), ids=list(CELLS))
def test_every_step_follows_from_the_one_before(cell):
    model = model_of(cell.name, num_layers=2, embedding_size=4)
    steps = unroll(model, INPUTS, TARGETS).steps
    assert [(step.input, step.target) for step in steps] == list(zip(INPUTS, TARGETS, strict=True))
    for t, step in enumerate(steps):
        lower, upper = step.layers
        assert set(cell.gate_names) | set(cell.states) | {"gates_x", "gates_h"} <= set(lower.forward)
        np.testing.assert_array_equal(step.one_hot, np.eye(5)[step.input])
        np.testing.assert_array_equal(step.x, model.parameters["embedding.E"][step.input])
        np.testing.assert_array_equal(upper.forward["x"], lower.forward["h"])
        np.testing.assert_allclose(lower.backward["d_outputs"], upper.backward["d_x"], rtol=1e-12)
        W_hy, b_y = model.parameters["output.W_hy"], model.parameters["output.b_y"]
        np.testing.assert_allclose(step.logits, W_hy @ upper.forward["h"] + b_y, rtol=1e-12)
        np.testing.assert_allclose(step.probabilities, np.exp(step.logits) / np.exp(step.logits).sum(), rtol=1e-12)
        np.testing.assert_allclose(upper.backward["d_outputs"], W_hy.T @ step.d_logits, rtol=1e-12, atol=1e-16)
        if step.target < 0:
            assert step.loss == 0 and not step.d_logits.any()
        else:
            assert step.loss == pytest.approx(-np.log(step.probabilities[step.target]), rel=1e-12)
            np.testing.assert_allclose(step.d_logits, step.probabilities - np.eye(5)[step.target], rtol=1e-12)
        for layer, both in enumerate(step.layers):
            np.testing.assert_array_equal(both.backward["d_h"], both.backward["d_outputs"] + both.backward["d_h_next"])
            for name in cell.states:
                before = steps[t - 1].layers[layer].forward[name] if t else np.zeros(3)
                after = steps[t + 1].layers[layer].backward[f"d_{name}_prev"] if t + 1 < len(steps) else np.zeros(3)
                np.testing.assert_array_equal(both.forward[f"{name}_prev"], before)
                np.testing.assert_array_equal(both.backward[f"d_{name}_next"], after)


@pytest.mark.parametrize("cell", CELLS)
def test_one_step_and_steps_that_nothing_scores(cell):
    unrolled = unroll(model_of(cell), [1], [-1])
    assert unrolled.loss == 0 and len(unrolled.steps) == 1
    ((_, sums),) = unrolled.accumulated()
    assert not any(array.any() for array in sums.values())


def test_a_float32_model_is_computed_with_in_float64_and_stays_as_it_is():
    model = model_of("gru", dtype="float32")
    before = {name: array.copy() for name, array in model.parameters.items()}
    unrolled = unroll(model, INPUTS, TARGETS)
    assert unrolled.steps[0].logits.dtype == unrolled.gradients["output.b_y"].dtype == np.float64
    assert all(model.parameters[name].dtype == np.float32 for name in before)
    assert all((model.parameters[name] == array).all() for name, array in before.items())
    np.testing.assert_array_equal(unrolled.parameters["output.W_hy"], before["output.W_hy"].astype(np.float64))


def test_dropout_of_the_model_is_left_out():
    model = model_of("lstm")
    dropped = LanguageModel(dataclasses.replace(model.config, dropout=0.5), parameters=model.parameters)
    assert unroll(dropped, INPUTS, TARGETS).loss == unroll(model, INPUTS, TARGETS).loss


@pytest.mark.parametrize(
    ("inputs", "targets"), [([5], [0]), ([], []), ([0], [7]), ([0, 1], [1]), ([[0]], [[1]]), (["h"], [1])]
)
def test_bad_ids_are_refused(inputs, targets):
    with pytest.raises(InputError):
        unroll(model_of("rnn"), inputs, targets)


# Tutorial 2, "one step by hand": hidden 3, vocabulary 4, input 2, target 3; its numbers as it prints them.

TUTORIAL_2 = {
    "recurrent.layers.0.W_xh": [
        [-1.36458834e-03, 1.10118612e-02, -4.54390582e-03, 4.92045527e-03],
        [1.13343035e-02, -6.62299760e-03, -7.77568912e-03, 1.52714559e-02],
        [-1.12811396e-02, 3.55922825e-05, -3.11710168e-02, 3.23161113e-02],
    ],
    "recurrent.layers.0.W_hh": [
        [-0.00079653, -0.00196604, -0.01944714],
        [-0.00086006, 0.00289614, -0.0056044],
        [-0.01720294, 0.00805431, -0.00951426],
    ],
    "recurrent.layers.0.b_h": [0, 0, 0],
    "output.W_hy": [
        [-0.012362, -0.00467771, -0.00561026],
        [0.00035526, -0.00330591, -0.0058389],
        [-0.01553049, -0.01051185, -0.00296599],
        [-0.00112019, -0.01283274, -0.01498699],
    ],
    "output.b_y": [0, 0, 0, 0],
}


def test_tutorial_2_number_by_number():
    config = ModelConfig(4, "rnn", hidden_size=3, num_layers=1, dtype="float64")
    parameters = {name: np.array(rows, np.float64) for name, rows in TUTORIAL_2.items()}
    unrolled = unroll(LanguageModel(config, parameters=parameters), [2], [3])
    (step,) = unrolled.steps
    forward, backward = step.layers[0].forward, step.layers[0].backward
    dhraw = [-0.00604365, 0.00499995, 0.00762842]
    dy = [0.24998621, 0.24997088, 0.24998055, -0.74993765]
    printed = [
        (step.x, [0, 0, 1, 0]),  # xs
        (forward["h"], [-0.00454387, -0.00777553, -0.03116093]),  # hs
        (step.logits, [0.00026736, 0.00020604, 0.00024473, 0.00057188]),  # ys
        (step.probabilities, [0.24998621, 0.24997088, 0.24998055, 0.25006235]),  # ps
        (step.d_logits, dy),
        (
            unrolled.gradients["output.W_hy"],
            [
                [-0.00113591, -0.00194378, -0.0077898],
                [-0.00113584, -0.00194366, -0.00778932],
                [-0.00113588, -0.00194373, -0.00778963],
                [0.00340762, 0.00583116, 0.02336875],
            ],
        ),
        (unrolled.gradients["output.b_y"], dy),  # dby
        (backward["d_h"], [-0.00604377, 0.00500025, 0.00763583]),  # dh
        (backward["1 - h * h"], [0.99997935, 0.99993954, 0.999029]),
        (backward["d_a"], dhraw),
        (unrolled.gradients["recurrent.layers.0.b_h"], dhraw),
    ]
    for value, as_printed in printed:
        np.testing.assert_allclose(value, as_printed, rtol=0, atol=1e-8)
    assert step.probabilities[3] == pytest.approx(0.25006234967, abs=2e-10)
    assert unrolled.loss == step.loss == pytest.approx(1.38604499354, abs=2e-10)
    np.testing.assert_allclose(
        backward["d_h_prev"], [-1.30717501e-04, 8.78041806e-05, 1.69311833e-05], rtol=0, atol=2e-10
    )
    # Its cells were run again: dbh once too often, so that it is 2 times dhraw, and the column of dWxh 13 times.
    np.testing.assert_allclose(2 * backward["d_a"], [-0.0120873, 0.0099999, 0.01525683], rtol=0, atol=2e-8)
    d_W_xh = unrolled.gradients["recurrent.layers.0.W_xh"]
    np.testing.assert_allclose(13 * d_W_xh[:, 2], [-0.07856743, 0.06499933, 0.0991694], rtol=0, atol=2e-7)
    assert not d_W_xh[:, [0, 1, 3]].any() and not unrolled.gradients["recurrent.layers.0.W_hh"].any()
