"""A row of E for each token id."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np


def forward(
    kernel: ModuleType, E: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """E (V, E), ids (T, B) -> outputs (T, B, E), and backward: d_outputs -> d_E (V, E)."""

    def backward(d_outputs: np.ndarray) -> np.ndarray:
        return kernel.scatter_add_rows(d_outputs, ids, len(E))

    return kernel.gather_rows(E, ids), backward
