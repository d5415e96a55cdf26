"""Recurrent layers one upon the other, and the classes RNN, GRU and LSTM around them.

State is passed in and returned: h is (L, B, H), an LSTM's state the pair (h, c), as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from elman.cells import CELLS, Arrays, Cell
from elman.config import ModelConfig
from elman.errors import InputError
from elman.kernels import open_kernel
from elman.layers import dropout as dropout_layer
from elman.layers import recurrent

State = Any  # an array (L, B, H), or a pair of them for an LSTM
Backward = Callable[..., tuple[np.ndarray | None, State, dict[str, np.ndarray]]]


def generator(seed: int) -> np.random.Generator:
    """The random generator of a seed; raises InputError for one that is not a whole number 0 or more."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number 0 or more, not {seed!r}")
    return np.random.default_rng(seed)


def parameter_shapes(cell: Cell, input_size: int, hidden_size: int, num_layers: int) -> dict[str, tuple[int, ...]]:
    """Names ``layers.{l}.W_xh|W_hh|b_h|b_hn`` and shapes of the parameters of all layers."""
    GH = cell.gates * hidden_size
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(num_layers):
        prefix = f"layers.{layer}."
        shapes[prefix + "W_xh"] = (GH, input_size if layer == 0 else hidden_size)
        shapes[prefix + "W_hh"] = (GH, hidden_size)
        shapes[prefix + "b_h"] = (GH,)
        if cell.hidden_bias:
            shapes[prefix + "b_hn"] = (hidden_size,)
    return shapes


def initial_parameters(
    cell: Cell,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    rng: np.random.Generator,
    dtype: str = "float32",
    initialization: str = "uniform",
) -> dict[str, np.ndarray]:
    """Fresh parameters of all layers; drawn in float64, so that both dtypes start alike."""
    parameters = {
        name: initial_array(shape, hidden_size, rng, initialization).astype(dtype)
        for name, shape in parameter_shapes(cell, input_size, hidden_size, num_layers).items()
    }
    if cell.forget_gate is not None and initialization != "uniform-0.1":
        forget = slice(cell.forget_gate * hidden_size, (cell.forget_gate + 1) * hidden_size)
        for layer in range(num_layers):
            parameters[f"layers.{layer}.b_h"][forget] = 1  # remember at first (Jozefowicz et al. 2015)
    return parameters


def initial_array(shape: tuple[int, ...], fan: int, rng: np.random.Generator, initialization: str) -> np.ndarray:
    """As ModelConfig says of ``initialization``, with this fan-in; the forget biases are not set here."""
    if initialization == "uniform":
        return rng.uniform(-1, 1, shape) / np.sqrt(fan)
    if initialization == "uniform-0.1":
        return rng.uniform(-0.1, 0.1, shape)
    return rng.standard_normal(shape) * 0.01 if len(shape) > 1 else np.zeros(shape)


def initial_state(cell: Cell, num_layers: int, batch_size: int, hidden_size: int, dtype: Any) -> State:
    """The zero state: h (L, B, H), or (h, c)."""
    return public_state(tuple(np.zeros((num_layers, batch_size, hidden_size), dtype) for _ in cell.states))


def state_parts(state: State) -> Arrays:
    """(h,), or (h, c)."""
    return state if isinstance(state, tuple) else (state,)


def public_state(parts: Arrays) -> State:
    """h alone as an array, or the pair (h, c): a state as people hand it around."""
    return parts if len(parts) > 1 else parts[0]


def map_state(function: Callable[[np.ndarray], np.ndarray], state: State) -> State:
    """Apply a function to h, or to h and c."""
    return public_state(tuple(function(part) for part in state_parts(state)))


