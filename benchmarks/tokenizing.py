"""How fast text becomes ids, with each tokenizer.

Run it: python benchmarks/tokenizing.py [FILE [ENCODING]]
Without a file the text is made up: words drawn from an invented dictionary, and Chinese from the commonest characters.
Prints a Markdown table of the best of five passes of encode and of the one training pass. MB are of UTF-8.
(A file tokenizers.py here would stand in the way of the library of that name.)
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from elman.text.tokenizers import train_tokenizer

CHARACTERS = 2_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", nargs="?", metavar="FILE")
    parser.add_argument("encoding", nargs="?", metavar="ENCODING", default="utf-8")
    options = parser.parse_args()
    if options.file:
        texts = {Path(options.file).name: Path(options.file).read_text(options.encoding)}
    else:
        texts = {"made-up words": made_up_words(), "made-up Chinese": made_up_chinese()}
    print("| text | tokenizer | MB/s | million characters/s | characters a token | training, MB/s |")
    print("|---|---|---|---|---|---|")
    for name, text in texts.items():
        for kind in ("char", "byte", "word", "bpe"):
            print(f"| {name} | {kind} | {' | '.join(figures(kind, text))} |", flush=True)


def figures(kind: str, text: str) -> list[str]:
    """The cells of a row; see the top of this file."""
    megabytes = len(text.encode()) / 1e6
    start = time.perf_counter()
    tokenizer = train_tokenizer(kind, text, unknown=True)
    training = time.perf_counter() - start
    tokenizer.encode(text[:1000])  # loads what is loaded once
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        ids = tokenizer.encode(text)
        best = min(best, time.perf_counter() - start)
    trained = "-" if kind == "byte" else f"{megabytes / training:.1f}"
    return [f"{megabytes / best:.1f}", f"{len(text) / 1e6 / best:.1f}", f"{len(text) / len(ids):.2f}", trained]


def made_up_words() -> str:
    """Lines of a dozen words, some with a comma behind them; word number r of the dictionary is drawn as 1/r."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfw"))
    words = ["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(20_000)]
    drawn = rng.zipf(1.2, CHARACTERS // 6) % len(words)
    return "".join(words[place] + (",\n" if number % 12 == 11 else " ") for number, place in enumerate(drawn))


def made_up_chinese() -> str:
    """Clauses of seven characters of common ones, drawn as word numbers are above, with commas and full stops."""
    rng = np.random.default_rng(0)
    common = list("的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作")
    drawn = rng.zipf(1.2, CHARACTERS) % len(common)
    return "".join(common[place] + ("，" if number % 7 == 6 else "") for number, place in enumerate(drawn))


if __name__ == "__main__":
    main()
