"""elman trace: the record, the tables, the page file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

import elman
from elman.cells import CELLS
from elman.cli import main
from elman.errors import ElmanError, InputError, NonFiniteError
from elman.optimizers import Adagrad, clip_by_value
from elman.text.tokenizers.char import CharTokenizer
from elman.workflows.trace import glyphs, trace

HOSTILE = "\x1b[31mred\x1b]0;t\x07 \x9b2J\t\n\r\u202e</script>e\u0301你好👩\u200d"


@pytest.fixture
def cli(capsys):
    """Call main -> status, stdout, stderr."""

    def call(*arguments) -> tuple[int, str, str]:
        status = main(["trace", *map(str, arguments)])
        return (status, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    """The run folder of a small LSTM."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = {"hidden_size": 6, "num_layers": 2, "batch_size": 4, "seq_length": 16, "dropout": 0.1}
    return elman.train(text, out=out, steps=5, **options).path


def values_of(record: dict, shot: int = 0) -> list[dict[str, list[float]]]:
    return [step["values"] for step in record["snapshots"][shot]["steps"]]


# the record


@pytest.mark.parametrize("cell", CELLS)
def test_the_record_holds_what_the_code_computed(cell):
    record = trace("hello", cell=cell, hidden_size=4, num_layers=2, embedding_size=3, vocab="helo", updates=2)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["symbols"], record["inputs"], record["targets"]) == (list("helo"), [0, 1, 2, 2], [1, 2, 2, 3])
    for shot in record["snapshots"]:
        arrays = {name: np.array(rows) for name, rows in shot["parameters"].items()}
        config = elman.ModelConfig(4, cell, hidden_size=4, num_layers=2, embedding_size=3, dtype="float64")
        model = elman.LanguageModel(config, parameters=arrays)
        inputs, targets = (np.array(record[name])[:, np.newaxis] for name in ("inputs", "targets"))
        loss, gradients, _ = model.loss_and_gradients(inputs, targets, reduction="sum")
        assert shot["loss"] == pytest.approx(loss, rel=1e-12)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(shot["gradients"][name], gradient, rtol=1e-9, atol=1e-14)
            np.testing.assert_allclose(shot["steps"][0]["accumulated"][name], gradient, rtol=1e-9, atol=1e-14)
        logits, _ = model.forward(inputs)
        np.testing.assert_allclose([step["values"]["logits"] for step in shot["steps"]], logits[:, 0], rtol=1e-9)
        assert all(step["values"].keys() == record["quantities"].keys() for step in shot["steps"])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("embedding_size", [None, 3])
def test_the_factors_of_every_step_make_up_the_gradients(cell, embedding_size):
    record = trace("hello", cell=cell, hidden_size=3, num_layers=2, embedding_size=embedding_size)
    (shot,) = record["snapshots"]
    for name, about in record["parameters"].items():
        total = np.zeros(about["shape"])
        for values in values_of(record):
            for rows, column in about["factors"]:
                left = np.concatenate([values[key] for key in rows])
                total += left if column is None else np.outer(left, values[column])
        np.testing.assert_allclose(total, shot["gradients"][name], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"embedding_size": 3}], ids=str)
def test_every_quantity_has_an_equation_and_an_existing_line(cell, options):
    record = trace("ab", cell=cell, **options)
    for about in [*record["quantities"].values(), *record["parameters"].values()]:
        assert about["equation"] and about["code"] and about["line"] > 0
    known = record["quantities"]
    gates = {f"layers.0.{name}" for name in CELLS[cell].gate_names}
    assert gates | {"layers.0.h", "layers.0.d_h", "logits", "probabilities", "loss", "d_logits"} <= known.keys()
    assert ("layers.0.d_h_direct" in known) == (cell == "gru")
    names = {about["tutorial"] for about in known.values()} - {None}
    assert names == ({"xs", "hs", "ys", "ps", "dy", "dh", "dhraw", "dhnext"} if cell.startswith("rnn") else set())


