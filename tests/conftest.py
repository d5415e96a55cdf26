"""What several test files need: the corpora, where this machine has them, and small texts that never skip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import elman
from browser import browser, open_page  # noqa: F401  fixtures

# The same examples in every run, so that what passes here passes elsewhere.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

DATA = Path(os.environ.get("ELMAN_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def corpus(name: str) -> Path:
    """A corpus file of the tests' data folder, or a skip that says why."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the corpus {name} is not in {DATA} (set ELMAN_TEST_DATA to the folder that holds it)")
    return path


@pytest.fixture(scope="session")
def verse() -> str:
    """A small self-made text of 4,047 characters, 30 of them distinct."""
    lines = (
        "the river runs below the hill, and over stones it sings;",
        "a heron waits there, grey and still, and folds his heavy wings.",
        "What does he hear? The water, mild; the wind, the reeds, the rain.",
        "He lifts, and where he was the child looks for him, but in vain.",
    )
    return "\n".join(lines * 16)


@pytest.fixture(scope="module")
def text(verse, tmp_path_factory) -> Path:
    """The small text as a file that the tests of a module share, and leave as it is."""
    path = tmp_path_factory.mktemp("text") / "verse.txt"
    path.write_text(verse, encoding="utf-8")
    return path


@pytest.fixture
def verse_file(verse: str, tmp_path: Path) -> Path:
    """The small text as a file."""
    path = tmp_path / "verse.txt"
    path.write_text(verse, encoding="utf-8")
    return path


def open_layer(cell: str, *sizes: int, **options: Any) -> elman.LSTM:
    """The layer class of a cell, opened; a cell that is in CELLS but has no class makes every test that asks fail."""
    if cell.startswith("rnn"):
        return elman.RNN(*sizes, nonlinearity="relu" if cell == "rnn-relu" else "tanh", **options)
    return {"gru": elman.GRU, "lstm": elman.LSTM}[cell](*sizes, **options)


def parts_of(state: Any) -> tuple[np.ndarray, ...]:
    """The arrays of a state: (h,) or (h, c)."""
    return state if isinstance(state, tuple) else (state,)
