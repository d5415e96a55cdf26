"""From logits and uniform random numbers to token ids: greedy, temperature, top-k, top-p.

Randomness comes in as an array of uniforms in [0, 1), so the same uniforms give the same ids.
"""

from __future__ import annotations

import math

import numpy as np

from elman.errors import InputError, NonFiniteError

BROKEN_MODEL = "the model's logits are not numbers: it is broken; sample an earlier one"


def sample(
    logits: np.ndarray, uniforms: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """Draw one id from each row by inverting the cumulative distribution over the ids in their order.

    logits (B, V), uniforms (B,) in [0, 1) -> ids (B,). ``temperature`` 0 or more divides the logits, and 0 takes the
    likeliest id; ``top_k`` 1 or more keeps the k likeliest (Fan et al. 2018, arXiv:1805.04833), 0 keeps all;
    ``top_p`` above 0 to 1 keeps the fewest likeliest whose probabilities reach it (Holtzman et al. 2020,
    arXiv:1904.09751). Ids that are equally likely are ranked by number.
    Raises InputError for a temperature below 0 or infinite, NonFiniteError where a row's largest logit is not finite.
    """
    if not 0 <= temperature < math.inf:
        raise InputError(f"temperature must be a number 0 or more, not {temperature!r}")
    if not np.isfinite(logits.max(axis=1)).all():  # it is NaN where any is
        raise NonFiniteError(BROKEN_MODEL)
    if temperature == 0:
        return logits.argmax(axis=1)
    # Subtracting the maximum before dividing keeps a tiny temperature from overflowing.
    with np.errstate(over="ignore"):  # to -inf, which is a probability of 0
        scaled = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperature
    p = np.exp(scaled)
    if top_k > 0 or top_p < 1:
        order = np.argsort(-p, axis=1, kind="stable")
        kept = np.take_along_axis(p, order, axis=1)
        if top_k > 0:
            kept[:, top_k:] = 0
        if top_p < 1:
            cumulative = np.cumsum(kept, axis=1)
            kept[:, 1:][cumulative[:, :-1] >= top_p * cumulative[:, -1:]] = 0
        np.put_along_axis(p, order, kept, axis=1)
    cumulative = np.cumsum(p, axis=1)
    return (cumulative <= uniforms[:, np.newaxis] * cumulative[:, -1:]).sum(axis=1)
