"""A run in two parts leaves the files of one run: random configurations, the second part in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman import checkpoint
from elman.cells import CELLS
from elman.kernels import available_kernels
from elman.optimizers import OPTIMIZERS
from elman.workflows.stop import Stop

CLOCK = ("seconds", "tokens_per_second")
RESUME = "import json, sys, elman\nfor line in sys.stdin: elman.train(**json.loads(line))"


def random_options(rng: np.random.Generator) -> dict[str, Any]:
    """Options of a small run, whose parts may be anything that a user can ask for."""

    def one_of(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    embedding = one_of(None, None, 6, 8)
    options = {
        "cell": one_of(*CELLS),
        "hidden_size": 8,
        "num_layers": one_of(1, 2),
        "embedding_size": embedding,
        "tie_weights": embedding == 8 and one_of(True, False),
        "dropout": one_of(0.0, 0.3),
        "dtype": one_of("float32", "float32", "float64"),
        "tokenizer": one_of("char", "byte", "word", "bpe"),
        "items": one_of(None, "lines"),
        "max_vocab": one_of(None, 20),
        "batch_size": one_of(1, 3, 8),
        "seq_length": one_of(5, 16),
        "valid_fraction": one_of(0.0, 0.1, 0.3),
        "optimizer": one_of(*OPTIMIZERS),
        "learning_rate": one_of(1e-3, 0.02, 0.3),  # with the last one the best model is an early one
        "schedule": one_of("constant", "linear", "cosine"),
        "warmup_steps": one_of(0, 7),
        "reduction": one_of("mean", "sum"),
        "eval_every": one_of(None, 1, 4, 7, 0),
        "eval_tokens": one_of(50, 200_000),
        "sample_every": one_of(None, 3, 0),
        "sample_length": 4,
        "checkpoint_every": one_of(None, 1, 5, 0),
        "keep": one_of(1, 2, 3),
        "patience": one_of(None, None, 3),
        "log_every": one_of(1, 4),
        "seed": int(rng.integers(1000)),
        "kernel": one_of(*available_kernels()),
        "threads": one_of(None, 1, 2),
        "precision": one_of("float32", "auto"),
    }
    if options["tokenizer"] in ("byte", "bpe"):
        options["max_vocab"] = 280 if options["tokenizer"] == "bpe" else None
    if options["valid_fraction"] == 0:
        options["patience"] = None
    if options["items"] is None:
        options["tail"] = one_of("keep", "drop")
    if limit := one_of(None, "clip_norm", "clip_value"):
        options[limit] = 0.5
    return options


def first_part(text: Path, out: Path, cut: int, end: dict[str, int], options: dict[str, Any], asked: bool) -> bool:
    """A run that ends after ``cut`` steps: as it was ``asked`` for, or because it was told to stop; else False."""
    if asked:
        return bool(elman.train(text, out=out, steps=cut, **options))
    stop = Stop()

    def watch(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == cut:
            stop.set()

    elman.train(text, out=out, on_record=watch, stop=stop, **end, **options)
    return stop.is_set()


def log(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in CLOCK} for record in records]


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same in two run folders, but for the clock."""
    found = [
        name
        for name in ("model.safetensors", "config.toml")
        if (one / name).read_bytes() != (other / name).read_bytes()
    ]
    found += [f"log line {n}" for n, pair in enumerate(zip(log(one), log(other), strict=False)) if pair[0] != pair[1]]
    if len(log(one)) != len(log(other)):
        found.append("length of the log")
    (tensors, metadata), (other_tensors, other_metadata) = (
        checkpoint.load(folder / "checkpoint.safetensors") for folder in (one, other)
    )
    found += sorted(tensors.keys() ^ other_tensors.keys())
    found += [
        name
        for name in tensors.keys() & other_tensors.keys()
        if tensors[name].tobytes() != other_tensors[name].tobytes()
    ]
    clock = ("seconds", "evaluation_seconds")
    return found + [key for key in metadata if key not in clock and metadata[key] != other_metadata.get(key)]


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_run_in_two_parts_leaves_what_one_run_does(text, tmp_path, count):
    rng = np.random.default_rng(count)
    lines, cases = [], []
    for number in range(count):
        options = random_options(rng)
        total = int(rng.integers(6, 30))
        cut = int(rng.integers(1, total))
        asked = bool(rng.integers(2))
        if asked:  # with another total, another schedule
            options["schedule"], options["patience"] = "constant", None
        else:
            options["log_every"] = 1
        whole, parts = tmp_path / f"{number}-whole", tmp_path / f"{number}-parts"
        end = {"steps": total} if asked or rng.integers(3) else {"epochs": 1}
        elman.train(text, out=whole, **end, **options)
        if first_part(text, parts, cut, end, options, asked):
            lines.append(json.dumps({"resume": str(parts), **(end if asked else {})}))
            cases.append((whole, parts, cut, end, options))
    resumed = subprocess.run([sys.executable, "-c", RESUME], input="\n".join(lines), text=True, capture_output=True)
    assert resumed.returncode == 0, resumed.stderr
    wrong = [(differences(whole, parts), *case) for whole, parts, *case in cases if differences(whole, parts)]
    assert not wrong and len(cases) > 0.8 * count
