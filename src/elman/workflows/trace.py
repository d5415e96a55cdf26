"""A small model unrolled over a text: every number of forward and backward, with its equation and its line of code."""

from __future__ import annotations

import dataclasses
import itertools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from elman.config import ModelConfig, shown
from elman.engines import open_engine
from elman.errors import InputError, NonFiniteError
from elman.explain.quantities import Quantities
from elman.explain.unroll import Unrolled, unroll
from elman.models import LanguageModel
from elman.optimizers import Adagrad
from elman.text.items import lines
from elman.text.tokenizers import Tokenizer
from elman.text.tokenizers.char import CharTokenizer
from elman.text_model import load

MOST_TOKENS = 101  # 100 steps
MOST_UPDATES = 100_000
_MOST_HIDDEN, _MOST_LAYERS, _MOST_SYMBOLS = 512, 8, 1000
_LARGEST_ARRAY = 10_000  # entries of a weight whose numbers are in a record: tutorial 3's W_hh
_MOST_NUMBERS = 1_000_000  # in a record
_DEFAULTS: dict[str, Any] = {
    "cell": "rnn",
    "hidden_size": 3,
    "num_layers": 1,
    "embedding_size": None,
    "initialization": "uniform",
}


def trace(
    text: str = "hello",
    cell: str | None = None,
    hidden_size: int | None = None,
    num_layers: int | None = None,
    embedding_size: int | None = None,
    initialization: str | None = None,
    vocab: str | None = None,
    seed: int | None = None,
    updates: int = 0,
    model: str | Path | None = None,
    snapshots: int = 2,
    accumulated: bool = True,
) -> dict[str, Any]:
    """Unroll a model over a text, before and after so many updates on it.

    text: 2 to 101 tokens, each but the first the target of the one before. Without ``model`` (a run folder or model
    file) a fresh model with seed 0: an rnn of 3 units in one layer, one-hot input, weights U(-1/sqrt(H), 1/sqrt(H)).
    vocab: its symbols in the order of their ids; without it the characters of the text in the order in which they come.
    ``updates``: tutorial 1's, on the whole text from the zero state: Adagrad 0.1, gradients clipped at 5, summed loss.
    ``snapshots``: 2 or more, how many states of the training at most are shown, the first and the last among them.

    -> a record that JSON can hold. ``symbols`` and ``glyphs`` (how to show them) by id; ``inputs`` and ``targets``,
    ids; ``gates``, the names of the blocks of H rows in W_xh and W_hh; ``quantities`` and ``parameters`` as in
    :class:`elman.explain.quantities.Quantities`; ``snapshots``, each with ``update``, ``loss``, ``parameters``,
    ``gradients`` and ``steps``, whose ``values`` are by key and whose ``accumulated`` are the gradients after that step
    of the way back, from the last step to the first (left out without ``accumulated``). Weights of more than 10,000
    entries, and their gradients, are left out, and ``notes`` says so.

    Raises InputError for a text, size or option that cannot be used, ModelFileError for an unusable model,
    NonFiniteError where a number is NaN or infinite.
    """
    _check_counts(updates, snapshots)
    given = {
        "cell": cell,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "embedding_size": embedding_size,
        "initialization": initialization,
    }
    notes: list[str] = []
    if model is None:
        opened, tokenizer, ids = _fresh(text, {n: v for n, v in given.items() if v is not None}, vocab, seed or 0)
    else:
        asked = [name for name, value in {**given, "vocab": vocab, "seed": seed}.items() if value is not None]
        opened, tokenizer, ids = _opened(text, Path(model), asked, notes)
    if os.path.isfile(text):  # noqa: PTH113 - Path.is_file raises for a text too long to be a name
        notes.append(f"there is a file {shown(text)}; a trace reads the text that is given, not a file")
    _check_sizes(opened.config, len(ids))
    each, least = _numbers(opened, len(ids) - 1, accumulated), min(2, updates + 1)
    if least * each > _MOST_NUMBERS:
        raise InputError(
            f"a trace of {len(ids) - 1} steps of this model would have {least * each:,} numbers, of at most "
            f"{_MOST_NUMBERS:,}: take a shorter text or a smaller model"
        )
    left_out = [name for name, array in opened.parameters.items() if array.size > _LARGEST_ARRAY]
    notes += [f"{name} has {opened.parameters[name].size:,} entries, too many to list" for name in left_out]
    shots: list[dict[str, Any]] = []
    for update in _train(opened, ids, np.linspace(0, updates, min(snapshots, _MOST_NUMBERS // each))):
        with np.errstate(all="ignore"):  # what is not finite is reported instead
            unrolled = unroll(opened, ids[:-1], ids[1:])
        _check_finite(unrolled, update)
        described = Quantities(opened, unrolled)
        shots.append(
            {
                "update": update,
                "loss": unrolled.loss,
                "parameters": _listed(unrolled.parameters, left_out),
                "gradients": _listed(unrolled.gradients, left_out),
                "steps": _steps(described, unrolled, left_out, accumulated),
            }
        )
    config = opened.config
    return {
        "text": text,
        "symbols": [tokenizer.describe(token) for token in range(tokenizer.vocab_size)],
        "glyphs": [glyphs(tokenizer.describe(token)) for token in range(tokenizer.vocab_size)],
        "inputs": ids[:-1].tolist(),
        "targets": ids[1:].tolist(),
        "cell": config.cell,
        "gates": list(opened.cell.gate_names),
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "embedding_size": config.embedding_size,
        "tie_weights": config.tie_weights,
        "initialization": None if model else config.initialization,
        "seed": None if model else seed or 0,
        "model": None if model is None else str(model),
        "updates": updates,
        "notes": notes,
        "quantities": described.quantities(),
        "parameters": described.parameters(),
        "snapshots": shots,
    }


def glyphs(symbol: str) -> str:
    """A symbol as it can be shown anywhere: escapes for what is not printable or combines, ␣ for a space."""

    def one(character: str) -> str:
        if character == " ":
            return "␣"
        if character.isprintable() and not unicodedata.category(character).startswith("M"):
            return character
        return character.encode("unicode_escape").decode()

    return "".join(map(one, symbol))


def _check_counts(updates: int, snapshots: int) -> None:
    if isinstance(updates, bool) or not isinstance(updates, int) or not 0 <= updates <= MOST_UPDATES:
        raise InputError(f"the updates must be a whole number from 0 to {MOST_UPDATES:,}, not {updates!r}")
    if snapshots < 2:
        raise InputError(f"snapshots must be 2 or more, not {snapshots!r}")


def _fresh(
    text: str, given: dict[str, Any], vocab: str | None, seed: int
) -> tuple[LanguageModel, Tokenizer, np.ndarray]:
    """A model with random weights, its symbols, and the ids of the text (N,)."""
    _check_length(len(text), "characters")
    if vocab == "":
        raise InputError("vocab is empty: give its symbols")
    characters = "".join(dict.fromkeys(text)) if vocab is None else vocab
    repeated = [character for n, character in enumerate(characters) if character in characters[:n]]
    if repeated:
        raise InputError(f"the vocabulary has {repeated[0]!r} twice: give each symbol once")
    missing = [character for character in dict.fromkeys(text) if character not in characters]
    if missing:
        raise InputError(
            f"the text has {missing[0]!r}, which is not in the vocabulary {shown(characters)}: add it there"
        )
    tokenizer = CharTokenizer(characters, unknown=False)
    config = ModelConfig(tokenizer.vocab_size, dtype="float64", **{**_DEFAULTS, **given})
    _check_sizes(config, len(text))  # before memory is asked for
    return LanguageModel(config, seed, kernel="numpy"), tokenizer, tokenizer.encode(text).astype(np.int64)


def _opened(text: str, path: Path, asked: list[str], notes: list[str]) -> tuple[LanguageModel, Tokenizer, np.ndarray]:
    """The model of a file, in float64, its tokenizer, and the ids of the text (N,); nothing may be ``asked`` of it."""
    opened = load(path, kernel="numpy")
    tokenizer, config = opened.tokenizer, opened.language_model.config
    if asked:
        known = {name: getattr(config, name) for name in ("cell", "hidden_size", "num_layers")}
        settled = "; ".join(
            f"{name} is the model's own" + (f" ({known[name]})" if name in known else "") for name in asked
        )
        raise InputError(f"{settled}: leave {'it' if len(asked) == 1 else 'them'} out")
    try:
        whole = "".join(lines([text], "the text")) if opened.as_items else text
        ids = tokenizer.encode(whole).astype(np.int64)
    except InputError as error:  # its advice is other commands'
        raise InputError(str(error).partition("; leave it out")[0] + ": leave it out") from None
    _check_length(len(ids), "tokens")
    if tokenizer.unknown_id is not None and tokenizer.unknown_id in ids:
        notes.append("what the model never saw is <unk>")
    if opened.as_items:
        notes.append("the text is an item: a line end stands before it and after it")
    if config.dtype != "float64":
        notes.append(f"the weights are {config.dtype}; they are computed with in float64")
    if config.dropout > 0:
        notes.append(f"the dropout of {config.dropout:g} is left out")
    exact = opened.language_model.in_float64()
    exact.config = dataclasses.replace(exact.config, dropout=0.0)
    return exact, tokenizer, ids


def _check_length(length: int, what: str) -> None:
    if length < 2:
        raise InputError(f"a trace needs a text of at least 2 {what}, this one has {length}")
    if length > MOST_TOKENS:
        raise InputError(f"a trace is for at most {MOST_TOKENS} {what}, this text has {length:,}: take a part of it")


def _check_sizes(config: ModelConfig, length: int) -> None:
    for name, size, most in (
        ("hidden_size", config.hidden_size, _MOST_HIDDEN),
        ("num_layers", config.num_layers, _MOST_LAYERS),
        ("embedding_size", config.embedding_size or 1, _MOST_HIDDEN),
        ("vocab_size", config.vocab_size, _MOST_SYMBOLS),
    ):
        if size > most:
            raise InputError(f"a trace shows models with {name} up to {most:,}, not {size:,}: take a smaller one")


def _numbers(model: LanguageModel, steps: int, accumulated: bool) -> int:
    """About how many numbers one snapshot has."""
    config = model.config
    vectors = config.num_layers * config.hidden_size * (8 * model.cell.gates + 12) + 5 * config.vocab_size
    weights = sum(array.size for array in model.parameters.values() if array.size <= _LARGEST_ARRAY)
    return steps * (vectors + accumulated * weights) + 2 * weights


def _train(model: LanguageModel, ids: np.ndarray, stops: np.ndarray) -> Iterator[int]:
    """Train up to each of ``stops``, numbers of updates that are rounded, and yield it."""
    engine = open_engine(model=model, optimizer=Adagrad(0.1), clip_value=5.0, reduction="sum")
    inputs, targets, done = ids[:-1, np.newaxis], ids[1:, np.newaxis], 0
    for stop in sorted({round(float(stop)) for stop in stops}):
        for _ in range(stop - done):
            engine.state = None
            engine.step(inputs, targets)
        done = stop
        yield stop


def _check_finite(unrolled: Unrolled, update: int) -> None:
    arrays = [*unrolled.gradients.values(), np.array(unrolled.loss)]
    for step in unrolled.steps:
        vectors = [list(names.values()) for layer in step.layers for names in (layer.forward, layer.backward)]
        arrays += [step.logits, *itertools.chain.from_iterable(vectors)]
    if not all(np.isfinite(array).all() for array in arrays):
        raise NonFiniteError(f"after {update:,} updates a number of this model is NaN or infinite: it has no trace")


def _listed(arrays: dict[str, np.ndarray], left_out: list[str]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in arrays.items() if name not in left_out}


def _steps(
    described: Quantities, unrolled: Unrolled, left_out: list[str], accumulated: bool
) -> list[dict[str, dict[str, Any]]]:
    steps: list[dict[str, Any]] = [{"values": described.values(step)} for step in unrolled.steps]
    if accumulated:
        for t, sums in unrolled.accumulated():
            steps[t]["accumulated"] = _listed(sums, left_out)
    return steps
