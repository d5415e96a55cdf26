"""Training: text -> tokens -> batches -> model -> gradients -> optimiser -> checkpoint, as a stream of records.

A record is a dict with ``event``; what each holds:

- ``start``: text, characters, train_tokens, valid_tokens, split, characters_per_token, spelling_per_token (nats that
  bits a character have besides the loss, for what is ``<unk>``), vocab_size, cell, hidden_size, num_layers, parameters,
  kernel, engine, preset, reduction, steps or minutes, step and seconds (above 0 when resumed), out, notes
- ``step``: step, tokens, seconds, train_loss (nats a token since the record before), smoothed_loss (tutorial 3's
  0.999/0.001 average of the loss as it is reduced), tokens_per_second (of the steps alone), learning_rate,
  gradient_norm (of the last step, before clipping)
- ``eval``: step, seconds, valid_loss (nats a token), bits_per_char, best_valid_loss, scored_tokens (fewer than
  configured where an evaluation would take more than a twentieth of the time)
- ``sample``: step, text
- ``end``: step, tokens, seconds, model (path), train_loss, valid_loss, best_valid_loss, bits_per_char (of the best),
  interrupted
"""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elman import schedules
from elman.config import ModelConfig, SampleConfig, TrainConfig, read_toml, to_toml
from elman.errors import ElmanError, InputError, ModelFileError, NonFiniteError, RunFolderError
from elman.layers.stack import map_state
from elman.models import LanguageModel
from elman.presets import DEFAULT_PRESET, PRESETS, check_option_names, resolve
from elman.text.corpora import DEFAULT_CORPUS
from elman.text.sources import Text, open_again, open_corpus, open_text
from elman.text.split import split_text
from elman.text.tokenizers import BpeTokenizer, tokenizer_from_json
from elman.text_model import TextModel, load, model_config_from_json
from elman.workflows.pace import Interval
from elman.workflows.run import Run, open_run
from elman.workflows.run_folder import TOKENIZER_FILE, RunFolder, check_no_run

Record = dict[str, Any]

SMOOTHING = 0.999  # tutorial 3
_CHECKPOINT_SECONDS = 30.0
_EVALUATION_SHARE = 0.05  # of a time limit, for one evaluation
_LEAST_EVAL_TOKENS = 1000
_STOPS = ("steps", "epochs", "minutes")
_MAY_CHANGE = (  # on resume
    *_STOPS,
    *("learning_rate", "eval_every", "eval_tokens", "sample_every", "sample_length", "checkpoint_every", "log_every"),
)


@dataclass
class TrainingRun:
    """What training left: the best model, its run folder, and all records in order."""

    model: TextModel
    path: Path
    history: list[Record]


def train(
    text: str | Path | Sequence[str | Path] = (), *, on_record: Callable[[Record], None] | None = None, **options: Any
) -> TrainingRun:
    """Train a model on a text file (or several, joined, or a named corpus) and return it.

    Options are those of :func:`training`; ``on_record`` is called with each record as it comes.
    Raises ElmanError: see :func:`training`.
    """
    texts = [text] if isinstance(text, str | Path) else list(text)
    history: list[Record] = []
    for record in training(texts, **options):
        history.append(record)
        if on_record is not None:
            on_record(record)
    return TrainingRun(load(history[-1]["model"]), Path(history[0]["out"]), history)


