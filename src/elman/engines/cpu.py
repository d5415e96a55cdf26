"""The engine of this machine's processor: gradients, clipping and the optimiser, one after the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from elman.batches import Windows
from elman.errors import InputError, KernelError, NonFiniteError, did_you_mean
from elman.kernels import PRECISIONS, bf16_lacks
from elman.layers.stack import State, as_array, generator, map_state, public_state, state_parts
from elman.models import LanguageModel
from elman.optimizers import Optimizer, check_limit, clip_by_global_norm, clip_by_value, global_norm, is_number


class CpuEngine:
    """See :class:`elman.engines.engine.Engine`; made by :func:`elman.open_engine`."""

    name = "cpu"

    def __init__(
        self,
        model: LanguageModel,
        optimizer: Optimizer,
        clip_norm: float | None,
        clip_value: float | None,
        reduction: str,
        activation_regularization: float,
        seed: int,
        precision: str,
    ):
        if clip_norm is not None and clip_value is not None:
            raise InputError("clip_norm and clip_value exclude each other: give one of them")
        for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if limit is not None:
                check_limit(name, limit)
        if reduction not in ("mean", "sum"):
            raise InputError(f"reduction must be mean or sum, not {reduction!r}")
        if not (is_number(activation_regularization) and 0 <= activation_regularization < math.inf):
            raise InputError(f"activation_regularization must be a number 0 or more, not {activation_regularization!r}")
        self.model, self.optimizer, self.reduction = model, optimizer, reduction
        self.activation_regularization = activation_regularization
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.rng = generator(seed)
        self.precision = _precision(precision, model, optimizer)
        self.state: State = None
        self.gradient_norm = math.nan
        self._trainer: Any = None
        self._trained: list[int] = []  # ids of the arrays that it holds, in this order
        self._carried: State = None  # what the trainer left, of so many streams
        self._streams = 0

    def step(
        self, inputs: np.ndarray, targets: np.ndarray, reset: Any = None, learning_rate: float | None = None
    ) -> float:
        """Forward, backward, check, clip, update; see :class:`elman.engines.engine.Engine`."""
        inputs, targets = as_array("inputs", inputs), as_array("targets", targets)
        state = self.state
        if reset is not None:
            streams = self._check_reset(reset, inputs)
            if state is not None and streams.any():
                state = _reset(self.model.check_state(state, len(streams)), streams)
        rng = self.rng if self.model.config.drops else None
        rate = self.optimizer.rate(learning_rate)
        if self.model.kernel.NAME == "native" and self.model.kernel.knows_optimizer(self.optimizer):
            return self._step_in_one_call(inputs, targets, state, rate, rng)
        if self.precision == "bf16":  # model or optimiser have been replaced since it was settled
            raise KernelError("this engine's model or optimizer cannot be trained in bf16: open an engine for them")
        with np.errstate(all="ignore"):  # what is not finite is reported with its name instead
            loss, gradients, state = self.model.loss_and_gradients(
                inputs, targets, state, self.reduction, rng, self.activation_regularization
            )
            if self.clip_norm is not None:
                self.gradient_norm = clip_by_global_norm(gradients, self.clip_norm)
            else:
                self.gradient_norm = global_norm(gradients)
            if not (math.isfinite(loss) and math.isfinite(self.gradient_norm)):
                raise NonFiniteError(self._what_is_not_finite(loss, gradients))
            if self.clip_value is not None:
                clip_by_value(gradients, self.clip_value)
            self.optimizer.update(self.model.parameters, gradients, rate)
        self.state = state
        return loss

    def _step_in_one_call(
        self, inputs: np.ndarray, targets: np.ndarray, state: State, rate: float, rng: np.random.Generator | None
    ) -> float:
        """The same by the native kernel's composed step."""
        whole = inputs.dtype.kind == "i" and targets.dtype.kind == "i"
        if not (whole and inputs.ndim == 2 and inputs.size > 0 and inputs.shape == targets.shape):
            inputs = self.model.check_inputs(inputs)
            targets = self.model.check_targets(inputs, targets)
        trainer = self._current_trainer()
        if state is None or state is not self._carried or inputs.shape[1] != self._streams:
            state = self.model.check_state(state, inputs.shape[1])
        try:
            loss, self.gradient_norm, parts = trainer.step(
                inputs,
                targets,
                state_parts(state),
                self.reduction,
                self.activation_regularization,
                rate,
                self.clip_norm,
                self.clip_value,
                rng,
            )
        except IndexError:
            self.model.check_inputs(inputs)
            self.model.check_targets(inputs, targets)
            raise
        if not (math.isfinite(loss) and math.isfinite(self.gradient_norm)):
            raise NonFiniteError(self._what_is_not_finite(loss, trainer.gradients))
        self.optimizer.steps += 1
        self.state = self._carried = public_state(parts)
        self._streams = inputs.shape[1]
        return loss

    def _check_reset(self, reset: Any, inputs: np.ndarray) -> np.ndarray:
        reset = as_array("reset", reset)
        if inputs.ndim != 2 or reset.shape != inputs.shape[1:] or reset.dtype.kind not in "biu":
            self.model.check_inputs(inputs)
            raise InputError(
                f"reset must have one truth value a stream, {inputs.shape[1:]}, not {reset.dtype} {reset.shape}"
            )
        return reset.astype(bool, copy=False)

    def _current_trainer(self) -> Any:
        """The composed step for the arrays as they are: parameters and slots may have been replaced since the last."""
        parameters, slots = self.model.parameters, self.optimizer.slots.values()
        arrays = [*parameters.values()]
        for slot in slots:
            arrays += slot.values()
        if self._trainer is None or list(map(id, arrays)) != self._trained:
            self.model.check_parameters()
            for part in (parameters, *slots):
                for name, array in part.items():
                    part[name] = np.require(array, requirements=["C", "A", "W"])
            self._trainer = self.model.kernel.trainer(self.model.config, parameters, self.optimizer, self.precision)
            self._trained = [id(array) for part in (parameters, *slots) for array in part.values()]
        return self._trainer

    def evaluate(self, windows: Windows) -> float:
        """Mean nats a token over one pass; see :class:`elman.engines.engine.Engine`."""
        nats, tokens, state = 0.0, 0, None
        for step in range(windows.steps_per_epoch):
            batch = windows.batch(step)
            with np.errstate(all="ignore"):  # the mean shows it
                losses, state = self.model.losses(batch.inputs, batch.targets, _reset(state, batch.reset))
            nats += float(losses.sum(dtype=np.float64))
            tokens += batch.tokens
        return nats / tokens

    def _what_is_not_finite(self, loss: float, gradients: dict[str, np.ndarray]) -> str:
        for what, arrays in (("parameter", self.model.parameters), ("gradient of", gradients)):
            for name, array in arrays.items():
                if not np.isfinite(array).all():
                    return f"step {self.optimizer.steps + 1}: the loss is {loss:g}, and {what} {name} is not finite"
        return f"step {self.optimizer.steps + 1}: the loss is {loss:g}"


def _precision(wanted: str, model: LanguageModel, optimizer: Optimizer) -> str:
    """That of the products of a training step: "bf16", or the model's dtype."""
    if wanted not in PRECISIONS:
        raise InputError(
            f"no precision {wanted!r}; there are {', '.join(PRECISIONS)}.{did_you_mean(str(wanted), PRECISIONS)}"
        )
    if wanted == "float32":
        return model.config.dtype
    if model.config.dtype != "float32":
        lacks: str | None = f"the model is {model.config.dtype}"
    elif model.kernel.NAME != "native":
        lacks = f"the kernel is {model.kernel.NAME}, not native"
    elif not model.kernel.knows_optimizer(optimizer):
        lacks = f"the optimizer {type(optimizer).__name__} is not elman's own"
    else:
        lacks = bf16_lacks()
    if lacks and wanted == "bf16":
        raise KernelError(f"precision bf16 cannot be had: {lacks}; use precision float32 or auto")
    return model.config.dtype if lacks else "bf16"


def _reset(state: State, streams: np.ndarray) -> State:
    """The state with zeros for some of the streams (B,)."""
    if state is None or not streams.any():
        return state
    return map_state(lambda part: np.where(streams[:, np.newaxis], 0, part).astype(part.dtype), state)
