"""Killed at any moment, on a disk that fails at any moment: no checkpoint is lost, and the run ends as if nothing was.

What a system call does is changed by strace (https://strace.io), which tampers with the N-th call of a name: it kills
the process as it enters the call, or has the call fail. Each N of one save is tried.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import elman
from elman import checkpoint

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
OPTIONS = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_length": 16, "schedule": "constant"}

# SIGKILL at random moments

EVERY = 20  # steps between two checkpoints, of 0.01 s each
SLOWLY = """
import json, sys, time, elman
def on_record(record):
    print(record["event"], flush=True)
    time.sleep(0.01)
elman.train(on_record=on_record, **json.loads(sys.argv[1]))
"""


def start(**options) -> subprocess.Popen:
    """A process that trains 100 steps a second at most."""
    command = [sys.executable, "-c", SLOWLY, json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def step_of(path: Path) -> int:
    """Of a checkpoint, which must be whole."""
    return int(checkpoint.load(path)[1]["progress"]["step"])


def assert_same_end(one: Path, other: Path) -> None:
    """The model files of both folders are equal, and so are the tensors of their checkpoints."""
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    (tensors, _), (others, _) = (checkpoint.load(folder / "checkpoint.safetensors") for folder in (one, other))
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, others[name], err_msg=name)


@pytest.mark.parametrize(
    ("kills", "seed"), [(20, 0), *(pytest.param(100, seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_a_run_killed_at_random_moments_loses_no_checkpoint_and_ends_the_same(text, tmp_path, kills, seed):
    options = {**OPTIONS, "steps": 60 * kills, "checkpoint_every": EVERY, "log_every": 1, "eval_every": 90}
    options |= {"sample_every": 0, "dropout": 0.2, "threads": 1, "eval_tokens": 100}
    elman.train(text, out=tmp_path / "whole", **options)
    rng, folder, reached = random.Random(seed), tmp_path / "killed", 0
    for number in range(kills):
        process = start(resume=str(folder)) if number else start(text=str(text), out=str(folder), **options)
        if number == 0 or rng.random() < 0.8:  # else it may be killed while it starts
            assert process.stdout.readline() == "start\n", process.stderr.read()
        time.sleep(rng.uniform(0, 0.5))
        assert process.poll() is None
        process.kill()
        process.communicate()
        steps = [
            int(step) for step in re.findall(r'"event": "step", "step": (\d+)', (folder / "log.jsonl").read_text())
        ]
        saved = step_of(folder / "checkpoint.safetensors")
        assert saved >= max(reached, (max(steps, default=1) - 1) // EVERY * EVERY)
        reached = saved
    elman.train(resume=folder)
    assert_same_end(tmp_path / "whole", folder)
    assert not list(folder.glob(".*"))


# each system call of one save

SAVE = """
import os, sys
import safetensors.numpy  # which a save would load the first time
from elman.errors import ElmanError
from elman.workflows.run_folder import RunFolder
folder, tensors, metadata = RunFolder.open(sys.argv[1])
folder.log({"event": "step"})
metadata["progress"]["step"] += 1
tensors["output.b_y"] = tensors["output.b_y"] + 1
os.getpgid(0)  # here begins,
try:
    folder.save_checkpoint(metadata["progress"]["step"], tensors, metadata, keep=2)
    status = 0
except ElmanError as error:
    print(error)
    status = 2
os.getpgid(0)  # and here ends what is tried
os._exit(status)
"""
MARK = "getpgid(0)"


def strace(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """One save in a run folder, under strace."""
    command = [
        "strace",
        "-qq",
        "-o",
        str(folder.with_suffix(".trace")),
        *options,
        sys.executable,
        "-c",
        SAVE,
        str(folder),
    ]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def calls(saved_run) -> list[tuple[str, int, str]]:
    """The system calls of one save: each name, which one of its name it is in the whole process, and its arguments."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed here")
    folder = saved_run.with_name("traced")
    shutil.copytree(saved_run, folder)
    done = strace(folder)
    if "PTRACE" in done.stderr or "not permitted" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = {}
    found, inside = [], False
    for line in folder.with_suffix(".trace").read_text().splitlines():
        if (match := re.match(r"(\w+)\((.*)", line)) is None:
            continue
        name = match[1]
        counts[name] = counts.get(name, 0) + 1
        if line.startswith(MARK):
            inside = not inside
        elif inside:
            found.append((name, counts[name], match[2]))
    return found


