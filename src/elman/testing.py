"""Gradient checks, for everyone who writes a cell or a layer.

A central difference in float64 against the analytic gradient finds a wrong sign, a missing term or a transposed
product. The step of 1e-5 balances the error of the difference (its square) against rounding (its inverse).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from elman.cells import CELLS, Cell
from elman.config import ModelConfig
from elman.errors import ElmanError
from elman.kernels import reference
from elman.layers import stack
from elman.models import LanguageModel

STEP = 1e-5
TOLERANCE = 1e-7


class GradientError(ElmanError, AssertionError):
    """An analytic gradient that is not the slope of the loss."""


@dataclass(frozen=True)
class GradientCheck:
    """One array's result. error = max|analytic - numeric| / max|analytic|, and the entry where they differ most.

    ``size``: entries of the array; ``checked``: how many of them were compared.
    """

    name: str
    size: int
    checked: int
    error: float
    index: tuple[int, ...]
    analytic: float
    numeric: float


def check_gradients(
    loss: Callable[[], float],
    arrays: Mapping[str, np.ndarray],
    gradients: Mapping[str, np.ndarray],
    step: float = STEP,
    tolerance: float | None = TOLERANCE,
    entries: int | None = None,
) -> list[GradientCheck]:
    """Compare gradients with central differences, in every entry of every array.

    loss: computes the loss from ``arrays``, which are float64, are changed in place, and are put back; gradients: the
    analytic ones, by the same names. tolerance None only measures. entries: compare this many of a larger array, those
    with the largest analytic gradients and as many others.

    Raises GradientError with name, entry, analytic and numeric value where an error is above the tolerance.
    """
    checks = []
    for name, array in arrays.items():
        analytic = np.asarray(gradients[name])
        if analytic.shape != array.shape:
            raise GradientError(f"the gradient of {name} has the shape {analytic.shape}, the array {array.shape}")
        numeric = analytic.astype(np.float64)
        indices = [tuple(map(int, np.unravel_index(at, array.shape))) for at in _chosen(analytic, entries)]
        for index in indices:
            kept = array[index]
            array[index] = kept + step
            above = loss()
            array[index] = kept - step
            below = loss()
            array[index] = kept
            numeric[index] = (above - below) / (2 * step)
        checks.append(_compare(name, analytic, numeric, len(indices)))
        if tolerance is not None and not checks[-1].error <= tolerance:
            raise GradientError(_describe(checks[-1], tolerance))
    return checks


def _chosen(analytic: np.ndarray, entries: int | None) -> np.ndarray:
    """Which entries to compare, as places in the flat array."""
    if entries is None or entries >= analytic.size:
        return np.arange(analytic.size)
    descending = np.argsort(-np.abs(analytic), axis=None, kind="stable")
    largest, others = np.split(descending, [-(-entries // 2)])
    return np.concatenate([largest, np.random.default_rng(0).choice(others, entries // 2, replace=False)])


def _compare(name: str, analytic: np.ndarray, numeric: np.ndarray, checked: int) -> GradientCheck:
    difference = np.abs(analytic - numeric)
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
    scale = np.abs(analytic).max() or np.abs(numeric).max() or 1.0
    error = float(difference.max() / scale)
    return GradientCheck(name, analytic.size, checked, error, worst, float(analytic[worst]), float(numeric[worst]))


def _describe(check: GradientCheck, tolerance: float) -> str:
    return (
        f"the gradient of {check.name} is wrong: error {check.error:.2e} is above {tolerance:.0e}; at {check.index} "
        f"analytic {check.analytic:.12g}, numeric {check.numeric:.12g}"
    )


def check_cell(
    cell: Cell | str,
    seq_length: int = 5,
    batch_size: int = 3,
    input_size: int = 3,
    hidden_size: int = 4,
    num_layers: int = 2,
    seed: int = 0,
    tolerance: float | None = TOLERANCE,
    entries: int | None = None,
) -> list[GradientCheck]:
    """Check a cell, or a name of CELLS, in layers: every parameter, every initial state and the input.

    The loss reads all outputs and the last state.

    Raises GradientError; see :func:`check_gradients`.
    """
    if isinstance(cell, str):
        cell = CELLS[cell]
    rng = np.random.default_rng(seed)
    parameters = stack.initial_parameters(cell, input_size, hidden_size, num_layers, rng, "float64")
    x = rng.standard_normal((seq_length, batch_size, input_size))
    parts = tuple(rng.standard_normal((num_layers, batch_size, hidden_size)) for _ in cell.states)
    state = stack.public_state(parts)
    outputs, last, backward = stack.forward(reference, cell, parameters, x, state)
    # The loss is a random linear form of the outputs and of the last state, so that its gradients are those weights.
    d_outputs = rng.standard_normal(outputs.shape)
    d_last = stack.map_state(lambda part: rng.standard_normal(part.shape), last)

    def loss() -> float:
        outputs, last, _ = stack.forward(reference, cell, parameters, x, state)
        pairs = zip(stack.state_parts(last), stack.state_parts(d_last), strict=True)
        return float(np.vdot(outputs, d_outputs) + sum(np.vdot(part, d_part) for part, d_part in pairs))

    d_x, d_state, gradients = backward(d_outputs, d_last)
    d_parts = stack.state_parts(d_state)
    arrays = {**parameters, "x": x, **{f"initial {name}": part for name, part in zip(cell.states, parts, strict=True)}}
    assert d_x is not None
    all_gradients = {**gradients, "x": d_x}
    all_gradients |= {f"initial {name}": d_part for name, d_part in zip(cell.states, d_parts, strict=True)}
    return check_gradients(loss, arrays, all_gradients, tolerance=tolerance, entries=entries)


def check_language_model(
    model: LanguageModel | ModelConfig,
    seq_length: int = 5,
    batch_size: int = 3,
    reduction: str = "mean",
    seed: int = 0,
    tolerance: float | None = TOLERANCE,
    entries: int | None = None,
) -> list[GradientCheck]:
    """Check every parameter of a whole language model, whose dtype must be float64, one target left unscored.

    model: with its weights, or a config, which is given random ones; entries: see :func:`check_gradients`. Ids and
    state are random.

    Raises GradientError; see :func:`check_gradients`.
    """
    config = model if isinstance(model, ModelConfig) else model.config
    if config.dtype != "float64":
        raise GradientError(f"a gradient check needs dtype float64, not {config.dtype}")
    lm = LanguageModel(model, seed, kernel="numpy") if isinstance(model, ModelConfig) else model
    rng = np.random.default_rng(seed)
    inputs, targets = rng.integers(0, config.vocab_size, (2, seq_length, batch_size))
    if targets.size > 1:
        targets[-1, -1] = -1
    state = stack.map_state(lambda part: rng.standard_normal(part.shape), lm.initial_state(batch_size))

    def run() -> tuple[float, dict[str, np.ndarray]]:
        loss, gradients, _ = lm.loss_and_gradients(
            inputs, targets, state, reduction, rng=np.random.default_rng(seed) if config.dropout else None
        )
        return loss, gradients

    return check_gradients(lambda: run()[0], lm.parameters, run()[1], tolerance=tolerance, entries=entries)
