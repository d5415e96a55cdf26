"""The settings of a model, of its training and of sampling: three small frozen dataclasses, checked when made.

A configuration file is TOML with a table for each: ``[model]``, ``[train]``, ``[sample]``. An unknown key, a wrong type
or a value out of range raises :class:`~elman.errors.InputError` with the key, the value and what would be right.
"""

from __future__ import annotations

import dataclasses
import errno
import math
import sys
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

from elman.errors import InputError, did_you_mean

CellName = Literal["rnn", "rnn-relu", "gru", "lstm"]
OptimizerName = Literal["sgd", "adagrad", "rmsprop", "adam", "adamw"]


def _check(config: Any, **bounds: tuple[float, float]) -> None:
    """Check every field of a dataclass against its annotation, and the numeric ones against (least, most)."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        optional = type(None) in typing.get_args(hint)
        if optional and value is None:
            continue
        kind = typing.get_args(hint)[0] if optional else hint
        if typing.get_origin(kind) is Literal:
            choices = typing.get_args(kind)
            if not (isinstance(value, str) and value in choices):
                hint_text = did_you_mean(value, choices) if isinstance(value, str) else ""
                raise InputError(f"{name} must be one of {', '.join(choices)}, not {shown(value)}.{hint_text}")
        elif kind is bool or kind is str:
            if not isinstance(value, kind):
                raise InputError(f"{name} must be {'true or false' if kind is bool else 'a text'}, not {shown(value)}")
        else:
            object.__setattr__(config, name, _number(name, value, kind, *bounds.get(name, (-math.inf, math.inf))))


def _number(name: str, given: Any, kind: type, least: float, most: float) -> Any:
    """What is given as an int or float of Python's own; it may be NumPy's."""
    noun = "a whole number" if kind is int else "a number"
    numbers: Any = Integral if kind is int else Real
    if isinstance(given, bool) or not isinstance(given, numbers):
        raise InputError(f"{name} must be {noun}, not {shown(given)}")
    try:
        value = kind(given)
    except OverflowError:
        value = math.inf if given > 0 else -math.inf
    if not least <= value <= most:
        lower = "above 0" if least == _ABOVE_ZERO else f"{least}"
        if isinstance(value, float) and not math.isfinite(value):
            wanted = "that is finite"
        elif most < _SANE:
            upper = "below 1" if most == _BELOW_ONE else f"{most}"
            wanted = f"{lower} and at most {upper}" if least == _ABOVE_ZERO else f"from {lower} to {upper}"
        elif value > least:
            wanted = f"of at most {most:,}"
        else:
            wanted = lower if least == _ABOVE_ZERO else f"{lower} or more"
        raise InputError(f"{name} must be {noun} {wanted}, not {shown(given)}")
    return value


def shown(value: Any) -> str:
    """A value for a message: its repr, on one line and not too long."""
    try:
        return _short(repr(value), 60)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, lists in lists without end
        return f"something too large to show ({type(value).__name__})"


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[:length] + "…"


_SANE = 1e6  # a larger limit only keeps out what no machine could hold, and is not named to others
_ABOVE_ZERO, _BELOW_ONE = math.nextafter(0, 1), math.nextafter(1, 0)
_LARGEST = sys.float_info.max
_POSITIVE = (_ABOVE_ZERO, _LARGEST)
_PROBABILITY = (0, _BELOW_ONE)
_COUNT = (1, 2**63 - 1)
_COUNT_OR_NEVER = (0, 2**63 - 1)
_WIDTH = (1, 2**24)  # of a layer: its square still has an address
_SEED = (0, 2**128 - 1)  # a larger one says no more to NumPy's generator


@dataclass(frozen=True)
class ModelConfig:
    """What a language model is: its sizes, cell and precision.

    ``vocab_size`` V, ``hidden_size`` H and ``embedding_size`` E are 1 or more, ``num_layers`` L is 1 to 1,000. ``cell``
    is rnn (tanh), rnn-relu, gru or lstm, ``dtype`` float32 or float64. ``embedding_size=None`` means one-hot input (a
    row gather of W_xh). ``dropout`` (Zaremba et al. 2014, arXiv:1409.2329) zeroes outputs of every recurrent layer, the
    last one included, with this probability, from 0 to below 1, while training; with ``variational_dropout`` (Gal and
    Ghahramani 2016, arXiv:1512.05287) the same ones at all time steps of a window. ``embedding_dropout`` zeroes the
    whole vector of a token that is read with this probability (word dropout of Bowman et al. 2016, arXiv:1511.06349),
    and needs an embedding. ``tie_weights`` shares the embedding with the output layer (Press and Wolf 2017,
    arXiv:1608.05859) and needs ``embedding_size == hidden_size``.
    ``initialization``: ``uniform`` is PyTorch's U(-1/sqrt(H), 1/sqrt(H)), ``normal-0.01`` the tutorials' 0.01·N(0, 1)
    with zero biases, ``uniform-0.1`` the U(-0.1, 0.1) of Zaremba et al. 2014 for every number, the LSTM's forget biases
    too, which are 1 elsewhere.

    Raises InputError for a value of another type or out of range, and for settings that exclude each other.
    """

    vocab_size: int
    cell: CellName = "lstm"
    hidden_size: int = 128
    num_layers: int = 2
    embedding_size: int | None = None
    dropout: float = 0.0
    tie_weights: bool = False
    dtype: Literal["float32", "float64"] = "float32"
    initialization: Literal["uniform", "normal-0.01", "uniform-0.1"] = "uniform"
    variational_dropout: bool = False
    embedding_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check(
            self,
            vocab_size=(1, 2**31 - 1),
            hidden_size=_WIDTH,
            num_layers=(1, 1000),
            embedding_size=_WIDTH,
            dropout=_PROBABILITY,
            embedding_dropout=_PROBABILITY,
        )
        if self.embedding_dropout > 0 and self.embedding_size is None:
            raise InputError("embedding_dropout needs an embedding: give embedding_size too")
        if self.tie_weights and self.embedding_size != self.hidden_size:
            raise InputError(
                f"tie_weights needs embedding_size equal to hidden_size ({self.hidden_size}), not {self.embedding_size}"
            )

    @property
    def drops(self) -> bool:
        """Whether training draws masks."""
        return self.dropout > 0 or self.embedding_dropout > 0


@dataclass(frozen=True)
class TrainConfig:
    """How a text is cut, and how a model is trained on it.

    ``tokenizer`` is char, byte, word, bpe, or the path of a tokenizer.json; ``word_splitter`` says how words are cut
    (unicode, or at white space as in the Penn Treebank), ``max_vocab`` and ``min_count`` how many symbols there are.
    ``items="lines"`` makes each line a text of its own. ``encoding`` None finds out how the text is written.
    ``valid_fraction``, from 0 to below 1, is the last part of the text, which is validated on.

    A batch is ``batch_size`` B streams of ``seq_length`` T time steps. ``tail="drop"`` is tutorial 3's wrap rule: a
    window that the text cannot fill is left out. ``reduction`` takes the mean of a window's losses or their sum, in
    nats. ``activation_regularization``, 0 or more, keeps the outputs of the last layer small (AR of Merity et al. 2017,
    arXiv:1708.01009; see :meth:`elman.LanguageModel.loss_and_gradients`). ``weight_decay``, 0 or more, is AdamW's
    (None: 0.01), and other optimisers have none. ``learning_rate``, above 0, is the highest of the ``schedule``,
    reached after ``warmup_steps`` steps. ``clip_norm`` and ``clip_value`` exclude each other.

    One of ``steps``, ``epochs`` and ``minutes`` says when to stop; without any, 3 minutes. ``eval_every``,
    ``sample_every`` and ``checkpoint_every`` count steps (0: only at the end). Without the first two, evaluations and
    samples come about ten times a run with ``minutes``, else at round steps (10, 20, … 100, 200, … 1,000, 2,000, …;
    evaluations from 100 on); without the last, a checkpoint comes every 30 seconds. ``keep`` checkpoints are kept.
    ``patience`` evaluations in a row without a better one end a run. ``on_nan="rollback"`` goes back to the last
    checkpoint, with half the learning rate, where a number is NaN or infinite. ``eval_tokens`` is the most that an
    evaluation reads, ``sample_length`` counts tokens, ``log_every`` steps; ``seed`` is of weights, dropout and samples.
    ``precision`` is that of :func:`elman.open_engine`: ``auto`` is bf16 where the machine has it.

    Raises InputError for a value of another type or out of range, and for settings that exclude each other.
    """

    tokenizer: str = "char"
    word_splitter: Literal["unicode", "whitespace"] = "unicode"
    max_vocab: int | None = None
    min_count: int = 1
    items: Literal["lines"] | None = None
    encoding: str | None = None
    encoding_errors: Literal["strict", "replace"] = "strict"
    valid_fraction: float = 0.1
    batch_size: int = 32
    seq_length: int = 64
    tail: Literal["keep", "drop"] = "keep"
    optimizer: OptimizerName = "adam"
    learning_rate: float = 2e-3
    weight_decay: float | None = None
    schedule: Literal["constant", "linear", "cosine", "halving"] = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    clip_value: float | None = None
    reduction: Literal["mean", "sum"] = "mean"
    activation_regularization: float = 0.0
    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    patience: int | None = None
    eval_every: int | None = None
    eval_tokens: int = 200_000
    sample_every: int | None = None
    sample_length: int = 200
    checkpoint_every: int | None = None
    keep: int = 2
    on_nan: Literal["stop", "rollback"] = "stop"
    log_every: int = 10
    seed: int = 0
    precision: Literal["float32", "bf16", "auto"] = "float32"

    def __post_init__(self) -> None:
        _check(
            self,
            max_vocab=_COUNT,
            min_count=_COUNT,
            valid_fraction=_PROBABILITY,
            batch_size=_COUNT,
            seq_length=_COUNT,
            learning_rate=_POSITIVE,
            weight_decay=(0, _LARGEST),
            warmup_steps=_COUNT_OR_NEVER,
            clip_norm=_POSITIVE,
            clip_value=_POSITIVE,
            activation_regularization=(0, _LARGEST),
            steps=_COUNT,
            epochs=_COUNT,
            minutes=(_ABOVE_ZERO, 1e6),
            patience=_COUNT,
            eval_every=_COUNT_OR_NEVER,
            eval_tokens=_COUNT,
            sample_every=_COUNT_OR_NEVER,
            sample_length=_COUNT,
            checkpoint_every=_COUNT_OR_NEVER,
            keep=_COUNT,
            log_every=_COUNT,
            seed=_SEED,
        )
        if self.weight_decay is not None and self.optimizer != "adamw":
            raise InputError(f"weight_decay is of the optimizer adamw, not of {self.optimizer}: leave it out")
        _at_most_one(self, "clip_norm", "clip_value")
        _at_most_one(self, "steps", "epochs", "minutes")
        if self.items is not None and self.tail == "drop":
            raise InputError("items and tail 'drop' exclude each other: items are read whole")


@dataclass(frozen=True)
class SampleConfig:
    """How the next symbol is drawn. ``temperature`` 0 takes the likeliest; ``top_k`` 0 and ``top_p`` 1 keep all.

    ``length`` counts tokens; the methods are those of :func:`elman.sampling.sample`. Raises InputError for a value out
    of range.
    """

    length: int = 300
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(
            self,
            length=(0, 2**31 - 1),
            temperature=(0, _LARGEST),
            top_k=_COUNT_OR_NEVER,
            top_p=(_ABOVE_ZERO, 1),
            seed=_SEED,
        )


def _at_most_one(config: Any, *names: str) -> None:
    given = [name for name in names if getattr(config, name) is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} exclude each other: give one of them")


def field_names(kind: type) -> list[str]:
    """The keys of a configuration table, in order."""
    return [field.name for field in dataclasses.fields(kind)]


def check_keys(table: Mapping[str, Any], kind: type, where: str) -> None:
    """Raise InputError for a key that ``kind`` does not have, with the nearest that it has."""
    known = field_names(kind)
    for key in table:
        if key not in known:
            elsewhere = [name for name, table in TABLES.items() if key in field_names(table)]
            advice = f" It belongs in [{elsewhere[0]}]." if elsewhere else did_you_mean(key, known)
            advice = advice or f" The keys are {', '.join(known)}."
            raise InputError(f"{where}: unknown key {shown(key)}.{advice}")


_MOST_CHARACTERS = 100_000  # of a file
_MOST_DOTS = 1000  # Python's parser takes the square of those in one key, and a configuration needs hardly any
TABLES: dict[str, type] = {"model": ModelConfig, "train": TrainConfig, "sample": SampleConfig}


def read_toml(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read a configuration file into its tables, keys checked; a table that is absent is an empty dict.

    Raises InputError where the file cannot be read, is not TOML, or has an unknown table or key.
    """
    path = Path(path)
    text = _read(path)
    if len(text) > _MOST_CHARACTERS or text.count(".") > _MOST_DOTS:
        most = f"{_MOST_CHARACTERS:,} characters or {_MOST_DOTS:,} dots"
        raise InputError(f"{path} is not a TOML file of settings: it has more than {most}")
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a TOML file: {_short(str(error), 200)}") from None
    for name, table in tables.items():
        if name not in TABLES or not isinstance(table, dict):
            raise InputError(f"{path}: {shown(name)} is not one of the tables [model], [train] and [sample]")
        check_keys(table, TABLES[name], f"{path}, [{name}]")
    return {name: tables.get(name, {}) for name in TABLES}


def _read(path: Path) -> str:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError(errno.EINVAL, "it is not a file")  # a pipe may wait for ever, and a device never end
        with path.open(encoding="utf-8-sig") as file:
            return file.read(_MOST_CHARACTERS + 1)
    except OSError as error:
        raise InputError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, or no path
        raise InputError(f"{path} is not a TOML file: {error}") from None


def to_toml(**tables: Mapping[str, Any]) -> str:
    """TOML text of the given tables; a key without a value (None) is left out."""
    import tomli_w

    return tomli_w.dumps(
        {name: {key: value for key, value in table.items() if value is not None} for name, table in tables.items()}
    )
