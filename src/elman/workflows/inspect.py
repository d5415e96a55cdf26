"""What a model does while it reads a text: its units, its predictions, its gates, and how far back its loss reaches."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elman.config import CellName
from elman.errors import InputError
from elman.explain import activations, reach, units
from elman.models import LanguageModel
from elman.text import items
from elman.text.sources import open_text
from elman.text.tokenizers import Tokenizer
from elman.text_model import TextModel, load
from elman.workflows.names import names
from elman.workflows.properties import properties

MAX_CHARACTERS = 20_000
MAX_UNITS = 512
_MAX_LEVELS = MAX_CHARACTERS * MAX_UNITS  # in a page, which then stays below 15 MB
_LISTED = 10  # units for each property
_LEAST = 10  # tokens that have a property, and that have it not, or it is not ranked
_FRESH: tuple[CellName, ...] = ("rnn", "gru", "lstm")
BULK = ("tokens", "unknown", "parts", "likeliest", "surprisal", "units", "levels")  # what only a page has use for


def inspect(
    path: str | Path,
    text: str | Path,
    max_characters: int = MAX_CHARACTERS,
    max_units: int | None = None,
    beside: Sequence[str | Path] = (),
    on_unknown: str = "unknown",
    encoding: str | None = None,
    encoding_errors: str = "strict",
    threads: int | None = None,
) -> dict[str, Any]:
    """Read the beginning of a text with a model, in one exact pass, and say what happened, as JSON can hold it.

    ``max_units``: how many hidden units the record has the activations of, the most interpretable ones; without it
    512, fewer where the text has more tokens than 20,000. ``beside``: further models, whose gradients are followed
    back in time as this one's are. -> a dict with

    - model (name, cell, num_layers, hidden_size, vocab_size, tokenizer, parameters), text (name, characters,
      characters_in_all, tokens), protocol (in words), notes, nats_per_token;
    - properties: each name, rule, chance (the largest score among labels that are moved), units (the best ten, each
      layer, unit, score from -1 to 1);
    - saturation: each gate, left, right (or None): shares (L, H);
    - reach: distance, windows, warm_up, lines (each name, norms for 0 … distance, relative to 0);
    - for the page, arrays as base64 (little endian): tokens (their text), unknown and parts (which are ``<unk>``, and
      which the first bytes of a character), surprisal (float32), likeliest (count, names, ids of so many bytes into
      names, probabilities uint16 / 65535), units ([layer, unit]), levels (zero, steps, and a uint8 array a unit; h is
      (level - zero) · step).

    Layers and units count from 0. Raises ModelFileError for an unusable model, InputError for an unusable text or
    option, NonFiniteError where the model's numbers are not finite.
    """
    for name, value in (("max_characters", max_characters), ("units", max_units)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be a whole number 1 or more, not {value}")
    model = load(path, "numpy", threads)
    others = [load(other, "numpy", threads) for other in beside]
    opened = open_text([text], encoding, encoding_errors)
    notes = list(opened.notes)
    content = _beginning(opened.read(0, max_characters), opened.characters, model.as_items)
    if len(content) < opened.characters:
        notes.append(
            f"only the first {len(content):,} of {opened.characters:,} characters are read; "
            f"for more give --max-characters"
        )
    ids, pieces, unseen = _encode(model, content, on_unknown)
    notes += unseen
    restarts = _restarts(model, ids)
    read = activations.read(model.language_model, ids, restarts)

    ranked, scores, left_out = _rank(read.hidden.levels, pieces, model.language_model.config.hidden_size)
    notes += left_out
    in_all = len(read.hidden.levels)
    kept = units.most_interpretable(scores, max_units or max(1, min(MAX_UNITS, _MAX_LEVELS // len(ids))))
    if len(kept) < in_all:
        notes.append(
            f"a page (--html) holds {len(kept)} of {in_all:,} hidden units, those that rank highest; "
            f"for more give --units"
        )
    config = model.language_model.config
    how = "every line from the zero state" if model.as_items else "one pass, state carried"
    named = names([path, *beside])
    where = reach.windows(len(ids), restarts)
    lines = [_line(named[0], model.language_model, ids, where)]
    lines += [_line(f"{cell}, untrained", reach.fresh(model.language_model, cell), ids, where) for cell in _FRESH]
    for name, other in zip(named[1:], others, strict=True):
        other_ids, _, unseen = _encode(other, content, on_unknown)
        notes += [f"{name}: {note}" for note in unseen if note not in notes]
        lines.append(
            _line(name, other.language_model, other_ids, reach.windows(len(other_ids), _restarts(other, other_ids)))
        )
        if other.tokenizer.to_json() != model.tokenizer.to_json():
            notes.append(f"{name} cuts the text by a tokenizer of its own, and its distances are in its own tokens")
    return {
        "model": {
            "name": named[0],
            "cell": config.cell,
            "num_layers": config.num_layers,
            "hidden_size": config.hidden_size,
            "vocab_size": config.vocab_size,
            "tokenizer": model.tokenizer.kind,
            "parameters": model.language_model.num_parameters,
        },
        "text": {
            "name": opened.name,
            "characters": len(content),
            "characters_in_all": opened.characters,
            "tokens": len(ids),
        },
        "protocol": f"{opened.name}, {how}",
        "notes": notes,
        "nats_per_token": float(np.mean(read.surprisal[1:])),
        "properties": ranked,
        "saturation": [
            {
                "gate": each.gate,
                "left": each.left.tolist(),
                "right": None if each.right is None else each.right.tolist(),
            }
            for each in read.saturation
        ],
        "reach": {
            "distance": where.distance,
            "windows": len(where.starts),
            "warm_up": where.warm_up,
            "lines": lines,
        },
        "tokens": [piece or model.tokenizer.describe(token) for piece, token in zip(pieces, ids.tolist(), strict=True)],
        "parts": [place for place, piece in enumerate(pieces) if not piece],
        "unknown": np.flatnonzero(ids == model.tokenizer.unknown_id).tolist(),
        "surprisal": _packed(read.surprisal.astype("<f4")),
        "likeliest": _likeliest(read, model.tokenizer),
        "units": [list(divmod(int(unit), config.hidden_size)) for unit in kept],
        "levels": {
            "zero": read.hidden.zero,
            "steps": read.hidden.step[kept].tolist(),
            "units": [_packed(read.hidden.levels[unit]) for unit in kept],
        },
    }


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what only a page has use for."""
    return {key: value for key, value in record.items() if key not in BULK}


