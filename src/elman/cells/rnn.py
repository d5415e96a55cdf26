"""The simple recurrent network, with tanh or relu.

It is J. L. Elman's, "Finding Structure in Time", Cognitive Science 14 (1990), as in tutorials 1 to 5. For one time
step::

    forward                                     backward
    a = x W_xhᵀ + b_h + h_prev W_hhᵀ     (1)    d_a = d_h · (1 - h²)     tanh    (2)
    h = tanh(a)  or  max(a, 0)           (2)    d_a = d_h · [h > 0]      relu    (2)

``gates_x`` is the part of (1) that comes from the input, ``gates_h`` the part from the previous step. Both parts enter
(1) with weight one, so both gradients are d_a, and nothing reaches h_prev but through gates_h. The derivative of tanh
is taken from its output h: tanh'(a) = 1 - tanh(a)². At exactly 0 the slope of relu is taken as 0, as PyTorch does.
"""

from __future__ import annotations

import numpy as np

State = tuple[np.ndarray, ...]


def forward_tanh(gates_x: np.ndarray, gates_h: np.ndarray, state: State) -> tuple[State, np.ndarray]:
    """(B, H), (B, H) -> state (h,), saved h."""
    h = np.tanh(gates_x + gates_h)  # (1) (2)
    return (h,), h


def backward_tanh(d_state: State, h: np.ndarray) -> tuple[np.ndarray, np.ndarray, State]:
    """Gradient of h -> gradients of gates_x, gates_h and the direct part of h_prev (none: 0)."""
    (d_h,) = d_state
    d_a = d_h * (1 - h * h)  # (2)
    return d_a, d_a, (np.zeros_like(d_h),)  # (1)


def forward_relu(gates_x: np.ndarray, gates_h: np.ndarray, state: State) -> tuple[State, np.ndarray]:
    """(B, H), (B, H) -> state (h,), saved h."""
    h = np.maximum(gates_x + gates_h, 0)  # (1) (2)
    return (h,), h


def backward_relu(d_state: State, h: np.ndarray) -> tuple[np.ndarray, np.ndarray, State]:
    """Gradient of h -> gradients of gates_x, gates_h and the direct part of h_prev (none: 0)."""
    (d_h,) = d_state
    d_a = d_h * (h > 0)  # (2)
    return d_a, d_a, (np.zeros_like(d_h),)  # (1)
