"""``elman sample``: a model writes."""

from __future__ import annotations

import contextlib
import json
import os

import click

from elman.cli import common_options

_HELP = """Write text with MODEL, a run folder or a model file, to stdout as it is drawn.
"""


@click.command("sample", short_help="Write text with a model.", help=_HELP)
@click.argument("model")
@click.option("--prompt", default="", metavar="TEXT", help="The text to go on from; it is printed first.")
@click.option("--length", default=300, metavar="N", show_default=True, help="Tokens to write after the prompt.")
@click.option(
    "--temperature",
    type=float,
    metavar="X",
    help="Below 1: surer, above 1: wilder; 0 takes the likeliest.  [default: 0.8]",
)
@click.option("--top-k", default=0, metavar="K", show_default=True, help="Draw from the K likeliest; 0: from all.")
@click.option("--top-p", default=1.0, metavar="P", show_default=True, help="Draw from the likeliest that make up P.")
@click.option("--greedy", is_flag=True, help="Always take the likeliest, as --temperature 0.")
@click.option("--seed", default=0, metavar="N", show_default=True, help="The same seed writes the same text.")
@click.option("--num", default=1, metavar="N", show_default=True, help="How many texts, or items; seeds count up.")
@click.option("--novel", is_flag=True, help="Only items that were not in the training text.")
@click.option("--stop", metavar="TEXT", help="End before this text.")
@click.option(
    "--on-unknown",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do with characters in the prompt that the model never saw.",
)
@common_options
def command(
    model: str,
    prompt: str,
    length: int,
    temperature: float | None,
    top_k: int,
    top_p: float,
    greedy: bool,
    seed: int,
    num: int,
    novel: bool,
    stop: str | None,
    on_unknown: str,
    kernel: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Flags -> texts -> stdout or JSON lines."""
    from elman.cli import terminal
    from elman.config import SampleConfig
    from elman.errors import InputError
    from elman.text_model import load
    from elman.workflows import sample

    if greedy and temperature:
        raise InputError("--greedy and --temperature exclude each other: give one of them")
    prompt, stop = _typed(prompt), None if stop is None else _typed(stop)
    config = SampleConfig(length, 0.0 if greedy else 0.8 if temperature is None else temperature, top_k, top_p, seed)
    opened = load(model, kernel, threads)
    if on_unknown == "skip":
        prompt = opened.tokenizer.decode(opened.tokenizer.encode(prompt, "skip"))  # what the model reads
    for seed_used, pieces in sample.samples(opened, prompt, config, num, stop, on_unknown, novel):
        if as_json:
            print(json.dumps({"seed": seed_used, "prompt": prompt, "text": "".join(pieces)}))
            continue
        if num > 1 and not opened.as_items:
            terminal.write(f"--- seed {seed_used} ---\n")
        terminal.write(prompt)
        for piece in pieces:
            terminal.write(piece)
        terminal.write("\n")


def _typed(argument: str) -> str:
    """What the locale could not decode is UTF-8, if it can be."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        with contextlib.suppress(UnicodeError):
            return os.fsencode(argument).decode()
    return argument
