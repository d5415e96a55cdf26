"""The examples run, and say what their tutorials say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import corpus

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: object) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hello():
    lines = run(EXAMPLES / "hello.py").splitlines()
    assert lines[-4:] == [
        "after 'h' comes 'e'",
        "after 'e' comes 'l'",
        "after 'l' comes 'l'",
        "after 'l' comes 'o'",
    ]
    first, last = (float(line.split("loss ")[1].split()[0]) for line in (lines[0], lines[5]))
    assert abs(first - 4 * 1.3863) < 0.01  # 4·ln 4: nothing is known yet
    assert last < 0.05


def test_min_char_rnn(verse_file):
    output = run(EXAMPLES / "min_char_rnn.py", verse_file, 1001)
    assert output.startswith("data has 4047 characters, 30 unique.")
    losses = [float(line.split("loss: ")[1]) for line in output.splitlines() if line.startswith("iter ")]
    assert len(losses) == 2 and losses[1] < 0.8 * losses[0]
    assert output.count("----") == 4


def test_chinese_words(tmp_path):
    raw = corpus("zh_hongloumeng.gbk.txt").read_bytes()
    (tmp_path / "dream.txt").write_bytes(b"\n".join(raw.split(b"\n")[:200]))  # whole lines
    output = run(EXAMPLES / "chinese_words.py", tmp_path / "dream.txt", 501)
    assert output.startswith("dream.txt: read as gb18030")
    losses = [float(line.split("loss: ")[1]) for line in output.splitlines() if line.startswith("iter ")]
    assert len(losses) == 6 and losses[5] < 0.97 * losses[0]
    assert "宝玉" in output or "，" in output


def test_every_example_is_run_here():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {name.removeprefix("test_") for name in globals() if name.startswith("test_")} & names
