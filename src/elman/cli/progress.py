"""How training looks: a live bar on a terminal, plain lines elsewhere, or JSON lines. Progress goes to stderr."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from elman.cli.terminal import count, duration, harmless, one_line

if TYPE_CHECKING:
    from elman.workflows.stop import Stop

Record = dict[str, Any]
_SECONDS_BETWEEN_LINES = 2.0
_FEW_STEPS = 100  # after which no model has learned much


class View:
    """Shows records as they come; used as a context."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, record: Record) -> None:
        """Show one record of :mod:`elman.workflows.train`, or of another workflow."""
        raise NotImplementedError


def show_all(records: Iterable[Record], view: View, stop: Stop) -> int:
    """Show each record -> the exit status. Where nobody reads any more, the work is stopped, and its end awaited."""
    unseen = None
    try:
        with view:
            for record in records:
                if unseen is None:
                    try:
                        view.show(record)
                    except OSError as error:  # nobody reads any more: save and end
                        unseen = error
                        stop.set()
            if unseen is not None:
                raise unseen
    except OSError:
        if stop.signal is None:
            raise
    return 0 if stop.signal is None else 128 + stop.signal


def open_view(as_json: bool) -> View:
    """The view that fits: JSON when asked for, a bar where stderr is a terminal, else plain lines."""
    if as_json:
        return JsonView()
    return LiveView() if sys.stderr.isatty() else PlainView()


class JsonView(View):
    """One JSON object a line on stdout, for every record."""

    def show(self, record: Record) -> None:
        """Print the record."""
        print(json.dumps(record), flush=True)


class PlainView(View):
    """Lines on stderr, one of steps every two seconds at most; the result on stdout."""

    def __init__(self) -> None:
        self._start: Record = {}
        self._last_line = -math.inf
        self._valid_loss: float | None = None

    def show(self, record: Record) -> None:
        """Print what a person wants to know of the record."""
        match record["event"]:
            case "start":
                self._start = record
                for line in _describe_start(record):
                    self._print(line)
            case "step":
                self._step(record)
            case "eval":
                self._valid_loss = record["valid_loss"]
                self._print(
                    f"step {record['step']:,}: validation loss {record['valid_loss']:.4f} nats a token, "
                    f"{record['bits_per_char']:.3f} bits/char"
                    + (
                        "  (best so far)"
                        if record["valid_loss"] == record["best_valid_loss"] and record["step"]
                        else ""
                    )
                )
            case "rollback":
                back = f"back to step {record['step']:,}, with learning rate {record['learning_rate']:g}"
                self._print(f"{record['reason']}; {back}")
            case "sample":
                self._print(f"---- sample at step {record['step']:,} ----\n{harmless(record['text'])}\n----")
            case "stop":
                self._print(f"stopped at step {record['step']:,} and saved; a last evaluation follows")
            case "end":
                self._end(record)

    def _step(self, record: Record) -> None:
        if record["seconds"] - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = record["seconds"]
            self._print(f"step {record['step']:,}: {self._describe_step(record)}")

    def _describe_step(self, record: Record) -> str:
        nats = record["train_loss"] + self._start["spelling_per_token"]
        bits = nats / math.log(2) / self._start["characters_per_token"]
        text = f"loss {record['train_loss']:.4f} nats, {bits:.3f} bits/char"
        if self._start["reduction"] == "sum":
            text += f", smoothed {record['smoothed_loss']:.2f} nats a window"
        return f"{text}, {count(record['tokens_per_second'])} tokens/s, {duration(self._seconds_left(record))} left"

    def _seconds_left(self, record: Record) -> float:
        if self._start["minutes"] is not None:
            return max(0.0, self._start["minutes"] * 60 - record["seconds"])
        done = record["step"] - self._start["step"]
        here = record["seconds"] - self._start["seconds"]
        return here / done * (self._start["steps"] - record["step"])

    def _end(self, record: Record) -> None:
        head = "Interrupted after" if record["interrupted"] else "Trained"
        print(f"{head} {record['step']:,} steps ({count(record['tokens'])} tokens) in {duration(record['seconds'])}.")
        if record["best_valid_loss"] is not None:
            print(
                f"Best validation loss {record['best_valid_loss']:.4f} nats a token, "
                f"{record['bits_per_char']:.3f} bits/char ({self._start['split']})."
            )
        elif record["train_loss"] is not None:
            print(f"Last training loss {record['train_loss']:.4f} nats a token ({self._start['split']}).")
        print(harmless(f"Model: {record['model']}"))
        if self._start["minutes"] is not None and record["step"] < _FEW_STEPS and not record["interrupted"]:
            print(f"Only {record['step']} steps fitted into the time: try more --minutes or a smaller --hidden-size.")
        out = shlex.quote(self._start["out"])
        print(f"Next:  elman train --resume {out}" if record["interrupted"] else f"Next:  elman sample {out}")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class LiveView(PlainView):
    """The same lines, without those of steps: they move a bar at the bottom of the terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        if self._console.width < 1:  # COLUMNS=0, at which nothing would be shown
            self._console.width = 80
        self._progress = Progress(
            TaskProgressColumn(),
            BarColumn(bar_width=16),
            TextColumn("{task.description}", markup=False),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=1.0)

    def show(self, record: Record) -> None:
        """The bar begins with the run, so that none is left above an error."""
        if record["event"] == "start":
            self._progress.start()
        super().show(record)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _step(self, record: Record) -> None:
        if self._start["minutes"] is not None:
            done = record["seconds"] / (self._start["minutes"] * 60)
        else:
            done = record["step"] / self._start["steps"]
        text = self._describe_step(record)
        if self._valid_loss is not None:
            text += f", valid {self._valid_loss:.3f}"
        self._progress.update(self._task, completed=min(1.0, done), description=text)

    def _end(self, record: Record) -> None:
        self._progress.update(self._task, visible=False)
        self._progress.stop()
        super()._end(record)

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


def _describe_start(record: Record) -> list[str]:
    steps, minutes = record["steps"], record["minutes"]
    lines = [
        f"{record['text']}: {record['characters']:,} characters; {record['train_tokens']:,} tokens to train on, "
        f"{record['valid_tokens']:,} to validate; vocabulary {record['vocab_size']}",
        f"{record['cell']} {record['num_layers']} × {record['hidden_size']}, {record['parameters']:,} parameters, "
        f"kernel {record['kernel']} in {record['precision']}; "
        + (f"{minutes:g} minutes" if minutes is not None else f"{steps:,} steps")
        + (f", resumed at step {record['step']:,}" if record["step"] else "")
        + f"; into {record['out']}",
    ]
    return [one_line(line) for line in lines] + [one_line(f"note: {note}") for note in record["notes"]]