def test_what_differs_between_layers_and_inputs_is_said_so():
    def equations(**options) -> dict[str, str]:
        record = trace("ab", **options)
        return {key: about["equation"] for key, about in [*record["quantities"].items(), *record["parameters"].items()]}

    one, two = equations(cell="lstm"), equations(cell="gru", num_layers=2, embedding_size=2)
    assert one["layers.0.d_outputs"] == two["layers.1.d_outputs"] == "d_outputs = d_logits W_hy"
    assert two["layers.0.d_outputs"] == "d_outputs = d_x of the layer above"
    assert two["layers.1.x"] == "x = h of the layer below" and two["x"] == "x = E[input]"
    assert one["layers.0.d_h_prev"] == "d_h_prev = d_a W_hh"
    assert two["layers.0.d_h_prev"] == "d_h_prev = d_h_direct + d_gates_h W_hh"
    assert "b_hn" in two["layers.0.h_r"] and "b_hn" not in one["layers.0.h_i"]
    assert one["recurrent.layers.0.W_xh"] == "d_W_xh = Σ_t d_aᵀ x"
    assert two["embedding.E"] == "d_E[input] = Σ_t d_x"


def test_a_block_says_what_it_is_a_block_of():
    def equations(cell: str) -> dict[str, str]:
        return {about["name"]: about["equation"] for about in trace("ab", cell=cell)["quantities"].values()}

    lstm, gru, rnn = equations("lstm"), equations("gru"), equations("rnn")
    assert lstm["x_i"] == "x_i is block i of gates_x = x W_xhᵀ + b_h"
    assert lstm["h_f"] == "h_f is block f of gates_h = h_prev W_hhᵀ"
    assert lstm["a_g"] == "a_g is block g of a = gates_x + gates_h"
    assert lstm["d_a_f"] == "d_a_f = d_f · f · (1 - f); d_a_f is block f of d_a"
    assert gru["h_n"].endswith("; h_n is block n of gates_h = h_prev W_hhᵀ, in the last block + b_hn")
    assert gru["d_x_r"].endswith("; d_x_r is block r of d_gates_x")
    assert gru["d_x_n"].endswith("; d_x_n is block n of d_gates_x")
    assert gru["d_h_n"].endswith("; d_h_n is block n of d_gates_h")
    assert not any("block" in equation for equation in rnn.values())


def test_training_is_that_of_the_preset_hello():
    before, after = trace("hello", updates=3)["snapshots"]
    assert (before["update"], after["update"]) == (0, 3)
    arrays = {name: np.array(rows) for name, rows in before["parameters"].items()}
    config = elman.ModelConfig(4, "rnn", hidden_size=3, num_layers=1, dtype="float64")
    model = elman.LanguageModel(config, parameters=arrays)
    optimizer = Adagrad(0.1)
    for _ in range(3):
        ids = np.array([[0], [1], [2], [2], [3]])
        _, gradients, _ = model.loss_and_gradients(ids[:-1], ids[1:], reduction="sum")
        clip_by_value(gradients, 5.0)
        optimizer.update(model.parameters, gradients)
    for name, array in model.parameters.items():
        np.testing.assert_allclose(after["parameters"][name], array, rtol=1e-9)


def test_after_training_hell_is_followed_by_o():
    record = trace("hello", hidden_size=10, updates=200)
    likeliest = [int(np.argmax(values["probabilities"])) for values in values_of(record, -1)]
    assert likeliest == record["targets"]


@pytest.mark.parametrize(("updates", "shots"), [(0, [0]), (1, [0, 1]), (3, [0, 1, 2, 3]), (100, [0, 25, 50, 75, 100])])
def test_snapshots_are_spread_over_the_updates_with_the_first_and_the_last(updates, shots):
    record = trace("hello", updates=updates, snapshots=5, accumulated=False)
    assert [shot["update"] for shot in record["snapshots"]] == shots
    assert "accumulated" not in record["snapshots"][0]["steps"][0]


def test_symbols_are_in_the_order_of_the_vocabulary_or_of_the_text():
    assert trace("hello")["symbols"] == list("helo")
    record = trace("hello", vocab="olehx")
    assert record["symbols"] == list("olehx") and record["inputs"] == [3, 2, 1, 1]


