"""The ``elman`` command: flags -> config -> workflow -> text or JSON. One file a command, loaded when it is called."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from elman import __version__
from elman.cli import streams
from elman.cli.terminal import one_line
from elman.errors import ElmanError, did_you_mean

COMMANDS = {
    "train": "elman.cli.train",
    "sample": "elman.cli.sample",
    "eval": "elman.cli.evaluate",
    "info": "elman.cli.info",
    "trace": "elman.cli.trace",
    "inspect": "elman.cli.inspect",
    "plot": "elman.cli.plot",
    "tune": "elman.cli.tune",
    "gradcheck": "elman.cli.gradcheck",
    "bench": "elman.cli.bench",
}


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return import_module(COMMANDS[cmd_name]).command if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            advice = did_you_mean(args[0], list(COMMANDS)) or f" The commands are {', '.join(COMMANDS)}."
            raise click.UsageError(f"there is no command {args[0]!r}.{advice}", ctx)
        return super().resolve_command(ctx, args)


_HELP = """Train, sample and evaluate recurrent neural network language models on your own text.

Start with `elman train` (3 minutes on a built-in text), then `elman sample runs/python-topics-1`.
"""  # not a docstring, which python -OO leaves out


@click.group(cls=_Group, help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="elman %(version)s")
def _elman() -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 2 bad input or usage, 130 interrupted."""
    with streams.prepared():
        try:
            status = _run(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # the reader, such as head, has had enough
            return 0
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return _fail(f"{where}{error.strerror or error}")


def _run(arguments: list[str]) -> int:
    try:
        # Not _elman.main(), which ends the process by itself where a pipe is closed.
        with warnings.catch_warnings(), _elman.make_context("elman", arguments or ["--help"]) as context:
            warnings.showwarning = _show_warning
            return _elman.invoke(context) or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.NoSuchOption as error:
        known = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
        known.append("--help")
        return _fail(f"there is no option {error.option_name}.{did_you_mean(error.option_name, known)}")
    except click.ClickException as error:
        return _fail(error.format_message())
    except ElmanError as error:
        return _fail(str(error))
    except NotImplementedError as error:
        return _fail(str(error))
    except (KeyboardInterrupt, click.Abort):
        _tell("interrupted")
        return 130
    except Warning as warning:  # PYTHONWARNINGS=error
        return _fail(str(warning))
    except MemoryError:
        smaller = "; try a smaller --hidden-size, --batch-size or --seq-length" if arguments[:1] == ["train"] else ""
        return _fail(f"not enough memory{smaller}")
    except ImportError as error:  # NumPy's has pages of advice, and the reason at its end
        reason = str(error).strip().rpartition("\n")[2]
        return _fail(f"a library cannot be loaded: {reason}; is there enough memory, and is it installed whole?")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _tell(f"elman: warning: {one_line(str(message))}")


def _fail(message: str) -> int:
    _tell(f"elman: error: {one_line(message)}")
    return 2


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever was to read it has gone
        print(line, file=sys.stderr)


def encoding_options(command: Any) -> Any:
    """How a text's bytes are read: --encoding and --encoding-errors."""
    for option in (
        click.option("--encoding-errors", metavar="NAME", help="strict, or replace: what does not decode is U+FFFD."),
        click.option("--encoding", metavar="NAME", help="The text's encoding.  [default: found out]"),
    ):
        command = option(command)
    return command


def on_unknown_option(command: Any) -> Any:
    """What a model that reads a text does with what it never saw."""
    return click.option(
        "--on-unknown",
        type=click.Choice(["unknown", "error", "skip"]),
        default="unknown",
        show_default=True,
        help="Unseen characters: count as <unk> (an error where the model has none), stop, or leave out.",
    )(command)


def text_options(command: Any) -> Any:
    """How a text is read and cut: those and the tokenizer's."""
    for option in (
        click.option("--items", metavar="lines", help="Each line is a text of its own, such as a name."),
        click.option("--min-count", type=int, metavar="N", help="Leave out symbols that come fewer than N times."),
        click.option("--max-vocab", type=int, metavar="N", help="Keep the N commonest symbols, <unk> among them."),
        click.option("--word-splitter", metavar="NAME", help="How words are cut: unicode, or whitespace alone."),
        click.option(
            "--tokenizer", metavar="NAME", help="char, byte, word, bpe, or a tokenizer.json file.  [default: char]"
        ),
    ):
        command = option(command)
    return encoding_options(command)


def common_options(command: Any) -> Any:
    """The options that every command which opens a model has: --kernel, --threads and --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout, JSON."),
        click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: all]"),
        click.option("--kernel", default="auto", metavar="NAME", help="auto, numpy or native.  [default: auto]"),
    ):
        command = option(command)
    return command
