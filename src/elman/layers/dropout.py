"""Inverted dropout (Srivastava et al. 2014; on the non-recurrent connections only, Zaremba et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def forward(
    x: np.ndarray, probability: float, rng: np.random.Generator
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Zero each element of x with this probability, from 0 to below 1, and scale the rest so that the mean stays.

    -> outputs like x, and backward: d_outputs -> d_x.
    """
    keep = 1.0 - probability
    mask = (rng.random(x.shape, dtype=np.float32) < keep).astype(x.dtype) / x.dtype.type(keep)

    def backward(d_outputs: np.ndarray) -> np.ndarray:
        return d_outputs * mask

    return x * mask, backward
