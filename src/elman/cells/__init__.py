"""The mathematics of one time step, a file a cell. ``CELLS`` is the one list that every test and command iterates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.cells import gru, lstm, rnn

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Cell:
    """A recurrent cell on already projected gates, and what a layer must know to allocate for it.

    ``forward(gates_x, gates_h, state) -> state, saved`` and
    ``backward(d_state, saved) -> d_gates_x, d_gates_h, d_state``, where gates are (B, G·H), ``state`` is ``(h,)`` or
    ``(h, c)``, each (B, H), and ``gates_h`` is h_prev W_hhᵀ.
    The ``d_state`` that backward returns is the direct part; what flows through ``gates_h`` the loop adds. Without
    ``hidden_bias`` d_gates_h must be d_gates_x: the loop then keeps one array for both. Of several gates ``saved``
    begins with their activated values, so that :mod:`elman.explain` finds them.
    """

    name: str
    gate_names: tuple[str, ...]  # what forward calls the activated blocks of the gates, in their order
    states: tuple[str, ...]  # ("h",) or ("h", "c")
    forward: Callable[[np.ndarray, np.ndarray, Arrays], tuple[Arrays, Any]]
    backward: Callable[[Arrays, Any], tuple[np.ndarray, np.ndarray, Arrays]]
    hidden_bias: bool = False  # b_hn (H), inside the product with the reset gate: then d_gates_h differs from d_gates_x
    forget_gate: int | None = None  # the gate whose bias starts at 1
    switches: tuple[str, ...] = ()  # those of gate_names that go from 0, shut, to 1, open

    @property
    def gates(self) -> int:
        """G, how many gates there are."""
        return len(self.gate_names)


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("rnn", ("h",), ("h",), rnn.forward_tanh, rnn.backward_tanh),
        Cell("rnn-relu", ("h",), ("h",), rnn.forward_relu, rnn.backward_relu),
        Cell("gru", tuple("rzn"), ("h",), gru.forward, gru.backward, hidden_bias=True, switches=("r", "z")),
        Cell("lstm", tuple("ifgo"), ("h", "c"), lstm.forward, lstm.backward, forget_gate=1, switches=("i", "f", "o")),
    )
}