def training(
    texts: Sequence[str | Path] = (),
    *,
    preset: str | None = None,
    config: str | Path | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    valid: str | Path | None = None,
    kernel: str = "auto",
    threads: int | None = None,
    engine: str = "cpu",
    **options: Any,
) -> Iterator[Record]:
    """Train, yielding records.

    texts: paths, patterns, ``-`` for standard input, or corpus names, as :func:`elman.text.sources.open_text` reads
    them; none means the preset's corpus, or Python's documentation. preset: a name of
    :data:`elman.presets.PRESETS`; config: a TOML file laid over it; options: fields of ModelConfig and TrainConfig,
    laid over both. out: the run folder to make. valid: a text to validate on instead of the text's last part.
    resume: a run folder to go on with; then only the options that do not change what is trained may be given.

    Raises InputError for an unusable text or option, RunFolderError for an unusable folder, NonFiniteError where the
    loss, a gradient or a parameter stops being finite (the files then hold the last good model), KernelError.
    """
    start = time.perf_counter()
    if resume is None:
        preset = preset or DEFAULT_PRESET
        tables = None if config is None else read_toml(config)
        if tables and tables["sample"]:
            raise InputError(f"{config}: the table [sample] has no place in training; remove it")
        if valid is not None and "valid_fraction" in options:
            raise InputError("valid and valid_fraction exclude each other: give one of them")
        recipe = resolve(preset, tables, options)
        encoding = recipe.train.encoding, recipe.train.encoding_errors
        check_no_run(texts)
        text = open_text(texts, *encoding) if texts else open_corpus(PRESETS[preset].corpus or DEFAULT_CORPUS)
        data = split_text(text, None if valid is None else open_text([valid], *encoding), recipe.train)
        model_config = ModelConfig(vocab_size=data.tokenizer.vocab_size, **recipe.model)
        model = LanguageModel(model_config, recipe.train.seed, kernel, threads)

        def create() -> RunFolder:
            folder = RunFolder.create(out, text.name, _config_toml(model_config, recipe.train))
            if isinstance(data.tokenizer, BpeTokenizer):
                data.tokenizer.write(folder.path / TOKENIZER_FILE)
            return folder

        run = open_run(create, preset, recipe.train, data, model, engine, 0.0, start)
    else:
        given = {"TEXT": texts, "preset": preset, "config": config, "out": out, "valid": valid}
        _check_resume_options(given, options)
        try:
            run = _resumed_run(resume, options, kernel, threads, engine, start)
        except ElmanError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(
                f"{resume}: the checkpoint lacks what resume needs ({error}); start a new run"
            ) from None
    return _records(run, resumed=resume is not None)


def _config_toml(model: ModelConfig, train: TrainConfig) -> str:
    """A configuration file that asks for this run again; vocab_size is left to the text."""
    table = dataclasses.asdict(model)
    del table["vocab_size"]
    return to_toml(model=table, train=dataclasses.asdict(train))


