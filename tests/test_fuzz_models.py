"""Anything at all given to models, layers and engines: InputError and nothing else, or the right numbers.

Each case is computed with both kernels, which are to give or refuse the same.
"""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest

from conftest import open_layer
from elman import LanguageModel, ModelConfig, SampleConfig, open_engine, optimizers, sampling
from elman.cells import CELLS
from elman.errors import InputError, NonFiniteError
from elman.kernels import available_kernels
from spoiling import (
    SANITIZED,
    contents,
    fill,
    misaligned,
    needs_native,
    of_another_shape,
    of_another_type,
    pick,
    random_config,
    read_only,
    run_cases,
    run_in_child,
    sizes,
    with_wrong_ids,
)

JUNK = [None, "abc", b"abc", 3, 3.5, np.nan, 1j, {}, {1: 2}, object(), [], [[]], [[1, 2], [3]], [None], [["a"]]]
JUNK += [[[1.5]], 10**30, [[10**30]], slice(None), np.array(["a"]), np.array([object()]), np.ma.masked, int, len, ...]
JUNK += [np.zeros((2, 0, 2)), np.zeros((2, 2, 2, 2)), np.zeros(3, "i4,f8"), np.array(["2020-01-01"], "M8[D]")]
JUNK += [[np.zeros(2), np.zeros(3)]]


def junk_for(rng, array, ids=None):
    """Something else than an argument that is public -> it, and whether that is to be refused."""
    if rng.random() < 0.3:
        return pick(rng, JUNK), "wrong"
    match pick(rng, ["type", "shape", "gaps", "backwards", "misaligned", "read-only", "list", "wrong ids", "integers"]):
        case "type":
            other = of_another_type(rng, array)
            fine = "iu" if ids else "biuf"
            return other, "unclear" if other.dtype.kind in fine else "wrong"
        case "shape":
            return of_another_shape(rng, array), "wrong"
        case "gaps":
            return np.repeat(array, 2, axis=-1)[..., ::2], "right"
        case "backwards":
            return array[::-1].copy()[::-1], "right"
        case "misaligned":
            return misaligned(array), "right"
        case "read-only":
            return read_only(array), "right"
        case "list":
            return array.tolist(), "right"
        case "integers" if ids:
            kind = pick(rng, ["i1", "i2", "i4", ">i8", "u1", ">u2", "u8"])
            return array.astype(kind), "right" if array.min() >= 0 or kind[-2] == "i" else "wrong"
        case _ if ids:
            kind = pick(rng, ["i8", "u8", ">i8"])
            spoiled = with_wrong_ids(rng, array, *ids).astype(kind)
            return spoiled, "wrong"
    return array, "right"


def public_state(rng, state):
    """A state and what may be given in its place."""
    parts = list(state) if isinstance(state, tuple) else [state]
    if rng.random() < 0.2:
        return pick(rng, [value for value in JUNK if value is not None]), "wrong"
    if rng.random() < 0.2:
        return (*parts, parts[0]), "wrong"
    at = int(rng.integers(len(parts)))
    parts[at], verdict = junk_for(rng, parts[at])
    if isinstance(parts[at], list) and len(parts) == 1:
        verdict = "unclear"  # a list of parts
    return (tuple(parts) if len(parts) > 1 else parts[0]), verdict if len(parts) > 1 or parts[
        0
    ] is not None else "right"


def outcome(function, *args, **options):
    """What a call gives, or the InputError that it raises; any other exception goes on."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*args, **options)
        except InputError as error:
            message = str(error)
            assert message and "\n" not in message and len(message) < 1000, repr(message)
            return error


def numbers_in(result):
    """All numbers of a result in a row."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        parts = [numbers_in(part) for part in result if not callable(part)]
        return np.concatenate(parts) if parts else np.zeros(0)
    return np.asarray(result, float).ravel()


def check_public(calls, verdict):
    """The same call on both kernels: refused by both where it is wrong, else the same numbers."""
    results = [outcome(*call) for call in calls]
    refused = [isinstance(result, InputError) for result in results]
    assert refused[0] == refused[1], results
    if verdict != "unclear":
        assert refused[0] == (verdict == "wrong"), results
    if not refused[0]:
        np.testing.assert_allclose(*map(numbers_in, results), rtol=0, atol=1e-9)


