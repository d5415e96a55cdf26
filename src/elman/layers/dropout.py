"""Inverted dropout (Srivastava et al. 2014), on the non-recurrent connections only (Zaremba et al. 2014).

Variational dropout (Gal and Ghahramani 2016, arXiv:1512.05287) keeps one mask for all time steps of a window.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def forward(
    x: np.ndarray, probability: float, rng: np.random.Generator, shared: tuple[int, ...] = ()
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Zero each element of x (T, B, H) with this probability, from 0 to below 1, and scale the rest to keep the mean.

    shared: axes along which all elements are dropped or kept together. 0, time, makes it variational.

    -> outputs like x, and backward: d_outputs -> d_x.
    """
    keep = 1.0 - probability
    drawn = [1 if axis in shared else size for axis, size in enumerate(x.shape)]
    mask = (rng.random(drawn, dtype=np.float32) < keep).astype(x.dtype) / x.dtype.type(keep)

    def backward(d_outputs: np.ndarray) -> np.ndarray:
        return d_outputs * mask

    return x * mask, backward
