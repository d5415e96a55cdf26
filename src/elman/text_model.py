"""TextModel: a language model and its tokenizer, which is what people save, load, sample and score with."""

from __future__ import annotations

import dataclasses
import itertools
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
from elman.text import items
from elman.text.spelling import spelling_nats
from elman.text.tokenizers import Decoder, Tokenizer, tokenizer_from_json

MODEL_FILE = "model.safetensors"
_ITEMS_AT_ONCE = 64  # that are scored side by side,
_LONG_ITEM = 1024  # where none has more tokens
_DIGESTS = "items.digests"


@dataclass(frozen=True)
class Score:
    """How surprising a text is to a model. The first token is read, not scored, and counts in none of the figures.

    nats: total; tokens, characters, bytes (UTF-8): what was scored; per_token: nats of each scored token, (tokens,);
    unknown_tokens: how many of them were ``<unk>``. Each costs the model's probability of ``<unk>``, which is all that
    nats, nats_per_token and perplexity know of, and besides its spelling (:mod:`elman.text.spelling`): ``spelling``
    nats in all, which bits_per_char and bits_per_byte include, so that they can be compared between vocabularies.
    """

    nats: float
    tokens: int
    characters: int
    bytes: int
    per_token: np.ndarray = field(repr=False)
    unknown_tokens: int = 0
    spelling: float = 0.0

    @property
    def nats_per_token(self) -> float:
        """Mean cross-entropy, in nats."""
        return self.nats / self.tokens

    @property
    def bits_per_char(self) -> float:
        """Bits a character of the original text."""
        return (self.nats + self.spelling) / math.log(2) / self.characters

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of the text in UTF-8."""
        return (self.nats + self.spelling) / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """Exp of the nats a token; infinite where that overflows."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 709 else math.inf


class TextModel:
    """``language_model`` and ``tokenizer``, and ``info``: what the file says of the training (protocol, figures).

    ``trained_items``: digests of the items that it was trained on (:mod:`elman.text.items`), None where it has none.
    Raises InputError where model and tokenizer have vocabularies of different sizes.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        tokenizer: Tokenizer,
        info: Mapping[str, Any] | None = None,
        trained_items: np.ndarray | None = None,
    ):
        if language_model.config.vocab_size != tokenizer.vocab_size:
            raise InputError(
                f"the model has a vocabulary of {language_model.config.vocab_size}, "
                f"the tokenizer of {tokenizer.vocab_size}"
            )
        self.language_model, self.tokenizer, self.info = language_model, tokenizer, dict(info or {})
        self.trained_items = trained_items

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
        model starts as after a line break (its first symbol where it knows none). ``<unk>`` is never drawn. Raises
        NonFiniteError where the model's numbers are not finite.
        """
        return "".join(self.stream(prompt, SampleConfig(length, temperature, top_k, top_p, seed), on_unknown))

    @property
    def as_items(self) -> bool:
        """Whether each line was a text of its own in training (``--items lines``); then texts end at a line end."""
        return self.info.get("training", {}).get("items") is not None

    def stream(self, prompt: str, config: SampleConfig, on_unknown: str = "error") -> Iterator[str]:
        """The same piece by piece, as it is drawn; a piece is one token's text, or '' in the middle of a character.

        Raises what :meth:`generate` does.
        """
        if on_unknown not in ("error", "skip"):
            raise InputError(f"on_unknown must be error or skip, not {on_unknown!r}")
        ids = self.tokenizer.encode(prompt, on_unknown)
        decoder = self.tokenizer.decoder()
        for token in ids.tolist():
            decoder.feed(token)  # what comes before a text may settle how it begins
        if self.as_items:
            ids = np.concatenate([[self.tokenizer.line_end_id], ids])
        elif len(ids) == 0 and self.tokenizer.line_end_id is not None:
            ids = np.array([self.tokenizer.line_end_id])
        if len(ids) == 0:
            ids = np.zeros(1, np.int64)
        return self._stream(ids, config, np.random.default_rng(config.seed), decoder)

    def _stream(
        self, ids: np.ndarray, config: SampleConfig, rng: np.random.Generator, decoder: Decoder
    ) -> Iterator[str]:
        for token in self.language_model.generate(ids, config, rng=rng, forbidden=self.tokenizer.unknown_id):
            if self.as_items and token == self.tokenizer.line_end_id:
                break
            yield decoder.feed(token)
        yield decoder.finish()

    def continue_text(self, token: int, state: State, config: SampleConfig, rng: np.random.Generator) -> str:
        """What follows a token read after ``state``: what training shows now and then."""
        ids = self.language_model.generate(np.array([token]), config, state, rng, self.tokenizer.unknown_id)
        return self.tokenizer.decode(list(ids))

    def write_items(self, config: SampleConfig, rng: np.random.Generator) -> str:
        """Items of ``config.length`` characters or a little more in all, a line each."""
        text = ""
        while len(text) < config.length:
            mark = np.array([self.tokenizer.line_end_id])
            text += "".join(self._stream(mark, config, rng, self.tokenizer.decoder())) + "\n"
        return text

    def score(self, text: str, window: int | None = None, on_unknown: str = "unknown") -> Score:
        """Score a text in one exact pass, or in cold windows of ``window`` tokens; see :class:`Score`.

        A character or word that the model never saw counts as ``<unk>``; where the model has none that raises
        InputError, or leaves them out with ``on_unknown="skip"``. So does a text of fewer than 2 tokens. A model of
        items scores each line from the zero state, its line end included, and has no use for a window.
        """
        if self.as_items:
            if window is not None:
                raise InputError("a model of items has no window: each line is scored from the beginning")
            text = "".join(items.lines([text], "the text"))
        ids = self.tokenizer.encode(text, on_unknown)
        if len(ids) < 2:
            raise InputError(f"scoring needs a text of at least 2 tokens, this one has {len(ids)}")
        nats = self._score_items(ids) if self.as_items else self.language_model.score(ids, window)
        unknown = self.tokenizer.unknown_pieces(text) if self.tokenizer.unknown_id is not None else []
        if on_unknown == "skip":
            text, unknown = self.tokenizer.decode(ids), []
        raw = text.encode("utf-8", "surrogatepass")
        first = self.tokenizer.first_bytes(text)
        scored_unknown = unknown[1:] if ids[0] == self.tokenizer.unknown_id else unknown
        return Score(
            nats=float(nats.sum(dtype=np.float64)),
            tokens=len(nats),
            characters=len(text) - len(raw[:first].decode("utf-8", "ignore")),
            bytes=len(raw) - first,
            per_token=nats,
            unknown_tokens=len(scored_unknown),
            spelling=spelling_nats(scored_unknown),
        )

    def _score_items(self, ids: np.ndarray) -> np.ndarray:
        """Nats of every token but the first mark, (N - 1,): some items side by side, each from the zero state."""
        marks = np.flatnonzero(ids == self.tokenizer.line_end_id)
        if np.diff(marks).max() > _LONG_ITEM:
            each = (ids[start : end + 1] for start, end in itertools.pairwise(marks))
            return np.concatenate([self.language_model.score(item) for item in each])
        nats = []
        for first in range(0, len(marks) - 1, _ITEMS_AT_ONCE):
            bounds = marks[first : first + _ITEMS_AT_ONCE + 1]
            rows = [ids[start : end + 1] for start, end in itertools.pairwise(bounds)]
            shape = (max(map(len, rows)) - 1, len(rows))
            inputs, targets = np.zeros(shape, np.int64), np.full(shape, -1)
            for column, row in enumerate(rows):
                inputs[: len(row) - 1, column], targets[: len(row) - 1, column] = row[:-1], row[1:]
            losses, _ = self.language_model.losses(inputs, targets)
            nats.append(losses.T[targets.T >= 0])
        return np.concatenate(nats)

    def save(self, path: str | Path) -> None:
        """Write the model file, whole or not at all. Raises OSError where it cannot be written."""
        metadata = {
            "kind": "model",
            "model": dataclasses.asdict(self.language_model.config),
            "tokenizer": self.tokenizer.to_json(),
            **self.info,
        }
        tensors = dict(self.language_model.parameters)
        if self.trained_items is not None:
            tensors[_DIGESTS] = self.trained_items
        checkpoint.save(path, tensors, metadata)


