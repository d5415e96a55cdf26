"""``elman tune``: the settings that suit a text, searched for within a given time."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from elman.cli import common_options, outputs, text_options
from elman.cli.progress import JsonView, Record, View, show_all
from elman.cli.terminal import duration, one_line
from elman.errors import InputError
from elman.presets import DEFAULT_PRESET, PRESETS

if TYPE_CHECKING:
    from elman.workflows.space import LogRange

_HELP = """Search for the learning rate, hidden size and dropout that suit TEXT (see `elman train`), and write the best
as a configuration file.

Trials with different settings begin with a little time each; the best third of them go on with three times as much,
and so on until one is left (successive halving). They are ranked by validation loss. The preset's own settings are one
of the trials. Ctrl-C ends the search early and writes the best so far.

For the final training give --minutes to `elman train`: more than a trial had, as a rule.
"""


@click.command("tune", short_help="Search for settings that suit a text.", help=_HELP)
@click.argument("text", nargs=-1)
@click.option("--preset", metavar="NAME", help=f"The recipe to begin with: {', '.join(PRESETS)}.  [default: char-lstm]")
@click.option("--config", metavar="FILE", help="A TOML file with tables [model] and [train], laid over the preset.")
@click.option("--minutes", default=10.0, metavar="M", show_default=True, help="Time for the whole search.")
@click.option("--trials", default=9, metavar="N", show_default=True, help="How many settings to try.")
@click.option(
    "--learning-rate", metavar="LO:HI", help="A range, or values a,b,c.  [default: a fourth to 4 times the preset's]"
)
@click.option("--hidden-size", metavar="A,B,C", help="Values.  [default: half, once and twice the preset's]")
@click.option("--dropout", metavar="A,B,C", help="Values.  [default: the preset's, and 0.2 less and more]")
@click.option("--out", metavar="FILE", help="A .toml file to write.  [default: best.toml, or the next that is free]")
@text_options
@click.option("--valid", metavar="FILE", help="Validate on this text,")
@click.option("--valid-fraction", type=float, metavar="X", help="or on this last part of the text.  [default: 0.1]")
@click.option("--seed", type=int, metavar="N", help="Of the settings drawn, the weights and dropout.")
@common_options
def command(
    text: tuple[str, ...],
    learning_rate: str | None,
    hidden_size: str | None,
    dropout: str | None,
    out: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Flags -> a search -> a table or JSON lines, and a configuration file."""
    start = time.perf_counter()  # before NumPy is loaded
    from elman.workflows.stop import Stop
    from elman.workflows.tune import tune

    given = {name: value for name, value in options.items() if value is not None}
    inputs = [*text, *(given[name] for name in ("config", "valid") if name in given)]
    path = None if out is None else _new(outputs.check(out, outputs.TOML, inputs))
    stop = Stop()
    records = tune(
        text,
        learning_rate=_range_or_values("learning_rate", learning_rate),
        hidden_size=_values("hidden_size", hidden_size, int),
        dropout=_values("dropout", dropout, float),
        stop=stop,
        start=start,
        **given,
    )
    training = ["elman", "train", *text]
    for name, default in (("preset", DEFAULT_PRESET), ("valid", None)):
        if given.get(name, default) != default:
            training += [f"--{name}", given[name]]
    return show_all(_saved(records, path, training), JsonView() if as_json else _TableView(), stop)


def _values(name: str, given: str | None, kind: Callable[[str], Any]) -> list[Any] | None:
    if given is None:
        return None
    try:
        return [kind(part) for part in given.split(",")]
    except ValueError:
        what = "whole numbers, such as 128,256" if kind is int else "numbers, such as 0.1,0.3"
        raise InputError(f"{name} {given!r} is not a list of {what}") from None


def _range_or_values(name: str, given: str | None) -> LogRange | list[float] | None:
    from elman.workflows.space import LogRange

    if given is None or ":" not in given:
        return _values(name, given, float)
    try:
        least, most = map(float, given.split(":"))
    except ValueError:
        raise InputError(f"{name} {given!r} is not a range, which has two ends, such as 0.001:0.01") from None
    return LogRange(least, most)


def _new(path: Path) -> Path:
    if path.exists():
        raise InputError(f"{path} is there already; give another file to write with --out")
    return path


