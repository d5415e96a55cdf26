"""The training engine: the same numbers as its parts one after the other, and nothing changed where a step fails."""

from __future__ import annotations

import copy
import math
import platform
import sys

import numpy as np
import pytest

from conftest import parts_of
from elman import LanguageModel, ModelConfig, open_engine, optimizers
from elman.batches import ItemWindows, StreamWindows
from elman.cells import CELLS
from elman.engines import cpu
from elman.errors import InputError, KernelError, NonFiniteError
from elman.kernels import available_kernels

V, T, B = 6, 5, 4
KERNEL = "auto"
all_cells = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture(autouse=True, params=available_kernels())
def every_kernel(request, monkeypatch):
    """All tests here run with each kernel: step by step in NumPy, and in one native call."""
    monkeypatch.setattr(sys.modules[__name__], "KERNEL", request.param)


def model(cell="lstm", **options):
    config = ModelConfig(V, cell, **{"hidden_size": 5, "num_layers": 2, "dtype": "float64"} | options)
    return LanguageModel(config, kernel=KERNEL)


def windows(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        inputs, targets = rng.integers(0, V, (2, T, B))
        targets[rng.random((T, B)) < 0.1] = -1
        yield inputs, targets


def snapshot(engine):
    arrays = [*engine.model.parameters.values(), *(() if engine.state is None else parts_of(engine.state))]
    slots = {name: {key: a.tobytes() for key, a in slot.items()} for name, slot in engine.optimizer.slots.items()}
    return [array.tobytes() for array in arrays], slots, engine.optimizer.steps


@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 0.3}, {"clip_value": 0.02}], ids=["none", "norm", "value"])
@pytest.mark.parametrize(("reduction", "regularization"), [("mean", 0.0), ("mean", 2.0), ("sum", 0.3)])
@all_cells
def test_20_steps_equal_gradients_clipping_and_optimizer_one_after_the_other(cell, reduction, regularization, clipping):
    variational = regularization > 0
    dropped = {"dropout": 0.2, "variational_dropout": variational}
    dropped |= {"embedding_size": 3, "embedding_dropout": 0.3} if reduction == "sum" else {}
    lm, by_hand = (model(cell, **dropped) for _ in range(2))
    optimizer, hand_optimizer = optimizers.Adam(0.01), optimizers.Adam(0.01)
    engine = open_engine(
        "cpu",
        model=lm,
        optimizer=optimizer,
        reduction=reduction,
        activation_regularization=regularization,
        seed=3,
        **clipping,
    )
    rng, state, clipped = np.random.default_rng(3), None, 0
    for step, (inputs, targets) in enumerate(windows(20)):
        reset = np.array([step % 3 == 0, False, step == 7, True]) if step % 2 else None
        learning_rate = 0.05 if step == 11 else None
        loss = engine.step(inputs, targets, reset=reset, learning_rate=learning_rate)

        if state is not None and reset is not None:
            parts = tuple(part.copy() for part in parts_of(state))
            for part in parts:
                part[:, reset] = 0
            state = parts if len(parts) > 1 else parts[0]
        hand_loss, gradients, state = by_hand.loss_and_gradients(inputs, targets, state, reduction, rng, regularization)
        norm = math.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        for gradient in gradients.values():
            if norm > clipping.get("clip_norm", math.inf):
                gradient *= 0.3 / (norm + 1e-6)
                clipped += 1
            if "clip_value" in clipping:
                clipped += np.count_nonzero(np.abs(gradient) > 0.02)
                gradient[...] = np.maximum(np.minimum(gradient, 0.02), -0.02)
        hand_optimizer.update(by_hand.parameters, gradients, learning_rate)

        assert loss == pytest.approx(hand_loss, rel=1e-10)
        assert engine.gradient_norm == pytest.approx(norm, rel=1e-10)  # before clipping
        for part, hand_part in zip(parts_of(engine.state), parts_of(state), strict=True):
            np.testing.assert_allclose(part, hand_part, rtol=0, atol=1e-9)
        for name, array in by_hand.parameters.items():
            np.testing.assert_allclose(lm.parameters[name], array, rtol=0, atol=1e-9, err_msg=f"{name}, step {step}")
    assert optimizer.steps == 20
    assert bool(clipped) == bool(clipping)


