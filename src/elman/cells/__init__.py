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
    ``hidden_bias`` d_gates_h must be d_gates_x: the loop then keeps one array for both.
    """

    name: str
    gates: int  # G
    states: tuple[str, ...]  # ("h",) or ("h", "c")
    forward: Callable[[np.ndarray, np.ndarray, Arrays], tuple[Arrays, Any]]
    backward: Callable[[Arrays, Any], tuple[np.ndarray, np.ndarray, Arrays]]
    hidden_bias: bool = False  # b_hn (H), inside the product with the reset gate: then d_gates_h differs from d_gates_x
    forget_gate: int | None = None  # the gate whose bias starts at 1


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("rnn", 1, ("h",), rnn.forward_tanh, rnn.backward_tanh),
        Cell("rnn-relu", 1, ("h",), rnn.forward_relu, rnn.backward_relu),
        Cell("gru", 3, ("h",), gru.forward, gru.backward, hidden_bias=True),
        Cell("lstm", 4, ("h", "c"), lstm.forward, lstm.backward, forget_gate=1),
    )
}
