"""A run that is interrupted, shared, moved, or not finite: what is saved, what is refused, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import elman
from elman import checkpoint
from elman.cli import main
from elman.engines import cpu
from elman.engines.cpu import CpuEngine
from elman.errors import ElmanError, InputError, KernelError, NonFiniteError, RunFolderError
from elman.kernels import bf16_lacks
from elman.text_model import TextModel
from elman.workflows import lock, resume
from elman.workflows.lock import FolderLock
from elman.workflows.run_folder import RunFolder
from elman.workflows.stop import Stop, stop_on_signals
from elman.workflows.train import training

TINY = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_length": 16, "schedule": "constant", "warmup_steps": 0}
ELMAN = [sys.executable, "-m", "elman"]
FLAGS = ["--hidden-size", "8", "--batch-size", "4", "--seq-length", "16", "--log-every", "1"]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and pipes")


def train(text, out, **options) -> elman.TrainingRun:
    return elman.train(text, out=out, **{**TINY, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def state_of(folder: Path) -> tuple[dict, dict]:
    return checkpoint.load(folder / "checkpoint.safetensors")


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_end(one: Path, other: Path) -> None:
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    (tensors, _), (others, _) = state_of(one), state_of(other)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, others[name], err_msg=name)


def at_step(step: int, act) -> object:
    """An on_record that acts once, at the record of a step."""

    def on_record(record: dict) -> None:
        if (record["event"], record.get("step")) == ("step", step):
            act()

    return on_record


# signals


@posix
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_saves_a_run_and_is_told_by_the_exit_status(text, tmp_path, name, status):
    arguments = ["train", str(text), *FLAGS, "--preset", "min-char-rnn", "--steps", "100000", "--checkpoint-every", "0"]
    command = [*ELMAN, *arguments, "--out", str(tmp_path / "run"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while '"step": 9' not in process.stdout.readline():
                pass
            process.send_signal(getattr(signal, name))
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    end = json.loads(out.splitlines()[-1])
    assert (process.returncode, err, end["event"], end["interrupted"]) == (status, "", "end", True)
    assert end["signal"] == getattr(signal, name) and end["step"] >= 9
    assert state_of(tmp_path / "run")[1]["progress"]["step"] == end["step"]
    assert len(elman.load(tmp_path / "run").generate("the ", 5)) == 5


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_at_once(number):
    stop = Stop()
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as caught, stop_on_signals(stop):
        signal.raise_signal(number)
        assert stop.is_set() and stop.signal == number
        signal.raise_signal(number)
    assert signal.getsignal(number) is before
    if number == signal.SIGTERM:
        assert caught.value.code == 143


def test_a_run_can_be_told_to_stop_from_another_thread(text, tmp_path):
    stop = Stop()

    def set_from_a_thread() -> None:
        thread = threading.Thread(target=stop.set)
        thread.start()
        thread.join()

    end = train(text, tmp_path / "run", steps=1000, log_every=1, stop=stop, on_record=at_step(5, set_from_a_thread))
    assert (end.history[-1]["step"], end.history[-1]["interrupted"], end.history[-1]["signal"]) == (5, True, None)
    told = [record for record in end.history if record["event"] == "stop"]
    assert [(record["step"], record["signal"]) for record in told] == [(5, None)]
    assert set(told[0]) == {"event", "step", "seconds", "signal"}
    after = end.history[end.history.index(told[0]) :]
    assert [record["event"] for record in after] == ["stop", "eval", "end"], "said before what may last"


@posix
@pytest.mark.parametrize("flags", [["--json"], []])
def test_training_whose_reader_goes_away_saves_and_ends_quietly(text, tmp_path, flags):
    command = [*ELMAN, "train", str(text), *FLAGS, "--minutes", "5", "--out", str(tmp_path / "run"), *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE if flags else subprocess.STDOUT}
    with subprocess.Popen(command, **pipes) as process:
        try:
            assert process.stdout.readline()
            process.stdout.close()
            err = process.stderr.read() if flags else b""
            process.wait(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, b"")
    assert state_of(tmp_path / "run")[1]["progress"]["step"] == log(tmp_path / "run")[-1]["step"]
    assert log(tmp_path / "run")[-1]["event"] == "end"


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_training_that_cannot_print_its_records_saves_and_says_so(text, tmp_path):
    command = [*ELMAN, "train", str(text), *FLAGS, "--minutes", "5", "--out", str(tmp_path / "run"), "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "No space left on device" in done.stderr
    assert log(tmp_path / "run")[-1]["event"] == "end" and state_of(tmp_path / "run")


# two trainers


def test_a_second_trainer_is_refused_and_told_of_the_first(text, tmp_path):
    records = training([text], out=tmp_path / "run", steps=100, log_every=1, **TINY)
    next(records)
    before = contents(tmp_path / "run")
    for options in ({"resume": tmp_path / "run"}, {"out": tmp_path / "run"}):
        with pytest.raises(RunFolderError, match=rf"run is being trained by this process itself \({os.getpid()}\)"):
            elman.train(**options)
    assert contents(tmp_path / "run") == before
    records.close()
    assert elman.train(resume=tmp_path / "run", steps=3).history[-1]["step"] == 3


@posix
def test_a_second_process_is_refused_by_the_firsts_number(text, tmp_path, capsys):
    records = training([text], out=tmp_path / "run", steps=100, log_every=1, **TINY)
    next(records)
    done = subprocess.run([*ELMAN, "train", "--resume", str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert f"is being trained by process {os.getpid()}; wait for it, or end it (kill {os.getpid()}" in done.stderr
    records.close()


def test_two_trainers_that_begin_at_once_get_a_folder_each(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(text, None, steps=1)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path != Path("runs/verse-1") and exists(path))  # not yet
    assert train(text, None, steps=1).path == Path("runs/verse-2")


def test_what_a_killed_trainer_left_holds_nobody_up(text, tmp_path):
    run = train(text, tmp_path / "run", steps=2)
    (run.path / ".lock").write_text("1 elsewhere")
    (run.path / ".checkpoint.safetensors.123.tmp").write_text("half")
    elman.train(resume=run.path, steps=4)
    assert not list(run.path.glob(".*"))


def test_the_holder_on_another_machine_is_named(tmp_path, monkeypatch):
    held = FolderLock(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(lock.platform, "node", lambda: "heron")
        with pytest.raises(RunFolderError, match=r"by process \d+ on "):
            FolderLock(tmp_path)
    held.release()
    held.release()
    FolderLock(tmp_path).release()
    assert not list(tmp_path.iterdir())


@posix
def test_a_lock_that_was_removed_while_it_was_waited_for_is_not_taken(tmp_path, monkeypatch):
    held, flock, seen = FolderLock(tmp_path), lock.fcntl.flock, []

    def release_first(file, operation):
        if not seen:
            seen.append(file)
            held.release()
        flock(file, operation)

    monkeypatch.setattr(lock.fcntl, "flock", release_first)
    taken = FolderLock(tmp_path)
    assert (tmp_path / ".lock").exists()
    with pytest.raises(RunFolderError):
        FolderLock(tmp_path)
    taken.release()


@posix
def test_where_nothing_can_be_locked_a_note_says_so(text, tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    run = train(text, tmp_path / "run", steps=1)
    assert any("cannot be locked" in note for note in run.history[0]["notes"])


def test_a_run_that_cannot_begin_leaves_the_folder_unlocked_and_a_new_one_not_at_all(text, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(checkpoint, "write_atomically", fail)
    with pytest.raises(
        RunFolderError, match=r"cannot write x: No space left on device; give a folder in another place"
    ):
        train(text, tmp_path / "new", steps=1)
    assert list(tmp_path.iterdir()) == []


# resume


def test_a_checkpoint_is_there_from_step_0_before_anything_is_logged(text, tmp_path):
    records = training([text], out=tmp_path / "run", steps=5, **TINY)
    (start,) = log(tmp_path / "run")
    _, metadata = state_of(tmp_path / "run")
    assert start["event"] == "start" and metadata["progress"]["step"] == 0 and elman.load(tmp_path / "run")
    records.close()
    (tmp_path / "run" / "log.jsonl").unlink()
    (tmp_path / "run" / "model.safetensors").unlink()
    (tmp_path / "run" / "config.toml").unlink()
    elman.train(resume=tmp_path / "run")
    train(text, tmp_path / "whole", steps=5)
    assert_same_end(tmp_path / "whole", tmp_path / "run")
    assert [record["event"] for record in log(tmp_path / "run")] == [
        record["event"] for record in log(tmp_path / "whole")
    ]


def test_a_checkpoint_alone_is_enough_to_go_on(text, tmp_path):
    options = {"eval_every": 2, "learning_rate": 0.3, "checkpoint_every": 1}
    train(text, tmp_path / "whole", steps=12, **options)
    run = train(text, tmp_path / "run", steps=9, **options)
    for name in ("log.jsonl", "model.safetensors", "config.toml"):
        (run.path / name).unlink()
    second = elman.train(resume=run.path, steps=12)
    assert_same_end(tmp_path / "whole", run.path)
    assert any("has lost 5 of its 6 lines" in note for note in second.history[0]["notes"])


@pytest.mark.parametrize("change", [b"", b'{"event": "ste', b'{"event": "step", "step": 5}\n{"event": "st'])
def test_the_log_is_cut_back_to_the_checkpoint(text, tmp_path, change):
    train(text, tmp_path / "whole", steps=6, log_every=1)
    run = train(text, tmp_path / "run", steps=4, log_every=1)
    with (run.path / "log.jsonl").open("ab") as file:
        file.write(change)
    elman.train(resume=run.path, steps=6)
    events = [(record["event"], record.get("step")) for record in log(run.path)]
    assert events == [(record["event"], record.get("step")) for record in log(tmp_path / "whole")]


def test_the_last_evaluation_of_a_run_cut_short_does_not_count_when_it_goes_on(text, tmp_path):
    """At step 5 the model is better than at any step at which one run of 12 steps evaluates."""
    options = {"eval_every": 100, "optimizer": "sgd", "learning_rate": 3.0}
    whole = train(text, tmp_path / "whole", steps=12, **options)
    first = train(text, tmp_path / "run", steps=5, **options)
    model = (first.path / "model.safetensors").read_bytes()
    assert first.history[-1]["best_valid_loss"] == first.history[-1]["valid_loss"]
    second = elman.train(resume=first.path, steps=12)
    assert second.history[-1]["best_valid_loss"] == whole.history[-1]["best_valid_loss"]
    assert_same_end(tmp_path / "whole", first.path)
    assert (first.path / "model.safetensors").read_bytes() != model


def test_options_and_texts_that_are_the_same_may_be_given_again_and_a_text_may_have_moved(verse, tmp_path):
    first_place, second_place = tmp_path / "verse.txt", tmp_path / "elsewhere" / "poem.txt"
    first_place.write_text(verse)
    run = train(first_place, tmp_path / "run", steps=2, seed=5, optimizer="adam")
    elman.train(first_place, resume=run.path, steps=3, seed=5, hidden_size=8, preset="char-lstm", optimizer="adam")
    second_place.parent.mkdir()
    first_place.rename(second_place)
    with pytest.raises(RunFolderError, match=r"a run needs the text that it began with.*verse\.txt"):
        elman.train(resume=run.path, steps=4)
    assert elman.train(second_place, resume=run.path, steps=4).history[-1]["step"] == 4
    assert elman.train(resume=run.path, steps=5).history[-1]["step"] == 5  # it knows the new place


def test_without_being_told_a_run_goes_on_with_its_kernel_and_threads_and_a_note_tells_of_others(text, tmp_path):
    run = train(text, tmp_path / "run", steps=2, kernel="numpy", threads=1)
    second = elman.train(resume=run.path, steps=3)
    assert second.history[0]["kernel"] == "numpy" and not second.history[0]["notes"]
    third = elman.train(resume=run.path, steps=4, threads=2)
    (note,) = third.history[0]["notes"]
    assert note.startswith("kernel numpy with --threads 2 instead of numpy with 1:") and "not to the last bit" in note


@pytest.mark.skipif(bf16_lacks() is not None, reason=f"no bf16 here: {bf16_lacks()}")
def test_a_run_goes_on_in_its_precision_and_a_note_tells_of_another(text, tmp_path, monkeypatch):
    run = train(text, tmp_path / "run", steps=2, kernel="native", precision="bf16")
    assert run.history[0]["precision"] == "bf16"
    second = elman.train(resume=run.path, steps=3)
    assert second.history[0]["precision"] == "bf16" and not second.history[0]["notes"]
    monkeypatch.setattr(cpu, "bf16_lacks", lambda: "nothing of the kind")
    with pytest.raises(KernelError, match="bf16 cannot be had: nothing of the kind; use precision float32 or auto"):
        elman.train(resume=run.path, steps=4)
    (note,) = elman.train(resume=run.path, steps=4, precision="auto").history[0]["notes"]
    assert note.startswith("precision float32 instead of bf16:") and "not to the last bit" in note


def test_a_kernel_that_is_not_here_is_asked_for_by_name(text, tmp_path, monkeypatch):
    run = train(text, tmp_path / "run", steps=2, kernel="numpy", threads=1)
    monkeypatch.setattr(resume, "available_kernels", lambda: ["other"])
    with pytest.raises(KernelError, match=r"trained by the numpy kernel, which is not here; give --kernel"):
        elman.train(resume=run.path, steps=3)


def test_more_threads_than_there_are_processors_now_are_not_asked_for(text, tmp_path, monkeypatch):
    run = train(text, tmp_path / "run", steps=2, threads=2)
    monkeypatch.setattr(resume, "processors", lambda: 1)
    (note,) = elman.train(resume=run.path, steps=3).history[0]["notes"]
    assert "--threads 1 instead of" in note


def test_another_end_under_a_schedule_is_told(text, tmp_path):
    run = train(text, tmp_path / "run", steps=4, schedule="linear", learning_rate=0.1)
    second = elman.train(resume=run.path, steps=8, log_every=1)
    assert any("the schedule is linear over the whole run" in note for note in second.history[0]["notes"])
    rates = [record["learning_rate"] for record in second.history if record["event"] == "step"]
    assert rates == pytest.approx([0.1 * (1 - step / 8) for step in (4, 5, 6, 7)])


def test_a_run_of_minutes_that_has_ended_is_over(text, tmp_path):
    run = train(text, tmp_path / "run", minutes=0.02)
    before = contents(run.path)
    with pytest.raises(RunFolderError, match="already reached its end"):
        elman.train(resume=run.path)
    assert contents(run.path) == before


def test_the_time_of_an_evaluation_is_known_on_resume(text, tmp_path):
    """With 3 seconds for it, 8 of 12 seconds are all that there is for training."""
    stop = Stop()
    run = train(text, tmp_path / "run", minutes=0.2, stop=stop, log_every=1, on_record=at_step(3, stop.set))
    tensors, metadata = state_of(run.path)
    checkpoint.save(
        run.path / "checkpoint.safetensors", tensors, {**metadata, "seconds": 8.0, "evaluation_seconds": 3.0}
    )
    with pytest.raises(RunFolderError, match="already reached its end"):
        elman.train(resume=run.path)


def test_under_minutes_the_schedule_goes_on_from_the_seconds_that_were_spent(text, tmp_path):
    stop = Stop()
    options = {"minutes": 0.1, "schedule": "linear", "log_every": 1, "learning_rate": 0.1}
    first = train(text, tmp_path / "run", stop=stop, on_record=at_step(20, stop.set), **options)
    tensors, metadata = state_of(first.path)
    spent = metadata["seconds"]
    assert 0 < spent < 3
    checkpoint.save(first.path / "checkpoint.safetensors", tensors, {**metadata, "seconds": 2.5})
    step = next(record for record in elman.train(resume=first.path).history if record["event"] == "step")
    limit = 6 - 0.3 - 1.4 * metadata["evaluation_seconds"]  # and a little for saving
    assert step["seconds"] >= 2.5 and step["learning_rate"] <= 0.1 * (1 - 2.5 / limit) * 1.001
    assert step["learning_rate"] > 0.1 * (1 - 3.8 / limit)


@pytest.mark.parametrize("last", ["model", "end"])
@pytest.mark.parametrize("end", [{"steps": 5}, {"minutes": 0.02}])
def test_a_run_that_was_killed_after_its_last_step_is_brought_to_its_end(text, tmp_path, monkeypatch, end, last):
    """What was not written then: the model of the last evaluation, or the record of the end."""
    options = {"eval_every": 100, "learning_rate": 0.02, **end}
    save = TextModel.save

    def killed(self, path):
        if self.info["figures"]["step"] > 0:
            raise KeyboardInterrupt
        save(self, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if last == "model":
            patch.setattr(TextModel, "save", killed)
        else:
            patch.setattr(RunFolder, "log", lambda self, record: 1 / (record["event"] != "end"))
        try:
            train(text, tmp_path / "run", **options)
        except ZeroDivisionError:
            raise KeyboardInterrupt from None
    second = elman.train(resume=tmp_path / "run")
    assert second.history[-1]["event"] == "end" and log(tmp_path / "run")[-1]["event"] == "end"
    assert second.history[-1]["step"] == state_of(tmp_path / "run")[1]["progress"]["step"]
    if "steps" in end:
        assert second.model.info["figures"]["step"] == 5
        train(text, tmp_path / "whole", **options)
        assert_same_end(tmp_path / "whole", tmp_path / "run")
    with pytest.raises(RunFolderError, match="already reached its end"):
        elman.train(resume=tmp_path / "run")


def test_a_finished_run_whose_model_is_gone_gets_it_again(text, tmp_path):
    run = train(text, tmp_path / "run", steps=5, eval_every=2)
    model = (run.path / "model.safetensors").read_bytes()
    (run.path / "model.safetensors").unlink()
    elman.train(resume=run.path)
    assert (run.path / "model.safetensors").read_bytes() == model


def test_more_minutes_than_were_spent_are_advised(text, tmp_path):
    run = train(text, tmp_path / "run", minutes=0.02)
    tensors, metadata = state_of(run.path)
    checkpoint.save(run.path / "checkpoint.safetensors", tensors, {**metadata, "seconds": 30.0})
    with pytest.raises(RunFolderError, match=r"\(0\.5\d* minutes\).*--minutes 1\.0"):
        elman.train(resume=run.path, minutes=0.1)


def test_patience_without_evaluations_is_refused(text, tmp_path):
    with pytest.raises(InputError, match="this run has no validation part"):
        train(text, tmp_path / "run", steps=5, patience=3, valid_fraction=0.0)
    assert not (tmp_path / "run").exists()


def test_a_run_may_be_moved(text, tmp_path):
    train(text, tmp_path / "whole", steps=6)
    run = train(text, tmp_path / "run", steps=3)
    run.path.rename(tmp_path / "moved")
    assert elman.train(resume=tmp_path / "moved", steps=6).path == tmp_path / "moved"
    assert_same_end(tmp_path / "whole", tmp_path / "moved")
    assert str(tmp_path) not in (tmp_path / "moved" / "log.jsonl").read_text()


# patience


def test_patience_ends_a_run_and_the_count_goes_on_on_resume(text, tmp_path):
    options = {"optimizer": "sgd", "learning_rate": 3.0, "eval_every": 1, "patience": 3, "log_every": 1}
    whole = train(text, tmp_path / "whole", steps=100, **options)
    losses = [record["valid_loss"] for record in whole.history if record["event"] == "eval"]
    best = losses.index(min(losses))
    assert len(losses) == best + 4 < 90 and whole.history[-1]["step"] == best + 3
    stop = Stop()
    train(text, tmp_path / "run", steps=100, stop=stop, on_record=at_step(best + 2, stop.set), **options)
    second = elman.train(resume=tmp_path / "run")
    assert second.history[-1]["step"] == best + 3
    assert_same_end(tmp_path / "whole", tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"3 evaluations without a better one.*--patience 6"):
        elman.train(resume=tmp_path / "run")
    assert elman.train(resume=tmp_path / "run", patience=4).history[-1]["step"] > best + 3


# what is not finite


def poison(monkeypatch, step: int, times: int = 1) -> None:
    """Make a gradient of this step infinite, so many times."""
    taken, original = [], CpuEngine.step

    def step_or_fail(self, *arguments):
        if self.optimizer.steps + 1 == step and len(taken) < times:
            taken.append(step)
            raise NonFiniteError(f"step {step}: the loss is nan, and gradient of output.b_y is not finite")
        return original(self, *arguments)

    monkeypatch.setattr(CpuEngine, "step", step_or_fail)


def test_a_run_rolls_back_with_half_the_learning_rate(text, tmp_path, monkeypatch):
    poison(monkeypatch, step=8, times=2)
    options = {"steps": 12, "checkpoint_every": 3, "log_every": 1, "learning_rate": 0.02, "optimizer": "adagrad"}
    run = train(text, tmp_path / "run", on_nan="rollback", **options)
    backs = [record for record in run.history if record["event"] == "rollback"]
    assert [(back["step"], back["failed_step"], back["learning_rate"]) for back in backs] == [
        (6, 7, 0.01),
        (6, 7, 0.005),
    ]
    assert "output.b_y is not finite" in backs[0]["reason"]
    steps = [(record["step"], record["learning_rate"]) for record in log(run.path) if record["event"] == "step"]
    assert steps == [(step, 0.02 if step <= 6 else 0.005) for step in range(1, 13)]
    assert [record["event"] for record in log(run.path)].count("rollback") == 2
    train(text, tmp_path / "plain", **{**options, "steps": 6})
    elman.train(resume=tmp_path / "plain", steps=12, learning_rate=0.005)
    plain, back = state_of(tmp_path / "plain")[0], state_of(run.path)[0]
    for name, tensor in plain.items():
        np.testing.assert_array_equal(tensor, back[name], err_msg=name)


def test_after_a_rollback_the_model_file_is_the_best_that_the_log_knows_of(text, tmp_path, monkeypatch):
    poison(monkeypatch, step=8)
    options = {"steps": 7, "checkpoint_every": 5, "eval_every": 1, "on_nan": "rollback", "learning_rate": 0.02}
    stop, models = Stop(), {}

    def watch(record: dict) -> None:
        if record["event"] == "eval" and record["step"] == 5:
            models["before"] = (tmp_path / "run" / "model.safetensors").read_bytes()
        if record["event"] == "rollback":
            models["after"] = (tmp_path / "run" / "model.safetensors").read_bytes()
            stop.set()

    train(text, tmp_path / "run", on_record=watch, stop=stop, **{**options, "steps": 9})
    assert models["before"] == models["after"]


def test_the_lower_learning_rate_is_kept_on_resume_until_another_one_is_given(text, tmp_path, monkeypatch):
    poison(monkeypatch, step=3)
    train(text, tmp_path / "run", steps=4, on_nan="rollback", learning_rate=0.02)
    for options, rate in (({"steps": 5}, 0.01), ({"steps": 6, "learning_rate": 0.004}, 0.004), ({"steps": 7}, 0.004)):
        run = elman.train(resume=tmp_path / "run", log_every=1, **options)
        assert [record["learning_rate"] for record in run.history if record["event"] == "step"] == [rate]


def test_a_run_that_no_learning_rate_helps_stops(text, tmp_path, monkeypatch):
    poison(monkeypatch, step=3, times=1000)
    seen: list[dict] = []
    with pytest.raises(NonFiniteError, match=r"step 3: .* not finite, after 10 rollbacks; .* \(now 9.7.*e-06\)$"):
        train(text, tmp_path / "run", steps=4, on_nan="rollback", on_record=seen.append)
    assert [record["event"] for record in seen].count("rollback") == 10
    assert not (tmp_path / "run" / ".lock").exists()


def test_without_rollback_a_run_stops_and_says_what_can_be_done(text, tmp_path, monkeypatch):
    poison(monkeypatch, step=3)
    with pytest.raises(NonFiniteError, match=r"output\.b_y is not finite; training stopped.*or --on-nan rollback"):
        train(text, tmp_path / "run", steps=4)
    assert elman.train(resume=tmp_path / "run", on_nan="rollback").history[-1]["step"] == 4


def test_a_rollback_is_told_on_the_command_line(text, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, step=3)
    out = str(tmp_path / "run")
    assert main(["train", str(text), *FLAGS, "--steps", "4", "--on-nan", "rollback", "--out", out]) == 0
    assert "output.b_y is not finite; back to step 0, with learning rate 0.005" in capsys.readouterr().err


# a disk that fails


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "model.safetensors", "log.jsonl"])
def test_a_disk_that_fills_up_while_training_keeps_what_was_saved_and_names_the_file(text, tmp_path, monkeypatch, name):
    write, opened = checkpoint.write_atomically, Path.open

    def full(path: Path) -> None:
        if path.name == name and armed:
            raise OSError(28, "No space left on device", str(path))

    def write_or_fail(path, *arguments):
        full(path)
        write(path, *arguments)

    def open_or_fail(path, *arguments, **options):
        full(path)
        return opened(path, *arguments, **options)

    armed: list[bool] = []
    monkeypatch.setattr(checkpoint, "write_atomically", write_or_fail)
    monkeypatch.setattr(Path, "open", open_or_fail)
    options = {"steps": 12, "checkpoint_every": 3, "log_every": 1, "eval_every": 3}
    expected = rf"cannot write .*/run/{name}: No space left on device; .*elman train --resume .*whole up to step \d+$"
    with pytest.raises(RunFolderError, match=expected):
        train(text, tmp_path / "run", on_record=at_step(5, lambda: armed.append(True)), **options)
    armed.clear()
    assert state_of(tmp_path / "run")[1]["progress"]["step"] in (3, 6) and elman.load(tmp_path / "run")
    elman.train(resume=tmp_path / "run")
    train(text, tmp_path / "whole", **options)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


@posix
@pytest.mark.parametrize("place", ["file/run", "file", "long" * 100])
def test_a_place_where_no_folder_can_be_made_is_refused_with_advice(text, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError, match=r"--out$"):
        train(text, tmp_path / place, steps=1)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": 0}, "keep must be a whole number 1 or more, not 0"),
        ({"patience": 0}, "patience must be"),
        ({"on_nan": "rolback"}, "Did you mean rollback?"),
    ],
)
def test_values_out_of_range_are_refused(text, tmp_path, options, said):
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        train(text, tmp_path / "run", steps=1, **options)


def test_config_and_out_cannot_be_given_with_resume(text, tmp_path):
    run = train(text, tmp_path / "run", steps=2)
    for options in ({"config": "x"}, {"out": "x"}):
        with pytest.raises(ElmanError, match="cannot be given with resume"):
            elman.train(resume=run.path, steps=4, **options)
