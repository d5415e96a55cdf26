"""Tutorials 1 and 3: the same numbers as a plain transcription, iteration by iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest

import elman
import min_char_rnn
from conftest import corpus
from elman.batches import StreamWindows
from elman.presets import resolve
from elman.text.tokenizers import CharTokenizer

OURS = {
    "W_xh": "recurrent.layers.0.W_xh",
    "W_hh": "recurrent.layers.0.W_hh",
    "b_h": "recurrent.layers.0.b_h",
    "W_hy": "output.W_hy",
    "b_y": "output.b_y",
}


@pytest.fixture(params=["verse", "tiny-shakespeare"])
def ids(request, verse):
    text = verse if request.param == "verse" else corpus("tinyshakespeare.txt").read_text(encoding="utf-8")
    tokenizer = CharTokenizer.train(text, unknown=False)
    assert tokenizer.vocab_size == len(set(text)) == (65 if request.param == "tiny-shakespeare" else len(set(verse)))
    return tokenizer.encode(text)


def open_tutorial(ids, learning_rate):
    """The preset min-char-rnn in float64, and the transcription, from the same weights."""
    recipe = resolve("min-char-rnn", options={"dtype": "float64", "learning_rate": learning_rate})
    vocab_size = int(ids.max()) + 1
    model = elman.LanguageModel(elman.ModelConfig(vocab_size=vocab_size, **recipe.model))
    p = min_char_rnn.initial_parameters(vocab_size, model.config.hidden_size, np.random.default_rng(0))
    for name, ours in OURS.items():
        model.parameters[ours][...] = p[name].reshape(model.parameters[ours].shape)
    optimizer = elman.optimizers.Adagrad(recipe.train.learning_rate)
    engine = elman.open_engine(
        "cpu",
        model=model,
        optimizer=optimizer,
        clip_value=recipe.train.clip_value,
        clip_norm=recipe.train.clip_norm,
        reduction=recipe.train.reduction,
    )
    windows = StreamWindows(ids, recipe.train.batch_size, recipe.train.seq_length, recipe.train.tail)
    return engine, windows, p


def test_loss_equals_the_tutorials_at_every_one_of_2000_iterations(ids):
    # On the small text, which repeats itself, 0.02 is chaotic already: 1e-15 grows to 2e-8. At 0.01 it stays at 3e-14.
    learning_rate = 0.02 if len(ids) > 1_000_000 else 0.01
    engine, windows, p = open_tutorial(ids, learning_rate)
    tutorial = min_char_rnn.train(p, ids, learning_rate)
    for step in range(2000):
        batch = windows.batch(step)
        loss = engine.step(batch.inputs, batch.targets, batch.reset)
        expected = next(tutorial)[0]
        assert abs(loss - expected) <= 1e-9 * expected, f"iteration {step}"


def test_each_of_500_iterations_at_the_tutorials_own_rate(ids):
    """At 0.1 training is chaotic, so each iteration starts from the transcription's weights, memory and state."""
    engine, windows, p = open_tutorial(ids, learning_rate=0.1)
    parameters, optimizer = engine.model.parameters, engine.optimizer
    tutorial = min_char_rnn.train(p, ids, learning_rate=0.1)
    for step in range(500):
        expected_loss, _, expected, memory, h_prev = next(tutorial)
        # The generator updated p after the iteration before this one, so p is what this iteration starts from.
        for name, ours in OURS.items():
            parameters[ours][...] = p[name].reshape(parameters[ours].shape)
            shape = parameters[ours].shape
            optimizer.slots["sum_of_squares"].setdefault(ours, np.zeros(shape))[...] = memory[name].reshape(shape)
        batch = windows.batch(step)
        engine.state = h_prev.reshape(1, 1, -1).copy()
        _, gradients, _ = engine.model.loss_and_gradients(batch.inputs, batch.targets, engine.state, "sum")
        elman.optimizers.clip_by_value(gradients, 5.0)
        loss = engine.step(batch.inputs, batch.targets, batch.reset)
        assert abs(loss - expected_loss) <= 1e-9 * expected_loss, f"iteration {step}"
        for name, ours in OURS.items():
            wanted = expected[name].reshape(gradients[ours].shape)
            assert np.abs(gradients[ours] - wanted).max() <= 1e-9 * max(1.0, np.abs(wanted).max()), (step, name)
            root = np.sqrt(memory[name] + expected[name] ** 2 + 1e-8)
            updated = (p[name] - 0.1 * expected[name] / root).reshape(parameters[ours].shape)
            assert np.abs(parameters[ours] - updated).max() <= 1e-9 * max(1.0, np.abs(updated).max()), (step, name)


def test_smoothed_loss_and_samples_of_the_preset_are_the_tutorials(tmp_path, verse_file, verse):
    run = elman.train(verse_file, preset="min-char-rnn", steps=1100, out=tmp_path / "run")
    V = len(set(verse))
    samples = [record for record in run.history if record["event"] == "sample"]
    assert [record["step"] for record in samples] == [0, 1000]
    assert all(len(record["text"]) == 200 for record in samples)
    steps = [record for record in run.history if record["event"] == "step"]
    start = math.log(V) * 25
    first = steps[0]
    # 100 iterations from -ln(1/V)·T with 0.999/0.001: between no learning and the mean loss of those iterations.
    mean = first["train_loss"] * 25
    assert start * 0.999**100 + mean * (1 - 0.999**100) == pytest.approx(first["smoothed_loss"], rel=2e-3)
    assert steps[-1]["train_loss"] < 0.6 * math.log(V)
    assert run.model.tokenizer.vocab_size == V and run.model.tokenizer.unknown_id is None
