"""Short names for models and runs that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from elman.text_model import MODEL_FILE


def names(paths: Sequence[str | Path]) -> list[str]:
    """Of each run folder or model file the last part of its path, with as much before it as tells them apart."""
    parts = [Path(path).resolve().parts for path in paths]
    parts = [part[:-1] if part[-1] == MODEL_FILE else part for part in parts]
    short = [part[-1] for part in parts]
    depth = 1
    while len(set(short)) < len(set(parts)):
        depth += 1
        short = ["/".join(part[-depth:]) for part in parts]
    return short