def fuzz_models(rng):
    """LanguageModel's methods."""
    config = ModelConfig(**{**vars(random_config(rng)), "dtype": "float64"})
    models = [LanguageModel(config, kernel=kernel, threads=2) for kernel in ("numpy", "native")]
    before = [contents(lm.parameters.values()) for lm in models]
    T, B = sizes(rng, 2)
    V = config.vocab_size
    inputs, targets = rng.integers(0, V, (T, B)), rng.integers(-1, V, (T, B))
    state = models[0].initial_state(B)
    method = pick(rng, ["forward", "step", "losses", "loss_and_gradients", "score", "generate"])
    verdict = "right"
    match method:
        case "forward" | "losses" | "loss_and_gradients":
            given = [inputs, state] if method == "forward" else [inputs, targets, state]
            at = int(rng.integers(len(given)))
            if at == len(given) - 1:
                given[at], verdict = public_state(rng, state)
            else:
                given[at], verdict = junk_for(rng, given[at], (-at, V))
                verdict = another_length(verdict, given[at], inputs) if method == "forward" else verdict
            if method == "loss_and_gradients" and rng.random() < 0.1:
                given, verdict = [inputs, targets, state, pick(rng, ["", "none", None, 3, ["mean"]])], "wrong"
        case "step":
            given = [inputs[0], state]
            if rng.random() < 0.5:
                given[0], verdict = junk_for(rng, given[0], (0, V))
            else:
                given[1], verdict = public_state(rng, state)
        case "score":
            ids = rng.integers(0, V, T + 1)
            given = [ids, None]
            if rng.random() < 0.5:
                given[0], verdict = junk_for(rng, given[0], (0, V))
            else:
                given[1], verdict = pick(
                    rng,
                    [
                        *((window, "wrong") for window in (0, -1, 1.5, "3", np.nan, [2])),
                        *((n, "right") for n in (1, 3, 2**70)),
                    ],
                )
            verdict = another_length(verdict, given[0], ids)
        case "generate":
            given = [inputs[:, 0], SampleConfig(4, top_k=pick(rng, [0, 2**62])), models[0].initial_state(1), None, None]
            match pick(rng, ["prompt", "state", "forbidden"]):
                case "prompt":
                    given[0], verdict = junk_for(rng, given[0], (0, V))
                    verdict = another_length(verdict, given[0], inputs[:, 0])
                case "state":
                    given[2], verdict = public_state(rng, given[2])
                case "forbidden":
                    wrong = [-1, V, 2**31, 2**62, -(2**62), 2**70, 1.5, "a", [1, 2], np.nan]
                    given[4], verdict = pick(rng, wrong), "wrong"
            check_public([(lambda lm=lm: list(lm.generate(*given)),) for lm in models], verdict)
            given = [inputs[:, 0], SampleConfig(4)]
            check_public([(lambda lm=lm: list(lm.generate(*given)),) for lm in models], "right")
            return
    check_public([(getattr(lm, method), *given) for lm in models], verdict)
    check_public([(lm.loss_and_gradients, inputs, targets, state) for lm in models], "right")
    assert [contents(lm.parameters.values()) for lm in models] == before


def another_length(verdict, ids, fit):
    """Another number of ids, or of time steps, is no error."""
    same_rank = isinstance(ids, np.ndarray) and ids.ndim == fit.ndim
    return "unclear" if verdict == "wrong" and same_rank and len(ids) != len(fit) else verdict


