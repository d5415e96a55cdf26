"""The bench: what it counts, what it says, and that nobody is timed who computes something else. No test is timed."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import islice

import pytest

from elman.cells import CELLS
from elman.cli import main
from elman.errors import ElmanError, InputError
from elman.kernels import available_kernels
from elman.workflows import bench as workflow
from elman.workflows.bench import CASES, Case, Contender, bench, check_agreement, fastest, find_cases, time_in_turn

TINY = Case("tiny", "lstm", 5, 2, 4, 3, 7)
NAMES = [case.name for case in CASES]
torch = pytest.mark.torch
needs_native = pytest.mark.skipif("native" not in available_kernels(), reason="the native kernel is not built")
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch: python -m pip install torch")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pauses, and a peak that is known beforehand."""
    monkeypatch.setattr(workflow, "_PAUSE", 0.0)
    monkeypatch.setattr(workflow, "_TRIAL", 0.0)
    monkeypatch.setattr(workflow, "measure_peak", lambda threads: 1e11 * threads)


@pytest.fixture
def torch_as_it_was():
    """PyTorch's number of threads and its oneDNN switch are the process's."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.backends.mkldnn.enabled = True


# the work


@pytest.mark.parametrize(
    ("case", "flops"),
    [
        # one-hot: recurrent 4·5·5, output 5·7; 6 a weight and token, 12 tokens
        (Case("c", "lstm", 5, 1, 4, 3, 7), 6 * 12 * (100 + 35)),
        # the second layer has an input besides
        (Case("c", "lstm", 5, 2, 4, 3, 7), 6 * 12 * (100 + 200 + 35)),
        (Case("c", "gru", 5, 3, 4, 3, 7), 6 * 12 * (75 + 2 * 150 + 35)),
        # an embedding of 2: 5·2 more
        (Case("c", "rnn", 5, 1, 4, 3, 7, 2), 6 * 12 * (10 + 25 + 35)),
        # forward only
        (Case("c", "lstm", 5, 1, 4, 1, 7, task="generation"), 2 * 4 * (100 + 35)),
    ],
)
def test_flops_by_hand(case, flops):
    assert case.flops == flops


def test_flops_of_a_documented_case():
    assert {case.name: case.flops for case in CASES}["lstm-512"] == 6 * 64 * 128 * (4 * 512**2 + 512 * 65)


def test_windows_follow_each_other_and_are_the_same_in_every_call():
    first, second = TINY.windows(), TINY.windows()
    assert len(first) == workflow._WINDOWS
    for (inputs, targets), (again, _), (following, _) in zip(first, second, [*first[1:], first[0]], strict=True):
        assert inputs.shape == targets.shape == (4, 3)
        assert (inputs == again).all() and (inputs[1:] == targets[:-1]).all()
        if following is not first[0][0]:
            assert (targets[-1] == following[0]).all()


# the records


def test_records(monkeypatch):
    monkeypatch.setattr(workflow, "find_spec", lambda name: None)
    start, case, end = bench([TINY], "numpy", 1, 0.01)
    assert (start["event"], case["event"], end["event"]) == ("start", "case", "end")
    assert (start["kernel"], start["threads"], start["torch"], start["cases"]) == ("numpy", 1, None, ["tiny"])
    assert start["peak_flops"] == 1e11 and start["blas"]
    assert case["tokens_per_second"] == pytest.approx(12 / case["seconds_per_step"])
    assert case["share_of_peak"] == pytest.approx(TINY.flops / case["seconds_per_step"] / 1e11)
    assert case.items() >= {key: value for key, value in dataclasses.asdict(TINY).items() if key != "name"}.items()
    assert case["case"] == "tiny" and case["rounds"] >= 3
    theirs = [key for key in case if key.startswith(("torch", "ratio"))]
    assert len(theirs) == 5 and all(case[key] is None for key in theirs)
    assert end["seconds"] > 0
    json.dumps([start, case, end], allow_nan=False)


def test_the_peak_is_unknown_without_the_native_kernel(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(workflow, "available_kernels", lambda: ["numpy"])
    start, case, _ = bench([TINY], "numpy", 1, 0.01, torch=False)
    assert start["peak_flops"] is None and case["share_of_peak"] is None and start["torch"] is None


@needs_native
def test_the_peak_is_the_best_of_several(monkeypatch):
    monkeypatch.undo()
    measured = iter([3.0, 9.0, 1.0, 2.0, 2.0])
    monkeypatch.setattr("elman.kernels.native.fma_peak", lambda threads: next(measured))
    assert workflow.measure_peak(2) == 9.0


@needs_native
def test_both_kernels_compute_the_same():
    for case in (TINY, dataclasses.replace(TINY, task="generation", batch_size=1)):
        figures = workflow.open_elman(case, "numpy", 1).check()
        check_agreement(case, figures, workflow.open_elman(case, "native", 1))


def test_blocks_are_timed_in_turn():
    calls = []
    contenders = [Contender(name, list, lambda name=name: calls.append(name)) for name in "ab"]
    rounds = list(islice(time_in_turn(contenders, 0.0), 3))
    assert [len(times) for times in rounds] == [2, 2, 2]
    assert calls == ["a", "b", "a", "b", "a", "b", "a", "b"]  # the first of each says how long a block is


def test_the_fastest_setting_is_taken(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(workflow.time, "perf_counter", lambda: clock[0])

    def setting(name, seconds):
        def step():
            clock[0] += seconds

        return lambda: Contender(name, lambda: [1.0], step)

    settings = {name: setting(name, seconds) for name, seconds in (("a", 3), ("b", 1), ("c", 2), ("d", 0.5))}
    assert fastest(TINY, settings, [1.0], 100).name == "d"
    assert fastest(TINY, settings, [1.0], 5).name == "b"  # the time is over before d


def test_a_wrong_peer_is_refused():
    right, wrong = [1.0, 2.0, 3.0], [1.0, 2.0, 3.001]
    check_agreement(TINY, right, Contender("peer", lambda: [1.0, 2.0, 3.0001], list))
    with pytest.raises(ElmanError, match=r"^tiny: peer computes 1\.0+, 2\.0+, 3\.0010*, not 1\.0+, 2\.0+, 3\.0+ "):
        check_agreement(TINY, right, Contender("peer", lambda: wrong, list))
    with pytest.raises(ElmanError, match="tiny"):
        check_agreement(TINY, right, Contender("peer", lambda: [float("nan")] * 3, list))


# PyTorch


@torch
@needs_torch
@pytest.mark.parametrize("embedding_size", [None, 6])
@pytest.mark.parametrize("cell", CELLS)
def test_pytorch_has_the_same_losses(cell, embedding_size, torch_as_it_was):
    case = Case("case", cell, 9, 2, 6, 4, 11, embedding_size)
    figures = workflow.open_elman(case, "numpy", 1).check()
    assert len(figures) == 3 and len(set(figures)) == 3
    settings = workflow.torch_settings(case, 1)
    assert len(settings) == (4 if cell == "lstm" else 2)
    for open_contender in settings.values():
        check_agreement(case, figures, open_contender())


@torch
@needs_torch
def test_pytorch_generates_from_the_same_model(torch_as_it_was):
    case = Case("case", "lstm", 9, 2, 6, 1, 11, task="generation")
    figures = workflow.open_elman(case, "numpy", 1).check()
    assert len(figures) == 11
    settings = workflow.torch_settings(case, 2)
    assert len(settings) == 8
    for open_contender in settings.values():
        contender = open_contender()
        check_agreement(case, figures, contender)
        contender.step()


@torch
@needs_torch
@pytest.mark.parametrize("task", ["training", "generation"])
def test_pytorch_with_other_weights_is_refused(task, monkeypatch, torch_as_it_was):
    case = Case("case", "lstm", 9, 1, 6, 1, 11, task=task)
    honest = workflow.torch_modules

    def cheating(case):
        modules = honest(case)
        modules[1].weight_hh_l0.data += 0.1
        return modules

    monkeypatch.setattr(workflow, "torch_modules", cheating)
    with pytest.raises(ElmanError, match=r"^case: PyTorch, .* computes"):
        list(bench([case], "numpy", 1, 0.01))


@torch
@needs_torch
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_pytorch_trains_no_bias_that_elman_lacks(cell, monkeypatch, torch_as_it_was):
    opened = []
    honest = workflow.torch_modules
    monkeypatch.setattr(workflow, "torch_modules", lambda case: opened.append(honest(case)) or opened[-1])
    case = Case("case", cell, 9, 1, 6, 4, 11)
    contender = next(iter(workflow.torch_settings(case, 1).values()))()
    recurrent = opened[-1][1]
    before = {name: tensor.clone() for name, tensor in recurrent.named_parameters()}
    contender.check()
    same = {name: tensor == before[name] for name, tensor in recurrent.named_parameters()}
    assert same["bias_hh_l0"][:18].all() and not recurrent.bias_hh_l0[:18].any()
    assert same["bias_hh_l0"][18:].all() == (cell == "lstm")
    assert not any(same[name].all() for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"))


@torch
@needs_torch
def test_pytorch_clips_as_elman_does(monkeypatch, torch_as_it_was):
    case = Case("case", "lstm", 9, 1, 6, 4, 11)
    plain = workflow.open_elman(case, "numpy", 1).check()
    monkeypatch.setattr(workflow, "CLIP_NORM", 1e-7)  # below Adam's epsilon for an entry, so that its steps shrink
    figures = workflow.open_elman(case, "numpy", 1).check()
    assert abs(plain[2] - figures[2]) > 1e-3
    for open_contender in workflow.torch_settings(case, 1).values():
        check_agreement(case, figures, open_contender())


@torch
@needs_torch
def test_records_with_pytorch(torch_as_it_was):
    start, case, _ = bench([TINY], "numpy", 1, 0.01)
    assert start["torch"] is not None
    assert case["torch_setting"] in [f"PyTorch, {name}" for name in workflow.torch_settings(TINY, 1)]


def test_ratios(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(workflow.time, "perf_counter", lambda: clock[0])

    def contender(name, seconds):
        seconds = iter(seconds)

        def step():
            clock[0] += next(seconds)

        return Contender(name, lambda: [1.0], step)

    monkeypatch.setattr(workflow, "find_spec", lambda name: True)
    monkeypatch.setattr(workflow, "_torch_version", lambda: "2")
    monkeypatch.setattr(workflow, "open_elman", lambda *_: contender("ours", [9, 1, 2, 4]))
    theirs = {"theirs": lambda: contender("theirs", [9, 9, 5, 8, 6])}  # trial, length of a block, three rounds
    monkeypatch.setattr(workflow, "torch_settings", lambda *_: theirs)
    _, case, end = bench([TINY], "numpy", 1, 1e-6)
    assert (case["rounds"], case["seconds_per_step"], case["tokens_per_second"]) == (3, 2, 6)
    assert (case["torch_setting"], case["torch_tokens_per_second"]) == ("theirs", 2)
    assert (case["ratio"], case["ratio_least"], case["ratio_most"]) == (3, 1.5, 5)
    assert end["seconds"] == clock[0]


@pytest.mark.parametrize("options", [["--no-torch"], []])
def test_torch_is_imported_only_to_compare(options):
    code = """
