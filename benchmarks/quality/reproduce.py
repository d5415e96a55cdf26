"""One command for each row of docs/results.md: train, score, print the row.

Run it: python benchmarks/quality/reproduce.py ROW [ROW ...] [--seeds 3] [--with pytorch,gpt] [--out FILE]
        python benchmarks/quality/reproduce.py --list
        python benchmarks/quality/reproduce.py --table FILE
Each run is a process of its own on an otherwise idle machine, timed from outside, whole; contenders of a row take
turns, seed after seed (1, 2, …). Then the held-out part is scored: in one pass that carries the state, and in cold
windows of 256 tokens. ROW-pytorch, ROW-pytorch-bf16 and ROW-gpt run a peer alone. --out appends a JSON line a run,
from which --table makes the table again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from names_split import write_split
from rows import PEERS, ROWS, Row, find, names
from table import Run, table

import elman
from elman.config import TrainConfig
from elman.errors import ElmanError
from elman.kernels import processors
from elman.text.corpora import DOWNLOADS, fetch
from elman.text.sources import open_text
from elman.text.split import split_text
from elman.workflows.info import installation

HERE = Path(__file__).parent
SCRIPTS = {
    "pytorch": [str(HERE / "lstm_torch.py")],
    "pytorch-bf16": [str(HERE / "lstm_torch.py"), "--precision", "bf16"],
    "gpt": [str(HERE / "gpt.py")],
}
WINDOW = 256
BLAS_SETTINGS = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)
IDLE = 0.5  # processes that want to run, at most, on a machine that is called idle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--list", action="store_true", help="the rows")
    parser.add_argument("--table", type=Path, metavar="FILE", help="the table of what --out left")
    parser.add_argument(
        "--with", dest="peers", default="", metavar="PEERS", help=f"{','.join(PEERS)}: peers beside elman"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--corpus", metavar="FILE", help="another text than the row's")
    parser.add_argument("--preset", metavar="NAME", help="another preset than the row's")
    parser.add_argument("--minutes", type=float, metavar="M", help="another time than the row's")
    parser.add_argument("--precision", metavar="NAME", help="of elman's products, as `elman train` takes it")
    parser.add_argument("--threads", type=int, default=processors(), metavar="N")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="keep the run folders there")
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.list:
        for row in ROWS.values():
            print(f"{row.name:<14} {row.summary}; {', '.join(row.contenders)}")
    elif options.table:
        print(table(json.loads(line) for line in options.table.read_text(encoding="utf-8").splitlines()))
    elif options.rows:
        try:
            run_rows(options)
        except ElmanError as error:
            sys.exit(f"reproduce.py: {error}")
    else:
        parser.error(f"give a row: {', '.join(names())}")


def run_rows(options: argparse.Namespace) -> None:
    """Run what was asked for, and print the table."""
    check_surroundings()
    peers = options.peers.split(",") if options.peers else []
    if unknown := set(peers) - set(PEERS):
        sys.exit(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.rows:
            row, first = find(name)
            job = prepare(row, options, options.runs or Path(scratch))
            for seed in range(1, options.seeds + 1):
                for contender in dict.fromkeys([first, *(peer for peer in peers if peer in row.contenders)]):
                    runs.append(job.run(contender, seed))
                    print(summary(runs[-1]), file=sys.stderr, flush=True)
                    if options.out:
                        with options.out.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(runs[-1]) + "\n")
    print(table(runs))


def check_surroundings() -> None:
    """End where a setting would change what BLAS does; say where the machine is busy."""
    if found := [name for name in BLAS_SETTINGS if name in os.environ]:
        without = " ".join(f"-u {name}" for name in found)
        sys.exit(f"{', '.join(found)} would change what NumPy and PyTorch do: run this under env {without}")
    if os.getloadavg()[0] > IDLE:
        print(f"the machine is busy (load {os.getloadavg()[0]:.1f}): the figures will be too high", file=sys.stderr)


def summary(run: Run) -> str:
    """A run in a line."""
    cold = "" if run["cold"] is None else f", cold {run['cold']:.4f}"
    name = f"{run['row']} {run['contender']} seed {run['seed']}"
    return f"{name}: {run['nats']:.4f} nats{cold}; {run['seconds']:.1f} s, {run['tokens']:,} tokens"


@dataclass(frozen=True)
class Job:
    """A row with its files: what is trained on, what is validated on (None: the last tenth), what is scored."""

    row: Row
    text: str
    valid: Path | None
    score: Path
    folder: Path
    preset: str | None
    minutes: float | None
    precision: str | None
    threads: int

    def run(self, contender: str, seed: int) -> Run:
        """Train and score -> what the table needs, and more."""
        run = self._run_elman(seed) if contender == "elman" else self._run_peer(contender, seed)
        return {
            "row": self.row.name,
            "contender": contender,
            "seed": seed,
            "minutes": self.minutes,
            **run,
            "elman": elman.__version__,
            "commit": commit(),
            "machine": machine(self.threads),
        }

    def _run_elman(self, seed: int) -> Run:
        out = self._out(seed)
        began = time.perf_counter()
        _, cores = measured([*self._train(seed), "--out", str(out)])
        seconds = time.perf_counter() - began
        records = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        start, end = records[0], records[-1]
        evaluate = [sys.executable, "-m", "elman", "eval", str(out), str(self.score), "--json"]
        carried = json.loads(measured(evaluate)[0])
        in_bf16 = ", bf16" if start["precision"] == "bf16" else ""
        cold = None
        if self.row.task != "names":
            cold = json.loads(measured([*evaluate, "--window", str(WINDOW)])[0])["nats_per_token"]
        return {
            "model": f"{start['cell'].upper()} {start['num_layers']} × {start['hidden_size']}{in_bf16}",
            "preset": start["preset"],
            "parameters": start["parameters"],
            "tokens": end["tokens"],
            "steps": end["step"],
            "seconds": seconds,
            "cores": cores,
            "nats": carried["nats_per_token"],
            "cold": cold,
            "bits_per_char": carried["bits_per_char"],
            "scored": carried["tokens"],
            "unknown": carried["unknown_tokens"] / carried["tokens"],
        }

    def _run_peer(self, contender: str, seed: int) -> Run:
        out = self._out(seed)
        if not (out / "config.toml").exists():
            self._begin_elman(seed, out)
        command = [sys.executable, *SCRIPTS[contender], "--config", str(out / "config.toml"), "--text", self.text]
        command += ["--score", str(self.score), "--seed", str(seed), "--threads", str(self.threads)]
        command += ["--valid", str(self.valid)] if self.valid else []
        command += ["--minutes", str(self.minutes)] if self.minutes is not None else []
        began = time.perf_counter()
        output, cores = measured(command)
        return {"preset": None, "cores": cores, "whole_seconds": time.perf_counter() - began, **json.loads(output)}

    def _train(self, seed: int) -> list[str]:
        command = [sys.executable, "-m", "elman", "train", self.text, *self.row.options, "--seed", str(seed)]
        command += ["--valid", str(self.valid)] if self.valid else []
        command += ["--preset", self.preset] if self.preset else []
        command += ["--minutes", repr(self.minutes)] if self.minutes is not None else []
        command += ["--precision", self.precision] if self.precision else []
        return [*command, "--threads", str(self.threads), "--json"]

    def _begin_elman(self, seed: int, out: Path) -> None:
        """Have elman write the recipe of a run (config.toml), and end it at its first step."""
        command = [*self._train(seed), "--out", str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            errors = process.stderr.read()
        if not (out / "config.toml").exists():
            sys.exit(errors.strip())

    def _out(self, seed: int) -> Path:
        return self.folder / f"{self.row.name}-{seed}"


def prepare(row: Row, options: argparse.Namespace, folder: Path) -> Job:
    """The job of a row, its files written."""
    corpus = options.corpus or row.corpus
    if corpus is None:
        sys.exit(
            f"{row.name} needs --corpus FILE: python benchmarks/quality/word_corpus.py FILE TEXT [TEXT ...] makes one"
        )
    minutes = row.minutes if options.minutes is None else options.minutes
    if row.timed and minutes is None:
        sys.exit(f"{row.name} needs --minutes M: the median that zaremba-small took here, in minutes")
    valid: Path | None = None
    folder.mkdir(parents=True, exist_ok=True)
    if row.task == "names":
        parts = write_split(fetch(corpus) if corpus in DOWNLOADS else Path(corpus), folder / row.name)
        corpus, valid, score = str(parts["train"]), parts["valid"], parts["test"]
    else:
        score = folder / f"{row.name}-held-out.txt"
        score.write_text(held_out(corpus), encoding="utf-8")
    preset = options.preset or row.preset
    return Job(row, corpus, valid, score, folder, preset, minutes, options.precision, options.threads)


def held_out(corpus: str) -> str:
    """The part of a text that `elman train` validates on."""
    part = split_text(open_text([corpus]), None, TrainConfig(tokenizer="byte")).valid
    if part is None:
        sys.exit(f"{corpus} is too short to hold anything out")
    return "".join(part.chunks())


def measured(command: list[str]) -> tuple[str, float]:
    """What a process prints, and how many cores it kept busy: its processor time by its wall time. It must succeed."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(errors.read().decode().strip())
        return output.read().decode(), (usage.ru_utime + usage.ru_stime) / seconds


@cache
def machine(threads: int) -> str:
    """Processor, threads, kernel, versions, in a line."""
    found: dict[str, Any] = installation()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        f"{models[0] if models else platform.processor() or platform.machine()}, {threads} threads of "
        f"{processors()} processors; kernels {', '.join(found['kernels'])} (native: {found['native']}); "
        f"{'; '.join(found['blas'])}; Python {found['python']}, NumPy {found['numpy']}, PyTorch {torch_version()}"
    )


def torch_version() -> str:
    """Of the PyTorch that the peers would use."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch")
    except PackageNotFoundError:
        return "not installed"


@cache
def commit() -> str:
    """What of the project ran."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