def fuzz_layers(rng):
    """Layers called with wrong x, state and lengths."""
    I, H, L = (int(n) for n in rng.integers(1, 9, 3))  # noqa: E741
    cell = pick(rng, list(CELLS))
    layers = [open_layer(cell, I, H, L, dtype="float64", kernel=kernel) for kernel in ("numpy", "native")]
    T, B = sizes(rng, 2)
    lengths = rng.integers(1, T, B, endpoint=True)
    given = [fill(rng, (T, B, I), "f8"), layers[0].initial_state(B), lengths]
    match pick(rng, ["x", "ids", "state", "lengths"]):
        case "x":
            given[0], verdict = junk_for(rng, given[0])
            if verdict == "wrong" and isinstance(given[0], np.ndarray):
                verdict = "unclear"
        case "ids":
            given[0], verdict = junk_for(rng, rng.integers(0, I, (T, B)), (0, I))
            if verdict == "wrong" and isinstance(given[0], np.ndarray):
                verdict = "unclear"
        case "state":
            given[1], verdict = public_state(rng, given[1])
        case "lengths":
            given[2], verdict = junk_for(rng, lengths, (1, T + 1))
            verdict = "right" if given[2] is None else verdict
    check_public([(layer, *given) for layer in layers], verdict)
    given = [fill(rng, (T, B, I), "f8"), layers[0].initial_state(B), lengths]
    check_public([(layer, *given) for layer in layers], "right")
    x_t, state = pick(rng, JUNK), layers[0].initial_state(B)
    check_public([(layer.step, x_t, state) for layer in layers], "unclear")


def fuzz_engine(rng):
    """Training steps, some of them refused: they change nothing, and both kernels stay together."""
    config = ModelConfig(**{**vars(random_config(rng, dropout=0.3)), "dtype": "float64"})
    V = config.vocab_size
    engines = []
    for kernel in ("numpy", "native"):
        lm = LanguageModel(config, kernel=kernel, threads=2)
        engines.append(open_engine(model=lm, optimizer=optimizers.Adam(0.01), clip_norm=1.0, seed=1))
    T, B = sizes(rng, 2)

    def everything(engine):
        state = [] if engine.state is None else list(engine.state) if config.cell == "lstm" else [engine.state]
        slots = [array for slot in engine.optimizer.slots.values() for array in slot.values()]
        numbers = contents([*engine.model.parameters.values(), *slots, *state])
        return numbers, engine.optimizer.steps, engine.rng.bit_generator.state

    for step in range(4):
        inputs, targets = rng.integers(0, V, (T, B)), rng.integers(-1, V, (T, B))
        reset = rng.random(B) < 0.5
        given, verdict = [inputs, targets, reset, 0.01], "right"
        if step in (1, 2):
            match pick(rng, ["inputs", "targets", "reset", "rate", "streams"]):
                case "inputs":
                    given[0], verdict = junk_for(rng, inputs, (0, V))
                case "targets":
                    given[1], verdict = junk_for(rng, targets, (-1, V))
                case "reset":
                    given[2], verdict = junk_for(rng, reset)
                    given[2], verdict = (reset, "right") if given[2] is None else (given[2], verdict)
                    verdict = "unclear" if verdict == "right" and isinstance(given[2], list) else verdict
                case "rate":
                    wrong = [-1, np.nan, np.inf, "x", 10**400, True, 1j, [0.1]]
                    given[3], verdict = pick(rng, [*((value, "wrong") for value in wrong), (Fraction(1, 99), "right")])
                case "streams":
                    wide = rng.integers(0, V, (T, B + 1))
                    given, verdict = [wide, wide, rng.random(B + 1) < 0.5, None], "wrong"
        before = [everything(engine) for engine in engines]
        results = [outcome(engine.step, *given) for engine in engines]
        refused = [isinstance(result, InputError) for result in results]
        assert refused[0] == refused[1], results
        if verdict != "unclear":
            assert refused[0] == (verdict == "wrong"), results
        if refused[0]:
            assert [everything(engine) for engine in engines] == before, "refused, and yet something changed"
        else:
            np.testing.assert_allclose(*results, rtol=1e-8)
    for name, array in engines[0].model.parameters.items():
        np.testing.assert_allclose(engines[1].model.parameters[name], array, rtol=0, atol=1e-7)


TARGETS = {"models": fuzz_models, "layers": fuzz_layers, "engine": fuzz_engine}


@needs_native
@pytest.mark.parametrize("target", TARGETS)
def test_anything_is_refused_or_computed(target):
    run_in_child(__file__, target, 0, 0, 60 if SANITIZED else 200)


@needs_native
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_five_thousand_things_are_refused_or_computed(target):
    run_in_child(__file__, target, 1, 0, 5_000)


# What was found


