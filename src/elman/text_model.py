"""TextModel: a language model and its tokenizer, which is what people save, load, sample and score with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from elman import checkpoint
from elman.config import ModelConfig, SampleConfig, check_keys
from elman.errors import InputError, ModelFileError
from elman.layers.stack import State
from elman.models import LanguageModel
from elman.text.tokenizers import Tokenizer, tokenizer_from_json

MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class Score:
    """How surprising a text is to a model. The first token is read, not scored, and counts in none of the figures.

    nats: total; tokens, characters, bytes (UTF-8): what was scored; per_token: nats of each scored token, (tokens,);
    unknown_tokens: how many of them were ``<unk>``, each charged with the model's probability of ``<unk>``.
    """

    nats: float
    tokens: int
    characters: int
    bytes: int
    per_token: np.ndarray = field(repr=False)
    unknown_tokens: int = 0

    @property
    def nats_per_token(self) -> float:
        """Mean cross-entropy."""
        return self.nats / self.tokens

    @property
    def bits_per_char(self) -> float:
        """Bits a character of the original text."""
        return self.nats / math.log(2) / self.characters

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of the text in UTF-8."""
        return self.nats / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """Exp of the nats a token; infinite where that overflows."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 709 else math.inf


class TextModel:
    """``language_model`` and ``tokenizer``, and ``info``: what the file says of the training (protocol, figures)."""

    def __init__(self, language_model: LanguageModel, tokenizer: Tokenizer, info: Mapping[str, Any] | None = None):
        if language_model.config.vocab_size != tokenizer.vocab_size:
            raise InputError(
                f"the model has a vocabulary of {language_model.config.vocab_size}, "
                f"the tokenizer of {tokenizer.vocab_size}"
            )
        self.language_model, self.tokenizer, self.info = language_model, tokenizer, dict(info or {})

    def generate(
        self,
        prompt: str = "",
        length: int = 300,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        on_unknown: str = "error",
    ) -> str:
        """The text that follows ``prompt``, without it: ``length`` tokens, drawn with ``seed``.

        Settings as in :class:`elman.SampleConfig`; temperature 0 takes the likeliest. A prompt with characters that
        the model never saw raises InputError, or leaves them out with ``on_unknown="skip"``. Without a prompt the
        model starts as after a line break (its first symbol where it knows none). ``<unk>`` is never drawn.
        """
        return "".join(self.stream(prompt, SampleConfig(length, temperature, top_k, top_p, seed), on_unknown))

    def stream(self, prompt: str, config: SampleConfig, on_unknown: str = "error") -> Iterator[str]:
        """The same piece by piece, as it is drawn; a piece is one token's text, or '' in the middle of a character."""
        if on_unknown not in ("error", "skip"):
            raise InputError(f"on_unknown must be error or skip, not {on_unknown!r}")
        ids = self.tokenizer.encode(prompt, on_unknown)
        if len(ids) == 0:
            ids = self.tokenizer.encode("\n", "skip")
        if len(ids) == 0:
            ids = np.zeros(1, np.int64)
        return self._stream(ids, config)

    def _stream(self, ids: np.ndarray, config: SampleConfig) -> Iterator[str]:
        decoder = self.tokenizer.decoder()
        for token in self.language_model.generate(ids, config, forbidden=self.tokenizer.unknown_id):
            yield decoder.feed(token)
        yield decoder.finish()

    def continue_text(self, token: int, state: State, config: SampleConfig, rng: np.random.Generator) -> str:
        """What follows a token read after ``state``: what training shows now and then."""
        ids = self.language_model.generate(np.array([token]), config, state, rng, self.tokenizer.unknown_id)
        return self.tokenizer.decode(list(ids))

    def score(self, text: str, window: int | None = None, on_unknown: str = "unknown") -> Score:
        """Score a text in one exact pass, or in cold windows of ``window`` tokens; see :class:`Score`.

        A character that the model never saw counts as ``<unk>``; where the model has none that raises InputError, or
        leaves them out with ``on_unknown="skip"``. So does a text of fewer than 2 tokens.
        """
        ids = self.tokenizer.encode(text, on_unknown)
        if len(ids) < 2:
            raise InputError(f"scoring needs a text of at least 2 tokens, this one has {len(ids)}")
        nats = self.language_model.score(ids, window)
        if on_unknown == "skip":
            text = self.tokenizer.decode(ids)
        raw = text.encode("utf-8", "surrogatepass")
        first = self.tokenizer.first_bytes(text)
        return Score(
            nats=float(nats.sum(dtype=np.float64)),
            tokens=len(nats),
            characters=len(text) - len(raw[:first].decode("utf-8", "ignore")),
            bytes=len(raw) - first,
            per_token=nats,
            unknown_tokens=int(np.count_nonzero(ids[1:] == self.tokenizer.unknown_id)),
        )

    def save(self, path: str | Path) -> None:
        """Write the model file, whole or not at all."""
        metadata = {
            "kind": "model",
            "model": dataclasses.asdict(self.language_model.config),
            "tokenizer": self.tokenizer.to_json(),
            **self.info,
        }
        checkpoint.save(path, self.language_model.parameters, metadata)


def load(path: str | Path, kernel: str = "auto", threads: int | None = None) -> TextModel:
    """Open a run folder or a model file.

    Raises ModelFileError where it is missing, truncated, altered or not ours; kernel and threads as in LanguageModel.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / MODEL_FILE).exists():
            raise ModelFileError(f"{path} is not a run folder: there is no {MODEL_FILE} in it")
        path = path / MODEL_FILE
    elif not path.exists():
        raise ModelFileError(f"there is no run folder or model file {path}")
    tensors, metadata = checkpoint.load(path)
    if metadata.get("kind") != "model":
        kind = metadata.get("kind") or "file of another kind"
        raise ModelFileError(f"{path} is a {kind}, not a model; give {MODEL_FILE} or the run folder")
    try:
        config = model_config_from_json(metadata.pop("model", None))
        tokenizer = tokenizer_from_json(metadata.pop("tokenizer", None))
        if tokenizer.vocab_size != config.vocab_size:
            raise ModelFileError(
                f"its model has a vocabulary of {config.vocab_size}, but its tokenizer of {tokenizer.vocab_size}"
            )
        language_model = LanguageModel(config, kernel=kernel, threads=threads, parameters=tensors)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return TextModel(language_model, tokenizer, metadata)


def model_config_from_json(table: Any) -> ModelConfig:
    """The ModelConfig that a file holds; raises ModelFileError where it is none."""
    if not isinstance(table, dict) or "vocab_size" not in table:
        raise ModelFileError("it holds no model configuration")
    try:
        check_keys(table, ModelConfig, "model configuration")
        return ModelConfig(**table)
    except InputError as error:
        raise ModelFileError(str(error)) from None
