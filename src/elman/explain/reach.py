"""How far back in time a loss reaches: the norm of its gradient against the distance.

Y. Bengio, P. Simard and P. Frasconi, "Learning Long-Term Dependencies with Gradient Descent is Difficult" (1994);
R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks" (2013, arXiv:1211.5063).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from elman.cells import Arrays
from elman.config import CellName
from elman.errors import NonFiniteError
from elman.layers import output
from elman.models import LanguageModel

WINDOWS = 16
FURTHEST = 100
_NUMBERS = 1 << 23  # of gates that are held at a time


@dataclass(frozen=True)
class Windows:
    """Stretches of a text: ``starts`` (B,); each is ``warm_up`` steps that give a state, then distance + 1 steps."""

    starts: np.ndarray
    warm_up: int
    distance: int


def windows(tokens: int, restarts: Sequence[int] = (), most: int = WINDOWS, furthest: int = FURTHEST) -> Windows:
    """Where to look in a text of 2 tokens or more: evenly spread, as far back as the text goes and ``furthest`` allows.

    Where the state restarts, a window is the beginning of one of the longest stretches between restarts.
    """
    lengths = {start: min(end, tokens - 1) - start for start, end in pairwise([0, *restarts, tokens])}
    longest = sorted(lengths, key=lambda start: -lengths[start])[:most]
    length = lengths[longest[-1]] if restarts else tokens - 1
    if length < 1:  # a last stretch of one token, which nothing follows
        longest, length = longest[:-1], 1
    distance = min(furthest, length - 1)
    if restarts:
        return Windows(np.array(sorted(longest)), 0, distance)
    warm_up = min(distance, length - 1 - distance)
    starts = np.unique(np.linspace(0, length - 1 - distance - warm_up, most).astype(np.int64))
    return Windows(starts, warm_up, distance)


def reach(model: LanguageModel, ids: np.ndarray, where: Windows) -> np.ndarray:
    """‖d loss_t / d h_{t-k}‖ for k = 0 … distance, relative to k = 0 -> (distance + 1,), in float64.

    loss_t is the loss at the last step of a window alone; the norm is over the units of all layers, and the mean over
    windows the geometric one: 0 where the gradient is exactly 0 in one of them. Windows whose last step is predicted
    so well that it has no gradient do not count. Raises NonFiniteError where the model's numbers are not finite.
    """
    T = where.warm_up + where.distance + 1
    model = model.in_float64()
    numbers = T * model.config.num_layers * model.cell.gates * model.config.hidden_size
    at_once = max(1, _NUMBERS // numbers)
    places = where.starts + np.arange(T + 1)[:, np.newaxis]
    with np.errstate(all="ignore"):  # a norm that is not finite is an error, and the logarithm of 0 is meant
        norms = np.concatenate(
            [
                _norms(model, ids[places[:, start : start + at_once]].astype(np.int64), where.warm_up)
                for start in range(0, len(where.starts), at_once)
            ],
            axis=1,
        )
        if not np.isfinite(norms).all():
            raise NonFiniteError("the model's gradients on this text are not finite")
        norms = norms[:, norms[0] > 0]
        if norms.shape[1] == 0:
            return np.zeros(where.distance + 1)
        return np.exp(np.log(norms / norms[0]).mean(axis=1))


def fresh(model: LanguageModel, cell: CellName) -> LanguageModel:
    """A model of the same sizes with this cell, initialised and not trained."""
    return LanguageModel(dataclasses.replace(model.config, cell=cell, dtype="float64"), kernel="numpy")


def _norms(model: LanguageModel, ids: np.ndarray, warm_up: int) -> np.ndarray:
    """Windows (T + 1, B) of ids -> norms of the gradient at the distances 0, 1, … (T - warm_up, B)."""
    cell = model.cell
    squares: list[np.ndarray] = []  # from the last layer to the first, in each from the last step to the first

    def backward(d_state: Arrays, saved: Any) -> Any:
        squares.append(np.square(d_state[0]).sum(axis=1))
        return cell.backward(d_state, saved)

    state = model.hidden(ids[:warm_up])[1] if warm_up else None
    watched = LanguageModel(model.config, kernel="numpy", parameters=model.parameters)
    watched.cell = dataclasses.replace(cell, backward=backward)
    hidden, _, hidden_backward = watched.hidden(ids[warm_up:-1], state)
    d_hidden = np.zeros_like(hidden)
    _, d_hidden[-1:], _, _ = output.gradients(
        model.kernel, model.output_weights, model.parameters["output.b_y"], hidden[-1:], ids[-1:], 1.0
    )
    hidden_backward(d_hidden)
    return np.sqrt(np.reshape(squares, (model.config.num_layers, len(hidden), -1)).sum(axis=0))
