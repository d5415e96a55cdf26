"""``elman gradcheck``: analytic against numeric gradients."""

from __future__ import annotations

import json

import click

_HELP = """Compare every gradient with central differences in float64.

The error of an array is max|analytic - numeric| / max|analytic|. The exit status is 1 where one is above 1e-7, also
where --break is why.
"""


@click.command("gradcheck", short_help="Prove the gradients against finite differences.", help=_HELP)
@click.option("--cell", metavar="NAME", help="rnn, rnn-relu, gru or lstm.  [default: all]")
@click.option("--hidden-size", type=int, metavar="H", help="[default: 4]")
@click.option("--layers", type=int, metavar="L", help="[default: 2; with --break 1]")
@click.option("--seq-length", type=int, metavar="T", help="[default: 5; with --break 1]")
@click.option("--batch-size", default=3, metavar="B", show_default=True)
@click.option("--vocab-size", type=int, metavar="V", help="[default: 5]")
@click.option("--seed", default=0, metavar="N", show_default=True)
@click.option("--model", "path", metavar="FILE", help="Check the weights of a model file or run folder, on random ids.")
@click.option(
    "--entries", type=int, metavar="N", help="Compare N entries an array.  [default: all; of a model file 100]"
)
@click.option(
    "--break", "broken", metavar="TERM", help="Drop a term of the backward pass: d_h, slope_h, d_f, d_c_prev, …"
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout, JSON lines.")
def command(
    cell: str | None,
    hidden_size: int | None,
    layers: int | None,
    seq_length: int | None,
    batch_size: int,
    vocab_size: int | None,
    seed: int,
    path: str | None,
    entries: int | None,
    broken: str | None,
    as_json: bool,
) -> int:
    """Flags -> gradient checks -> a table or JSON lines."""
    from elman.cells import CELLS
    from elman.explain.breaks import terms
    from elman.workflows.gradcheck import gradcheck

    records = []
    heading = None
    for record in gradcheck(cell, hidden_size, layers, seq_length, batch_size, vocab_size, seed, path, entries, broken):
        records.append(record)
        if as_json:
            print(json.dumps(record))
            continue
        if heading != (record["cell"], record["part"]):
            heading = (record["cell"], record["part"])
            dropped = {term.name: term.meaning for term in terms(CELLS[record["cell"]])}
            print(
                f"\n{record['cell']}, {record['part']}" + (f", without {broken}: {dropped[broken]}" if broken else "")
            )
            print(f"      {'array':<24}{'entries':>8}{'error':>9}  {'worst at':<9}{'analytic':>11}{'numeric':>11}")
        where = ",".join(map(str, record["index"])) + (f" {record['gate']}" if record["gate"] else "")
        print(
            f"{'' if record['ok'] else 'WRONG':<6}{record['name']:<24}{record['checked']:>8}{record['error']:>9.1e}  "
            f"{where:<9}{record['analytic']:>11.3e}{record['numeric']:>11.3e}"
        )
    wrong = sum(not record["ok"] for record in records)
    if not as_json and wrong:
        print(f"\n{wrong} of {len(records)} gradients are wrong (tolerance 1e-7)")
    elif not as_json:
        print("\nall gradients are right (tolerance 1e-7)")
    return 1 if wrong else 0
