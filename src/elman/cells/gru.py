"""Gated recurrent unit, the reset gate after the product; gate order r, z, n, as in PyTorch and cuDNN.

K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014, arXiv:1406.1078); the variant with
the reset after the matrix product is the one of PyTorch's documentation of ``nn.GRU``. For one time step, x_* being
blocks of gates_x = x W_xhᵀ + b_h, h_* blocks of gates_h = h_prev W_hhᵀ (+ b_hn in block n), s the logistic function::

    forward                                   backward
    r = s(x_r + h_r)                 (1)      d_n, d_z = d_h·(1 - z), d_h·(h_prev - n)    (4)
    z = s(x_z + h_z)                 (2)      d_h_prev = d_h · z                          (4)
    n = tanh(x_n + r · h_n)          (3)      d_x_n = d_n · (1 - n²)                      (3)
    h = (1 - z) · n + z · h_prev     (4)      d_h_n, d_r = d_x_n · r, d_x_n · h_n         (3)
                                              d_x_z = d_h_z = d_z · z · (1 - z)           (2)
                                              d_x_r = d_h_r = d_r · r · (1 - r)           (1)

The gradients of gates_x and gates_h differ in block n only, by the factor r.
"""

from __future__ import annotations

import numpy as np

from elman.cells.sigmoid import sigmoid

State = tuple[np.ndarray, ...]


def forward(gates_x: np.ndarray, gates_h: np.ndarray, state: State) -> tuple[State, tuple[np.ndarray, ...]]:
    """(B, 3H), (B, 3H), (h_prev,) -> (h,), saved. Block n of gates_h is kept because (3) multiplies it by r."""
    (h_prev,) = state
    H = h_prev.shape[1]
    r = sigmoid(gates_x[:, :H] + gates_h[:, :H])  # (1)
    z = sigmoid(gates_x[:, H : 2 * H] + gates_h[:, H : 2 * H])  # (2)
    h_n = gates_h[:, 2 * H :]
    n = np.tanh(gates_x[:, 2 * H :] + r * h_n)  # (3)
    h = (1 - z) * n + z * h_prev  # (4)
    return (h,), (r, z, n, h_n, h_prev)


def backward(d_state: State, saved: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, State]:
    """(d_h,), saved -> gradients of gates_x, of gates_h, and the direct part of (h_prev,)."""
    (d_h,) = d_state
    r, z, n, h_n, h_prev = saved
    H = d_h.shape[1]
    d_gates_x = np.empty((len(d_h), 3 * H), d_h.dtype)
    d_x_n = d_h * (1 - z) * (1 - n * n)  # (4) (3)
    d_gates_x[:, 2 * H :] = d_x_n
    d_gates_x[:, H : 2 * H] = d_h * (h_prev - n) * z * (1 - z)  # (4) (2)
    d_gates_x[:, :H] = d_x_n * h_n * r * (1 - r)  # (3) (1)
    d_gates_h = d_gates_x.copy()
    d_gates_h[:, 2 * H :] = d_x_n * r  # (3)
    return d_gates_x, d_gates_h, (d_h * z,)  # (4)
