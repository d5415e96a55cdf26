"""A recording shows what the functions computed, and leaves everything else as it was."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from elman.cells import CELLS
from elman.config import ModelConfig
from elman.explain.recording import recording
from elman.models import LanguageModel


@pytest.mark.parametrize("cell", CELLS.values(), ids=list(CELLS))
def test_every_gate_and_state_of_every_step(cell):
    model = LanguageModel(ModelConfig(5, cell.name, hidden_size=3, num_layers=2, dtype="float64"), kernel="numpy")
    inputs = np.arange(4)[:, np.newaxis]
    with recording(cell.forward, cell.backward) as calls:
        loss, _, state = model.loss_and_gradients(inputs, inputs)
    assert [call.function for call in calls] == [cell.forward] * 8 + [cell.backward] * 8
    assert all(set(cell.gate_names) | set(cell.states) <= set(call.values) for call in calls[:8])
    last_h = np.stack([calls[3].values["h"], calls[7].values["h"]])
    np.testing.assert_array_equal(last_h, state[0] if len(cell.states) > 1 else state)
    assert loss == model.loss_and_gradients(inputs, inputs)[0]
    assert len(calls) == 16, "the recording ended with its block"


def test_switches_go_from_zero_to_one_and_the_other_gates_do_not():
    for cell in CELLS.values():
        state = tuple(np.zeros((1, 2)) for _ in cell.states)
        with recording(cell.forward) as calls:
            cell.forward(np.full((1, 2 * cell.gates), -30.0), np.zeros((1, 2 * cell.gates)), state)
        shut = {name for name in cell.gate_names if np.allclose(calls[0].values[name], 0, atol=1e-9)}
        assert shut - {"h"} == set(cell.switches)


def test_values_are_copies():
    def add(array):
        array += 1
        return array

    array = np.zeros(2)
    with recording(add) as calls:
        add(array)
        add(array)
    assert [call.values["array"].tolist() for call in calls] == [[1, 1], [2, 2]]


def test_what_a_function_returned_shares_its_copies_with_its_names():
    def twice(array):
        total = array + array
        return total, (total, array)

    with recording(twice) as calls:
        total, _ = twice(np.ones(2))
    total += 1
    ((values, result),) = [(call.values, call.result) for call in calls]
    assert result[0] is result[1][0] is values["total"] and result[1][1] is values["array"]
    assert result[0].tolist() == [2, 2]


def test_the_profile_function_before_comes_back_even_after_an_error():
    def before(*_):
        return None

    sys.setprofile(before)
    try:
        with pytest.raises(KeyError), recording(_named):
            raise KeyError
        assert sys.getprofile() is before
    finally:
        sys.setprofile(None)


def _named():
    return None
