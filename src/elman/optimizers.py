"""Gradient descent, from plain to AdamW, and the clipping of gradients. Everything works in place on dicts by name.

Each optimiser keeps ``slots``: for every memory that it has, a dict of arrays by parameter name, made at the first
update. g is the gradient, lr the learning rate, w the parameter. A. Karpathy's and the tutorials' Adagrad puts epsilon
inside the root; the others follow the papers and ``torch.optim``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np

from elman.config import shown
from elman.errors import InputError

Arrays = Mapping[str, np.ndarray]

_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "learning_rate": ("above 0", lambda value: value > 0),
    **dict.fromkeys(("momentum", "decay", "beta1", "beta2"), ("from 0 to below 1", lambda value: 0 <= value < 1)),
    **dict.fromkeys(("epsilon", "weight_decay"), ("0 or more", lambda value: value >= 0)),
}


def is_number(value: object) -> bool:
    """Whether it is a real number that a float can hold, Python's or NumPy's, and no truth value."""
    if isinstance(value, float):
        return True
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:  # a whole number larger than any float
        return False
    return True


@dataclass(eq=False)
class Optimizer:
    """What all optimisers share: checked settings, ``slots`` (their memories), ``steps`` (updates so far), ``update``.

    Raises InputError for a setting out of its range.
    """

    slot_names: ClassVar[tuple[str, ...]] = ()

    learning_rate: float

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, (limits, is_right) = getattr(self, field.name), _RANGES[field.name]
            if not (is_number(value) and is_right(value) and value < math.inf):
                raise InputError(f"{field.name} must be a number {limits}, not {shown(value)}")
        self.steps = 0
        self.slots: dict[str, dict[str, np.ndarray]] = {name: {} for name in self.slot_names}

    def update(self, parameters: Arrays, gradients: Arrays, learning_rate: float | None = None) -> None:
        """Change every parameter in place by its gradient, same names and shapes; learning_rate: instead of its own.

        Raises InputError for a learning rate below 0, or a slot that is not like its parameter.
        """
        lr = self.rate(learning_rate)
        self.prepare(parameters)
        self.steps += 1
        for name, w in parameters.items():
            self._update(w, gradients[name], lr, *(slot[name] for slot in self.slots.values()))

    def prepare(self, parameters: Arrays) -> None:
        """Make the slots that are not there yet, of zeros; raises InputError for one that is not like its parameter."""
        for slot_name, slot in self.slots.items():
            for name, w in parameters.items():
                if name not in slot:
                    slot[name] = np.zeros_like(w)
                array = slot[name]
                if array.shape != w.shape or array.dtype != w.dtype:
                    raise InputError(
                        f"the optimiser's {slot_name} of {name} is {array.dtype} {array.shape}, "
                        f"but the parameter is {w.dtype} {w.shape}"
                    )

    def rate(self, learning_rate: float | None) -> float:
        """The learning rate given, or else its own; raises InputError where it is not a number 0 or more."""
        lr = self.learning_rate if learning_rate is None else learning_rate
        if not (is_number(lr) and 0 <= lr < math.inf):
            raise InputError(f"learning_rate must be a number 0 or more, not {shown(lr)}")
        return float(lr)

    def _update(self, w: np.ndarray, g: np.ndarray, lr: float, *slots: np.ndarray) -> None:
        raise NotImplementedError


@dataclass(eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v = momentum·v + g; w -= lr·v.

    By H. Robbins and S. Monro (1951); momentum as in I. Sutskever et al. (2013) and torch.optim. learning_rate above 0,
    momentum from 0 to below 1.
    """

    slot_names: ClassVar = ("velocity",)

    learning_rate: float = 0.1
    momentum: float = 0.0

    def _update(self, w: np.ndarray, g: np.ndarray, lr: float, *slots: np.ndarray) -> None:
        (v,) = slots
        v *= self.momentum
        v += g
        w -= lr * v


@dataclass(eq=False)
class Adagrad(Optimizer):
    """The tutorials' optimiser: m += g²; w -= lr·g / sqrt(m + epsilon).

    By J. Duchi, E. Hazan and Y. Singer (2011, https://jmlr.org/papers/v12/duchi11a.html). epsilon, 0 or more, stands
    inside the root as in tutorial 3; torch.optim puts it outside. With epsilon 0 an entry whose gradients were all
    exactly 0 stays as it is.
    """

    slot_names: ClassVar = ("sum_of_squares",)

    learning_rate: float = 0.1
    epsilon: float = 1e-8

    def _update(self, w: np.ndarray, g: np.ndarray, lr: float, *slots: np.ndarray) -> None:
        (m,) = slots
        m += g * g
        root = np.sqrt(m + self.epsilon)
        if self.epsilon == 0:
            root[root == 0] = 1
        w -= lr * g / root


