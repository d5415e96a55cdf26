"""The search for settings: its arithmetic, what it tries, who wins, what it writes, and how it ends early."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from elman.cli import main, outputs
from elman.cli.tune import _TableView
from elman.config import read_toml
from elman.errors import InputError, NonFiniteError
from elman.presets import resolve
from elman.workflows import tune as workflow
from elman.workflows.halving import ETA, halving, survivors
from elman.workflows.space import LogRange, around, draw
from elman.workflows.stop import Stop
from elman.workflows.tune import tune

TINY = '[model]\nnum_layers = 1\n\n[train]\nbatch_size = 4\nseq_length = 16\nwarmup_steps = 0\nschedule = "linear"\n'
EXPLOSIVE = TINY.replace("[train]", '[train]\noptimizer = "sgd"\nclip_norm = 1e38')
OWN = {"learning_rate": 0.004, "hidden_size": 256, "dropout": 0.1}
SPACE = {"learning_rate": (0.01, 0.003, 1e-7), "hidden_size": (8,), "dropout": (0.0,)}
SECONDS = 6.0  # of the searches here, by a clock that is not the machine's
RESULT = "learning_rate hidden_size dropout is_own steps trial_seconds valid_loss rungs outcome reason"
KEYS = {
    "start": "event text characters train_tokens valid_tokens split vocab_size cell num_layers kernel precision engine "
    "preset notes minutes seed trials rungs eval_tokens seconds",
    "rung": "event rung rungs trials seconds_each seconds",
    "trial": f"event rung trial {RESULT} seconds",
    "end": "event trials config interrupted signal seconds",
}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that goes on by a millisecond whenever it is read, so that a search does the same on every machine."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) / 1000)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are; nothing may be left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A configuration file of a small model that learns in a few steps."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def cli(verse_file, tiny, tmp_path, monkeypatch, capsys):
    """Runs ``elman tune`` on the small text, in a folder of its own -> status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, config: Path = tiny, small: bool = True) -> tuple[int, str, str]:
        sizes = ["--hidden-size", "8", "--dropout", "0", "--config", str(config)] if small else []
        status = main(["tune", str(verse_file), *sizes, *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


def search(text, config=None, seconds=SECONDS, **options) -> list[dict]:
    return list(tune([text], config=config, minutes=seconds / 60, **{**SPACE, **options}))


def events(records: list[dict], event: str) -> list[dict]:
    return [record for record in records if record["event"] == event]


def spy_on_loop(monkeypatch, before=lambda run: None, after=lambda run: None) -> None:
    """Call ``before`` and ``after`` with each run that is trained."""
    loop = workflow.loop

    def spied(run, stop):
        before(run)
        yield from loop(run, stop)
        after(run)

    monkeypatch.setattr(workflow, "loop", spied)


# the arithmetic of halving


def test_all_rungs_take_equally_long_and_all_of_the_time():
    for trials in range(1, 82):
        rungs = halving(trials, 60.0)
        for rung in rungs:
            assert rung.trials * rung.seconds == pytest.approx(60 / len(rungs))
        assert len(rungs) == next(k for k in range(9) if ETA**k >= trials)


@pytest.mark.parametrize(
    ("trials", "sizes"), [(1, []), (2, [2]), (3, [3]), (4, [4, 2]), (9, [9, 3]), (10, [10, 4, 2]), (27, [27, 9, 3])]
)
def test_a_third_goes_on_until_one_is_left(trials, sizes):
    assert [rung.trials for rung in halving(trials, 1.0)] == sizes
    assert [survivors(size) for size in sizes] == [*sizes, 1][1:]


def test_what_is_left_of_a_search_is_a_search():
    first, *rest = halving(27, 90.0)
    assert halving(survivors(first.trials), 60.0) == rest


# what is tried


def space(**axes):
    return {"learning_rate": LogRange(1e-3, 1e-1), "hidden_size": (8, 16), "dropout": (0.0, 0.2, 0.4), **axes}


def test_the_same_seed_draws_the_same_settings_and_another_one_others():
    drawn = [draw(space(), 9, np.random.default_rng(seed), OWN) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("trials", [2, 9, 12])
def test_settings_fill_the_range_evenly_and_take_all_values_equally_often(trials):
    drawn = draw(space(), trials, np.random.default_rng(0), OWN)  # which are not in the space
    assert len(drawn) == trials and all(list(settings) == list(OWN) for settings in drawn)
    places = sorted(math.log10(settings["learning_rate"] / 1e-3) / 2 * trials for settings in drawn)
    assert all(part - 0.03 < place < part + 1.03 for part, place in enumerate(places))  # as rates are rounded
    for name in ("hidden_size", "dropout"):
        values = [settings[name] for settings in drawn]
        counts = [values.count(value) for value in space()[name]]
        assert sum(counts) == trials and max(counts) - min(counts) <= 1
    assert all(settings["learning_rate"] == float(f"{settings['learning_rate']:.3g}") for settings in drawn)


def test_the_own_settings_come_first_where_they_are_in_the_space():
    assert draw(around(OWN), 9, np.random.default_rng(0), OWN)[0] == OWN
    for axis in ({"hidden_size": (64,)}, {"learning_rate": (0.001,)}, {"learning_rate": LogRange(0.01, 0.02)}):
        assert OWN not in draw(around(OWN) | axis, 9, np.random.default_rng(0), OWN)


@pytest.mark.parametrize("own", [OWN, {**OWN, "hidden_size": 7}])
def test_without_a_range_no_setting_comes_twice(own):
    grid = space(learning_rate=(0.004, 0.002), hidden_size=(256, 8), dropout=(0.1,))
    for trials in (2, 3, 4, 9):
        drawn = draw(grid, trials, np.random.default_rng(3), own)
        assert len({tuple(settings.values()) for settings in drawn}) == len(drawn) == min(trials, 4)
        assert (drawn[0] == OWN) or own != OWN


def test_the_space_about_a_recipe():
    assert around(OWN) == {
        "learning_rate": LogRange(0.001, 0.016),
        "hidden_size": (128, 256, 512),
        "dropout": (0.0, 0.1, 0.3),
    }
    assert around({**OWN, "hidden_size": 1, "dropout": 0.9})["dropout"] == (0.7, 0.9)
    assert around({**OWN, "hidden_size": 1, "dropout": 0.0})["hidden_size"] == (1, 2)


# a search


def test_a_planted_bad_learning_rate_loses_and_records_are_as_documented(verse_file, tiny):
    records = search(verse_file, tiny)
    assert [record["event"] for record in records] == ["start", "rung", "trial", "trial", "trial", "end"]
    for record in records:
        assert set(record) == set(KEYS[record["event"]].split())
    json.dumps(records, allow_nan=False)
    *_, last = ranked = records[-1]["trials"]
    assert ranked == sorted(ranked, key=lambda trial: trial["valid_loss"])
    assert (last["learning_rate"], last["outcome"], last["rungs"]) == (1e-7, "stopped", 1)
    assert last["valid_loss"] > 3.3 and ranked[0]["valid_loss"] < 2.9 and ranked[0]["outcome"] == "best"
    assert records[-1]["config"]["train"]["learning_rate"] == ranked[0]["learning_rate"] == 0.01


def test_the_same_seed_tries_the_same(verse_file, tiny):
    options = {"learning_rate": LogRange(1e-3, 1e-1), "hidden_size": (8,), "dropout": (0.0, 0.5)}
    starts = [list(itertools.islice(tune([verse_file], config=tiny, seed=seed, **options), 1)) for seed in (5, 5, 6)]
    trials = [start["trials"] for (start,) in starts]
    assert len(trials[0]) == 9 and trials[0] == trials[1] != trials[2]


def test_a_trial_goes_on_from_where_it_stopped_with_a_schedule_of_its_own_on_each_rung(
    verse_file, tiny, monkeypatch, temporary
):
    began, ended, rates, kept = [], [], [], []

    def before(run):
        weights = {name: array.copy() for name, array in run.engine.model.parameters.items()}
        began.append((run.progress.step, run.engine.optimizer.steps, weights))
        folder = next(temporary.iterdir())
        kept.append(sorted(path.name for path in folder.iterdir() if path.name != "0"))
        engine_step = run.engine.step
        run.engine.step = lambda *given: (rates.append(given[3]), engine_step(*given))[1]
        rates.append(None)

    def after(run):
        ended.append((run.progress.step, run.engine.optimizer.steps, run.engine.model.parameters))

    spy_on_loop(monkeypatch, before, after)
    records = search(verse_file, tiny, learning_rate=(0.01, 0.003, 1e-7, 0.02), trials=4, seconds=12.0)
    first, second = events(records, "rung")
    assert (first["trials"], len(second["trials"])) == ([1, 2, 3, 4], 2)
    assert kept[4] == sorted(map(str, second["trials"]))  # the others' files are gone
    for number, trial in enumerate(second["trials"], 4):
        before_it = ended[trial - 1]
        assert began[number][:2] == before_it[:2] and began[number][0] > 10
        for name, array in began[number][2].items():
            np.testing.assert_array_equal(array, before_it[2][name])
    one_each = [
        list(group) for is_rate, group in itertools.groupby(rates, key=lambda rate: rate is not None) if is_rate
    ]
    settings = {trial["trial"]: trial["learning_rate"] for trial in records[0]["trials"]}
    for trial, taken in zip([*first["trials"], *second["trials"]], one_each, strict=True):
        assert taken == sorted(taken, reverse=True)
        assert taken[0] == pytest.approx(settings[trial], rel=0.2) and taken[-1] < 0.25 * taken[0]


def test_all_trials_are_validated_on_the_same_tokens_as_many_as_the_time_allows(verse, tmp_path, tiny, monkeypatch):
    long = tmp_path / "long.txt"
    long.write_text(verse * 300)
    scored = []
    spy_on_loop(monkeypatch, after=lambda run: scored.append(run.valid_windows.targets))
    records = search(long, tiny, seconds=4.0)
    tokens = records[0]["eval_tokens"]
    assert 1000 <= tokens < records[0]["valid_tokens"] - 1 and scored == [tokens] * 3


def test_the_time_is_used_and_kept(verse_file, tiny, monkeypatch):
    seconds = 8.0
    monkeypatch.setattr("elman.workflows.pace._OUTSIDE", 0.01)
    records = search(verse_file, tiny, seconds=seconds, trials=4, learning_rate=(0.01, 0.02, 0.03, 0.04))
    assert 0.85 * seconds < records[-1]["seconds"] < seconds + 0.1
    for rung in events(records, "rung"):
        here = [trial for trial in events(records, "trial") if trial["rung"] == rung["rung"]]
        ends = [rung["seconds"], *(trial["seconds"] for trial in here)]
        assert all(later - sooner < 1.05 * rung["seconds_each"] for sooner, later in itertools.pairwise(ends))


@pytest.mark.parametrize("patience", ["", "patience = 1\n"])
def test_all_trials_of_a_rung_have_equally_long_whatever_they_leave(verse_file, tmp_path, patience):
    config = tmp_path / "patient.toml"
    config.write_text(TINY + patience)
    records = search(verse_file, config, learning_rate=(0.01, 5.0, 10.0))
    seconds = [trial["trial_seconds"] for trial in events(records, "trial")]
    assert max(seconds) < 1.1 * min(seconds)


def test_a_trial_that_takes_too_long_takes_it_from_the_others_of_its_rung(verse_file, tiny, monkeypatch):
    monkeypatch.setattr("elman.workflows.pace._OUTSIDE", 0.01)
    now, slept = time.perf_counter, []

    def oversleep(run):
        if not slept:
            slept.append(2.5)
            monkeypatch.setattr(time, "perf_counter", lambda: now() + 2.5)

    spy_on_loop(monkeypatch, after=oversleep)
    records = search(verse_file, tiny)
    assert records[-1]["seconds"] < SECONDS + 0.1
    seconds = [trial["trial_seconds"] for trial in events(records, "trial")]
    assert seconds[0] > 4 and all(later < 1 for later in seconds[1:])


def test_a_trial_that_diverges_is_out_and_the_search_goes_on(verse_file, tmp_path):
    config = tmp_path / "explosive.toml"
    config.write_text(EXPLOSIVE)
    *_, end = search(verse_file, config, learning_rate=(1e38, 0.1, 0.2))
    assert [trial["outcome"] for trial in end["trials"]] == ["best", "stopped", "diverged"]
    assert end["trials"][2]["reason"].startswith("step ") and end["trials"][2]["valid_loss"] is None
    assert end["config"]["train"]["learning_rate"] in (0.1, 0.2)


def test_where_all_that_went_on_diverge_the_best_of_those_that_did_not_is_left(verse_file, tiny, monkeypatch):
    def fail(run):
        if run.progress.step:
            raise NonFiniteError(f"step {run.progress.step}: no")

    spy_on_loop(monkeypatch, before=fail)
    records = search(verse_file, tiny, learning_rate=(0.01, 0.003, 1e-7, 0.02), trials=4, seconds=12.0)
    end = records[-1]
    assert [trial["outcome"] for trial in end["trials"]] == ["best", "stopped", "diverged", "diverged"]
    assert end["trials"][0]["rungs"] == 1 and not end["interrupted"]
    assert end["config"]["train"]["learning_rate"] == end["trials"][0]["learning_rate"]


def test_where_every_trial_diverges_it_is_said_after_the_table(cli, tmp_path, monkeypatch):
    def fail(run):
        raise NonFiniteError("step 1: no")

    spy_on_loop(monkeypatch, before=fail)
    status, out, err = cli("--learning-rate", "0.01,0.003", "--minutes", "0.1")
    assert status == 2 and "nothing was written" in out and out.count("diverged at step 1") == 2
    assert err.splitlines()[-1].startswith("elman: error: every trial diverged; give smaller learning rates")
    assert not list(tmp_path.glob("best*"))


def test_a_tied_embedding_is_as_large_as_the_hidden_size(verse_file, tmp_path):
    config = tmp_path / "tied.toml"
    config.write_text(TINY.replace("[train]", "hidden_size = 8\nembedding_size = 8\ntie_weights = true\n[train]"))
    *_, end = search(verse_file, config, hidden_size=(12,), learning_rate=(0.01, 1e-7))
    assert end["config"]["model"] == {
        **{"num_layers": 1, "hidden_size": 12, "embedding_size": 12, "dropout": 0.0, "tie_weights": True}
    }


def test_a_search_over_lines(tmp_path, tiny):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"ann{'abcde'[n % 5]}{'xyz'[n % 3]}" for n in range(200)) + "\n")
    *_, end = search(names, tiny, items="lines", seconds=12.0)
    assert end["trials"][0]["valid_loss"] < 2 and end["config"]["train"]["items"] == "lines"


# the command line


def test_the_table_has_the_best_first_and_the_file_trains_with_its_settings(cli, tmp_path, verse_file, tiny, capsys):
    seconds = SECONDS / 60
    status, out, err = cli("--learning-rate", "0.01,0.003,1e-7", "--minutes", seconds, "--seed", 3, "--min-count", 2)
    assert status == 0
    head, titles, *rows, last = out.splitlines()
    assert head.startswith("Searched for") and titles.split()[:3] == ["rank", "learning", "rate"]
    assert [row.split()[:4] for row in rows][::2] == [["1", "0.01", "8", "0"], ["3", "1e-07", "8", "0"]]
    assert [row.partition(row.split()[6])[2].strip() for row in rows] == ["won", *["stopped after rung 1"] * 2]
    assert "rung 1 of 1" in err and err.count("validation loss") == 3
    command = f"elman train {verse_file} --config best.toml"
    assert last == f"best.toml: the best settings. Next: {command}"
    written = Path("best.toml").read_text()
    assert command in written and rows[0].split()[6] in written
    tables = read_toml("best.toml")
    assert tables["model"] == {"num_layers": 1, "hidden_size": 8, "dropout": 0.0}
    assert tables["train"] == {**read_toml(tiny)["train"], "learning_rate": 0.01, "seed": 3, "min_count": 2}
    trained = resolve("char-lstm", tables)
    options = {"seed": 3, "min_count": 2, "learning_rate": 0.01, "hidden_size": 8, "dropout": 0.0}
    assert trained == resolve("char-lstm", read_toml(tiny), options)
    assert main([*command.split()[1:], "--steps", "2", "--out", str(tmp_path / "run")]) == 0
    assert "Trained 2 steps" in capsys.readouterr().out


def test_the_command_that_comes_next_names_preset_and_validation_text(cli, verse_file):
    arguments = ["--learning-rate", "0.1,0.01", "--minutes", 0.1, "--preset", "min-char-rnn", "--valid", verse_file]
    status, out, _ = cli(*arguments)
    line = f"elman train {verse_file} --preset min-char-rnn --valid {verse_file} --config best.toml"
    assert status == 0 and out.splitlines()[-1].endswith(line)


def test_json_lines(cli):
    status, out, _ = cli("--learning-rate", "0.01,0.003", "--minutes", 0.1, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [record["event"] for record in records] == ["start", "rung", "trial", "trial", "end"]
    assert records[-1]["out"] == "best.toml" and "--config best.toml" in records[-1]["next"]
    assert read_toml("best.toml") == {**records[-1]["config"], "sample": {}}


def test_no_file_is_overwritten(cli, tmp_path):
    for name in ("best.toml", "best-2.toml", "mine.toml"):
        (tmp_path / name).write_text(name)
    arguments = ["--learning-rate", "0.01,0.003", "--minutes", 0.1]
    status, out, err = cli(*arguments, "--out", "mine.toml")
    assert (status, out) == (2, "") and "mine.toml is there already" in err
    assert cli(*arguments)[0] == 0 and (tmp_path / "best-3.toml").exists()
    assert cli(*arguments, "--out", tmp_path / "new.toml")[0] == 0 and (tmp_path / "new.toml").exists()
    assert all((tmp_path / name).read_text() == name for name in ("best.toml", "best-2.toml", "mine.toml"))


def test_where_the_file_cannot_be_written_the_table_is_printed_all_the_same(cli, monkeypatch):
    def fail(path, raw):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(outputs, "write", fail)
    status, out, err = cli("--learning-rate", "0.01,0.003", "--minutes", 0.1)
    assert status == 2 and "  won" in out and "Next" not in out
    assert err.splitlines()[-1] == "elman: error: best.toml: No space left on device"


def test_a_full_disk_is_one_line_that_says_where(cli, monkeypatch, temporary):
    def fail(path, *_):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("elman.checkpoint.save", fail)
    status, out, err = cli("--learning-rate", "0.01,0.003", "--minutes", 0.1)
    assert (status, out) == (2, "") and str(temporary) in err
    assert err.splitlines()[-1].endswith(
        "No space left on device; trials are kept there: make room, or set TMPDIR to another folder"
    )


# its early end


@pytest.mark.parametrize(("after", "best"), [(1, True), (0, False)])
def test_the_first_interrupt_ends_the_search_and_the_best_so_far_is_written(cli, monkeypatch, tmp_path, after, best):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    runs = []

    def interrupt(run):
        runs.append(run)
        if len(runs) == after + 1:
            os.kill(os.getpid(), signal.SIGINT)

    spy_on_loop(monkeypatch, before=interrupt)
    try:
        status, out, err = cli("--learning-rate", "0.01,0.003,0.02", "--minutes", SECONDS / 60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130 and out.startswith("Interrupted after") and len(runs) == after + 1
    assert "not finished" in err and out.count("not begun") == 3 - after
    assert ("best so far" in out) == best == (tmp_path / "best.toml").exists()
    assert ("nothing was written" in out) != best


def test_a_stopped_trial_does_not_count_its_rung(verse_file, tiny, monkeypatch):
    stop, runs = Stop(), []

    def count(run):
        runs.append(run)
        if len(runs) == 5:
            stop.set()

    spy_on_loop(monkeypatch, before=count)
    options = {"learning_rate": (0.01, 0.003, 1e-7, 0.02), "trials": 4, "seconds": 12.0}
    *_, end = search(verse_file, tiny, stop=stop, **options)
    assert end["interrupted"] and end["signal"] is None
    assert [trial["outcome"] for trial in end["trials"]] == ["best", "open", "stopped", "stopped"]
    assert {trial["rungs"] for trial in end["trials"]} == {1}


def test_where_nobody_reads_any_more_the_search_ends_and_the_best_is_written(cli, monkeypatch, tmp_path):
    def gone(view, record):
        if record["event"] == "trial":
            raise BrokenPipeError

    runs = []
    spy_on_loop(monkeypatch, before=runs.append)
    monkeypatch.setattr(_TableView, "show", gone)
    assert cli("--learning-rate", "0.01,0.003", "--minutes", 0.1)[0] == 0
    assert (tmp_path / "best.toml").exists() and len(runs) == 1


# what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--learning-rate 0.001:", "learning_rate '0.001:' is not a range, which has two ends, such as 0.001:0.01"),
        ("--learning-rate :0.001", "which has two ends"),
        ("--learning-rate 1:2:3", "which has two ends"),
        ("--learning-rate 0.01:0.001", "a range is from a number above 0 to a larger one, not from 0.01 to 0.001"),
        ("--learning-rate 0:0.001", "from a number above 0"),
        ("--learning-rate nan:1", "from a number above 0"),
        ("--learning-rate 0.1:inf", "learning_rate must be a number that is finite"),
        ("--learning-rate 0.1,-1", "learning_rate must be a number above 0"),
        ("--learning-rate fast", "learning_rate 'fast' is not a list of numbers"),
        ("--hidden-size 8,", "hidden_size '8,' is not a list of whole numbers, such as 128,256"),
        ("--hidden-size 8,0", "hidden_size must be a whole number 1 or more"),
        ("--hidden-size 8:16", "hidden_size '8:16' is not a list of whole numbers"),
        ("--dropout 0,1.0 --trials 2", "dropout must be a number from 0 to below 1"),
        ("--trials 1", "trials must be 2 or more"),
        ("--learning-rate 0.01 --hidden-size 8 --dropout 0", "one value for each setting leaves nothing to search"),
        ("--minutes 0", "minutes must be a number above 0"),
        ("--minutes nan", "minutes must be"),
        ("--minutes 1e-4", "minutes 0.0001 is too short for 9 trials"),
        ("--preset char-lsmt", "Did you mean char-lstm?"),
        ("--preset min-char-rnn", "a search ranks by the validation loss, and the whole text is trained on"),
        ("--valid-fraction 0", "give --valid-fraction 0.1 or --valid FILE"),
        ("--valid-fraction 0.1 --valid verse.txt", "exclude each other"),
        ("--config nothere.toml", "nothere.toml"),
        ("--out nofolder/best.toml", "there is no folder nofolder"),
        ("--out best.json", "must end in .toml"),
        ("--config tiny.toml --out tiny.toml", "is what is read"),
        ("--seed -1", "seed must be"),
        ("--kernel quantum", "quantum"),
        ("--threads 0", "threads"),
        ("--tokenizer chars", "chars"),
    ],
)
def test_what_is_refused_is_one_line_before_any_training(cli, monkeypatch, tmp_path, arguments, said):
    monkeypatch.setattr(workflow, "_go_on", None)
    status, out, err = cli(*arguments.split(), small=False)
    assert (status, out) == (2, "") and err.startswith("elman: error: ") and err.count("\n") == 1, err
    assert said in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["temporary", "tiny.toml", "verse.txt"]


def test_a_text_too_short_to_be_validated_on_is_refused(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("hello")
    with pytest.raises(InputError, match="the whole text is trained on, nothing is held out"):
        tune([path])


def test_the_advice_for_too_short_a_time_can_be_typed(cli):
    arguments = ["--learning-rate", "0.01,0.003", "--minutes"]
    status, _, err = cli(*arguments, 0.01)
    assert status == 2
    enough = err.partition("give --minutes ")[2].split(",")[0]
    assert cli(*arguments, float(enough))[0] == 0
