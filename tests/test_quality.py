"""benchmarks/quality: its rows run, its splits are what they say, and its peers train what elman trains."""

from __future__ import annotations

import json
import sys
import time

import names_split
import numpy as np
import pytest
import reproduce
import rows
import word_corpus
from table import table

import elman
from conftest import corpus
from elman.batches import StreamWindows
from elman.config import to_toml

needs_torch = pytest.mark.torch
NAMES = [f"name{number}" for number in range(1003)]


@pytest.fixture
def reproduced(monkeypatch, capsys):
    """Runs the script with these arguments -> what it prints."""
    for name in reproduce.BLAS_SETTINGS:
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *map(str, arguments)])
        reproduce.main()
        return capsys.readouterr().out

    return run


# rows


def test_a_row_of_characters_runs_from_text_to_table(reproduced, verse_file, tmp_path, verse):
    out = tmp_path / "runs.jsonl"
    printed = reproduced("char-10s", "--corpus", verse_file, "--minutes", 0.02, "--seeds", 1, "--out", out)
    (run,) = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert (run["row"], run["contender"], run["seed"], run["preset"]) == ("char-10s", "elman", 1, "char-lstm")
    assert run["scored"] == len(verse) - int(0.9 * len(verse)) - 1
    assert 0 < run["nats"] < 4
    assert run["nats"] != run["cold"]
    assert run["seconds"] > 0.02 * 60 / 2
    assert run["tokens"] > 0
    assert f"{run['nats']:.3f} | {run['cold']:.3f} | 1 |" in printed
    assert reproduced("--table", out) == printed


def test_the_rows_of_the_issue_are_there_and_each_has_its_peers(reproduced):
    wanted = {"char-10s", "char-30s", "char-60s", "char-180s", "char-30min", "names", "zaremba-small", "word-lstm"}
    assert wanted <= rows.ROWS.keys()
    assert all(name in reproduced("--list") for name in wanted)
    for name in wanted:
        assert rows.find(name) == (rows.ROWS[name], "elman")
        assert rows.find(f"{name}-pytorch") == (rows.ROWS[name], "pytorch")
        assert rows.find(f"{name}-pytorch-bf16") == (rows.ROWS[name], "pytorch-bf16")
    assert [rows.ROWS[f"char-{time}"].minutes for time in ("10s", "30s", "60s", "180s", "30min")] == [
        1 / 6,
        0.5,
        1,
        3,
        30,
    ]
    assert rows.find("nanogpt")[1] == "gpt"
    assert len(rows.names()) == sum(len(row.contenders) for row in rows.ROWS.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["char-10"], "no row 'char-10'; there are char-10s,"),
        (["char-10s", "--with", "jax"], "no peer jax"),
        (["zaremba-small"], "zaremba-small needs --corpus FILE"),
        (["word-lstm", "--corpus", "x"], "word-lstm needs --minutes"),
        (["char-10s", "--corpus", "no/such/file"], "no/such/file"),
    ],
)
def test_what_is_wrong_is_said(reproduced, arguments, said):
    with pytest.raises(SystemExit) as error:
        reproduced(*arguments)
    assert said in str(error.value)


