"""The logistic function, the gate of LSTM and GRU."""

from __future__ import annotations

import numpy as np


def sigmoid(a: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-a)), written with tanh, which neither overflows nor warns for any a."""
    return 0.5 * np.tanh(0.5 * a) + 0.5
