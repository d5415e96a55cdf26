"""Training: text -> tokens -> batches -> model -> gradients -> optimiser -> checkpoint, as a stream of records.

A record is a dict with ``event``; what each holds:

- ``start``: text, characters, train_tokens, valid_tokens, vocab_size, characters_per_token, parameters, cell,
  hidden_size, num_layers, split, kernel, engine, preset, reduction, steps or minutes, step and seconds (above 0
  when resumed), out, notes
- ``step``: step, tokens, seconds, train_loss (nats a token since the record before), smoothed_loss (tutorial 3's
  0.999/0.001 average, of the loss as it is reduced), tokens_per_second (of the steps alone), learning_rate,
  gradient_norm
- ``eval``: step, seconds, valid_loss (nats a token), bits_per_char, best_valid_loss, scored_tokens
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

import elman
from elman import schedules
from elman.batches import StreamWindows
from elman.config import ModelConfig, SampleConfig, TrainConfig, check_keys, read_toml, to_toml
from elman.engines import open_engine
from elman.engines.engine import Engine
from elman.errors import InputError, NonFiniteError, RunFolderError
from elman.layers.stack import map_state
from elman.models import LanguageModel
from elman.optimizers import OPTIMIZERS
from elman.presets import DEFAULT_PRESET, PRESETS, resolve
from elman.text.corpora import DEFAULT_CORPUS
from elman.text.sources import Source, read_corpus, read_text
from elman.text.tokenizers import Tokenizer, tokenizer_from_json, train_tokenizer
from elman.text_model import TextModel, load, model_config_from_json
from elman.workflows.pace import Interval, Pace
from elman.workflows.run_folder import RunFolder, check_finite

Record = dict[str, Any]

SMOOTHING = 0.999  # tutorial 3
VALID_STREAMS = 64
_VALID_STREAM_LENGTH = 256  # so that a short validation part is not all cold starts
_CHECKPOINT_SECONDS = 30.0
_MAY_CHANGE = {  # on resume
    *("steps", "epochs", "minutes", "learning_rate", "eval_every", "eval_tokens", "sample_every", "sample_length"),
    *("checkpoint_every", "log_every"),
}


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

    texts: paths or corpus names; none means the preset's corpus, or Python's documentation. preset: a name of
    :data:`elman.presets.PRESETS`; config: a TOML file laid over it; options: fields of ModelConfig and TrainConfig,
    laid over both. out: the run folder to make. valid: a file to validate on instead of the text's last part.
    resume: a run folder to go on with; then only the options that do not change what was trained may be given.

    Raises InputError for an unusable text or option, RunFolderError for an unusable folder, NonFiniteError where the
    loss, a gradient or a parameter stops being finite (the files then hold the last good model), KernelError.
    """
    start = time.perf_counter()
    if resume is None:
        run = _new_run(texts, preset or DEFAULT_PRESET, config, out, valid, kernel, threads, engine, options, start)
    else:
        given = {"TEXT": texts, "preset": preset, "config": config, "out": out, "valid": valid}
        run = _resumed_run(resume, kernel, threads, engine, given, options, start)
    return _records(run)


