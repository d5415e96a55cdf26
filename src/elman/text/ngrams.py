"""What a model has to beat on the same validation part: n-grams that only count, and a compressor."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from elman.errors import InputError


def witten_bell(train_ids: np.ndarray, valid_ids: np.ndarray, vocab_size: int, max_order: int = 6) -> list[float]:
    """Nats a token of the validation ids under n-grams that counted the training ids; orders 1 to ``max_order``.

    train_ids (N,), valid_ids (M,), both whole numbers from 0 to V - 1. The models are Witten-Bell's, interpolated:

        P(w|h) = (c(hw) + N1+(h·) P(w|h')) / (c(h) + N1+(h·))

    where h is the context of order - 1 tokens, h' is h without its oldest token, c(hw) says how often w followed h,
    c(h) how often anything did, and N1+(h·) how many distinct tokens did. Below order 1 stands the uniform 1/V. A
    context that nothing followed leaves P(w|h'). The validation part goes on where the training part ends: its first
    tokens have the last training tokens as context.
    I. H. Witten and T. C. Bell 1991, The zero-frequency problem, IEEE Trans. Information Theory 37(4), method C;
    S. F. Chen and J. Goodman 1998, TR-10-98, Harvard, for the interpolated form.

    Memory is some 80 bytes a token, whatever V and the order are; time is a sort of all tokens for each order.
    Raises InputError for ids that are no row of whole numbers, empty or out of range, and for an order below 1.
    """
    _check(train_ids, valid_ids, vocab_size, max_order)
    N, M = len(train_ids), len(valid_ids)
    ids = np.concatenate([train_ids, valid_ids], dtype=np.int64)
    nats = np.full(M, math.log(vocab_size))
    means = []
    # grams[i] is the number, from 0 without gaps, of the n-gram that begins at token i: the context of token i + n,
    # and with it one number again. So a pair packs into (N + M) V, not V to the power of n. Here they are empty, n = 0.
    grams, distinct_grams = np.zeros(N + M + 1, np.int64), 1
    for order in range(1, min(max_order, N) + 1):
        contexts, distinct_contexts = grams[:-1], distinct_grams
        pairs, grams = np.unique(contexts * vocab_size + ids[order - 1 :], return_inverse=True)
        distinct_grams = len(pairs)
        trained = N - order + 1  # n-grams that end in the training part; the M after them end in the other
        count = np.bincount(grams[:trained], minlength=distinct_grams)
        context_count = np.bincount(contexts[:trained], minlength=distinct_contexts)
        followers = np.bincount(pairs[count > 0] // vocab_size, minlength=distinct_contexts)
        followers[followers == 0] = 1  # with c(h) = 0 the formula is then P(w|h')
        h = contexts[trained:]
        with np.errstate(divide="ignore"):  # log 0 where w never followed h
            log_count = np.log(count[grams[trained:]])
        # In logarithms, as a high order makes a probability too small for a float.
        nats = np.log(context_count[h] + followers[h]) - np.logaddexp(log_count, np.log(followers[h]) - nats)
        means.append(float(nats.mean()))
    return means + means[-1:] * (max_order - len(means))  # a context as long as the training part was never followed


def xz_nats(train_text: Iterable[str], valid_text: Iterable[str]) -> float:
    """Nats a character that ``xz -9e`` needs for the validation text once it has read the training text.

    Both are texts in pieces, of any size; they are read once, and no piece is kept. The figure is the difference of
    two compressed sizes in bytes times 8 ln 2, over the characters of the validation text. xz looks back 64 MiB; its
    two compressors take 130 MiB together, and up to 1.4 GiB for a text as long as that.
    Raises InputError for an empty validation text.
    """
    import lzma

    train_only, both = (lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME) for _ in range(2))
    extra = characters = 0
    for piece in train_text:
        raw = piece.encode("utf-8")
        extra += len(both.compress(raw)) - len(train_only.compress(raw))
    extra -= len(train_only.flush())
    for piece in valid_text:
        extra += len(both.compress(piece.encode("utf-8")))
        characters += len(piece)
    extra += len(both.flush())
    if characters == 0:
        raise InputError("the validation text is empty; there is nothing to compress")
    return extra * 8 * math.log(2) / characters


def _check(train_ids: np.ndarray, valid_ids: np.ndarray, vocab_size: int, max_order: int) -> None:
    for name, ids in (("train_ids", train_ids), ("valid_ids", valid_ids)):
        if ids.ndim != 1 or len(ids) == 0 or not np.issubdtype(ids.dtype, np.integer):
            raise InputError(f"{name} must be at least 1 whole number in one row, not {ids.dtype} {ids.shape}")
        if ids.min() < 0 or ids.max() >= vocab_size:
            raise InputError(f"{name} must be from 0 to {vocab_size - 1}, not {ids.min()} to {ids.max()}")
    if max_order < 1:
        raise InputError(f"max_order must be a whole number 1 or more, not {max_order!r}")
