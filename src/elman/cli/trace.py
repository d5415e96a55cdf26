"""``elman trace``: every number of a forward and a backward pass, as tables, a page or JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator
from typing import Any

import click

_HELP = """Unroll a small model over TEXT (the text itself, 2 to 101 symbols, hello by default) and show every number
of forward and backward, step by step, with its equation and the line of code that computes it.

Without --model it is a fresh one: 3 tanh units and random weights, as the options say.
"""
_WIDTH, _NAME, _COLUMN = 80, 20, 12
_MOST_ENTRIES = 400  # of a matrix that is printed


@click.command("trace", short_help="Show every number of a forward and a backward pass.", help=_HELP)
@click.argument("text", default="hello", metavar="[TEXT]")
@click.option("--model", metavar="MODEL", help="A run folder or model file, instead of a fresh model.")
@click.option("--cell", metavar="NAME", help="rnn, rnn-relu, gru or lstm.  [default: rnn]")
@click.option("--hidden-size", type=int, metavar="H", help="Hidden units, up to 512.  [default: 3]")
@click.option("--layers", "num_layers", type=int, metavar="L", help="Recurrent layers, up to 8.  [default: 1]")
@click.option("--embedding-size", type=int, metavar="E", help="Read rows of an embedding, not one-hot vectors.")
@click.option(
    "--initialization",
    metavar="NAME",
    help="uniform: up to 1/sqrt(H); normal-0.01: the tutorials' 0.01 N(0, 1); uniform-0.1.  [default: uniform]",
)
@click.option("--vocab", metavar="SYMBOLS", help="The characters in the order of their ids.  [default: as they come]")
@click.option("--seed", type=int, metavar="N", help="Of the random weights.  [default: 0]")
@click.option(
    "--train",
    "updates",
    default=0,
    metavar="N",
    help="Before and after N updates on TEXT (Adagrad 0.1, clipped at 5, summed loss).",
)
@click.option("--html", metavar="FILE", help="Write one self-contained page: the network, its numbers, sliders.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout, JSON.")
def command(html: str | None, as_json: bool, **options: Any) -> None:
    """Flags -> unrolled model -> tables, a page or JSON."""
    from elman.errors import InputError
    from elman.workflows.trace import trace

    if options["vocab"] == "":
        raise InputError("--vocab is empty: give the symbols")
    if html is not None:
        _write_page(html, options, quiet=as_json)
    if as_json:
        print(json.dumps(trace(**options)))
    elif html is None:
        for line in _tables(trace(**options)):
            print(line)


def _write_page(file: str, options: dict[str, Any], quiet: bool) -> None:
    from elman.cli import outputs
    from elman.cli.terminal import one_line
    from elman.pages.trace_page import SNAPSHOTS, trace_page
    from elman.workflows.trace import trace

    path = outputs.check(file, outputs.HTML)
    record = trace(**options, snapshots=SNAPSHOTS, accumulated=False)
    told = outputs.write(path, trace_page(record))
    if not quiet:
        print(f"{one_line(told)}, {_losses(record)}")
        for note in record["notes"]:
            print(f"  note: {one_line(note)}")


def _losses(record: dict[str, Any]) -> str:
    first, last, steps = record["snapshots"][0], record["snapshots"][-1], len(record["inputs"])
    after = f" before training, {last['loss']:.6f} nats after {last['update']:,} updates" if record["updates"] else ""
    of = f", the sum of {steps} steps" if steps > 1 else " of 1 step"
    return f"loss {first['loss']:.6f} nats{after}{of}"


def _tables(record: dict[str, Any]) -> Iterator[str]:
    """The lines of a record, none wider than 80 columns."""
    yield from _heading(record)
    for snapshot in record["snapshots"]:
        yield ""
        when = f" after {snapshot['update']:,} updates" if record["updates"] else ""
        yield f"===== loss {snapshot['loss']:.6f} nats{when} ".ljust(_WIDTH, "=")
        for t, step in enumerate(snapshot["steps"]):
            yield from _forward(record, t, step)
        for t, step in reversed(list(enumerate(snapshot["steps"]))):
            yield from _backward(record, t, step)
    yield ""
    yield "===== the equations, and the lines of code that compute them ".ljust(_WIDTH, "=")
    for name, about in [*record["quantities"].items(), *record["parameters"].items()]:
        also = f" (the tutorials' {about['tutorial']})" if about.get("tutorial") else ""
        yield from _wrapped(f"{name}{also}:  {about['equation']}")
        if about["line"]:
            yield from _wrapped(f"{about['file']}:{about['line']}  {about['code']}", "    ")


def _heading(record: dict[str, Any]) -> Iterator[str]:
    from elman.cli.terminal import one_line

    glyphs = record["glyphs"]
    size = f"{record['hidden_size']} units, {record['num_layers']} layer{'s' * (record['num_layers'] > 1)}"
    reads = f"embedding of {record['embedding_size']}" if record["embedding_size"] else "one-hot input"
    origin = one_line(record["model"]) if record["model"] else f"{record['initialization']}, seed {record['seed']}"
    yield from _wrapped(f"{record['cell']}, {size}, {reads}; weights: {origin}")
    ids = [*record["inputs"], record["targets"][-1]]
    yield from _wrapped(f"text: {' '.join(glyphs[token] for token in ids)}")
    yield from _wrapped(_losses(record))
    for note in record["notes"]:
        yield from _wrapped(f"note: {one_line(note)}")


def _forward(record: dict[str, Any], t: int, step: dict[str, Any]) -> Iterator[str]:
    values, target = step["values"], record["targets"][t]
    yield ""
    yield from _wrapped(
        f"--- forward, step {t}: reads {record['glyphs'][record['inputs'][t]]}, "
        f"is to predict {record['glyphs'][target]}"
    )
    part = ""
    for key, about in record["quantities"].items():
        if about["direction"] == "forward":
            if part != about["part"]:
                part = about["part"]
                yield f"{part}:"
            yield from _vector(about["name"], values[key], record["glyphs"] if _by_symbol(key) else None)
    yield "  p(target)".ljust(_NAME) + _number(values["probabilities"][target])


def _backward(record: dict[str, Any], t: int, step: dict[str, Any]) -> Iterator[str]:
    steps = len(record["inputs"])
    yield ""
    yield f"--- backward, step {t}"
    quantities = [(key, about) for key, about in record["quantities"].items() if about["direction"] == "backward"]
    parts = dict.fromkeys(about["part"] for _, about in reversed(quantities))
    for part in parts:
        yield f"{part}:"
        for key, about in quantities:
            if about["part"] == part:
                glyphs = record["glyphs"] if _by_symbol(key) else None
                yield from _vector(about["name"], step["values"][key], glyphs)
    last = steps - 1
    yield f"gradients, step {last} alone:" if t == last else f"gradients, sum of the steps {last} to {t}:"
    for name, rows in step["accumulated"].items():
        yield from _matrix(f"d_{name.rpartition('.')[2]}", name, rows, record["gates"])


def _by_symbol(key: str) -> bool:
    return key in ("one_hot", "logits", "probabilities", "d_logits")


def _vector(name: str, vector: list[float], glyphs: list[str] | None) -> Iterator[str]:
    """A vector in rows of 5 numbers; one with ``glyphs`` has a number for each symbol."""
    from rich.cells import cell_len

    at_once = (_WIDTH - _NAME) // _COLUMN
    narrow = len(vector) <= at_once and len(name) < _NAME - 2
    if not narrow:
        yield f"  {name}"
    for start in range(0, len(vector), at_once):
        part = vector[start : start + at_once]
        if glyphs is not None and (len(vector) > at_once or name in ("one_hot", "logits", "d_logits")):
            names = (_fit(glyph, _COLUMN - 2) for glyph in glyphs[start : start + at_once])
            yield " " * _NAME + "".join(" " * (_COLUMN - cell_len(name)) + name for name in names)
        label = name if narrow else f"[{start}:{start + len(part)}]" if len(vector) > at_once else ""
        yield f"  {label}".ljust(_NAME) + "".join(_number(value) for value in part)


def _matrix(name: str, parameter: str, rows: Any, gates: list[str]) -> Iterator[str]:
    """A gradient: a bias as a vector, a matrix row by row, and of a large one what is in it."""
    of_gates = len(gates) > 1 and name in ("d_W_xh", "d_W_hh", "d_b_h")
    height = len(rows) // len(gates)
    yield f"  {name} of {parameter}"
    if not isinstance(rows[0], list):
        parts = [(gate, rows[k * height : (k + 1) * height]) for k, gate in enumerate(gates)]
        for label, part in parts if of_gates else [("", rows)]:
            yield from _vector(label, part, None)
    elif len(rows) * len(rows[0]) <= _MOST_ENTRIES:
        for number, row in enumerate(rows):
            label = f"{gates[number // height]} {number % height}" if of_gates else f"row {number}"
            yield from _vector(label, row, None)
    else:
        largest = max((abs(value), i, j) for i, row in enumerate(rows) for j, value in enumerate(row))
        norm = math.sqrt(sum(value * value for row in rows for value in row))
        yield from _wrapped(
            f"{len(rows)} x {len(rows[0])}, norm {norm:.6g}, largest entry {rows[largest[1]][largest[2]]:.6g} "
            f"at [{largest[1]}, {largest[2]}]; --json and --html have it all",
            "    ",
        )


def _number(value: float) -> str:
    if value in (0, 1):
        text = f"{value:.0f}"
    else:
        text = f"{value:.6f}" if 0.01 <= abs(value) < 1000 else f"{value:.3e}"
    return text.rjust(_COLUMN)


def _fit(glyph: str, columns: int) -> str:
    from rich.cells import cell_len, chop_cells

    return glyph if cell_len(glyph) <= columns else chop_cells(glyph, columns - 1)[0] + "…"


def _wrapped(text: str, indent: str = "") -> Iterator[str]:
    """The text in lines that fit, also where its characters are two columns wide."""
    from rich.cells import chop_cells

    for line in textwrap.wrap(text, _WIDTH - len(indent) - 4):
        for piece in chop_cells(line, _WIDTH - len(indent) - 4):
            yield indent + piece
            indent = indent or "    "