def test_the_same_seed_gives_the_same_numbers_and_the_start_can_be_the_tutorials():
    assert trace("hello") == trace("hello", seed=0) != trace("hello", seed=1)
    weights = trace("hello", initialization="normal-0.01")["snapshots"][0]["parameters"]
    assert np.abs(weights["output.W_hy"]).max() < 0.05 and not any(weights["output.b_y"])


def test_glyphs_can_be_shown_anywhere():
    assert [
        glyphs(symbol) for symbol in ("a", " ", "\n", "\x1b", "é", "e\u0301", "好", "<unk>", "\u202e", "\ud800")
    ] == [*("a", "␣", "\\n", "\\x1b", "é", "e\\u0301", "好", "<unk>", "\\u202e", "\\ud800")]


# a model's own file


def test_a_model_file_brings_its_weights_and_symbols(run):
    record = trace("the heron", model=run)
    model = elman.load(run)
    ids = model.tokenizer.encode("the heron")
    assert [*record["inputs"], record["targets"][-1]] == ids.tolist()
    assert record["cell"] == "lstm" and record["num_layers"] == 2 and record["model"] == str(run)
    assert record["snapshots"][0]["loss"] == pytest.approx(model.language_model.score(ids).sum(), rel=1e-4)
    assert any("float32" in note for note in record["notes"]) and any("dropout" in note for note in record["notes"])
    assert "layers.1.tanh_c" in record["quantities"]


def test_training_a_model_file_leaves_the_file(run):
    before = (run / "model.safetensors").read_bytes()
    first, last = trace("the heron", model=run / "model.safetensors", updates=10)["snapshots"]
    assert last["loss"] < first["loss"]
    assert (run / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "option", ["cell", "hidden_size", "num_layers", "embedding_size", "initialization", "seed", "vocab"]
)
def test_options_that_a_model_file_settles_are_refused(option, run):
    value = {"cell": "lstm", "vocab": "abc", "initialization": "uniform"}.get(option, 0)
    own = {"cell": " (lstm)", "hidden_size": " (6)", "num_layers": " (2)"}
    with pytest.raises(InputError) as caught:
        trace("the", model=run, **{option: value})
    assert str(caught.value) == f"{option} is the model's own{own.get(option, '')}: leave it out"


def test_every_option_that_a_model_file_settles_is_named(run):
    with pytest.raises(InputError) as caught:
        trace("the", model=run, cell="gru", seed=0)
    assert str(caught.value) == "cell is the model's own (lstm); seed is the model's own: leave them out"


