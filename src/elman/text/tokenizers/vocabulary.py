"""Which pieces of a training text get an id, and what becomes of those that have none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from elman.errors import InputError

UNKNOWN = "<unk>"
UNKNOWN_SHOWN = "\N{REPLACEMENT CHARACTER}"


def choose(counts: Mapping[str, int], unknown: bool, max_vocab: int | None, min_count: int) -> tuple[list[str], bool]:
    """The pieces that get an id, the most frequent first and ties by their text, and whether ``<unk>`` gets one.

    Dropped are those rarer than ``min_count``, and the rarest where there are more than ``max_vocab`` ids, that of
    ``<unk>`` among them. Dropping anything makes ``<unk>`` one of the vocabulary, as does ``unknown``.
    """
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
    kept = [piece for piece in ranked if counts[piece] >= min_count]
    unknown = unknown or len(kept) < len(ranked)
    if max_vocab is not None and len(kept) + unknown > max_vocab:
        kept, unknown = kept[: max_vocab - 1], True
    return kept, unknown


def id_type(vocab_size: int) -> np.dtype:
    """The smallest unsigned integers that hold the ids of a vocabulary."""
    return np.min_scalar_type(max(1, vocab_size - 1))


def join_ids(parts: Iterable[np.ndarray], vocab_size: int) -> np.ndarray:
    """Arrays of ids (n,) in one (N,), which is empty where there are none."""
    return np.concatenate([np.empty(0, id_type(vocab_size)), *parts])


def check_ids(ids: Iterable[int], vocab_size: int) -> np.ndarray:
    """Ids as an array (N,); raises InputError where there are others than those of a vocabulary."""
    try:
        array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
    except ValueError:  # rows among them
        raise InputError("ids must be whole numbers in a row") from None
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"ids must be whole numbers in a row, not {array.dtype} {array.shape}")
    check_id(array.min(), vocab_size)
    check_id(array.max(), vocab_size)
    return array


def check_id(token: int, vocab_size: int) -> int:
    """The id; raises InputError where the vocabulary has none of this number."""
    if not 0 <= token < vocab_size:
        raise InputError(f"ids must be from 0 to {vocab_size - 1}, not {token}")
    return token


def settle_unknown(
    ids: np.ndarray, on_unknown: str, unknown_id: int | None, error: Callable[[np.ndarray], InputError]
) -> np.ndarray:
    """Ids (N,) with -1 for what has none -> ids by the policy ``on_unknown``; see :class:`Tokenizer`.

    Where the policy is to raise, ``error`` makes the exception from the places of the -1.
    """
    missing = ids < 0
    if not missing.any():
        return ids
    if on_unknown == "skip":
        return ids[~missing]
    if on_unknown == "unknown" and unknown_id is not None:
        return np.where(missing, unknown_id, ids)
    raise error(np.flatnonzero(missing))


def never_saw(names: Iterable[str], offset: int) -> InputError:
    """What to raise for pieces that a model never saw: a line that names the first few, and the first one's offset."""
    distinct = list(dict.fromkeys(names))
    others = " and others" if len(distinct) > 5 else ""
    return InputError(
        f"the model never saw {', '.join(distinct[:5])}{others}, first at offset {offset}; "
        f"leave it out, or give --on-unknown skip to have it skipped"
    )
