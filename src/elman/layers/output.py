"""The output layer: logits = h W_hyᵀ + b_y, and their softmax cross-entropy."""

from __future__ import annotations

from types import ModuleType

import numpy as np


def logits(kernel: ModuleType, W_hy: np.ndarray, b_y: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """W_hy (V, H), b_y (V), hidden (T, B, H) -> logits (T, B, V)."""
    T, B, H = hidden.shape
    return (kernel.product(hidden.reshape(T * B, H), W_hy.T) + b_y).reshape(T, B, -1)


def losses(
    kernel: ModuleType, W_hy: np.ndarray, b_y: np.ndarray, hidden: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Hidden (T, B, H), targets (T, B) with -1 for not scored -> losses (T, B) in nats, 0 where not scored."""
    T, B, H = hidden.shape
    return kernel.output_losses(W_hy, b_y, hidden.reshape(T * B, H), targets.ravel()).reshape(T, B)


def gradients(
    kernel: ModuleType, W_hy: np.ndarray, b_y: np.ndarray, hidden: np.ndarray, targets: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same losses, and the gradients of ``scale`` times their sum -> losses, d_hidden, d_W_hy, d_b_y.

    Forward and backward are one call, because a kernel may go over the rows in groups and never hold all logits.
    """
    T, B, H = hidden.shape
    nats, d_rows, d_W_hy, d_b_y = kernel.output_gradients(W_hy, b_y, hidden.reshape(T * B, H), targets.ravel(), scale)
    return nats.reshape(T, B), d_rows.reshape(T, B, H), d_W_hy, d_b_y
