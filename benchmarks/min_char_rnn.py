"""`elman train FILE --preset min-char-rnn` against a plain transcription of tutorial 3, whole processes, interleaved.

Run it: python benchmarks/min_char_rnn.py FILE [STEPS] [ROUNDS]
Prints the wall time of each run, the medians, and how many times as fast elman is (above 1 is faster).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRANSCRIPTION = Path(__file__).parents[1] / "tests" / "min_char_rnn.py"


def seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(file: str, steps: int, rounds: int) -> None:
    elman, plain = [], []
    for i in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            command = ["-m", "elman", "train", file, "--preset", "min-char-rnn", "--steps", str(steps), "--out", folder]
            elman.append(seconds(sys.executable, *command))
        plain.append(seconds(sys.executable, str(TRANSCRIPTION), file, str(steps)))
        print(f"round {i + 1}: elman {elman[-1]:.2f} s, transcription {plain[-1]:.2f} s", flush=True)
    ratios = [p / e for e, p in zip(elman, plain, strict=True)]
    tokens = 25 * steps
    print(
        f"medians: elman {statistics.median(elman):.2f} s ({tokens / statistics.median(elman):,.0f} tokens/s), "
        f"transcription {statistics.median(plain):.2f} s ({tokens / statistics.median(plain):,.0f} tokens/s); "
        f"elman is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20_000, int(sys.argv[3]) if len(sys.argv) > 3 else 3)
