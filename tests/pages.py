"""Pages of documentation whose blocks of code run: README and docs/, as a reader would run them, one after the other.

A block is run by its language: ``bash`` is a script that ends at its first error, ``python`` a program of its own,
unless its first line is ``# NAME.py``, which saves it as that file. ``console`` shows commands after ``$`` and all that
they print; ``…`` stands for any text. Other languages (``text``) are not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```(bash|python|console)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_CHINESE = """\
宝玉听了，笑道：“林妹妹来了。”黛玉走到门前，见花落满地，心中不觉伤感。
那宝玉便问：“妹妹可曾读书？”黛玉道：“不曾读书，只上了一年学。”
"""
_LINK = re.compile(r"\]\(([^()\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of code and where it stands."""

    language: str
    code: str
    place: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that run, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 2}")
        for found in _BLOCK.finditer(text)
    ]


def links(page: Path) -> list[str]:
    """The targets of the links and images of a page that lead to files, without what follows #."""
    prose = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = [target.partition("#")[0] for target in _LINK.findall(prose)]
    return [target for target in targets if target and not re.match(r"[a-z]+:", target)]


def write_texts(folder: Path, verse: str) -> None:
    """The texts that pages speak of, small, and the commands ``elman`` and ``python`` of this installation."""
    words = sorted(set(re.findall("[a-z]+", verse)))
    (folder / "mytext.txt").write_text(verse, encoding="utf-8")
    (folder / "names.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "hongloumeng.txt").write_bytes((_CHINESE * 20).encode("gb18030"))
    (folder / "bin").mkdir()
    for name, arguments in {"elman": "-m elman", "python": ""}.items():
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(0o755)


def run(block: Block, folder: Path) -> None:
    """Run a block in a folder that ``write_texts`` has prepared; raises AssertionError with what it printed."""
    environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONUTF8": "1"}
    if block.language == "bash":
        done = _run(["bash", "-euo", "pipefail", "-c", block.code], folder, environment)
        assert done.returncode == 0, f"{block.place}\n{done.stdout}"
    elif block.language == "console":
        _run_session(block, folder, environment)
    elif name := re.match(r"# (\w+\.py)\n", block.code):
        (folder / name[1]).write_text(block.code, encoding="utf-8")
    else:
        done = _run([sys.executable, "-W", "error", "-c", block.code], folder, environment)
        assert done.returncode == 0, f"{block.place}\n{done.stdout}"


def _run_session(block: Block, folder: Path, environment: Mapping[str, str]) -> None:
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        done = _run(["bash", "-c", command], folder, environment)
        wanted = ".*".join(map(re.escape, shown.strip().split("…")))
        assert re.fullmatch(wanted, done.stdout.strip(), flags=re.DOTALL), f"{block.place}\n{done.stdout}"
        assert done.returncode == (2 if "elman: error:" in shown else 0), f"{block.place}: status {done.returncode}"


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """With all that it prints as ``stdout``."""
    return subprocess.run(
        command, cwd=folder, env=environment, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
