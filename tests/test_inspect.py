"""Inspection: what it says of activations, predictions, gates and gradients is what the model computed."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from elman.cells import CELLS
from elman.cli import main
from elman.config import ModelConfig
from elman.errors import InputError, ModelFileError, NonFiniteError
from elman.explain import activations, reach, units
from elman.models import LanguageModel
from elman.text.tokenizers import train_tokenizer
from elman.text_model import TextModel
from elman.workflows.inspect import inspect, summary
from elman.workflows.properties import properties

V = 7
CELL = pytest.mark.parametrize("cell", CELLS)
QUOTED = 'He said “the heron waits”, and (as I “saw” it) was gone.\n"No," she said, "he don\'t."\n' * 8


def model_of(cell: str, layers: int = 2, **options) -> LanguageModel:
    options = {"hidden_size": 5, "num_layers": layers, "dtype": "float64", **options}
    return LanguageModel(ModelConfig(V, cell, **options), seed=3, kernel="numpy")


def ids_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, count)


def text_model(cell: str, content: str, kind: str = "char", unknown: bool = False, info=None, **options) -> TextModel:
    tokenizer = train_tokenizer(kind, content, unknown)
    options = {"hidden_size": 6, "num_layers": 2, **options}
    return TextModel(LanguageModel(ModelConfig(tokenizer.vocab_size, cell, **options), kernel="numpy"), tokenizer, info)


def hidden_of(found: activations.Levels) -> np.ndarray:
    return (found.levels.astype(np.float64) - found.zero) * found.step[:, np.newaxis]


def one_by_one(model: LanguageModel, ids: np.ndarray, restarts=()):
    """h (units, N) and logits (N, V), a token a call."""
    state, hidden, logits = None, [], []
    for place, token in enumerate(ids):
        scores, state = model.step(np.array([token]), None if place in restarts else state)
        h = state[0] if isinstance(state, tuple) else state
        hidden.append(h[:, 0].ravel())
        logits.append(scores[0])
    return np.array(hidden).T, np.array(logits)


@CELL
@pytest.mark.parametrize("restarts", [(), (100, 101, 290)])
def test_activations_and_predictions_are_those_of_a_plain_forward_pass(cell, restarts):
    model, ids = model_of(cell, embedding_size=4), ids_of(300)
    found = activations.read(model, ids, restarts)
    hidden, logits = one_by_one(model, ids, restarts)
    spread = 2.0 if cell != "rnn-relu" else hidden.max(axis=1)
    assert np.all(np.abs(hidden_of(found.hidden) - hidden).max(axis=1) <= spread / 255)
    if cell == "rnn-relu":
        assert found.hidden.zero == 0
        np.testing.assert_array_equal(found.hidden.levels.max(axis=1), np.where(hidden.max(axis=1) > 0, 255, 0))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.isnan(found.surprisal[0])
    np.testing.assert_allclose(found.surprisal[1:], -np.log(p[np.arange(299), ids[1:]]), rtol=1e-12)
    np.testing.assert_array_equal(found.likeliest, np.argsort(-p, axis=1)[:, :5])
    np.testing.assert_allclose(found.probabilities, -np.sort(-p, axis=1)[:, :5], rtol=1e-12)


@CELL
def test_surprisal_is_that_of_score(cell):
    model, ids = model_of(cell), ids_of(700)
    np.testing.assert_allclose(activations.read(model, ids).surprisal[1:], model.score(ids), rtol=1e-12)


def test_a_vocabulary_of_three_has_three_likeliest():
    model = LanguageModel(ModelConfig(3, hidden_size=4), kernel="numpy")
    found = activations.read(model, np.array([0, 1, 2, 1]))
    assert found.likeliest.shape == (4, 3)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)


def test_h_beyond_one_sets_the_scale_and_zero_stays_zero():
    found = activations.quantised(np.array([[-4.0, 0.0], [2.0, 1.0]]))
    np.testing.assert_allclose(hidden_of(found), [[-4, 2], [0, 1]], atol=8 / 255)
    assert hidden_of(found)[1, 0] == 0
    dead = activations.quantised(np.array([[0.0, 3.0], [0.0, 1.5]]))
    assert dead.zero == 0 and dead.levels[0].tolist() == [0, 0] and hidden_of(dead)[1, 0] == 3


@pytest.mark.parametrize(("cell", "gates"), [("lstm", "ifgo"), ("gru", "rzn")])
def test_shares_of_saturated_gates(cell, gates):
    model, ids = model_of(cell, layers=1), ids_of(400)
    for name in ("W_xh", "W_hh"):
        model.parameters[f"recurrent.layers.0.{name}"] *= 6  # so that some are saturated
    hidden, _ = one_by_one(model, ids)
    h_prev = np.concatenate([np.zeros((1, 5)), hidden.T[:-1]])
    p = {name.rpartition(".")[2]: array for name, array in model.parameters.items()}
    a = p["W_xh"].T[ids] + p["b_h"] + h_prev @ p["W_hh"].T
    found = {each.gate: each for each in activations.read(model, ids).saturation}
    assert list(found) == list(CELLS[cell].switches)
    for gate, each in found.items():
        block = a[:, 5 * gates.index(gate) : 5 * gates.index(gate) + 5]
        openness = 1 / (1 + np.exp(-block))
        np.testing.assert_allclose(each.left[0], (openness < 0.1).mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(each.right[0], (openness > 0.9).mean(axis=0), atol=1e-12)
    assert max(each.left.max() for each in found.values()) > 0.1


@pytest.mark.parametrize("cell", ["rnn", "rnn-relu"])
def test_saturation_of_cells_without_switches_is_that_of_h(cell):
    model, ids = model_of(cell), ids_of(200)
    for layer in range(2):
        model.parameters[f"recurrent.layers.{layer}.W_xh"] *= 6
    (found,) = activations.read(model, ids).saturation
    hidden = one_by_one(model, ids)[0].reshape(2, 5, -1)
    if cell == "rnn":
        np.testing.assert_allclose(found.left, (hidden < -0.9).mean(axis=2))
        np.testing.assert_allclose(found.right, (hidden > 0.9).mean(axis=2))
        assert found.left.max() > 0.1
    else:
        assert found.right is None
        np.testing.assert_allclose(found.left, (hidden == 0).mean(axis=2))


def test_numbers_that_are_not_finite_are_said_so():
    model = model_of("lstm")
    model.parameters["output.b_y"][0] = np.nan
    with pytest.raises(NonFiniteError, match="not finite"):
        activations.read(model, ids_of(10))
    with pytest.raises(NonFiniteError, match="not finite"):
        reach.reach(model, ids_of(10), reach.windows(10))


@CELL
@pytest.mark.parametrize(("count", "restarts"), [(30, ()), (16, (5, 10))])
def test_gradient_norms_against_finite_differences(cell, count, restarts):
    model, ids = model_of(cell, hidden_size=3), ids_of(count, seed=1)
    where = reach.windows(count, restarts, most=3, furthest=4)
    assert where.distance == 4 and len(where.starts) == 3 and (where.warm_up == 4) == (not restarts)
    T, eps = where.warm_up + 5, 1e-6
    wanted = np.zeros((5, 3))
    for b, start in enumerate(where.starts):
        for k in range(5):
            for layer in range(2):
                for unit in range(3):
                    losses = [
                        last_loss(model, ids[start : start + T + 1], layer, T - 1 - k, unit, sign * eps)
                        for sign in (1, -1)
                    ]
                    wanted[k, b] += ((losses[0] - losses[1]) / (2 * eps)) ** 2
    wanted = np.sqrt(wanted)
    np.testing.assert_allclose(
        reach.reach(model, ids, where), np.exp(np.log(wanted / wanted[0]).mean(axis=1)), rtol=1e-5
    )


def last_loss(model, ids, layer, step, unit, change):
    """The loss at the last step of one stream, where h of one unit is changed as it comes out of the cell."""
    calls = 0

    def forward(gates_x, gates_h, state):
        nonlocal calls
        state, saved = model.cell.forward(gates_x, gates_h, state)
        if calls == layer * (len(ids) - 1) + step:
            h = state[0].copy()
            h[0, unit] += change
            state = (h, *state[1:])
        calls += 1
        return state, saved

    changed = LanguageModel(model.config, kernel="numpy", parameters=model.parameters)
    changed.cell = dataclasses.replace(model.cell, forward=forward)
    losses, _ = changed.losses(ids[:-1, np.newaxis], ids[1:, np.newaxis])
    return losses[-1, 0]


def test_a_gradient_that_is_zero_stays_zero():
    model = model_of("rnn-relu", layers=1)
    model.parameters["recurrent.layers.0.b_h"][:] = -100  # every unit is dead
    found = reach.reach(model, ids_of(20), reach.windows(20))
    assert found[0] == 1 and not found[1:].any()
    sure = model_of("rnn", layers=1)
    sure.parameters["output.b_y"][2] = 1e6  # the token 2 is so sure that it has no gradient
    ids = np.tile([0, 2], 10)
    both = reach.reach(sure, ids, reach.Windows(np.array([0, 1]), 0, 3))
    np.testing.assert_array_equal(both, reach.reach(sure, ids, reach.Windows(np.array([0]), 0, 3)))
    assert both[0] == 1 and not reach.reach(sure, ids, reach.Windows(np.array([1]), 0, 3)).any()


@pytest.mark.parametrize("tokens", [2, 3, 4, 10, 201, 202, 203, 5000])
def test_windows_lie_in_the_text(tokens):
    where = reach.windows(tokens)
    assert where.starts.min() == 0 and len(where.starts) <= 16 and where.distance == min(100, tokens - 2)
    assert where.starts.max() + where.warm_up + where.distance + 1 <= tokens - 1


@pytest.mark.parametrize("restarts", [[1], [4], [9], [2, 9], list(range(1, 10))])
def test_windows_lie_between_restarts(restarts):
    where = reach.windows(10, restarts)
    for start in where.starts:
        end = min([at for at in [*restarts, 9] if at > start])
        assert start + where.distance < end and where.warm_up == 0


def test_separation_is_that_of_all_pairs():
    rng = np.random.default_rng(4)
    levels = rng.integers(100, 120, (6, 60)).astype(np.uint8)
    labels = rng.random(60) < 0.3
    levels[0] = np.where(labels, 200, 50)
    levels[1] = np.where(labels, 50, 200)
    levels[2] = 77
    found, chance = units.separation(levels, labels)
    yes, no = levels[:, labels].astype(int), levels[:, ~labels].astype(int)
    pairs = np.sign(yes[:, :, np.newaxis] - no[:, np.newaxis]).mean(axis=(1, 2))  # 2·(AUC - 1/2)
    np.testing.assert_allclose(found, pairs, atol=1e-12)
    np.testing.assert_allclose(found[:3], [1, -1, 0], atol=1e-12)
    assert 0 < chance < 1


def test_correlation_is_that_of_ranks():
    rng = np.random.default_rng(5)
    values = rng.integers(0, 9, 50)
    levels = np.array([values * 3, 200 - values, rng.integers(0, 256, 50), np.full(50, 8)]).astype(np.uint8)
    found, _ = units.separation(levels, values)

    def ranks(row):
        return np.array([(row < each).sum() + (row == each).sum() / 2 for each in row])

    np.testing.assert_allclose(found[2], np.corrcoef(ranks(levels[2]), ranks(values))[0, 1], atol=1e-12)
    np.testing.assert_allclose(found[[0, 1, 3]], [1, -1, 0], atol=1e-12)


def test_the_first_of_every_list_are_kept():
    scores = np.array([[0.9, 0.8, 0.1, 0.0, -0.05], [0.0, 0.1, 0.2, -0.3, 0.01]])
    assert units.most_interpretable(scores, 2).tolist() == [0, 3]
    assert units.most_interpretable(scores, 4).tolist() == [0, 1, 2, 3]
    assert units.most_interpretable(scores, 9).tolist() == [0, 1, 2, 3, 4]
    assert units.most_interpretable(np.zeros((0, 3)), 2).tolist() == [0, 1]


def runs(text: str, values: np.ndarray) -> list[str]:
    """The stretches of a text that have a property."""
    marked = "".join(character if value else "\0" for character, value in zip(text, values, strict=True))
    return [part for part in marked.split("\0") if part]


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('a "b c" d', ['"b c']),
        ("a “b ‘c’ d” e", ["“b ‘c’ d"]),
        ("don't, 'tis", []),
        ("he said 'you don't know' twice", ["'you don't know"]),
        ("he said 'you' and 'me'.", ["'you", "'me"]),
        ("the dogs' bones", []),
        ("'tis the dogs' and 'Twas", []),
        ("an 'unclosed one\n\nby' name", []),
        ('an "unclosed\n\none', ['"unclosed']),
        ('an "open\nline" x', ['"open\nline']),
        ("他说「是『不』是」。", ["「是『不』是"]),
        ("„so“ x «y»", ["„so", "«y"]),
    ],
)
def test_inside_quotes(text, inside):
    found = properties(text)[0]
    assert found.name == "inside quotes" and found.values.dtype == np.bool_
    assert runs(text, found.values) == inside


def test_other_properties():
    text = "f(a[1]) It's\n\n（B\n\nc"
    found = {each.name: each.values for each in properties(text)}
    assert runs(text, found["inside brackets"]) == ["(a[1]", "（B"]
    assert found["position in the line"].tolist() == [*range(1, 13), 0, 0, 1, 2, 0, 0, 1]
    assert runs(text, found["word boundary"]) == ["(", "[", "]) ", "\n\n（", "\n\n"]
    assert runs(text, found["capital letter"]) == ["I", "B"]
    assert runs(text, found["digit"]) == ["1"]
    assert all(each.values.shape == (0,) for each in properties(""))


def test_a_unit_that_follows_the_quotes_is_found(tmp_path):
    content = "He said “the heron waits”, and was gone. “No,” she said. The wind and the rain.\n" * 20
    model = text_model("rnn", content, hidden_size=8, num_layers=1)
    p, tokens = model.language_model.parameters, model.tokenizer
    planted = 5
    p["recurrent.layers.0.W_xh"][planted] = 0
    p["recurrent.layers.0.W_hh"][planted] = 0
    p["recurrent.layers.0.b_h"][planted] = 0
    for character, push in (("“", 20), ("”", -20), ("H", -20)):
        p["recurrent.layers.0.W_xh"][planted, tokens.encode(character)[0]] = push
    p["recurrent.layers.0.W_hh"][planted, planted] = 5
    model.save(tmp_path / "m.safetensors")
    (tmp_path / "t.txt").write_text(content, encoding="utf-8")
    record = inspect(tmp_path / "m.safetensors", tmp_path / "t.txt")
    quotes = record["properties"][0]
    assert quotes["name"] == "inside quotes"
    assert quotes["units"][0][:2] == [0, planted] and quotes["units"][0][2] > 0.99 > quotes["chance"]


@pytest.fixture
def saved(tmp_path, text):
    """A model file of two layers of 6 units, and the text it knows."""
    content = text.read_text(encoding="utf-8")
    text_model("lstm", content).save(tmp_path / "m.safetensors")
    return str(tmp_path / "m.safetensors"), str(text)


def test_the_record_holds_what_the_page_needs(saved):
    record = inspect(*saved)
    json.dumps(record, allow_nan=False)
    N = record["text"]["tokens"]
    assert N == record["text"]["characters"] == len(record["tokens"]) == 4047
    assert record["units"] == [[layer, unit] for layer in range(2) for unit in range(6)]
    assert all(len(base64.b64decode(each)) == N for each in record["levels"]["units"])
    assert [line["name"] for line in record["reach"]["lines"][1:]] == [
        "rnn, untrained",
        "gru, untrained",
        "lstm, untrained",
    ]
    assert all(line["norms"][0] == 1 and len(line["norms"]) == 101 for line in record["reach"]["lines"])
    assert {each["gate"] for each in record["saturation"]} == {"i", "f", "o"}
    assert any("inside quotes" in note and "not ranked" in note for note in record["notes"])
    assert "levels" not in summary(record) and "properties" in summary(record)


def test_surprisal_is_what_eval_says(saved, capsys):
    record = inspect(*saved)
    assert main(["eval", *saved, "--kernel", "numpy", "--json"]) == 0
    assert record["nats_per_token"] == pytest.approx(json.loads(capsys.readouterr().out)["nats_per_token"], rel=1e-6)


def test_items_are_read_each_from_zero(tmp_path):
    content = "anna\nbo\nchristine\ndora\n"
    model = text_model("gru", content, dtype="float64", info={"training": {"items": "lines"}})
    model.save(tmp_path / "m.safetensors")
    (tmp_path / "t.txt").write_text(content)
    record = inspect(tmp_path / "m.safetensors", tmp_path / "t.txt")
    found = np.frombuffer(base64.b64decode(record["surprisal"]), "<f4")[1:]
    np.testing.assert_allclose(found, model.score(content).per_token, rtol=1e-6)
    assert "".join(record["tokens"]) == "\n" + content
    cut = inspect(tmp_path / "m.safetensors", tmp_path / "t.txt", max_characters=10)
    assert "".join(cut["tokens"]) == "\nanna\nbo\n" and "first 8 of 23 characters" in cut["notes"][-2]


def test_a_long_text_and_many_units_are_cut_with_a_notice(saved):
    record = inspect(*saved, max_characters=1000, max_units=3)
    assert record["text"]["tokens"] == 1000 and len(record["units"]) == len(record["levels"]["units"]) == 3
    assert any("first 1,000 of 4,047 characters" in note and "--max-characters" in note for note in record["notes"])
    assert any("3 of 12 hidden units" in note and "--units" in note for note in record["notes"])
    best = [each["units"][0][:2] for each in record["properties"]]
    assert all(unit in best for unit in record["units"])


def test_many_tokens_leave_room_for_fewer_units(saved, monkeypatch):
    monkeypatch.setattr("elman.workflows.inspect._MAX_LEVELS", 5 * 500 + 1)
    assert len(inspect(*saved, max_characters=500)["units"]) == 5
    assert len(inspect(*saved, max_characters=500, max_units=9)["units"]) == 9
    monkeypatch.setattr("elman.workflows.inspect.MAX_UNITS", 7)
    assert len(inspect(*saved, max_characters=100)["units"]) == 7


def test_parts_of_characters_and_unknown_words_are_shown(tmp_path):
    (tmp_path / "t.txt").write_text("狗 runs\n" * 4, encoding="utf-8")
    text_model("rnn", "", "byte").save(tmp_path / "b.safetensors")
    record = inspect(tmp_path / "b.safetensors", tmp_path / "t.txt")
    assert record["tokens"][:4] == ["<0xE7>", "<0x8B>", "狗", " "] and record["parts"][:3] == [0, 1, 9]
    text_model("rnn", "a cat runs\n", "word", unknown=True).save(tmp_path / "w.safetensors")
    record = inspect(tmp_path / "w.safetensors", tmp_path / "t.txt")
    assert record["tokens"][:4] == ["狗", " ", "runs", "\n"] and record["unknown"] == [0, 4, 8, 12]
    skipped = inspect(tmp_path / "w.safetensors", tmp_path / "t.txt", on_unknown="skip")
    assert skipped["tokens"][:3] == [" ", "runs", "\n"] and skipped["unknown"] == []


def test_what_the_model_never_saw_is_counted(tmp_path, capsys):
    model, content = tmp_path / "m.safetensors", tmp_path / "t.txt"
    content.write_text("狗 ab, 狗\n" * 4, encoding="utf-8")

    def notes(**options):
        return [note for note in inspect(model, content, **options)["notes"] if "never saw" in note]

    text_model("rnn", "ab \n", unknown=True).save(model)
    assert notes() == ["12 of 32 tokens (37.5%) are <unk>, which the model never saw"]
    assert notes(on_unknown="skip") == ["12 of 32 characters (37.5%) were left out, which the model never saw"]
    assert notes(on_unknown="skip", max_characters=9) == [
        "4 of 9 characters (44.4%) were left out, which the model never saw"
    ]
    assert main(["inspect", str(model), str(content)]) == 0
    assert "note: 12 of 32 tokens (37.5%) are <unk>" in capsys.readouterr().out
    text_model("rnn", "ab \n").save(model)
    assert notes(on_unknown="skip") == ["12 of 32 characters (37.5%) were left out, which the model never saw"]
    for split, left_out in (("unicode", "8 of 32"), ("whitespace", "8 of 20")):
        tokenizer = train_tokenizer("word", "ab ab, \n", True, word_splitter=split)
        config = ModelConfig(tokenizer.vocab_size, "rnn", hidden_size=6)
        TextModel(LanguageModel(config, kernel="numpy"), tokenizer).save(model)
        assert [note.split(" characters")[0] for note in notes(on_unknown="skip")] == [left_out]
        assert notes()[0].startswith("8 of ") and "tokens" in notes()[0]
    content.write_text("ab " * 3000 + "狗", encoding="utf-8")
    assert "(below 0.1%)" in notes()[0]
    content.write_text("ab, ab\n" * 4, encoding="utf-8")
    assert notes() == notes(on_unknown="skip") == []


def test_what_a_model_beside_it_never_saw_is_counted(tmp_path):
    (tmp_path / "t.txt").write_text("abca\n" * 9)
    text_model("rnn", "abc\n").save(tmp_path / "m.safetensors")
    text_model("rnn", "ab\n", unknown=True).save(tmp_path / "n.safetensors")
    record = inspect(tmp_path / "m.safetensors", tmp_path / "t.txt", beside=[tmp_path / "n.safetensors"])
    assert "n.safetensors: 9 of 45 tokens (20.0%) are <unk>, which the model never saw" in record["notes"]
    alike = inspect(tmp_path / "n.safetensors", tmp_path / "t.txt", beside=[tmp_path / "n.safetensors"])
    assert sum("never saw" in note for note in alike["notes"]) == 1


def test_other_models_stand_beside_it(saved, tmp_path):
    (tmp_path / "a").mkdir()
    text_model("rnn", "the river", "byte").save(tmp_path / "a" / "m.safetensors")
    record = inspect(*saved, beside=[tmp_path / "a" / "m.safetensors"])
    assert record["reach"]["lines"][-1]["name"] == "a/m.safetensors"
    assert any("a tokenizer of its own" in note for note in record["notes"])


def test_a_text_of_two_tokens(tmp_path, capsys):
    text_model("lstm", "hello").save(tmp_path / "m.safetensors")
    (tmp_path / "t.txt").write_text("he")
    record = inspect(tmp_path / "m.safetensors", tmp_path / "t.txt")
    assert record["properties"] == [] and len(record["units"]) == 12 and record["reach"]["lines"][0]["norms"] == [1]
    assert main(["inspect", str(tmp_path / "m.safetensors"), str(tmp_path / "t.txt")]) == 0
    assert "the text is too short" in capsys.readouterr().out


def test_bad_input_is_an_error(saved, tmp_path):
    model, _ = saved
    for change in ({"max_characters": 0}, {"max_units": 0}, {"max_characters": 1}):
        with pytest.raises(InputError):
            inspect(*saved, **change)
    with pytest.raises(ModelFileError):
        inspect(tmp_path, saved[1])
    with pytest.raises(InputError):
        inspect(model, tmp_path / "nothing.txt")


@pytest.mark.parametrize("cell", CELLS)
def test_the_summary_fits_80_columns(cell, tmp_path, capsys):
    model = tmp_path / "红楼梦红楼梦红楼梦红楼梦.safetensors"
    text_model(cell, QUOTED, num_layers=1, hidden_size=120 if cell == "rnn" else 6).save(model)
    (tmp_path / "t.txt").write_text(QUOTED, encoding="utf-8")
    assert main(["inspect", str(model), str(tmp_path / "t.txt"), "--max-characters", "500"]) == 0
    out = capsys.readouterr().out
    heads = {"rnn": ["h < -0.9  ", "  h > 0.9"], "rnn-relu": ["h = 0"]}.get(cell, ["below 0.1  ", "  above 0.9"])
    for told in (*heads, "layer:unit score", "saturation", "lstm, untrained", "only the first 500 of"):
        assert told in out
    assert re.search(r"^  inside quotes +\d:\d+  [+-]\d\.\d\d   +\d:", out, re.MULTILINE), out
    assert max(map(cell_len, out.splitlines())) <= 80, out


@pytest.mark.parametrize("others", [[], ["--json"], ["--png", "x.png"]])
def test_a_number_of_units_is_for_a_page(others, saved, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *saved, "--units", "2", *others]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and "--units is for --html" in told.err and not told.out
    assert not (tmp_path / "x.png").exists()


def test_files_are_written_whole_and_never_over_a_folder(saved, tmp_path, capsys):
    html, png = tmp_path / "page.html", tmp_path / "plots.png"
    assert main(["inspect", *saved, "--html", str(html), "--png", str(png), "--max-characters", "300"]) == 0
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>") and png.read_bytes()[1:4] == b"PNG"
    assert main(["inspect", *saved, "--html", str(html), "--max-characters", "300", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.rpartition("\n{")[2].join(["{", ""]))
    assert record["html"] == str(html) and record["text"]["tokens"] == 300
    model, text = saved
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "page.png").write_text("Some text to read.\n")
    before = {path: Path(path).read_bytes() for path in saved}
    for arguments, said in (
        ([*saved, "--html", tmp_path / "folder.html"], "is a folder"),
        ([*saved, "--html", tmp_path / "no" / "x.html"], "there is no folder"),
        ([*saved, "--html", text], "must end in .html or .htm"),
        ([*saved, "--png", model], "must end in .png"),
        ([*saved, "--png", tmp_path / "x"], "must end in .png"),
        ([model, tmp_path / "page.png", "--png", tmp_path / "page.png"], "is what is read; give another file to write"),
    ):
        assert main(["inspect", *map(str, arguments)]) == 2
        assert said in capsys.readouterr().err
    assert {path: Path(path).read_bytes() for path in saved} == before
    assert (tmp_path / "page.png").read_text() == "Some text to read.\n"


def test_a_name_that_is_no_text(saved, tmp_path):
    model = tmp_path / "half\udcff.safetensors"
    model.write_bytes(Path(saved[0]).read_bytes())
    files = ["--html", str(tmp_path / "x.html"), "--png", str(tmp_path / "x.png")]
    assert main(["inspect", str(model), saved[1], "--max-characters", "100", *files]) == 0
    assert "half?" in (tmp_path / "x.html").read_text(encoding="utf-8")


def test_plots_without_matplotlib_name_the_command(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["inspect", *saved, "--png", str(tmp_path / "x.png")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "python -m pip install 'elman[plot]'" in error
