"""Long short-term memory, with forget gate and no peepholes; gate order i, f, g, o, as in PyTorch.

S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9 (1997); the forget gate is from
F. Gers, J. Schmidhuber and F. Cummins, "Learning to Forget" (2000). For one time step, s the logistic function and
a = gates_x + gates_h, that is x W_xhᵀ + b_h + h_prev W_hhᵀ, cut into four blocks of H columns; d_h and d_c are the
gradients of (h, c) from the outputs and from the step after::

    forward                                backward, with d_h and d_c from the step after
    i = s(a_i)                    (1)      d_o   = d_h · tanh(c)                         (6)
    f = s(a_f)                    (2)      d_c  += d_h · o · (1 - tanh(c)²)              (6)
    g = tanh(a_g)                 (3)      d_i, d_f, d_g = d_c·g, d_c·c_prev, d_c·i      (5)
    o = s(a_o)                    (4)      d_c_prev = d_c · f                            (5)
    c = f · c_prev + i · g        (5)      d_a_o = d_o · o · (1 - o)                     (4)
    h = o · tanh(c)               (6)      d_a_g = d_g · (1 - g²)                        (3)
                                           d_a_f = d_f · f · (1 - f)                     (2)
                                           d_a_i = d_i · i · (1 - i)                     (1)

d_h_prev is d_a W_hh, which the loop over time adds (kernels/reference.py); d_W_hh and d_W_xh are one product over all
steps (layers/recurrent.py). The forget bias of 1 is part of b_h from initialisation on, never added here.
"""

from __future__ import annotations

import numpy as np

from elman.cells.sigmoid import sigmoid

State = tuple[np.ndarray, ...]


def forward(gates_x: np.ndarray, gates_h: np.ndarray, state: State) -> tuple[State, tuple[np.ndarray, ...]]:
    """(B, 4H), (B, 4H), (h_prev, c_prev) -> (h, c), saved. Saved are the outputs that the derivatives need."""
    _, c_prev = state
    H = c_prev.shape[1]
    a = gates_x + gates_h
    i, f = sigmoid(a[:, :H]), sigmoid(a[:, H : 2 * H])  # (1) (2)
    g = np.tanh(a[:, 2 * H : 3 * H])  # (3)
    o = sigmoid(a[:, 3 * H :])  # (4)
    c = f * c_prev + i * g  # (5)
    tanh_c = np.tanh(c)
    h = o * tanh_c  # (6)
    return (h, c), (i, f, g, o, c_prev, tanh_c)


def backward(d_state: State, saved: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, State]:
    """(d_h, d_c), saved -> gradients of gates_x and gates_h (one array), direct part of (h_prev, c_prev)."""
    d_h, d_c = d_state
    i, f, g, o, c_prev, tanh_c = saved
    H = d_h.shape[1]
    d_o = d_h * tanh_c  # (6)
    d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)  # (6)
    d_i, d_f, d_g = d_c * g, d_c * c_prev, d_c * i  # (5)
    d_a = np.empty((len(d_h), 4 * H), d_h.dtype)
    d_a[:, 3 * H :] = d_o * o * (1 - o)  # (4)
    d_a[:, 2 * H : 3 * H] = d_g * (1 - g * g)  # (3)
    d_a[:, H : 2 * H] = d_f * f * (1 - f)  # (2)
    d_a[:, :H] = d_i * i * (1 - i)  # (1)
    return d_a, d_a, (np.zeros_like(d_h), d_c * f)  # gates_x and gates_h both enter a with weight one; (5)
