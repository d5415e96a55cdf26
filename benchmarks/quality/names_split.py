"""names.txt, or another file of short lines, cut into 80% training, 10% validation and 10% test by a shuffle.

Run it: python benchmarks/quality/names_split.py FILE FOLDER [--seed 42]
Writes train.txt, valid.txt and test.txt to FOLDER, a line each, and prints how many lines they have. The order is that
of Python's random.Random(seed).shuffle on the lines as they stand in FILE.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

SEED = 42
PARTS = ("train", "valid", "test")


def split(lines: list[str], seed: int = SEED) -> dict[str, list[str]]:
    """The shuffled lines in three parts, by name; the last one has what the divisions leave."""
    shuffled = list(lines)
    random.Random(seed).shuffle(shuffled)
    first, second = (int(share * len(lines)) for share in (0.8, 0.9))
    return dict(zip(PARTS, (shuffled[:first], shuffled[first:second], shuffled[second:]), strict=True))


def write_split(file: Path, folder: Path, seed: int = SEED) -> dict[str, Path]:
    """The three files, by name; the folder is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    paths = {}
    for part, own in split(lines, seed).items():
        paths[part] = folder / f"{part}.txt"
        paths[part].write_text("".join(f"{line}\n" for line in own), encoding="utf-8")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N")
    options = parser.parse_args()
    for part, path in write_split(options.file, options.folder, options.seed).items():
        print(f"{path}: {len(path.read_text(encoding='utf-8').splitlines()):,} lines ({part})")


if __name__ == "__main__":
    main()