@pytest.mark.parametrize("clipping", [{"clip_norm": 1e9}, {"clip_value": 1e9}])
def test_a_limit_that_is_not_reached_changes_no_byte(clipping):
    runs = []
    for options in ({}, clipping):
        lm = model(dtype="float32")
        engine = open_engine(model=lm, optimizer=optimizers.SGD(0.1), **options)
        losses = [engine.step(*window) for window in windows(3)]
        runs.append((losses, [array.tobytes() for array in lm.parameters.values()], engine.gradient_norm))
    assert runs[0] == runs[1]


@all_cells
def test_a_reset_stream_starts_from_zero_and_the_others_go_on(cell):
    (first, _), (inputs, targets) = windows(2)
    carried, fresh = open_engine(model=model(cell), optimizer=optimizers.SGD(0.1)), model(cell)
    carried.step(first, first, learning_rate=1e-300)  # as good as no update
    before = carried.state
    carried.step(inputs, targets, reset=[True, False, False, True], learning_rate=1e-300)
    _, from_zero = fresh.forward(inputs)
    _, went_on = fresh.forward(inputs, before)
    for part, zero, on in zip(parts_of(carried.state), parts_of(from_zero), parts_of(went_on), strict=True):
        np.testing.assert_allclose(part[:, [0, 3]], zero[:, [0, 3]], rtol=0, atol=1e-12)
        np.testing.assert_allclose(part[:, 1:3], on[:, 1:3], rtol=0, atol=1e-12)
        assert np.abs(zero - on).max() > 1e-3


@pytest.mark.parametrize("variational", [False, True])
def test_variational_dropout_drops_the_same_units_at_all_steps(variational):
    lm = model(dropout=0.5, variational_dropout=variational, hidden_size=50)
    inputs, _ = next(windows(1))
    dropped = lm.hidden(inputs, None, np.random.default_rng(0))[0] == 0  # (T, B, H)
    assert 0.4 < dropped.mean() < 0.6
    assert (dropped == dropped[0]).all() == variational
    assert not (dropped == dropped[:, :1]).all()  # streams have masks of their own


@pytest.mark.parametrize("probability", [0.25, 0.9])
def test_embedding_dropout_takes_away_whole_tokens(probability):
    lm = model(embedding_size=1, embedding_dropout=probability, hidden_size=50)
    lm.parameters["embedding.E"][...] = 1  # so that what is read says only whether it is there
    inputs = np.zeros((1, 1000), np.int64)
    outputs = lm.hidden(inputs, None, np.random.default_rng(0))[0][0]
    _, kinds, counts = np.unique(outputs, axis=0, return_index=True, return_counts=True)
    lm.parameters["embedding.E"][...] = 0
    read_nothing = lm.hidden(inputs, None, None)[0][0, 0]
    dropped = int((outputs == read_nothing).all(axis=1).sum())
    assert len(kinds) == 2 and dropped in counts
    assert abs(dropped / 1000 - probability) < 0.05


@pytest.mark.parametrize("kind", ["dropout", "embedding_dropout"])
def test_the_seed_draws_the_dropout_masks(kind):
    inputs, targets = next(windows(1))
    losses = [
        open_engine(model=model(embedding_size=3, **{kind: dropout}), optimizer=optimizers.SGD(), seed=seed).step(
            inputs, targets
        )
        for dropout, seed in ((0.5, 1), (0.5, 1), (0.5, 2), (0.0, 1), (0.0, 2))
    ]
    assert losses[0] == losses[1]
    assert losses[3] == losses[4]
    assert len(set(losses)) == 3


