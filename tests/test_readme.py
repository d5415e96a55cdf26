"""README's commands and Python run, in order, as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, encoding="utf-8")


@pytest.fixture
def folder(tmp_path, verse):
    (tmp_path / "mytext.txt").write_text(verse, encoding="utf-8")
    words = sorted(set(re.findall("[a-z]+", verse)))
    (tmp_path / "names.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return tmp_path


def test_the_first_two_commands_install_and_train_and_test():
    installs = [line for line in commands() if line.startswith("python -m pip install")]
    assert installs == ["python -m pip install . && elman train", "python -m pip install '.[dev]' && pytest"]


def test_every_elman_command_runs_in_order(folder):
    lines = [line for line in commands() if line.startswith("elman ")]
    assert len(lines) >= 8
    for line in lines:
        done = run([sys.executable, "-m", *shlex.split(line, comments=True)], folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    shown = [line for line in blocks("console")[0].splitlines() if line]
    done = run([sys.executable, "-m", *shlex.split(shown[0].removeprefix("$ "))], folder)
    assert (done.returncode, done.stderr.strip()) == (2, shown[1])


def test_python_runs(folder):
    done = run([sys.executable, "-W", "error", "-c", "\n".join(blocks("python"))], folder)
    assert done.returncode == 0, done.stderr


def test_every_link_leads_to_a_file():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (Path(__file__).parents[1] / target).exists(), target


@pytest.mark.slow
def test_elman_train_alone_learns_the_built_in_text(tmp_path):
    done = run([sys.executable, "-m", "elman", "train"], tmp_path)
    assert done.returncode == 0, done.stderr
    loss = float(re.search(r"Best validation loss ([\d.]+) nats", done.stdout)[1])
    # 1.31 on two idle cores; a 3-gram has 1.712. The bound leaves room for a busy machine.
    assert loss < 1.6
