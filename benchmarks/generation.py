"""Generation in one stream: elman's kernels against PyTorch's loops, in turn in one run.

Run it: python benchmarks/generation.py [CASE ...] [--rounds N] [--threads N]
Prints what training_step.py prints, with blocks of drawn tokens for steps. Nobody is timed whose nats of twelve given
tokens differ. A share of the FMA peak is small here: one stream reads every weight once a token.
"""

from __future__ import annotations

import argparse
import os

from training_step import compare

from elman.workflows.bench import find_cases, torch_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N")
    options = parser.parse_args()
    cases = [case for case in find_cases(options.cases) if case.task == "generation"]
    compare(cases, lambda case: torch_settings(case, options.threads), options.threads, options.rounds)


if __name__ == "__main__":
    main()
