"""Damaged and crafted model files: each is refused in one line, at once and in little memory, or is as good as new.

They are opened by a child process, this file run as a program, whose memory the system limits.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as library_load

import elman
from damage import ZEROS, bombs, craft, damage
from elman import checkpoint
from elman.errors import ModelFileError, NonFiniteError
from elman.models.language_model import LanguageModel, parameter_shapes
from elman.text.tokenizers import BpeTokenizer, ByteTokenizer, CharTokenizer, WordTokenizer
from elman.text_model import TextModel

resource = pytest.importorskip("resource", reason="the limits are POSIX's")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory limits are Linux's")

MEGABYTE = 1 << 20
ALLOWED = 64 * MEGABYTE  # beside what the process has, and the file's size
SECONDS = 1.0  # of processor time
LINE = 1000  # characters of a message


# the tests


def in_a_child(*arguments: Any) -> dict[str, Any]:
    """Run a function of this file in a child process -> what it found."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 0 and not found.stderr, f"status {found.returncode}: {found.stderr[-3000:]}"
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def originals(text, tmp_path_factory) -> Path:
    """A folder of whole files: a model of each tokenizer, a checkpoint, and the model beside it."""
    folder = tmp_path_factory.mktemp("originals")

    def save(name, tokenizer, *rest, **config):
        config = elman.ModelConfig(tokenizer.vocab_size, num_layers=1, **config)
        TextModel(elman.LanguageModel(config), tokenizer, *rest).save(folder / f"{name}.safetensors")

    save("char", CharTokenizer.train("abc", unknown=False), hidden_size=3)
    info = {"training": {"items": "lines"}, "note": ['"', "\\", None]}
    words = WordTokenizer(["a", " ", "\n", "river", "狗"], True, segmenter=("rjieba", "0.1"))
    save("word", words, info, np.arange(5, dtype=np.uint64), hidden_size=3, embedding_size=2, cell="gru")
    save("byte", ByteTokenizer(), hidden_size=2, embedding_size=2, tie_weights=True, cell="rnn")
    characters = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x144))]  # of 256 bytes
    pieces = BpeTokenizer([*characters, "ab", "abc"], [("a", "b"), ("ab", "c")])
    save("bpe", pieces, hidden_size=1, dtype="float64")
    options = {"steps": 3, "batch_size": 2, "seq_length": 8, "hidden_size": 4, "num_layers": 1, "kernel": "numpy"}
    run = elman.train(text, out=folder / "run", **options)
    (run.path / "checkpoint.safetensors").rename(folder / "checkpoint.safetensors")
    (run.path / "model.safetensors").rename(folder / "trained.safetensors")
    return folder


@pytest.mark.parametrize(
    ("count", "seed"), [(2_000, 0), *(pytest.param(25_000, seed, marks=pytest.mark.slow) for seed in (1, 2, 3, 4))]
)
def test_every_mutated_file_is_refused_in_one_line_or_as_good_as_new(originals, tmp_path, count, seed):
    found = in_a_child("fuzz", originals, tmp_path, count, seed)
    print(json.dumps(found, indent=1))
    assert not found["failures"], json.dumps(found["failures"], indent=1)
    assert found["damaged"] + found["crafted"] == count and min(found["damaged"], found["crafted"]) > count / 3
    assert found["damaged that loaded"] == 0
    assert found["longest seconds"] < SECONDS and found["most memory"] < ALLOWED
    # The fuzzer comes everywhere: harmless changes load, and others reach the checks behind the digest.
    assert found["crafted that loaded"] > count / 50 and found["crafted models that loaded"] > count / 100
    assert len(found["messages"]) > 25


@pytest.mark.parametrize("bits", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_every_flipped_bit_of_the_data_is_found(originals, tmp_path, bits):
    found = in_a_child("flip", originals, tmp_path, bits)
    assert not found["failures"], json.dumps(found["failures"], indent=1)
    assert found["flips"] > 1000 * bits and found["refused"] == found["flips"]


def test_headers_that_swell_when_parsed_stay_small(originals, tmp_path):
    found = in_a_child("explode", originals, tmp_path)
    print(json.dumps(found, indent=1))
    assert not found["failures"], json.dumps(found["failures"], indent=1)
    assert len(found["bombs"]) > 60
    for name, (size, memory, seconds) in found["bombs"].items():
        assert memory < size + ALLOWED and seconds < SECONDS, name


@pytest.mark.parametrize("megabytes", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_large_file_is_in_memory_once(tmp_path, megabytes):
    hidden_size = int((megabytes * MEGABYTE / 16) ** 0.5)
    config = elman.ModelConfig(3, "lstm", hidden_size, num_layers=1)
    parameters = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config).items()}
    parameters["output.b_y"][:] = 1, 2, 3
    model = elman.LanguageModel(config, parameters=parameters)
    TextModel(model, CharTokenizer("abc", False)).save(tmp_path / "x")
    found = in_a_child("large", tmp_path / "x")
    print(found)
    assert found["size"] > 0.99 * megabytes * MEGABYTE and found["b_y"] == [1, 2, 3]
    assert found["memory"] < found["size"] + ALLOWED


