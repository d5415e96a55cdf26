"""Named recipes for ``elman train --preset NAME``, and how preset, configuration file and options become one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from elman.config import ModelConfig, TrainConfig, field_names, shown
from elman.errors import InputError, did_you_mean

Fit = Callable[[int, float], dict[str, Any]]


@dataclass(frozen=True)
class Preset:
    """A recipe: values for ModelConfig (without vocab_size) and TrainConfig, and the corpus it trains on by default.

    ``fit``: tokens of the training part, minutes of the run -> values that take the place of some of these.
    """

    summary: str
    model: Mapping[str, Any]
    train: Mapping[str, Any]
    corpus: str | None = None
    fit: Fit | None = None


_TUTORIAL_MODEL = {"cell": "rnn", "hidden_size": 100, "num_layers": 1, "initialization": "normal-0.01"}
_TUTORIAL_TRAIN = {
    "valid_fraction": 0.0,
    "batch_size": 1,
    "seq_length": 25,
    "optimizer": "adagrad",
    "learning_rate": 0.1,
    "clip_value": 5.0,
    "reduction": "sum",
}

_LSTM = {"cell": "lstm", "embedding_size": 64, "variational_dropout": True}
_LSTM_TRAIN = {
    "batch_size": 32,
    "seq_length": 32,
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "learning_rate": 1e-2,
    "schedule": "linear",
    "warmup_steps": 20,
    "clip_norm": 1.0,
    "activation_regularization": 4.0,
    "precision": "auto",
}


_WIDE_MINUTES = 10.0


def _dropout(tokens_a_minute: float, slope: float) -> Fit:
    """More dropout the more often a text is read; of tokens a minute on two cores, give or take a factor of two."""

    def fit(tokens: int, minutes: float) -> dict[str, Any]:
        passes = tokens_a_minute * minutes / tokens
        return {"dropout": round(min(0.6, slope * math.log2(1 + passes)), 2)}

    return fit


def _fit_char_lstm(tokens: int, minutes: float) -> dict[str, Any]:
    """One layer where there is no time for two to learn, wider ones where there is time for them.

    And the more often the text is read, the more of what keeps it from being learned by heart.
    """
    wide = minutes >= _WIDE_MINUTES
    tokens_a_minute, slope = (3e6, 0.075) if wide else (5e6, 0.05)
    often = min(1.0, tokens_a_minute * minutes / tokens / 40)  # 40 passes are many
    return {
        "num_layers": 1 if minutes < 0.25 else 2,
        "hidden_size": 384 if wide else 256,
        "learning_rate": 8e-3 if wide else 1e-2,
        **_dropout(tokens_a_minute, slope)(tokens, minutes),
        "embedding_dropout": round(0.05 * often, 3),
        "weight_decay": round(0.05 + 0.05 * often, 3),
    }


PRESETS: dict[str, Preset] = {
    "min-char-rnn": Preset(
        "tutorial 3 to the letter: RNN 100, one stream, windows of 25, summed loss, Adagrad 0.1, clipped at 5",
        model=_TUTORIAL_MODEL,
        train={**_TUTORIAL_TRAIN, "tail": "drop", "sample_every": 1000, "log_every": 100},
    ),
    "hello": Preset(
        "tutorial 1: the network of min-char-rnn learns 'hello', so that 'hell' is followed by 'o'",
        model=_TUTORIAL_MODEL,
        train={**_TUTORIAL_TRAIN, "seq_length": 4, "steps": 200, "sample_every": 50, "sample_length": 4},
        corpus="hello",
    ),
    "char-lstm": Preset(
        "the default: two LSTM layers of 256, or one for some seconds; dropout by how often the text will be read",
        model={**_LSTM, "hidden_size": 256, "num_layers": 2, "dropout": 0.2},
        train=_LSTM_TRAIN,
        fit=_fit_char_lstm,
    ),
    "char-small": Preset(
        "a small file that writes fast: one LSTM layer of 128, which reads a megabyte a few times a second",
        model={**_LSTM, "hidden_size": 128, "num_layers": 1, "embedding_size": 32},
        train=_LSTM_TRAIN,
    ),
    "names": Preset(
        "names and other short lines, each a text of its own: two LSTM layers of 256, one minute",
        model={**_LSTM, "hidden_size": 256, "num_layers": 2, "embedding_size": 32, "embedding_dropout": 0.05},
        train={
            **_LSTM_TRAIN,
            "items": "lines",
            "batch_size": 64,
            "seq_length": 64,
            "weight_decay": 0.1,
            "activation_regularization": 2.0,
            "minutes": 1.0,
        },
        corpus="names",
        fit=_dropout(4e6, 0.07),
    ),
    "word-lstm": Preset(
        "words, of 10,000 at most: two LSTM layers of 384 that share the embedding with the output layer, 15 minutes",
        model={**_LSTM, "hidden_size": 384, "num_layers": 2, "embedding_size": 384, "tie_weights": True},
        train={
            **_LSTM_TRAIN,
            "tokenizer": "word",
            "max_vocab": 10_000,
            "learning_rate": 8e-3,
            "weight_decay": 0.06,
            "activation_regularization": 2.0,
            "minutes": 15.0,
        },
        fit=_dropout(7e5, 0.14),
    ),
    "zaremba-small": Preset(
        "Zaremba et al. 2014's model without dropout, to the letter: words at white space, 2 x 200, 13 epochs of SGD",
        model={
            "cell": "lstm",
            "hidden_size": 200,
            "num_layers": 2,
            "embedding_size": 200,
            "initialization": "uniform-0.1",
        },
        train={
            "tokenizer": "word",
            "word_splitter": "whitespace",
            "max_vocab": 10_000,
            "batch_size": 20,
            "seq_length": 20,
            "tail": "drop",
            "optimizer": "sgd",
            # The paper sums the loss over 20 steps: its learning rate 1 and limit 5 are these for the mean.
            "learning_rate": 20.0,
            "clip_norm": 0.25,
            "schedule": "halving",
            "epochs": 13,
        },
    ),
}
DEFAULT_PRESET = "char-lstm"
_EXCLUSIVE = ({"steps", "epochs", "minutes"}, {"clip_norm", "clip_value"})
_DEFAULT_MINUTES = 3.0


@dataclass(frozen=True)
class Recipe:
    """What was settled: ModelConfig's values without vocab_size, and a TrainConfig."""

    model: dict[str, Any] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)