def _next_free() -> Path:
    path, number = Path("best.toml"), 1
    while path.exists():
        number += 1
        path = Path(f"best-{number}.toml")
    return path


def _saved(records: Iterable[Record], path: Path | None, following: list[str]) -> Iterator[Record]:
    """Write the file before the last record, which then has ``out``, its path, and ``next``, a command; or None.

    Where it cannot be written the record comes all the same, and the error after it.
    """
    from elman.config import to_toml

    for record in records:
        failed = None
        if record["event"] == "end":
            record |= {"out": None, "next": None}
            if record["config"] is not None:
                path = path or _next_free()
                line = shlex.join([*following, "--config", str(path)])
                head = f"# {_describe_best(record)}\n# {one_line(line)}\n\n"
                try:
                    outputs.write(path, head + to_toml(**record["config"]))
                    record |= {"out": str(path), "next": line}
                except OSError as error:
                    failed = error
        yield record
        if failed is not None:
            raise failed


def _describe_best(end: Record) -> str:
    best, done = end["trials"][0], sum(trial["rungs"] > 0 for trial in end["trials"])
    return f"elman tune: the best trial of {done}, with validation loss {best['valid_loss']:.4f} nats a token"


class _TableView(View):
    """Lines on stderr while the search goes on; at its end a table on stdout."""

    def show(self, record: Record) -> None:
        """Print what a person wants to know of the record."""
        match record["event"]:
            case "start":
                self._print(
                    f"{record['text']}: {record['characters']:,} characters; {record['train_tokens']:,} tokens to "
                    f"train on, {record['eval_tokens']:,} to validate on; vocabulary {record['vocab_size']}"
                )
                rungs = [f"{rung['trials']} for {duration(rung['seconds'])} each" for rung in record["rungs"]]
                kernel = f"kernel {record['kernel']} in {record['precision']}"
                self._print(
                    f"{record['cell']}, {kernel}; {record['minutes']:g} minutes, trials: {', then '.join(rungs)}"
                )
                for note in record["notes"]:
                    self._print(f"note: {note}")
            case "rung":
                self._print(f"rung {record['rung']} of {record['rungs']}")
            case "trial":
                self._print(f"trial {record['trial']}: {_settings(record)}: {_reached(record)}")
            case "end":
                _show_table(record)

    def _print(self, line: str) -> None:
        print(one_line(line), file=sys.stderr, flush=True)


def _settings(trial: Record) -> str:
    settings = f"learning rate {trial['learning_rate']:g}, hidden size {trial['hidden_size']}"
    return f"{settings}, dropout {trial['dropout']:g}"


def _reached(trial: Record) -> str:
    if trial["outcome"] == "diverged":
        return f"diverged: {trial['reason']}"
    if trial["rungs"] < trial["rung"]:
        return "not finished"
    return f"validation loss {trial['valid_loss']:.4f} after {trial['steps']:,} steps"


def _show_table(end: Record) -> None:
    print("Interrupted after" if end["interrupted"] else "Searched for", duration(end["seconds"]))
    print("rank  learning rate  hidden size  dropout    steps  seconds  validation loss  what happened")
    for rank, trial in enumerate(end["trials"], 1):
        loss = "-" if trial["valid_loss"] is None else f"{trial['valid_loss']:.4f}"
        print(
            f"{rank:>4}  {trial['learning_rate']:>13g}  {trial['hidden_size']:>11}  {trial['dropout']:>7g}"
            f"  {trial['steps']:>7,}  {trial['trial_seconds']:>7.1f}  {loss:>15}  {_happened(trial, end)}"
        )
    if end["out"] is not None:
        print(one_line(f"{end['out']}: the best settings.  Next:  {end['next']}"))
    elif end["config"] is None:
        print("No trial was finished: there is no best one, and nothing was written.")


def _happened(trial: Record, end: Record) -> str:
    own = " (the settings without a search)" if trial["is_own"] else ""
    match trial["outcome"]:
        case "best":
            happened = "best so far" if end["interrupted"] else "won"
        case "stopped":
            happened = f"stopped after rung {trial['rungs']}"
        case "diverged":
            happened = f"diverged at step {trial['steps'] + 1}"
        case _:
            happened = "not finished" if trial["steps"] else "not begun"
    return happened + own