def _check_resume_options(given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if value:
            raise InputError(f"{name} cannot be given with resume: the run goes on with what it began with")
    check_option_names(options)
    for name in options:
        if name not in _MAY_CHANGE:
            raise InputError(f"{name} cannot change on resume; what can change is {', '.join(_MAY_CHANGE)}")


def _resumed_run(
    path: str | Path, options: Mapping[str, Any], kernel: str, threads: int | None, engine_name: str, start: float
) -> Run:
    folder, tensors, metadata = RunFolder.open(path)
    trained = {
        name: None if name in _STOPS and any(stop in options for stop in _STOPS) else value
        for name, value in metadata["training"].items()
    }
    config = TrainConfig(**{**trained, **options})
    text, valid = metadata["sources"]["text"], metadata["sources"]["valid"]
    data = split_text(
        _read_again(text, config),
        None if valid is None else _read_again(valid, config),
        config,
        tokenizer_from_json(metadata["tokenizer"]),
    )
    model_config = model_config_from_json(metadata["model"])
    parameters = {name: array for name, array in tensors.items() if not name.startswith(("optimizer.", "state."))}
    model = LanguageModel(model_config, kernel=kernel, threads=threads, parameters=parameters)
    run = open_run(lambda: folder, metadata["preset"], config, data, model, engine_name, metadata["seconds"], start)
    run.restore(tensors, metadata)
    if run.pace.progress(run.progress.step) >= 1:
        end, larger = _describe_end(config, run.progress.step)
        raise RunFolderError(
            f"{path} has already reached its end ({end}); to go on give a larger total, for example {larger}"
        )
    folder.cut_log(metadata["log_lines"])
    folder.write_config(_config_toml(model_config, config))
    return run


def _describe_end(train: TrainConfig, step: int) -> tuple[str, str]:
    """The end of a run in words, and an option that goes beyond it and beyond the step that was reached."""
    name, end = next((name, getattr(train, name)) for name in _STOPS if getattr(train, name) is not None)
    reached = max(end, step) if name == "steps" else end
    return f"{reached:,} {name}", f"--{name} {2 * max(end, step if name == 'steps' else 0)}"


def _read_again(part: Mapping[str, Any], config: TrainConfig) -> Text:
    try:
        text = open_again(part["origin"], config.encoding, config.encoding_errors)
    except InputError as error:
        raise RunFolderError(f"to go on, a run needs the text that it began with: {error}") from None
    if text.sha256 != part["sha256"]:
        raise RunFolderError(
            f"the text {', '.join(part['origin'])} has changed since this run began; "
            f"put the old text back, or start a new run"
        )
    return text


def _records(run: Run, resumed: bool) -> Iterator[Record]:
    """Log each record and pass it on."""
    start = run.describe()
    if not resumed:
        run.folder.log(start)
    yield start
    with _stop_on_interrupt() as stop:
        try:
            for record in _loop(run, resumed, stop):
                run.folder.log(record)
                yield record
        except NonFiniteError as error:
            clip = " or --clip-norm 1" if run.train.clip_norm is None else ""
            raise NonFiniteError(
                f"{error}; training stopped, and {run.folder.path} keeps the last good model. "
                f"Try a smaller --learning-rate (now {run.train.learning_rate:g}){clip}"
            ) from None


def _loop(run: Run, resumed: bool, stop: threading.Event) -> Iterator[Record]:
    train, pace, progress = run.train, run.pace, run.progress
    if not resumed:
        if pace.limit is None:
            yield from _evaluate(run)
        else:  # what an evaluation takes is not known yet, and the time is short
            run.save_model()
        run.save_checkpoint()
    evaluated_at = progress.step if pace.limit is None or resumed else None
    evaluations = Interval(train.eval_every, pace)
    samples = Interval(train.sample_every, pace)
    checkpoint_at = pace.seconds + _CHECKPOINT_SECONDS
    step_seconds, trained_seconds, tokens_before = 0.0, 0.0, progress.tokens
    while (pace.progress(progress.step) < 1 or progress.step == 0) and not stop.is_set():
        if samples.due(progress.step) and (progress.step > 0 or train.sample_every is not None):
            yield _sample(run)
            samples.done()
        began = time.perf_counter()
        learning_rate = _take_step(run)
        elapsed = time.perf_counter() - began
        step_seconds, trained_seconds = step_seconds + elapsed, trained_seconds + elapsed
        if pace.limit is not None and progress.best_valid_loss is None:
            _plan_evaluations(run, trained_seconds / (progress.tokens - tokens_before), pace.limit)
        if progress.step % train.log_every == 0:
            yield _step_record(run, learning_rate, step_seconds)
            step_seconds = 0.0
        if evaluations.due(progress.step):
            before = pace.seconds
            yield from _evaluate(run)
            evaluated_at = progress.step
            evaluations.done(cost=pace.seconds - before)
        if _checkpoint_due(run, checkpoint_at):
            _save(run)
            checkpoint_at = pace.seconds + _CHECKPOINT_SECONDS
    _save(run)  # before the last evaluation, which can be interrupted too
    if evaluated_at != progress.step:
        yield from _evaluate(run)
        _save(run)
    yield {
        "event": "end",
        "step": progress.step,
        "tokens": progress.tokens,
        "seconds": pace.seconds,
        "model": str(run.folder.model_path),
        "train_loss": progress.train_loss,
        "valid_loss": progress.valid_loss,
        "best_valid_loss": progress.best_valid_loss,
        "bits_per_char": run.bits_per_char(progress.best_valid_loss),
        "interrupted": stop.is_set(),
    }


def _plan_evaluations(run: Run, seconds_a_token: float, limit: float) -> None:
    """Before the first evaluation under a time limit: estimate it by what training takes, and cut it if too long."""
    if run.valid_windows is None:
        return
    forward_only = seconds_a_token / 2
    affordable = max(_LEAST_EVAL_TOKENS, int(_EVALUATION_SHARE * limit / forward_only))
    if affordable < run.valid_windows.targets:
        run.cut_validation(affordable)
    run.pace.evaluation = forward_only * run.valid_windows.targets


def _checkpoint_due(run: Run, at: float) -> bool:
    every = run.train.checkpoint_every
    return run.pace.seconds >= at if every is None else every > 0 and run.progress.step % every == 0


def _take_step(run: Run) -> float:
    """One training step -> the learning rate that it took."""
    train, progress = run.train, run.progress
    batch = run.windows.batch(progress.step)
    learning_rate = schedules.learning_rate(
        train.schedule, train.learning_rate, run.pace.progress(progress.step), progress.step, train.warmup_steps
    )
    loss = run.engine.step(batch.inputs, batch.targets, batch.reset, learning_rate)
    tokens = batch.tokens
    progress.step += 1
    progress.tokens += tokens
    progress.smoothed_loss = SMOOTHING * progress.smoothed_loss + (1 - SMOOTHING) * loss
    progress.pending_nats += loss if train.reduction == "sum" else loss * tokens
    progress.pending_tokens += tokens
    return learning_rate


def _step_record(run: Run, learning_rate: float, step_seconds: float) -> Record:
    progress = run.progress
    progress.train_loss = progress.pending_nats / progress.pending_tokens
    record = {
        "event": "step",
        "step": progress.step,
        "tokens": progress.tokens,
        "seconds": run.pace.seconds,
        "train_loss": progress.train_loss,
        "smoothed_loss": progress.smoothed_loss,
        "tokens_per_second": progress.pending_tokens / step_seconds,
        "learning_rate": learning_rate,
        "gradient_norm": run.engine.gradient_norm,
    }
    progress.pending_nats, progress.pending_tokens = 0.0, 0
    return record


def _evaluate(run: Run) -> Iterator[Record]:
    """Evaluate where there is a validation part, and keep the model if it is the best so far."""
    run.check_finite()
    if run.valid_windows is None:
        run.save_model()
        return
    progress, before = run.progress, run.pace.seconds
    progress.valid_loss = run.engine.evaluate(run.valid_windows)
    if not math.isfinite(progress.valid_loss):
        raise NonFiniteError(f"step {progress.step}: the validation loss is {progress.valid_loss:g}")
    if progress.best_valid_loss is None or progress.valid_loss < progress.best_valid_loss:
        progress.best_valid_loss = progress.valid_loss
        run.save_model()
    run.pace.evaluation = run.pace.seconds - before
    yield {
        "event": "eval",
        "step": progress.step,
        "seconds": run.pace.seconds,
        "valid_loss": progress.valid_loss,
        "bits_per_char": run.bits_per_char(progress.valid_loss),
        "best_valid_loss": progress.best_valid_loss,
        "scored_tokens": run.valid_windows.targets,
    }


def _save(run: Run) -> None:
    """Write the checkpoint, and the model too where no validation picks the best one."""
    run.check_finite()
    run.save_checkpoint()
    if run.valid_windows is None:
        run.save_model()


def _sample(run: Run) -> Record:
    """What the model writes: on from where training is in the text, as tutorial 3 shows it, or a few items."""
    batch, state = run.windows.batch(run.progress.step), run.engine.state
    state = None if state is None or batch.reset[0] else map_state(lambda part: part[:, :1], state)
    config = SampleConfig(run.train.sample_length, temperature=1.0)
    with np.errstate(all="ignore"):  # a model that diverges may still be looked at; the next step reports it
        try:
            if run.train.items is None:
                text = run.text_model.continue_text(int(batch.inputs[0, 0]), state, config, run.sampling_rng)
            else:
                text = run.text_model.write_items(config, run.sampling_rng)
        except NonFiniteError:
            raise NonFiniteError(f"step {run.progress.step}: the logits are not finite") from None
    return {"event": "sample", "step": run.progress.step, "text": text}


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, so that the step in hand is finished; the second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield stop
        return

    def on_interrupt(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
