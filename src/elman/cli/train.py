"""``elman train``: a text becomes a model."""

from __future__ import annotations

import time
from typing import Any, get_args

import click

from elman.cli import common_options, text_options
from elman.config import CellName, OptimizerName
from elman.presets import DEFAULT_PRESET, PRESETS

_RENAMED = {"layers": "num_layers"}


def _names(options: Any) -> str:
    return ", ".join(options)


def _describe_preset(name: str) -> str:
    settings = {**PRESETS[name].model, **PRESETS[name].train}
    return f"What is not given is the preset's; {name} has " + ", ".join(f"{k} {v}" for k, v in settings.items()) + "."


_HELP = """Train a model on TEXT: files, folders, patterns such as 'data/*.txt', - for standard input, or
corpora, joined.

Files may be compressed (.gz, .bz2, .xz); `elman info` names the corpora. Without TEXT it is Python's documentation.

The run folder gets model.safetensors (the best on validation), checkpoint.safetensors, log.jsonl and config.toml.
Ctrl-C and SIGTERM end a run early, save it, and leave a usable model. --resume goes on from the last checkpoint.
With it may be given: another end (--steps, --epochs, --minutes, --patience), --learning-rate, --on-nan, --keep,
the --…-every, --eval-tokens, --sample-length, --precision, --kernel, --threads; TEXT and --valid where the same
texts are now.
"""


@click.command("train", short_help="Train a model on a text.", help=_HELP, epilog=_describe_preset(DEFAULT_PRESET))
@click.argument("text", nargs=-1)
@click.option("--preset", metavar="NAME", help=f"A recipe: {_names(PRESETS)}.  [default: char-lstm]")
@click.option("--config", metavar="FILE", help="A TOML file with tables [model] and [train], laid over the preset.")
@click.option("--out", metavar="DIR", help="The run folder to make.  [default: runs/<text>-<n>]")
@click.option("--resume", metavar="DIR", help="Go on with this run; needs nothing else.")
@click.option("--cell", metavar="NAME", help=f"{_names(get_args(CellName))}.")
@click.option("--hidden-size", type=int, metavar="H", help="Hidden units a layer.")
@click.option("--layers", type=int, metavar="L", help="Recurrent layers.")
@click.option("--embedding-size", type=int, metavar="E", help="Size of an embedding; without it one-hot input.")
@click.option("--tie-weights", is_flag=True, default=None, help="Share the embedding with the output layer.")
@click.option("--dropout", type=float, metavar="P", help="Chance that an output of a layer is dropped in training.")
@click.option(
    "--variational-dropout/--no-variational-dropout",
    default=None,
    help="Drop the same outputs at all time steps of a window.",
)
@click.option(
    "--embedding-dropout", type=float, metavar="P", help="Chance that a token's whole embedding is dropped in training."
)
@click.option("--dtype", metavar="NAME", help="float32 or float64.")
@text_options
@click.option("--optimizer", metavar="NAME", help=f"{_names(get_args(OptimizerName))}.")
@click.option("--learning-rate", type=float, metavar="X", help="Step size of the optimiser.")
@click.option("--weight-decay", type=float, metavar="X", help="Of adamw: its decay, times the learning rate.")
@click.option("--schedule", metavar="NAME", help="constant, linear, cosine or halving: how the learning rate ends.")
@click.option("--warmup-steps", type=int, metavar="N", help="Steps over which the learning rate rises.")
@click.option("--batch-size", type=int, metavar="B", help="Streams read side by side.")
@click.option("--seq-length", type=int, metavar="T", help="Time steps of a window.")
@click.option("--clip-norm", type=float, metavar="X", help="Clip the gradients' common norm.")
@click.option("--clip-value", type=float, metavar="X", help="Clip each gradient entry.")
@click.option(
    "--activation-regularization", type=float, metavar="A", help="Times the outputs' mean square: keep it small."
)
@click.option("--epochs", type=int, metavar="N", help="Stop after N passes over the text,")
@click.option("--steps", type=int, metavar="N", help="or after N steps,")
@click.option("--minutes", type=float, metavar="M", help="or after M minutes, saving included.  [default: 3]")
@click.option("--patience", type=int, metavar="N", help="Stop after N evaluations in a row without a better one.")
@click.option("--valid", metavar="FILE", help="Validate on this text,")
@click.option("--valid-fraction", type=float, metavar="X", help="or on this last part of the text (0: none).")
@click.option("--eval-tokens", type=int, metavar="N", help="Validate on at most N tokens while training.")
@click.option(
    "--eval-every", type=int, metavar="STEPS", help="0: only at the end.  [default: every 100, later 1000, …]"
)
@click.option("--sample-every", type=int, metavar="STEPS", help="0: never.  [default: the same]")
@click.option("--sample-length", type=int, metavar="N", help="Tokens of a sample.")
@click.option("--checkpoint-every", type=int, metavar="STEPS", help="0: only at the end.  [default: every 30 s]")
@click.option("--keep", type=int, metavar="N", help="Checkpoints to keep: the last one and those before.  [default: 2]")
@click.option(
    "--on-nan", metavar="NAME", help="stop, or rollback: to the last checkpoint, with half the learning rate."
)
@click.option("--log-every", type=int, metavar="STEPS", help="Steps between lines of the log.")
@click.option("--seed", type=int, metavar="N", help="Of the weights, dropout and samples.")
@click.option(
    "--precision",
    metavar="NAME",
    help="Of products: float32, bf16, or auto: bf16 where it can be had.",
)
@click.option("--engine", default="cpu", metavar="NAME", help="What trains: cpu.  [default: cpu]")
@common_options
def command(text: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Flags -> training -> a bar, lines or JSON."""
    start = time.perf_counter()  # before NumPy is loaded, which takes a part of the minutes
    from elman.cli.progress import open_view, show_all
    from elman.workflows.stop import Stop
    from elman.workflows.train import training

    given = {_RENAMED.get(name, name): value for name, value in options.items() if value is not None}
    stop = Stop()
    return show_all(training(text, stop=stop, start=start, **given), open_view(as_json), stop)
