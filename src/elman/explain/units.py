"""How well single hidden units tell a property of the text, and how well they would by chance.

For yes and no that is 2·(AUC - 1/2), AUC being the chance that a token with the property activates the unit more than
one without it (H. Mann and D. Whitney 1947): 1 and -1 separate without an error, 0 not at all. For numbers it is
Spearman's rank correlation. Both are exact for activations of 8 bits, ties included.
"""

from __future__ import annotations

import numpy as np

SHIFTS = 20
_AT_ONCE = 128  # units


def separation(levels: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, float]:
    """levels (units, N) uint8, labels (N,), bool or numbers, not all alike -> a score from -1 to 1 for each unit, and
    what is reached by chance.

    Chance is the largest ``|score|`` of any unit for ``SHIFTS`` copies of the labels, each moved around the text by a
    random distance: they come in the same runs as the labels, but have nothing to do with the text.
    """
    N = len(labels)
    shifts = np.random.default_rng(seed).integers(N // 10, N - N // 10, SHIFTS, endpoint=True)
    wanted = np.stack([labels, *(np.roll(labels, shift) for shift in shifts)]).astype(np.float64)
    if labels.dtype != np.bool_:
        _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        ranks = _midranks(counts)[inverse]
        wanted = np.stack([ranks, *(np.roll(ranks, shift) for shift in shifts)])
    # Both scores are a covariance of ranks, 2·(AUC - 1/2) with another denominator.
    centred = wanted - wanted.mean(axis=1, keepdims=True)
    scores = np.empty((1 + SHIFTS, len(levels)))
    for start in range(0, len(levels), _AT_ONCE):
        ranks = np.stack(
            [_midranks(np.bincount(unit, minlength=256))[unit] for unit in levels[start : start + _AT_ONCE]]
        )
        ranks -= (N + 1) / 2
        covariance = centred @ ranks.T
        if labels.dtype == np.bool_:
            yes = np.count_nonzero(labels)
            part = 2 * covariance / (yes * (N - yes))
        else:
            spread = np.sqrt(np.square(centred[0]).sum() * np.square(ranks).sum(axis=1))
            part = np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0)
        scores[:, start : start + _AT_ONCE] = part
    return scores[0], float(np.abs(scores[1:]).max())


def most_interpretable(scores: np.ndarray, count: int) -> np.ndarray:
    """scores (properties, units) -> the ``count`` units that come first in the lists of the properties, ascending.

    They are taken from all lists in turn, so that the first of every list are among them.
    """
    if not len(scores):
        return np.arange(min(count, scores.shape[1]))
    places = np.argsort(np.argsort(-np.abs(scores), axis=1, kind="stable"), axis=1).min(axis=0)
    return np.sort(np.lexsort((-np.abs(scores).max(axis=0), places))[:count])


def _midranks(counts: np.ndarray) -> np.ndarray:
    """How often each value comes, in order -> the rank of each, from 1; equal values share the mean of theirs."""
    return np.cumsum(counts) - (counts - 1) / 2
