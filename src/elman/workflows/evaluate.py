"""Evaluation: a model file and a text -> how well the one predicts the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elman.text.sources import open_text
from elman.text_model import load


def evaluate(
    path: str | Path,
    text: str | Path,
    window: int | None = None,
    on_unknown: str = "unknown",
    encoding: str | None = None,
    encoding_errors: str = "strict",
    kernel: str = "auto",
    threads: int | None = None,
) -> dict[str, Any]:
    """Score a whole text in one exact pass that carries its state, or in cold windows.

    -> nats_per_token, bits_per_char, bits_per_byte, perplexity, tokens, characters, bytes, unknown_tokens, spelling (as
    in Score), window, protocol (in words) and notes (on how the text was read). Raises ModelFileError for an unusable
    model, InputError for an unusable text.
    """
    model = load(path, kernel, threads)
    opened = open_text([text], encoding, encoding_errors)
    score = model.score(opened.read(), window, on_unknown)
    if model.as_items:
        how = "every line from the zero state, its end included"
    elif window is None:
        how = "every token but the first, one pass, state carried"
    else:
        how = f"every token but the first, cold windows of {window} tokens"
    return {
        "nats_per_token": score.nats_per_token,
        "bits_per_char": score.bits_per_char,
        "bits_per_byte": score.bits_per_byte,
        "perplexity": score.perplexity,
        "tokens": score.tokens,
        "characters": score.characters,
        "bytes": score.bytes,
        "unknown_tokens": score.unknown_tokens,
        "spelling": score.spelling,
        "window": window,
        "protocol": f"{opened.name}, {how}",
        "notes": list(opened.notes),
    }
