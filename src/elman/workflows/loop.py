"""The loop of training: one step after the other, and what is due between them, as records.

Whatever a run will do next follows from what :meth:`Run.save_checkpoint` saves, so that a run which goes on from a
checkpoint does what it would have done. Within a round the order is: sample, step, log, evaluate, save.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from elman import schedules
from elman.config import SampleConfig
from elman.errors import NonFiniteError
from elman.layers.stack import map_state
from elman.workflows.pace import Interval
from elman.workflows.run import Run
from elman.workflows.stop import Stop

Record = dict[str, Any]

SMOOTHING = 0.999  # tutorial 3
_CHECKPOINT_SECONDS = 30.0
_EVALUATION_SHARE = 0.05  # of a time limit, for one evaluation
_LEAST_EVAL_TOKENS = 1000
_FORWARD_SHARE = 0.4  # of a training step: a third of its products, and some more
ROLLBACKS = 10  # at most, in all of a run


def loop(run: Run, stop: Stop) -> Iterator[Record]:
    """Go on from where the run is until it is over or ``stop`` is set; NonFiniteError leaves the files as they were."""
    train, pace, progress = run.train, run.pace, run.progress
    if progress.step == 0 and pace.limit is None:  # with a limit the time is short, and what it takes not known yet
        yield from _evaluate(run)
    evaluations = Interval(train.eval_every, pace, least=100)
    samples = Interval(train.sample_every, pace, least=10)
    stopwatch = _Stopwatch()
    save_at = pace.seconds + _CHECKPOINT_SECONDS
    while (progress.step == 0 or not run.is_over) and not stop.is_set():
        if samples.due(progress.step) and (progress.step > 0 or train.sample_every is not None):
            yield _sample(run)
            samples.done()
        began, tokens = time.perf_counter(), progress.tokens
        learning_rate = _take_step(run)
        stopwatch.add(time.perf_counter() - began, progress.tokens - tokens)
        if pace.limit is not None and run.best is None:
            _plan_evaluations(run, stopwatch.seconds_a_token, pace.limit)
        if progress.step % train.log_every == 0:
            yield _step_record(run, learning_rate, stopwatch.lap())
        if evaluations.due(progress.step, pace.evaluation):
            yield from _evaluate(run)
            evaluations.done()
        if _checkpoint_due(run, save_at):
            _save(run)
            save_at = pace.seconds + _CHECKPOINT_SECONDS
    pace.over = pace.progress(progress.step) >= 1
    _save(run)
    if progress.evaluated_step != progress.step:
        # Not in the checkpoint, as a run with more steps would not have come to it; with minutes none is like another.
        if stop.is_set() and run.valid_windows is not None:
            yield {"event": "stop", "step": progress.step, "seconds": pace.seconds, "signal": stop.signal}
        yield from _evaluate(run)
    if pace.limit is not None:
        _save(run)
    yield {
        "event": "end",
        "step": progress.step,
        "tokens": progress.tokens,
        "seconds": pace.seconds,
        "model": str(run.folder.model_path),
        "train_loss": progress.train_loss,
        "valid_loss": progress.valid_loss,
        "best_valid_loss": run.best_valid_loss,
        "bits_per_char": run.bits_per_char(run.best_valid_loss),
        "interrupted": stop.is_set(),
        "signal": stop.signal,
    }


class _Stopwatch:
    """Seconds and tokens of the training steps alone: of all of them here, and since the last lap."""

    def __init__(self) -> None:
        self._seconds, self._tokens = 0.0, 0
        self._lap_seconds, self._lap_tokens = 0.0, 0

    def add(self, seconds: float, tokens: int) -> None:
        self._seconds += seconds
        self._tokens += tokens

    @property
    def seconds_a_token(self) -> float:
        return self._seconds / self._tokens

    def lap(self) -> float:
        """Tokens a second since the last lap."""
        seconds, tokens = self._seconds - self._lap_seconds, self._tokens - self._lap_tokens
        self._lap_seconds, self._lap_tokens = self._seconds, self._tokens
        return tokens / seconds


def may_roll_back(run: Run) -> bool:
    """Whether that is asked for, and was not done too often."""
    return run.train.on_nan == "rollback" and run.progress.rate_factor > 2.0**-ROLLBACKS


def roll_back(run: Run, error: NonFiniteError) -> Record:
    """Go back to the last checkpoint, with half the learning rate."""
    failed, factor = run.progress.step, run.progress.rate_factor / 2
    tensors, metadata = run.folder.read_checkpoint()
    run.restore(tensors, metadata)
    run.progress.rate_factor = factor
    run.begin_log(metadata["log_lines"])
    record = {
        "event": "rollback",
        "step": run.progress.step,
        "failed_step": failed,
        "seconds": run.pace.seconds,
        "learning_rate": run.train.learning_rate * factor,
        "reason": str(error),
    }
    run.folder.log(record)
    run.save_checkpoint()
    run.save_model()
    return record


def _plan_evaluations(run: Run, seconds_a_token: float, limit: float) -> None:
    """Before the first evaluation under a time limit: estimate it by what training takes, and cut it if too long."""
    if run.valid_windows is None:
        return
    forward_only = _FORWARD_SHARE * seconds_a_token
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
        train.schedule,
        train.learning_rate * progress.rate_factor,
        run.pace.progress(progress.step),
        progress.step,
        train.warmup_steps,
    )
    loss = run.engine.step(batch.inputs, batch.targets, batch.reset, learning_rate)
    tokens = batch.tokens
    progress.step += 1
    progress.tokens += tokens
    progress.smoothed_loss = SMOOTHING * progress.smoothed_loss + (1 - SMOOTHING) * loss
    progress.pending_nats += loss if train.reduction == "sum" else loss * tokens
    progress.pending_tokens += tokens
    return learning_rate


def _step_record(run: Run, learning_rate: float, tokens_per_second: float) -> Record:
    progress = run.progress
    progress.train_loss = progress.pending_nats / progress.pending_tokens
    record = {
        "event": "step",
        "step": progress.step,
        "tokens": progress.tokens,
        "seconds": run.pace.seconds,
        "train_loss": progress.train_loss,
        "smoothed_loss": progress.smoothed_loss,
        "tokens_per_second": tokens_per_second,
        "learning_rate": learning_rate,
        "gradient_norm": run.engine.gradient_norm,
    }
    progress.pending_nats, progress.pending_tokens = 0.0, 0
    return record


def _evaluate(run: Run) -> Iterator[Record]:
    """Evaluate where there is a validation part, and keep the model if it is the best so far."""
    if run.valid_windows is None:
        return
    run.check_finite()
    progress, before = run.progress, run.pace.seconds
    progress.valid_loss = run.engine.evaluate(run.valid_windows)
    if not math.isfinite(progress.valid_loss):
        raise NonFiniteError(f"step {progress.step}: the validation loss is {progress.valid_loss:g}")
    progress.evaluated_step = progress.step
    if run.best_valid_loss is None or progress.valid_loss < run.best_valid_loss:
        progress.evaluations_since_best = 0
        run.keep_as_best()
        run.save_model()
    else:
        progress.evaluations_since_best += 1
    run.pace.evaluation = run.pace.seconds - before
    yield {
        "event": "eval",
        "step": progress.step,
        "tokens": progress.tokens,
        "seconds": run.pace.seconds,
        "valid_loss": progress.valid_loss,
        "bits_per_char": run.bits_per_char(progress.valid_loss),
        "best_valid_loss": run.best_valid_loss,
        "scored_tokens": run.valid_windows.targets,
    }


def _save(run: Run) -> None:
    """Write the checkpoint, and the model too where no validation has picked a best one."""
    before = run.pace.seconds
    run.check_finite()
    run.save_checkpoint()
    if run.best is None:
        run.save_model()
    run.pace.saving = run.pace.seconds - before


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
