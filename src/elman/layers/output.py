"""The output layer: logits = h W_hyᵀ + b_y, and their softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

Backward = Callable[[float], tuple[np.ndarray, np.ndarray, np.ndarray]]


def logits(W_hy: np.ndarray, b_y: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """W_hy (V, H), b_y (V), hidden (T, B, H) -> logits (T, B, V)."""
    T, B, H = hidden.shape
    return (hidden.reshape(T * B, H) @ W_hy.T + b_y).reshape(T, B, -1)


def forward(
    kernel: ModuleType, W_hy: np.ndarray, b_y: np.ndarray, hidden: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, Backward]:
    """Hidden (T, B, H), targets (T, B) with -1 for not scored -> losses (T, B) in nats, and backward.

    backward(scale) -> d_hidden, d_W_hy, d_b_y of ``scale`` times the sum of the losses.
    """
    T, B, H = hidden.shape
    rows = hidden.reshape(T * B, H)
    losses, probabilities = kernel.cross_entropy_forward(logits(W_hy, b_y, hidden).reshape(T * B, -1), targets.ravel())

    def backward(scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        d_logits = kernel.cross_entropy_backward(probabilities, targets.ravel(), scale)
        return (d_logits @ W_hy).reshape(T, B, H), d_logits.T @ rows, d_logits.sum(axis=0)

    return losses.reshape(T, B), backward
