"""One training run in memory: what is trained, on what, how far it has come, and how that is saved and restored."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import elman
from elman.batches import ItemWindows, StreamWindows, Windows
from elman.config import TrainConfig
from elman.engines import open_engine
from elman.engines.engine import Engine
from elman.errors import NonFiniteError
from elman.layers.stack import public_state, state_parts
from elman.models import LanguageModel
from elman.optimizers import OPTIMIZERS
from elman.text.sources import Text
from elman.text.split import SplitText
from elman.text_model import TextModel
from elman.workflows.pace import Pace
from elman.workflows.run_folder import RunFolder

VALID_STREAMS = 64
_VALID_STREAM_LENGTH = 256  # tokens at least, so that a short validation part is not all cold starts


@dataclass
class Progress:
    """The figures of a run that change with its steps; a checkpoint holds them all."""

    smoothed_loss: float
    step: int = 0
    tokens: int = 0
    pending_nats: float = 0.0  # since the last step record
    pending_tokens: int = 0
    eval_tokens: int | None = None  # fewer than configured, where the time would not allow for more
    train_loss: float | None = None  # of the last step record
    valid_loss: float | None = None
    best_valid_loss: float | None = None


@dataclass
class Run:
    """Made by :func:`open_run`."""

    folder: RunFolder
    train: TrainConfig
    data: SplitText
    engine: Engine
    windows: Windows
    valid_windows: Windows | None
    pace: Pace
    preset: str
    notes: list[str]
    progress: Progress
    sampling_rng: np.random.Generator

    @property
    def text_model(self) -> TextModel:
        """The model as it stands, with the figures that it has reached."""
        progress = self.progress
        figures = {"step": progress.step, "tokens": progress.tokens, "train_loss": progress.train_loss}
        if self.valid_windows is not None:
            figures["valid_loss"] = progress.valid_loss
            figures["valid_bits_per_char"] = self.bits_per_char(progress.valid_loss)
        info = {**self._info(), "figures": figures}
        return TextModel(self.engine.model, self.data.tokenizer, info, self.data.trained_items)

    def bits_per_char(self, nats_per_token: float | None) -> float | None:
        """Bits a character of the validation text, the spelling of ``<unk>`` included; of the training text without."""
        if nats_per_token is None:
            return None
        part, ids = self.data.train, self.data.train_ids
        if self.data.valid is not None and self.data.valid_ids is not None:
            part, ids = self.data.valid, self.data.valid_ids
        return (nats_per_token * len(ids) + self.data.valid_spelling) / math.log(2) / part.characters

    def cut_validation(self, tokens: int) -> None:
        """Validate on at most so many tokens from now on."""
        self.progress.eval_tokens = tokens
        self.valid_windows = _validation_windows(self.data, self.train, tokens)

    def save_model(self) -> None:
        """Replace the model file by the model as it stands."""
        self.text_model.save(self.folder.model_path)

    def save_checkpoint(self) -> None:
        """Replace the checkpoint: all that :meth:`restore` needs."""
        engine = self.engine
        tensors = dict(engine.model.parameters)
        for slot, arrays in engine.optimizer.slots.items():
            tensors |= {f"optimizer.{slot}.{name}": array for name, array in arrays.items()}
        if engine.state is not None:
            parts = zip(engine.model.cell.states, state_parts(engine.state), strict=True)
            tensors |= {f"state.{name}": part for name, part in parts}
        valid_text = self.data.valid_text
        metadata = {
            "kind": "checkpoint",
            "model": dataclasses.asdict(engine.model.config),
            "tokenizer": self.data.tokenizer.to_json(),
            **self._info(),
            "sources": {
                "text": _origin(self.data.text),
                "valid": None if valid_text is None else _origin(valid_text),
            },
            "progress": dataclasses.asdict(self.progress),
            "optimizer_steps": engine.optimizer.steps,
            "seconds": self.pace.seconds,
            "log_lines": self.folder.log_lines,
            "rng": {"dropout": engine.rng.bit_generator.state, "sampling": self.sampling_rng.bit_generator.state},
        }
        self.folder.save_checkpoint(tensors, metadata)

    def restore(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Go back to where a checkpoint was written; the model's parameters are restored already."""
        engine = self.engine
        for slot, arrays in engine.optimizer.slots.items():
            prefix = f"optimizer.{slot}."
            arrays |= {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
        engine.optimizer.steps = metadata["optimizer_steps"]
        parts = tuple(tensors[f"state.{name}"] for name in engine.model.cell.states if f"state.{name}" in tensors)
        engine.state = public_state(parts) if parts else None
        engine.rng.bit_generator.state = metadata["rng"]["dropout"]
        self.sampling_rng.bit_generator.state = metadata["rng"]["sampling"]
        self.progress = Progress(**metadata["progress"])
        if self.progress.eval_tokens is not None:
            self.cut_validation(self.progress.eval_tokens)

    def check_finite(self) -> None:
        """Raise NonFiniteError with step and name where a parameter is NaN or infinite, so that no file gets it."""
        for name, array in self.engine.model.parameters.items():
            if not np.isfinite(array).all():
                raise NonFiniteError(f"step {self.progress.step}: parameter {name} is not finite")

    def describe(self) -> dict[str, Any]:
        """The ``start`` record."""
        config, data = self.engine.model.config, self.data
        return {
            "event": "start",
            "text": data.text.name,
            "characters": data.text.characters,
            "train_tokens": len(data.train_ids),
            "valid_tokens": 0 if data.valid_ids is None else len(data.valid_ids),
            "split": data.split,
            "characters_per_token": data.train.characters / len(data.train_ids),
            "spelling_per_token": data.train_spelling / len(data.train_ids),
            "vocab_size": config.vocab_size,
            "cell": config.cell,
            "hidden_size": config.hidden_size,
            "num_layers": config.num_layers,
            "parameters": self.engine.model.num_parameters,
            "kernel": self.engine.model.kernel.NAME,
            "engine": self.engine.name,
            "preset": self.preset,
            "reduction": self.train.reduction,
            "steps": self.pace.total_steps,
            "minutes": self.train.minutes,
            "step": self.progress.step,
            "seconds": self.pace.already,
            "out": str(self.folder.path),
            "notes": self.notes,
        }

    def _info(self) -> dict[str, Any]:
        """What every file of this run says of its training."""
        data = self.data
        return {
            "elman": elman.__version__,
            "preset": self.preset,
            "protocol": {
                "text": data.text.name,
                "sha256": data.text.sha256,
                "characters": data.text.characters,
                "train_characters": data.train.characters,
                "split": data.split,
            },
            "training": dataclasses.asdict(self.train),
        }


def open_run(
    open_folder: Callable[[], RunFolder],
    preset: str,
    train: TrainConfig,
    data: SplitText,
    model: LanguageModel,
    engine_name: str,
    already: float,
    start: float,
) -> Run:
    """Put a run together; its folder is opened last, when all the rest is known to be right.

    already: seconds of earlier sessions; start: when this session's clock began (time.perf_counter).
    """
    windows: Windows
    if train.items is None:
        windows = StreamWindows(data.train_ids, train.batch_size, train.seq_length, train.tail)
    else:
        windows = ItemWindows(data.train_ids, _mark(data), train.batch_size, train.seq_length, train.seed)
    notes = list(data.notes)
    if train.items is None and (windows.batch_size < train.batch_size or windows.seq_length < train.seq_length):
        notes.append(
            f"the training part has only {len(data.train_ids)} tokens: windows are {windows.seq_length} steps of "
            f"{windows.batch_size} streams instead of {train.seq_length} of {train.batch_size}"
        )
    engine = open_engine(
        engine_name,
        model=model,
        optimizer=OPTIMIZERS[train.optimizer](learning_rate=train.learning_rate),
        clip_norm=train.clip_norm,
        clip_value=train.clip_value,
        reduction=train.reduction,
        seed=train.seed,
    )
    valid_windows = _validation_windows(data, train, train.eval_tokens)
    targets_a_step = windows.seq_length * windows.batch_size if train.reduction == "sum" else 1
    return Run(
        folder=open_folder(),
        train=train,
        data=data,
        engine=engine,
        windows=windows,
        valid_windows=valid_windows,
        pace=Pace.of(train, windows.steps_per_epoch, already, start),
        preset=preset,
        notes=notes,
        progress=Progress(smoothed_loss=math.log(model.config.vocab_size) * targets_a_step),
        sampling_rng=np.random.default_rng([train.seed, 1]),
    )


def _validation_windows(data: SplitText, train: TrainConfig, tokens: int) -> Windows | None:
    if data.valid_ids is None:
        return None
    if train.items is not None:
        return ItemWindows(data.valid_ids, _mark(data), VALID_STREAMS, train.seq_length, most=tokens)
    ids = data.valid_ids[: tokens + 1]
    streams = min(VALID_STREAMS, max(1, (len(ids) - 1) // _VALID_STREAM_LENGTH))
    return StreamWindows(ids, streams, train.seq_length)


def _mark(data: SplitText) -> int:
    assert data.tokenizer.line_end_id is not None  # every item of the training part ends with one
    return data.tokenizer.line_end_id


def _origin(text: Text) -> dict[str, Any]:
    return {"origin": list(text.origin), "sha256": text.sha256}
