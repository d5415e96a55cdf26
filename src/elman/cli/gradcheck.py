"""``elman gradcheck``: analytic against numeric gradients."""

from __future__ import annotations

import json

import click

_HELP = """Compare every gradient with central differences in float64.

The error of an array is max|analytic - numeric| / max|analytic|. The exit status is 1 where one is above 1e-7.
"""


@click.command("gradcheck", short_help="Prove the gradients against finite differences.", help=_HELP)
@click.option("--cell", metavar="NAME", help="rnn, rnn-relu, gru or lstm.  [default: all]")
@click.option("--hidden-size", default=4, metavar="H", show_default=True)
@click.option("--layers", default=2, metavar="L", show_default=True)
@click.option("--seq-length", default=5, metavar="T", show_default=True)
@click.option("--batch-size", default=3, metavar="B", show_default=True)
@click.option("--vocab-size", default=5, metavar="V", show_default=True)
@click.option("--seed", default=0, metavar="N", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout, JSON lines.")
def command(
    cell: str | None,
    hidden_size: int,
    layers: int,
    seq_length: int,
    batch_size: int,
    vocab_size: int,
    seed: int,
    as_json: bool,
) -> int:
    """Flags -> gradient checks -> a table or JSON lines."""
    from elman.workflows.gradcheck import gradcheck

    all_ok = True
    heading = None
    for record in gradcheck(cell, hidden_size, layers, seq_length, batch_size, vocab_size, seed):
        all_ok &= record["ok"]
        if as_json:
            print(json.dumps(record))
            continue
        if heading != (record["cell"], record["part"]):
            heading = (record["cell"], record["part"])
            print(f"\n{record['cell']}, {record['part']}")
            print(f"  {'array':<26}{'entries':>8}{'error':>11}  {'worst entry':<12}{'analytic':>15}{'numeric':>15}")
        where = ",".join(map(str, record["index"]))
        print(
            f"  {record['name']:<26}{record['size']:>8}{record['error']:>11.1e}  {where:<12}"
            f"{record['analytic']:>15.8f}{record['numeric']:>15.8f}{'' if record['ok'] else '  WRONG'}"
        )
    if not as_json:
        print(f"\n{'all gradients are right' if all_ok else 'some gradients are wrong'} (tolerance 1e-7)")
    return 0 if all_ok else 1
