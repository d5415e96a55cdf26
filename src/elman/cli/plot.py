"""``elman plot``: loss curves of runs."""

from __future__ import annotations

import json

import click

_HELP = """Plot the training and validation losses of RUNs, one or several run folders, from their logs.

Needs matplotlib: python -m pip install 'elman[plot]'. With --json the figures are printed, and nothing is drawn
unless --out is given.
"""


@click.command("plot", short_help="Plot the losses of one or several runs.", help=_HELP)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--out", metavar="FILE", help="A .png, .svg or .pdf file.  [default: loss.png]")
@click.option(
    "--x",
    type=click.Choice(["steps", "seconds", "tokens"]),
    default="steps",
    show_default=True,
    help="What the losses are plotted against.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout, JSON.")
def command(runs: tuple[str, ...], out: str | None, x: str, as_json: bool) -> None:
    """Logs -> a figure, or JSON."""
    from elman.cli import outputs
    from elman.cli.terminal import one_line
    from elman.errors import InputError
    from elman.pages import figures
    from elman.workflows.curves import curves

    path = None
    if out is not None or not as_json:
        path = outputs.check(out if out is not None else "loss.png", [f".{name}" for name in figures.FORMATS])
        figures.check_installed()
    records = curves(runs)
    if path is not None:
        if not any(curve[part]["loss"] for curve in records for part in ("train", "valid")):
            raise InputError("there is no loss to plot yet: the logs hold no step")
        shown = [{**curve, "name": one_line(curve["name"])} for curve in records]
        told = outputs.write(path, figures.loss_curves(shown, x, path.suffix.lower()[1:]))
    if as_json:
        print(json.dumps(records))
        return
    for curve in records:
        last = [f"{name} loss {curve[part]['loss'][-1]:.4f}" for name, part in _PARTS if curve[part]["loss"]]
        print(one_line(f"{curve['name']}: {len(curve['train']['loss']):,} records; {', '.join(last) or 'no loss yet'}"))
        for note in curve["notes"]:
            print(f"  note: {one_line(note)}")
    if len({str(curve["vocab_size"]) for curve in records}) > 1:
        print("note: the runs have different vocabularies, between which nats a token do not compare")
    print(one_line(told))


_PARTS = (("last training", "train"), ("last validation", "valid"))
