"""What a language model computes while it reads a text: hidden units, predictions, and how often its gates are shut.

The shares of saturated gates are those of A. Karpathy, J. Johnson and L. Fei-Fei, "Visualizing and Understanding
Recurrent Networks" (2015, arXiv:1506.02078), section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from elman.errors import NonFiniteError
from elman.explain.recording import Call, recording
from elman.models import LanguageModel

LEFT, RIGHT = 0.1, 0.9  # a switch below the one or above the other is saturated
LIKELIEST = 5
_STEPS = 256  # that are recorded at a time,
_LOGITS = 1 << 22  # with at most so many logits


@dataclass(frozen=True)
class Levels:
    """Activations in 8 bits: h = (levels - zero) · step.

    levels (units, N) uint8; zero 128 where h has both signs, else 0; step (units,).
    """

    levels: np.ndarray
    zero: int
    step: np.ndarray


@dataclass(frozen=True)
class Saturation:
    """How often a gate is saturated in each unit: shares from 0 to 1, (L, H).

    left: below ``LEFT``, right: above ``RIGHT``. ``gate`` "h" stands for a cell without switches: left is then
    h < -``RIGHT``, or h = 0 where h is never negative, which has no right.
    """

    gate: str
    left: np.ndarray
    right: np.ndarray | None


@dataclass(frozen=True)
class Activations:
    """What a model computed while it read N tokens.

    hidden: h of all L·H units, layer after layer. surprisal (N,): nats, NaN for the first token, which nothing
    predicts. likeliest (N, 5): the ids that the model expects after each token, the likeliest first, fewer columns
    where the vocabulary is smaller; probabilities (N, 5): theirs.
    """

    hidden: Levels
    surprisal: np.ndarray
    likeliest: np.ndarray
    probabilities: np.ndarray
    saturation: tuple[Saturation, ...]


def read(model: LanguageModel, ids: np.ndarray, restarts: Sequence[int] = ()) -> Activations:
    """Read ids (N,) in one exact pass on the NumPy kernel, which carries its state.

    restarts: places, ascending, before which the state goes back to zero. Raises NonFiniteError where the model's
    numbers are not finite.
    """
    config, cell = model.config, model.cell
    exact = LanguageModel(config, kernel="numpy", parameters=model.parameters)
    N, L, H = len(ids), config.num_layers, config.hidden_size
    hidden = np.empty((N, L, H), config.dtype)
    surprisal = np.full(N, np.nan)
    likeliest = np.empty((N, min(LIKELIEST, config.vocab_size)), np.int64)
    probabilities = np.empty(likeliest.shape)
    shut = {gate: np.zeros((2, L, H), np.int64) for gate in cell.switches}
    length = max(1, min(_STEPS, _LOGITS // config.vocab_size))
    for first, end in pairwise([0, *restarts, N]):
        state = exact.initial_state(1)
        for start in range(first, end, length):
            part = slice(start, min(start + length, end))
            with np.errstate(all="ignore"), recording(cell.forward) as calls:
                logits, state = exact.forward(ids[part, np.newaxis], state)
            if not np.isfinite(logits).all():
                raise NonFiniteError(
                    f"the model's scores are not finite after token {start} of the text or a later one"
                )
            hidden[part] = _values(calls, "h", L).swapaxes(0, 1)
            for gate, counts in shut.items():
                openness = _values(calls, gate, L)
                counts += np.stack([(openness < LEFT).sum(axis=1), (openness > RIGHT).sum(axis=1)])
            log_p = _log_probabilities(logits[:, 0])
            following = ids[part.start + 1 : part.stop + 1]
            surprisal[part.start + 1 : part.stop + 1] = -log_p[np.arange(len(following)), following]
            likeliest[part] = _largest(log_p, likeliest.shape[1])
            probabilities[part] = np.exp(np.take_along_axis(log_p, likeliest[part], axis=1))
    saturation = tuple(Saturation(gate, left / N, right / N) for gate, (left, right) in shut.items())
    return Activations(
        quantised(hidden.reshape(N, L * H)), surprisal, likeliest, probabilities, saturation or (_of_h(hidden),)
    )


def quantised(hidden: np.ndarray) -> Levels:
    """Activations (N, units) -> 8 bits each.

    The scale is from -1 to 1, or as far as ``|h|`` goes where that is more; where h is never negative, as after relu,
    each unit's own is from 0 to its largest value.
    """
    signed = bool((hidden < 0).any())
    zero, most = (128, 127) if signed else (0, 255)
    scale = np.full(hidden.shape[1], max(1.0, float(np.abs(hidden).max()))) if signed else hidden.max(axis=0)
    step = scale.astype(np.float64) / most
    levels = np.empty((hidden.shape[1], len(hidden)), np.uint8)
    for unit, values in enumerate(hidden.T):  # one by one, for no second array of floats
        levels[unit] = np.rint(values / step[unit]) + zero if step[unit] > 0 else zero
    return Levels(levels, zero, step)


def _values(calls: list[Call], name: str, num_layers: int) -> np.ndarray:
    """What a local name of the cell was, layer after layer, step after step -> (L, T, H)."""
    each = np.stack([call.values[name][0] for call in calls])
    return each.reshape(num_layers, -1, each.shape[1])


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _largest(rows: np.ndarray, count: int) -> np.ndarray:
    """Columns of the largest entries of each row, the largest first."""
    columns = np.argpartition(-rows, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(rows, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def _of_h(hidden: np.ndarray) -> Saturation:
    if (hidden < 0).any():
        return Saturation("h", (hidden < -RIGHT).mean(axis=0), (hidden > RIGHT).mean(axis=0))
    return Saturation("h", (hidden == 0).mean(axis=0), None)
