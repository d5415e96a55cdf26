"""Items: each line a text of its own, from the text to training, scoring and sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

import elman
from elman.errors import InputError
from elman.text import items
from elman.text.items import MARK

NAMES = ["anna", "bob", "clara", "dan", "eve", "frida", "gus", "hanna", "ida", "jon"] * 4


def joined(chunks):
    return "".join(chunks)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 100])
def test_lines_have_a_mark_before_and_after_each_wherever_the_text_is_cut(cut):
    text = "anna\nbob b \nclara"
    chunks = [text[i : i + cut] for i in range(0, len(text), cut)]
    assert joined(items.lines(chunks, "x")) == "\nanna\nbob b\nclara\n"
    assert joined(items.lines([*chunks, "\n"], "x")) == "\nanna\nbob b\nclara\n"
    assert all(chunk.endswith(MARK) for chunk in items.lines(chunks, "x"))


@pytest.mark.parametrize("cut", [1, 3, 100])
@pytest.mark.parametrize(("text", "line"), [("a\n\nb", 2), ("\na", 1), ("a\nb\n \t\nc", 3), ("a\n\n", 2)])
def test_an_empty_line_is_refused_with_its_number(text, line, cut):
    chunks = [text[i : i + cut] for i in range(0, len(text), cut)]
    with pytest.raises(InputError, match=f"poem: line {line} is empty; an item is a line with text in it"):
        joined(items.lines(chunks, "poem"))


def test_items_are_known_again_by_their_digests():
    digests = items.digests(["\nanna\nbob\n", "clara\n", "anna\n"])
    assert digests.dtype == np.uint64 and len(digests) == 3 and (np.diff(digests.astype(object)) > 0).all()
    assert all(items.digest(name) in digests.tolist() for name in ("anna", "bob ", "clara"))
    assert items.digest("dan") not in digests.tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    return elman.train(
        folder / "names.txt",
        items="lines",
        cell="gru",
        hidden_size=32,
        num_layers=1,
        dropout=0.0,
        learning_rate=0.02,
        epochs=30,
        batch_size=6,
        out=folder / "run",
    )


def test_training_says_what_was_held_out_and_learns_the_names(model):
    start = model.history[0]
    assert start["split"] == "the last 10% of the lines is validation"
    assert start["valid_tokens"] == len("\ngus\nhanna\nida\njon\n"[4:]) or start["valid_tokens"] > 0
    assert model.history[-1]["valid_loss"] < 1.0
    samples = [record["text"] for record in model.history if record["event"] == "sample"]
    assert all(sample.endswith("\n") for sample in samples)
    assert sum(line in NAMES for line in samples[-1].splitlines()) > len(samples[-1].splitlines()) / 3


def test_sampling_returns_whole_items(model):
    texts = [model.model.generate(seed=seed) for seed in range(20)]
    assert not any(MARK in text for text in texts) and sum(text in NAMES for text in texts) > 5
    assert model.model.generate("cl", temperature=0) == "ara"


def test_a_score_takes_each_line_from_the_zero_state_with_its_end(model):
    text_model = model.model
    whole, lines = text_model.score("anna\nbob\n"), [text_model.score(name) for name in ("anna", "bob")]
    assert math.isclose(whole.nats, sum(line.nats for line in lines), rel_tol=1e-5)
    assert (whole.tokens, whole.characters, whole.bytes) == (9, 9, 9)
    turned = text_model.score("bob\nanna\n").per_token
    np.testing.assert_allclose(np.concatenate([turned[4:], turned[:4]]), whole.per_token, rtol=1e-5, atol=1e-6)
    by_hand = text_model.language_model.score(text_model.tokenizer.encode("\nbob\n"))
    np.testing.assert_allclose(lines[1].per_token, by_hand, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="a model of items has no window"):
        text_model.score("anna\n", window=3)


def test_a_prompt_is_read_after_the_mark(model):
    lm, tokenizer = model.model.language_model, model.model.tokenizer
    seeds = range(30)
    drawn = [model.model.generate("h", length=1, temperature=1.0, seed=seed) for seed in seeds]
    prompt, unknown = tokenizer.encode("\nh"), tokenizer.unknown_id
    by_hand = [lm.generate(prompt, elman.SampleConfig(1, 1.0, seed=seed), forbidden=unknown) for seed in seeds]
    assert drawn == [tokenizer.decode(ids).rstrip("\n") for ids in by_hand]


def test_training_reads_shuffled_items_and_validates_on_as_many_as_asked(tmp_path, monkeypatch):
    from elman.workflows import run

    made = []

    class Spy(run.ItemWindows):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append((args[2:], options))

    monkeypatch.setattr(run, "ItemWindows", Spy)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    options = {"items": "lines", "hidden_size": 4, "steps": 1, "seed": 7, "eval_tokens": 9, "out": tmp_path / "run"}
    trained = elman.train(tmp_path / "names.txt", **options)
    assert made == [((32, 32, 7), {}), ((64, 32), {"most": 9})]
    assert 0 < trained.history[1]["scored_tokens"] <= 9


def test_a_long_item_is_scored_as_alone(model):
    text_model, long = model.model, "ab" * 1500
    both = text_model.score(f"bob\n{long}\n")
    alone = text_model.score(long)
    assert math.isclose(both.nats, text_model.score("bob").nats + alone.nats, rel_tol=1e-5)
    assert alone.tokens == 3001


def test_novel_items_are_not_in_the_training_text(model, tmp_path):
    opened = elman.load(model.path)
    from elman.workflows.sample import samples

    config = elman.SampleConfig(temperature=1.5)
    new = ["".join(pieces) for _, pieces in samples(opened, "", config, 10, novel=True)]
    assert len(new) == 10 and not set(new) & set(NAMES[:36]) and all(new)
    with pytest.raises(InputError, match=r"only 0 of 1 items are new in 1,001 tries; try a higher temperature"):
        list(samples(opened, "ann", elman.SampleConfig(temperature=0), 1, novel=True))
    opened.trained_items = None
    with pytest.raises(InputError, match="one trained with --items lines"):
        list(samples(opened, "", config, 1, novel=True))


def test_a_resumed_run_of_items_equals_one_in_one_go(tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    options = {"items": "lines", "hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_length": 3}
    whole = elman.train(tmp_path / "names.txt", steps=40, out=tmp_path / "whole", **options, schedule="constant")
    elman.train(tmp_path / "names.txt", steps=25, out=tmp_path / "half", **options, schedule="constant")
    half = elman.train(resume=tmp_path / "half", steps=40)
    for name, array in whole.model.language_model.parameters.items():
        assert array.tobytes() == half.model.language_model.parameters[name].tobytes()
