"""Loss curves: what the logs say, whatever state they are in, and images that take names to the letter."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import elman
from elman.cli import main
from elman.errors import InputError, RunFolderError
from elman.workflows.curves import curves

STEPS = [
    {"event": "start", "step": 0, "seconds": 0.0},
    {"event": "step", "step": 10, "seconds": 1.0, "tokens": 100, "train_loss": 3.5},
    {"event": "eval", "step": 15, "seconds": 1.5, "tokens": 200, "valid_loss": 3.25},
    {"event": "sample", "step": 15, "text": "$\\frac{x}$"},
    {"event": "step", "step": 20, "seconds": 2.0, "tokens": 300, "train_loss": 2.5},
]

VOCABULARIES = (("a", 30), ("b", 30), ("c", 90))


def run_of(folder, records=STEPS, tail=""):
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "log.jsonl").write_text(lines + tail, encoding="utf-8")
    return str(folder)


def test_losses_and_where_they_stand(tmp_path):
    (curve,) = curves([run_of(tmp_path / "a")])
    assert curve["name"] == "a" and curve["notes"] == [] and curve["vocab_size"] is None
    assert curve["train"] == {"steps": [10, 20], "seconds": [1, 2], "tokens": [100, 300], "loss": [3.5, 2.5]}
    assert curve["valid"] == {"steps": [15], "seconds": [1.5], "tokens": [200], "loss": [3.25]}


def test_a_half_written_last_line_is_no_news(tmp_path):
    (curve,) = curves([run_of(tmp_path / "a", tail='{"event": "step", "step": 30, "sec')])
    assert curve["train"]["steps"] == [10, 20] and curve["notes"] == []


@pytest.mark.parametrize("damage", ['{"event": "st', "\0\0", "[1]", '"step"', "[" * 100_000, '{"event": 3'])
def test_a_damaged_line_is_left_out_with_a_note(damage, tmp_path):
    path = run_of(tmp_path / "a", tail=damage + "\n" + json.dumps({**STEPS[1], "step": 30}) + "\n")
    (curve,) = curves([path])
    assert curve["train"]["steps"] == [10, 20, 30]
    assert curve["notes"] == ["line 6 of log.jsonl is damaged and left out"]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), None, "low", [1], 10**400])
def test_a_loss_that_is_no_number_is_left_out_with_a_note(loss, tmp_path):
    (curve,) = curves([run_of(tmp_path / "a", [*STEPS, {**STEPS[1], "step": 30, "train_loss": loss}])])
    assert curve["train"]["steps"] == [10, 20] and "1 record(s)" in curve["notes"][0]
    json.dumps(curve, allow_nan=False)


def test_equal_names_are_told_apart(tmp_path):
    runs = [run_of(tmp_path / "x" / "run"), run_of(tmp_path / "y" / "run"), run_of(tmp_path / "y" / "z")]
    assert [curve["name"] for curve in curves(runs)] == ["x/run", "y/run", "y/z"]
    with pytest.raises(InputError, match="twice"):
        curves([runs[0], str(tmp_path / "x" / "." / "run")])


def test_a_folder_without_a_log_is_an_error(tmp_path, capsys):
    with pytest.raises(RunFolderError, match=r"no run to plot.*log\.jsonl"):
        curves([tmp_path])
    assert main(["plot", str(tmp_path / "nothing"), "--out", str(tmp_path / "x.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("x", ["steps", "seconds", "tokens"])
@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_an_image_of_every_format(x, form, magic, tmp_path, capsys):
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b", STEPS[:2])]
    out = tmp_path / f"loss.{form}"
    assert main(["plot", *runs, "--x", x, "--out", str(out)]) == 0
    assert out.read_bytes().startswith(magic) and "last validation loss 3.2500" in capsys.readouterr().out


def test_names_are_taken_to_the_letter(tmp_path, capsys):
    names = [
        "$\\frac{$",
        "_hidden",
        "a$b$c",
        "红楼梦",
        "<img onerror=x>",
        "line\nend\x1b[31m",
        "&amp;-->",
        "half\udcff",
    ]
    runs = [run_of(tmp_path / f"{number}" / name.replace("/", "")) for number, name in enumerate(names)]
    out = tmp_path / "loss.svg"
    assert main(["plot", *runs, "--out", str(out)]) == 0
    root = ElementTree.fromstring(out.read_bytes())
    tags = {each.tag.rpartition("}")[2] for each in root.iter()}
    assert "img" not in tags and "script" not in tags
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and len(shown.splitlines()) == len(names) + 1


def test_json_draws_nothing_unless_asked(tmp_path, capsys, monkeypatch):
    run = run_of(tmp_path / "a", [*STEPS, {**STEPS[1], "train_loss": float("nan")}])
    monkeypatch.chdir(tmp_path)
    assert main(["plot", run, "--json"]) == 0
    (curve,) = json.loads(capsys.readouterr().out)
    assert curve["train"]["loss"] == [3.5, 2.5] and not list(tmp_path.glob("loss.*"))
    assert main(["plot", run]) == 0
    assert (tmp_path / "loss.png").exists()


def test_what_cannot_be_plotted_is_one_line(tmp_path, capsys, monkeypatch):
    run = run_of(tmp_path / "a")
    (tmp_path / "folder.png").mkdir()
    wrong = {"x.jpg": "must end in .png or .svg or .pdf", "folder.png": "is a folder", "no/x.png": "there is no folder"}
    for out, said in wrong.items():
        assert main(["plot", run, "--out", str(tmp_path / out)]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    empty = run_of(tmp_path / "empty", STEPS[:1])
    assert main(["plot", empty, "--out", str(tmp_path / "x.png")]) == 2
    assert "no loss to plot" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot", run, "--out", str(tmp_path / "x.png")]) == 2
    assert "python -m pip install 'elman[plot]'" in capsys.readouterr().err
    assert main(["plot", run, "--json"]) == 0


def test_runs_that_do_not_compare_are_said_so(tmp_path, capsys):
    runs = [run_of(tmp_path / name, [{**STEPS[0], "vocab_size": size}, *STEPS[1:]]) for name, size in VOCABULARIES]
    for chosen, noted in ((runs[:2], False), (runs, True)):
        assert main(["plot", *chosen, "--out", str(tmp_path / "x.png")]) == 0
        assert ("different vocabularies" in capsys.readouterr().out) == noted


def test_a_run_of_train(text, tmp_path):
    options = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_length": 16, "steps": 6, "log_every": 2}
    run = elman.train(text, out=tmp_path / "run", **options)
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    (curve,) = curves([run.path])
    assert curve["train"]["steps"] == [2, 4, 6] and curve["train"]["tokens"] == [128, 256, 384]
    assert curve["valid"]["steps"][-1] == 6 and curve["valid"]["tokens"][-1] == 384
    assert before == {file.name: file.read_bytes() for file in run.path.iterdir()}


def test_help_loads_no_matplotlib():
    code = "import sys; from elman.cli import main; main(['plot', '--help']); main(['inspect', '--help']); "
    code += "main(['--help']); sys.exit(any(name in sys.modules for name in ('matplotlib', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
