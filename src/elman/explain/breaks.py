"""Backward passes with a term dropped, to see what a gradient check says of them.

Each is a wrapper around a cell's own backward: it changes what goes in or what comes out, and the cell knows nothing of
it. Which terms there are follows from the cell's record in ``CELLS``, so a cell that is added has its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.cells import Arrays, Cell
from elman.errors import InputError, did_you_mean

Backward = Callable[[Arrays, Any], tuple[np.ndarray, np.ndarray, Arrays]]


@dataclass(frozen=True)
class Term:
    """A term of a cell's backward pass: its name, what it is, and the cell's backward without it."""

    name: str
    meaning: str
    backward: Backward


def without(cell: Cell, name: str) -> Cell:
    """The cell with the term of this name dropped from its backward; raises InputError where it has no such term."""
    known = {term.name: term for term in terms(cell)}
    if name not in known:
        names, near = ", ".join(known), did_you_mean(name, [*known])
        raise InputError(f"the backward of {cell.name} has no term {name!r}; it has {names}.{near}")
    return dataclasses.replace(cell, backward=known[name].backward)


def terms(cell: Cell) -> list[Term]:
    """The terms that can be dropped from a cell's backward.

    ``d_h``: the gradient that comes in, as if it were 1: the mistake of tutorial 5's ``rnn_cell_backward``. ``d_c`` of
    an LSTM: what the step after gives the cell state. ``d_i``, …: a gate's gradient. ``slope_i``, …: the derivative of
    a gate's activation. ``d_h_prev``, ``d_c_prev``: what goes straight to the state before, past the gates.
    ``reset``: the factor r of a GRU's recurrent part.
    """
    found = [Term("d_h", "the gradient of h that comes in, taken as 1", _without_incoming(cell))]
    for part, state in enumerate(cell.states[1:], 1):
        found.append(Term(f"d_{state}", f"the gradient of {state} from the step after", _without_state(cell, part)))
    for block, gate in enumerate(cell.gate_names):
        if gate in cell.states:
            found.append(Term(f"slope_{gate}", "the slope of the activation", _without_the_only_slope(cell)))
            continue
        slope = f"the slope of {gate}'s activation, in its own gradient"
        found.append(Term(f"d_{gate}", f"the gradient of gate {gate}", _scaled(cell, block, lambda y: 0.0)))
        found.append(Term(f"slope_{gate}", slope, _scaled(cell, block, _inverse_slope(gate in cell.switches))))
    for part in _carried(cell):
        state = cell.states[part]
        meaning = f"what goes straight from d_{state} to d_{state}_prev"
        found.append(Term(f"d_{state}_prev", meaning, _without_carry(cell, part)))
    if cell.hidden_bias:
        found.append(Term("reset", "the factor r in the recurrent part's gradient", _without_reset(cell)))
    return found


def _without_incoming(cell: Cell) -> Backward:
    return lambda d_state, saved: cell.backward((np.ones_like(d_state[0]), *d_state[1:]), saved)


def _without_state(cell: Cell, part: int) -> Backward:
    return lambda d_state, saved: cell.backward(_zeroed(d_state, part), saved)


def _without_the_only_slope(cell: Cell) -> Backward:
    """Of a cell whose state is its activation: d_a is then d_h itself."""
    return lambda d_state, saved: (d_state[0], d_state[0], cell.backward(d_state, saved)[2])


def _without_carry(cell: Cell, part: int) -> Backward:
    def backward(d_state: Arrays, saved: Any) -> tuple[np.ndarray, np.ndarray, Arrays]:
        d_gates_x, d_gates_h, d_prev = cell.backward(d_state, saved)
        return d_gates_x, d_gates_h, _zeroed(d_prev, part)

    return backward


def _without_reset(cell: Cell) -> Backward:
    def backward(d_state: Arrays, saved: Any) -> tuple[np.ndarray, np.ndarray, Arrays]:
        d_gates_x, _, d_prev = cell.backward(d_state, saved)
        return d_gates_x, d_gates_x, d_prev

    return backward


def _scaled(cell: Cell, block: int, factor: Callable[[np.ndarray], Any]) -> Backward:
    """One gate's block of both gradients is multiplied by a factor of the gate's value."""

    def backward(d_state: Arrays, saved: Any) -> tuple[np.ndarray, np.ndarray, Arrays]:
        *gradients, d_prev = cell.backward(d_state, saved)
        H = d_state[0].shape[1]
        d_gates_x, d_gates_h = (gradient.copy() for gradient in gradients)
        for gradient in (d_gates_x, d_gates_h):
            gradient[:, block * H : (block + 1) * H] *= factor(saved[block])
        return d_gates_x, d_gates_h, d_prev

    return backward


def _inverse_slope(switch: bool) -> Callable[[np.ndarray], np.ndarray]:
    """What undoes the slope of a logistic or tanh gate, from its value; 0 where nothing came through."""

    def inverse(y: np.ndarray) -> np.ndarray:
        slope = y * (1 - y) if switch else 1 - y * y
        return np.divide(1.0, slope, out=np.zeros_like(y), where=slope != 0)

    return inverse


def _carried(cell: Cell) -> list[int]:
    """The parts of the state from which a gradient goes straight to the step before, found by a try."""
    ones = np.ones((1, cell.gates))
    parts = tuple(np.full((1, 1), 0.5) for _ in cell.states)
    _, saved = cell.forward(ones, ones, parts)
    _, _, d_prev = cell.backward(parts, saved)
    return [part for part, d_part in enumerate(d_prev) if d_part.any()]


def _zeroed(parts: Arrays, part: int) -> Arrays:
    return tuple(np.zeros_like(each) if number == part else each for number, each in enumerate(parts))