def test_a_blas_setting_ends_it(reproduced, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    with pytest.raises(SystemExit, match="env -u OPENBLAS_CORETYPE"):
        reproduced("char-10s")


def test_what_a_run_says_when_it_fails_is_passed_on(reproduced, verse_file):
    with pytest.raises(SystemExit, match="no preset 'no-such'"):
        reproduced("char-10s", "--corpus", verse_file, "--preset", "no-such", "--seeds", 1)


def a_run(row, contender, seed, nats, **more):
    return {
        "row": row,
        "contender": contender,
        "seed": seed,
        "model": "LSTM 1 × 8",
        "parameters": 12_345,
        "tokens": 2_500_000,
        "seconds": 9.0 + seed,
        "cores": 1.5,
        "nats": nats,
        "cold": nats + 0.1,
        "unknown": 0.0,
        "machine": "a machine",
        "commit": "abc",
        **more,
    }


def test_a_table_has_medians_and_spreads():
    runs = [a_run("char-10s", "elman", seed, nats) for seed, nats in ((1, 1.5), (2, 1.9), (3, 1.6))]
    runs.insert(1, a_run("char-10s", "gpt", 1, 2.0, blocks=2.345))
    first, _, ours, theirs, *rest = table(runs).splitlines()
    assert first.startswith("| row | who | model | parameters | tokens, M | seconds | cores | state carried |")
    assert ours == (
        "| char-10s | elman | LSTM 1 × 8 | 12,345 | 2.50 | 11.0 (10.0 to 12.0) | 1.50 | 1.600 (1.500 to 1.900) "
        "| 1.700 (1.600 to 2.000) | 3 |"
    )
    assert theirs.endswith("| 10.0 | 1.50 | 2.000 | 2.100 | 1 |")
    assert "Blocks of 64: 2.345." in "".join(rest)
    assert "lstm_torch.py" not in "".join(rest)
    assert rest[-1] == "a machine; commit abc"


def test_a_table_of_words_has_perplexity_and_no_cold_windows_for_names():
    words, names = (
        a_run("word-lstm", "elman", 1, np.log(100.0), unknown=0.05),
        a_run("names", "elman", 1, 2.0, cold=None),
    )
    lines = table([words, names]).splitlines()
    assert lines[0].endswith("| seeds | perplexity | <unk> |")
    assert lines[2].endswith("| 1 | 100.0 | 5.00% |")
    assert "| 2.000 | - | 1 |" in lines[3]


# splits


def test_names_are_split_without_loss_the_same_way_each_time():
    parts = names_split.split(NAMES)
    assert {name: len(part) for name, part in parts.items()} == {"train": 802, "valid": 100, "test": 101}
    assert sorted(name for part in parts.values() for name in part) == sorted(NAMES)
    assert parts == names_split.split(NAMES)
    assert parts["test"] != names_split.split(NAMES, seed=1)["test"]
    assert parts["train"] != NAMES[:802]


def test_the_split_of_the_names_of_the_table(tmp_path):
    paths = names_split.write_split(corpus("names.txt"), tmp_path)
    lines = {part: path.read_text(encoding="utf-8").splitlines() for part, path in paths.items()}
    assert {part: len(own) for part, own in lines.items()} == {"train": 25_626, "valid": 3_203, "test": 3_204}
    assert lines["test"][:3] == ["mustafa", "reuben", "kahlel"]


def test_words_are_cut_and_lines_kept(tmp_path):
    pytest.importorskip("rjieba", reason="needs rjieba: python -m pip install rjieba")
    (tmp_path / "text.txt").write_text("宝玉笑道：好。\r\n\r\n　　黛玉不在\n", encoding="gbk")
    counts = word_corpus.write_corpus(tmp_path / "words.txt", [str(tmp_path / "text.txt")])
    lines = (tmp_path / "words.txt").read_text(encoding="utf-8").splitlines()
    assert [line.replace(" ", "") for line in lines] == ["宝玉笑道：好。", "黛玉不在"]
    assert " ： 好 。" in lines[0]
    assert counts["<eos>"] == 2
    assert counts.total() == sum(len(line.split()) + 1 for line in lines)


# peers


@pytest.fixture(scope="module")
def lstm_torch():
    torch = pytest.importorskip("torch", reason="the peers need torch: python -m pip install torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    import lstm_torch

    yield lstm_torch
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def gpt(lstm_torch):
    import gpt

    return gpt


@pytest.fixture
def ids(verse):
    letters = sorted(set(verse))
    return np.array([letters.index(letter) for letter in verse])


MODELS = {
    "one-hot": {"num_layers": 1},
    "embedding": {"num_layers": 2, "embedding_size": 5},
    "tied": {"num_layers": 2, "embedding_size": 12, "tie_weights": True},
}


def both(lstm_torch, model, **recipe):
    """elman's model of 30 symbols, and the peer's trainer with the same weights."""
    config = elman.ModelConfig(30, "lstm", 12, **model)
    lm = elman.LanguageModel(config, seed=3)
    windows = StreamWindows(np.random.default_rng(0).integers(0, 30, 150), 4, 9)  # 5 an epoch, the last one shorter
    peer = lstm_torch.TorchModel(config, lm.parameters)
    return lm, lstm_torch.Trainer(peer, elman.TrainConfig(**recipe), windows)


@needs_torch
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_the_peer_has_the_same_losses_and_gradients(lstm_torch, model, reduction, penalty):
    lm, trainer = both(lstm_torch, model, reduction=reduction, activation_regularization=penalty)
    state = None
    for step in range(3):  # each reads the state that the one before left
        batch = trainer.windows.batch(step)
        batch.targets[::4, 1] = -1
        trainer.model.zero_grad()
        ours, gradients, state = lm.loss_and_gradients(
            batch.inputs, batch.targets, state, reduction, activation_regularization=penalty
        )
        assert trainer.backward(batch) == pytest.approx(ours, rel=1e-5)
        named = trainer.model.by_name()
        assert named.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert np.abs(named[name].grad.numpy() - gradient).max() <= 1e-5 * np.abs(gradient).max(), name


@needs_torch
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
def test_the_peer_takes_the_same_steps(lstm_torch, optimizer):
    recipe = {"optimizer": optimizer, "learning_rate": 1e-2, "schedule": "linear", "warmup_steps": 3, "clip_norm": 0.5}
    lm, trainer = both(lstm_torch, MODELS["embedding"], **recipe)
    engine = elman.open_engine(
        model=lm, optimizer=elman.optimizers.OPTIMIZERS[optimizer](learning_rate=1e-2), clip_norm=0.5
    )
    for step in range(8):
        batch, rate = trainer.windows.batch(step), 1e-2 * min(1, (step + 1) / 3) * (1 - step / 8)
        ours = engine.step(batch.inputs, batch.targets, batch.reset, rate)
        theirs, tokens = trainer.step(step, step / 8)
        assert theirs == pytest.approx(ours, rel=1e-4)
        assert tokens == batch.tokens


@needs_torch
def test_outputs_of_every_layer_are_dropped_in_training_alone(lstm_torch):
    import torch

    lm, trainer = both(lstm_torch, {"num_layers": 2, "dropout": 0.25})
    inputs = np.random.default_rng(2).integers(0, 30, (50, 20))
    ids = torch.from_numpy(inputs)
    trainer.model.eval()
    whole, _ = trainer.model(ids, None)
    assert np.abs(whole.detach().numpy() - lm.hidden(inputs)[0]).max() < 1e-5
    trainer.model.train()
    dropped, state = trainer.model(ids, None)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    last_h = state[1][0][0]
    kept = dropped[-1] != 0
    assert torch.allclose(dropped[-1][kept], last_h[kept] / 0.75)
    assert not torch.allclose(last_h, whole[-1])  # the layer below was dropped, too


@needs_torch
@pytest.mark.parametrize("variational", [False, True])
def test_variational_dropout_drops_the_same_outputs_at_all_time_steps(lstm_torch, variational):
    import torch

    _, trainer = both(lstm_torch, {"num_layers": 1, "dropout": 0.5, "variational_dropout": variational})
    trainer.model.train()
    ids = torch.zeros((20, 30), dtype=torch.long)
    first, second = ((trainer.model(ids, None)[0] == 0).numpy() for _ in range(2))
    assert (first == first[0]).all() == variational
    assert not (first[:, 0] == first[:, 1]).all()
    assert not (first == second).all()  # drawn again for each window


@needs_torch
def test_embedding_dropout_drops_whole_tokens(lstm_torch):
    import torch

    _, trainer = both(lstm_torch, {"embedding_size": 5, "embedding_dropout": 0.25})
    read = []
    trainer.model.layers[0].register_forward_pre_hook(lambda _, given: read.append(given[0]))
    trainer.model.train()
    trainer.model(torch.zeros((50, 40), dtype=torch.long), None)
    gone = (read[0] == 0).numpy()
    assert (gone == gone[..., :1]).all() and gone.mean() == pytest.approx(0.25, abs=0.04)


@needs_torch
def test_the_peer_in_bf16_is_near_and_keeps_its_weights_and_state_in_float32(lstm_torch):
    import torch

    lm, trainer = both(lstm_torch, MODELS["embedding"], activation_regularization=1.0)
    trainer.bf16 = True
    state = None
    for step in range(2):
        batch = trainer.windows.batch(step)
        ours, gradients, state = lm.loss_and_gradients(
            batch.inputs, batch.targets, state, activation_regularization=1.0
        )
        trainer.model.zero_grad()
        loss = trainer.backward(batch)
        assert loss == pytest.approx(ours, rel=1e-2)
        assert loss != pytest.approx(ours, rel=1e-7)
    for name, parameter in trainer.model.by_name().items():
        assert parameter.grad.dtype == torch.float32
        assert np.abs(parameter.grad.numpy() - gradients[name]).max() <= 0.05 * np.abs(gradients[name]).max()
    assert all(part.dtype == torch.float32 for pair in trainer.state for part in pair)


@needs_torch
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_peer_scores_as_elman_does(lstm_torch, model):
    from peer import Data

    lm, trainer = both(lstm_torch, model)
    scored = np.random.default_rng(1).integers(0, 30, 1500)
    data = Data(30, scored, scored, scored, None, 0.0)
    figures = lstm_torch.score(trainer.model, data)
    assert figures["nats"] == pytest.approx(lm.score(scored).mean(), rel=1e-5)
    assert figures["cold"] == pytest.approx(lm.score(scored, window=256).mean(), rel=1e-5)


@needs_torch
def test_a_setting_that_the_peer_does_not_follow_is_an_error(lstm_torch):
    known = {
        "model": {"cell": "lstm", "hidden_size": 9},
        "train": {"optimizer": "adam", "precision": "auto", "eval_every": 7},
    }
    lstm_torch.check_recipe(known)
    for table_name, key, value in (
        ("model", "cell", "gru"),
        ("train", "optimizer", "adagrad"),
        ("train", "patience", 3),
        ("train", "new", 0.1),
    ):
        tables = {**known, table_name: {**known[table_name], key: value}}
        with pytest.raises(SystemExit, match=f"does not follow {key} = {value!r}"):
            lstm_torch.check_recipe(tables)


@needs_torch
@pytest.mark.parametrize("peer", ["lstm_torch", "gpt"])
def test_a_peer_runs_from_a_recipe_to_its_figures(request, peer, tmp_path, verse_file, monkeypatch, capsys):
    module = request.getfixturevalue(peer)
    config = tmp_path / "config.toml"
    model = {"cell": "lstm", "hidden_size": 8, "num_layers": 1, "dropout": 0.1}
    config.write_text(
        to_toml(model=model, train={"batch_size": 4, "seq_length": 16, "clip_norm": 1.0}), encoding="utf-8"
    )
    held_out = tmp_path / "held-out.txt"
    held_out.write_text(reproduce.held_out(str(verse_file)), encoding="utf-8")
    arguments = ["--config", config, "--text", verse_file, "--score", held_out, "--minutes", 0.3 / 60, "--threads", 1]
    monkeypatch.setattr(sys, "argv", [peer, *map(str, arguments)])
    module.main()
    run = json.loads(capsys.readouterr().out)
    assert 0 < run["nats"] < 4
    assert run["cold"] > 0
    assert run["seconds"] >= 0.3
    assert run["steps"] > 0
    assert run["tokens"] >= run["steps"]
    assert run["scored"] == len(held_out.read_text(encoding="utf-8")) - 1


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("row", ["char-10s", "names", "word-lstm", "zaremba-small"])
def test_a_row_runs_with_its_peers(lstm_torch, reproduced, row, verse_file, tmp_path):
    out, options = (
        tmp_path / "runs.jsonl",
        ["--seeds", 1, "--minutes", 0.02, "--corpus", verse_file, "--preset", "char-lstm"],
    )
    reproduced(row, *options, "--with", "pytorch,pytorch-bf16,gpt", "--out", out)
    reproduced(f"{row}-pytorch", *options, "--out", out)
    runs = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    peers = ["elman", "pytorch", "pytorch-bf16"] + ["gpt"] * (row != "zaremba-small")
    assert [run["contender"] for run in runs] == [*peers, "pytorch"]
    assert len({run["scored"] for run in runs}) == 1
    assert len({run["parameters"] for run in runs if run["contender"] != "gpt"}) == 1
    assert {run["cold"] is None for run in runs} == {row == "names"}
    assert all(0 < run["nats"] < 10 and run["tokens"] > 0 for run in runs)


@needs_torch
def test_what_is_off_the_clock_takes_no_time(lstm_torch):
    from peer import Budget

    budget = Budget(1000.0, None)
    with budget.off_the_clock():
        time.sleep(0.05)
        inside = budget.seconds
    assert budget.seconds < inside - 0.04
    assert budget.progress(0) < 0.1
    assert Budget(None, 4).progress(3) == 0.75


@needs_torch
def test_a_peer_learns_and_keeps_its_best(lstm_torch, ids):
    from peer import Budget, train

    windows = StreamWindows(ids, 8, 16)
    config = elman.ModelConfig(30, "lstm", 32, num_layers=1, dropout=0.1)
    model = lstm_torch.TorchModel(config, elman.LanguageModel(config).parameters)
    trainer = lstm_torch.Trainer(model, elman.TrainConfig(learning_rate=1e-2, clip_norm=1.0), windows)
    seen = []

    def validate():
        seen.append(lstm_torch.mean_nats(model, windows) + (10 if len(seen) == 9 else 0))  # the last one looks bad
        return seen[-1]

    figures = train(model, trainer.step, validate, Budget(None, 60))
    assert figures["steps"] == 60
    assert len(seen) == 10
    assert seen[8] < seen[0] - 0.3
    assert lstm_torch.mean_nats(model, windows) == pytest.approx(seen[8], rel=1e-6)


@needs_torch
def test_the_gpt_learns_and_sees_no_future(gpt, ids):
    import torch

    torch.manual_seed(0)
    model = gpt.GPT(30, layers=2, heads=2, width=16, block=12)
    trainer = gpt.Trainer(model, ids, seed=0, batch=8)
    first = gpt.mean_nats(model, ids[:400])
    assert first == pytest.approx(np.log(30), abs=0.1)
    losses = [trainer.step(step, step / 150)[0] for step in range(150)]
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
    assert np.mean(losses[-10:]) < losses[0] - 0.3
    assert gpt.mean_nats(model, ids[:400]) < first - 0.3
    inputs = torch.from_numpy(ids[None, :12].copy())
    with torch.inference_mode():
        before = model(inputs)
        inputs[0, 7:] = 0
        assert torch.allclose(before[0, :7], model(inputs)[0, :7], atol=1e-6)


@needs_torch
@pytest.mark.parametrize(("count", "window"), [(100, 100), (100, 30), (5, 100), (12, 12), (13, 13), (97, 12)])
def test_a_sliding_score_counts_each_token_once_with_enough_before_it(gpt, count, window):
    counted = np.zeros(count, int)
    for start, stop, first in gpt.places(count, window, block=12, stride=4):
        counted[first:stop] += 1
        begin = first // window * window
        assert begin <= start <= first < stop <= min(begin + window, count)
        assert stop - start <= 12
        assert first == begin or first - start >= min(8, first - begin)
    assert (counted == 1).all()


@needs_torch
def test_a_sliding_score_is_that_of_the_blocks_where_they_do_not_slide(gpt, ids):
    import torch

    model = gpt.GPT(30, layers=1, heads=2, width=16, block=12)
    blocks = torch.from_numpy(ids[:241].copy())
    with torch.inference_mode():
        wanted = model.losses(blocks[:-1].reshape(20, 12), blocks[1:].reshape(20, 12)).mean().item()
    assert gpt.mean_nats(model, ids[:241], 12, 12) == pytest.approx(wanted, rel=1e-6)


@needs_torch
def test_the_learning_rate_of_nanogpt(gpt):
    rates = [gpt.learning_rate(step, step / 2000, 0.05) for step in range(2001)]
    assert rates[0] == pytest.approx(1e-3 / 101)
    assert rates[100] == max(rates) == 1e-3
    assert rates[1050] == pytest.approx(5.5e-4)
    assert rates[2000] == pytest.approx(1e-4)
