"""The loops in C++ (csrc/): the functions of :mod:`elman.kernels.reference`, with the same signatures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

import elman.kernels._native as _native
from elman import sampling
from elman.cells import CELLS, Arrays, Cell, gru, lstm, rnn
from elman.config import ModelConfig, SampleConfig
from elman.errors import InputError, KernelError, NonFiniteError
from elman.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp

_CELL_NUMBERS: dict[Any, int] = {  # CellKind in csrc/cells.h, by the function whose equations it repeats
    rnn.forward_tanh: 0,
    rnn.forward_relu: 1,
    gru.forward: 2,
    lstm.forward: 3,
}
_OPTIMIZER_NUMBERS: dict[type[Optimizer], int] = {SGD: 0, Adagrad: 1, RMSProp: 2, Adam: 3, AdamW: 4}  # OptimizerKind


def _number_of(cell: Cell) -> int:
    if cell.forward not in _CELL_NUMBERS:
        raise KernelError(f"the native kernel does not know this cell {cell.name!r}; open it with kernel 'numpy'")
    return _CELL_NUMBERS[cell.forward]


def instruction_set() -> str:
    """The build that computes here: the best that the processor has, or the one that ELMAN_ISA names.

    Raises KernelError where ELMAN_ISA names one that is not built or that this processor lacks.
    """
    supported = _native.supported()
    wanted = os.environ.get("ELMAN_ISA", supported[0])
    if wanted not in supported:
        raise KernelError(f"ELMAN_ISA is {wanted!r}, but this processor and build have {', '.join(supported)}")
    return wanted


def bf16_lacks() -> str | None:
    """What training in bf16 lacks here, or None where it can be done."""
    if "ELMAN_ISA" in os.environ:
        return f"ELMAN_ISA asks for {instruction_set()}, which has none"
    return _native.bf16_lacks()


class NativeKernel:
    """The native functions with a number of threads (1 or more)."""

    NAME = "native"

    def __init__(self, threads: int):
        _native.use(instruction_set())
        self.threads = threads

    def recurrent_forward(
        self,
        cell: Cell,
        gates_x: np.ndarray,
        W_hh: np.ndarray,
        b_hn: np.ndarray | None,
        state: Arrays,
        lengths: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Arrays, tuple]:
        """See :func:`elman.kernels.reference.recurrent_forward`; what is saved is for this kernel's backward."""
        gates_x, W_hh = np.ascontiguousarray(gates_x), np.ascontiguousarray(W_hh)
        first = tuple(np.ascontiguousarray(part) for part in state)
        T, B, _ = gates_x.shape
        outputs = np.empty((T, B, W_hh.shape[1]), gates_x.dtype)
        gates = np.empty_like(gates_x) if cell.gates > 1 else None
        extra = np.empty_like(outputs) if cell.gates > 1 else None
        c_first, c = (first[1], np.empty_like(outputs)) if len(first) > 1 else (None, None)
        number = _number_of(cell)
        b_hn = None if b_hn is None else np.ascontiguousarray(b_hn)
        lengths = None if lengths is None else _whole(lengths)
        _native.recurrent_forward(
            number, gates_x, W_hh, b_hn, first[0], c_first, lengths, outputs, gates, c, extra, self.threads
        )
        ends = (np.full(B, T) if lengths is None else lengths) - 1
        last = tuple(part[ends, np.arange(B)] for part in (outputs, c) if part is not None)
        return outputs, last, (first[0], c_first, outputs, gates, c, extra, lengths)

    def recurrent_backward(
        self, cell: Cell, d_outputs: np.ndarray, d_state: Arrays, W_hh: np.ndarray, saved: tuple
    ) -> tuple[np.ndarray, np.ndarray, Arrays]:
        """See :func:`elman.kernels.reference.recurrent_backward`."""
        h_first, c_first, outputs, gates, c, extra, lengths = saved
        T, B, H = outputs.shape
        d_first = tuple(np.array(part, outputs.dtype, order="C") for part in d_state)
        d_gates_x = np.empty((T, B, cell.gates * H), outputs.dtype)
        d_gates_h = np.empty_like(d_gates_x) if cell.hidden_bias else None
        _native.recurrent_backward(
            _number_of(cell),
            np.ascontiguousarray(W_hh),
            h_first,
            c_first,
            outputs,
            gates,
            c,
            extra,
            lengths,
            np.ascontiguousarray(d_outputs, outputs.dtype),
            d_first[0],
            d_first[1] if len(d_first) > 1 else None,
            d_gates_x,
            d_gates_h,
            self.threads,
        )
        return d_gates_x, d_gates_x if d_gates_h is None else d_gates_h, d_first

    def gather_rows(self, table: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """See :func:`elman.kernels.reference.gather_rows`."""
        if ids.size > len(table):
            table = np.ascontiguousarray(table)
        rows = np.empty((*ids.shape, table.shape[1]), table.dtype)
        _native.gather_rows(table, _whole(ids), rows, self.threads)
        return rows

    def scatter_add_rows(self, d_rows: np.ndarray, ids: np.ndarray, num_rows: int) -> np.ndarray:
        """See :func:`elman.kernels.reference.scatter_add_rows`."""
        d_rows = np.ascontiguousarray(d_rows.reshape(ids.size, -1))
        d_table = np.zeros((num_rows, d_rows.shape[1]), d_rows.dtype)
        _native.scatter_add_rows(d_rows, _whole(ids), d_table, self.threads)
        return d_table

    def product(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        """See :func:`elman.kernels.reference.product`."""
        if B.itemsize not in B.strides:
            B = np.ascontiguousarray(B)  # rows or columns of B must be contiguous
        C = np.empty((A.shape[0], B.shape[1]), A.dtype)
        _native.product(A, B, C, self.threads)
        return C

    def output_losses(self, W_hy: np.ndarray, b_y: np.ndarray, rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """See :func:`elman.kernels.reference.output_losses`."""
        losses = np.empty(len(rows), rows.dtype)
        self._output(W_hy, b_y, rows, targets, 1.0, losses)
        return losses

    def output_gradients(
        self, W_hy: np.ndarray, b_y: np.ndarray, rows: np.ndarray, targets: np.ndarray, scale: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See :func:`elman.kernels.reference.output_gradients`."""
        results = tuple(np.empty(shape, rows.dtype) for shape in (len(rows), rows.shape, W_hy.shape, b_y.shape))
        self._output(W_hy, b_y, rows, targets, scale, *results)
        losses, d_rows, d_W_hy, d_b_y = results
        return losses, d_rows, d_W_hy, d_b_y

    def _output(self, W_hy: np.ndarray, b_y: np.ndarray, rows: np.ndarray, targets: np.ndarray, *rest: Any) -> None:
        arrays = (np.ascontiguousarray(array) for array in (W_hy, b_y, rows))
        gradients = rest[2:] or (None, None, None)
        _native.output(*arrays, _whole(targets), *rest[:2], *gradients, self.threads)

    def knows_optimizer(self, optimizer: Optimizer) -> bool:
        """Whether the composed step has this optimiser; one of your own is updated by its own code instead."""
        return type(optimizer) in _OPTIMIZER_NUMBERS

    def trainer(
        self,
        config: ModelConfig,
        parameters: Mapping[str, np.ndarray],
        optimizer: Optimizer,
        precision: str = "float32",
    ) -> Trainer:
        """The composed training step for these arrays and this optimiser; see :class:`Trainer`."""
        return Trainer(config, parameters, optimizer, self.threads, precision)

    def generator(self, config: ModelConfig, parameters: Mapping[str, np.ndarray]) -> Generator:
        """The composed generation loop for these weights; see :class:`Generator`."""
        return Generator(config, parameters, self.threads)


class Trainer:
    """One call a training step: forward, backward, clipping and update, in memory that is kept from step to step.

    It holds the arrays that it was given, parameters and the optimiser's slots, and changes them in place;
    ``gradients`` (dict by parameter name) holds those of the last step before clipping. Its oracle is
    LanguageModel.loss_and_gradients on the reference kernel, then clipping and Optimizer.update. With the precision
    "bf16" it is that of :mod:`elman.kernels.bf16`, for a model in float32.
    """

    def __init__(
        self,
        config: ModelConfig,
        parameters: Mapping[str, np.ndarray],
        optimizer: Optimizer,
        threads: int,
        precision: str = "float32",
    ):
        self.config, self.optimizer = config, optimizer
        self.gradients = {name: np.empty_like(array) for name, array in parameters.items()}
        optimizer.prepare(parameters)
        slots = [[slot[name] for name in parameters] for slot in optimizer.slots.values()]
        kind = _native.TrainerFloat32 if config.dtype == "float32" else _native.TrainerFloat64
        self._native = kind(
            _spec(config),
            list(parameters.values()),
            list(self.gradients.values()),
            slots[0],
            slots[1] if len(slots) > 1 else [],
            threads,
            precision == "bf16",
        )
        self._uniforms = np.empty(0, np.float32)

    @property
    def workspace_bytes(self) -> int:
        """Memory that steps work in, besides the arrays."""
        return self._native.workspace_bytes

    def step(
        self,
        inputs: np.ndarray,
        targets: np.ndarray,
        state: Arrays,
        reduction: str,
        activation_regularization: float,
        learning_rate: float,
        clip_norm: float | None,
        clip_value: float | None,
        rng: np.random.Generator | None,
    ) -> tuple[float, float, Arrays]:
        """One step: ids (T, B), state parts (L, B, H) -> loss, gradient norm before clipping, state after.

        Where loss or norm is not finite nothing was updated. Raises IndexError for an id outside the vocabulary, with
        nothing changed. rng draws the dropout masks.
        """
        inputs, targets, uniforms, embedding_uniforms = _whole(inputs), _whole(targets), None, None
        if rng is not None:
            self._native.check_ids(inputs, targets)  # before anything is drawn
            T, B = inputs.shape
            if self.config.embedding_dropout > 0:
                embedding_uniforms = rng.random((T, B), np.float32)
            if self.config.dropout > 0:
                shape = (len(state[0]), 1 if self.config.variational_dropout else T, B, self.config.hidden_size)
                if self._uniforms.shape != shape:
                    self._uniforms = np.empty(shape, np.float32)
                uniforms = rng.random(dtype=np.float32, out=self._uniforms)
        first = tuple(np.ascontiguousarray(part) for part in state)
        last = tuple(np.empty(part.shape, part.dtype) for part in state)
        c_first, c_last = (first[1], last[1]) if len(first) > 1 else (None, None)
        optimizer, settings = self.optimizer, vars(self.optimizer)
        loss, norm = self._native.step(
            inputs,
            targets,
            uniforms,
            self.config.dropout,
            embedding_uniforms,
            self.config.embedding_dropout,
            first[0],
            c_first,
            last[0],
            c_last,
            reduction == "mean",
            activation_regularization,
            _OPTIMIZER_NUMBERS[type(optimizer)],
            learning_rate,
            settings.get("momentum", 0.0),
            settings.get("beta1", 0.0),
            settings.get("beta2", settings.get("decay", 0.0)),
            settings.get("epsilon", 0.0),
            settings.get("weight_decay", 0.0),
            optimizer.steps + 1,
            clip_norm or 0.0,
            clip_value or 0.0,
        )
        return loss, norm, last


class Generator:
    """Draws several ids a call: read, step, sample, and again, with the weights as they are when it is made.

    Its oracle is :meth:`elman.LanguageModel.step` and :func:`elman.sampling.sample` in turn.
    """

    def __init__(self, config: ModelConfig, parameters: Mapping[str, np.ndarray], threads: int):
        kind = _native.GeneratorFloat32 if config.dtype == "float32" else _native.GeneratorFloat64
        arrays = [np.require(array, requirements=["C", "A", "W"]) for array in parameters.values()]
        self._native = kind(_spec(config), arrays, threads)

    def draw(
        self, token: int, state: Arrays, uniforms: np.ndarray, settings: SampleConfig, forbidden: int | None
    ) -> tuple[np.ndarray, Arrays]:
        """Read ``token`` after ``state``, then draw as many ids as there are uniforms; ``forbidden`` is never drawn.

        state parts (L, 1, H), uniforms (n,) in [0, 1) -> ids (n,), and the state before the last of them is read.
        Raises NonFiniteError where the largest logit is not finite.
        """
        parts = tuple(np.array(part, order="C") for part in state)
        ids = np.empty(len(uniforms), np.int64)
        sound = self._native.draw(
            token,
            parts[0],
            parts[1] if len(parts) > 1 else None,
            uniforms,
            settings.temperature,
            settings.top_k,
            settings.top_p,
            -1 if forbidden is None else forbidden,
            ids,
        )
        if not sound:
            raise NonFiniteError(sampling.BROKEN_MODEL)
        return ids, parts


def fma_peak(threads: int) -> float:
    """Floating-point operations a second that multiply-and-add reaches on registers alone, threads at once (0.1 s)."""
    _native.use(instruction_set())
    return _native.fma_peak(threads)


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Ids or lengths as csrc/ takes them. Raises InputError for what are no whole numbers."""
    if numbers.dtype.kind not in "iu":
        raise InputError(f"ids and lengths must be whole numbers, not {numbers.dtype}")
    return np.ascontiguousarray(numbers, np.int64)


def _spec(config: ModelConfig) -> Any:
    return _native.Spec(
        _number_of(CELLS[config.cell]),
        config.vocab_size,
        config.embedding_size or 0,
        config.hidden_size,
        config.num_layers,
        config.tie_weights,
    )
