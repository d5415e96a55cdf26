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
from elman.config import TrainConfig, to_toml
from elman.engines import open_engine
from elman.engines.engine import Engine
from elman.errors import InputError, NonFiniteError
from elman.kernels import processors
from elman.layers.stack import public_state, state_parts
from elman.models import LanguageModel
from elman.optimizers import OPTIMIZERS
from elman.text.sources import Text
from elman.text.split import SplitText
from elman.text.tokenizers import BpeTokenizer
from elman.text_model import TextModel
from elman.workflows.pace import Pace
from elman.workflows.run_folder import CONFIG_FILE, TOKENIZER_FILE, RunFolder

VALID_STREAMS = 64
_VALID_STREAM_LENGTH = 256  # tokens at least, so that a short validation part is not all cold starts
_BEST, _OPTIMIZER, _STATE = (
    "best.",
    "optimizer.",
    "state.",
)  # what a checkpoint's tensors besides the parameters begin with


@dataclass(frozen=True)
class Compute:
    """What computes, as it was asked for."""

    kernel: str = "auto"
    threads: int | None = None
    engine: str = "cpu"


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
    evaluated_step: int | None = None
    evaluations_since_best: int = 0
    rate_factor: float = 1.0  # of the learning rate, lowered by each rollback


@dataclass(frozen=True)
class Best:
    """The model that did best on validation so far, and its figures."""

    step: int
    valid_loss: float  # nats a token
    figures: dict[str, Any]
    parameters: dict[str, np.ndarray]

    @classmethod
    def of(cls, figures: dict[str, Any], parameters: Mapping[str, np.ndarray]) -> Best:
        """With copies of the parameters."""
        copies = {name: array.copy() for name, array in parameters.items()}
        return cls(int(figures["step"]), float(figures["valid_loss"]), figures, copies)


