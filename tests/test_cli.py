"""The command line: exit codes, one clear line for every bad input, and stdout for results only."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import elman
from elman.cells import CELLS
from elman.cli import COMMANDS, main, terminal
from elman.kernels import bf16_lacks
from elman.presets import PRESETS
from elman.text.corpora import CORPORA

TINY = ["--hidden-size", "8", "--layers", "1", "--batch-size", "4", "--seq-length", "16"]
ELMAN = [sys.executable, "-m", "elman"]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, pipes and terminals")


@pytest.fixture(scope="module")
def run(text, tmp_path_factory) -> Path:
    """A run folder, for tests that only look."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_length": 16, "learning_rate": 0.02}
    return elman.train(text, out=out, steps=40, **options).path


@pytest.fixture
def cli(capsys):
    """Call main -> status, stdout, stderr."""

    def call(*arguments) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def good(cli):
    """Call main, which must succeed -> stdout."""

    def call(*arguments) -> str:
        status, out, err = cli(*arguments)
        assert status == 0, err
        return out

    return call


def assert_refused(result: tuple[int, str, str], *said: str) -> None:
    status, out, err = result
    assert (status, out) == (2, "")
    assert err.startswith("elman: error: ") and err.endswith("\n") and err.count("\n") == 1
    assert "Traceback" not in err
    for words in said:
        assert words in err


# help


