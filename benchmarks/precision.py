"""A training step in bf16 against the same in float32, in turn in one run: Adam, clip norm 1, one-hot input, V 65.

Run it: python benchmarks/precision.py [--seconds N] [--threads N]
Prints for every case the median step of each, tokens/s, and the median ratio of neighbours.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from elman import LanguageModel, ModelConfig, open_engine, optimizers

CASES = {  # cell, H, L, B, T
    "lstm-256": ("lstm", 256, 1, 32, 64),
    "lstm-512, B 32, T 64": ("lstm", 512, 1, 32, 64),
    "lstm-512": ("lstm", 512, 1, 64, 128),
    "lstm-2x512": ("lstm", 512, 2, 64, 64),
    "gru-512": ("gru", 512, 1, 64, 128),
    "rnn-512": ("rnn", 512, 1, 64, 128),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=5, help="for each case")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    print("| case | float32, ms | bf16, ms | tokens/s | ratio |\n|---|---|---|---|---|")
    for name, (cell, H, L, B, T) in CASES.items():
        inputs, targets = np.random.default_rng(0).integers(0, 65, (2, T, B))
        engines = [
            open_engine(
                model=LanguageModel(ModelConfig(65, cell, H, L), kernel="native", threads=given.threads),
                optimizer=optimizers.Adam(),
                clip_norm=1.0,
                precision=precision,
            )
            for precision in ("float32", "bf16")
        ]
        seconds: list[list[float]] = [[], []]
        end = time.perf_counter() + given.seconds
        while time.perf_counter() < end or len(seconds[0]) < 6:
            for engine, measured in zip(engines, seconds, strict=True):
                began = time.perf_counter()
                engine.step(inputs, targets)
                measured.append(time.perf_counter() - began)
        steps = [statistics.median(measured[1:]) for measured in seconds]
        ratio = statistics.median(a / b for a, b in zip(*(measured[1:] for measured in seconds), strict=True))
        print(
            f"| {name} | {1e3 * steps[0]:.1f} | {1e3 * steps[1]:.1f} | {B * T / steps[1]:,.0f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
