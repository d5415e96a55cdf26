"""A search for the learning rate, hidden size and dropout that suit a text, within a given time: successive halving.

Many trials get a little time each, the best third of them three times as much, and so on (Jamieson and Talwalkar 2016,
arXiv:1502.07943). A trial goes on from where it stopped, from a checkpoint, so that only one at a time is in memory.

On every rung a trial has a whole schedule of its own: the learning rate starts anew, and ends as the recipe says when
the trial's time on that rung is over (a warm restart: Loshchilov and Hutter 2017, arXiv:1608.03983). So the trials of a
rung are compared annealed, after the same time, on the same validation tokens. Losses of different rungs do not
compare.

Trials differ in their settings alone: weights and dropout of all have the same seed. The same seed draws the same
settings; how many steps fit into the time depends on the machine.

A record is a dict with ``event``; what each holds:

- ``start``: text, characters, train_tokens, valid_tokens, split, vocab_size, cell, num_layers, kernel, precision,
  engine, preset and notes as in :mod:`elman.workflows.train`; minutes, seed, trials (trial, and its settings),
  rungs (how many trials, and seconds for each of them), eval_tokens, seconds
- ``rung``: rung (1 the first), rungs (in all), trials (their numbers), seconds_each, seconds
- ``trial``, after its time on a rung: rung, trial (1 the first), learning_rate, hidden_size, dropout, is_own (whether
  the recipe has them anyway), steps and trial_seconds (of all rungs), valid_loss (the best, nats a token; None before a
  rung was completed), rungs (that it completed), outcome ("open", "diverged"), reason (of what diverged, or None),
  seconds
- ``end``: trials (the best first, with what ``trial`` has, and an outcome: "best", "stopped" by a better one, "open"
  where the search ended before, "diverged"), config (the tables of a configuration file with the best settings; None
  where no trial completed a rung), interrupted, signal, seconds
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from elman.batches import Windows
from elman.config import ModelConfig, TrainConfig, field_names
from elman.errors import InputError, NonFiniteError, RunFolderError
from elman.models import LanguageModel
from elman.presets import DEFAULT_PRESET, Recipe, resolve
from elman.text.split import SplitText
from elman.workflows.halving import Rung, halving, survivors
from elman.workflows.loop import Record, loop
from elman.workflows.run import Compute, Run, open_run
from elman.workflows.run_folder import RunFolder
from elman.workflows.space import Axis, LogRange, Settings, around, distinct, draw
from elman.workflows.stop import Stop, stop_on_signals
from elman.workflows.train import read_data, read_settings

_EVALUATION_SHARE = 0.05  # of a trial's time on the first rung, for one evaluation of the largest model
_STEP_SHARE = 0.1  # and for one of its steps
_LEAST_EVAL_TOKENS = 1000
_TIMES = 4
_LEAST_SECONDS = 1e-3  # for a trial whose time others took


def tune(
    texts: Sequence[str | Path] = (),
    *,
    minutes: float = 10.0,
    trials: int = 9,
    learning_rate: LogRange | Sequence[float] | None = None,
    hidden_size: Sequence[int] | None = None,
    dropout: Sequence[float] | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    valid: str | Path | None = None,
    kernel: str = "auto",
    threads: int | None = None,
    engine: str = "cpu",
    stop: Stop | None = None,
    start: float | None = None,
    **options: Any,
) -> Iterator[Record]:
    """Search, yielding records.

    minutes: wall time of the whole search. trials: how many settings to try, 2 or more; what the recipe itself has is
    the first of them, where it is among the values. learning_rate, hidden_size, dropout: the values to try, by default
    those of :func:`elman.workflows.space.around`; a tied embedding is as large as the hidden size. texts, preset,
    config, valid, kernel, threads, engine, stop, start and options: as for :func:`elman.workflows.train.training`.

    Raises InputError for an unusable text or option, where nothing is validated on, and where the time is too short;
    RunFolderError where trials cannot be kept; KernelError; NonFiniteError, after the last record, where all diverged.
    """
    start = time.perf_counter() if start is None else start
    preset = preset or DEFAULT_PRESET
    TrainConfig(minutes=minutes)  # checks them
    tables = read_settings(config, valid, options)
    base = resolve(preset, tables, options)
    given = {"learning_rate": learning_rate, "hidden_size": hidden_size, "dropout": dropout}
    axes: dict[str, Axis] = {
        name: axis if isinstance(axis, LogRange) else distinct(axis) for name, axis in given.items() if axis is not None
    }
    for name, axis in axes.items():
        for value in (axis.least, axis.most) if isinstance(axis, LogRange) else axis:
            resolve(preset, tables, {**options, **_with_tied(base, {**_settings(base), name: value})})  # checks it
    data = read_data(texts, preset, valid, base.train)
    tokens = len(data.train_ids)
    base = resolve(preset, tables, options, tokens)
    own = _settings(base)
    drawn = _draw({**around(own), **axes}, trials, base.train.seed, own)
    recipes = [resolve(preset, tables, {**options, **_with_tied(base, settings)}, tokens) for settings in drawn]
    if data.valid_ids is None:
        raise InputError(
            f"a search ranks by the validation loss, and {data.split}: give --valid-fraction 0.1 or --valid FILE, "
            "and a text long enough"
        )
    search = _Search(
        preset=preset,
        data=data,
        compute=Compute(kernel, threads, engine),
        minutes=minutes,
        start=start,
        trials=[
            Trial(number, settings, recipe, settings == own)
            for number, (settings, recipe) in enumerate(zip(drawn, recipes, strict=True), 1)
        ],
        given={**tables.get("model", {}), **tables.get("train", {}), **options},
        eval_tokens=base.train.eval_tokens,
    )
    return _records(search, stop or Stop())


def _settings(recipe: Recipe) -> Settings:
    model = ModelConfig(vocab_size=1, **recipe.model)
    return {"learning_rate": recipe.train.learning_rate, "hidden_size": model.hidden_size, "dropout": model.dropout}


def _draw(space: Mapping[str, Axis], trials: int, seed: int, own: Settings) -> list[Settings]:
    if trials < 2:
        raise InputError(f"trials must be 2 or more, which are compared, not {trials}")
    drawn = draw(space, trials, np.random.default_rng([seed, 2]), own)
    if len(drawn) < 2:
        raise InputError("one value for each setting leaves nothing to search; give more values, or a range")
    return drawn


def _with_tied(base: Recipe, settings: Settings) -> Settings:
    tied = base.model.get("tie_weights", False)
    return {**settings, "embedding_size": settings["hidden_size"]} if tied else settings


@dataclass
class Trial:
    """Settings, and how far they came."""

    number: int
    settings: Settings
    recipe: Recipe
    is_own: bool  # whether the settings are what the recipe has without a search
    steps: int = 0
    seconds: float = 0.0
    rungs: int = 0  # that it completed,
    valid_loss: float | None = None  # and the best loss by then
    outcome: str = "open"
    reason: str | None = None

    @property
    def rank(self) -> tuple[bool, float]:
        """Less is better; as losses are the best of a trial, one that came further has less."""
        return self.outcome == "diverged", math.inf if self.valid_loss is None else self.valid_loss

    def describe(self) -> Record:
        """What records say of it."""
        return {
            "trial": self.number,
            **self.settings,
            "is_own": self.is_own,
            "steps": self.steps,
            "trial_seconds": self.seconds,
            "valid_loss": self.valid_loss,
            "rungs": self.rungs,
            "outcome": self.outcome,
            "reason": self.reason,
        }


@dataclass
class _Search:
    preset: str
    data: SplitText
    compute: Compute
    minutes: float
    start: float
    trials: list[Trial]
    given: Mapping[str, Any]  # values of the configuration file, and options
    eval_tokens: int

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.minutes * 60 - self.seconds)

    def open_trial(self, trial: Trial, folder: Path, seconds: float, start: float) -> Run:
        """The trial as it stands, with so many seconds from ``start`` (time.perf_counter) for what comes now."""
        train = dataclasses.replace(
            trial.recipe.train,
            minutes=seconds / 60,
            steps=None,
            epochs=None,
            patience=None,
            on_nan="stop",
            eval_tokens=self.eval_tokens,
            eval_every=None,
            sample_every=0,
            checkpoint_every=0,
            keep=1,
        )
        config = ModelConfig(vocab_size=self.data.tokenizer.vocab_size, **trial.recipe.model)
        model = LanguageModel(config, train.seed, self.compute.kernel, self.compute.threads)
        rest = (self.preset, train, self.data, model, self.compute, 0.0, start)
        if trial.rungs == 0:
            return open_run(lambda: RunFolder.create(folder, self.data.text.name), *rest)
        opened, tensors, metadata = RunFolder.open(folder)
        run = open_run(lambda: opened, *rest)
        run.restore(tensors, metadata)
        return run


def _records(search: _Search, stop: Stop) -> Iterator[Record]:
    with stop_on_signals(stop):
        with TemporaryDirectory(prefix="elman-tune-") as folder:
            try:
                yield from _halve(search, Path(folder), stop)
            except RunFolderError as error:
                what = str(error).partition(";")[0]
                raise RunFolderError(
                    f"{what}; trials are kept there: make room, or set TMPDIR to another folder"
                ) from None
        yield _end(search, stop)
    if all(trial.outcome == "diverged" for trial in search.trials):
        raise NonFiniteError("every trial diverged; give smaller learning rates, such as --learning-rate 1e-4:1e-3")


def _halve(search: _Search, folder: Path, stop: Stop) -> Iterator[Record]:
    yield _prepare(search, folder / "0")
    alive, rung = search.trials, 0
    while len(alive) > 1 and search.seconds_left > 0 and not stop.is_set():
        rung += 1
        yield from _climb(search, alive, rung, folder, stop)
        if not stop.is_set():
            alive = _select(alive, folder)


def _prepare(search: _Search, folder: Path) -> Record:
    """Settle on how many tokens all trials are validated -> the ``start`` record."""
    largest = max(search.trials, key=lambda trial: trial.settings["hidden_size"])
    run = search.open_trial(largest, folder, search.minutes * 60, search.start)
    with closing(run.folder):
        _fit_evaluation(search, run)
        about = run.describe()
    kept = ("text", "characters", "train_tokens", "valid_tokens", "split", "vocab_size", "cell", "num_layers")
    return {
        "event": "start",
        **{name: about[name] for name in (*kept, "kernel", "precision", "engine", "preset", "notes")},
        "minutes": search.minutes,
        "seed": run.train.seed,
        "trials": [{"trial": trial.number, **trial.settings} for trial in search.trials],
        "rungs": [dataclasses.asdict(rung) for rung in halving(len(search.trials), search.seconds_left)],
        "eval_tokens": search.eval_tokens,
        "seconds": search.seconds,
    }


def _fit_evaluation(search: _Search, run: Run) -> None:
    """Validate on fewer tokens where an evaluation of this run, the largest, would take too much of the first rung.

    Raises InputError where even a short one, or a training step, would.
    """
    rungs, model = halving(len(search.trials), search.seconds_left), run.engine.model
    seconds = rungs[0].seconds
    step = 3 * _forward_seconds(model, run.windows) / _STEP_SHARE  # backward takes twice as long as forward
    assert run.valid_windows is not None
    tokens = min(search.eval_tokens, run.valid_windows.targets)
    while True:
        windows = run.valid_windows
        needed = max(step, _forward_seconds(model, windows) * windows.steps_per_epoch / _EVALUATION_SHARE)
        if needed <= seconds:
            search.eval_tokens = tokens
            return
        if tokens <= _LEAST_EVAL_TOKENS or step > seconds:
            raise InputError(_too_short(search, rungs, needed))
        tokens = max(_LEAST_EVAL_TOKENS, int(tokens * min(0.5, seconds / needed)))
        run.cut_validation(tokens)


def _forward_seconds(model: LanguageModel, windows: Windows) -> float:
    """What one window takes: the least of several times, as whatever else runs here only adds to it."""
    batch, seconds = windows.batch(0), []
    for _ in range(_TIMES):
        before = time.perf_counter()
        model.losses(batch.inputs, batch.targets, None)
        seconds.append(time.perf_counter() - before)
    return min(seconds)


def _too_short(search: _Search, rungs: Sequence[Rung], needed: float) -> str:
    minutes = (search.seconds + needed * rungs[0].trials * len(rungs)) / 60
    digits = 1 - math.floor(math.log10(minutes))
    enough = math.ceil(minutes * 10**digits) / 10**digits
    return (
        f"minutes {search.minutes:.3g} is too short for {rungs[0].trials} trials: each has {rungs[0].seconds:.2g} s "
        f"at first, and a few steps and evaluations of the largest take {needed:.2g} s; give --minutes {enough:g}, "
        "fewer --trials or a smaller --hidden-size"
    )


def _climb(search: _Search, alive: Sequence[Trial], rung: int, folder: Path, stop: Stop) -> Iterator[Record]:
    """Give each trial its time on a rung."""
    began, rungs = search.seconds, halving(len(alive), search.seconds_left)
    each = rungs[0].seconds
    yield {
        "event": "rung",
        "rung": rung,
        "rungs": rung - 1 + len(rungs),
        "trials": [trial.number for trial in alive],
        "seconds_each": each,
        "seconds": began,
    }
    for done, trial in enumerate(alive):
        left = (began + each * len(alive) - search.seconds) / (len(alive) - done)  # less where one took too long
        _go_on(search, trial, folder / str(trial.number), max(_LEAST_SECONDS, min(each, left)), stop)
        yield {"event": "trial", "rung": rung, **trial.describe(), "seconds": search.seconds}
        if stop.is_set():
            return


def _go_on(search: _Search, trial: Trial, folder: Path, seconds: float, stop: Stop) -> None:
    """Train the trial for so many seconds, its opening, evaluations and saving included."""
    start = time.perf_counter()
    run = search.open_trial(trial, folder, seconds, start)
    try:
        with closing(run.folder):
            if run.best is None:
                _evaluate_untrained(run)
            for _ in loop(run, stop):
                pass
        if run.is_over:  # and not stopped before
            trial.rungs, trial.valid_loss = trial.rungs + 1, run.best_valid_loss
    except NonFiniteError as error:
        trial.outcome, trial.reason = "diverged", str(error)
    trial.steps = run.progress.step
    trial.seconds += time.perf_counter() - start


def _evaluate_untrained(run: Run) -> None:
    """So that the loop knows what an evaluation takes; else it might cut what all trials are to be compared on."""
    assert run.valid_windows is not None
    run.progress.valid_loss = run.engine.evaluate(run.valid_windows)
    run.pace.evaluation = run.pace.seconds
    run.keep_as_best()


def _select(alive: Sequence[Trial], folder: Path) -> list[Trial]:
    """The trials of a rung that go on, the best first; the files of the others are removed."""
    ranked = sorted(alive, key=lambda trial: trial.rank)
    chosen = [trial for trial in ranked[: survivors(len(alive))] if trial.outcome == "open"]
    for trial in ranked:
        if trial not in chosen:
            rmtree(folder / str(trial.number), ignore_errors=True)  # one that diverged may have none
            if trial.outcome == "open":
                trial.outcome = "stopped"
    return chosen


def _end(search: _Search, stop: Stop) -> Record:
    ranked = sorted(search.trials, key=lambda trial: trial.rank)
    config = None
    if ranked[0].rungs > 0 and ranked[0].outcome != "diverged":
        ranked[0].outcome = "best"
        config = _config(search, ranked[0])
    return {
        "event": "end",
        "trials": [trial.describe() for trial in ranked],
        "config": config,
        "interrupted": stop.is_set(),
        "signal": stop.signal,
        "seconds": search.seconds,
    }


def _config(search: _Search, trial: Trial) -> dict[str, dict[str, Any]]:
    """The tables of a configuration file: what was given, and over it the trial's settings."""
    values = {**search.given, **_with_tied(trial.recipe, trial.settings)}
    kinds = {"model": ModelConfig, "train": TrainConfig}
    return {
        table: {name: values[name] for name in field_names(kind) if name in values} for table, kind in kinds.items()
    }
