"""What several test files need: the corpora, where this machine has them, and small texts that never skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("ELMAN_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def corpus(name: str) -> Path:
    """A corpus file of the tests' data folder, or a skip that says why."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the corpus {name} is not in {DATA} (set ELMAN_TEST_DATA to the folder that holds it)")
    return path


@pytest.fixture(scope="session")
def verse() -> str:
    """A small self-made text of 4,140 characters, 26 of them distinct."""
    lines = (
        "the river runs below the hill, and over stones it sings;",
        "a heron waits there, grey and still, and folds his heavy wings.",
        "What does he hear? The water, mild; the wind, the reeds, the rain.",
        "He lifts, and where he was the child looks for him, but in vain.",
    )
    return "\n".join(f"{line}" for _ in range(16) for line in lines)


@pytest.fixture
def verse_file(verse: str, tmp_path: Path) -> Path:
    """The small text as a file."""
    path = tmp_path / "verse.txt"
    path.write_text(verse, encoding="utf-8")
    return path