# the child: how a file is opened


class TooLongError(BaseException):
    """What the alarm raises; nothing that elman catches."""


@contextmanager
def limits(file_size: int) -> Iterator[None]:
    """The memory that the process has, the file's size and 64 MB; a second of processor time, for a large file more.

    The second alarm is for what hangs without computing.
    """
    seconds = SECONDS + file_size / (20 * MEGABYTE)

    def too_long(*_: Any) -> None:
        raise TooLongError

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + file_size + ALLOWED, resource.RLIM_INFINITY))
    signal.signal(signal.SIGPROF, too_long)
    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 60 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def memory(which: str = "VmRSS") -> int:
    """The process's memory in bytes: VmRSS, or VmHWM for the most since it was forgotten."""
    return int(re.search(rf"{which}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def forget_the_most_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def refusal(path: Path, load: Callable[[Path], Any], failures: list[str], name: str) -> tuple[str | None, Any]:
    """Open a file -> what is said of it, None where it is taken; and what is in it."""
    try:
        with limits(path.stat().st_size):
            return None, load(path)
    except ModelFileError as error:
        message = str(error)
        if len(message) > LINE or "\n" in message or not message.isprintable() or str(path) not in message:
            failures.append(f"{name}: {message[: 2 * LINE]!r}")
        return message.replace(str(path), ""), None
    except (Exception, TooLongError):
        failures.append(f"{name}: {traceback.format_exc()[-2000:]}")
        return "", None


# the child: how a file is opened, in another way


def faults_of_what_was_taken(content: bytes, tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> list[str]:
    """What is wrong with a file that checkpoint.load took, by another reading of it."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key stands twice"
        return dict(pairs)

    faults = []
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start], object_pairs_hook=once)
    text = header.pop("__metadata__")["elman"]
    inner = json.loads(text, object_pairs_hook=once)
    digest = inner.pop("sha256")
    if hashlib.sha256(content.replace(digest.encode(), ZEROS.encode(), 1)).hexdigest() != digest:
        faults.append("the digest is wrong")
    if inner.pop("format") != 1 or repr(inner) != repr(metadata):  # NaN is not NaN
        faults.append("other metadata")
    library = library_load(content)
    if list(header) != list(tensors) or set(library) != set(tensors):
        faults.append("other tensors")
    covered = 0
    for name, array in tensors.items():
        row = header[name]
        if not re.fullmatch(r"[A-Za-z][\w.-]{0,199}", name, re.ASCII):
            faults.append(f"the name {name}")
        if row["data_offsets"][0] != covered or not array.flags.aligned or not array.flags.writeable:
            faults.append(f"the place of {name}")
        covered = row["data_offsets"][1]
        if array.dtype.kind not in "iuf" or array.dtype != library[name].dtype or list(array.shape) != row["shape"]:
            faults.append(f"the shape or dtype of {name}")
        if array.tobytes() != library[name].tobytes():
            faults.append(f"the numbers of {name}")
    return faults if covered == len(content) - start else [*faults, "data that no tensor covers"]


# the child: what the tests ask for


def load_model(path: Path) -> TextModel:
    model = elman.load(path, kernel="numpy")
    with suppress(NonFiniteError):  # of weights that no training gives
        model.generate(length=2)
    return model


def warm_up(folder: Path) -> dict[str, bytes]:
    """Open every original once, so that all is imported -> their contents."""
    paths = sorted(folder.glob("*.safetensors"))
    for path in paths:
        tensors, metadata = checkpoint.load(path)
        assert not faults_of_what_was_taken(path.read_bytes(), tensors, metadata)
        if path.name != "checkpoint.safetensors":
            load_model(path)
    return {path.name: path.read_bytes() for path in paths}


KINDS = ("damaged", "crafted")
OUTCOMES = ("", " that loaded", " models that loaded")


def fuzz(originals: Path, folder: Path, count: int, seed: int) -> dict[str, Any]:
    contents = warm_up(originals)
    rng, failures, figures, messages = random.Random(seed), [], Counter(), Counter()
    longest, most, path = 0.0, 0, folder / "mutated.safetensors"
    for number in range(count):
        name, original = rng.choice(sorted(contents.items()))
        kind, change = ("damaged", damage) if rng.random() < 0.4 else ("crafted", craft)
        what, content = change(rng, original)
        figures[kind] += 1
        path.write_bytes(content)
        where = f"{number} {name} {what}"
        forget_the_most_memory()
        before, began = memory(), time.process_time()
        said, found = refusal(path, checkpoint.load, failures, where)
        if said is None:
            figures[f"{kind} that loaded"] += 1
            failures += [f"{where}: {fault}" for fault in faults_of_what_was_taken(content, *found)]
        said_of_model, _ = refusal(path, load_model, failures, where)
        if said_of_model is None:
            figures[f"{kind} models that loaded"] += 1
        longest = max(longest, time.process_time() - began)
        most = max(most, memory("VmHWM") - before - len(content))
        for message in {said, said_of_model} - {None}:
            messages[" ".join(re.findall(r"(?<!\S)[a-z]+(?!\S)", message)[:5])] += 1  # without names and numbers
        if len(failures) > 20:
            break
    return {
        **{f"{kind}{what}": figures[f"{kind}{what}"] for kind in KINDS for what in OUTCOMES},
        "longest seconds": longest,
        "most memory": most,
        "failures": failures,
        "messages": dict(messages.most_common()),
    }


def flip(originals: Path, folder: Path, bits: int) -> dict[str, Any]:
    """Flip bits of each byte of a part of the data, one at a time."""
    rng, failures, figures = random.Random(6), [], Counter()
    for name, original in warm_up(originals).items():
        start = 8 + int.from_bytes(original[:8], "little")
        content, path = bytearray(original), folder / "flipped.safetensors"
        for at in range(start, len(content))[:400]:
            for bit in rng.sample(range(8), bits):
                content[at] ^= 1 << bit
                path.write_bytes(content)
                said, _ = refusal(path, checkpoint.load, failures, f"{name} {at} {bit}")
                figures["flips"] += 1
                figures["refused"] += said is not None and "altered or damaged" in said
                content[at] ^= 1 << bit
    return {**figures, "failures": failures}


def explode(originals: Path, folder: Path) -> dict[str, Any]:
    """Open each bomb in a process of its own, so that none finds memory that another left."""
    found: dict[str, Any] = {"bombs": {}, "failures": []}
    warm_up(originals)
    path = folder / "bomb.safetensors"
    for name, content in bombs():
        path.write_bytes(content)
        del content
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, json.dumps(_explode_one(path, name)).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            found["bombs"][name], failures = json.loads(pipe.read() or json.dumps([[0, 0, 0], [f"{name}: it crashed"]]))
        os.waitpid(child, 0)
        found["failures"] += failures
    return found


def _explode_one(path: Path, name: str) -> tuple[tuple[int, int, float], list[str]]:
    failures: list[str] = []
    forget_the_most_memory()
    before, began = memory(), time.process_time()
    refusal(path, checkpoint.load, failures, name)
    said, _ = refusal(path, load_model, failures, name)
    figures = path.stat().st_size, memory("VmHWM") - before, time.process_time() - began
    return figures, failures if said is not None else [*failures, f"{name}: it was taken"]


def open_large(path: Path) -> dict[str, Any]:
    """Open a large model file as tensors and as a model."""
    LanguageModel(elman.ModelConfig(3, hidden_size=2), kernel="numpy")  # so that all is imported
    size, most = path.stat().st_size, 0
    for load in (checkpoint.load, lambda path: elman.load(path, kernel="numpy")):
        forget_the_most_memory()
        before = memory()
        with limits(size):
            loaded = load(path)
        most = max(most, memory("VmHWM") - before)
    return {"size": size, "memory": most, "b_y": loaded.language_model.parameters["output.b_y"].tolist()}


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    function = {"fuzz": fuzz, "flip": flip, "explode": explode, "large": open_large}[name]
    print(json.dumps(function(*(int(each) if each.isdigit() else Path(each) for each in rest))))
