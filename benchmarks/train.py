"""`elman train` end to end against the bare training step of the same model, in turn in one run.

Run it: python benchmarks/train.py FILE [STEPS] [ROUNDS]
Prints tokens/s of each and the share that training keeps: data, logging, progress and checkpoints included, start-up
and the evaluation at the end not.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import elman
from elman.presets import PRESETS


def trained(file: str, steps: int) -> float:
    """Tokens/s of `elman train`, from its first step record to its last."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--steps", str(steps), "--eval-every", str(steps), "--out", folder, "--json"]
        command = [sys.executable, "-m", "elman", "train", file, *options]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    first, *_, last = (record for record in records if record["event"] == "step")
    return (last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"])


def bare(steps: int, vocab_size: int) -> float:
    """Tokens/s of engine.step alone, on random ids."""
    preset = PRESETS["char-lstm"]
    config = elman.ModelConfig(vocab_size, **preset.model)
    train = elman.TrainConfig(**preset.train)
    engine = elman.open_engine(
        model=elman.LanguageModel(config), optimizer=elman.optimizers.Adam(), clip_norm=train.clip_norm
    )
    inputs, targets = np.random.default_rng(0).integers(0, vocab_size, (2, train.seq_length, train.batch_size))
    for _ in range(10):
        engine.step(inputs, targets)
    began = time.perf_counter()
    for _ in range(steps):
        engine.step(inputs, targets)
    return steps * inputs.size / (time.perf_counter() - began)


def main(file: str, steps: int, rounds: int) -> None:
    shares = []
    for i in range(rounds):
        alone, whole = bare(steps, 66), trained(file, steps)
        shares.append(whole / alone)
        print(f"round {i + 1}: bare step {alone:,.0f} tokens/s, elman train {whole:,.0f}: {shares[-1]:.1%}", flush=True)
    print(f"median {statistics.median(shares):.1%}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 500, int(sys.argv[3]) if len(sys.argv) > 3 else 3)
