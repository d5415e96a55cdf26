"""Seconds a training step against window T, streams B, hidden size H and vocabulary V of an LSTM, the others fixed.

Run it: python benchmarks/growth.py [FILE] [--rounds N] [--threads N]
Draws elman's native kernel and PyTorch's fastest setting into FILE (docs/images/growth.svg), four panels, both axes
logarithmic, and prints the same as a Markdown table. Needs matplotlib: python -m pip install '.[plot]'
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt

from elman.workflows.bench import Case, fastest, open_elman, time_in_turn, torch_settings

BASE = Case("growth", "lstm", 256, 1, 64, 32, embedding_size=128)  # one-hot input would cost PyTorch V a token
SIZES = {
    "seq_length": ("window T", (8, 16, 32, 64, 128, 256, 512)),
    "batch_size": ("streams B", (2, 4, 8, 16, 32, 64, 128, 256)),
    "hidden_size": ("hidden size H", (16, 32, 64, 128, 256, 512, 1024)),
    "vocab_size": ("vocabulary V", (16, 64, 256, 1024, 4096, 16384)),
}
TRIAL_SECONDS = 2.0  # for the settings of PyTorch
Times = tuple[float, float]  # seconds a step: elman, PyTorch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", default=Path("docs/images/growth.svg"))
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N")
    options = parser.parse_args()
    print("| what grows | size | elman, ms | PyTorch, ms | ratio |\n|---|---|---|---|---|")
    times: dict[str, list[Times]] = {}
    for field, (title, sizes) in SIZES.items():
        times[field] = []
        for size in sizes:
            case = dataclasses.replace(BASE, name=f"{title} {size}", **{field: size})
            ours, theirs = seconds_a_step(case, options.threads, options.rounds)
            times[field].append((ours, theirs))
            print(f"| {title} | {size} | {ours * 1e3:.3g} | {theirs * 1e3:.3g} | {theirs / ours:.2f} |", flush=True)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    draw(times, options.file)


def seconds_a_step(case: Case, threads: int, rounds: int) -> Times:
    """Medians of so many rounds."""
    ours = open_elman(case, "native", threads)
    theirs = fastest(case, torch_settings(case, threads), ours.check(), TRIAL_SECONDS)
    blocks = list(islice(time_in_turn([ours, theirs]), rounds))
    our_times, their_times = zip(*blocks, strict=True)
    return statistics.median(our_times), statistics.median(their_times)


def draw(times: dict[str, list[Times]], file: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "elman"  # the same times make the same file
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), sharey=True, layout="constrained")
    for panel, (field, (title, sizes)) in zip(axes.flat, SIZES.items(), strict=True):
        for name, one in zip(("elman", "PyTorch"), zip(*times[field], strict=True), strict=True):
            panel.plot(sizes, one, marker="o", label=name)
        fixed = [f"{other.split()[-1]} {getattr(BASE, key)}" for key, (other, _) in SIZES.items() if key != field]
        panel.set(xscale="log", yscale="log", xlabel=title, title=", ".join(fixed))
        panel.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        panel.minorticks_off()
        panel.grid(True, alpha=0.3)
    for panel in axes[:, 0]:
        panel.set_ylabel("seconds a training step")
    axes[0, 0].legend()
    figure.suptitle(f"LSTM, embedding {BASE.embedding_size}: forward, backward, clipping, Adam")
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