def resolve(
    preset: str,
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    options: Mapping[str, Any] | None = None,
    tokens: int | None = None,
) -> Recipe:
    """Lay a configuration file's tables over a preset, and single options (by field name) over both.

    tokens: those of the training part, once they are known; a preset that fits itself to them then does. Where two
    options exclude each other, the later layer's one replaces the earlier's; where weights are tied, a later hidden
    size takes the embedding with it. Raises InputError for an unknown preset or option, or a value out of range.
    """
    if preset not in PRESETS:
        near = did_you_mean(preset, list(PRESETS))
        raise InputError(f"no preset {shown(preset)}; there are {', '.join(PRESETS)}.{near}")
    tables, options = tables or {}, options or {}
    base = {**PRESETS[preset].model, **PRESETS[preset].train}
    above = [{**tables.get("model", {}), **tables.get("train", {})}, dict(options)]
    values = _laid([base, *above])
    fit = PRESETS[preset].fit
    if tokens is not None and fit is not None:
        values = _laid([base, fit(tokens, values.get("minutes") or _DEFAULT_MINUTES), *above])
    return _recipe(values)


def _laid(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The layers' values, later ones over earlier ones, and an end if none of them has one."""
    values: dict[str, Any] = {}
    for layer in layers:
        for group in _EXCLUSIVE:
            if group & layer.keys():
                values = {key: value for key, value in values.items() if key not in group}
        if values.get("tie_weights") and "hidden_size" in layer:
            values["embedding_size"] = layer["hidden_size"]
        if layer.get("embedding_size", 0) is None:
            values.pop("embedding_dropout", None)  # there are no rows to drop
        optimizer = layer.get("optimizer")
        if isinstance(optimizer, str) and optimizer != "adamw":
            values.pop("weight_decay", None)  # another optimiser has none
        values |= layer
    if not values.keys() & _EXCLUSIVE[0]:
        values["minutes"] = _DEFAULT_MINUTES
    return values


def check_option_names(names: Iterable[str]) -> None:
    """Raise InputError for a name that neither ModelConfig nor TrainConfig has, with the nearest that they have."""
    known = [*field_names(ModelConfig), *field_names(TrainConfig)]
    for name in names:
        if name not in known:
            raise InputError(f"unknown option {shown(name)}.{did_you_mean(name, known)}")


def _recipe(values: Mapping[str, Any]) -> Recipe:
    check_option_names(values)
    model_keys, train_keys = field_names(ModelConfig), field_names(TrainConfig)
    if "vocab_size" in values:
        raise InputError("vocab_size is not an option: it comes from the text")
    model = {key: value for key, value in values.items() if key in model_keys}
    ModelConfig(vocab_size=1, **model)  # checked now, before any text is read
    return Recipe(model, TrainConfig(**{key: value for key, value in values.items() if key in train_keys}))
