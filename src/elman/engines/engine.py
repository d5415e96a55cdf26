"""What every training engine can do."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from elman.batches import Windows
from elman.layers.stack import State
from elman.models import LanguageModel
from elman.optimizers import Optimizer


class Engine(Protocol):
    """Trains a model step by step and owns the recurrent state that is carried from window to window."""

    name: str
    precision: str  # of the operands of products in a step: bf16, or the model's dtype
    model: LanguageModel
    optimizer: Optimizer
    state: State  # h (L, B, H) or (h, c) after the last step; None before the first
    rng: np.random.Generator  # draws the dropout masks
    gradient_norm: float  # of the last step, before clipping

    def step(
        self, inputs: np.ndarray, targets: np.ndarray, reset: Any = None, learning_rate: float | None = None
    ) -> float:
        """One training step: inputs and targets (T, B), targets -1 where not scored -> the loss in nats.

        reset (B,) bool starts those streams from zero; learning_rate overrides the optimiser's. Raises NonFiniteError,
        with the parameters as they were, where the loss or a gradient is NaN or infinite.
        """

    def evaluate(self, windows: Windows) -> float:
        """Mean nats a token over one pass of all windows, without dropout; the training state is left alone."""
