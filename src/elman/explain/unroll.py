"""A model unrolled over a few tokens: every number of one forward and one backward pass, in order.

The numbers are recorded while ``LanguageModel.loss_and_gradients`` runs, in float64 on the NumPy kernel; the loss is
the sum over the tokens, as in the tutorials. What the code computes for all steps in one product, the gradients of the
weights, is here taken apart into what each step adds to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.cells import Arrays, Cell
from elman.explain.recording import Call, recording
from elman.explain.source import slopes
from elman.kernels import reference
from elman.layers.stack import State, as_array, state_parts
from elman.models import LanguageModel

Vectors = dict[str, np.ndarray]


@dataclass(frozen=True)
class LayerStep:
    """One layer at one time step: vectors by the names of the code, (H,) or, for all gates at once, (G·H,).

    forward: x (I,), ``h_prev`` (and ``c_prev``), ``gates_x``, ``gates_h`` and every local name of the cell's forward.
    backward: ``d_outputs``, from the output or the layer above; ``d_h_next`` (and ``d_c_next``), from the step after;
    every local name of the cell's backward, and the derivatives in it that have none, such as ``1 - h * h``;
    ``d_gates_x`` and ``d_gates_h`` where these have no other name; ``d_h_direct``, what reaches h_prev past the gates;
    ``d_h_prev`` (and ``d_c_prev``), what goes to the step before; and ``d_x`` where the input is no one-hot vector.
    """

    forward: Vectors
    backward: Vectors


@dataclass(frozen=True)
class Step:
    """One time step: ``input`` and ``target`` are ids (-1: not scored), ``one_hot`` (V,) stands for the input.

    ``x`` is ``one_hot``, or the input's row of the embedding (E,). ``layers`` are from the lowest to the last.
    ``logits``, ``probabilities``, ``d_logits`` (V,); ``loss`` in nats, 0 where not scored.

    ``factors``: for each parameter the pairs whose outer products this step adds to its gradient; the second of a pair
    is None for a bias.
    """

    input: int
    target: int
    one_hot: np.ndarray
    x: np.ndarray
    layers: tuple[LayerStep, ...]
    logits: np.ndarray
    probabilities: np.ndarray
    loss: float
    d_logits: np.ndarray
    factors: dict[str, list[tuple[np.ndarray, np.ndarray | None]]]


@dataclass(frozen=True)
class Unrolled:
    """``steps`` in the order of time, ``loss``, their sum in nats, and ``gradients`` as the code computed them.

    ``parameters``: what all this was computed with, float64; ``state``: the one after the last step.
    """

    steps: tuple[Step, ...]
    loss: float
    gradients: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    state: State

    def accumulated(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The gradients as they grow on the way back: (t, sums over the steps t and later), from t = T - 1 to 0.

        The last are ``gradients``, but for rounding.
        """
        sums = {name: np.zeros_like(gradient) for name, gradient in self.gradients.items()}
        for t, step in reversed(list(enumerate(self.steps))):
            for name, pairs in step.factors.items():
                for rows, columns in pairs:
                    sums[name] = sums[name] + (rows if columns is None else np.outer(rows, columns))
            yield t, dict(sums)