def test_the_name_of_a_file_is_a_text_and_a_note_says_so(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    said = "there is a file 'notes.txt'; a trace reads the text that is given, not a file"
    assert said in trace("notes.txt")["notes"] and f"note: {said}" in " ".join(cli("notes.txt")[1].split())
    assert trace("notes")["notes"] == trace("a\0b")["notes"] == trace("好" * 100)["notes"] == []


def test_an_empty_vocabulary_is_said_to_be(cli):
    assert cli("--vocab", "") == (2, "", "elman: error: --vocab is empty: give the symbols\n")


def test_characters_that_a_model_never_saw(tmp_path):
    path = tmp_path / "m.safetensors"
    for unknown in (False, True):
        model = elman.LanguageModel(elman.ModelConfig(2 + unknown, "gru", hidden_size=2, num_layers=1))
        elman.TextModel(model, CharTokenizer("th", unknown)).save(path)
        if unknown:
            record = trace("the", model=path)
            assert record["targets"][-1] == 2 and record["symbols"][2] == "<unk>"
            assert "what the model never saw is <unk>" in record["notes"]
        else:
            with pytest.raises(InputError, match=r"never saw 'e' .*first at offset 2: leave it out$"):
                trace("the", model=path)


def test_a_model_of_items_reads_a_line_with_its_ends(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("ada\nbo\n" * 20)
    options = {"hidden_size": 3, "num_layers": 1, "batch_size": 2, "seq_length": 8}
    run = elman.train(path, out=tmp_path / "run", items="lines", steps=2, **options).path
    record = trace("bo", model=run)
    assert [record["symbols"][token] for token in record["inputs"]] == ["\n", "b", "o"]
    assert record["symbols"][record["targets"][-1]] == "\n" and any("item" in note for note in record["notes"])


# what is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"text": ""}, "at least 2"),
        ({"text": "a"}, "at least 2"),
        ({"text": "ab" * 60}, "at most 101"),
        ({"vocab": "hel"}, "'o'"),
        ({"vocab": ""}, "^vocab is empty: give its symbols$"),
        ({"vocab": "hello"}, "'l' twice"),
        ({"cell": "lstn"}, "Did you mean lstm"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": -3}, "hidden_size"),
        ({"hidden_size": 513}, "up to 512"),
        ({"hidden_size": 2**23}, "up to 512"),
        ({"num_layers": 0}, "num_layers"),
        ({"num_layers": 9}, "up to 8"),
        ({"embedding_size": 0}, "embedding_size"),
        ({"embedding_size": 5000}, "up to 512"),
        ({"seed": -1}, "seed"),
        ({"updates": -1}, "updates"),
        ({"updates": 10**9}, "100,000"),
        ({"snapshots": 1}, "snapshots"),
        ({"initialization": "zeros"}, "initialization"),
        ({"model": "nowhere"}, "nowhere"),
        ({"text": "ab" * 50, "hidden_size": 512, "num_layers": 8, "cell": "lstm"}, "shorter text"),
        ({"vocab": "".join(map(chr, range(0x4E00, 0x4E00 + 1001))) + "helo"}, "vocab_size up to 1,000"),
    ],
)
def test_bad_input_is_one_clear_line(options, words):
    with pytest.raises(ElmanError, match=words) as caught:
        trace(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", ["rnn", "rnn-relu"])
def test_weights_that_overflow_are_said_to(cell, tmp_path):
    config = elman.ModelConfig(2, cell, hidden_size=2, num_layers=1, dtype="float64")
    model = elman.LanguageModel(config)
    for array in model.parameters.values():
        array[:] = 1e308
    elman.TextModel(model, CharTokenizer("ab", unknown=False)).save(tmp_path / "m.safetensors")
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        trace("abab", model=tmp_path / "m.safetensors")


# the command line


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--hidden-size", "10", "--cell", "lstm", "--layers", "2", "--train", "2"],
        ["--hidden-size", "100", "--embedding-size", "7"],
        ["--cell", "gru", "--hidden-size", "100"],
        ["--vocab", "helo" + "".join(map(chr, range(0x4E00, 0x4E00 + 30)))],
        [HOSTILE, "--cell", "lstm"],
        ["好" * 60 + "\t"],
    ],
    ids=lambda arguments: " ".join(arguments)[:20].encode("unicode_escape").decode(),
)
def test_no_line_is_wider_than_80_columns_nor_steers_a_terminal(cli, arguments):
    status, out, err = cli(*arguments)
    assert (status, err) == (0, "")
    assert max(map(cell_len, out.split("\n"))) <= 80
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in out.replace("\n", ""))
    assert "\u202e" not in out and "\u0301" not in out


def table_row(out: str, step: str, name: str) -> list[float]:
    lines = out[out.index(f"--- {step}") :].splitlines()
    return [float(number) for number in next(line for line in lines if line[:20].strip() == name)[20:].split()]


def test_the_tables_show_the_numbers_step_by_step(cli):
    _, out, _ = cli("--vocab", "helo", "--seed", "3")
    record = trace("hello", vocab="helo", seed=3)
    order = [out.index(f"--- forward, step {t}") for t in range(4)] + [
        out.index(f"--- backward, step {t}") for t in (3, 2, 1, 0)
    ]
    assert order == sorted(order)
    for t, values in enumerate(values_of(record)):
        for key, about in record["quantities"].items():
            shown = table_row(out, f"{about['direction']}, step {t}", about["name"])
            np.testing.assert_allclose(shown, values[key], rtol=1e-3, atol=1e-6)
    accumulated = record["snapshots"][0]["steps"][1]["accumulated"]["recurrent.layers.0.W_hh"]
    block = out[out.index("gradients, sum of the steps 3 to 1:") :]
    block = block[block.index("d_W_hh") :]
    np.testing.assert_allclose(table_row("--- x" + block, "x", "row 2"), accumulated[2], rtol=1e-3, atol=1e-6)


