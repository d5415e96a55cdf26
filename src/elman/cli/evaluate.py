"""``elman eval``: how well a model predicts a text."""

from __future__ import annotations

import json

import click

from elman.cli import common_options, encoding_options, on_unknown_option

_HELP = """Measure how well MODEL, a run folder or a model file, predicts TEXT: a file, a folder, a pattern, - or a
corpus.

One exact pass from the first token to the last that carries the state on; every token but the first is scored.
"""


@click.command("eval", short_help="Measure how well a model predicts a text.", help=_HELP)
@click.argument("model")
@click.argument("text")
@click.option("--window", type=int, metavar="N", help="Cold windows of N tokens instead of one pass that remembers.")
@encoding_options
@on_unknown_option
@common_options
def command(
    model: str,
    text: str,
    window: int | None,
    encoding: str | None,
    encoding_errors: str | None,
    on_unknown: str,
    kernel: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Flags -> evaluation -> text or JSON."""
    from elman.cli.terminal import one_line
    from elman.workflows.evaluate import evaluate

    record = evaluate(model, text, window, on_unknown, encoding, encoding_errors or "strict", kernel, threads)
    if as_json:
        print(json.dumps(record))
        return
    print(one_line(record["protocol"]))
    for note in record["notes"]:
        print(f"  note: {one_line(note)}")
    print(f"  {record['nats_per_token']:.4f} nats a token   perplexity {record['perplexity']:.3f}")
    print(f"  {record['bits_per_char']:.4f} bits a character   {record['bits_per_byte']:.4f} bits a byte")
    print(f"  {record['tokens']:,} tokens, {record['characters']:,} characters, {record['bytes']:,} bytes scored")
    if record["unknown_tokens"]:
        print(
            f"  {record['unknown_tokens']:,} of the tokens are <unk>, which the model never saw; "
            "bits a character and a byte include their spelling"
        )
