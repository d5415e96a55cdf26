"""``elman inspect``: what a model's hidden units, gates and gradients do on a text."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click

from elman.cli import encoding_options, on_unknown_option

_HELP = """See what MODEL, a run folder or a model file, does while it reads TEXT: a file, a folder, a pattern, - or a
corpus.

--html writes one page that needs no network: the text coloured by any hidden unit or by surprisal, the five likeliest
next symbols after each, the most interpretable units, gate saturation, and how far back the gradient of the loss
reaches, beside untrained RNN, GRU and LSTM. Without it a summary is printed.
"""
_WIDTH = 80
_DISTANCES = (1, 2, 5, 10, 20, 50, 100)
_BEST = 3  # units of a property that fit a line


@click.command("inspect", short_help="See what a model's hidden units do on a text.", help=_HELP)
@click.argument("model")
@click.argument("text")
@click.option("--html", metavar="FILE", help="Write the page; below 15 MB without --max-characters and --units.")
@click.option("--png", metavar="FILE", help="Write the plots as an image (needs matplotlib).")
@click.option(
    "--max-characters",
    type=int,
    metavar="N",
    help="How much of the text is read, from its beginning.  [default: 20000]",
)
@click.option("--units", type=int, metavar="N", help="How many hidden units the page holds.  [default: at most 512]")
@click.option(
    "--beside", multiple=True, metavar="MODEL", help="A further model to compare gradients with (repeatable)."
)
@encoding_options
@on_unknown_option
@click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
def command(
    model: str,
    text: str,
    html: str | None,
    png: str | None,
    max_characters: int | None,
    units: int | None,
    beside: tuple[str, ...],
    encoding: str | None,
    encoding_errors: str | None,
    on_unknown: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Flags -> inspection -> files, and a summary as text or JSON."""
    from elman.cli import outputs
    from elman.cli.terminal import harmless, one_line
    from elman.errors import InputError
    from elman.pages import figures, page
    from elman.workflows.inspect import MAX_CHARACTERS, inspect, summary

    if units is not None and html is None:
        raise InputError("--units is for --html: it is how many hidden units the page holds")
    wanted = (("html", html, outputs.HTML), ("png", png, (".png",)))
    files = {
        name: outputs.check(file, endings, (model, text, *beside)) for name, file, endings in wanted if file is not None
    }
    if "png" in files:
        figures.check_installed()
    record = inspect(
        model,
        text,
        max_characters=MAX_CHARACTERS if max_characters is None else max_characters,
        max_units=units,
        beside=beside,
        on_unknown=on_unknown,
        encoding=encoding,
        encoding_errors=encoding_errors or "strict",
        threads=threads,
    )
    written = []
    if "html" in files:
        title = f"{record['model']['name']} reading {record['text']['name']}"
        written.append(outputs.write(files["html"], page.render("inspect", title, record)))
    if "png" in files:
        lines = [{**line, "name": one_line(line["name"])} for line in record["reach"]["lines"]]
        shown = {**record, "reach": {**record["reach"], "lines": lines}}
        written.append(outputs.write(files["png"], figures.inspection(shown)))
    if as_json:
        print(json.dumps({**summary(record), **{name: str(file) for name, file in files.items()}}))
        return
    print(_wrapped(f"{record['model']['name']}: {record['protocol']}", ""))
    for note in record["notes"]:
        print(_wrapped(f"note: {note}", "  "))
    print(f"  {record['nats_per_token']:.4f} nats a token, {record['text']['tokens']:,} tokens")
    if not written:
        for line in _lines(record):
            print(harmless(line))
    for told in written:
        print(one_line(told))


def _wrapped(text: str, indent: str) -> str:
    from elman.cli.terminal import one_line

    return textwrap.fill(one_line(text), _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _lines(record: dict[str, Any]) -> list[str]:
    from rich.cells import set_cell_size

    lines = ["", "most interpretable units (layer:unit score; last column: by chance up to)"]
    for each in record["properties"]:
        best = "".join(f"{f'{layer}:{unit}':>10}  {score:+.2f}" for layer, unit, score in each["units"][:_BEST])
        lines.append(f"  {each['name']:<21}{best:<53}{each['chance']:.2f}")
    if not record["properties"]:
        lines.append("  the text has too little of every property")
    heads = "".join(f"{head:>11}" for head in _saturated(record["saturation"][0]))
    lines += ["", "saturation (mean share of the tokens)", f"  {'layer':<7}{'gate':<7}{heads}"]
    for each in record["saturation"]:
        for layer, left in enumerate(each["left"]):
            right = "" if each["right"] is None else f"{_mean(each['right'][layer]):>11.1%}"
            lines.append(f"  {layer:<7}{each['gate']:<7}{_mean(left):>11.1%}{right}")
    shown = [k for k in _DISTANCES if k <= record["reach"]["distance"]]
    lines += ["", "gradient norm of the loss, so many tokens back (at the token itself: 1)"]
    if not shown:
        return [*lines, "  the text is too short"]
    lines.append(f"  {'':<21}" + "".join(f"{k:>8}" for k in shown))
    for line in record["reach"]["lines"]:
        lines.append(f"  {set_cell_size(line['name'], 20)} " + "".join(f"{line['norms'][k]:>8.0e}" for k in shown))
    return lines


def _saturated(each: dict[str, Any]) -> tuple[str, ...]:
    """What the shares of a saturation are shares of."""
    if each["gate"] != "h":
        return "below 0.1", "above 0.9"
    return ("h = 0",) if each["right"] is None else ("h < -0.9", "h > 0.9")


def _mean(shares: list[float]) -> float:
    return sum(shares) / len(shares)