def as_array(name: str, value: Any) -> np.ndarray:
    """The value as an array, aligned in memory; raises InputError for one that is none, such as rows of two lengths."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array: {error}") from None
    return array if array.flags.aligned else array.copy()


def as_numbers(name: str, value: Any, dtype: Any) -> np.ndarray:
    """The value as an array of this floating-point dtype; raises InputError for what are no real numbers."""
    array = as_array(name, value)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be real numbers, not {array.dtype}")
    return array.astype(dtype, copy=False)


def check_state(state: State, cell: Cell, num_layers: int, batch_size: int, hidden_size: int, dtype: Any) -> State:
    """The state in this dtype; raises InputError where its parts or shapes are not those of this cell and batch."""
    wanted = (num_layers, batch_size, hidden_size)
    parts = tuple(
        as_numbers("the state", part, dtype) for part in (state if isinstance(state, tuple | list) else (state,))
    )
    shapes = tuple(part.shape for part in parts)
    if shapes != (wanted,) * len(cell.states):
        raise InputError(
            f"the state of {cell.name} is {' and '.join(cell.states)} of shape (layers, batch, hidden) = {wanted}, "
            f"not {' and '.join(map(str, shapes))}"
        )
    return public_state(parts)


def forward(
    kernel: ModuleType,
    cell: Cell,
    parameters: Mapping[str, np.ndarray],
    x: np.ndarray,
    state: State,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
    lengths: np.ndarray | None = None,
    shared: tuple[int, ...] = (),
) -> tuple[np.ndarray, State, Backward]:
    """Run all layers over a window; dropout between them, with masks shared along axes, only where an ``rng`` is given.

    x (T, B, I), or (T, B) ids for one-hot input; state (L, B, H) or a pair; lengths (B), or None: all have T steps
    -> outputs (T, B, H) of the last layer, state, and backward(d_outputs, d_state) -> d_x, d_state, gradients.
    """
    first = state_parts(state)
    num_layers = len(first[0])
    backwards: list[tuple[Any, Any]] = []
    last = tuple(np.empty_like(part) for part in first)
    for layer in range(num_layers):
        drop_backward = None
        if layer > 0 and rng is not None and dropout > 0:
            x, drop_backward = dropout_layer.forward(x, dropout, rng, shared)
        prefix = f"layers.{layer}."
        own = {name.removeprefix(prefix): array for name, array in parameters.items() if name.startswith(prefix)}
        x, state_l, backward_l = recurrent.forward(kernel, cell, own, x, tuple(part[layer] for part in first), lengths)
        for part, part_l in zip(last, state_l, strict=True):
            part[layer] = part_l
        backwards.append((drop_backward, backward_l))

    def backward(
        d_outputs: np.ndarray, d_state: State = None
    ) -> tuple[np.ndarray | None, State, dict[str, np.ndarray]]:
        d_last = tuple(np.zeros_like(part) for part in first) if d_state is None else state_parts(d_state)
        d_first = tuple(np.empty_like(part) for part in first)
        d_x: np.ndarray | None = d_outputs
        gradients: dict[str, np.ndarray] = {}
        for layer, (drop_backward, backward_l) in reversed(list(enumerate(backwards))):
            d_x, d_state_l, gradients_l = backward_l(d_x, tuple(part[layer] for part in d_last))
            for part, part_l in zip(d_first, d_state_l, strict=True):
                part[layer] = part_l
            gradients |= {f"layers.{layer}.{name}": gradient for name, gradient in gradients_l.items()}
            if drop_backward is not None:
                d_x = drop_backward(d_x)
        return d_x, public_state(d_first), gradients

    return x, public_state(last), backward


class Stepper:
    """The tutorials' ``y = rnn.step(x)``: feeds a layer or a model one time step at a time and keeps its state.

    ``step`` takes one stream or a batch of B of them, settled by the first call, and returns the same rank.
    ``state`` may be read, assigned, or set to None for a fresh start.
    """

    def __init__(self, owner: Any, rank: int):
        self._owner, self._rank = owner, rank  # rank of one stream's input: 0 for an id, 1 for a vector
        self.state: State = None

    def step(self, x: Any) -> np.ndarray:
        """One time step.

        x: an id or (B,) ids for a model, (I,) or (B, I) for a layer -> (V,) or (B, V), (H,) or (B, H).
        """
        x = as_array("x", x)
        single = x.ndim == self._rank
        y, self.state = self._owner.step(x[np.newaxis] if single else x, self.state)
        return y[0] if single else y


class _Layer:
    """Recurrent layers with their own parameters. Subclasses say which cell."""

    _cell: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        dtype: str = "float32",
        seed: int = 0,
        kernel: str = "auto",
    ):
        if bidirectional:
            raise NotImplementedError("bidirectional layers are not part of this version; use bidirectional=False")
        if not (isinstance(input_size, int) and input_size >= 1):
            raise InputError(f"input_size must be a whole number 1 or more, not {input_size!r}")
        # The other checks are, with the same words, those of a whole model.
        checked: Any = {"cell": self._cell, "dtype": dtype}
        ModelConfig(input_size, hidden_size=hidden_size, num_layers=num_layers, dropout=dropout, **checked)
        self.cell = CELLS[self._cell]
        self.input_size, self.hidden_size, self.num_layers, self.dropout = input_size, hidden_size, num_layers, dropout
        self.kernel = open_kernel(kernel)
        rng = generator(seed)
        self.parameters = initial_parameters(self.cell, input_size, hidden_size, num_layers, rng, dtype)

    def initial_state(self, batch_size: int) -> State:
        """The zero state for B streams: (L, B, H), or a pair of them."""
        return initial_state(self.cell, self.num_layers, batch_size, self.hidden_size, self._dtype)

    def __call__(
        self, x: np.ndarray, state: State = None, lengths: Any = None, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, State, Backward]:
        """Run over a window.

        x (T, B, I), or integer ids (T, B) for one-hot input; state (L, B, H) or a pair, None for zeros; lengths (B):
        how many steps each stream has, 1 to T, None for T; rng: draws the dropout masks, None for no dropout. After its
        last step a stream's outputs are 0 and its state stays, as in a packed sequence of PyTorch's; what stands there
        in x and in d_outputs counts for nothing.

        -> outputs (T, B, H), state, and ``backward(d_outputs, d_state=None) -> d_x, d_state, gradients``, with
        gradients a dict by parameter name, and d_x None for ids. Raises InputError for a wrong shape.
        """
        x = as_array("x", x)
        ids = x.ndim == 2 and np.issubdtype(x.dtype, np.integer)
        if not ids and (x.ndim != 3 or x.shape[2] != self.input_size):
            raise InputError(f"x must have the shape (time, batch, {self.input_size}), not {x.shape}")
        if 0 in x.shape[:2]:
            raise InputError(f"x needs at least one time step and one stream, not the shape {x.shape}")
        if ids and (x.min() < 0 or x.max() >= self.input_size):
            raise InputError(f"ids must be from 0 to {self.input_size - 1}, not {x.min()} to {x.max()}")
        x = x if ids else as_numbers("x", x, self._dtype)
        if state is None:
            state = self.initial_state(x.shape[1])
        state = check_state(state, self.cell, self.num_layers, x.shape[1], self.hidden_size, self._dtype)
        if lengths is not None:
            lengths = _check_lengths(lengths, *x.shape[:2])
        return forward(self.kernel, self.cell, self.parameters, x, state, self.dropout, rng, lengths)

    def step(self, x_t: np.ndarray, state: State = None) -> tuple[np.ndarray, State]:
        """One time step: x_t (B, I) and the state before it -> y (B, H) and the state after it."""
        outputs, state, _ = self(as_array("x", x_t)[np.newaxis], state)
        return outputs[0], state

    def stepper(self) -> Stepper:
        """A :class:`elman.layers.stack.Stepper`, with the tutorials' ``y = rnn.step(x)``, which keeps its own state."""
        return Stepper(self, rank=1)

    @property
    def _dtype(self) -> np.dtype:
        return self.parameters["layers.0.W_xh"].dtype