def unroll(model: LanguageModel, inputs: Any, targets: Any, state: State = None) -> Unrolled:
    """Every number of a forward and a backward pass.

    inputs (T,) ids, T 1 or more; targets (T,) ids, -1 for not scored; state before the first step, parts (L, 1, H),
    None for zeros. The model stays as it is; one in float32 is computed with in float64. No dropout.

    Raises InputError for an id outside the vocabulary or another shape.
    """
    exact = model.in_float64()
    ids, wanted = (as_array(name, each)[..., np.newaxis] for name, each in (("inputs", inputs), ("targets", targets)))
    cell, equation = exact.cell, reference._cross_entropy
    functions = (cell.forward, cell.backward, reference.recurrent_backward, equation, reference.output_gradients)
    with recording(*functions) as calls:
        loss, gradients, last = exact.loss_and_gradients(ids, wanted, state, reduction="sum")
    ups, downs, loops, (scores,), (output,) = (
        [call for call in calls if call.function is function] for function in functions
    )

    T, weights = len(ids), exact.parameters
    one_hot = np.eye(exact.config.vocab_size)[ids[:, 0]]
    first_x = xs = weights["embedding.E"][ids[:, 0]] if "embedding.E" in weights else one_hot
    before = state_parts(exact.check_state(state, 1))
    layers: list[list[LayerStep]] = []
    factors: list[dict[str, Any]] = [{} for _ in range(T)]
    for layer in range(exact.config.num_layers):
        own = f"recurrent.layers.{layer}."
        above = exact.config.num_layers - 1 - layer  # the last layer's backward came first
        calls_up, calls_down = ups[layer * T : (layer + 1) * T], downs[above * T : (above + 1) * T][::-1]
        forward = _forward(cell, xs, tuple(part[layer] for part in before), calls_up)
        matrices = None if xs is one_hot else weights[own + "W_xh"], weights[own + "W_hh"]
        backward = _backward(cell, loops[above].values["d_outputs"][:, 0], matrices, forward, calls_down)
        layers.append([LayerStep(*pair) for pair in zip(forward, [names for names, _, _ in backward], strict=True)])
        for t, (_, d_gates_x, d_gates_h) in enumerate(backward):
            factors[t][own + "W_xh"] = [(d_gates_x, forward[t]["x"])]
            factors[t][own + "W_hh"] = [(d_gates_h, forward[t]["h_prev"])]
            factors[t][own + "b_h"] = [(d_gates_x, None)]
            if cell.hidden_bias:
                factors[t][own + "b_hn"] = [(d_gates_h[-exact.config.hidden_size :], None)]
        xs = np.stack([names["h"] for names in forward])

    d_logits, tied = output.values["d_logits"], exact.config.tie_weights
    for t in range(T):
        if first_x is not one_hot:
            factors[t]["embedding.E"] = [(one_hot[t], layers[0][t].backward["d_x"])]
        W_hy = factors[t].setdefault("embedding.E" if tied else "output.W_hy", [])
        W_hy.append((d_logits[t], layers[-1][t].forward["h"]))
        factors[t]["output.b_y"] = [(d_logits[t], None)]
    steps = (
        Step(
            input=int(ids[t, 0]),
            target=int(wanted[t, 0]),
            one_hot=one_hot[t],
            x=first_x[t],
            layers=tuple(layer[t] for layer in layers),
            logits=scores.values["logits"][t],
            probabilities=scores.values["probabilities"][t],
            loss=float(scores.values["losses"][t]),
            d_logits=d_logits[t],
            factors={name: factors[t][name] for name in gradients},
        )
        for t in range(T)
    )
    return Unrolled(tuple(steps), loss, gradients, weights, last)


def _vectors(values: dict[str, Any]) -> Vectors:
    """The arrays (1, C) among local names, as vectors (C,)."""
    return {
        name: value[0]
        for name, value in values.items()
        if isinstance(value, np.ndarray) and value.ndim == 2 and not name.startswith("_")
    }


def _forward(cell: Cell, xs: np.ndarray, before: Arrays, calls: list[Call]) -> list[Vectors]:
    """The vectors of one layer's forward at every step; xs (T, I), the state parts before the first step (1, H)."""
    steps = []
    for x, call in zip(xs, calls, strict=True):
        previous = {f"{name}_prev": part[0] for name, part in zip(cell.states, before, strict=True)}
        steps.append({"x": x, **previous, **_vectors(call.values)})
        before = call.result[0]
    return steps


def _backward(
    cell: Cell,
    d_outputs: np.ndarray,
    matrices: tuple[np.ndarray | None, np.ndarray],
    forward: list[Vectors],
    calls: list[Call],
) -> list[tuple[Vectors, np.ndarray, np.ndarray]]:
    """The vectors of one layer's backward, d_gates_x and d_gates_h at every step.

    d_outputs (T, H); matrices W_xh (None where x is one-hot) and W_hh; the calls in the order of time.
    """
    W_xh, W_hh = matrices
    steps: list[tuple[Vectors, np.ndarray, np.ndarray]] = []
    d_next = tuple(np.zeros((1, W_hh.shape[1])) for _ in cell.states)
    for t in reversed(range(len(calls))):
        values, (all_d_gates_x, all_d_gates_h, d_direct) = calls[t].values, calls[t].result
        names = {"d_outputs": d_outputs[t]}
        names |= {f"d_{name}_next": part[0] for name, part in zip(cell.states, d_next, strict=True)}
        names["d_h"] = names["d_outputs"] + names["d_h_next"]  # its place in the order; the cell's own comes there
        for code in slopes(cell.backward):
            names[code] = np.asarray(eval(code, {}, values), np.float64)[0]
        names |= {name: vector for name, vector in _vectors(values).items() if name not in forward[t]}
        d_gates_x = names.setdefault(_name_of(all_d_gates_x, values, "d_gates_x"), all_d_gates_x[0])
        d_gates_h = names.setdefault(_name_of(all_d_gates_h, values, "d_gates_h"), all_d_gates_h[0])
        names["d_h_direct"] = d_direct[0][0]
        d_next = (d_direct[0] + all_d_gates_h @ W_hh, *d_direct[1:])  # as the loop does (kernels/reference.py)
        names |= {f"d_{name}_prev": part[0] for name, part in zip(cell.states, d_next, strict=True)}
        if W_xh is not None:
            names["d_x"] = d_gates_x @ W_xh
        steps.append((names, d_gates_x, d_gates_h))
    return steps[::-1]


def _name_of(array: np.ndarray, values: dict[str, Any], otherwise: str) -> str:
    return next((name for name, value in values.items() if value is array), otherwise)