def test_the_tables_say_the_loss_before_and_after_and_where_the_numbers_come_from(cli):
    _, out, _ = cli("--train", "50")
    first, last = trace("hello", updates=50)["snapshots"]
    said = (
        f"loss {first['loss']:.6f} nats before training, {last['loss']:.6f} nats after 50 updates, the sum of 4 steps"
    )
    assert said in " ".join(out.split())
    assert f"===== loss {last['loss']:.6f} nats after 50 updates =" in out
    assert "\nloss 5.582394 nats, the sum of 4 steps\n" in cli("hello")[1]
    assert " nats of 1 step\n" in cli("ab")[1]
    assert out.count("--- forward, step 0") == 2
    assert "h = tanh(a)" in out and "src/elman/cells/rnn.py:" in out and "np.tanh(gates_x + gates_h)" in out


def test_a_matrix_too_large_to_print_is_summed_up(cli):
    _, out, _ = cli("ab", "--hidden-size", "30")
    gradient = np.array(trace("ab", hidden_size=30)["snapshots"][0]["gradients"]["recurrent.layers.0.W_xh"])
    assert gradient.shape == (30, 2) and "row 29" in out
    assert "30 x 30, norm 0, largest entry 0" in out


def test_json_is_the_record(cli):
    status, out, _ = cli("ab", "--cell", "gru", "--json")
    assert status == 0 and json.loads(out) == json.loads(json.dumps(trace("ab", cell="gru")))


def test_html_is_one_file_that_replaces_the_last(cli, tmp_path):
    page = tmp_path / "page.html"
    for arguments in (["--train", "100"], ["other"]):
        status, out, _ = cli(*arguments, "--html", page)
        assert status == 0 and out.startswith(f"{page}: ") and out.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    text = page.read_text(encoding="utf-8")
    assert "<title>elman trace other</title>" in text and text.count("<script") == 2
    status, out, _ = cli("--json", "--html", page)
    assert (
        status == 0 and json.loads(out)["text"] == "hello" and "elman trace hello" in page.read_text(encoding="utf-8")
    )


def test_a_page_of_a_hostile_text_or_model_path_has_no_markup_of_theirs(cli, tmp_path):
    status, _, err = cli("<b>\x1b</script>", "--html", tmp_path / "page.html")
    assert (status, err) == (0, "")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<b>" not in text and "\x1b" not in text and text.count("</script>") == 2


@pytest.mark.parametrize("where", ["folder", "missing/page.html", "file/page.html", ""])
def test_a_page_that_cannot_be_written_is_refused_and_nothing_is_left(cli, tmp_path, where, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    status, out, err = cli("--html", where)
    assert (status, out) == (2, "") and err.startswith("elman: error: ") and err.count("\n") == 1
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
        and (tmp_path / "file").read_text() == "kept"
    )


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device file")
def test_a_device_is_no_page(cli):
    status, _, err = cli("--html", "/dev/null")
    assert status == 2 and "/dev/null" in err
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    "arguments",
    [["a"], ["--vocab", "xyz"], ["--hidden-size", "0"], ["--hidden-size", "x"], ["--train", "-1"], ["--cel", "rnn"]],
    ids=" ".join,
)
def test_the_command_line_says_what_is_wrong(cli, arguments):
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "") and err.startswith("elman: error: ") and err.count("\n") == 1


def test_a_text_that_begins_with_a_dash_comes_after_two(cli):
    status, out, _ = cli("--", "-x")
    assert status == 0 and "text: - x" in out


def test_rows_of_gates_have_their_names(capsys):
    assert main(["trace", "ab", "--cell", "gru", "--hidden-size", "2"]) == 0
    lines = capsys.readouterr().out.split("d_W_hh of")[1].splitlines()
    assert [line.split()[:2] for line in lines[1:7]] == [[gate, unit] for gate in "rzn" for unit in "01"]
    assert [line.split()[0] for line in lines[8:11]] == ["r", "z", "n"] and "d_b_h of" in lines[7]
