"""A text cut into two parts, and what is found out about it: the note on <unk>, the figures to beat, the cache."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest

import elman
from elman.config import TrainConfig
from elman.errors import InputError, RunFolderError
from elman.text import cache
from elman.text.sources import open_text, text_of
from elman.text.split import split_text
from elman.workflows import info

WORDS = "the cat and the dog and the cow " * 20
CUT = 512 / 652  # of WORDS and 12 more characters: between words


def split(content, **options):
    return split_text(text_of(content, "poem"), None, TrainConfig(**options))


def test_a_text_of_one_symbol_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LARGE", 10)
    monkeypatch.setenv("ELMAN_CACHE_DIR", str(tmp_path / "cache"))
    for content in ("aaaa", "a" * 100):
        with pytest.raises(InputError, match="poem has one symbol only, 'a': there is nothing to predict"):
            split(content)
    assert not (tmp_path / "cache").exists()


def test_an_empty_line_is_named_by_its_number_in_the_whole_text():
    with pytest.raises(InputError, match="poem: line 10 is empty"):
        split("\n".join(["anna"] * 9 + ["", "bob"]), items="lines", valid_fraction=0.3)


def test_items_are_cut_between_lines():
    data = split("\n".join(["anna", "bob", "clara", "dan"]), items="lines", valid_fraction=0.4)
    parts = data.tokenizer.decode(data.train_ids), data.tokenizer.decode(data.valid_ids)
    assert parts == ("\nanna\nbob\nclara\n", "\n\N{REPLACEMENT CHARACTER}an\n")
    assert data.split == "the last 40% of the lines is validation"


def test_each_part_has_a_cache_of_its_own_and_ids_are_those_in_memory(tmp_path, monkeypatch):
    wanted = split(WORDS)
    monkeypatch.setattr(cache, "LARGE", 10)
    monkeypatch.setenv("ELMAN_CACHE_DIR", str(tmp_path))
    data = split(WORDS)
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(data.train_ids[:], wanted.train_ids)
    np.testing.assert_array_equal(data.valid_ids[:], wanted.valid_ids)


def test_what_is_unknown_is_said_and_charged():
    data = split(WORDS + "a naïve bird", valid_fraction=1 - CUT - 1e-9, tokenizer="word")
    assert [note for note in data.notes if "<unk>" in note] == [
        f"<unk> are 0.00% of the training tokens and {3 / len(data.valid_ids):.2%} of the validation tokens"
    ]
    assert math.isclose(data.valid_spelling, math.log(256) * (1 + 1 + 6 + 1 + 4 + 1))


def test_the_bits_of_training_are_those_of_eval(tmp_path):
    (tmp_path / "text.txt").write_text(WORDS + "a naïve bird", encoding="utf-8")
    options = {"tokenizer": "word", "valid_fraction": 1 - CUT - 1e-9, "hidden_size": 4, "steps": 1}
    run = elman.train(tmp_path / "text.txt", out=tmp_path / "run", **options)
    content = (tmp_path / "text.txt").read_text(encoding="utf-8")
    score = run.model.score(content[512:])
    assert score.unknown_tokens == 3
    assert math.isclose(run.history[-1]["bits_per_char"], score.bits_per_char, rel_tol=0.03)  # the first word's share


def test_a_bpe_model_has_its_tokenizer_json_beside_it(tmp_path):
    (tmp_path / "text.txt").write_text(WORDS)
    options = {"hidden_size": 4, "steps": 1, "sample_every": 0}
    first = elman.train(tmp_path / "text.txt", tokenizer="bpe", max_vocab=260, out=tmp_path / "1", **options)
    own = str(tmp_path / "1" / "tokenizer.json")
    second = elman.train(tmp_path / "text.txt", tokenizer=own, out=tmp_path / "2", **options)
    assert first.model.tokenizer.to_json() == second.model.tokenizer.to_json()
    assert first.history[-1]["valid_loss"] == second.history[-1]["valid_loss"]


def test_info_of_a_text(tmp_path):
    (tmp_path / "text.txt").write_bytes((WORDS + "a naïve bird").encode("utf-8-sig"))
    record = info.text([tmp_path / "text.txt"], TrainConfig(tokenizer="word", valid_fraction=1 - CUT - 1e-9))
    json.dumps(record)
    assert (record["characters"], record["encodings"]) == (len(WORDS) + 12, ["utf-8"])
    assert record["distinct_characters"] == len(set(WORDS + "a naïve bird"))
    assert record["commonest"][:2] == [[" ", record["commonest"][0][1]], ["the", record["commonest"][1][1]]]
    assert math.isclose(record["unknown_rate"], 3 / record["valid_tokens"]) and record["coverage"] < 1
    assert record["notes"][0] == "text.txt: a byte-order mark left out"
    uniform, tokens = record["uniform"], record["valid_tokens"]
    assert math.isclose(uniform["nats_per_token"], math.log(record["vocab_size"]))
    bits = (tokens * math.log2(record["vocab_size"]) + 8 * 14) / 140
    assert math.isclose(uniform["bits_per_char"], bits)
    assert [each["order"] for each in record["ngrams"]] == [1, 2, 3, 4, 5, 6]
    assert 0 < record["ngrams"][1]["nats_per_token"] < record["ngrams"][0]["nats_per_token"] < uniform["nats_per_token"]
    assert record["xz"]["nats_per_token"] > 0


def test_a_large_text_has_no_ngrams(tmp_path, monkeypatch):
    monkeypatch.setattr(info, "_MOST_TOKENS", 100)
    (tmp_path / "text.txt").write_text(WORDS)
    record = info.text([tmp_path / "text.txt"], TrainConfig())
    assert record["ngrams"] is None and record["xz"] is None and record["uniform"]["nats_per_token"] > 0


def test_a_warning_on_the_command_line_is_one_plain_line(monkeypatch, capsys):
    from elman.cli import main

    def warned(*_):
        warnings.warn("rjieba 1 cut this\nmodel's text", UserWarning, stacklevel=1)
        return {}

    monkeypatch.setattr(info, "installation", warned)
    monkeypatch.setattr("elman.cli.info._show", print)
    warnings.simplefilter("always")
    assert main(["info"]) == 0
    assert capsys.readouterr().err == "elman: warning: rjieba 1 cut this model's text\n"


def test_items_of_two_files_are_not_joined_where_a_line_end_is_missing(tmp_path):
    for name, content in (("a.txt", "ann\nbo"), ("b.txt", "dan\ned\n"), ("c.txt", "flo")):
        (tmp_path / name).write_text(content)
    text = open_text([tmp_path])
    assert text.read() == "ann\nbodan\ned\nflo"
    data = split_text(text, None, TrainConfig(items="lines", valid_fraction=0.0))
    assert data.tokenizer.decode(data.train_ids) == "\nann\nbo\ndan\ned\nflo\n"
    halves = split_text(text, None, TrainConfig(items="lines", valid_fraction=0.4))
    assert halves.tokenizer.decode(halves.train_ids) == "\nann\nbo\ndan\n"
    assert len(halves.valid_ids) == len("\ned\nflo\n")


def test_the_cache_knows_items_of_one_file_from_those_of_two(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LARGE", 3)
    monkeypatch.setenv("ELMAN_CACHE_DIR", str(tmp_path / "cache"))
    for name, content in (("a.txt", "ann\nbo"), ("b.txt", "dan\n"), ("both.txt", "ann\nbodan\n")):
        (tmp_path / name).write_text(content)
    config = TrainConfig(items="lines", valid_fraction=0.0)
    for names, wanted in ((["a.txt", "b.txt"], "\nann\nbo\ndan\n"), (["both.txt"], "\nann\nbodan\n")):
        data = split_text(open_text([tmp_path / name for name in names]), None, config)
        assert data.tokenizer.decode(data.train_ids[:]) == wanted


def test_bits_of_training_count_the_spelling_too(tmp_path, capsys):
    from elman.cli.progress import PlainView

    (tmp_path / "text.txt").write_text(WORDS)
    options = {"tokenizer": "word", "max_vocab": 4, "hidden_size": 4, "steps": 1, "log_every": 1, "sample_every": 0}
    run = elman.train(tmp_path / "text.txt", out=tmp_path / "run", **options)
    start, step = (next(r for r in run.history if r["event"] == event) for event in ("start", "step"))
    per_token = (step["train_loss"] + start["spelling_per_token"]) / math.log(2)
    assert start["spelling_per_token"] > 0.5
    view = PlainView()
    view.show(start)
    view.show(step)
    assert f"{per_token / start['characters_per_token']:.3f} bits/char" in capsys.readouterr().err


def test_a_run_folder_is_not_taken_for_a_text(tmp_path):
    (tmp_path / "text.txt").write_text(WORDS)
    run = elman.train(tmp_path / "text.txt", hidden_size=4, steps=2, out=tmp_path / "run")
    with pytest.raises(InputError, match=r"run is a run folder, not a text; to go on with the run give --resume"):
        elman.train(run.path, steps=1)
    with pytest.raises(RunFolderError, match=r"already reached its end \(2 steps\).*--steps 4"):
        elman.train(resume=run.path, steps=1)


def test_a_text_of_one_line_has_no_line_to_validate_on():
    data = split("a long line of text", items="lines")
    assert data.notes == ("the text has only one line, too short for a validation part: it is trained on whole",)
