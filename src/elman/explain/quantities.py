"""What there is to show of an unrolled model: vectors under unique keys, each with its equation and line of code."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.explain import source
from elman.explain.source import Origin
from elman.explain.unroll import LayerStep, Step, Unrolled
from elman.models import LanguageModel

_TUTORIAL_NAMES = {
    "x": "xs",
    "h": "hs",
    "logits": "ys",
    "probabilities": "ps",
    "d_logits": "dy",
    "d_h": "dh",
    "d_a": "dhraw",
    "d_h_prev": "dhnext",
}


@dataclass(frozen=True)
class _Place:
    """A vector of a layer, or a gate's block of it: its name in the equations, and what it is of in the code."""

    name: str
    whole: str
    backward: bool
    block: int | None
    vector: np.ndarray


class Quantities:
    """The quantities of a model, in the order of the computation.

    The keys are ``one_hot``, ``x`` (of an embedding), ``layers.{l}.{name}``, ``logits``, ``probabilities``, ``loss``
    and ``d_logits``; the vectors of all gates are there gate by gate, under the names of the equations.
    """

    def __init__(self, model: LanguageModel, unrolled: Unrolled):
        self._model, self._first, self._shapes = model, unrolled.steps[0], unrolled.parameters
        self._own_x = model.config.embedding_size is not None
        self._direct = "d_h_prev" in source.equations(model.cell.backward, True)

    def values(self, step: Step) -> dict[str, list[float]]:
        """The numbers of one step by key, each quantity a list."""
        return {key: vector.tolist() for key, vector in self._vectors(step)}

    def quantities(self) -> dict[str, dict[str, Any]]:
        """By key: name, part ("input", "layer 0", …, "output"), direction, equation, file, line, code, and tutorial.

        direction: "forward" or "backward"; tutorial: what tutorials 2 to 4 call it, None where they do not.
        """
        found = {"one_hot": self._described("one_hot", "input", False, source.outside_origin("one_hot"))}
        if self._own_x:
            found["x"] = self._described("x", "input", False, source.outside_origin("x of an embedding"))
        for layer, values in enumerate(self._first.layers):
            blocks: dict[str, _Place] = {}
            for place in self._places(values, layer):
                if place.block is not None:
                    blocks[place.name] = place
                origin = self._origin(place, layer)
                if place.name in blocks:  # also a local name of the code for a block, such as h_n
                    origin = self._as_block(origin, blocks[place.name], layer)
                described = self._described(place.name, f"layer {layer}", place.backward, origin)
                found[f"layers.{layer}.{place.name}"] = described
        for name in ("logits", "probabilities", "loss", "d_logits"):
            found[name] = self._described(name, "output", name == "d_logits", source.outside_origin(name))
        return found

    def parameters(self) -> dict[str, dict[str, Any]]:
        """By name: shape, and of the gradient equation, file, line, code and ``factors``.

        factors: pairs of keys, whose outer products every step adds to the gradient; the first are several where the
        gates lie one after the other, the second is None for a bias.
        """
        keys = {_address(vector): key for key, vector in self._vectors(self._first)}
        H = self._model.config.hidden_size

        def covering(vector: np.ndarray) -> list[str]:
            blocks = [vector] if _address(vector) in keys else np.split(vector, len(vector) // H)
            return [keys[_address(block)] for block in blocks]

        return {
            name: {
                "shape": list(array.shape),
                **dataclasses.asdict(self._named(source.outside_origin(self._gradient_key(name)))),
                "factors": [
                    [covering(rows), None if columns is None else covering(columns)[0]]
                    for rows, columns in self._first.factors[name]
                ],
            }
            for name, array in self._shapes.items()
        }

    def _vectors(self, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        yield "one_hot", step.one_hot
        if self._own_x:
            yield "x", step.x
        for layer, values in enumerate(step.layers):
            yield from ((f"layers.{layer}.{place.name}", place.vector) for place in self._places(values, layer))
        yield from (("logits", step.logits), ("probabilities", step.probabilities))
        yield from (("loss", np.array([step.loss])), ("d_logits", step.d_logits))

    def _places(self, values: LayerStep, layer: int) -> Iterator[_Place]:
        """The vectors of a layer; those of all gates gate by gate."""
        H, gate_names = self._model.config.hidden_size, self._model.cell.gate_names
        for backward, vectors in ((False, values.forward), (True, values.backward)):
            for name, vector in vectors.items():
                if (name == "x" and layer == 0) or (name == "d_h_direct" and not self._direct):
                    continue
                if name in ("x", "d_x") or len(vector) == H:
                    yield _Place(name, name, backward, None, vector)
                    continue
                for block, gate in enumerate(gate_names):
                    part = vector[block * H : (block + 1) * H]
                    yield _Place(source.block_name(name, gate), name, backward, block, part)

    def _described(self, name: str, part: str, backward: bool, origin: Origin) -> dict[str, Any]:
        tutorial = _TUTORIAL_NAMES.get("x" if name == "one_hot" else name) if self._model.cell.gates == 1 else None
        direction = "backward" if backward else "forward"
        return {
            "name": name,
            "part": part,
            "direction": direction,
            **dataclasses.asdict(self._named(origin)),
            "tutorial": tutorial,
        }

    def _origin(self, place: _Place, layer: int) -> Origin:
        last = layer + 1 == self._model.config.num_layers
        special = {
            ("x", True): "x of a layer below",
            ("gates_h", self._model.cell.hidden_bias): "gates_h with b_hn",
            ("d_outputs", not last): "d_outputs of a layer above",
            ("d_h_prev", self._direct): "d_h_prev with d_h_direct",
        }
        key = special.get((place.whole, True), place.whole)
        if key in source.OUTSIDE:
            return source.outside_origin(key)
        return source.cell_origin(self._model.cell, place.backward, place.whole, place.block)

    def _as_block(self, origin: Origin, place: _Place, layer: int) -> Origin:
        """Its origin, and what it is a block of."""
        whole, gate = self._origin(place, layer).equation, self._model.cell.gate_names[place.block or 0]
        defined = whole.startswith(f"{place.whole} = ")
        block = f"{place.name} is block {gate} of {whole if defined else place.whole}"
        own = defined and origin.equation == whole
        return dataclasses.replace(origin, equation=block if own else f"{origin.equation}; {block}")

    def _gradient_key(self, name: str) -> str:
        short = name.rpartition(".")[2]
        if name == "recurrent.layers.0.W_xh" and not self._own_x:
            return "W_xh of one-hot"
        return "E of tied weights" if short == "E" and self._model.config.tie_weights else short

    def _named(self, origin: Origin) -> Origin:
        """With the name that the cell has for the gradient of all gates, such as d_a."""
        if self._model.cell.hidden_bias:
            return origin
        d_gates = self._first.factors["recurrent.layers.0.b_h"][0][0]
        own = next(name for name, vector in self._first.layers[0].backward.items() if vector is d_gates)
        equation = origin.equation.replace("d_gates_x", own).replace("d_gates_h", own)
        return dataclasses.replace(origin, equation=equation)


def _address(vector: np.ndarray) -> tuple[int, int]:
    return vector.__array_interface__["data"][0], vector.size
