"""Every lesson runs as a script, and its cells assert the numbers of its prose."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import DATA, corpus

LESSONS = Path(__file__).parents[1] / "docs" / "lessons"
PAGES = sorted(LESSONS.glob("[0-9]*.md"))
CELL = runpy.run_path(str(LESSONS / "run.py"))["CELL"]
CORPORA = {"3": "tinyshakespeare.txt"}  # what a lesson cannot do without
WARNINGS = ["-W", "error", "-W", "ignore:invalid value encountered in matmul:RuntimeWarning"]  # see pyproject.toml


def run(page: Path, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *WARNINGS, LESSONS / "run.py", page],
        cwd=folder,
        env=os.environ | {"ELMAN_DATA_DIR": str(DATA)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_there_is_a_lesson_for_each_tutorial():
    assert [page.name[0] for page in PAGES] == list("12345")


@pytest.mark.parametrize(
    "page",
    # The two that train for long; the documentation runs them as well.
    [pytest.param(page, marks=pytest.mark.slow) if page.name[0] in "34" else page for page in PAGES],
    ids=lambda page: page.stem,
)
def test_a_lesson_runs(page, tmp_path):
    if page.name[0] in CORPORA:
        corpus(CORPORA[page.name[0]])
    done = run(page, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_cell_of_a_lesson_is_found(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n")
    assert text.count("{code-cell}") == len(CELL.findall(text)) > 0


def test_a_corpus_that_is_not_here_is_one_line(tmp_path):
    page = tmp_path / "far.md"
    cell = "from elman.errors import InputError\nraise InputError('cannot fetch it')\n"
    page.write_text(f"# Far\n\n```{{code-cell}} python\n{cell}```\n", encoding="utf-8")
    done = run(page, tmp_path)
    assert (done.returncode, done.stderr) == (2, f"{page}: cannot fetch it\n")


@pytest.mark.parametrize(
    ("cell", "error"),
    [("assert 1 + 1 == 3", "AssertionError"), ("import warnings; warnings.warn('')", "UserWarning")],
)
def test_a_wrong_number_and_a_warning_are_errors_with_their_place(tmp_path, cell, error):
    page = tmp_path / "wrong.md"
    first = "```{code-cell} python\n:tags: [hide-input]\none = 1\n```\n"
    page.write_text(f"# Wrong\n\n{first}\n```{{code-cell}} python\n{cell}\n```\n", encoding="utf-8")
    done = run(page, tmp_path)
    assert done.returncode == 1
    assert error in done.stderr and 'wrong.md", line 9, in <module>' in done.stderr
