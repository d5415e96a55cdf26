"""Training as a workflow: what a run leaves, that it can be gone on with to the bit, and how it ends."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import signal
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import elman
from elman import checkpoint
from elman.batches import StreamWindows
from elman.config import read_toml
from elman.errors import ElmanError, InputError, KernelError, ModelFileError, NonFiniteError, RunFolderError
from elman.optimizers import OPTIMIZERS
from elman.workflows.train import training

TINY = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_length": 16, "schedule": "constant", "warmup_steps": 0}
FILES = ["checkpoint.safetensors", "config.toml", "log.jsonl", "model.safetensors"]
KEYS = {
    "start": "event text characters train_tokens valid_tokens split characters_per_token "
    "spelling_per_token vocab_size cell hidden_size "
    "num_layers parameters kernel precision engine preset reduction steps minutes step seconds out notes",
    "step": "event step tokens seconds train_loss smoothed_loss tokens_per_second learning_rate gradient_norm",
    "eval": "event step tokens seconds valid_loss bits_per_char best_valid_loss scored_tokens",
    "sample": "event step text",
    "end": "event step tokens seconds model train_loss valid_loss best_valid_loss bits_per_char interrupted signal",
}


def train(text, out, **options) -> elman.TrainingRun:
    return elman.train(text, out=out, **{**TINY, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def as_logged(history: list[dict]) -> list[dict]:
    """Records as the log has them, which knows its folder as itself only."""
    here = {"out": ".", "model": "model.safetensors"}
    return [{key: here.get(key, value) for key, value in record.items()} for record in history]


def files_of(folder: Path) -> list[str]:
    """The names in a run folder, those of checkpoints before the last one left out."""
    return sorted(name for name in contents(folder) if not name.startswith("checkpoint-"))


def events(history: list[dict], event: str) -> list[dict]:
    return [record for record in history if record["event"] == event]


def state_of(folder: Path) -> tuple[dict, dict]:
    """The checkpoint's tensors, and what of its metadata does not depend on the clock."""
    tensors, metadata = checkpoint.load(folder / "checkpoint.safetensors")
    return tensors, {key: metadata[key] for key in ("progress", "optimizer_steps", "rng", "log_lines")}


def assert_same_files(one: Path, other: Path) -> None:
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    (tensors, rest), (other_tensors, other_rest) = state_of(one), state_of(other)
    assert rest == other_rest and tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, other_tensors[name], err_msg=name)


@pytest.fixture(scope="module")
def run(text, tmp_path_factory) -> elman.TrainingRun:
    """A run of 20 steps, for tests that only look."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(text, out, steps=20, log_every=3, eval_every=5, sample_every=8, sample_length=12, seed=3)


@pytest.fixture
def sigint():
    """SIGINT as an interactive Python has it, whatever this process inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# what a run leaves


def test_a_run_folder_holds_model_checkpoint_log_and_config(run):
    assert files_of(run.path) == FILES
    assert sorted(contents(run.path) | dict.fromkeys(FILES)) == ["checkpoint-0.safetensors", *FILES]


def test_train_returns_model_path_and_history(run, verse):
    assert isinstance(run, elman.TrainingRun) and isinstance(run.model, elman.TextModel)
    assert isinstance(run.path, Path) and run.history[-1]["model"] == str(run.path / "model.safetensors")
    assert run.model.tokenizer.decode(run.model.tokenizer.encode(verse)) == verse


def test_the_log_is_the_history(run):
    assert log(run.path) == as_logged(run.history)


def test_records_have_the_documented_keys(run):
    assert {record["event"] for record in run.history} == set(KEYS)
    for record in run.history:
        assert set(record) == set(KEYS[record["event"]].split())


def test_records_come_when_they_are_due_and_steps_never_fall(run):
    assert [record["event"] for record in run.history][:: len(run.history) - 1] == ["start", "end"]
    assert [record["step"] for record in events(run.history, "step")] == [3, 6, 9, 12, 15, 18]
    assert [record["step"] for record in events(run.history, "eval")] == [0, 5, 10, 15, 20]
    assert [record["step"] for record in events(run.history, "sample")] == [0, 8, 16]
    for name in ("step", "seconds"):
        values = [record[name] for record in run.history if name in record]
        assert values == sorted(values)
    assert all(len(record["text"]) == 12 for record in events(run.history, "sample"))


def test_records_count_tokens_and_say_what_was_read(run, verse):
    start, end = run.history[0], run.history[-1]
    assert (start["text"], start["characters"], start["cell"]) == ("verse", len(verse), "lstm")
    assert start["train_tokens"] + start["valid_tokens"] == len(verse)
    assert start["valid_tokens"] == math.ceil(len(verse) / 10)
    assert start["characters_per_token"] == 1 and not start["notes"]
    assert (end["step"], end["tokens"], end["interrupted"]) == (20, 20 * 4 * 16, False)
    assert [record["tokens"] for record in events(run.history, "step")] == [step * 64 for step in (3, 6, 9, 12, 15, 18)]