def test_training_learns_a_text_by_heart():
    ids = np.array([0, 1, 2, 2, 3, 4] * 20)
    for cell in CELLS:
        lm = model(cell, dtype="float32", hidden_size=12)
        engine, data = open_engine(model=lm, optimizer=optimizers.Adam(0.02), clip_norm=1), StreamWindows(ids, 2, 10)
        for step in range(90):
            batch = data.batch(step)
            engine.step(batch.inputs, batch.targets, reset=batch.reset)
        assert engine.evaluate(data) < 0.1 < math.log(V)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.full((2, 3), V), np.zeros((2, 3), int), "ids must be from 0 to 5"),
        (np.full((2, 3), -1), np.zeros((2, 3), int), "ids must be from 0 to 5"),
        (np.zeros((2, 3), int), np.full((2, 3), V), "targets must be from 0 to 5, or -1"),
        (np.zeros((2, 3), int), np.full((2, 3), -2), "targets must be from 0 to 5, or -1"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), "inputs must be whole numbers"),
        (np.zeros((2, 3), int), np.zeros((2, 3)), "targets must be whole numbers"),
        (np.zeros((0, 3), int), np.zeros((0, 3), int), "inputs must be whole numbers of shape"),
        (np.zeros(3, int), np.zeros(3, int), "inputs must be whole numbers of shape"),
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "targets must be whole numbers of the inputs' shape"),
    ],
)
def test_a_wrong_window_is_refused_and_changes_nothing(inputs, targets, message):
    engine = open_engine(model=model(), optimizer=optimizers.Adam())
    engine.step(*next(windows(1)))
    engine.state = None
    before = snapshot(engine)
    with pytest.raises(InputError, match=message):
        engine.step(inputs, targets)
    assert snapshot(engine) == before


def test_ids_of_other_whole_types_are_read():
    inputs, targets = next(windows(1))
    losses = [
        open_engine(model=model(), optimizer=optimizers.Adam()).step(inputs.astype(kind), targets.astype(other))
        for kind, other in (("i8", "i8"), ("u1", "i2"), ("i4", "i1"), ("u8", "i8"))
    ]
    assert losses == losses[:1] * 4


def test_a_state_of_another_batch_or_an_alien_slot_is_refused():
    engine = open_engine(model=model(), optimizer=optimizers.Adam())
    inputs, targets = next(windows(1))
    engine.step(inputs, targets)
    with pytest.raises(InputError, match="the state of lstm"):
        engine.step(inputs[:, :2], targets[:, :2])
    engine.optimizer.slots["mean"]["output.b_y"] = np.zeros(V + 1)
    with pytest.raises(InputError, match=r"mean of output\.b_y is float64 \(7,\), but the parameter is float64 \(6,\)"):
        engine.step(inputs, targets)


# What is not finite


@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 1.0}, {"clip_value": 1.0}], ids=["none", "norm", "value"])
@all_cells
def test_a_parameter_that_is_nan_is_named_and_nothing_changes(cell, clipping):
    inputs, targets = np.tile(np.arange(V), (2, 1)), np.zeros((2, V), int)  # every id, so that every entry is read
    for name in model(cell, embedding_size=4).parameters:
        lm = model(cell, embedding_size=4)
        engine = open_engine(model=lm, optimizer=optimizers.Adam(), **clipping)
        engine.step(inputs, targets)
        lm.parameters[name].flat[0] = math.nan
        before = snapshot(engine)
        with pytest.raises(NonFiniteError, match=rf"^step 2: the loss is nan, and parameter {name} is not finite$"):
            engine.step(inputs, targets)
        assert snapshot(engine) == before


def test_a_huge_learning_rate_ends_in_an_error_that_names_step_and_array_and_changes_nothing():
    # At 3e38 a parameter becomes infinite. At 1e25 all of relu's stay finite, and their products do not.
    for cell, learning_rate, kind in [
        *((cell, 3e38, "parameter") for cell in CELLS),
        ("rnn-relu", 1e25, "gradient of"),
    ]:
        for clipping in ({}, {"clip_norm": 1e9}, {"clip_value": 1e9}):
            lm = model(cell, dtype="float32")
            engine = open_engine(model=lm, optimizer=optimizers.SGD(learning_rate), reduction="sum", **clipping)
            before, steps = None, 0
            with pytest.raises(NonFiniteError) as error:
                for window in windows(10):
                    before, steps = snapshot(engine), steps + 1
                    engine.step(*window)
            assert snapshot(engine) == before
            assert str(error.value).startswith(f"step {steps}: the loss is ")
            assert any(f", and {kind} {name} is not finite" in str(error.value) for name in lm.parameters)