def _beginning(content: str, characters: int, as_items: bool) -> str:
    """The characters that were read, of items without a last one that is cut."""
    if as_items and len(content) < characters and "\n" in content:
        return content[: content.rindex("\n") + 1]
    return content


def _encode(model: TextModel, content: str, on_unknown: str) -> tuple[np.ndarray, list[str], list[str]]:
    """A text as ids (N,), the text of each ('' for the first bytes of a character, the original for ``<unk>``), and
    notes of what the model never saw.
    """
    if model.as_items:
        content = "".join(items.lines([content], "the text"))
    tokenizer = model.tokenizer
    ids = tokenizer.encode(content, on_unknown).astype(np.int64)
    if len(ids) < 2:
        raise InputError(f"inspecting needs a text of at least 2 tokens, this one has {len(ids)}")
    unknown = iter(tokenizer.unknown_pieces(content) if on_unknown != "skip" else ())
    decoder = tokenizer.decoder()
    pieces = []
    for token in ids.tolist():
        piece = decoder.feed(token)
        if token == tokenizer.unknown_id:
            original = next(unknown, piece)
            piece = " " + original if piece.startswith(" ") and not original.startswith(" ") else original
        pieces.append(piece)
    return ids, pieces, _unseen(tokenizer, content, ids, pieces, on_unknown)


def _unseen(tokenizer: Tokenizer, content: str, ids: np.ndarray, pieces: list[str], on_unknown: str) -> list[str]:
    """A note of the ``<unk>`` among the tokens, or of the characters that are in none; no note where there are none."""
    if on_unknown == "skip":
        read = "".join(pieces)
        if tokenizer.to_json().get("word_splitter") == "whitespace":  # whose words have no blanks of their own
            content, read = ("".join(text.split()) for text in (content, read))
        count, in_all, kind, verb = len(content) - len(read), len(content), "characters", "were left out"
    else:
        count, in_all, kind, verb = int(np.sum(ids == tokenizer.unknown_id)), len(ids), "tokens", "are <unk>"
    share = f"{count / in_all:.1%}" if count >= in_all / 2000 else "below 0.1%"
    return [f"{count:,} of {in_all:,} {kind} ({share}) {verb}, which the model never saw"] if count else []


def _restarts(model: TextModel, ids: np.ndarray) -> list[int]:
    """Where the state goes back to zero: at the marks between items."""
    return np.flatnonzero(ids == model.tokenizer.line_end_id)[1:].tolist() if model.as_items else []


def _rank(
    levels: np.ndarray, pieces: list[str], hidden_size: int
) -> tuple[list[dict[str, Any]], np.ndarray, list[str]]:
    """Each property with its best units, the scores (properties, units), and notes of the properties left out."""
    ends = np.cumsum([len(piece) for piece in pieces])
    ranked, scores, left_out = [], [], []
    for each in properties("".join(pieces)):
        labels = each.values[np.maximum(ends - 1, 0)]  # what stands after the token's last character
        if _is_too_rare(labels):
            left_out.append(each.name)
            continue
        own, chance = units.separation(levels, labels)
        best = np.argsort(-np.abs(own), kind="stable")[:_LISTED]
        ranked.append(
            {
                "name": each.name,
                "rule": each.rule,
                "chance": chance,
                "units": [[*divmod(int(unit), hidden_size), float(own[unit])] for unit in best],
            }
        )
        scores.append(own)
    notes = [f"not ranked, for want of examples in this text: {', '.join(left_out)}"] if left_out else []
    return ranked, np.array(scores).reshape(len(scores), len(levels)), notes


def _is_too_rare(labels: np.ndarray) -> bool:
    """Whether fewer than ``_LEAST`` tokens have the property, or have it not; of numbers, are not the commonest."""
    _, counts = np.unique(labels, return_counts=True)
    most = int(counts.max())
    return len(labels) - most < _LEAST or (labels.dtype == np.bool_ and most < _LEAST)


def _line(name: str, model: LanguageModel, ids: np.ndarray, where: reach.Windows) -> dict[str, Any]:
    return {"name": name, "cell": model.config.cell, "norms": reach.reach(model, ids, where).tolist()}


def _likeliest(read: activations.Activations, tokenizer: Tokenizer) -> dict[str, Any]:
    known, places = np.unique(read.likeliest, return_inverse=True)
    return {
        "names": [tokenizer.describe(token) for token in known.tolist()],
        "count": read.likeliest.shape[1],
        "bytes": 2 if len(known) <= 1 << 16 else 4,
        "ids": _packed(places.astype("<u2" if len(known) <= 1 << 16 else "<u4")),
        "probabilities": _packed(np.rint(read.probabilities * 65535).astype("<u2")),
    }


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