def test_train_loss_is_the_mean_since_the_record_before(text, tmp_path):
    fine = events(train(text, tmp_path / "fine", steps=6, log_every=1).history, "step")
    coarse = events(train(text, tmp_path / "coarse", steps=6, log_every=3).history, "step")
    for record, parts in zip(coarse, (fine[:3], fine[3:]), strict=True):
        assert record["train_loss"] == pytest.approx(np.mean([part["train_loss"] for part in parts]), rel=1e-12)
        assert record["gradient_norm"] == parts[-1]["gradient_norm"]
    smoothed = math.log(elman.load(tmp_path / "fine").language_model.config.vocab_size)
    for record in fine:
        smoothed = 0.999 * smoothed + 0.001 * record["train_loss"]
        assert record["smoothed_loss"] == pytest.approx(smoothed, rel=1e-12)


def test_a_summed_loss_is_reported_per_token_and_smoothed_as_it_is(text, tmp_path):
    options = {"steps": 1, "log_every": 1, "optimizer": "sgd", "learning_rate": 1e-9}
    mean = events(train(text, tmp_path / "mean", **options).history, "step")[0]
    run = train(text, tmp_path / "sum", reduction="sum", **options)
    summed = events(run.history, "step")[0]
    assert summed["train_loss"] == pytest.approx(mean["train_loss"], rel=1e-6)
    start = math.log(run.history[0]["vocab_size"]) * 64
    assert summed["smoothed_loss"] == pytest.approx(0.999 * start + 0.001 * 64 * summed["train_loss"], rel=1e-6)


def test_training_learns_something(text, tmp_path):
    history = train(text, tmp_path / "run", steps=60, learning_rate=0.02, log_every=60).history
    first, last = events(history, "eval")[0], history[-1]
    assert first["valid_loss"] == pytest.approx(math.log(history[0]["vocab_size"]), abs=0.2)
    assert last["best_valid_loss"] < first["valid_loss"] - 0.3
    assert last["bits_per_char"] == pytest.approx(last["best_valid_loss"] / math.log(2))


def test_the_config_file_of_a_run_trains_the_same_model(run, text, tmp_path):
    config = tomllib.loads((run.path / "config.toml").read_text())
    assert config["model"]["hidden_size"] == 8 and config["train"]["seed"] == 3
    again = elman.train(text, config=run.path / "config.toml", out=tmp_path / "again")
    assert (again.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()


def test_the_model_file_says_how_it_was_trained_and_holds_no_clock(run, verse):
    _, metadata = checkpoint.load(run.path / "model.safetensors")
    assert metadata["protocol"]["characters"] == len(verse) and "last 10%" in metadata["protocol"]["split"]
    assert metadata["training"]["seed"] == 3 and metadata["preset"] == "char-lstm"
    assert metadata["figures"]["valid_loss"] == run.history[-1]["best_valid_loss"]
    assert "seconds" not in json.dumps(metadata)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}, {"preset": "min-char-rnn", "valid_fraction": 0.1}])
def test_the_same_options_and_seed_give_the_same_bytes_and_another_seed_others(text, tmp_path, options):
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        train(text, tmp_path / name, steps=12, seed=seed, sample_every=5, **options)
    assert_same_files(tmp_path / "one", tmp_path / "two")
    one, three = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "three"))
    assert one != three