import sys
from elman.cli import main
from elman.workflows import bench

bench.measure_peak = lambda threads: None
main(sys.argv[1:])
print("torch" in sys.modules)
"""
    arguments = ["bench", "--case", "rnn-100", "--seconds", "0.01", "--kernel", "numpy", "--json", *options]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == str(not options and find_spec("torch") is not None), done.stderr


# the command


def record(**changes):
    """A record "case", with PyTorch."""
    return {
        "event": "case",
        "case": "lstm-200-words",
        "tokens_per_second": 123_456.0,
        "share_of_peak": 0.8124,
        "torch_tokens_per_second": 45_678.0,
        "ratio": 7.703,
        "ratio_least": 5.5,
        "ratio_most": 10.25,
    } | changes


START = {
    "event": "start",
    "elman": "0.1.0",
    "numpy": "2.4",
    "torch": "2.13",
    "kernel": "native",
    "threads": 2,
    "blas": ["openblas 0.3 (SkylakeX, 2 threads)"],
    "peak_flops": 4.812e11,
}


def shown(monkeypatch, capsys, *options, records):
    monkeypatch.setattr(workflow, "bench", lambda *arguments: iter(records))
    assert main(["bench", *options]) == 0
    return capsys.readouterr().out.splitlines()


def test_table(monkeypatch, capsys):
    lines = shown(monkeypatch, capsys, records=[START, record(), {"event": "end", "seconds": 58.7}])
    assert lines[0] == "elman 0.1.0, native kernel, 2 threads"
    assert "FMA peak 481 GFLOP/s" in lines and "PyTorch 2.13" in lines
    assert lines[-3].split() == ["case", "tokens/s", "of", "peak", "PyTorch", "ratio", "least", "to", "most"]
    assert lines[-2].split() == ["lstm-200-words", "123k", "81.2%", "45.7k", "7.70", "5.50", "to", "10.25"]
    assert lines[-1] == "59 s"
    heading, row = lines[-3:-1]
    for title, entry in (("tokens/s", "123k"), ("peak", "81.2%"), ("PyTorch", "45.7k"), ("ratio", "7.70")):
        assert heading.index(title) + len(title) == row.index(entry) + len(entry)
    assert max(map(len, lines)) <= 80


def test_unsteady_rounds_are_said(monkeypatch, capsys):
    steady = record(ratio_least=2.0, ratio_most=4.0)
    assert "unsteady" not in " ".join(shown(monkeypatch, capsys, records=[START, steady]))
    lines = shown(monkeypatch, capsys, records=[START, record(ratio_least=2.0, ratio_most=4.1)])
    assert lines[-1].startswith("  unsteady") and len(lines[-1]) <= 80


def test_table_without_pytorch_and_peak(monkeypatch, capsys):
    start = START | {"torch": None, "peak_flops": None}
    case = record(share_of_peak=None, torch_tokens_per_second=None, ratio=None, ratio_least=None, ratio_most=None)
    lines = shown(monkeypatch, capsys, records=[start, case])
    assert lines[-2:] == ["case              tokens/s", "lstm-200-words        123k"]
    assert sum("PyTorch is not installed" in line for line in lines) == 1
    assert any("peak unknown" in line for line in lines)
    lines = shown(monkeypatch, capsys, "--no-torch", records=[start, case])
    assert not any("PyTorch" in line for line in lines)


def test_names_and_settings_reach_the_workflow(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(workflow, "bench", lambda *arguments: asked.append(arguments) or iter([]))
    assert main(["bench"]) == 0
    names, settings = ["--case", "gru-512", "--case", "rnn-100"], ["--kernel", "numpy", "--threads", "1"]
    assert main(["bench", *names, *settings, "--seconds", "0.5", "--no-torch"]) == 0
    assert asked[0] == (list(CASES), "auto", None, 4.0, True)
    assert asked[1] == (find_cases(["gru-512", "rnn-100"]), "numpy", 1, 0.5, False)
    assert [case.name for case in asked[1][0]] == ["gru-512", "rnn-100"]


def test_json_lines(capsys):
    options = ["--case", "rnn-100", "--seconds", "0.01", "--kernel", "numpy", "--threads", "1", "--no-torch"]
    assert main(["bench", *options, "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["event"] for record in records] == ["start", "case", "end"]
    assert records[1]["case"] == "rnn-100"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--case", "lstm512"], r"no case 'lstm512'; there are rnn-100, .*\. Did you mean lstm-512\?"),
        (["--seconds", "0"], r"seconds must be a number above 0, not 0"),
        (["--seconds", "nan"], r"seconds must be a number above 0, not nan"),
        (["--seconds", "inf"], r"seconds must be a number above 0, not inf"),
        (["--threads", "0"], r"threads must be a whole number from 1 to 1024, not 0"),
        (["--kernel", "nativ"], r"no kernel 'nativ'; .*Did you mean native\?"),
    ],
)
def test_what_cannot_be_used_is_one_line(options, said, monkeypatch, capsys):
    monkeypatch.setattr(workflow, "_measure_case", None)  # nothing is measured before
    assert main(["bench", *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(f"elman: error: {said}\n", err)


def test_cases_have_names_of_their_own():
    assert len(set(NAMES)) == len(NAMES) and find_cases([]) == list(CASES)
    with pytest.raises(InputError):
        find_cases([""])


def test_help_names_the_cases(capsys):
    assert main(["bench", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(name in out for name in ("rnn-100", "lstm-200-words", "generate-512", "2x128"))
