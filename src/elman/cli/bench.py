"""``elman bench``: how fast this machine trains and generates, and how near its limit."""

from __future__ import annotations

import json
from typing import Any

import click

from elman.cli import common_options
from elman.cli.terminal import count

_STEADY = 2  # the most by which the rounds of a case may differ before it is said


_HELP = """Measure this machine: its limit, then how fast elman trains and generates, side by side with PyTorch.

The limit is the rate of fused multiply-adds (FMA) in registers. A case is named for its cell and size: rnn-100 and
lstm-100 read 1 stream in windows of 25; 2x128 is two layers, 50 streams, windows of 50; 512 is 64 streams, windows
of 128; lstm-200-words has 20,000 words; generate-2x128 and generate-512 draw from an LSTM in one stream. A step is
forward, backward, clipping and Adam; `of peak` counts its matrix products.

PyTorch, where it is installed, runs the same steps from the same weights in its fastest setting here, in turn with
elman. All cases together take about a minute.
"""


@click.command("bench", short_help="Measure the speed of training and generation here.", help=_HELP)
@click.option("--case", "names", multiple=True, metavar="NAME", help="Only this case; may be repeated.  [default: all]")
@click.option("--seconds", default=4.0, metavar="S", show_default=True, help="Time for a case, about.")
@click.option("--no-torch", is_flag=True, help="Do not compare with PyTorch where it is installed.")
@common_options
def command(
    names: tuple[str, ...], seconds: float, no_torch: bool, kernel: str, threads: int | None, as_json: bool
) -> None:
    """Flags -> measurements -> a table or JSON lines."""
    from elman.workflows.bench import bench, find_cases

    for record in bench(find_cases(names), kernel, threads, seconds, not no_torch):
        if as_json:
            print(json.dumps(record), flush=True)
        else:
            _show(record, no_torch)


def _show(record: dict[str, Any], no_torch: bool) -> None:
    match record["event"]:
        case "start":
            _show_start(record, no_torch)
        case "case":
            _show_case(record)
        case "end":
            print(f"{record['seconds']:.0f} s")


def _show_start(record: dict[str, Any], no_torch: bool) -> None:
    print(f"elman {record['elman']}, {record['kernel']} kernel, {record['threads']} threads")
    for library in record["blas"]:
        print(f"NumPy {record['numpy']} with {library}")
    if record["peak_flops"] is not None:
        print(f"FMA peak {record['peak_flops'] / 1e9:,.0f} GFLOP/s")
    else:
        print("FMA peak unknown: the native kernel, which measures it, was not built")
    if record["torch"] is not None:
        print(f"PyTorch {record['torch']}")
    elif not no_torch:
        print("PyTorch is not installed: no comparison (python -m pip install torch)")
    heading = f"{'case':<16}{'tokens/s':>10}"
    heading += f"{'of peak':>10}" if record["peak_flops"] is not None else ""
    heading += f"{'PyTorch':>10}{'ratio':>8}  {'least to most':<16}" if record["torch"] is not None else ""
    print(f"\n{heading.rstrip()}")


def _show_case(record: dict[str, Any]) -> None:
    line = f"{record['case']:<16}{count(record['tokens_per_second']):>10}"
    if record["share_of_peak"] is not None:
        line += f"{record['share_of_peak']:>10.1%}"
    if record["ratio"] is not None:
        line += f"{count(record['torch_tokens_per_second']):>10}{record['ratio']:>8.2f}"
        line += f"  {record['ratio_least']:.2f} to {record['ratio_most']:.2f}"
    print(line, flush=True)
    if record["ratio"] is not None and record["ratio_most"] > _STEADY * record["ratio_least"]:
        print(f"  unsteady: rounds differ more than {_STEADY} times; is the machine busy?")
