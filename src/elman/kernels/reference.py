"""The loops in NumPy: readable, and the definition of correct for every other kernel.

T time steps, B streams, H hidden units, G gates, V rows of a table, N = T·B; see ARCHITECTURE.md for the legend.
"""

from __future__ import annotations

import numpy as np

from elman.cells import Arrays, Cell

NAME = "numpy"


def recurrent_forward(
    cell: Cell,
    gates_x: np.ndarray,
    W_hh: np.ndarray,
    b_hn: np.ndarray | None,
    state: Arrays,
    lengths: np.ndarray | None = None,
) -> tuple[np.ndarray, Arrays, tuple]:
    """Run a cell over time.

    gates_x (T, B, G·H), W_hh (G·H, H), b_hn (H) or None, state parts (B, H); lengths (B), from 1 to T: a stream is over
    after so many steps, its outputs are 0 and its state stays as it is; None: all have T steps
    -> outputs (T, B, H), state after the last step, what is saved for backward.
    """
    T, B, _ = gates_x.shape
    H = W_hh.shape[1]
    outputs = np.empty((T, B, H), gates_x.dtype)
    saved = []
    for t in range(T):
        gates_h = state[0] @ W_hh.T
        if b_hn is not None:
            gates_h[:, -H:] += b_hn
        new_state, saved_t = cell.forward(gates_x[t], gates_h, state)
        state = new_state if lengths is None else _where(t < lengths, new_state, state)
        outputs[t] = state[0]
        saved.append(saved_t)
    if lengths is not None:
        outputs[_over(T, lengths)] = 0
    return outputs, state, (saved, lengths)


def recurrent_backward(
    cell: Cell, d_outputs: np.ndarray, d_state: Arrays, W_hh: np.ndarray, saved: tuple
) -> tuple[np.ndarray, np.ndarray, Arrays]:
    """Run a cell's backward from the last step to the first (back-propagation through time, P. Werbos 1990).

    d_outputs (T, B, H), d_state parts (B, H) of the state after the last step
    -> d_gates_x and d_gates_h (T, B, G·H), one array where the cell makes no difference between them, and
    d_state of the state before the first step.
    """
    steps, lengths = saved
    T, B, _ = d_outputs.shape
    d_gates_x = np.empty((T, B, W_hh.shape[0]), d_outputs.dtype)
    d_gates_h = np.empty_like(d_gates_x) if cell.hidden_bias else d_gates_x
    for t in reversed(range(T)):
        d_h = d_state[0] + d_outputs[t]
        d_gates_x[t], d_gates_h[t], (d_h_direct, *d_rest) = cell.backward((d_h, *d_state[1:]), steps[t])
        d_prev = (d_h_direct + d_gates_h[t] @ W_hh, *d_rest)
        d_state = d_prev if lengths is None else _where(t < lengths, d_prev, d_state)
    if lengths is not None:
        d_gates_x[_over(T, lengths)] = d_gates_h[_over(T, lengths)] = 0
    return d_gates_x, d_gates_h, d_state


def _where(on: np.ndarray, new: Arrays, old: Arrays) -> Arrays:
    """Parts (B, H) of the new state for the streams that are on (B), of the old one for the others."""
    return tuple(np.where(on[:, np.newaxis], a, b) for a, b in zip(new, old, strict=True))


def _over(T: int, lengths: np.ndarray) -> np.ndarray:
    """(T, B): whether a stream is over at a step."""
    return np.arange(T)[:, np.newaxis] >= lengths


def gather_rows(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Rows of ``table`` (V, C) at ``ids`` of any shape: the product of one-hot vectors with it -> ids.shape + (C,)."""
    if ids.size > len(table):
        table = np.ascontiguousarray(table)  # a transposed weight: copying V rows is cheaper than N strided reads
    return table[ids]


def scatter_add_rows(d_rows: np.ndarray, ids: np.ndarray, num_rows: int) -> np.ndarray:
    """Gradient of gather_rows: add each row of d_rows (…, C) into row ``ids`` of a zero table -> (num_rows, C).

    One sum for each distinct id: np.add.at does the same in one line, twelve times as slowly (docs/log.md).
    """
    d_rows, ids = d_rows.reshape(ids.size, -1), ids.ravel()
    d_table = np.zeros((num_rows, d_rows.shape[1]), d_rows.dtype)
    order = np.argsort(ids, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(ids[order])) + 1)
    for group in groups:
        d_table[ids[group[0]]] = d_rows[group].sum(axis=0)
    return d_table


def product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """The matrix product of A (M, K) and B (K, N), which may be transposed views -> (M, N)."""
    return A @ B


def output_losses(W_hy: np.ndarray, b_y: np.ndarray, rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Softmax cross-entropy of rows (N, H) W_hyᵀ + b_y against targets (N,), -1 not scored -> nats (N,), 0 there.

    W_hy (V, H), b_y (V,).
    """
    losses, _ = _cross_entropy(rows @ W_hy.T + b_y, targets)
    return losses


def output_gradients(
    W_hy: np.ndarray, b_y: np.ndarray, rows: np.ndarray, targets: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same losses, and the gradients of ``scale`` times their sum -> losses, d_rows, d_W_hy, d_b_y."""
    losses, probabilities = _cross_entropy(rows @ W_hy.T + b_y, targets)
    d_logits = probabilities
    d_logits[np.arange(len(targets)), targets] -= 1  # p - one_hot(target)
    d_logits[targets < 0] = 0
    d_logits *= scale
    return losses, d_logits @ W_hy, d_logits.T @ rows, d_logits.sum(axis=0)


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted)
    total = probabilities.sum(axis=1, keepdims=True)
    probabilities /= total
    rows = np.arange(len(targets))
    losses = np.log(total[:, 0]) - shifted[rows, targets]  # a target of -1 reads the last column, and goes next
    losses[targets < 0] = 0
    return losses, probabilities