def infinite_logits():
    """They were drawn from as if they were numbers, and the id beyond the vocabulary was read."""
    with pytest.raises(InputError, match="temperature must be a number 0 or more, not inf"):
        sampling.sample(np.zeros((1, 2)), np.zeros(1), temperature=np.inf)
    for kernel in available_kernels():
        for broken in ([np.inf, 0, 0], [-np.inf] * 3, [0, np.nan, 0]):
            lm = LanguageModel(ModelConfig(3, "gru", 4, 1), kernel=kernel)
            lm.parameters["output.b_y"][:] = broken
            with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="are not numbers"):
                list(lm.generate([1], SampleConfig(5)))
        lm.parameters["output.b_y"][:] = [-np.inf, 0, 0]  # an id that is never drawn is sound
        assert 0 not in list(lm.generate([1], SampleConfig(50)))


def an_id_that_is_forbidden_and_none():
    for kernel in available_kernels():
        for forbidden in (3, -1, 10**9):
            with pytest.raises(InputError, match=f"ids must be from 0 to 2, not {forbidden}"):
                LanguageModel(ModelConfig(3, "gru", 4, 1), kernel=kernel).generate(
                    [1], SampleConfig(5), None, None, forbidden
                )


def a_top_k_above_every_int():
    lm = LanguageModel(ModelConfig(3, "gru", 4, 1), kernel="native")
    drawn = [list(lm.generate([1], SampleConfig(9, top_k=top_k))) for top_k in (0, 3, 2**32 + 1, 2**63 - 1)]
    assert drawn == drawn[:1] * 4


def a_reset_with_another_number_of_streams():
    for kernel in available_kernels():
        engine = open_engine(
            model=LanguageModel(ModelConfig(3, "lstm", 4, 1), kernel=kernel), optimizer=optimizers.SGD()
        )
        ids = np.ones((2, 3), int)
        engine.step(ids, ids)
        for wrong in (ids[:, :2], ids[0]):
            with pytest.raises(InputError):
                engine.step(wrong, wrong, reset=np.ones(wrong.shape[1:], bool))
        engine.step(ids, ids, reset=[True, False, True])


def a_refused_window_of_a_model_with_dropout():
    """It drew masks, so that the next step was another one."""
    config, ids = ModelConfig(3, "lstm", 4, 1, dropout=0.5), np.ones((2, 3), int)
    losses = []
    for wrong in (None, ids + 3):
        engine = open_engine(model=LanguageModel(config, kernel="native"), optimizer=optimizers.SGD())
        if wrong is not None:
            with pytest.raises(InputError):
                engine.step(wrong, ids)
        losses.append(engine.step(ids, ids))
    assert losses[0] == losses[1]


def a_learning_rate_that_is_a_fraction():
    """NumPy made objects of it."""
    ids = np.ones((2, 3), int)
    for kernel in available_kernels():
        engine = open_engine(
            model=LanguageModel(ModelConfig(5, "rnn", 5, 1), kernel=kernel), optimizer=optimizers.SGD()
        )
        assert engine.step(ids, ids, learning_rate=Fraction(1, 2)) > engine.step(ids, ids, learning_rate=Fraction(1, 3))
        with pytest.raises(InputError, match="learning_rate must be a number 0 or more, not something too large"):
            engine.step(ids, ids, learning_rate=10**5000)


def one_array_as_two_parameters():
    """Two threads would have trained it at once."""
    lm = LanguageModel(ModelConfig(5, "rnn", 5, 1, embedding_size=5), kernel="native")
    lm.parameters["output.W_hy"] = lm.parameters["embedding.E"]
    ids = np.ones((2, 3), int)
    with pytest.raises(InputError, match="shares memory with another array"):
        open_engine(model=lm, optimizer=optimizers.SGD()).step(ids, ids)


FOUND = {
    function.__name__: function
    for function in (
        infinite_logits,
        an_id_that_is_forbidden_and_none,
        a_top_k_above_every_int,
        a_reset_with_another_number_of_streams,
        a_refused_window_of_a_model_with_dropout,
        a_learning_rate_that_is_a_fraction,
        one_array_as_two_parameters,
    )
}


@needs_native
@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(name):
    run_in_child(__file__, name, 0, 0, 1)


if __name__ == "__main__":
    run_cases(TARGETS, FOUND)