def test_help_names_every_command_with_a_line_about_it(good):
    for arguments in ([], ["--help"], ["-h"]):
        out = good(*arguments)
        assert out.startswith("Usage: elman")
        for name in COMMANDS:
            assert any(line.split()[:1] == [name] and len(line.split()) > 3 for line in out.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_explains_every_option(command, good):
    out = good(command, "--help")
    assert out.startswith(f"Usage: elman {command} ") and max(map(len, out.splitlines())) <= 100
    assert "--json" in out


def test_the_options_of_the_contract_are_there(good):
    wanted = {
        "train": "preset cell hidden-size layers embedding-size tokenizer encoding optimizer learning-rate batch-size "
        "seq-length dropout clip-norm clip-value epochs steps minutes valid valid-fraction eval-tokens out resume "
        "eval-every sample-every checkpoint-every seed kernel threads engine precision config json encoding-errors",
        "sample": "prompt length temperature top-k top-p greedy seed num stop json",
        "eval": "window encoding encoding-errors json",
        "info": "json",
        "gradcheck": "cell json",
    }
    for command, options in wanted.items():
        out = good(command, "--help")
        assert not [option for option in options.split() if f"--{option}" not in out]


def test_train_help_names_presets_and_cells(good):
    out = good("train", "--help")
    assert all(name in out for name in [*PRESETS, "rnn-relu", "gru", "adagrad"])


def test_version(good):
    assert good("--version") == f"elman {elman.__version__}\n"


def test_help_and_import_load_neither_numpy_nor_rich():
    code = """
import sys, threading
import elman
assert "elman.config" not in sys.modules
from elman.cli import COMMANDS, main
for arguments in ([], ["--version"], ["trian"], *([command, "--help"] for command in COMMANDS)):
    main(arguments)
heavy = {"numpy", "rich", "safetensors", "torch", "tomli_w", "pooch", "requests", "charset_normalizer", "matplotlib"}
heavy |= {"onnx", "jieba", "rjieba", "tokenizers", "threadpoolctl", "platformdirs"}
heavy &= set(sys.modules)
assert not heavy, heavy
assert threading.active_count() == 1
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["sample", "nothere"], ["trian"], []])
def test_the_module_runs_as_the_command_does(arguments, cli):
    result = subprocess.run([*ELMAN, *arguments], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == cli(*arguments)


# refusals


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trian", "no command 'trian'. Did you mean train?"),
        ("xqz", "The commands are train, sample"),
        ("--verison", "no option --verison. Did you mean --version?"),
        ("train --hiden-size 3", "no option --hiden-size. Did you mean --hidden-size?"),
        ("sample RUN --temprature 1", "Did you mean --temperature?"),
        ("eval RUN TEXT --windw 3", "Did you mean --window?"),
        ("sample", "MODEL"),
        ("eval RUN", "TEXT"),
        ("sample RUN RUN", "unexpected extra argument"),
        ("sample RUN --length", "--length"),
        ("sample RUN --length x", "'x' is not a valid integer"),
        ("sample RUN --length 1.5", "'1.5' is not a valid integer"),
        ("train nothere.txt", "there is no file 'nothere.txt' here"),
        ("train python-topcis", "Did you mean python-topics?"),
        ("train DIR", "there is no text in DIR/; give text files"),
        ("train EMPTY", "is empty"),
        ("train BINARY", "BINARY looks like a binary file: it begins as PNG does"),
        ("train GZIP.gz", "GZIP.gz is not a whole .gz file"),
        ("train *.poem", "no file matches '*.poem'"),
        ("train LATIN --encoding utf-8", "LATIN is not utf-8 text: byte 0xe9 at offset 3 does not decode"),
        ("train GBK --encoding utf-8", "GBK is not utf-8 text: byte 0xba at offset 0 does not decode"),
        ("train TEXT --encoding-errors replac", "Did you mean replace?"),
        ("train TEXT --encoding klingon", "'klingon'"),
        ("train TEXT --preset char-lstn", "Did you mean char-lstm?"),
        ("train TEXT --cell lsmt", "Did you mean lstm?"),
        ("train TEXT --optimizer adm", "Did you mean adam?"),
        ("train TEXT --tokenizer chr", "Did you mean char?"),
        ("train TEXT --schedule liner", "Did you mean linear?"),
        ("train TEXT --dtype float16", "dtype must be one of"),
        ("train TEXT --engine torch", "no engine 'torch'"),
        ("train TEXT --kernel nativ", "Did you mean native"),
        ("train TEXT --kernel numpi", "Did you mean numpy?"),
        ("train TEXT --threads 0", "threads must be"),
        ("train TEXT --precision bf61", "Did you mean bf16?"),
        ("train TEXT --precision bf16 --dtype float64", "bf16 cannot be had: the model is float64"),
        ("train TEXT --hidden-size 0", "hidden_size must be a whole number 1 or more, not 0"),
        ("train TEXT --layers -1", "must be a whole number"),
        ("train TEXT --batch-size 0", "batch_size must be"),
        ("train TEXT --seq-length 0", "seq_length must be"),
        ("train TEXT --steps 0", "steps must be"),
        ("train TEXT --seq-length 1" + "0" * 400, "seq_length must be"),
        ("train TEXT --minutes 0", "minutes must be a number above 0"),
        ("train TEXT --learning-rate nan", "learning_rate must be"),
        ("train TEXT --learning-rate -1", "learning_rate must be"),
        ("train TEXT --dropout 1", "dropout must be"),
        ("train TEXT --valid-fraction 1", "valid_fraction must be"),
        ("train TEXT --seed -1", "seed must be"),
        ("train TEXT --steps 1 --epochs 1", "exclude each other"),
        ("train TEXT --clip-norm 1 --clip-value 1", "exclude each other"),
        ("train TEXT --tie-weights", "tie_weights needs embedding_size"),
        ("train TEXT --valid nothere.txt", "'nothere.txt'"),
        ("train TEXT --config nothere.toml", "nothere.toml"),
        ("train TEXT --config KEY", "Did you mean hidden_size?"),
        ("train TEXT --config TABLE", "[model], [train] and [sample]"),
        ("train TEXT --config TEXT", "is not a TOML file"),
        ("train TEXT --out RUN", "already holds a run"),
        ("train TEXT --out TEXT", "is a file"),
        ("train TEXT --out TEXT/x", "verse.txt/x"),
        ("train --resume RUN", "already reached its end"),
        ("train --resume RUN --cell gru", "cell cannot change on resume"),
        ("train TEXT --resume RUN", "hidden_size cannot change on resume: it is 8, not 4"),
        ("train DIR --resume RUN", "to go on, a run needs the text that it began with (there is no text in DIR/"),
        ("train LATIN --resume RUN", "LATIN is not the one that this run began with: 4,047 characters"),
        ("train --resume DIR", "holds no run to resume"),
        ("sample nothere", "no run folder or model file nothere"),
        ("sample DIR", "DIR has no model.safetensors in it: give the folder of a run"),
        ("sample TEXT", "not an elman model"),
        ("sample CUT", "truncated"),
        ("sample RUN/checkpoint.safetensors", "is a checkpoint, not a model"),
        ("sample RUN --kernel nativ", "Did you mean native"),
        ("sample RUN --threads 0", "threads must be"),
        ("sample RUN --prompt aZ☃", "'Z' (U+005A LATIN CAPITAL LETTER Z), '☃' (U+2603 SNOWMAN), first at offset 1"),
        ("sample RUN --prompt Z", "--on-unknown skip"),
        ("sample RUN --on-unknown drop", "--on-unknown"),
        ("sample RUN --length -1", "length must be"),
        ("sample RUN --temperature -1", "temperature must be a number 0 or more"),
        ("sample RUN --temperature nan", "temperature must be"),
        ("sample RUN --top-k -1", "top_k must be"),
        ("sample RUN --top-p 0", "top_p must be"),
        ("sample RUN --top-p 1.5", "top_p must be"),
        ("sample RUN --seed -1", "seed must be"),
        ("sample RUN --num 0", "num must be a whole number 1 or more, not 0"),
        ("sample RUN --stop=", "stop must be a text"),
        ("sample RUN --greedy --temperature 0.5", "--greedy and --temperature exclude each other"),
        ("eval RUN nothere.txt", "'nothere.txt'"),
        ("eval nothere TEXT", "nothere"),
        ("eval RUN EMPTY", "is empty"),
        ("eval RUN ONE", "at least 2 tokens"),
        ("eval RUN TEXT --window 0", "window must be a whole number 1 or more, not 0"),
        ("eval RUN LATIN --encoding utf-8", "offset 3"),
        ("eval RUN TEXT --encoding-errors x", "encoding_errors must be one of strict, replace"),
        ("eval RUN STRANGE --on-unknown error", "'Z'"),
        ("info nothere", "nothere"),
        ("info CUT", "truncated"),
        ("gradcheck --cell lsmt", "Did you mean lstm?"),
        ("gradcheck --seq-length 0", "seq_length must be"),
        ("gradcheck --batch-size 0", "batch_size must be"),
        ("gradcheck --hidden-size 0", "hidden_size must be"),
        ("gradcheck --layers 0", "num_layers must be"),
        ("gradcheck --vocab-size 0", "vocab_size must be"),
        ("gradcheck --vocab-size 1", "vocab_size must be 2 or more"),
        ("gradcheck --model=", "the name of the model is empty"),
        ("plot CUT", "CUT is a file; give the folder of the run"),
        ("gradcheck --seed -1", "seed must be"),
        ("gradcheck --entries 0", "entries must be"),
        ("gradcheck --break d_q", "no cell's backward has a term 'd_q'; rnn has d_h, slope_h; "),
        ("gradcheck --cell rnn --break d_f", "the backward of rnn has no term 'd_f'; it has d_h, slope_h"),
        ("gradcheck --model RUN --cell rnn --layers 1", "a model file has its own cell, num_layers; leave it out"),
        ("gradcheck --model nothere", "nothere"),
        ("gradcheck --model CUT", "truncated"),
    ],
    ids=lambda value: value[:40],
)
def test_bad_input_is_one_line_on_stderr_and_nothing_on_stdout(line, said, cli, run, text, tmp_path, monkeypatch):
    for name, content in {
        "EMPTY": b"",
        "ONE": b"a",
        "STRANGE": b"heron Z",
        "LATIN": "caf\xe9".encode("latin-1"),
        "GBK": "红楼梦".encode("gbk"),
        "BINARY": b"\x89PNG\r\n",
        "GZIP.gz": b"no gzip",
        "KEY": b"[model]\nhiden_size = 3",
        "TABLE": b"[modle]\nhidden_size = 3",
        "CUT": (run / "model.safetensors").read_bytes()[:-1],
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "DIR").mkdir()
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    line = line.replace("train TEXT", "train TEXT --steps 1 --hidden-size 4")  # soon over, if it is taken after all
    arguments = [word.replace("RUN", str(run)).replace("TEXT", str(text)) for word in line.split()]
    assert_refused(cli(*arguments), said)
    assert_refused(cli(*arguments, *(["--json"] if arguments[0] in COMMANDS else [])), said)
    assert not (tmp_path / "runs").exists() and {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize(
    "line",
    [
        "train TEXT --hidden-size 1000000000000000000 --out OUT",
        "train TEXT --hidden-size 300000000 --out OUT",
        "sample RUN --length 1000000000000000 --stop e",
        "sample RUN --length 10000000000000000000000 --stop e",
        "sample RUN --threads 100000000000000000000000 --length 1",
        "train TEXT --minutes 1e-315 --hidden-size 4 --out OUT",
    ],
)
def test_sizes_that_no_machine_has_are_refused_or_managed_without_a_traceback(line, cli, run, text, tmp_path):
    words = {"RUN": run, "TEXT": text, "OUT": tmp_path / "out"}
    status, _, err = cli(*(words.get(word, word) for word in line.split()))
    assert status == 0 or (status == 2 and err.splitlines()[-1].startswith("elman: error: "))


def test_a_name_with_a_line_break_is_one_line_too(cli):
    assert_refused(cli("sample", "not\nhere"), "not here")
    assert_refused(cli("train", "not\nhere"), "no file")
    assert_refused(cli("not\nhere"), "no command")


def test_a_failing_disk_is_one_line(cli, run, monkeypatch):
    def fail(path, flags):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("elman.checkpoint._open_at_once", fail)
    assert_refused(cli("sample", run), "Permission denied", "model.safetensors")


def test_too_little_memory_is_one_line_with_advice(cli, run, monkeypatch):
    def fail(*args, **options):
        raise MemoryError

    monkeypatch.setattr("elman.text_model.LanguageModel", fail)
    assert_refused(cli("sample", run), "not enough memory")


# train


def test_train_tells_progress_on_stderr_and_the_result_on_stdout(cli, text, tmp_path):
    out_folder = tmp_path / "run"
    status, out, err = cli("train", text, *TINY, "--steps", 11, "--out", out_folder)
    assert status == 0
    assert "Trained 11 steps" in out and f"Model: {out_folder / 'model.safetensors'}" in out
    assert "bits/char (the last 10% of the text is validation)" in out and f"elman sample {out_folder}" in out
    assert "step 11: validation loss" in err and "kernel " in err and "sample at step" in err
    assert "validation loss" not in out.lower().replace("best validation loss", "") and "Trained" not in err


def test_train_json_prints_the_documented_events(cli, text, tmp_path):
    options = ["--steps", 10, "--log-every", 2, "--sample-every", 4, "--sample-length", 5]
    status, out, err = cli("train", text, *TINY, *options, "--out", tmp_path / "run", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert [records[0]["event"], records[-1]["event"]] == ["start", "end"]
    wanted = {
        "step": {"step", "tokens", "seconds", "train_loss", "tokens_per_second", "learning_rate"},
        "eval": {"valid_loss"},
        "sample": {"step", "text"},
        "end": {"model", "valid_loss", "best_valid_loss", "seconds"},
    }
    assert {record["event"] for record in records} == {"start", *wanted}
    for record in records[1:]:
        assert wanted[record["event"]] <= record.keys()
    assert [record["step"] for record in records if record["event"] == "step"] == [2, 4, 6, 8, 10]
    assert [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()][1:-1] == records[
        1:-1
    ]


def test_every_option_of_train_reaches_the_run(good, text, tmp_path):
    options = (
        "--cell gru --hidden-size 8 --layers 2 --embedding-size 8 --tie-weights --dropout 0.25 --dtype float64 "
        "--tokenizer byte --encoding ascii --encoding-errors replace --optimizer adamw --weight-decay 0.2 "
        "--learning-rate 0.003 --schedule cosine --warmup-steps 3 --batch-size 3 --seq-length 7 --clip-value 2.5 "
        "--steps 2 --valid-fraction 0.2 --eval-tokens 99 --eval-every 1 --sample-every 2 --sample-length 9 "
        "--checkpoint-every 1 --log-every 2 --seed 11 --kernel numpy --variational-dropout "
        "--embedding-dropout 0.125 --activation-regularization 0.5"
    )
    good("train", text, *options.split(), "--out", tmp_path / "run")
    record = json.loads(good("info", tmp_path / "run", "--json"))
    assert record["model"] == {
        "vocab_size": 256,
        "cell": "gru",
        "hidden_size": 8,
        "num_layers": 2,
        "embedding_size": 8,
        "dropout": 0.25,
        "tie_weights": True,
        "dtype": "float64",
        "initialization": "uniform",
        "variational_dropout": True,
        "embedding_dropout": 0.125,
    }
    training = record["training"]
    expected = {"encoding": "ascii", "schedule": "cosine", "warmup_steps": 3, "clip_value": 2.5, "clip_norm": None}
    expected |= {"encoding_errors": "replace"}
    expected |= {"valid_fraction": 0.2, "eval_tokens": 99, "eval_every": 1, "sample_every": 2, "sample_length": 9}
    expected |= {"checkpoint_every": 1, "log_every": 2, "seed": 11, "steps": 2, "minutes": None, "tokenizer": "byte"}
    expected |= {"batch_size": 3, "seq_length": 7, "optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.2}
    expected |= {"activation_regularization": 0.5}
    assert expected.items() <= training.items()


def test_a_config_file_is_laid_over_the_preset_and_options_over_both(good, text, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text('[model]\ncell = "gru"\nhidden_size = 5\n[train]\nsteps = 3\nseed = 9\nbatch_size = 2\n')
    good("train", text, "--config", config, "--hidden-size", 6, "--epochs", 1, "--out", tmp_path / "run", "--json")
    record = json.loads(good("info", tmp_path / "run", "--json"))
    assert (record["model"]["cell"], record["model"]["hidden_size"], record["training"]["seed"]) == ("gru", 6, 9)
    assert (record["training"]["steps"], record["training"]["epochs"]) == (None, 1)


def test_the_hello_preset_from_the_command_line(good, tmp_path):
    good("train", "--preset", "hello", "--out", tmp_path / "run")
    out = good("sample", tmp_path / "run", "--prompt", "hell", "--length", 1, "--greedy")
    assert out == "hello\n"


def test_resume_needs_nothing_else_and_goes_on(cli, text, tmp_path):
    cli("train", text, *TINY, "--steps", 4, "--out", tmp_path / "run")
    status, out, err = cli("train", "--resume", tmp_path / "run", "--steps", 8)
    assert status == 0 and "resumed at step 4" in err and "Trained 8 steps" in out


def test_a_loss_that_explodes_is_one_line_after_the_progress(cli, text, tmp_path):
    options = ["--steps", 9, "--learning-rate", 1e300, "--out", tmp_path / "run"]
    status, out, err = cli("train", text, *TINY, *options)
    last = err.splitlines()[-1]
    assert (status, out) == (2, "") and last.startswith("elman: error: step ") and "--learning-rate" in last
    assert "Traceback" not in err and "Warning" not in err


# sample


def test_the_same_seed_writes_the_same_text_and_another_seed_another(good, run):
    texts = [good("sample", run, "--length", 60, "--seed", seed) for seed in (4, 4, 5)]
    assert texts[0] == texts[1] != texts[2] and len(texts[0]) == 61


def test_the_command_writes_what_the_library_generates(good, run):
    options = {"length": 40, "temperature": 0.9, "top_k": 5, "top_p": 0.8, "seed": 7}
    flags = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    assert good("sample", run, "--prompt", "the ", *flags) == f"the {elman.load(run).generate('the ', **options)}\n"
    assert good("sample", run / "model.safetensors", "--prompt", "the ", *flags) == good(
        "sample", run, "--prompt", "the ", *flags
    )


def test_length_counts_what_follows_the_prompt(good, run):
    assert good("sample", run, "--prompt", "heron", "--length", 0) == "heron\n"
    assert len(good("sample", run, "--prompt", "heron", "--length", 7)) == 5 + 7 + 1
    assert len(good("sample", run)) == 300 + 1


def test_greedy_is_temperature_zero_and_needs_no_seed(good, run):
    greedy = good("sample", run, "--length", 50, "--greedy")
    assert greedy == good("sample", run, "--length", 50, "--temperature", 0, "--seed", 9)
    assert greedy == good("sample", run, "--length", 50, "--greedy", "--temperature", 0)
    assert greedy == good("sample", run, "--length", 50, "--top-k", 1, "--seed", 3)
    assert greedy != good("sample", run, "--length", 50)


def test_several_texts_count_the_seeds_up(good, run):
    out = good("sample", run, "--length", 30, "--num", 2, "--seed", 3)
    three, four = (good("sample", run, "--length", 30, "--seed", seed) for seed in (3, 4))
    assert out == f"--- seed 3 ---\n{three}--- seed 4 ---\n{four}"


def test_stop_ends_before_the_first_place_where_the_text_stands(good, run):
    full = good("sample", run, "--length", 80).removesuffix("\n")
    for stop in (full[0], full[30], full[20:23], full[40:60], full[-2:]):
        assert good("sample", run, "--length", 80, "--stop", stop) == full[: full.index(stop)] + "\n"
    assert good("sample", run, "--length", 80, "--stop", "never there") == full + "\n"


def test_a_stop_in_the_prompt_ends_nothing(good, run):
    assert len(good("sample", run, "--prompt", "heron", "--length", 3, "--stop", "heron")) >= len("heron\n")


def test_sample_json_holds_seed_prompt_and_text(good, run):
    out = good("sample", run, "--prompt", "the ", "--length", 20, "--num", 2, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["seed"] for record in records] == [0, 1] and {record["prompt"] for record in records} == {"the "}
    for record in records:
        plain = good("sample", run, "--prompt", "the ", "--length", 20, "--seed", record["seed"])
        assert plain == f"the {record['text']}\n"


def test_without_a_prompt_the_model_begins_as_after_a_line_break(good, run):
    assert "\n" + good("sample", run, "--length", 30) == good("sample", run, "--length", 30, "--prompt", "\n")


def test_unseen_characters_in_the_prompt_can_be_skipped(good, run):
    record, same = (
        json.loads(good("sample", run, "--prompt", prompt, "--length", 20, "--on-unknown", "skip", "--json"))
        for prompt in ("the Z☃heron", "the heron")
    )
    assert record["text"] == same["text"]


def test_a_sample_is_written_to_the_letter_where_stdout_is_no_terminal(good, tmp_path):
    (tmp_path / "controls.txt").write_text("a\x1b[31mb\r\a" * 40)
    good("train", tmp_path / "controls.txt", *TINY, "--steps", 5, "--out", tmp_path / "run")
    assert "\x1b" in good("sample", tmp_path / "run", "--length", 100)


# eval


def test_eval_measures_what_the_model_says(good, run, text, verse):
    record = json.loads(good("eval", run, text, "--json"))
    model = elman.load(run)
    ids = model.tokenizer.encode(verse).astype(int)
    logits, _ = model.language_model.forward(ids[:-1, np.newaxis])
    logits = logits[:, 0].astype(np.float64)
    nats = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), ids[1:]]
    assert record["nats_per_token"] == pytest.approx(nats.mean(), rel=1e-5)
    assert record["tokens"] == record["characters"] == record["bytes"] == len(verse) - 1
    assert record["bits_per_char"] == record["bits_per_byte"] == pytest.approx(nats.mean() / math.log(2), rel=1e-5)
    assert record["perplexity"] == pytest.approx(math.exp(record["nats_per_token"]))
    assert "one pass, state carried" in record["protocol"] and record["unknown_tokens"] == 0


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_eval_relates_tokens_characters_and_bytes(good, tmp_path, tokenizer):
    content = "狗 né\U0001f600 " * 30
    path = tmp_path / "text.txt"
    path.write_text(content, encoding="utf-8")
    good("train", path, *TINY, "--steps", 3, "--tokenizer", tokenizer, "--out", tmp_path / "run")
    record = json.loads(good("eval", tmp_path / "run", path, "--json"))
    bits = record["nats_per_token"] * record["tokens"] / math.log(2)
    assert bits == pytest.approx(record["bits_per_char"] * record["characters"])
    assert bits == pytest.approx(record["bits_per_byte"] * record["bytes"])
    first = 1 if tokenizer == "byte" else 3
    assert record["bytes"] == len(content.encode()) - first
    assert record["tokens"] == len(content.encode() if tokenizer == "byte" else content) - 1
    assert record["perplexity"] == pytest.approx(math.exp(record["nats_per_token"]))


@pytest.mark.parametrize("window", [1, 50, 10**6])
def test_eval_with_a_window_starts_cold_at_each(good, run, text, verse, window):
    record = json.loads(good("eval", run, text, "--window", window, "--json"))
    model = elman.load(run)
    ids = model.tokenizer.encode(verse)
    parts = [model.language_model.score(ids[start : start + window + 1]) for start in range(0, len(ids) - 1, window)]
    assert record["nats_per_token"] == pytest.approx(np.concatenate(parts).mean(), rel=1e-5)
    assert record["window"] == window and f"cold windows of {window} tokens" in record["protocol"]


def test_eval_counts_unknown_characters_and_can_leave_them_out(good, run, tmp_path):
    (tmp_path / "a.txt").write_text("the Zheron Z")
    (tmp_path / "b.txt").write_text("the heron ")
    record = json.loads(good("eval", run, tmp_path / "a.txt", "--json"))
    assert (record["tokens"], record["unknown_tokens"]) == (11, 2)
    skipped = json.loads(good("eval", run, tmp_path / "a.txt", "--on-unknown", "skip", "--json"))
    plain = json.loads(good("eval", run, tmp_path / "b.txt", "--json"))
    assert skipped["nats_per_token"] == plain["nats_per_token"] and skipped["characters"] == plain["characters"] == 9


def test_eval_without_json_says_the_same_in_words(good, run, text):
    record, out = json.loads(good("eval", run, text, "--json")), good("eval", run, text)
    assert f"{record['nats_per_token']:.4f} nats a token" in out and f"{record['tokens']:,} tokens" in out
    assert f"{record['bits_per_char']:.4f} bits a character" in out and "verse, every token but the first" in out


def test_train_and_eval_read_standard_input(run, text, tmp_path):
    train = [*ELMAN, "train", "-", *TINY, "--steps", "1", "--out", tmp_path / "piped", "--json"]
    result = subprocess.run(train, input=text.read_bytes(), capture_output=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[0])["text"] == "stdin"
    result = subprocess.run([*ELMAN, "eval", run, "-"], input=text.read_bytes(), capture_output=True, text=False)
    assert result.returncode == 0 and b"stdin, every token but the first" in result.stdout
    result = subprocess.run([*ELMAN, "train", "--resume", tmp_path / "piped", "--steps", "2"], capture_output=True)
    assert (
        result.returncode == 2
        and b"standard input cannot be read again; give the same text once more, as a file or by -" in result.stderr
    )


def test_eval_tells_how_the_text_was_read(good, run, tmp_path):
    (tmp_path / "dos.txt").write_bytes(b"the heron\r\nwaits")
    note = "dos.txt: 1 CRLF line end became LF"
    assert json.loads(good("eval", run, tmp_path / "dos.txt", "--json"))["notes"] == [note]
    assert f"  note: {note}\n" in good("eval", run, tmp_path / "dos.txt")


def test_eval_can_replace_what_does_not_decode(good, run, tmp_path):
    (tmp_path / "cut.txt").write_bytes(b"the \xff heron")
    options = ["--encoding", "utf-8", "--encoding-errors", "replace", "--json"]
    record = json.loads(good("eval", run, tmp_path / "cut.txt", *options))
    assert record["notes"] == ["cut.txt: 1 place that does not decode became U+FFFD"] and record["unknown_tokens"] == 1


# info and gradcheck


def test_info_shows_the_installation(good):
    record = json.loads(good("info", "--json"))
    assert record["elman"] == elman.__version__ and record["numpy"] == np.__version__
    assert set(record["presets"]) == set(PRESETS) and set(record["corpora"]) == set(CORPORA)
    assert "numpy" in record["kernels"]
    assert record["bf16"].startswith("not here: " if bf16_lacks() else "here: ")
    out = good("info")
    assert elman.__version__ in out and all(name in out for name in [*PRESETS, *CORPORA])


def test_info_shows_a_model(good, run):
    record = json.loads(good("info", run, "--json"))
    model = elman.load(run).language_model
    assert record["model"]["hidden_size"] == 8 and record["parameters"] == model.num_parameters
    assert record["tensors"] == {name: list(array.shape) for name, array in model.parameters.items()}
    assert record["tokenizer"]["vocab_size"] == model.config.vocab_size
    assert record["figures"]["step"] == 40 and record["protocol"]["text"] == "verse"
    out = good("info", run)
    assert "hidden_size" in out and "output.W_hy" in out and "\\n" in out


def test_gradcheck_proves_a_cell(good):
    out = good("gradcheck", "--cell", "lstm", "--hidden-size", 2, "--seq-length", 3)
    assert "all gradients are right" in out and "layers.1.W_hh" in out and "initial c" in out and "rnn" not in out
    records = [json.loads(line) for line in good("gradcheck", "--cell", "lstm", "--layers", 1, "--json").splitlines()]
    assert all(record["ok"] and record["error"] < record["tolerance"] == 1e-7 for record in records)
    assert {record["part"] for record in records} == {"layers", "model"}
    assert {"output.W_hy", "output.b_y"} <= {record["name"] for record in records if record["part"] == "model"}


def test_gradcheck_ends_with_status_1_where_a_gradient_is_wrong(cli, monkeypatch):
    def wrong(*arguments):
        d_gates_x, d_gates_h, *d_state = right(*arguments)
        return (1.001 * d_gates_x, 1.001 * d_gates_h, *d_state)

    right = CELLS["rnn"].backward
    monkeypatch.setitem(CELLS, "rnn", dataclasses.replace(CELLS["rnn"], backward=wrong))
    status, out, _ = cli("gradcheck", "--cell", "rnn")
    assert status == 1 and "WRONG" in out and "14 of 16 gradients are wrong" in out


def test_gradcheck_says_what_it_finds_where_a_term_is_dropped(cli):
    status, out, _ = cli("gradcheck", "--cell", "gru", "--break", "reset", "--layers", 1, "--hidden-size", 3)
    assert status == 1
    assert "gru, layers, without reset: the factor r in the recurrent part's gradient" in out
    wrong = {line[6:30].strip() for line in out.splitlines() if line.startswith("WRONG")}
    assert {"layers.0.W_hh", "initial h", "recurrent.layers.0.W_hh"} <= wrong and "output.W_hy" not in wrong
    assert max(map(len, out.splitlines())) <= 80
    status, out, _ = cli("gradcheck", "--cell", "lstm", "--break", "d_f", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert {record["gate"] for record in records if not record["ok"]} == {"f", None}, "one layer and step: only there"
    status, out, _ = cli("gradcheck", "--break", "d_c_prev", "--seq-length", 2, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert {record["cell"] for record in records} == {"lstm"}, "the other cells have no such term"
    assert status == 1 and not all(record["ok"] for record in records)


def test_gradcheck_proves_a_model_file(cli, good, run):
    before = (run / "model.safetensors").read_bytes()
    records = [json.loads(line) for line in good("gradcheck", "--model", run, "--entries", 6, "--json").splitlines()]
    model = elman.load(run).language_model
    assert [(each["name"], each["size"]) for each in records] == [(n, a.size) for n, a in model.parameters.items()]
    assert all(each["ok"] and each["checked"] == min(6, each["size"]) for each in records)
    status, out, _ = cli("gradcheck", "--model", run, "--break", "d_h", "--entries", 6)
    assert status == 1 and "gradients are wrong" in out
    assert (run / "model.safetensors").read_bytes() == before


# numbers


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (1000, "1k"), (45678, "45.7k"), (999_999, "1M"), (1234567, "1.23M"), (2e9, "2G")],
)
def test_counts_are_shown_with_three_figures(number, shown):
    assert terminal.count(number) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0.0 s"), (12.34, "12.3 s"), (75.2, "1:15"), (3661, "1:01:01")])
def test_durations_are_shown_as_a_clock_does(seconds, shown):
    assert terminal.duration(seconds) == shown


def test_a_duration_without_end_can_be_shown():
    assert terminal.duration(math.inf)


# a process of its own: signals, pipes, terminals


def interruptible(arguments, **options) -> subprocess.Popen:
    """A process that SIGINT interrupts, even where this one ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([*ELMAN, *map(str, arguments)], **options)
    finally:
        signal.signal(signal.SIGINT, before)


@posix
@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupted_training_ends_with_130_and_leaves_a_model(good, text, tmp_path, as_json):
    arguments = ["train", text, *TINY, "--minutes", 5, "--log-every", 1, "--out", tmp_path / "run"]
    arguments += ["--json"] if as_json else []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with interruptible(arguments, **pipes) as process:
        try:
            for line in process.stdout if as_json else process.stderr:
                if '"event": "step"' in line or line.startswith("step 1"):
                    break
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130 and "Traceback" not in err
    if as_json:
        end = json.loads(out.splitlines()[-1])
        assert (end["event"], end["interrupted"], err) == ("end", True, "")
    else:
        assert "and saved; a last evaluation follows" in err
        assert "Interrupted after" in out and f"elman train --resume {tmp_path / 'run'}" in out
    assert len(good("sample", tmp_path / "run", "--length", 20)) == 21


@posix
def test_an_interrupted_sample_ends_with_130(run):
    with interruptible(["sample", run, "--length", 10**7], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130 and err.decode().split() == ["interrupted"]


@posix
@pytest.mark.parametrize(
    "arguments", [["sample", "RUN", "--length", "200000"], ["sample", "RUN", "--num", "9999", "--json"]]
)
def test_a_closed_pipe_ends_quietly(run, arguments):
    arguments = [str(run) if word == "RUN" else word for word in arguments]
    with subprocess.Popen([*ELMAN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout.read(1)
            process.stdout.close()
            err = process.stderr.read()
            process.wait(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, b"")


@posix
def test_a_shell_pipe_into_head_ends_quietly(run):
    command = f'"{sys.executable}" -m elman sample "{run}" --length 20000 | head -c 1'
    result = subprocess.run(command, shell=True, capture_output=True)
    assert len(result.stdout) == 1 and result.stderr == b""


@posix
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character_shows_a_question_mark(tmp_path, good, encoding):
    (tmp_path / "dream.txt").write_text("红楼梦" * 50, encoding="utf-8")
    good("train", tmp_path / "dream.txt", *TINY, "--steps", 2, "--out", tmp_path / "run")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [*ELMAN, "sample", str(tmp_path / "run"), "--length", "5"]
    result = subprocess.run(command, capture_output=True, env=environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"?????\n", b"")


def on_a_terminal(arguments) -> tuple[int, str]:
    """Run the command with stdout and stderr on a pseudo terminal -> status, what was shown."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "PYTHONIOENCODING": "utf-8"}
    process = interruptible(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 60
    try:
        while time.monotonic() < deadline and select.select([ours], [], [], 60)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side is closed
                break
            if not chunk:
                break
            shown += chunk
        return process.wait(timeout=60), shown.decode("utf-8", "replace")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@posix
def test_on_a_terminal_a_bar_moves_and_no_sample_steers_the_terminal(tmp_path):
    (tmp_path / "evil.txt").write_text("\x1b]0;evil\a[bold]ab[/bold]\x1b[2J\x9b31m\r\n" * 40, encoding="utf-8")
    options = ["--steps", 40, "--sample-every", 5, "--log-every", 1, "--eval-every", 10]
    arguments = ["train", tmp_path / "evil.txt", *TINY, *options, "--out", tmp_path / "run"]
    status, shown = on_a_terminal(arguments)
    assert status == 0 and "Traceback" not in shown, shown
    assert "bits/char" in shown and "Trained 40 steps" in shown and "%" in shown and "━" in shown
    samples = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    written = "".join(record["text"] for record in samples if record["event"] == "sample")
    assert "\x1b" in written and "\a" in written and "\x9b" in written and "[" in written
    assert "\a" not in shown and "\x9b" not in shown and "\x1b]" not in shown and "\x1b[2J" not in shown


@posix
def test_on_a_terminal_what_a_model_writes_cannot_steer_it(tmp_path, good):
    (tmp_path / "evil.txt").write_text("\x1b]0;evil\a\x9b31mab\tc\n" * 40, encoding="utf-8")
    good("train", tmp_path / "evil.txt", *TINY, "--steps", 5, "--out", tmp_path / "run")
    status, shown = on_a_terminal(["sample", tmp_path / "run", "--length", 300, "--temperature", 2])
    assert status == 0 and len(shown) > 100
    assert not [character for character in shown if not character.isprintable() and character not in "\r\n\t"]


def test_progress_lines_hold_no_control_characters_either(cli, tmp_path):
    (tmp_path / "evil.txt").write_text("\x1b]0;evil\a\x9b31mab\tc\n" * 40, encoding="utf-8")
    options = ["--steps", 5, "--sample-every", 1]
    _, _, err = cli("train", tmp_path / "evil.txt", *TINY, *options, "--out", tmp_path / "run")
    assert "sample at step 4" in err
    assert not [character for character in err if not character.isprintable() and character not in "\n\t"]
