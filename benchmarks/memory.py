"""Peak memory of a training step, elman's and PyTorch's, each in a process of its own.

Run it: python benchmarks/memory.py [CASE ...] [--threads N]
Prints a Markdown table in MiB: the largest resident size after three steps less the largest before the model was built,
imports done (getrusage's ru_maxrss). Parameters, optimiser, gradients and windows are in it on both sides.
PyTorch has Adam in one call.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys

from elman.kernels import open_kernel
from elman.workflows.bench import find_cases, open_elman, torch_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--measure", choices=["elman", "PyTorch"], help="One contender, in this process.")
    options = parser.parse_args()
    if options.measure:
        print(grown(options.cases[0], options.measure, options.threads))
        return
    print("| case | elman, MiB | PyTorch, MiB | ratio |\n|---|---|---|---|")
    for case in find_cases(options.cases):
        if case.task == "training":
            ours, theirs = (in_a_fresh_process(case.name, who, options.threads) for who in ("elman", "PyTorch"))
            print(f"| {case.name} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.2f} |", flush=True)


def in_a_fresh_process(case: str, contender: str, threads: int) -> float:
    """MiB; see the top of this file."""
    command = [sys.executable, __file__, case, "--measure", contender, "--threads", str(threads)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def grown(name: str, contender: str, threads: int) -> float:
    """MiB by which three steps raise the largest resident size of this process."""
    (case,) = find_cases([name])
    if contender == "PyTorch":
        import torch

        torch.set_num_threads(threads)
        open_contender = next(iter(torch_settings(case, threads).values()))
    else:
        open_kernel("native", threads)

        def open_contender():
            return open_elman(case, "native", threads)

    before = largest_resident_size()
    open_contender().check()
    return largest_resident_size() - before


def largest_resident_size() -> float:
    """Of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


if __name__ == "__main__":
    main()