@pytest.fixture(scope="module")
def saved_run(text, tmp_path_factory) -> Path:
    """A run with a last checkpoint and one before it."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    elman.train(text, out=folder, steps=6, checkpoint_every=3, eval_every=2, **OPTIONS)
    return folder


def each(saved_run: Path, tmp_path: Path, injections: list[str]) -> Iterator[tuple[str, Path, int, str]]:
    """Each injection, the folder in which a save suffered it, how that ended and what it said."""

    def save(number: int) -> tuple[str, Path, int, str]:
        folder = tmp_path / str(number)
        shutil.copytree(saved_run, folder)
        done = strace(folder, "-e", f"inject={injections[number]}")
        return injections[number], folder, done.returncode, done.stdout

    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(save, range(len(injections)))


def assert_goes_on(folder: Path, whole: Path) -> None:
    """The run has a whole last checkpoint, old or new, without help; and it ends as it would have."""
    assert step_of(folder / "checkpoint.safetensors") in (6, 7)
    if step_of(folder / "checkpoint.safetensors") == 6:
        run = elman.train(resume=folder, steps=9)
        assert not run.history[0]["notes"] and not list(folder.glob(".*"))
        assert_same_end(whole, folder)


def test_a_save_survives_being_killed_at_each_of_its_system_calls(text, saved_run, calls, tmp_path):
    names = [name for name, *_ in calls]
    assert {"write", "rename"} <= set(names) and len(names) > 10
    assert names.count("fsync") == 3  # of the log, the new checkpoint and the folder
    elman.train(text, out=tmp_path / "whole", steps=9, checkpoint_every=3, eval_every=2, **OPTIONS)
    killed = 0
    for _, folder, status, _ in each(saved_run, tmp_path, [f"{name}:signal=KILL:when={n}" for name, n, _ in calls]):
        killed += status == -signal.SIGKILL and folder.with_suffix(".trace").read_text().count(MARK) == 1
        assert_goes_on(folder, tmp_path / "whole")
    assert killed == len(calls)


def test_a_save_keeps_the_old_checkpoint_whatever_fails_on_the_disk(text, saved_run, calls, tmp_path):
    elman.train(text, out=tmp_path / "whole", steps=9, checkpoint_every=3, eval_every=2, **OPTIONS)
    touching = [call for call in calls if call[0] in ("write", "fsync", "rename", "openat", "link", "linkat", "close")]
    injections = [f"{name}:error={error}:when={n}" for name, n, _ in touching for error in ("ENOSPC", "EIO")]
    before = (saved_run / "checkpoint.safetensors").read_bytes()
    for injection, folder, status, said in each(saved_run, tmp_path, injections):
        trace = folder.with_suffix(".trace").read_text()
        assert trace.index(MARK) < trace.index("(INJECTED)") < trace.rindex(MARK), injection
        assert status in (0, 2), injection
        if status == 2:
            assert said.startswith(f"cannot write {folder}") and said.count("\n") == 1, injection
            assert injection.startswith(("openat", "close")) or f"{folder}/checkpoint" in said or "log" in said
            assert ("No space left on device" if "ENOSPC" in injection else "Input/output error") in said, injection
            assert f"elman train --resume {folder}" in said
        assert before in [path.read_bytes() for path in folder.glob("checkpoint*.safetensors")], injection
        assert_goes_on(folder, tmp_path / "whole")