def _check_lengths(lengths: Any, T: int, B: int) -> np.ndarray:
    lengths = as_array("lengths", lengths)
    if lengths.shape != (B,) or not np.issubdtype(lengths.dtype, np.integer):
        raise InputError(f"lengths must be {B} whole numbers, one a stream, not {lengths.dtype} {lengths.shape}")
    if lengths.min() < 1 or lengths.max() > T:
        raise InputError(f"lengths must be from 1 to {T}, not {lengths.min()} to {lengths.max()}")
    return lengths


class RNN(_Layer):
    """Simple recurrent layers: h = tanh(x W_xhᵀ + h_prev W_hhᵀ + b_h), or relu. See :mod:`elman.cells.rnn`.

    input_size I, hidden_size H, num_layers L: 1 or more; nonlinearity "tanh" or "relu"; dropout: probability, from 0
    to below 1, between layers; dtype "float32" or "float64"; seed of the initial weights, U(-1/sqrt(H), 1/sqrt(H)).
    ``parameters`` is a dict by name: ``layers.{l}.W_xh`` (H, I), ``W_hh`` (H, H), ``b_h`` (H).
    Raises InputError for a size or option out of range.
    """

    def __init__(self, *args: Any, nonlinearity: str = "tanh", **options: Any):
        if nonlinearity not in ("tanh", "relu"):
            raise InputError(f"nonlinearity must be tanh or relu, not {nonlinearity!r}")
        self._cell = "rnn" if nonlinearity == "tanh" else "rnn-relu"
        super().__init__(*args, **options)


class GRU(_Layer):
    """Gated recurrent layers, reset after the product, as PyTorch's. See :mod:`elman.cells.gru`, and RNN for arguments.

    ``parameters``: ``layers.{l}.W_xh`` (3H, I), ``W_hh`` (3H, H), ``b_h`` (3H), ``b_hn`` (H); gate order r, z, n.
    """

    _cell = "gru"


class LSTM(_Layer):
    """Long short-term memory layers; the state is the pair (h, c). See :mod:`elman.cells.lstm`, and RNN for arguments.

    ``parameters``: ``layers.{l}.W_xh`` (4H, I), ``W_hh`` (4H, H), ``b_h`` (4H); gate order i, f, g, o; the forget
    bias starts at 1.
    """

    _cell = "lstm"
