"""The language model: embedding -> recurrent × L -> output, read in that order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from elman import sampling
from elman.cells import CELLS
from elman.config import ModelConfig, SampleConfig
from elman.errors import InputError, ModelFileError
from elman.kernels import open_kernel
from elman.layers import dropout, embedding, output, stack
from elman.layers.stack import State, Stepper, as_array

_SCORED_AT_ONCE = 1 << 22  # logits that score() holds at a time: 16 MB in float32
_DRAWN_AT_ONCE = 64  # ids that generate() draws in one call of the native kernel
_RECURRENT = "recurrent."


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all parameters of a model, in order."""
    V, E, H = config.vocab_size, config.embedding_size, config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {} if E is None else {"embedding.E": (V, E)}
    layers = stack.parameter_shapes(CELLS[config.cell], V if E is None else E, H, config.num_layers)
    shapes |= {_RECURRENT + name: shape for name, shape in layers.items()}
    if not config.tie_weights:
        shapes["output.W_hy"] = (V, H)
    shapes["output.b_y"] = (V,)
    return shapes


def _initial_parameters(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    rng = stack.generator(seed)
    V, E, H = config.vocab_size, config.embedding_size, config.hidden_size
    init, dtype = config.initialization, config.dtype
    parameters: dict[str, np.ndarray] = {}
    if E is not None:
        # PyTorch draws an embedding from N(0, 1); as output weights that would start with logits of size sqrt(H).
        normal = init == "uniform" and not config.tie_weights
        E_start = rng.standard_normal((V, E)) if normal else stack.initial_array((V, E), H, rng, init)
        parameters["embedding.E"] = E_start.astype(dtype)
    layers = stack.initial_parameters(CELLS[config.cell], V if E is None else E, H, config.num_layers, rng, dtype, init)
    parameters |= {_RECURRENT + name: array for name, array in layers.items()}
    if not config.tie_weights:
        parameters["output.W_hy"] = stack.initial_array((V, H), H, rng, init).astype(dtype)
    parameters["output.b_y"] = stack.initial_array((V,), H, rng, init).astype(dtype)
    return parameters


class LanguageModel:
    """A recurrent language model over token ids: its config, its ``parameters`` (a dict by name), its kernel.

    ``seed`` draws the initial parameters. ``kernel``: "auto", "numpy" or "native"; ``threads``: see
    :func:`elman.kernels.open_kernel`. ``parameters``: start from these arrays instead; raises ModelFileError where a
    name or shape is not the config's.

    Assigning into the arrays of ``parameters`` is allowed, and so is putting another array of the same shape there.
    A model keeps no state between calls, so several threads may use it at once.
    """

    def __init__(
        self,
        config: ModelConfig,
        seed: int = 0,
        kernel: str = "auto",
        threads: int | None = None,
        parameters: Mapping[str, np.ndarray] | None = None,
    ):
        self.config = config
        self.cell = CELLS[config.cell]
        self.kernel = open_kernel(kernel, threads)
        if parameters is None:
            self.parameters = _initial_parameters(config, seed)
        else:
            _check_parameters(config, parameters)
            self.parameters = {name: parameters[name] for name in parameter_shapes(config)}

    @property
    def num_parameters(self) -> int:
        """How many numbers the model has learned."""
        return sum(array.size for array in self.parameters.values())

    def in_float64(self) -> LanguageModel:
        """A copy with the same weights in float64, on the NumPy kernel: to look at, and to check."""
        config = dataclasses.replace(self.config, dtype="float64")
        parameters = {name: array.astype(np.float64) for name, array in self.parameters.items()}
        return LanguageModel(config, kernel="numpy", parameters=parameters)

    def initial_state(self, batch_size: int) -> State:
        """The zero state for B streams: h (L, B, H), or for an LSTM the pair (h, c)."""
        config = self.config
        return stack.initial_state(self.cell, config.num_layers, batch_size, config.hidden_size, config.dtype)

    def forward(self, inputs: np.ndarray, state: State = None) -> tuple[np.ndarray, State]:
        """Inputs (T, B) ids, state before them (None: zeros) -> logits (T, B, V) and the state after them.

        Raises InputError for an id outside the vocabulary or a wrong shape, as all methods here do.
        """
        hidden, state, _ = self.hidden(self.check_inputs(inputs), state, None)
        return output.logits(self.kernel, self.output_weights, self.parameters["output.b_y"], hidden), state

    def step(self, ids: np.ndarray, state: State = None) -> tuple[np.ndarray, State]:
        """One time step: ids (B,), state -> logits (B, V), state."""
        logits, state = self.forward(as_array("ids", ids)[np.newaxis], state)
        return logits[0], state

    def stepper(self) -> Stepper:
        """The tutorials' object, which keeps its own state: ``net = lm.stepper(); scores = net.step(ids)``.

        See :class:`elman.layers.stack.Stepper`.
        """
        return Stepper(self, rank=0)

    def losses(self, inputs: np.ndarray, targets: np.ndarray, state: State = None) -> tuple[np.ndarray, State]:
        """Cross-entropy of each target, without gradients: nats (T, B), 0 where a target is -1; and the state after."""
        inputs, targets = self.check_inputs(inputs), self.check_targets(inputs, targets)
        hidden, state, _ = self.hidden(inputs, state, None)
        return output.losses(self.kernel, self.output_weights, self.parameters["output.b_y"], hidden, targets), state

    def loss_and_gradients(
        self,
        inputs: np.ndarray,
        targets: np.ndarray,
        state: State = None,
        reduction: str = "mean",
        rng: np.random.Generator | None = None,
        activation_regularization: float = 0.0,
    ) -> tuple[float, dict[str, np.ndarray], State]:
        """Forward and backward over a window; the gradient stops at the state that comes in.

        That is truncated back-propagation through time (R. Williams and J. Peng 1990).

        inputs (T, B), targets (T, B) with -1 for not scored; reduction "mean" over the scored targets, or "sum"; rng
        draws the dropout masks, None means no dropout. The gradients are of the loss plus
        ``activation_regularization`` α, 0 or more, times the mean square of the outputs that predict (after dropout),
        reduced as the loss is: Merity et al. 2017, arXiv:1708.01009, its AR.

        -> loss in nats (without that term), gradients by parameter name, and the state after the window. Raises
        InputError for a wrong id, shape or reduction.
        """
        if reduction not in ("mean", "sum"):
            raise InputError(f"reduction must be mean or sum, not {reduction!r}")
        inputs, targets = self.check_inputs(inputs), self.check_targets(inputs, targets)
        hidden, state, recurrent_backward = self.hidden(inputs, state, rng)
        scale = 1.0 / max(1, int(np.count_nonzero(targets >= 0))) if reduction == "mean" else 1.0
        nats, d_hidden, d_output_weights, d_b_y = output.gradients(
            self.kernel, self.output_weights, self.parameters["output.b_y"], hidden, targets, scale
        )
        if activation_regularization > 0:
            slope = 2 * activation_regularization * scale / self.config.hidden_size  # of a mean over hidden units
            d_hidden += (slope * (targets >= 0)[..., np.newaxis]).astype(hidden.dtype) * hidden
        gradients = recurrent_backward(d_hidden)
        if self.config.tie_weights:
            gradients["embedding.E"] += d_output_weights
        else:
            gradients["output.W_hy"] = d_output_weights
        gradients["output.b_y"] = d_b_y
        return float(nats.sum(dtype=np.float64)) * scale, gradients, state

    def score(self, ids: np.ndarray, window: int | None = None) -> np.ndarray:
        """How surprising each token after the first is: ids (N,), N 2 or more -> nats (N - 1,).

        One exact pass that carries its state from the first token to the last; or with ``window`` cold windows: every
        ``window`` tokens the state starts again from zero. Raises InputError for fewer tokens or a window below 1.
        """
        ids = as_array("ids", ids)
        if ids.ndim != 1 or len(ids) < 2:
            raise InputError(f"scoring needs at least 2 tokens in one row, not the shape {ids.shape}")
        self.check_inputs(ids[:, np.newaxis])
        if window is not None and not (isinstance(window, int) and window >= 1):
            raise InputError(f"window must be a whole number 1 or more, not {window!r}")
        if window is not None:
            return self._score_cold(ids, window)
        nats, state = [], self.initial_state(1)
        length = max(1, min(1024, _SCORED_AT_ONCE // self.config.vocab_size))
        for start in range(0, len(ids) - 1, length):
            stop = min(start + length, len(ids) - 1)
            part, state = self.losses(ids[start:stop, np.newaxis], ids[start + 1 : stop + 1, np.newaxis], state)
            nats.append(part[:, 0])
        return np.concatenate(nats)

    def _score_cold(self, ids: np.ndarray, window: int) -> np.ndarray:
        window = min(window, len(ids) - 1)
        count = -(-(len(ids) - 1) // window)
        inputs, targets = np.zeros((2, count * window), np.int64)
        inputs[: len(ids) - 1], targets[: len(ids) - 1], targets[len(ids) - 1 :] = ids[:-1], ids[1:], -1
        inputs, targets = inputs.reshape(count, window).T, targets.reshape(count, window).T
        streams = max(1, _SCORED_AT_ONCE // (window * max(self.config.vocab_size, 8 * self.config.hidden_size)))
        parts = [
            self.losses(inputs[:, start : start + streams], targets[:, start : start + streams])[0]
            for start in range(0, count, streams)
        ]
        return np.concatenate(parts, axis=1).T.ravel()[: len(ids) - 1]

    def generate(
        self,
        prompt: np.ndarray,
        config: SampleConfig,
        state: State = None,
        rng: np.random.Generator | None = None,
        forbidden: int | None = None,
    ) -> Iterator[int]:
        """Yield ``config.length`` ids that continue the prompt (N,), N 1 or more, read after ``state`` (None: zeros).

        One uniform number an id is drawn from ``rng``, or from ``config.seed`` where there is none. The id
        ``forbidden`` is never drawn. Raises InputError for an empty prompt or an id outside the vocabulary.
        """
        prompt = as_array("a prompt", prompt)
        if prompt.ndim != 1 or len(prompt) == 0:
            raise InputError(f"a prompt is one row of at least 1 token, not the shape {prompt.shape}")
        self.check_inputs(prompt[:, np.newaxis])
        if forbidden is not None:
            self.check_inputs([[forbidden]])
        return self._generate(prompt, config, state, rng or np.random.default_rng(config.seed), forbidden)

    def _generate(
        self, prompt: np.ndarray, config: SampleConfig, state: State, rng: np.random.Generator, forbidden: int | None
    ) -> Iterator[int]:
        if self.kernel.NAME == "native":
            yield from self._generate_natively(prompt, config, state, rng, forbidden)
            return
        logits, state = self.forward(prompt[:, np.newaxis], state)
        logits = logits[-1]
        for i in range(config.length):
            if forbidden is not None:
                logits[:, forbidden] = -np.inf
            ids = sampling.sample(logits, rng.random(1), config.temperature, config.top_k, config.top_p)
            yield int(ids[0])
            if i + 1 < config.length:
                logits, state = self.step(ids, state)

    def _generate_natively(
        self, prompt: np.ndarray, config: SampleConfig, state: State, rng: np.random.Generator, forbidden: int | None
    ) -> Iterator[int]:
        """The same in calls that draw several ids each: few at first, so that a reader sees them come."""
        if len(prompt) > 1:
            _, state, _ = self.hidden(prompt[:-1, np.newaxis], state, None)
        parts = stack.state_parts(self.check_state(state, 1))
        generator = self.kernel.generator(self.config, self.parameters)
        token, left, at_once = int(prompt[-1]), config.length, 1
        while left > 0:
            at_once = min(2 * at_once, _DRAWN_AT_ONCE, left)
            ids, parts = generator.draw(token, parts, rng.random(at_once), config, forbidden)
            yield from ids.tolist()
            token, left = int(ids[-1]), left - at_once

    @property
    def output_weights(self) -> np.ndarray:
        """W_hy (V, H), or the embedding where the weights are tied."""
        return self.parameters["embedding.E" if self.config.tie_weights else "output.W_hy"]

    def hidden(
        self, inputs: np.ndarray, state: State = None, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, State, Callable[[np.ndarray], dict[str, np.ndarray]]]:
        """Embedding and recurrent layers, of checked inputs (T, B).

        -> hidden (T, B, H), state, and backward: d_hidden -> their gradients by name.
        """
        config, parameters = self.config, self.parameters
        x = inputs
        state = self.check_state(state, inputs.shape[1])
        if config.embedding_size is not None:
            x, embedding_backward = embedding.forward(self.kernel, parameters["embedding.E"], inputs)
        tokens_dropped = rng is not None and config.embedding_dropout > 0
        if tokens_dropped and rng is not None:
            x, tokens_drop_backward = dropout.forward(x, config.embedding_dropout, rng, shared=(2,))
        layers = {n.removeprefix(_RECURRENT): array for n, array in parameters.items() if n.startswith(_RECURRENT)}
        shared = (0,) if config.variational_dropout else ()
        hidden, state, stack_backward = stack.forward(
            self.kernel, self.cell, layers, x, state, config.dropout, rng, shared=shared
        )
        dropped = rng is not None and config.dropout > 0
        if dropped and rng is not None:
            hidden, drop_backward = dropout.forward(hidden, config.dropout, rng, shared)

        def backward(d_hidden: np.ndarray) -> dict[str, np.ndarray]:
            if dropped:
                d_hidden = drop_backward(d_hidden)
            d_x, _, layer_gradients = stack_backward(d_hidden)
            gradients = {_RECURRENT + name: gradient for name, gradient in layer_gradients.items()}
            if config.embedding_size is not None:
                assert d_x is not None  # it is for ids only, and these are rows of E
                if tokens_dropped:
                    d_x = tokens_drop_backward(d_x)
                gradients["embedding.E"] = embedding_backward(d_x)
            return gradients

        return hidden, state, backward

    def check_parameters(self) -> None:
        """Raise ModelFileError where an array of ``parameters`` has not the name, shape and dtype of the config."""
        _check_parameters(self.config, self.parameters)

    def check_state(self, state: State, batch_size: int) -> State:
        """The state in this model's dtype, zeros for None; raises InputError for other parts or shapes."""
        config = self.config
        if state is None:
            return self.initial_state(batch_size)
        return stack.check_state(state, self.cell, config.num_layers, batch_size, config.hidden_size, config.dtype)

    def check_inputs(self, inputs: Any) -> np.ndarray:
        """Ids (T, B) as an array; raises InputError for another shape or an id outside the vocabulary."""
        inputs = as_array("inputs", inputs)
        if inputs.ndim != 2 or 0 in inputs.shape or not np.issubdtype(inputs.dtype, np.integer):
            raise InputError(f"inputs must be whole numbers of shape (time, batch), not {inputs.dtype} {inputs.shape}")
        if inputs.min() < 0 or inputs.max() >= self.config.vocab_size:
            raise InputError(
                f"ids must be from 0 to {self.config.vocab_size - 1}, not {inputs.min()} to {inputs.max()}"
            )
        return inputs

    def check_targets(self, inputs: Any, targets: Any) -> np.ndarray:
        """Targets (T, B), -1 for not scored, as an array; raises InputError as check_inputs does."""
        targets = as_array("targets", targets)
        if targets.shape != np.shape(inputs) or not np.issubdtype(targets.dtype, np.integer):
            raise InputError(
                f"targets must be whole numbers of the inputs' shape {np.shape(inputs)}, "
                f"not {targets.dtype} {targets.shape}"
            )
        if targets.min() < -1 or targets.max() >= self.config.vocab_size:
            raise InputError(
                f"targets must be from 0 to {self.config.vocab_size - 1}, or -1 for not scored, "
                f"not {targets.min()} to {targets.max()}"
            )
        return targets


def _check_parameters(config: ModelConfig, parameters: Mapping[str, np.ndarray]) -> None:
    wanted = parameter_shapes(config)
    for name in [*wanted, *(name for name in parameters if name not in wanted)]:
        if name not in parameters:
            raise ModelFileError(f"the parameter {name} is missing")
        if name not in wanted:
            raise ModelFileError(f"unknown parameter {name}")
        array = parameters[name]
        if array.shape != wanted[name] or array.dtype != config.dtype:
            raise ModelFileError(
                f"parameter {name} is {array.dtype} {array.shape}, but the config says {config.dtype} {wanted[name]}"
            )
