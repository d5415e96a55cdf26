"""The losses of training runs, from what their logs hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from elman.errors import InputError, RunFolderError
from elman.workflows.names import names
from elman.workflows.run_folder import LOG_FILE

AXES = ("steps", "seconds", "tokens")


def curves(runs: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Read the logs of run folders, which may still be training; nothing is locked or changed.

    -> for each run: name (its folder's, with as much of the path as tells it from the others), run (the path),
    vocab_size (None where the log does not say), notes, and ``train`` and ``valid``: lists steps, seconds, tokens, loss
    (nats a token) of equal length. A line that is not whole, as the last one of a killed run, and a loss that is not
    finite are left out; a note says so, but for a last line. Raises RunFolderError where there is no log, InputError
    where a run is given twice.
    """
    paths = [Path(run) for run in runs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("a run is given twice; give each once")
    return [{"name": name, "run": str(path), **_curve(path)} for name, path in zip(names(paths), paths, strict=True)]


def _curve(path: Path) -> dict[str, Any]:
    notes: list[str] = []
    train: dict[str, list[float]] = {"steps": [], "seconds": [], "tokens": [], "loss": []}
    valid: dict[str, list[float]] = {"steps": [], "seconds": [], "tokens": [], "loss": []}
    without, vocab_size = 0, None
    for record in _records(path / LOG_FILE, notes):
        try:
            match record["event"]:
                case "step":
                    values = (record["step"], record["seconds"], record["tokens"], record["train_loss"])
                    curve = train
                case "eval":
                    values = (record["step"], record["seconds"], record["tokens"], record["valid_loss"])
                    curve = valid
                case "start":
                    vocab_size = record.get("vocab_size")
                    continue
                case _:
                    continue
            step, seconds, tokens, loss = (float(value) for value in values)
        except (KeyError, TypeError, ValueError, OverflowError):
            without += 1
            continue
        if not all(map(math.isfinite, (step, seconds, tokens, loss))):
            without += 1
            continue
        for name, value in zip(curve, (int(step), seconds, int(tokens), loss), strict=True):
            curve[name].append(value)
    if without:
        notes.append(f"{without} record(s) without a finite loss are left out")
    return {"vocab_size": vocab_size, "notes": notes, "train": train, "valid": valid}


def _records(log: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    if log.parent.is_file():
        raise RunFolderError(f"{log.parent} is a file; give the folder of the run")
    try:
        lines = log.read_bytes().splitlines()
    except OSError as error:
        raise RunFolderError(
            f"{log.parent} holds no run to plot: cannot read {LOG_FILE} in it: {error.strerror}"
        ) from None
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or "event" not in record:
                raise ValueError
        except (ValueError, RecursionError):
            if number < len(lines):
                notes.append(f"line {number} of {LOG_FILE} is damaged and left out")
            continue
        yield record
