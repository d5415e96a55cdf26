"""Proof on this machine that the gradients are right, and what the proof says where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elman.cells import CELLS
from elman.config import ModelConfig
from elman.errors import InputError, did_you_mean
from elman.explain.breaks import terms, without
from elman.models import LanguageModel
from elman.testing import TOLERANCE, GradientCheck, check_cell, check_language_model
from elman.text_model import load

SIZES = {"hidden_size": 4, "num_layers": 2, "vocab_size": 5}
STEPS = 5
_ENTRIES = 100


def gradcheck(
    cell: str | None = None,
    hidden_size: int | None = None,
    num_layers: int | None = None,
    seq_length: int | None = None,
    batch_size: int = 3,
    vocab_size: int | None = None,
    seed: int = 0,
    path: str | Path | None = None,
    entries: int | None = None,
    broken: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Check one cell, or all, in layers (parameters, initial state, input) and in a whole model (every parameter).

    Sizes left out are those of ``SIZES``, and ``STEPS`` time steps. path: a model file or run folder, whose weights are
    checked in float64 on random ids, instead of cells; entries: how many of an array's are compared (None: all; 100 of
    a model file's). broken: the name of a term that is dropped from the backward pass (:mod:`elman.explain.breaks`), of
    every cell that has it; then one layer and one time step where nothing else is said, so that nothing is wrong but
    what the term is part of.

    Yields for each array: cell, part ("layers" or "model"), name, size, checked, error (max|analytic - numeric| /
    max|analytic|), the entry where they differ most with both values, its gate (None where there is but one),
    tolerance, ok and broken. Raises InputError for an unknown cell or term, a size below 1, or sizes beside a model
    file, ModelFileError for an unusable one.
    """
    if cell is not None and cell not in CELLS:
        raise InputError(f"no cell {cell!r}; there are {', '.join(CELLS)}.{did_you_mean(cell, list(CELLS))}")
    counts = (("seq_length", seq_length, 1), ("batch_size", batch_size, 1), ("seed", seed, 0), ("entries", entries, 1))
    for name, size, least in counts:
        if size is not None and size < least:
            raise InputError(f"{name} must be a whole number {least} or more, not {size}")
    if seq_length is None:
        seq_length = STEPS if broken is None else 1
    if vocab_size == 1:
        raise InputError("vocab_size must be 2 or more: one symbol is always right, and every gradient 0")
    given = {"hidden_size": hidden_size, "num_layers": num_layers, "vocab_size": vocab_size}
    sizes = {name: size for name, size in given.items() if size is not None}
    if path is not None:
        if cell is not None or sizes:
            raise InputError(
                f"a model file has its own {', '.join([*['cell'] * (cell is not None), *sizes])}; leave it out"
            )
        yield from _check_file(path, seq_length, batch_size, seed, entries or _ENTRIES, broken)
        return
    for one in [cell] if cell else _cells_with(broken):
        whole = {**SIZES, **({} if broken is None else {"num_layers": 1}), **sizes}
        config = ModelConfig(cell=one, dtype="float64", **whole)  # type: ignore[arg-type]
        tested = CELLS[one] if broken is None else without(CELLS[one], broken)
        checks = check_cell(
            tested,
            seq_length,
            batch_size,
            config.vocab_size,
            config.hidden_size,
            config.num_layers,
            seed,
            tolerance=None,
            entries=entries,
        )
        yield from (_record(config, "layers", check, broken) for check in checks)
        model = LanguageModel(config, seed, kernel="numpy")
        model.cell = tested
        checks = check_language_model(model, seq_length, batch_size, seed=seed, tolerance=None, entries=entries)
        yield from (_record(config, "model", check, broken) for check in checks)


def _cells_with(broken: str | None) -> list[str]:
    if broken is None:
        return list(CELLS)
    known = {name: [term.name for term in terms(cell)] for name, cell in CELLS.items()}
    if not any(broken in names for names in known.values()):
        lists = "; ".join(f"{name} has {', '.join(names)}" for name, names in known.items())
        raise InputError(f"no cell's backward has a term {broken!r}; {lists}")
    return [name for name, names in known.items() if broken in names]


def _check_file(
    path: str | Path, seq_length: int, batch_size: int, seed: int, entries: int, broken: str | None
) -> Iterator[dict[str, Any]]:
    model = load(path, kernel="numpy").language_model.in_float64()
    if broken is not None:
        model.cell = without(model.cell, broken)
    checks = check_language_model(model, seq_length, batch_size, seed=seed, tolerance=None, entries=entries)
    yield from (_record(model.config, "model", check, broken) for check in checks)


def _record(config: ModelConfig, part: str, check: GradientCheck, broken: str | None) -> dict[str, Any]:
    gates = CELLS[config.cell].gate_names
    of_gates = len(gates) > 1 and check.name.endswith(("W_xh", "W_hh", "b_h"))
    return {
        "cell": config.cell,
        "part": part,
        "name": check.name,
        "size": check.size,
        "checked": check.checked,
        "error": check.error,
        "index": list(check.index),
        "gate": gates[check.index[0] // config.hidden_size] if of_gates else None,
        "analytic": check.analytic,
        "numeric": check.numeric,
        "tolerance": TOLERANCE,
        "ok": check.error <= TOLERANCE,
        "broken": broken,
    }
