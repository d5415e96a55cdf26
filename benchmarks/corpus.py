"""A corpus larger than memory ought to be: peak memory and speed of tokenising a made-up text and of training from it.

Run it: python benchmarks/corpus.py [MEGABYTES] [--tokenizer NAME]
Writes a made-up UTF-8 text (words of Latin, Greek and Chinese letters) to a temporary folder, then runs `elman train`
on it twice in processes of their own: the first fills the cache, the second finds it. The largest resident size counts
all of a process, Python and NumPy included. Needs three times the text's size on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STEPS = 50
MODEL = ("--hidden-size", "64", "--embedding-size", "32")  # small: a large vocabulary has large weights
ALPHABETS = ("abcdefghijklmnopqrstuvwxyz", "αβγδεζηθικλμνξοπρστυφχψω", "天地玄黄宇宙洪荒日月盈昃辰宿列张")


def write_text(path: Path, megabytes: int) -> None:
    """Words of a fixed lexicon, drawn with a seed; about so many megabytes of UTF-8."""
    rng = np.random.default_rng(0)
    lexicon = [
        "".join(rng.choice(list(ALPHABETS[min(2, int(rng.exponential(0.5)))]), rng.integers(1, 10)))
        for _ in range(20_000)
    ]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            words = [lexicon[i] for i in (rng.zipf(1.3, 200_000) - 1) % len(lexicon)]
            file.write("\n".join(" ".join(words[i : i + 12]) for i in range(0, len(words), 12)) + "\n")


def run_measured(command: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Seconds and the largest resident size in bytes of a process, which must succeed."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(errors.decode())
    return time.perf_counter() - began, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("megabytes", nargs="?", type=int, default=1000)
    parser.add_argument("--tokenizer", default="char")
    options = parser.parse_args()
    print("| run | seconds | MB/s | tokens | largest resident size, MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / "text.txt", options.megabytes)
        size = (folder / "text.txt").stat().st_size
        environment = {**os.environ, "ELMAN_CACHE_DIR": str(folder / "cache")}
        for run in ("first", "cached"):
            out = folder / run
            command = [sys.executable, "-m", "elman", "train", str(folder / "text.txt"), "--out", str(out)]
            command += ["--steps", str(STEPS), "--tokenizer", options.tokenizer, "--eval-tokens", "20000", *MODEL]
            seconds, memory = run_measured([*command, "--eval-every", "0", "--sample-every", "0"], environment)
            start = json.loads((out / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
            tokens = start["train_tokens"] + start["valid_tokens"]
            print(
                f"| {run} | {seconds:.1f} | {size / seconds / 1e6:.0f} | {tokens:,} | {memory / 1e6:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
