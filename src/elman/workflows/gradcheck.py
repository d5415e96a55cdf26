"""Proof on this machine that the gradients are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from elman.cells import CELLS
from elman.config import ModelConfig
from elman.errors import InputError, did_you_mean
from elman.testing import TOLERANCE, GradientCheck, check_cell, check_language_model


def gradcheck(
    cell: str | None = None,
    hidden_size: int = 4,
    num_layers: int = 2,
    seq_length: int = 5,
    batch_size: int = 3,
    vocab_size: int = 5,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """Check one cell, or all, in layers (parameters, initial state, input) and in a whole model (every parameter).

    Yields for each array: cell, part ("layers" or "model"), name, size, error (max|analytic - numeric| /
    max|analytic|), the entry where they differ most with both values, tolerance and ok. Raises InputError for an
    unknown cell or a size below 1.
    """
    if cell is not None and cell not in CELLS:
        raise InputError(f"no cell {cell!r}; there are {', '.join(CELLS)}.{did_you_mean(cell, list(CELLS))}")
    for name, size, least in (("seq_length", seq_length, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if size < least:
            raise InputError(f"{name} must be a whole number {least} or more, not {size}")
    sizes: dict[str, Any] = {"hidden_size": hidden_size, "num_layers": num_layers, "dtype": "float64"}
    for one in [cell] if cell else CELLS:
        config = ModelConfig(vocab_size, one, **sizes)  # type: ignore[arg-type]
        checks = check_cell(
            CELLS[one], seq_length, batch_size, vocab_size, hidden_size, num_layers, seed, tolerance=None
        )
        yield from (_record(one, "layers", check) for check in checks)
        checks = check_language_model(config, seq_length, batch_size, seed=seed, tolerance=None)
        yield from (_record(one, "model", check) for check in checks)


def _record(cell: str, part: str, check: GradientCheck) -> dict[str, Any]:
    return {
        "cell": cell,
        "part": part,
        "name": check.name,
        "size": check.size,
        "error": check.error,
        "index": list(check.index),
        "analytic": check.analytic,
        "numeric": check.numeric,
        "tolerance": TOLERANCE,
        "ok": check.error <= TOLERANCE,
    }
