"""Training in bf16, the definition of correct: the reference kernel, the operands of each product rounded to bfloat16.

Products and sums of the rounded operands are float32's, as is everything else: gathers, activations, softmax, biases.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from elman.cells import Arrays, Cell
from elman.kernels import reference
from elman.kernels.reference import gather_rows, scatter_add_rows  # noqa: F401  a gather is no product here

NAME = "numpy"


def rounded(x: np.ndarray) -> np.ndarray:
    """float32 numbers of any shape -> the nearest that bfloat16 has, of two as near the even one, as float32.

    bfloat16 is float32 with 8 bits of precision instead of 24. Numbers below 2^-126 become 0, as in the processors that
    compute with it; NaN stays NaN.
    """
    x = np.ascontiguousarray(x, np.float32)
    bits = x.view(np.uint32)
    nearest = ((bits + (0x7FFF + (bits >> 16 & 1)).astype(np.uint32)) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.float32(0), np.where(np.isnan(x), x, nearest))


class _Rounded(np.ndarray):
    """An array whose matrix products, on either side, take both operands rounded."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        operands = [np.asarray(x) for x in inputs]
        if ufunc is np.matmul:
            operands = [rounded(x) for x in operands]
        return getattr(ufunc, method)(*operands, **options)


def recurrent_forward(
    cell: Cell,
    gates_x: np.ndarray,
    W_hh: np.ndarray,
    b_hn: np.ndarray | None,
    state: Arrays,
    lengths: np.ndarray | None = None,
) -> tuple[np.ndarray, Arrays, tuple]:
    """See :func:`elman.kernels.reference.recurrent_forward`."""
    return reference.recurrent_forward(cell, gates_x, W_hh.view(_Rounded), b_hn, state, lengths)


def recurrent_backward(
    cell: Cell, d_outputs: np.ndarray, d_state: Arrays, W_hh: np.ndarray, saved: tuple
) -> tuple[np.ndarray, np.ndarray, Arrays]:
    """See :func:`elman.kernels.reference.recurrent_backward`."""
    return reference.recurrent_backward(cell, d_outputs, d_state, W_hh.view(_Rounded), saved)


def product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """See :func:`elman.kernels.reference.product`."""
    return rounded(A) @ rounded(B)


def output_losses(W_hy: np.ndarray, b_y: np.ndarray, rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """See :func:`elman.kernels.reference.output_losses`."""
    return reference.output_losses(W_hy.view(_Rounded), b_y, rows, targets)


def output_gradients(
    W_hy: np.ndarray, b_y: np.ndarray, rows: np.ndarray, targets: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """See :func:`elman.kernels.reference.output_gradients`."""
    return reference.output_gradients(W_hy.view(_Rounded), b_y, rows.view(_Rounded), targets, scale)
