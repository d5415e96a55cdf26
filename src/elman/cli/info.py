"""``elman info``: what a model file holds, what a text is like, or what this installation can do."""

from __future__ import annotations

import json
from typing import Any

import click

from elman.cli import text_options
from elman.cli.terminal import harmless

_HELP = """Show what MODEL, a run folder or a model file, holds; or what TEXT is like: its characters and symbols, and
the figures that a model of it has to beat. Without either, what is installed.
"""


@click.command("info", short_help="Show what a model or a text holds, or what is installed.", help=_HELP)
@click.argument("what", nargs=-1, metavar="[MODEL | TEXT...]")
@text_options
@click.option("--valid-fraction", type=float, metavar="X", help="The last part of the text that is to be predicted.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout, JSON.")
def command(what: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """What is named -> what there is to say of it, as text or JSON."""
    from elman.config import TrainConfig
    from elman.errors import InputError
    from elman.workflows import info

    given = {name: value for name, value in options.items() if value is not None}
    if what and not (len(what) == 1 and info.is_model(what[0])):
        record = info.text(what, TrainConfig(**given))
        if not as_json:
            for line in _lines_of_text(record):
                print(harmless(line))
            return
    else:
        if given:
            raise InputError(f"--{next(iter(given)).replace('_', '-')} is for texts")
        record = info.model(what[0]) if what else info.installation()
    if as_json:
        print(json.dumps(record))
    else:
        _show(record)


def _lines_of_text(record: dict[str, Any]) -> list[str]:
    lines = [
        f"{record['text']}: {record['characters']:,} characters, {record['distinct_characters']:,} distinct; "
        f"{', '.join(record['encodings']) or 'in memory'}",
        *(f"note: {note}" for note in record["notes"]),
        f"as {record['tokenizer']}: {record['train_tokens']:,} tokens to train on, {record['valid_tokens']:,} to "
        f"validate; vocabulary {record['vocab_size']:,}, {record['characters_per_token']:.2f} characters a token",
    ]
    if record["unknown_rate"] is not None:
        lines.append(
            f"of the validation tokens {record['coverage']:.2%} are known, {record['unknown_rate']:.2%} are <unk>"
        )
    lines.append("commonest: " + "  ".join(f"{token!r} {count:,}" for token, count in record["commonest"]))
    if record["uniform"] is not None:
        lines.append(f"to beat ({record['split']}):")
        lines.append(_figures("all alike", record["uniform"]))
        lines += [_figures(f"{each['order']}-gram", each) for each in record["ngrams"] or []]
        if record["xz"] is not None:
            lines.append(_figures("xz -9e", record["xz"]))
    return lines


def _figures(name: str, figures: dict[str, float]) -> str:
    return f"  {name:<9}  {figures['nats_per_token']:.3f} nats a token  {figures['bits_per_char']:.3f} bits a character"


_LONGEST = 150  # characters of a vocabulary


def _show(value: dict[str, Any], indent: str = "") -> None:
    width = max(len(key) for key in value)
    for key, item in value.items():
        if isinstance(item, dict) and item:
            print(harmless(f"{indent}{key}"))
            _show(item, indent + "  ")
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list) else str(item)
            if len(shown) > _LONGEST:
                shown = f"{shown[:_LONGEST]}… ({len(shown):,} in all)"
            if (key == "characters" and isinstance(item, str)) or not shown.isprintable():
                shown = repr(shown)
            print(harmless(f"{indent}{key:<{width}}  {shown}"))