@dataclass
class _Run:
    """One training run in memory: what is trained, on what, and how far it has come."""

    folder: RunFolder
    train: TrainConfig
    preset: str
    sources: dict[str, Any]  # where the text came from, for resume
    info: dict[str, Any]  # what the model file says of the training
    tokenizer: Tokenizer
    engine: Engine
    windows: StreamWindows
    valid_windows: StreamWindows | None
    pace: Pace
    start: Record
    sampling_rng: np.random.Generator
    step: int = 0
    tokens: int = 0
    smoothed_loss: float = math.nan
    pending_nats: float = 0.0  # since the last step record
    pending_tokens: int = 0
    train_loss: float | None = None  # of the last step record
    valid_loss: float | None = None
    best_valid_loss: float | None = None

    _COUNTERS = (
        *("step", "tokens", "smoothed_loss", "pending_nats", "pending_tokens"),
        *("train_loss", "valid_loss", "best_valid_loss"),
    )

    @property
    def text_model(self) -> TextModel:
        figures = {"step": self.step, "tokens": self.tokens, "train_loss": self.train_loss}
        if self.valid_windows is not None:
            figures["valid_loss"] = self.valid_loss
            figures["valid_bits_per_char"] = self.bits_per_char(self.valid_loss)
        return TextModel(self.engine.model, self.tokenizer, {**self.info, "figures": figures})

    def bits_per_char(self, nats_per_token: float | None) -> float | None:
        if nats_per_token is None:
            return None
        return nats_per_token / math.log(2) / self.start["characters_per_token"]

    def save_checkpoint(self) -> None:
        engine = self.engine
        tensors = dict(engine.model.parameters)
        for slot, arrays in engine.optimizer.slots.items():
            tensors |= {f"optimizer.{slot}.{name}": array for name, array in arrays.items()}
        if engine.state is not None:
            parts = engine.state if isinstance(engine.state, tuple) else (engine.state,)
            tensors |= {f"state.{name}": part for name, part in zip(engine.model.cell.states, parts, strict=True)}
        metadata = {
            "model": dataclasses.asdict(engine.model.config),
            "tokenizer": self.tokenizer.to_json(),
            **self.info,
            "sources": self.sources,
            "progress": {name: getattr(self, name) for name in self._COUNTERS},
            "optimizer_steps": engine.optimizer.steps,
            "seconds": self.pace.seconds,
            "log_lines": self.folder.log_lines,
            "rng": {"dropout": engine.rng.bit_generator.state, "sampling": self.sampling_rng.bit_generator.state},
        }
        self.folder.save_checkpoint(tensors, metadata)

    def restore(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
        engine = self.engine
        for slot, arrays in engine.optimizer.slots.items():
            prefix = f"optimizer.{slot}."
            arrays |= {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
        engine.optimizer.steps = metadata["optimizer_steps"]
        parts = tuple(tensors[f"state.{name}"] for name in engine.model.cell.states if f"state.{name}" in tensors)
        engine.state = None if not parts else parts if len(parts) > 1 else parts[0]
        engine.rng.bit_generator.state = metadata["rng"]["dropout"]
        self.sampling_rng.bit_generator.state = metadata["rng"]["sampling"]
        for name in self._COUNTERS:
            setattr(self, name, metadata["progress"][name])


def _new_run(
    texts: Sequence[str | Path],
    preset: str,
    config: str | Path | None,
    out: str | Path | None,
    valid: str | Path | None,
    kernel: str,
    threads: int | None,
    engine_name: str,
    options: Mapping[str, Any],
    start: float,
) -> _Run:
    recipe = resolve(preset, read_toml(config) if config is not None else None, options)
    source = read_text(texts, recipe.train.encoding) if texts else read_corpus(PRESETS[preset].corpus or DEFAULT_CORPUS)
    valid_source = read_text([valid], recipe.train.encoding) if valid is not None else None
    data = _Data.cut(source, valid_source, recipe.train)
    model_config = ModelConfig(vocab_size=data.tokenizer.vocab_size, **recipe.model)
    model = LanguageModel(model_config, recipe.train.seed, kernel, threads)
    folder_args = out, source.name, to_toml(model=recipe.model, train=dataclasses.asdict(recipe.train))
    return _assemble(lambda: RunFolder.create(*folder_args), preset, recipe.train, data, model, engine_name, 0.0, start)


def _resumed_run(
    path: str | Path,
    kernel: str,
    threads: int | None,
    engine_name: str,
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    start: float,
) -> _Run:
    for name, value in given.items():
        if value:
            raise InputError(f"{name} cannot be given with resume: the run goes on with what it began with")
    check_keys({key: 0 for key in options if key not in _known_model_keys()}, TrainConfig, "resume")
    for name in options:
        if name not in _MAY_CHANGE:
            raise InputError(f"{name} cannot change on resume; what can is {', '.join(sorted(_MAY_CHANGE))}")
    folder, tensors, metadata = RunFolder.open(path)
    train_config = _resumed_config(metadata["training"], options)
    sources = metadata["sources"]
    source, valid_source = (
        None if part is None else _read_again(part, train_config.encoding)
        for part in (sources["text"], sources["valid"])
    )
    assert source is not None
    data = _Data.cut(source, valid_source, train_config, tokenizer_from_json(metadata["tokenizer"]))
    config = model_config_from_json(metadata["model"])
    names = LanguageModel(config).parameters
    model = LanguageModel(config, kernel=kernel, threads=threads, parameters={name: tensors[name] for name in names})
    run = _assemble(
        lambda: folder, metadata["preset"], train_config, data, model, engine_name, metadata["seconds"], start
    )
    run.restore(tensors, metadata)
    run.start["step"] = run.step
    if run.pace.progress(run.step) >= 1:
        raise RunFolderError(
            f"{path} has already reached its end ({_describe_end(train_config)}); "
            f"to train longer give a larger total, for example {_larger(train_config)}"
        )
    folder.cut_log(metadata["log_lines"])
    return run


def _known_model_keys() -> set[str]:
    return {field.name for field in dataclasses.fields(ModelConfig)}


def _resumed_config(trained: Mapping[str, Any], options: Mapping[str, Any]) -> TrainConfig:
    stops = ("steps", "epochs", "minutes")
    kept = {key: None if key in stops and any(stop in options for stop in stops) else trained[key] for key in trained}
    return TrainConfig(**{**kept, **options})


def _describe_end(train: TrainConfig) -> str:
    if train.minutes is not None:
        return f"{train.minutes:g} minutes"
    return f"{train.steps} steps" if train.steps is not None else f"{train.epochs} epochs"


def _larger(train: TrainConfig) -> str:
    if train.minutes is not None:
        return f"--minutes {2 * train.minutes:g}"
    return f"--steps {2 * train.steps}" if train.steps is not None else f"--epochs {2 * (train.epochs or 1)}"


def _read_again(part: Mapping[str, Any], encoding: str) -> Source:
    source = read_text(part["origin"], encoding)
    if source.sha256 != part["sha256"]:
        raise RunFolderError(
            f"the text {', '.join(part['origin'])} has changed since this run began; "
            f"put the old text back, or start a new run"
        )
    return source


@dataclass
class _Data:
    """A text cut into a training and a validation part, as ids."""

    source: Source
    valid_source: Source | None
    tokenizer: Tokenizer
    train_ids: np.ndarray
    valid_ids: np.ndarray | None
    train_characters: int
    split: str
    notes: list[str]

    @classmethod
    def cut(
        cls, source: Source, valid_source: Source | None, train: TrainConfig, tokenizer: Tokenizer | None = None
    ) -> _Data:
        """Split, train the tokenizer on the training part (unless there is one already), and encode both parts."""
        text, notes = source.content, []
        if valid_source is not None:
            train_text, valid_text, split = text, valid_source.content, f"validation is {valid_source.name}"
        else:
            cut_at = int(len(text) * (1 - train.valid_fraction))
            train_text, valid_text = text[:cut_at], text[cut_at:]
            split = f"the last {train.valid_fraction:.0%} of the text is validation"
            if train.valid_fraction == 0:
                split = "the whole text is trained on, nothing is held out"
            elif len(valid_text) < 2 or len(train_text) < 2:
                train_text, valid_text, split = text, "", "the whole text is trained on, nothing is held out"
                notes.append(
                    f"the text has only {len(text)} characters: too short for a validation part, so none is held out"
                )
        if tokenizer is None:
            tokenizer = train_tokenizer(train.tokenizer, train_text, unknown=bool(valid_text))
        train_ids = tokenizer.encode(train_text)
        valid_ids = tokenizer.encode(valid_text) if valid_text else None
        if valid_ids is not None and len(valid_ids) < 2:
            raise InputError(f"the validation text has {len(valid_ids)} tokens; it needs at least 2")
        return cls(source, valid_source, tokenizer, train_ids, valid_ids, len(train_text), split, notes)


def _assemble(
    open_folder: Callable[[], RunFolder],
    preset: str,
    train: TrainConfig,
    data: _Data,
    model: LanguageModel,
    engine_name: str,
    already: float,
    start: float,
) -> _Run:
    windows = StreamWindows(data.train_ids, train.batch_size, train.seq_length, train.tail)
    notes = list(data.notes)
    if windows.batch_size < train.batch_size or windows.seq_length < train.seq_length:
        notes.append(
            f"the training part has only {len(data.train_ids)} tokens: windows are {windows.seq_length} steps of "
            f"{windows.batch_size} streams instead of {train.seq_length} of {train.batch_size}"
        )
    valid_windows = None
    if data.valid_ids is not None:
        ids = data.valid_ids[: train.eval_tokens + 1]
        streams = min(VALID_STREAMS, max(1, (len(ids) - 1) // _VALID_STREAM_LENGTH))
        valid_windows = StreamWindows(ids, streams, train.seq_length)
    optimizer = OPTIMIZERS[train.optimizer](learning_rate=train.learning_rate)
    engine = open_engine(
        engine_name,
        model=model,
        optimizer=optimizer,
        clip_norm=train.clip_norm,
        clip_value=train.clip_value,
        reduction=train.reduction,
        seed=train.seed,
    )
    info = {
        "elman": elman.__version__,
        "preset": preset,
        "protocol": {
            "text": data.source.name,
            "sha256": data.source.sha256,
            "characters": len(data.source.content),
            "train_characters": data.train_characters,
            "split": data.split,
        },
        "training": dataclasses.asdict(train),
    }
    pace = Pace.of(train, windows.steps_per_epoch, already, start)
    folder = open_folder()
    first = {
        "event": "start",
        "text": data.source.name,
        "characters": len(data.source.content),
        "train_tokens": len(data.train_ids),
        "valid_tokens": 0 if data.valid_ids is None else len(data.valid_ids),
        "split": data.split,
        "vocab_size": model.config.vocab_size,
        "characters_per_token": data.train_characters / len(data.train_ids),
        "cell": model.config.cell,
        "hidden_size": model.config.hidden_size,
        "num_layers": model.config.num_layers,
        "parameters": model.num_parameters,
        "kernel": model.kernel.NAME,
        "engine": engine_name,
        "preset": preset,
        "reduction": train.reduction,
        "steps": pace.total_steps,
        "minutes": train.minutes,
        "step": 0,
        "seconds": already,
        "out": str(folder.path),
        "notes": notes,
    }
    log_v = math.log(model.config.vocab_size)
    return _Run(
        folder=folder,
        train=train,
        preset=preset,
        sources={"text": _origin(data.source), "valid": data.valid_source and _origin(data.valid_source)},
        info=info,
        tokenizer=data.tokenizer,
        engine=engine,
        windows=windows,
        valid_windows=valid_windows,
        pace=pace,
        start=first,
        sampling_rng=np.random.default_rng([train.seed, 1]),
        smoothed_loss=log_v * (windows.seq_length * windows.batch_size if train.reduction == "sum" else 1),
    )


def _origin(source: Source) -> dict[str, Any]:
    return {"origin": list(source.origin), "sha256": source.sha256}


def _records(run: _Run) -> Iterator[Record]:
    """Log each record and pass it on."""
    with _stop_on_interrupt() as stop:
        for record in _loop(run, stop):
            run.folder.log(record)
            yield record


def _loop(run: _Run, stop: threading.Event) -> Iterator[Record]:
    train, pace = run.train, run.pace
    yield run.start
    if run.step == 0:
        yield from _evaluate(run)
        run.save_checkpoint()
    evaluated_at = run.step
    evaluations, samples = (Interval(every, pace, run.step) for every in (train.eval_every, train.sample_every))
    checkpoint_at = pace.seconds + _CHECKPOINT_SECONDS
    step_seconds = 0.0
    while pace.progress(run.step) < 1 and not stop.is_set():
        if (run.step > 0 or train.sample_every is not None) and samples.due(run.step):
            yield _sample(run)
            samples.done()
        began = time.perf_counter()
        learning_rate = _take_step(run)
        step_seconds += time.perf_counter() - began
        if run.step % train.log_every == 0:
            yield _step_record(run, learning_rate, step_seconds)
            step_seconds = 0.0
        if evaluations.due(run.step):
            before = pace.seconds
            yield from _evaluate(run)
            evaluated_at = run.step
            evaluations.done(pace.seconds - before)
        if _checkpoint_due(run, checkpoint_at):
            _save(run)
            checkpoint_at = pace.seconds + _CHECKPOINT_SECONDS
    run.save_checkpoint()
    if evaluated_at < run.step:
        yield from _evaluate(run)
    _save(run)
    yield {
        "event": "end",
        "step": run.step,
        "tokens": run.tokens,
        "seconds": pace.seconds,
        "model": str(run.folder.model_path),
        "train_loss": run.train_loss,
        "valid_loss": run.valid_loss,
        "best_valid_loss": run.best_valid_loss,
        "bits_per_char": run.bits_per_char(run.best_valid_loss),
        "interrupted": stop.is_set(),
    }


def _checkpoint_due(run: _Run, at: float) -> bool:
    every = run.train.checkpoint_every
    return run.pace.seconds >= at if every is None else every > 0 and run.step % every == 0


def _take_step(run: _Run) -> float:
    """One training step -> the learning rate that it took."""
    train = run.train
    batch = run.windows.batch(run.step)
    learning_rate = schedules.learning_rate(
        train.schedule, train.learning_rate, run.pace.progress(run.step), run.step, train.warmup_steps
    )
    try:
        loss = run.engine.step(batch.inputs, batch.targets, batch.reset, learning_rate)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"{error}; training stopped and {run.folder.path} keeps the last good model. "
            f"Try a smaller --learning-rate (now {learning_rate:g}) or --clip-norm 1"
        ) from None
    tokens = batch.tokens
    run.step += 1
    run.tokens += tokens
    run.smoothed_loss = SMOOTHING * run.smoothed_loss + (1 - SMOOTHING) * loss
    run.pending_nats += loss if train.reduction == "sum" else loss * tokens
    run.pending_tokens += tokens
    return learning_rate


def _step_record(run: _Run, learning_rate: float, step_seconds: float) -> Record:
    run.train_loss = run.pending_nats / run.pending_tokens
    record = {
        "event": "step",
        "step": run.step,
        "tokens": run.tokens,
        "seconds": run.pace.seconds,
        "train_loss": run.train_loss,
        "smoothed_loss": run.smoothed_loss,
        "tokens_per_second": run.pending_tokens / step_seconds,
        "learning_rate": learning_rate,
        "gradient_norm": run.engine.gradient_norm,
    }
    run.pending_nats, run.pending_tokens = 0.0, 0
    return record


def _evaluate(run: _Run) -> Iterator[Record]:
    """Evaluate where there is a validation part, and keep the model if it is the best so far."""
    if run.valid_windows is None:
        _save_last(run)
        return
    before = run.pace.seconds
    check_finite(run.engine.model.parameters)
    run.valid_loss = run.engine.evaluate(run.valid_windows)
    if run.best_valid_loss is None or run.valid_loss < run.best_valid_loss:
        run.best_valid_loss = run.valid_loss
        run.folder.save_model(run.text_model)
    run.pace.reserve = Pace.reserve + 1.5 * (run.pace.seconds - before)
    yield {
        "event": "eval",
        "step": run.step,
        "seconds": run.pace.seconds,
        "valid_loss": run.valid_loss,
        "bits_per_char": run.bits_per_char(run.valid_loss),
        "best_valid_loss": run.best_valid_loss,
        "scored_tokens": len(run.valid_windows.ids) - 1,
    }


def _save(run: _Run) -> None:
    if run.valid_windows is None:
        _save_last(run)
    run.save_checkpoint()


def _save_last(run: _Run) -> None:
    run.folder.save_model(run.text_model)


def _sample(run: _Run) -> Record:
    """What the model writes on from where training is in the text, as tutorial 3 shows it."""
    batch = run.windows.batch(run.step)
    state = run.engine.state
    if state is not None:
        state = None if batch.reset[0] else map_state(lambda part: part[:, :1], state)
    config = SampleConfig(run.train.sample_length, temperature=1.0)
    text = run.text_model.continue_text(int(batch.inputs[0, 0]), state, config, run.sampling_rng)
    return {"event": "sample", "step": run.step, "text": text}


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