@dataclass(eq=False)
class RMSProp(Optimizer):
    """m = decay·m + (1 - decay)·g²; w -= lr·g / (sqrt(m) + epsilon).

    By T. Tieleman and G. Hinton, Coursera lecture 6.5 (2012). decay from 0 to below 1, epsilon 0 or more.
    """

    slot_names: ClassVar = ("mean_square",)

    learning_rate: float = 2e-3
    decay: float = 0.99
    epsilon: float = 1e-8

    def _update(self, w: np.ndarray, g: np.ndarray, lr: float, *slots: np.ndarray) -> None:
        (m,) = slots
        m *= self.decay
        m += (1 - self.decay) * (g * g)
        w -= lr * g / (np.sqrt(m) + self.epsilon)


@dataclass(eq=False)
class Adam(Optimizer):
    """m and v are running means of g and g², corrected for their start at 0; w -= lr·m̂ / (sqrt(v̂) + epsilon).

    By D. Kingma and J. Ba (2015, arXiv:1412.6980). beta1 and beta2 from 0 to below 1, epsilon 0 or more.
    """

    slot_names: ClassVar = ("mean", "mean_square")

    learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def _update(self, w: np.ndarray, g: np.ndarray, lr: float, *slots: np.ndarray) -> None:
        m, v = slots
        m *= self.beta1
        m += (1 - self.beta1) * g
        v *= self.beta2
        v += (1 - self.beta2) * (g * g)
        m_scale = 1 / (1 - self.beta1**self.steps)
        v_scale = 1 / (1 - self.beta2**self.steps)
        w -= (lr * m_scale) * m / (np.sqrt(v * v_scale) + self.epsilon)


@dataclass(eq=False)
class AdamW(Adam):
    """Adam after w -= lr·weight_decay·w, a decay that the running means do not see.

    By I. Loshchilov and F. Hutter (2019, arXiv:1711.05101). weight_decay 0 or more; it acts on every parameter, biases
    too, as in torch.optim.
    """

    weight_decay: float = 0.01

    def _update(self, w: np.ndarray, g: np.ndarray, lr: float, *slots: np.ndarray) -> None:
        w *= 1 - lr * self.weight_decay
        super()._update(w, g, lr, *slots)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
}


def clip_by_value(gradients: Arrays, limit: float) -> None:
    """Cut every entry to [-limit, limit], in place, as tutorial 3 does. Raises InputError for a limit not above 0."""
    check_limit("limit", limit)
    for gradient in gradients.values():
        np.clip(gradient, -limit, limit, out=gradient)


def clip_by_global_norm(gradients: Arrays, max_norm: float) -> float:
    """Scale all gradients, in place, so that their common Euclidean norm is at most max_norm -> the norm before.

    Where the norm is not finite nothing is changed.

    By R. Pascanu, T. Mikolov and Y. Bengio (2013, arXiv:1211.5063); the 1e-6 is that of ``clip_grad_norm_`` in PyTorch.
    Raises InputError for a max_norm not above 0.
    """
    check_limit("max_norm", max_norm)
    norm = global_norm(gradients)
    scale = max_norm / (norm + 1e-6)
    if scale < 1 and math.isfinite(norm):
        for gradient in gradients.values():
            gradient *= scale
    return norm


def check_limit(name: str, limit: float) -> None:
    """Raise InputError, naming it, for a clipping limit that is not a number above 0."""
    if not (is_number(limit) and limit > 0):
        raise InputError(f"{name} must be a number above 0, not {shown(limit)}")


def global_norm(gradients: Arrays) -> float:
    """Square root of the sum of all squared entries; NaN or infinite where an entry is."""
    with np.errstate(over="ignore"):
        squares = sum(float(np.vdot(gradient, gradient)) for gradient in gradients.values())
    if math.isfinite(squares):
        return math.sqrt(squares)
    # A square can overflow where the entry itself is fine: divide by the largest entry first.
    largest = max(float(np.abs(gradient).max(initial=0)) for gradient in gradients.values())
    if not math.isfinite(largest):
        return math.nan if any(np.isnan(gradient).any() for gradient in gradients.values()) else math.inf
    return largest * math.sqrt(
        sum(float(np.sum(np.square(gradient / largest, dtype=np.float64))) for gradient in gradients.values())
    )