def load(path: str | Path, kernel: str = "auto", threads: int | None = None) -> TextModel:
    """Open a run folder or a model file.

    Raises ModelFileError where it is missing, truncated, altered or not ours; kernel and threads as in LanguageModel.
    """
    if str(path) == "":
        raise ModelFileError("the name of the model is empty; give a run folder or a model file")
    path = Path(path)
    if path.is_dir():
        if not (path / MODEL_FILE).exists():
            raise ModelFileError(
                f"{path} has no {MODEL_FILE} in it: give the folder of a run (one that was cut short before its first "
                f"evaluation gets a model by elman train --resume {path})"
            )
        path = path / MODEL_FILE
    elif not path.exists():
        raise ModelFileError(f"there is no run folder or model file {path}")
    tensors, metadata = checkpoint.load(path)
    if metadata.get("kind") != "model":
        kind = "checkpoint" if metadata.get("kind") == "checkpoint" else "file of another kind"
        raise ModelFileError(f"{path} is a {kind}, not a model; give {MODEL_FILE} or the run folder")
    trained_items = tensors.pop(_DIGESTS, None)
    try:
        if trained_items is not None and (trained_items.ndim != 1 or trained_items.dtype != np.uint64):
            raise ModelFileError(f"{_DIGESTS} is {trained_items.dtype} {trained_items.shape}, not uint64 (N,)")
        config = model_config_from_json(metadata.pop("model", None))
        tokenizer = tokenizer_from_json(metadata.pop("tokenizer", None))
        if tokenizer.vocab_size != config.vocab_size:
            raise ModelFileError(
                f"its model has a vocabulary of {config.vocab_size}, but its tokenizer of {tokenizer.vocab_size}"
            )
        training = metadata.get("training", {})
        if not isinstance(training, dict) or (training.get("items") is not None and tokenizer.line_end_id is None):
            raise ModelFileError("its training settings are not those of such a model")
        language_model = LanguageModel(config, kernel=kernel, threads=threads, parameters=tensors)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return TextModel(language_model, tokenizer, metadata, trained_items)


def model_config_from_json(table: Any) -> ModelConfig:
    """The ModelConfig that a file holds; raises ModelFileError where it is none."""
    if not isinstance(table, dict) or "vocab_size" not in table or not all(map(_is_short, [*table, *table.values()])):
        raise ModelFileError("it holds no model configuration")
    try:
        check_keys(table, ModelConfig, "model configuration")
        return ModelConfig(**table)
    except InputError as error:
        raise ModelFileError(str(error)) from None


def _is_short(value: Any) -> bool:
    """Whether a key or value of a configuration can be one, and can be shown where it is wrong."""
    return isinstance(value, str | int | float | None) and len(str(value)) <= 100
