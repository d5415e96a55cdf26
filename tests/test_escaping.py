"""What a text or a model says cannot steer a terminal: every command, on a pseudo-terminal, with a hostile text."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

ESCAPES = ("\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\x1b[2J", "\x07")
LINE = "</script><b>[bold red]heron[/] \x1b[31mred \x1b]0;title\x07 \x9b2J \x1b[2J \x07 %s {0} $x$\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "text.txt").write_text(LINE * 40, encoding="utf-8")
    return folder


def on_a_terminal(folder, *arguments) -> str:
    """All that the command writes where stdout and stderr are a terminal."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "elman", *map(str, arguments)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=secondary,
        stderr=secondary,
        env={**os.environ, "COLUMNS": "200", "PYTHONUTF8": "1"},
    )
    os.close(secondary)
    written = b""
    while True:
        try:
            part = os.read(primary, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(primary)
    process.wait()
    return written.decode("utf-8")


TRAIN = (
    "train text.txt --steps 300 --hidden-size 48 --layers 1 --learning-rate 0.02 --sample-every 100 --seq-length 32 "
    "--batch-size 4 --out run"
)
SAMPLE = "sample run --prompt heron --length 300 --temperature 0.1"
COMMANDS = [
    TRAIN,
    SAMPLE,
    "sample run --num 3 --length 50",
    "eval run text.txt",
    "info run",
    "info text.txt",
    "info text.txt --tokenizer word",
    "gradcheck --model run --entries 2",
    "trace --model run heron",
    "inspect run text.txt --max-characters 300",
    "plot run --out loss.svg",
]


@pytest.fixture(scope="module")
def outputs(folder):
    return {command: on_a_terminal(folder, *command.split()) for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_escape_of_the_text_reaches_a_terminal(command, outputs):
    shown = outputs[command]
    assert shown.strip() and "Traceback" not in shown and "elman: error" not in shown
    assert [escape for escape in ESCAPES if escape in shown] == []


def test_the_model_had_learned_them_and_markup_stays_text(outputs, folder):
    import elman

    assert "\x1b" in elman.load(folder / "run").generate("heron", length=300, temperature=0.1)
    assert "[bold red]" in outputs[SAMPLE] + outputs[TRAIN]


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "run", "\x1b[31mnowhere"],
        ["sample", "\x1b[31mnowhere"],
        ["sample", "run", "--prompt", "\x1b[31mq"],
        ["train", "text.txt", "--cell", "\x1b[31mlstm"],
        ["gradcheck", "--break", "\x1b[31md_h"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_escape_of_an_argument_is_repeated_in_an_error(arguments, folder, outputs):
    shown = on_a_terminal(folder, *arguments)
    assert "error" in shown and "\x1b[31m" not in shown