@dataclass
class Run:
    """Made by :func:`open_run`."""

    folder: RunFolder
    train: TrainConfig
    data: SplitText
    engine: Engine
    windows: Windows
    valid_windows: Windows | None
    threads: int | None  # as they were asked for
    pace: Pace
    preset: str
    notes: list[str]
    progress: Progress
    sampling_rng: np.random.Generator
    best: Best | None = None

    @property
    def text_model(self) -> TextModel:
        """The model as it stands."""
        return self._text_model(self.engine.model, self._figures())

    @property
    def best_valid_loss(self) -> float | None:
        """Nats a token; None before the first evaluation."""
        return None if self.best is None else self.best.valid_loss

    @property
    def is_over(self) -> bool:
        """Whether its steps or its time are used up, or ``patience`` evaluations in a row brought nothing better."""
        patience, progress = self.train.patience, self.progress
        lost = patience is not None and progress.evaluations_since_best >= patience
        return lost or self.pace.progress(progress.step) >= 1

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

    def keep_as_best(self) -> None:
        """The model as it stands is the best so far."""
        self.best = Best.of(self._figures(), self.engine.model.parameters)

    def save_model(self) -> None:
        """Replace the model file by the best model, or by the model as it stands where no validation told of one."""
        model = self.text_model
        if self.best is not None:
            config = self.engine.model.config
            model = self._text_model(
                LanguageModel(config, kernel="numpy", parameters=self.best.parameters), self.best.figures
            )
        with self.folder.writing():
            model.save(self.folder.model_path)

    def save_checkpoint(self) -> None:
        """Replace the checkpoint: all that :meth:`restore` needs."""
        engine, best = self.engine, self.best
        tensors = dict(engine.model.parameters)
        if best is not None and best.step != self.progress.step:
            tensors |= {_BEST + name: array for name, array in best.parameters.items()}
        for slot, arrays in engine.optimizer.slots.items():
            tensors |= {f"{_OPTIMIZER}{slot}.{name}": array for name, array in arrays.items()}
        if engine.state is not None:
            parts = zip(engine.model.cell.states, state_parts(engine.state), strict=True)
            tensors |= {_STATE + name: part for name, part in parts}
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
            "best": None if best is None else best.figures,
            "optimizer_steps": engine.optimizer.steps,
            "seconds": self.pace.spent,
            "evaluation_seconds": self.pace.evaluation,
            "log_lines": self.folder.log_lines,
            "rng": {"dropout": engine.rng.bit_generator.state, "sampling": self.sampling_rng.bit_generator.state},
            "kernel": engine.model.kernel.NAME,
            "precision": engine.precision,
            "threads": self.threads,
            "processors": processors(),
        }
        self.folder.save_checkpoint(self.progress.step, tensors, metadata, self.train.keep)

    def restore(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Go back to where a checkpoint was written; the clock goes on."""
        engine, parameters = self.engine, self.engine.model.parameters
        for name, array in parameters.items():
            array[...] = tensors[name]
        for slot, arrays in engine.optimizer.slots.items():
            arrays.clear()
            if metadata["optimizer_steps"] > 0:  # before the first one there is no memory
                arrays |= {name: tensors[f"{_OPTIMIZER}{slot}.{name}"] for name in parameters}
        engine.optimizer.steps = metadata["optimizer_steps"]
        parts = _below(_STATE, tensors)
        engine.state = public_state(tuple(parts[name] for name in engine.model.cell.states)) if parts else None
        engine.rng.bit_generator.state = metadata["rng"]["dropout"]
        self.sampling_rng.bit_generator.state = metadata["rng"]["sampling"]
        self.pace.evaluation = metadata["evaluation_seconds"]
        self.progress = Progress(**metadata["progress"])
        self.best = None
        if metadata["best"] is not None:
            self.best = Best.of(metadata["best"], _below(_BEST, tensors) or parameters)
        if self.progress.eval_tokens is not None:
            self.cut_validation(self.progress.eval_tokens)

    def begin(self, log_lines: int = 1) -> None:
        """Bring the files beside the checkpoint to where the run is."""
        self.save_model()
        model = dataclasses.asdict(self.engine.model.config)
        del model["vocab_size"]  # it is left to the text
        config = to_toml(model=model, train=dataclasses.asdict(self.train))
        self.folder.write(CONFIG_FILE, config.encode("utf-8", "surrogateescape"))
        if isinstance(self.data.tokenizer, BpeTokenizer):
            self.data.tokenizer.write(self.folder.path / TOKENIZER_FILE)
        self.begin_log(log_lines)

    def begin_log(self, lines: int) -> None:
        """Write the log's start record; keep its first lines, those that a checkpoint knows of."""
        self.folder.begin_log({**self.describe(), "step": 0, "seconds": 0.0}, lines)

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
            "precision": self.engine.precision,
            "engine": self.engine.name,
            "preset": self.preset,
            "reduction": self.train.reduction,
            "steps": self.pace.total_steps,
            "minutes": self.train.minutes,
            "step": self.progress.step,
            "seconds": self.pace.already,
            "out": str(self.folder.path),
            "notes": [*self.notes, *self.folder.notes],
        }

    def _text_model(self, model: LanguageModel, figures: dict[str, Any]) -> TextModel:
        info = {**self._info(), "figures": figures}
        return TextModel(model, self.data.tokenizer, info, self.data.trained_items)

    def _figures(self) -> dict[str, Any]:
        """What the model as it stands has reached."""
        progress = self.progress
        figures: dict[str, Any] = {
            "step": progress.step,
            "tokens": progress.tokens,
            "train_loss": progress.train_loss,
        }
        if self.valid_windows is not None:
            figures["valid_loss"] = progress.valid_loss
            figures["valid_bits_per_char"] = self.bits_per_char(progress.valid_loss)
        return figures

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
    compute: Compute,
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
    decay = {} if train.weight_decay is None else {"weight_decay": train.weight_decay}
    engine = open_engine(
        compute.engine,
        model=model,
        optimizer=OPTIMIZERS[train.optimizer](learning_rate=train.learning_rate, **decay),
        clip_norm=train.clip_norm,
        clip_value=train.clip_value,
        reduction=train.reduction,
        activation_regularization=train.activation_regularization,
        seed=train.seed,
        precision=train.precision,
    )
    valid_windows = _validation_windows(data, train, train.eval_tokens)
    if train.patience is not None and valid_windows is None:
        raise InputError("patience counts evaluations, and this run has no validation part; leave it out")
    targets_a_step = windows.seq_length * windows.batch_size if train.reduction == "sum" else 1
    return Run(
        folder=open_folder(),
        train=train,
        data=data,
        engine=engine,
        windows=windows,
        valid_windows=valid_windows,
        threads=compute.threads,
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


def model_parameters(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of a checkpoint's tensors that are the model as it stood."""
    return {name: array for name, array in tensors.items() if not name.startswith((_BEST, _OPTIMIZER, _STATE))}


def _below(prefix: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _mark(data: SplitText) -> int:
    assert data.tokenizer.line_end_id is not None  # every item of the training part ends with one
    return data.tokenizer.line_end_id


def _origin(text: Text) -> dict[str, Any]:
    return {"origin": list(text.origin), "sha256": text.sha256, "characters": text.characters}
