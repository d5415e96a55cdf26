"""The whole training step: elman's kernels against PyTorch in every way that may be its fastest, in turn in one run.

Run it: python benchmarks/training_step.py [CASE ...] [--rounds N] [--threads N] [--compile-seconds S]
Prints a line for every contender, and at the end a Markdown table of elman's native kernel against the fastest
setting of PyTorch: tokens/s (medians of blocks), share of the FMA peak measured before the case, the ratio of the two
(above 1: elman is faster), and its least and most in a round. Nobody is timed whose first three losses differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import signal
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import elman
from elman.kernels import available_kernels
from elman.workflows.bench import (
    Case,
    Contender,
    check_agreement,
    find_cases,
    measure_peak,
    on_threads,
    open_elman,
    time_in_turn,
    torch_forward,
    torch_settings,
    torch_training,
)
from elman.workflows.info import blas_libraries

Settings = dict[str, Callable[[], Contender]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--compile-seconds", type=float, default=60, metavar="S", help="0: without torch.compile")
    options = parser.parse_args()
    cases = [case for case in find_cases(options.cases) if case.task == "training"]

    def settings(case: Case) -> Settings:
        return torch_settings(case, options.threads) | more_settings(case, options.threads, options.compile_seconds)

    compare(cases, settings, options.threads, options.rounds)


def compare(cases: list[Case], settings: Callable[[Case], Settings], threads: int, rounds: int) -> None:
    """Time elman's kernels and PyTorch's settings on every case."""
    print(f"elman {elman.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}")
    print(f"NumPy {np.__version__} with {'; '.join(blas_libraries())}; {threads} threads\n")
    rows = [compare_on(case, settings(case), threads, rounds) for case in cases]
    print(f"\n| case | tokens/s | of peak | NumPy kernel | PyTorch | its setting | ratio | {rounds} rounds |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def compare_on(case: Case, settings: Settings, threads: int, rounds: int) -> list[str]:
    """Print a line for every contender -> a row of the table."""
    kernels = [open_elman(case, kernel, threads) for kernel in available_kernels()]
    figures = kernels[0].check()
    for contender in kernels[1:]:
        check_agreement(case, figures, contender)
    peers = list(ready(case, settings, figures))
    peak = measure_peak(threads)
    contenders = kernels + peers
    times = list(zip(*islice(time_in_turn(contenders), rounds), strict=True))
    speeds = {}
    for contender, blocks in zip(contenders, times, strict=True):
        speeds[contender.name] = case.tokens / statistics.median(blocks)
        print(f"{case.name}: {contender.name}: {speeds[contender.name]:,.0f} tokens/s", flush=True)
    ours = kernels[0].name
    best = max(peers, key=lambda peer: speeds[peer.name]).name
    theirs = times[[contender.name for contender in contenders].index(best)]
    ratios = [their / our for their, our in zip(theirs, times[0], strict=True)]
    share = f"{case.flops * speeds[ours] / case.tokens / peak:.1%}" if peak else "unknown"
    numpy = f"{speeds['elman, numpy kernel']:,.0f}"
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    setting = best.removeprefix("PyTorch, ")
    ratio = f"{speeds[ours] / speeds[best]:.2f}"
    return [case.name, f"{speeds[ours]:,.0f}", share, numpy, f"{speeds[best]:,.0f}", setting, ratio, spread]


def ready(case: Case, settings: Settings, figures: list[float]) -> Iterator[Contender]:
    """The settings that work here and compute what elman does; says why one does not work."""
    for name, open_contender in settings.items():
        try:
            contender = open_contender()
            check_agreement(case, figures, contender)
        except elman.ElmanError:
            raise
        except (Exception, OutOfTimeError) as error:  # whatever torch.compile meets where it cannot work
            reason = str(error).strip().split("\n")[0]
            print(f"{case.name}: PyTorch, {name}: left out: {reason or type(error).__name__}", flush=True)
        else:
            yield contender


class OutOfTimeError(BaseException):
    """Not an Exception, which torch.compile would wrap in its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the block after so many seconds."""

    def on_alarm(number: int, frame: Any) -> None:
        raise OutOfTimeError(f"not ready after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def more_settings(case: Case, threads: int, compile_seconds: float) -> Settings:
    """A loop over time steps by hand, compiled by TorchScript, and torch.compile of that loop and of PyTorch's own.

    Each must be compiled in ``compile_seconds``; 0: without torch.compile.
    """
    loop = {"rnn": rnn_loop, "gru": gru_loop, "lstm": lstm_loop}[case.cell]
    forwards: dict[str, Callable[[], Callable]] = {"scripted loop": lambda: loop_forward(torch.jit.script(loop))}
    if compile_seconds > 0:
        forwards["torch.compile"] = lambda: torch.compile(torch_forward)
        forwards["torch.compile of the loop"] = lambda: torch.compile(loop_forward(loop))

    def open_contender(name: str, number: int, open_forward: Callable[[], Callable]) -> Contender:
        torch.compiler.reset()
        contender = torch_training(case, name, number, forward=open_forward())

        def check() -> list[float]:  # the first steps compile
            with time_limit(compile_seconds):
                return contender.check()

        return dataclasses.replace(contender, check=check)

    settings = {name: partial(open_contender, open_forward=forward) for name, forward in forwards.items()}
    return on_threads(case, threads, settings)


def loop_forward(loop: Callable) -> Callable:
    """``torch_forward`` with a loop of ours in the place of the recurrent layers; it reads their weights."""

    def forward(modules: Any, inputs: Any, targets: Any, state: Any) -> tuple[Any, Any]:
        embedding, recurrent, output = modules

        def layers(x: Any, state: Any) -> tuple[Any, Any]:
            if state is None:
                zeros = x.new_zeros(recurrent.num_layers, x.shape[1], recurrent.hidden_size)
                state = (zeros, zeros) if isinstance(recurrent, torch.nn.LSTM) else zeros
            return loop(x, state, recurrent.all_weights)

        return torch_forward((embedding, layers, output), inputs, targets, state)

    return forward


# x (T, B, I), state (L, B, H), weights a list a layer -> outputs (T, B, H), state. A second bias that is always 0 is
# not added. Products over all time steps stand before the loop.


def rnn_loop(
    x: torch.Tensor, state: torch.Tensor, weights: list[list[torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    last = []
    for k in range(len(weights)):
        W_xh, W_hh, b_h, _ = weights[k]
        h, outputs = state[k], []
        for gates_x in functional.linear(x, W_xh, b_h).unbind(0):
            h = torch.tanh(torch.addmm(gates_x, h, W_hh.t()))
            outputs.append(h)
        x = torch.stack(outputs)
        last.append(h)
    return x, torch.stack(last)


def gru_loop(
    x: torch.Tensor, state: torch.Tensor, weights: list[list[torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    last = []
    for k in range(len(weights)):
        W_xh, W_hh, b_h, b_hn = weights[k]
        h, outputs = state[k], []
        for gates_x in functional.linear(x, W_xh, b_h).unbind(0):
            r_x, z_x, n_x = gates_x.chunk(3, 1)
            r_h, z_h, n_h = functional.linear(h, W_hh, b_hn).chunk(3, 1)
            n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
            h = torch.lerp(n, h, torch.sigmoid(z_x + z_h))
            outputs.append(h)
        x = torch.stack(outputs)
        last.append(h)
    return x, torch.stack(last)


def lstm_loop(
    x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor], weights: list[list[torch.Tensor]]
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    last_h, last_c = [], []
    for k in range(len(weights)):
        W_xh, W_hh, b_h, _ = weights[k]
        h, c, outputs = state[0][k], state[1][k], []
        for gates_x in functional.linear(x, W_xh, b_h).unbind(0):
            i, f, g, o = torch.addmm(gates_x, h, W_hh.t()).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        x = torch.stack(outputs)
        last_h.append(h)
        last_c.append(c)
    return x, (torch.stack(last_h), torch.stack(last_c))


if __name__ == "__main__":
    main()
