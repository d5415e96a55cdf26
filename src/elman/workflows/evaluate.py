"""Evaluation: a model file and a text -> how well the one predicts the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elman.text.sources import read_text
from elman.text_model import load


def evaluate(
    path: str | Path,
    text: str | Path,
    window: int | None = None,
    on_unknown: str = "unknown",
    encoding: str = "utf-8",
    kernel: str = "auto",
    threads: int | None = None,
) -> dict[str, Any]:
    """Score a whole text in one exact pass that carries its state, or in cold windows.

    -> nats_per_token, bits_per_char, bits_per_byte, perplexity, tokens, characters, bytes, unknown_tokens, window and
    protocol (in words). Raises ModelFileError for an unusable model, InputError for an unusable text.
    """
    model = load(path, kernel, threads)
    source = read_text([text], encoding)
    score = model.score(source.content, window, on_unknown)
    how = "one pass, state carried" if window is None else f"cold windows of {window} tokens"
    return {
        "nats_per_token": score.nats_per_token,
        "bits_per_char": score.bits_per_char,
        "bits_per_byte": score.bits_per_byte,
        "perplexity": score.perplexity,
        "tokens": score.tokens,
        "characters": score.characters,
        "bytes": score.bytes,
        "unknown_tokens": score.unknown_tokens,
        "window": window,
        "protocol": f"{source.name}, every token but the first, {how}",
    }
