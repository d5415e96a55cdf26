"""The loops in C++ (csrc/): the functions of :mod:`elman.kernels.reference`, with the same signatures."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import elman.kernels._native as _native
from elman.cells import Arrays, Cell, gru, lstm, rnn
from elman.errors import KernelError

_CELL_NUMBERS: dict[Any, int] = {  # CellKind in csrc/cells.h, by the function whose equations it repeats
    rnn.forward_tanh: 0,
    rnn.forward_relu: 1,
    gru.forward: 2,
    lstm.forward: 3,
}


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


class NativeKernel:
    """The native functions with a number of threads (1 or more)."""

    NAME = "native"

    def __init__(self, threads: int):
        _native.use(instruction_set())
        self.threads = threads

    def recurrent_forward(
        self, cell: Cell, gates_x: np.ndarray, W_hh: np.ndarray, b_hn: np.ndarray | None, state: Arrays
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
        _native.recurrent_forward(
            number, gates_x, W_hh, b_hn, first[0], c_first, outputs, gates, c, extra, self.threads
        )
        last = (outputs[-1],) if c is None else (outputs[-1], c[-1])
        return outputs, tuple(part.copy() for part in last), (first[0], c_first, outputs, gates, c, extra)

    def recurrent_backward(
        self, cell: Cell, d_outputs: np.ndarray, d_state: Arrays, W_hh: np.ndarray, saved: tuple
    ) -> tuple[np.ndarray, np.ndarray, Arrays]:
        """See :func:`elman.kernels.reference.recurrent_backward`."""
        h_first, c_first, outputs, gates, c, extra = saved
        T, B, H = outputs.shape
        d_first = tuple(np.array(part, outputs.dtype, order="C") for part in d_state)
        d_gates_x = np.empty((T, B, cell.gates * H), outputs.dtype)
        d_gates_h = np.empty_like(d_gates_x) if cell.hidden_bias else d_gates_x
        _native.recurrent_backward(
            _number_of(cell),
            np.ascontiguousarray(W_hh),
            h_first,
            c_first,
            outputs,
            gates,
            c,
            extra,
            np.ascontiguousarray(d_outputs, outputs.dtype),
            d_first[0],
            d_first[1] if len(d_first) > 1 else None,
            d_gates_x,
            d_gates_h,
            self.threads,
        )
        return d_gates_x, d_gates_h, d_first

    def gather_rows(self, table: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """See :func:`elman.kernels.reference.gather_rows`."""
        if ids.size > len(table):
            table = np.ascontiguousarray(table)
        rows = np.empty((*ids.shape, table.shape[1]), table.dtype)
        _native.gather_rows(table, np.ascontiguousarray(ids, np.int64), rows, self.threads)
        return rows

    def scatter_add_rows(self, d_rows: np.ndarray, ids: np.ndarray, num_rows: int) -> np.ndarray:
        """See :func:`elman.kernels.reference.scatter_add_rows`."""
        d_rows = np.ascontiguousarray(d_rows.reshape(ids.size, -1))
        d_table = np.zeros((num_rows, d_rows.shape[1]), d_rows.dtype)
        _native.scatter_add_rows(d_rows, np.ascontiguousarray(ids, np.int64), d_table, self.threads)
        return d_table

    def cross_entropy_forward(self, logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :func:`elman.kernels.reference.cross_entropy_forward`."""
        logits = np.ascontiguousarray(logits)
        losses, probabilities = np.empty(len(logits), logits.dtype), np.empty_like(logits)
        _native.cross_entropy_forward(
            logits, np.ascontiguousarray(targets, np.int64), losses, probabilities, self.threads
        )
        return losses, probabilities

    def cross_entropy_backward(self, probabilities: np.ndarray, targets: np.ndarray, scale: float) -> np.ndarray:
        """See :func:`elman.kernels.reference.cross_entropy_backward`."""
        d_logits = np.empty_like(probabilities)
        _native.cross_entropy_backward(
            probabilities, np.ascontiguousarray(targets, np.int64), scale, d_logits, self.threads
        )
        return d_logits