def test_without_out_runs_are_numbered(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [train(text, None, steps=1).path for _ in range(2)] == [Path("runs/verse-1"), Path("runs/verse-2")]


def test_on_record_gets_each_record_as_it_comes(text, tmp_path):
    seen = []
    history = train(text, tmp_path / "run", steps=3, on_record=seen.append).history
    assert seen == history


# data


def test_the_best_model_on_validation_is_kept_not_the_last(text, verse, tmp_path):
    run = train(text, tmp_path / "run", steps=40, optimizer="sgd", learning_rate=40.0, eval_every=1, clip_norm=50.0)
    end = run.history[-1]
    losses = [record["valid_loss"] for record in events(run.history, "eval")]
    assert end["best_valid_loss"] == min(losses) < end["valid_loss"] == losses[-1]
    valid = verse[int(len(verse) * 0.9) :]  # one stream, as it is short
    assert run.model.score(valid).nats_per_token == pytest.approx(end["best_valid_loss"], rel=1e-5)
    assert elman.load(run.path).score(valid).nats_per_token == run.model.score(valid).nats_per_token
    last, _ = checkpoint.load(run.path / "checkpoint.safetensors")
    assert any(not np.array_equal(last[name], array) for name, array in run.model.language_model.parameters.items())


def test_validation_streams_cover_the_validation_text(text, verse, tmp_path):
    run = train(text, tmp_path / "run", steps=2, valid=text, learning_rate=1e-9, optimizer="sgd")
    record = events(run.history, "eval")[-1]
    ids = run.model.tokenizer.encode(verse)
    streams = (len(ids) - 1) // 256
    assert record["scored_tokens"] == len(ids) - 1 and streams > 5
    windows = StreamWindows(ids, streams, 16)
    engine = elman.open_engine(model=run.model.language_model, optimizer=elman.optimizers.SGD())
    assert record["valid_loss"] == pytest.approx(engine.evaluate(windows), rel=1e-5)
    lengths = [(len(ids) - 1) // streams + (stream < (len(ids) - 1) % streams) for stream in range(streams)]
    starts = np.cumsum([0, *lengths])
    nats = [run.model.language_model.score(ids[a : b + 1]).sum() for a, b in itertools.pairwise(starts)]
    assert record["valid_loss"] == pytest.approx(sum(nats) / (len(ids) - 1), rel=1e-5)


def test_eval_tokens_limits_what_is_scored(text, verse, tmp_path):
    run = train(text, tmp_path / "run", steps=1, eval_tokens=100)
    valid = verse[int(len(verse) * 0.9) :]
    record = events(run.history, "eval")[-1]
    assert record["scored_tokens"] == 100
    best = run.model.score(valid[:101]).nats_per_token
    assert run.history[-1]["best_valid_loss"] == pytest.approx(best, rel=1e-5)


def test_a_validation_file_takes_the_place_of_the_last_part(text, verse, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("the wind, the rain: 1 2 3\n" * 5)
    run = train(text, tmp_path / "run", steps=4, valid=other)
    start = run.history[0]
    assert (start["train_tokens"], start["valid_tokens"]) == (len(verse), 130)
    assert "validation is other" in start["split"]
    assert run.model.tokenizer.unknown_id is not None and run.model.score("1 2").unknown_tokens == 1
    assert "1" not in run.model.tokenizer.characters


@pytest.mark.parametrize(("content", "said"), [("", "short.* is empty"), ("x", "short.* has 1 token")])
def test_a_validation_file_too_short_is_refused_by_its_own_name(text, tmp_path, content, said):
    short = tmp_path / "short.txt"
    short.write_text(content)
    with pytest.raises(InputError, match=said):
        train(text, tmp_path / "run", steps=1, valid=short)
    assert not (tmp_path / "run").exists()


def test_the_vocabulary_comes_from_the_training_part_and_the_rest_is_unknown(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abc " * 90 + "xyz " * 10)
    model = train(path, tmp_path / "run", steps=2).model
    assert model.tokenizer.characters == " abc" and model.tokenizer.unknown_id == 4
    assert model.score("a xyz").unknown_tokens == 3


def test_without_validation_the_last_model_is_kept(text, tmp_path):
    run = train(text, tmp_path / "run", steps=10, valid_fraction=0)
    last, _ = checkpoint.load(run.path / "checkpoint.safetensors")
    for name, array in run.model.language_model.parameters.items():
        np.testing.assert_array_equal(array, last[name])
    assert not events(run.history, "eval") and run.model.tokenizer.unknown_id is None
    assert run.history[-1]["valid_loss"] is run.history[-1]["best_valid_loss"] is None
    assert run.model.info["figures"]["step"] == 10


def test_a_text_shorter_than_a_window_trains_and_a_note_says_so(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("to be or not to be, that is the question")
    run = train(path, tmp_path / "run", steps=3, seq_length=500, batch_size=2)
    assert any("18 steps of 2 streams instead of 500 of 2" in note for note in run.history[0]["notes"])
    run = train(path, tmp_path / "wide", steps=3, batch_size=500)
    assert any("1 steps of 35 streams instead of 16 of 500" in note for note in run.history[0]["notes"])


@pytest.mark.parametrize("content", ["ab", "hello"])
def test_a_text_too_short_for_a_validation_part_is_trained_on_whole_and_a_note_says_so(tmp_path, content):
    path = tmp_path / "short.txt"
    path.write_text(content)
    run = train(path, tmp_path / "run", steps=3)
    assert any("too short for a validation part" in note for note in run.history[0]["notes"])
    assert run.history[0]["train_tokens"] == len(content) and run.history[0]["valid_tokens"] == 0
    assert "whole text" in run.history[0]["split"] and run.model.tokenizer.unknown_id is None


def test_a_text_of_one_character_is_refused(tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("a")
    with pytest.raises(InputError, match="at least 2 tokens"):
        train(path, tmp_path / "run", steps=3)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_text_outside_ascii_trains(tmp_path, tokenizer):
    path = tmp_path / "dream.txt"
    path.write_text("满纸荒唐言，一把辛酸泪！" * 20, encoding="gb18030")
    run = train(path, tmp_path / "run", steps=5, tokenizer=tokenizer, encoding="gb18030", sample_every=2)
    start, last = run.history[0], events(run.history, "eval")[-1]
    tokens = 3 if tokenizer == "byte" else 1
    assert start["characters_per_token"] == pytest.approx(1 / tokens) and start["train_tokens"] == 216 * tokens
    assert last["bits_per_char"] == pytest.approx(last["valid_loss"] / math.log(2) * tokens)
    assert run.model.generate("满", 20)


def test_the_start_record_tells_how_texts_were_read(verse, tmp_path):
    train_path, valid_path = tmp_path / "train.txt", tmp_path / "valid.txt"
    train_path.write_bytes(verse.replace("\n", "\r\n").encode("utf-8-sig"))
    valid_path.write_bytes(verse.encode("utf-16"))
    run = train(train_path, tmp_path / "run", valid=valid_path, steps=2)
    notes = [
        "train.txt: a byte-order mark left out",
        "train.txt: 63 CRLF line ends became LF",
        "valid.txt: a byte-order mark left out",
    ]
    assert run.history[0]["notes"] == notes and run.history[0]["characters"] == len(verse)
    assert elman.train(resume=run.path, steps=4).history[0]["notes"] == notes


def test_a_folder_can_be_trained_on_and_gone_on_with(verse, tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("one", "two"):
        (tmp_path / "texts" / f"{name}.txt").write_text(verse)
    run = train(tmp_path / "texts", tmp_path / "run", steps=2)
    assert run.history[0]["text"] == "texts" and run.history[0]["characters"] == 2 * len(verse)
    assert elman.train(resume=run.path, steps=4).history[-1]["step"] == 4
    (tmp_path / "texts" / "three.txt").write_text(verse)
    with pytest.raises(RunFolderError, match=r"texts has changed"):
        elman.train(resume=run.path, steps=6)


def test_what_is_replaced_in_a_text_is_replaced_on_resume_too(verse, tmp_path):
    path = tmp_path / "verse.txt"
    path.write_bytes(verse.encode() + b"\xff")
    run = train(path, tmp_path / "run", steps=2, encoding="utf-8", encoding_errors="replace")
    assert elman.train(resume=run.path, steps=4).history[-1]["step"] == 4


def test_several_texts_are_joined(text, verse, tmp_path):
    history = elman.train([text, "hello", str(text)], out=tmp_path / "run", steps=1, **TINY).history
    assert history[0]["characters"] == 2 * len(verse) + 5 and history[0]["text"] == "verse+hello+verse"


def test_the_hello_preset_learns_hello(tmp_path):
    run = elman.train(preset="hello", out=tmp_path / "run")
    assert run.model.generate("hell", length=1, temperature=0) == "o"
    assert run.model.language_model.config.vocab_size == run.history[0]["vocab_size"] == 4
    assert run.model.generate("h", length=4, temperature=0) == "ello"


def test_epochs_are_counted_in_steps(text, verse, tmp_path):
    run = train(text, tmp_path / "run", epochs=2, valid_fraction=0, batch_size=10, seq_length=100)
    assert run.history[-1]["step"] == 2 * math.ceil(math.ceil((len(verse) - 1) / 10) / 100)
    assert run.history[-1]["tokens"] == 2 * (len(verse) - 1)


def test_intervals_of_zero_are_never_due(text, tmp_path):
    run = train(text, tmp_path / "run", steps=30, eval_every=0, sample_every=0, checkpoint_every=0)
    assert [record["step"] for record in events(run.history, "eval")] == [0, 30] and not events(run.history, "sample")


def test_without_intervals_a_run_evaluates_and_samples_at_round_steps(text, tmp_path):
    run = train(text, tmp_path / "run", steps=2500, sample_length=2, hidden_size=2, log_every=5000, eval_tokens=10)
    assert [record["step"] for record in events(run.history, "eval")] == [*range(0, 1001, 100), 2000, 2500]
    assert [record["step"] for record in events(run.history, "sample")] == [
        *range(10, 100, 10),
        *range(100, 1000, 100),
        1000,
        2000,
    ]


def test_the_schedule_reaches_the_optimizer(text, tmp_path):
    options = {"schedule": "linear", "warmup_steps": 2, "learning_rate": 0.1, "steps": 10, "log_every": 1}
    rates = [record["learning_rate"] for record in events(train(text, tmp_path / "run", **options).history, "step")]
    expected = [0.1 * (1 - step / 10) * min(1, (step + 1) / 2) for step in range(10)]
    assert rates == pytest.approx(expected)


def test_minutes_end_a_run_in_time(text, tmp_path):
    end = train(text, tmp_path / "run", minutes=0.02, learning_rate=0.01).history[-1]
    assert end["step"] > 0 and not end["interrupted"] and 0.2 < end["seconds"] < 5 * 1.2


# refusals


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"preset": "char-lstn"}, InputError, "Did you mean char-lstm"),
        ({"hiden_size": 3}, InputError, "Did you mean hidden_size"),
        ({"hidden_size": 0}, InputError, "hidden_size must be"),
        ({"steps": 1, "epochs": 1}, InputError, "exclude each other"),
        ({"config": "nothere.toml"}, InputError, "nothere.toml"),
        ({"valid": "nothere.txt"}, InputError, "nothere.txt"),
        ({"encoding": "klingon"}, InputError, "klingon"),
        ({"kernel": "numpi"}, InputError, "Did you mean numpy"),
        ({"threads": 0}, InputError, "threads"),
        ({"engine": "torch"}, InputError, "no engine 'torch'"),
        ({"precision": "fp16"}, InputError, "precision must be one of float32, bf16, auto, not 'fp16'"),
        ({"precision": "bf16", "kernel": "numpy"}, KernelError, "bf16 cannot be had: the kernel is numpy"),
        ({"vocab_size": 3}, InputError, "vocab_size is not an option"),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(text, tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        train(text, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_refused_and_left_as_it_was(run, text):
    before = contents(run.path)
    with pytest.raises(RunFolderError, match=r"already holds a run .*--resume"):
        train(text, run.path, steps=3)
    assert contents(run.path) == before


@pytest.mark.parametrize("name", FILES)
def test_a_folder_with_any_file_of_a_run_is_refused_but_other_files_are_left_alone(text, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunFolderError, match="already holds a run"):
        train(text, tmp_path, steps=1)
    assert contents(tmp_path) == {name: b"mine"}
    (tmp_path / name).rename(tmp_path / "notes.txt")
    assert files_of(train(text, tmp_path, steps=1).path) == sorted([*FILES, "notes.txt"])


def test_a_file_given_as_the_folder_is_refused(text):
    with pytest.raises(RunFolderError, match="is a file"):
        train(text, text, steps=1)


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 1e300},
        {"learning_rate": 1e300, "steps": 1},
        {"learning_rate": 1e300, "steps": 1, "eval_every": 0},
        {"learning_rate": 1e300, "steps": 1, "valid_fraction": 0},
        {"learning_rate": 1e300, "checkpoint_every": 1, "eval_every": 0},
        {"learning_rate": 1e300, "eval_every": 1},
        {"learning_rate": 1e300, "valid_fraction": 0},
        {"learning_rate": 1e38, "cell": "rnn-relu", "optimizer": "sgd"},
        {"learning_rate": 1e30, "cell": "rnn-relu", "optimizer": "sgd", "eval_every": 1, "log_every": 1},
        {"learning_rate": 1e30, "cell": "rnn-relu", "optimizer": "sgd", "eval_every": 0, "sample_every": 1},
    ],
)
def test_a_loss_that_explodes_names_step_and_array_and_leaves_a_finite_model(text, tmp_path, options):
    seen: list[dict] = []
    with pytest.raises(NonFiniteError, match=r"step \d") as caught:
        train(text, tmp_path / "run", on_record=seen.append, **{"steps": 20, **options})
    message = str(caught.value)
    assert "--learning-rate" in message and str(tmp_path / "run") in message and "\n" not in message
    assert "parameter" in message or "gradient of" in message or "validation loss" in message or "logits" in message
    for array in elman.load(tmp_path / "run").language_model.parameters.values():
        assert np.isfinite(array).all()
    tensors, _ = checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert "NaN" not in (tmp_path / "run" / "log.jsonl").read_text() and log(tmp_path / "run") == as_logged(seen)
    run = elman.train(resume=tmp_path / "run", learning_rate=1e-3, steps=25)
    assert run.history[-1]["step"] == 25


# resume


@pytest.mark.parametrize("valid_fraction", [0.0, 0.1])
@pytest.mark.parametrize(
    "options",
    [
        *({"optimizer": name} for name in OPTIMIZERS),
        {"dropout": 0.2, "num_layers": 2},
        {"cell": "rnn", "dropout": 0.2, "embedding_size": 8, "tie_weights": True, "tokenizer": "byte"},
        {"preset": "min-char-rnn"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_resumed_run_ends_as_one_run_does_to_the_bit(text, tmp_path, options, valid_fraction):
    every = {"eval_every": 3, "sample_every": 2, "sample_length": 5, "log_every": 5, "valid_fraction": valid_fraction}
    train(text, tmp_path / "whole", steps=15, **every, **options)
    first = train(text, tmp_path / "parts", steps=9, **every, **options)
    second = elman.train(resume=first.path, steps=15)
    assert_same_files(tmp_path / "whole", tmp_path / "parts")
    assert (second.history[0]["step"], second.history[-1]["step"]) == (9, 15)
    texts = [[record["text"] for record in events(log(tmp_path / name), "sample")] for name in ("whole", "parts")]
    assert texts[0] == texts[1] and len(texts[0]) == 8


@pytest.mark.parametrize("checkpoint_every", [4, 0])
def test_a_run_that_was_killed_goes_on_from_its_checkpoint_and_ends_the_same(text, tmp_path, checkpoint_every):
    options = {**TINY, "steps": 14, "checkpoint_every": checkpoint_every, "log_every": 1, "sample_every": 3}
    elman.train(text, out=tmp_path / "whole", **options)
    with contextlib.closing(training([text], out=tmp_path / "killed", **options)) as records:
        for record in records:
            if record["event"] == "step" and record["step"] == 10:
                break
    assert files_of(tmp_path / "killed") == FILES and elman.load(tmp_path / "killed")
    second = elman.train(resume=tmp_path / "killed")
    assert second.history[0]["step"] == (8 if checkpoint_every else 0)
    assert_same_files(tmp_path / "whole", tmp_path / "killed")
    logs = [[(record["event"], record.get("step")) for record in log(tmp_path / name)] for name in ("whole", "killed")]
    assert logs[0] == logs[1]


def test_a_run_without_validation_that_was_killed_leaves_the_model_of_its_checkpoint(text, tmp_path):
    options = {**TINY, "steps": 14, "checkpoint_every": 4, "log_every": 1, "eval_every": 0, "valid_fraction": 0}
    with contextlib.closing(training([text], out=tmp_path / "run", **options)) as records:
        for record in records:
            if record["event"] == "step" and record["step"] == 10:
                break
    model, (tensors, _) = elman.load(tmp_path / "run"), state_of(tmp_path / "run")
    assert model.info["figures"]["step"] == 8
    for name, array in model.language_model.parameters.items():
        np.testing.assert_array_equal(array, tensors[name])


def test_a_resumed_run_keeps_its_log_and_counts_on(text, tmp_path):
    first = train(text, tmp_path / "run", steps=10, log_every=2)
    second = elman.train(resume=first.path, steps=20)
    start = {
        **second.history[0],
        "step": 0,
        "seconds": 0.0,
    }  # as if there had been one run, without an evaluation at 10
    assert log(first.path) == as_logged([start, *first.history[1:-2], *second.history[1:]])
    assert second.history[0]["seconds"] > 0 and second.history[-1]["seconds"] > first.history[-1]["seconds"]
    assert second.history[-1]["tokens"] == 2 * first.history[-1]["tokens"]


def test_a_resumed_run_may_change_its_learning_rate_and_its_stop(text, tmp_path):
    first = train(text, tmp_path / "run", steps=4)
    second = elman.train(resume=first.path, epochs=1, learning_rate=0.5, log_every=1)
    step = events(second.history, "step")[0]
    assert (step["step"], step["learning_rate"]) == (5, 0.5)
    assert second.history[0]["steps"] == second.history[-1]["step"] > 4 and second.history[0]["minutes"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cell": "gru"}, "cell cannot change"),
        ({"hidden_size": 9}, "hidden_size cannot change on resume: it is 8, not 9; start a new run"),
        ({"batch_size": 3}, "batch_size cannot change"),
        ({"seed": 4}, "seed cannot change on resume: it is 3, not 4"),
        ({"optimizer": "sgd"}, "optimizer cannot change"),
        ({"valid_fraction": 0.5}, "valid_fraction cannot change"),
        ({"vocab_size": 3}, "vocab_size"),
        ({"hiden_size": 3}, "Did you mean hidden_size"),
        ({"steps": 0}, "steps must be"),
        ({"steps": 30, "epochs": 3}, "exclude each other"),
        ({"text": "hello"}, "the text hello is not the one that this run began with: 4,047 characters .*, 5 with"),
        ({"preset": "hello"}, "preset cannot change on resume: it is char-lstm, not hello"),
        ({"out": "x"}, "out cannot be given"),
        ({"config": "x"}, "config cannot be given"),
        ({"valid": "x"}, "valid cannot change"),
    ],
)
def test_what_cannot_change_on_resume_is_refused_by_name(run, options, said):
    before = contents(run.path)
    with pytest.raises((InputError, RunFolderError), match=said):
        elman.train(options.pop("text", ()), resume=run.path, **options)
    assert contents(run.path) == before


def test_a_run_that_has_reached_its_end_is_left_as_it_is(run):
    before = contents(run.path)
    for options in ({}, {"steps": 20}, {"steps": 5}, {"minutes": 1e-6}):
        with pytest.raises(RunFolderError, match="reached its end"):
            elman.train(resume=run.path, **options)
    with pytest.raises(RunFolderError, match=r"\(20 steps\).*--steps 40"):
        elman.train(resume=run.path)
    assert contents(run.path) == before


def test_the_advice_for_a_long_run_that_ended_can_be_typed(text, tmp_path):
    path = train(text, tmp_path / "run", steps=2).path / "checkpoint.safetensors"
    tensors, metadata = checkpoint.load(path)
    metadata["training"]["steps"] = metadata["progress"]["step"] = 1_234_567
    checkpoint.save(path, tensors, metadata)
    with pytest.raises(RunFolderError, match=r"\(1,?234,?567 steps\).*--steps 2469134"):
        elman.train(resume=path.parent)


def test_a_text_that_changed_is_refused(verse, tmp_path):
    path = tmp_path / "verse.txt"
    path.write_text(verse)
    run = train(path, tmp_path / "run", steps=2, valid=path)
    before = contents(run.path)
    path.write_text(verse.replace("heron", "raven", 1))
    with pytest.raises(RunFolderError, match=r"verse.txt has changed"):
        elman.train(resume=run.path, steps=4)
    path.unlink()
    with pytest.raises(ElmanError, match=r"verse.txt"):
        elman.train(resume=run.path, steps=4)
    assert contents(run.path) == before
    path.write_text(verse)
    assert elman.train(resume=run.path, steps=4).history[-1]["step"] == 4


def test_a_relative_text_is_found_again_from_elsewhere(verse, tmp_path, monkeypatch):
    (tmp_path / "verse.txt").write_text(verse)
    monkeypatch.chdir(tmp_path)
    train("verse.txt", "run", steps=2)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert elman.train(resume=tmp_path / "run", steps=4).history[-1]["step"] == 4


def test_a_run_on_a_corpus_goes_on_though_a_file_of_that_name_appeared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = elman.train(preset="hello", out=tmp_path / "run", steps=3)
    (tmp_path / "hello").write_text("another text")
    assert elman.train(resume=run.path, steps=6).history[-1]["step"] == 6


def test_a_folder_without_a_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothere"):
        with pytest.raises(RunFolderError, match="holds no run to resume"):
            elman.train(resume=path)
    assert not list(tmp_path.iterdir())


def damaged_files(folder: Path) -> list[tuple[bytes, str]]:
    """What may become of a checkpoint file, and what is said of it."""
    content = (folder / "checkpoint.safetensors").read_bytes()
    return [
        (content[:-1], "truncated"),
        (content[:-1] + bytes([content[-1] ^ 1]), "altered"),
        ((folder / "model.safetensors").read_bytes(), "not a checkpoint"),
    ]


def test_a_damaged_checkpoint_is_refused(text, tmp_path):
    run = train(text, tmp_path / "run", steps=2, keep=1)
    for damaged, said in damaged_files(run.path):
        (run.path / "checkpoint.safetensors").write_bytes(damaged)
        before = contents(run.path)
        with pytest.raises(ModelFileError, match=said):
            elman.train(resume=run.path, steps=4)
        assert contents(run.path) == before


@pytest.mark.parametrize("number", [0, 1, 2, None])
def test_from_a_damaged_checkpoint_a_run_falls_back_to_the_one_before_with_a_loud_note(text, tmp_path, number):
    options = {"steps": 9, "checkpoint_every": 3, "eval_every": 4}
    train(text, tmp_path / "whole", **options)
    run = train(text, tmp_path / "run", **options)
    last = run.path / "checkpoint.safetensors"
    if number is None:
        last.unlink()
        said = "cannot read the model file"
    else:
        damaged, said = damaged_files(run.path)[number]
        last.write_bytes(damaged)
    second = elman.train(resume=run.path)
    (note,) = second.history[0]["notes"]
    assert note.startswith("THE LAST CHECKPOINT IS LOST") and said in note and "checkpoint-6.safetensors" in note
    assert (second.history[0]["step"], second.history[-1]["step"]) == (6, 9)
    assert_same_files(tmp_path / "whole", tmp_path / "run")
    assert files_of(run.path) == FILES and (run.path / "checkpoint-6.safetensors").exists()


def test_where_two_checkpoints_are_damaged_the_third_is_taken_and_they_are_not_kept(text, tmp_path):
    run = train(text, tmp_path / "run", steps=9, checkpoint_every=2, keep=3)
    for name in ("checkpoint.safetensors", "checkpoint-8.safetensors"):
        (run.path / name).write_bytes(b"nothing")
    second = elman.train(resume=run.path, steps=7)
    assert second.history[0]["step"] == 6
    assert steps_of_checkpoints(run.path) == {"checkpoint-6": 6, "checkpoint": 7}


def test_a_checkpoint_of_a_later_elman_is_not_passed_over(text, tmp_path, monkeypatch):
    run = train(text, tmp_path / "run", steps=4, checkpoint_every=2)
    tensors, metadata = checkpoint.load(run.path / "checkpoint.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT_VERSION", 2)
        checkpoint.save(run.path / "checkpoint.safetensors", tensors, metadata)
    before = contents(run.path)
    with pytest.raises(ModelFileError, match="upgrade elman"):
        elman.train(resume=run.path, steps=6)
    assert contents(run.path) == before


def steps_of_checkpoints(folder: Path) -> dict[str, int]:
    paths = sorted(folder.glob("checkpoint*.safetensors"))
    return {path.stem: checkpoint.load(path)[1]["progress"]["step"] for path in paths}


@pytest.mark.parametrize("number", [1, 5])  # EPERM says a file system that has no links, EIO a disk that fails
def test_where_a_file_cannot_have_two_names_the_last_checkpoint_is_copied(text, tmp_path, monkeypatch, number):
    def link_or_fail(old, new):
        raise OSError(number, "what the system says", str(new))

    monkeypatch.setattr(os, "link", link_or_fail)
    if number == 5:
        with pytest.raises(RunFolderError, match=r"cannot write .*checkpoint-0.safetensors: what the system says"):
            train(text, tmp_path / "run", steps=7, checkpoint_every=2, keep=3)
        assert steps_of_checkpoints(tmp_path / "run") == {"checkpoint": 0}
        return
    train(text, tmp_path / "run", steps=7, checkpoint_every=2, keep=3)
    assert steps_of_checkpoints(tmp_path / "run") == {"checkpoint-4": 4, "checkpoint-6": 6, "checkpoint": 7}


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_as_many_checkpoints_are_kept_as_were_asked_for(text, tmp_path, keep):
    run = train(text, tmp_path / "run", steps=7, checkpoint_every=2, keep=keep)
    steps = [0, 2, 4, 6][max(0, 5 - keep) :]
    assert steps_of_checkpoints(run.path) == {f"checkpoint-{step}": step for step in steps} | {"checkpoint": 7}
    elman.train(resume=run.path, steps=9, keep=2)
    assert steps_of_checkpoints(run.path) == {"checkpoint-8": 8, "checkpoint": 9}


@pytest.mark.parametrize(
    "key", ["model", "tokenizer", "training", "sources", "progress", "rng", "optimizer_steps", "seconds"]
)
def test_a_checkpoint_without_what_resume_needs_is_refused(text, tmp_path, key):
    path = train(text, tmp_path / "run", steps=2).path / "checkpoint.safetensors"
    tensors, metadata = checkpoint.load(path)
    checkpoint.save(path, tensors, {name: value for name, value in metadata.items() if name != key})
    with pytest.raises(ModelFileError):
        elman.train(resume=path.parent, steps=4)


@pytest.mark.parametrize("key", ["model", "tokenizer", "training", "sources", "progress", "rng", "seconds", "best"])
@pytest.mark.parametrize(
    "value", [None, 3, "x" * 2000, [1], {"step": "many\nlines"}], ids=lambda value: type(value).__name__
)
def test_a_checkpoint_with_something_else_in_it_is_refused_in_a_line(text, tmp_path, key, value):
    path = train(text, tmp_path / "run", steps=2, eval_every=1).path / "checkpoint.safetensors"
    tensors, metadata = checkpoint.load(path)
    checkpoint.save(path, tensors, {**metadata, key: value})
    if (key, value) in (("seconds", 3), ("best", None)):
        return
    with pytest.raises(ModelFileError) as caught:
        elman.train(resume=path.parent, steps=4)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(path)) + 400
    assert not (path.parent / ".lock").exists()


def test_a_checkpoint_without_a_parameter_is_refused(text, tmp_path):
    path = train(text, tmp_path / "run", steps=2).path / "checkpoint.safetensors"
    tensors, metadata = checkpoint.load(path)
    del tensors["output.b_y"]
    checkpoint.save(path, tensors, metadata)
    with pytest.raises(ModelFileError, match=r"output\.b_y is missing"):
        elman.train(resume=path.parent, steps=4)


def test_time_goes_on_counting_on_resume(text, tmp_path):
    path = train(text, tmp_path / "run", minutes=0.005).path / "checkpoint.safetensors"
    tensors, metadata = checkpoint.load(path)
    assert metadata["seconds"] > 0
    checkpoint.save(path, tensors, metadata | {"seconds": 3000.0})
    with pytest.raises(RunFolderError, match="reached its end"):
        elman.train(resume=path.parent, minutes=0.05)
    history = elman.train(resume=path.parent, steps=metadata["progress"]["step"] + 20, eval_every=5).history
    assert history[0]["seconds"] == 3000
    assert all(3000 <= record["seconds"] < 3600 for record in history if "seconds" in record)


# Ctrl-C


@pytest.mark.parametrize("valid_fraction", [0.0, 0.1])
def test_the_first_interrupt_ends_a_run_well_and_the_old_handler_comes_back(text, tmp_path, sigint, valid_fraction):
    def interrupt(record):
        if record["event"] == "step" and record["step"] == 7:
            os.kill(os.getpid(), signal.SIGINT)

    options = {"log_every": 1, "valid_fraction": valid_fraction, "eval_every": 5}
    run = train(text, tmp_path / "run", steps=1000, on_record=interrupt, **options)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (run.history[-1]["event"], run.history[-1]["step"], run.history[-1]["interrupted"]) == ("end", 7, True)
    assert len(run.model.generate("the ", 10)) == 10
    resumed = elman.train(resume=run.path, steps=10)
    whole = train(text, tmp_path / "whole", steps=10, **options)
    for name, array in state_of(whole.path)[0].items():
        np.testing.assert_array_equal(array, state_of(resumed.path)[0][name], err_msg=name)


def test_the_second_interrupt_ends_a_run_at_once(text, tmp_path, sigint):
    def interrupt(record):
        if record["event"] == "step" and record["step"] == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(text, tmp_path / "run", steps=1000, on_record=interrupt, log_every=1)
    assert elman.load(tmp_path / "run")


def test_the_old_handler_comes_back_when_on_record_raises_even_while_its_traceback_lives(text, tmp_path, sigint):
    def fail(record):
        if record["event"] == "step":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        train(text, tmp_path / "run", steps=1000, on_record=fail, log_every=1)
    assert caught.traceback and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored(text, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        seen = []
        train(text, tmp_path / "run", steps=1, on_record=lambda _: seen.append(signal.getsignal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert set(seen) == {signal.SIG_IGN}


def test_training_works_in_another_thread(text, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(train, text, tmp_path / "run", steps=2).result()
    assert run.history[-1]["step"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"valid_fraction": 0.999999}, "leaves 0 of 4047 characters"),
        ({"out": ""}, "empty name"),
        ({"valid": "VERSE", "valid_fraction": 0.1}, "exclude each other"),
        ({"config": "[sample]\ntemperature = 0.5"}, r"\[sample\] has no place"),
        ({"config": "[train]\nhidden_size = 8"}, r"belongs in \[model\]"),
    ],
)
def test_what_would_be_ignored_is_refused(options, said, verse_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "config" in options:
        (tmp_path / "own.toml").write_text(options["config"])
        options = {"config": tmp_path / "own.toml"}
    if "valid" in options:
        options = {**options, "valid": verse_file}
    with pytest.raises(ElmanError, match=said):
        elman.train(verse_file, **{"steps": 1, "hidden_size": 4, **options})
    assert not (tmp_path / "runs").exists() and not (tmp_path / "model.safetensors").exists()


def test_a_time_limit_is_not_spent_on_evaluations(verse, tmp_path):
    text = tmp_path / "long.txt"
    text.write_text(verse * 25, encoding="utf-8")
    run = elman.train(text, out=tmp_path / "run", minutes=0.04, hidden_size=512, valid_fraction=0.9)
    evaluations = [record for record in run.history if record["event"] == "eval"]
    assert run.history[-1]["step"] >= 1 and 1000 <= evaluations[0]["scored_tokens"] < 80_000
    assert len({record["scored_tokens"] for record in evaluations}) == 1


def test_the_configuration_of_a_resumed_run_asks_for_the_larger_total(verse_file, tmp_path):
    elman.train(verse_file, out=tmp_path / "run", steps=2, hidden_size=4)
    elman.train(resume=tmp_path / "run", steps=3)
    tables = read_toml(tmp_path / "run" / "config.toml")
    assert tables["train"]["steps"] == 3 and tables["model"]["hidden_size"] == 4
