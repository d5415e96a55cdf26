"""One recurrent layer: the products over all time steps at once, around a kernel's loop over time.

The loop needs only ``h_prev W_hhᵀ`` step by step. The input projection, both weight gradients and d_x are one matrix
product each over all N = T·B rows, which is where a processor is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np

from elman.cells import Arrays, Cell

Gradients = dict[str, np.ndarray]
Backward = Callable[[np.ndarray, Arrays], tuple[np.ndarray | None, Arrays, Gradients]]


def forward(
    kernel: ModuleType,
    cell: Cell,
    parameters: Mapping[str, np.ndarray],
    x: np.ndarray,
    state: Arrays,
    lengths: np.ndarray | None = None,
) -> tuple[np.ndarray, Arrays, Backward]:
    """Run one layer over a window.

    parameters: W_xh (G·H, I), W_hh (G·H, H), b_h (G·H), and for a GRU b_hn (H). x: (T, B, I) numbers, or (T, B) ids,
    which stand for one-hot vectors. state: the parts of the state before the first step, each (B, H). lengths (B):
    how many steps each stream has, None for T.

    -> outputs (T, B, H), state after the last step, and backward: (d_outputs, d_state) -> d_x (None for ids), d_state
    of the state before the first step, gradients by parameter name.
    """
    W_xh, W_hh, b_h = parameters["W_xh"], parameters["W_hh"], parameters["b_h"]
    b_hn = parameters["b_hn"] if cell.hidden_bias else None
    one_hot = x.ndim == 2
    T, B = x.shape[:2]
    GH, H = W_hh.shape

    gates_x = (
        kernel.gather_rows(W_xh.T, x) if one_hot else kernel.product(x.reshape(T * B, -1), W_xh.T).reshape(T, B, GH)
    )
    gates_x += b_h
    outputs, last_state, saved = kernel.recurrent_forward(cell, gates_x, W_hh, b_hn, state, lengths)

    def backward(d_outputs: np.ndarray, d_state: Arrays) -> tuple[np.ndarray | None, Arrays, Gradients]:
        d_gates_x, d_gates_h, d_first = kernel.recurrent_backward(cell, d_outputs, d_state, W_hh, saved)
        h_prev = np.concatenate([state[0][np.newaxis], outputs[:-1]])
        rows_x, rows_h = d_gates_x.reshape(T * B, GH), d_gates_h.reshape(T * B, GH)
        if one_hot:
            d_W_xh = kernel.scatter_add_rows(rows_x, x, W_xh.shape[1]).T
        else:
            d_W_xh = kernel.product(rows_x.T, x.reshape(T * B, -1))
        gradients = {
            "W_xh": d_W_xh,
            "W_hh": kernel.product(rows_h.T, h_prev.reshape(T * B, H)),
            "b_h": rows_x.sum(axis=0),
        }
        if cell.hidden_bias:
            gradients["b_hn"] = rows_h[:, -H:].sum(axis=0)
        return None if one_hot else kernel.product(rows_x, W_xh).reshape(x.shape), d_first, gradients

    return outputs, last_state, backward
