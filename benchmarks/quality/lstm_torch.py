"""The PyTorch peer of an elman run: the same recipe, read from its config.toml.

Run it: python benchmarks/quality/lstm_torch.py --config RUN/config.toml --text FILE --score FILE [--minutes M]
nn.LSTM (oneDNN), fused optimisers; the initial weights are elman's of the same seed, and so are the windows, whose
state is carried on. bias_hh stays 0 and is not trained: elman has one bias. A setting that this script does not follow
is an error, so that it never trains another recipe in silence. With --precision bf16 training runs under PyTorch's
autocast, as PyTorch has mixed precision on a processor. Prints a line of JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from peer import WINDOW, Budget, Data, Tables, parser, read_data, read_recipe, report, train
from torch import nn
from torch.nn import functional

import elman
from elman import schedules
from elman.batches import Batch, ItemWindows, StreamWindows, Windows
from elman.config import ModelConfig, TrainConfig

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, fused=True),
    "rmsprop": partial(torch.optim.RMSprop, alpha=0.99, eps=1e-8),
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
}
FOLLOWED = {
    *("hidden_size", "num_layers", "embedding_size", "dropout", "variational_dropout", "tie_weights"),
    *("initialization", "embedding_dropout"),
    *("tokenizer", "word_splitter", "max_vocab", "min_count", "items", "encoding", "encoding_errors", "valid_fraction"),
    *(
        "batch_size",
        "seq_length",
        "tail",
        "learning_rate",
        "weight_decay",
        "schedule",
        "warmup_steps",
        "clip_norm",
        "clip_value",
    ),
    *("reduction", "activation_regularization", "steps", "epochs", "minutes"),
}
ONLY = {"cell": {"lstm"}, "dtype": {"float32"}, "optimizer": set(OPTIMIZERS)}
OF_NO_EFFECT = {
    *("eval_every", "eval_tokens", "sample_every", "sample_length", "checkpoint_every", "keep", "on_nan", "log_every"),
    *("seed", "precision"),  # which the command line gives
}
VALID_STREAMS, VALID_LENGTH = 64, 256  # as elman's own: so many streams, or fewer of so many tokens
AT_ONCE = 1 << 22  # logits
ITEM_LENGTH = 1024


def check_recipe(tables: Tables) -> None:
    """End with a message where a setting is neither followed, nor of no effect, nor the default."""
    for name, kind in (("model", ModelConfig), ("train", TrainConfig)):
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}
        for key, value in tables.get(name, {}).items():
            known = key in FOLLOWED | OF_NO_EFFECT or value in ONLY.get(key, ())
            if not known and (key in ONLY or value != defaults.get(key)):
                raise SystemExit(
                    f"lstm_torch.py does not follow {key} = {value!r} of [{name}]: teach it, or leave it out"
                )


class TorchModel(nn.Module):
    """elman's LSTM language model: embedding or one-hot input -> (LSTM -> dropout) × L -> output."""

    def __init__(self, config: ModelConfig, parameters: Mapping[str, np.ndarray]):
        super().__init__()
        V, E, H, L = config.vocab_size, config.embedding_size, config.hidden_size, config.num_layers
        self.dropout, self.variational = config.dropout, config.variational_dropout
        self.embedding_dropout = config.embedding_dropout
        self.embedding = nn.Embedding(V, E) if E else None
        self.layers = nn.ModuleList(nn.LSTM(H if layer else E or V, H) for layer in range(L))
        self.output = nn.Linear(H, V)
        if config.tie_weights:
            self.output.weight = self.embedding.weight
        with torch.no_grad():
            for name, tensor in self.by_name().items():
                tensor.copy_(torch.from_numpy(parameters[name]))
            for layer in self.layers:
                layer.bias_hh_l0.zero_().requires_grad_(False)

    def by_name(self) -> dict[str, nn.Parameter]:
        """The parameters under elman's names."""
        named = {} if self.embedding is None else {"embedding.E": self.embedding.weight}
        for number, layer in enumerate(self.layers):
            own = {"W_xh": layer.weight_ih_l0, "W_hh": layer.weight_hh_l0, "b_h": layer.bias_ih_l0}
            named |= {f"recurrent.layers.{number}.{name}": tensor for name, tensor in own.items()}
        if self.embedding is None or self.output.weight is not self.embedding.weight:
            named["output.W_hy"] = self.output.weight
        return named | {"output.b_y": self.output.bias}

    def forward(self, inputs: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Ids (T, B), state (a pair (h, c) a layer) or None -> what predicts (T, B, H), and the state after it."""
        if self.embedding is None:
            x = functional.one_hot(inputs, self.output.out_features).float()
        else:
            x = self.embedding(inputs)
            x = x * functional.dropout(x.new_ones(*inputs.shape, 1), self.embedding_dropout, self.training)
        last = []
        for layer, first in zip(self.layers, state or [None] * len(self.layers), strict=True):
            x, after = layer(x, first)
            x = self._drop(x)
            last.append(after)
        return x, last

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        if not self.variational:
            return functional.dropout(x, self.dropout, self.training)
        return x * functional.dropout(x.new_ones(1, *x.shape[1:]), self.dropout, self.training)

    def losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Nats of each target (T, B), flat; 0 where it is -1."""
        logits = self.output(hidden).flatten(0, 1).float()
        return functional.cross_entropy(logits, targets.flatten(), ignore_index=-1, reduction="none")


class Trainer:
    """Training steps of a recipe, with the state that they carry."""

    def __init__(self, model: TorchModel, recipe: TrainConfig, windows: Windows, precision: str = "float32"):
        self.model, self.recipe, self.windows, self.bf16 = model, recipe, windows, precision == "bf16"
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        decay = {} if recipe.weight_decay is None else {"weight_decay": recipe.weight_decay}
        self.optimizer = OPTIMIZERS[recipe.optimizer](self.trained, lr=recipe.learning_rate, **decay)
        self.state: Any = None

    def step(self, step: int, progress: float) -> tuple[float, int]:
        """One step -> loss as the recipe reduces it, tokens."""
        recipe = self.recipe
        batch = self.windows.batch(step)
        rate = schedules.learning_rate(recipe.schedule, recipe.learning_rate, progress, step, recipe.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(batch)
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained, recipe.clip_norm)
        if recipe.clip_value is not None:
            nn.utils.clip_grad_value_(self.trained, recipe.clip_value)
        self.optimizer.step()
        return loss, batch.tokens

    def backward(self, batch: Batch) -> float:
        """Gradients of a batch's loss, and of the penalty of its activations -> the loss without that."""
        self.model.train()
        inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
        scale = 1 / batch.tokens if self.recipe.reduction == "mean" else 1.0
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            hidden, state = self.model(inputs, fresh(self.state, batch.reset))
            loss = self.model.losses(hidden, targets).sum() * scale
        self.state = [(h.detach().float(), c.detach().float()) for h, c in state]
        penalized = loss
        if self.recipe.activation_regularization > 0:
            squares = hidden.float().square().mean(2)[targets >= 0].sum()
            penalized = loss + self.recipe.activation_regularization * scale * squares
        penalized.backward()
        return loss.item()


def fresh(state: Any, reset: np.ndarray) -> Any:
    """The state with zeros for the streams (B,) that begin."""
    if state is None or not reset.any():
        return state
    keep = torch.from_numpy(~reset)[:, None]
    return [(h * keep, c * keep) for h, c in state]


class Scored(Protocol):
    """What can be scored: batches in order."""

    steps_per_epoch: int

    def batch(self, step: int) -> Batch:
        """The batch of a step."""


class ColdWindows:
    """Windows of ``length`` tokens of ids (N,), each from the zero state, ``streams`` of them at a time."""

    def __init__(self, ids: np.ndarray, length: int, streams: int):
        count = -(-(len(ids) - 1) // length)
        inputs, targets = np.zeros(count * length, np.int64), np.full(count * length, -1)
        inputs[: len(ids) - 1], targets[: len(ids) - 1] = ids[:-1], ids[1:]
        self._inputs, self._targets = (np.ascontiguousarray(a.reshape(count, length).T) for a in (inputs, targets))
        self._streams, self.steps_per_epoch = streams, -(-count // streams)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        part = np.s_[:, step * self._streams : (step + 1) * self._streams]
        inputs, targets = (np.ascontiguousarray(array[part]) for array in (self._inputs, self._targets))
        return Batch(inputs, targets, np.ones(inputs.shape[1], bool))


@torch.inference_mode()
def mean_nats(model: TorchModel, windows: Scored) -> float:
    """Nats a token over one pass."""
    model.eval()
    nats, tokens, state = 0.0, 0, None
    for step in range(windows.steps_per_epoch):
        batch = windows.batch(step)
        state = None if batch.reset.all() else fresh(state, batch.reset)
        hidden, state = model(torch.from_numpy(batch.inputs), state)
        nats += model.losses(hidden, torch.from_numpy(batch.targets)).double().sum().item()
        tokens += batch.tokens
    return nats / tokens


def open_windows(ids: np.ndarray, mark: int | None, streams: int, length: int, seed: int | None, tail: str) -> Windows:
    """Windows over one text, or over items."""
    if mark is None:
        return StreamWindows(ids, streams, length, tail)
    return ItemWindows(ids, mark, streams, length, seed)


def score(model: TorchModel, data: Data) -> dict[str, float | None]:
    """Nats a token of the scored text: in one pass, and in cold windows (None for items)."""
    V, H = model.output.out_features, model.output.in_features
    if data.mark is not None:
        return {"nats": mean_nats(model, ItemWindows(data.score, data.mark, VALID_STREAMS, ITEM_LENGTH)), "cold": None}
    carried = StreamWindows(data.score, 1, max(1, min(1024, AT_ONCE // V)))
    cold = ColdWindows(data.score, WINDOW, max(1, AT_ONCE // (WINDOW * max(V, 8 * H))))
    return {"nats": mean_nats(model, carried), "cold": mean_nats(model, cold)}


def main() -> None:
    made = parser(__doc__.split("\n")[0])
    made.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tables = read_recipe(options.config)
    check_recipe(tables)
    recipe = TrainConfig(**tables["train"])
    data = read_data(recipe, options.text, options.valid, options.score)
    config = ModelConfig(data.vocab_size, **tables["model"])
    model = TorchModel(config, elman.LanguageModel(config, seed=options.seed).parameters)
    B, T, mark, tail = recipe.batch_size, recipe.seq_length, data.mark, recipe.tail
    windows = open_windows(data.train, mark, B, T, options.seed, tail)
    streams = min(VALID_STREAMS, max(1, (len(data.valid) - 1) // VALID_LENGTH))
    valid = open_windows(data.valid, mark, VALID_STREAMS if mark is not None else streams, T, None, "keep")
    minutes = options.minutes or recipe.minutes
    steps = recipe.steps or (recipe.epochs or 1) * windows.steps_per_epoch
    trainer = Trainer(model, recipe, windows, options.precision)
    budget = Budget(minutes and minutes * 60, steps)
    figures = train(model, trainer.step, lambda: mean_nats(model, valid), budget)
    in_bf16 = ", bf16" if options.precision == "bf16" else ""
    report(f"LSTM {config.num_layers} × {config.hidden_size}{in_bf16}", data, {**figures, **score(model, data)})


if __name__ == "__main__":
    main()
