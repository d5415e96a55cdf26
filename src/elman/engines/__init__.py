"""The chooser of training engines: forward, backward, clip, update and carried state, in one call a step."""

from __future__ import annotations

from elman.engines.cpu import CpuEngine
from elman.engines.engine import Engine
from elman.errors import InputError, did_you_mean
from elman.models import LanguageModel
from elman.optimizers import Optimizer

ENGINES = ("cpu",)


def open_engine(
    name: str = "cpu",
    *,
    model: LanguageModel,
    optimizer: Optimizer,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    reduction: str = "mean",
    activation_regularization: float = 0.0,
    seed: int = 0,
    precision: str = "float32",
) -> Engine:
    """An engine that trains ``model`` with ``optimizer``, both changed in place.

    clip_norm or clip_value (above 0, not both) clips gradients; reduction "mean" or "sum" over the scored targets of a
    window; activation_regularization (0 or more) is that of :meth:`elman.LanguageModel.loss_and_gradients`; seed draws
    the dropout masks.

    precision "bf16": the matrix products of ``step`` take operands rounded to bfloat16 and sum them in float32, as
    :mod:`elman.kernels.bf16` defines it (mixed-precision training; Kalamkar et al. 2019); parameters, optimiser,
    activations, loss and ``evaluate`` stay float32. It takes the native kernel on a processor with Intel's AMX tiles, a
    float32 model and one of elman's optimisers. "float32": products of numbers as the model has them. "auto": bf16
    where it can be had.

    Raises InputError for another name or value, KernelError where bf16 cannot be had.
    """
    if name not in ENGINES:
        raise InputError(f"no engine {name!r}; there is {', '.join(ENGINES)}.{did_you_mean(name, ENGINES)}")
    return CpuEngine(model, optimizer, clip_norm, clip_value, reduction, activation_regularization, seed, precision)