@pytest.mark.parametrize("entry", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_named_even_where_the_loss_is(entry, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "KERNEL", "numpy")  # no seam in the native call to break it at
    lm = model()
    engine = open_engine(model=lm, optimizer=optimizers.RMSProp(), clip_norm=1.0)
    right = lm.loss_and_gradients

    def wrong(*args):
        loss, gradients, state = right(*args)
        gradients["recurrent.layers.1.W_hh"][2, 1] = entry
        return loss, gradients, state

    monkeypatch.setattr(lm, "loss_and_gradients", wrong)
    before = snapshot(engine)
    message = r"step 1: the loss is \d\.\d+, and gradient of recurrent\.layers\.1\.W_hh is not finite"
    with pytest.raises(NonFiniteError, match=message):
        engine.step(*next(windows(1)))
    assert snapshot(engine) == before


def test_training_goes_on_after_an_error():
    lm, other = model(), model()
    engine, straight = (open_engine(model=m, optimizer=optimizers.Adam(0.1)) for m in (lm, other))
    first, second = windows(2)
    engine.step(*first)
    kept = lm.parameters["output.b_y"].copy()
    lm.parameters["output.b_y"][0] = math.inf
    with pytest.raises(NonFiniteError):
        engine.step(*second)
    with pytest.raises(InputError):
        engine.step(second[0] + V, second[1])
    lm.parameters["output.b_y"][...] = kept
    straight.step(*first)
    assert engine.step(*second) == straight.step(*second)
    assert snapshot(engine) == snapshot(straight)


# Evaluation


@pytest.mark.parametrize("batch_size", [1, 3])
@all_cells
def test_evaluate_is_the_mean_of_the_losses_of_one_pass_without_dropout(cell, batch_size):
    lm, ids = model(cell, dropout=0.5), np.random.default_rng(5).integers(0, V, 101)
    engine = open_engine(model=lm, optimizer=optimizers.SGD())
    streams = np.array_split(np.arange(100), batch_size)  # each reads its part of the text from zero
    nats = [lm.losses(ids[part, np.newaxis], ids[part + 1, np.newaxis])[0].ravel() for part in streams]
    for seq_length in (1, 7, 100):
        loss = engine.evaluate(StreamWindows(ids, batch_size, seq_length))
        assert loss == pytest.approx(np.concatenate(nats).mean(), rel=1e-12)
    if batch_size == 1:
        assert loss == pytest.approx(lm.score(ids).mean(), rel=1e-12)


def test_evaluate_begins_each_item_from_the_zero_state():
    ids = np.array([0, 1, 2, 3, 0, 4, 0, 2, 1, 0, 3, 3, 0])
    engine = open_engine(model=model(), optimizer=optimizers.SGD())
    items = [ids[start : end + 1] for start, end in ((0, 4), (4, 6), (6, 9), (9, 12))]
    alone = np.concatenate([engine.model.score(item) for item in items]).mean()
    for batch_size, seq_length in ((1, 9), (2, 9), (4, 2), (1, 2)):
        windows = ItemWindows(ids, 0, batch_size, seq_length)
        assert math.isclose(engine.evaluate(windows), alone, rel_tol=1e-9)


@all_cells
def test_evaluate_leaves_the_training_state_alone(cell):
    engine = open_engine(model=model(cell, dropout=0.5), optimizer=optimizers.Adam(), clip_norm=1.0)
    data = StreamWindows(np.random.default_rng(5).integers(0, V, 101), 3, 7)
    engine.evaluate(data)  # before the first step too
    assert engine.state is None
    engine.step(*next(windows(1)))
    before, rng, norm = snapshot(engine), copy.deepcopy(engine.rng.bit_generator.state), engine.gradient_norm
    engine.evaluate(data)
    assert snapshot(engine) == before
    assert engine.rng.bit_generator.state == rng
    assert engine.gradient_norm == norm


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": 1.0, "clip_value": 1.0}, "clip_norm and clip_value exclude each other"),
        *(({name: 0}, f"{name} must be a number above 0, not 0") for name in ("clip_norm", "clip_value")),
        *(({name: -1.0}, rf"{name} must be a number above 0, not -1\.0") for name in ("clip_norm", "clip_value")),
        *(({name: math.nan}, f"{name} must be a number above 0, not nan") for name in ("clip_norm", "clip_value")),
        ({"reduction": "none"}, "reduction must be mean or sum, not 'none'"),
        ({"precision": "bf61"}, r"no precision 'bf61'; there are float32, bf16, auto\. Did you mean bf16\?"),
        ({"name": "cpuu"}, r"no engine 'cpuu'; there is cpu.*\. Did you mean cpu\?"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        open_engine(**{"model": model(), "optimizer": optimizers.SGD()} | options)


def test_bf16_that_cannot_be_had_is_refused_and_auto_does_without(monkeypatch):
    def lacking(reason, optimizer=optimizers.SGD, **options):
        lm = model(**options)
        with pytest.raises(
            KernelError, match=f"^precision bf16 cannot be had: {reason}; use precision float32 or auto$"
        ):
            open_engine(model=lm, optimizer=optimizer(), precision="bf16")
        assert open_engine(model=lm, optimizer=optimizer(), precision="auto").precision == lm.config.dtype

    class Own(optimizers.SGD):
        pass

    lacking("the model is float64")
    if KERNEL == "numpy":
        lacking("the kernel is numpy, not native", dtype="float32")
        return
    lacking("the optimizer Own is not elman's own", Own, dtype="float32")
    monkeypatch.setenv("ELMAN_ISA", "x86-64-v2" if platform.machine() in ("x86_64", "AMD64") else "base")
    lacking("ELMAN_ISA asks for .*, which has none", dtype="float32")
    monkeypatch.delenv("ELMAN_ISA")
    monkeypatch.setattr(cpu, "bf16_lacks", lambda: "no tiles")
    lacking("no tiles", dtype="float32")


def test_an_optimizer_of_ones_own_put_into_an_engine_of_bf16_is_refused(monkeypatch):
    class Own(optimizers.SGD):
        pass

    if KERNEL == "numpy":  # which has no bf16
        return
    monkeypatch.delenv("ELMAN_ISA", raising=False)
    monkeypatch.setattr(cpu, "bf16_lacks", lambda: None)
    engine = open_engine(model=model(dtype="float32"), optimizer=optimizers.SGD(), precision="bf16")
    engine.optimizer = Own()
    with pytest.raises(KernelError, match="cannot be trained in bf16"):
        engine.step(*next(windows(1)))


def test_wrong_windows_are_refused_and_change_nothing():
    engine = open_engine(model=model(), optimizer=optimizers.Adam())
    inputs, targets = next(windows(1))
    engine.step(inputs, targets)
    before = snapshot(engine)
    for wrong in ((inputs[0], targets[0]), (inputs + V, targets), (inputs, targets - 2), (inputs, targets[1:])):
        with pytest.raises(InputError):
            engine.step(*wrong)
    with pytest.raises(InputError, match="the state of lstm is h and c of shape"):
        engine.step(inputs[:, 1:], targets[:, 1:])  # a stream fewer than the carried state has
    assert snapshot(engine) == before


def test_a_reset_of_another_shape_is_refused():
    engine = open_engine(model=model(), optimizer=optimizers.SGD())
    inputs, targets = next(windows(1))
    engine.step(inputs, targets)
    for reset in (True, [True], [True] * (B + 1), np.zeros((B, 1), bool)):
        with pytest.raises(InputError, match="reset"):
            engine.step(inputs, targets, reset=reset)


def test_a_learning_rate_that_is_not_0_or_more_is_refused():
    engine = open_engine(model=model(), optimizer=optimizers.SGD())
    inputs, targets = next(windows(1))
    before = snapshot(engine)
    for learning_rate in (math.nan, math.inf, -0.1):
        with pytest.raises(InputError, match="learning_rate"):
            engine.step(inputs, targets, learning_rate=learning_rate)
    assert snapshot(engine) == before
