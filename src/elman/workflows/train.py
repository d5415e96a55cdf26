"""Training: text -> tokens -> batches -> model -> gradients -> optimiser -> checkpoint, as a stream of records.

A record is a dict with ``event``; what each holds:

- ``start``: text, characters, train_tokens, valid_tokens, split, characters_per_token, spelling_per_token (nats that
  bits a character have besides the loss, for what is ``<unk>``), vocab_size, cell, hidden_size, num_layers, parameters,
  kernel, precision (bf16, or the model's dtype), engine, preset, reduction, steps or minutes, step and seconds (above
  0 when resumed), out, notes
- ``step``: step, tokens, seconds, train_loss (nats a token since the record before), smoothed_loss (tutorial 3's
  0.999/0.001 average of the loss as it is reduced), tokens_per_second (of the steps alone), learning_rate,
  gradient_norm (of the last step, before clipping)
- ``eval``: step, tokens, seconds, valid_loss (nats a token), bits_per_char, best_valid_loss, scored_tokens (fewer than
  configured where an evaluation would take more than a twentieth of the time)
- ``sample``: step, text
- ``end``: step, tokens, seconds, model (path), train_loss, valid_loss, best_valid_loss, bits_per_char (of the best),
  interrupted, signal (the number of the signal that did it, or null)
- ``stop``: step, seconds, signal (None: set from Python); said before the last evaluation of a run that was stopped
- ``rollback``: step (gone back to), failed_step, seconds, learning_rate (from now on), reason
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.config import ModelConfig, TrainConfig, read_toml
from elman.errors import InputError, NonFiniteError
from elman.models import LanguageModel
from elman.presets import DEFAULT_PRESET, PRESETS, resolve
from elman.text.corpora import DEFAULT_CORPUS
from elman.text.sources import open_corpus, open_text
from elman.text.split import SplitText, split_text
from elman.text_model import TextModel, load
from elman.workflows.loop import ROLLBACKS, Record, loop, may_roll_back, roll_back
from elman.workflows.resume import resume_run
from elman.workflows.run import Compute, Run, open_run
from elman.workflows.run_folder import RunFolder, check_no_run
from elman.workflows.stop import Stop, stop_on_signals


@dataclass
class TrainingRun:
    """What training left: the best model, its run folder, and all records in order (:mod:`elman.workflows.train`)."""

    model: TextModel
    path: Path
    history: list[Record]


def train(
    text: str | Path | Sequence[str | Path] = (), *, on_record: Callable[[Record], None] | None = None, **options: Any
) -> TrainingRun:
    """Train a model on a text file (or several, joined, or a named corpus) and return it.

    Options are those of :func:`elman.workflows.train.training` (``preset``, ``out``, ``resume``, ``kernel`` and others)
    and every field of ModelConfig and TrainConfig. ``on_record`` is called with each record as it comes. Raises
    InputError, RunFolderError, NonFiniteError and KernelError as it does.
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
    stop: Stop | None = None,
    start: float | None = None,
    **options: Any,
) -> Iterator[Record]:
    """Train, yielding records.

    texts: paths, patterns, ``-`` for standard input, or corpus names, as :func:`elman.text.sources.open_text` reads
    them; none means the preset's corpus, or Python's documentation. preset: a name of
    :data:`elman.presets.PRESETS`; config: a TOML file laid over it; options: fields of ModelConfig and TrainConfig,
    laid over both. out: the run folder to make. valid: a text to validate on instead of the text's last part.
    resume: a run folder to go on with; then options that would change what is trained must be what they were, and texts
    and valid are where the same texts are now. kernel, threads, engine: what computes. stop: set it to end the run
    early. Ctrl-C, SIGTERM and SIGHUP do, too: the step in hand is finished and all is saved. start: when the clock
    began (time.perf_counter), if that was before this call.

    Raises InputError for an unusable text or option, RunFolderError for an unusable folder, NonFiniteError where the
    loss, a gradient or a parameter stops being finite (the files then hold the last good model), KernelError.
    """
    start = time.perf_counter() if start is None else start
    compute = Compute(kernel, threads, engine)
    if resume is None:
        preset = preset or DEFAULT_PRESET
        run = _new_run(texts, preset, config, out, valid, options, compute, start)
    else:
        for name, value in {"config": config, "out": out}.items():
            if value is not None:
                raise InputError(f"{name} cannot be given with resume: the run goes on with what it began with")
        given = options if preset is None else {"preset": preset, **options}
        run = resume_run(resume, texts, valid, given, compute, start)
    return _records(run, stop or Stop())


def _new_run(
    texts: Sequence[str | Path],
    preset: str,
    config: str | Path | None,
    out: str | Path | None,
    valid: str | Path | None,
    options: Mapping[str, Any],
    compute: Compute,
    start: float,
) -> Run:
    """A run at step 0, with all its files."""
    tables = read_settings(config, valid, options)
    data = read_data(texts, preset, valid, resolve(preset, tables, options).train)
    recipe = resolve(preset, tables, options, len(data.train_ids))
    train = recipe.train
    model_config = ModelConfig(vocab_size=data.tokenizer.vocab_size, **recipe.model)
    model = LanguageModel(model_config, train.seed, compute.kernel, compute.threads)
    run = open_run(lambda: RunFolder.create(out, data.text.name), preset, train, data, model, compute, 0.0, start)
    before = run.pace.seconds
    try:
        run.save_checkpoint()
        run.begin()
        run.pace.saving = run.pace.seconds - before
    except BaseException:
        run.folder.close()
        raise
    return run


def read_settings(
    config: str | Path | None, valid: str | Path | None, options: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The tables of a configuration file; raises InputError for one that has no place in training.

    So it does where options say twice what is validated on.
    """
    tables = {} if config is None else read_toml(config)
    if tables.get("sample"):
        raise InputError(f"{config}: the table [sample] has no place in training; remove it")
    if valid is not None and "valid_fraction" in options:
        raise InputError("valid and valid_fraction exclude each other: give one of them")
    return tables


def read_data(texts: Sequence[str | Path], preset: str, valid: str | Path | None, train: TrainConfig) -> SplitText:
    """Read the texts, or without any the preset's corpus, and cut them; raises InputError where they are unusable."""
    check_no_run(texts)
    text = (
        open_text(texts, train.encoding, train.encoding_errors)
        if texts
        else open_corpus(PRESETS[preset].corpus or DEFAULT_CORPUS)
    )
    valid_text = None if valid is None else open_text([valid], train.encoding, train.encoding_errors)
    return split_text(text, valid_text, train)


def _records(run: Run, stop: Stop) -> Iterator[Record]:
    """Log each record and pass it on."""
    with closing(run.folder), stop_on_signals(stop):
        yield run.describe()
        while True:
            try:
                for record in loop(run, stop):
                    run.folder.log(record)
                    yield record
                return
            except NonFiniteError as error:
                if not may_roll_back(run):
                    raise _explained(error, run) from None
                yield roll_back(run, error)


def _explained(error: NonFiniteError, run: Run) -> NonFiniteError:
    tried = run.train.on_nan == "rollback"
    advice = [f"a smaller --learning-rate (now {run.train.learning_rate * run.progress.rate_factor:g})"]
    advice += [] if run.train.clip_norm is not None else ["--clip-norm 1"]
    advice += [] if tried else ["--on-nan rollback"]
    return NonFiniteError(
        f"{error}{f', after {ROLLBACKS} rollbacks' if tried else ''}; training stopped, and {run.folder.path} keeps "
        f"the last good model. Try {' or '.join(advice)}"
    )
