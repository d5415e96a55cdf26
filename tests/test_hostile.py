"""No locale, disk, missing folder, closed stream or tight limit makes the command crash or lie."""

from __future__ import annotations

import ast
import codecs
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

import elman
from elman.cli import COMMANDS, main
from elman.errors import InputError
from elman.text import cache, files
from elman.text.sources import open_text
from elman.text.tokenizers import BpeTokenizer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX streams, limits and locales")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")

CONTENT = "红楼梦 café naïve 😀 über a\u0301 \u200b \u2028 ﷽ 𝔘 \x85 z\u00a0 the heron waits\n" * 40
TINY = ["--hidden-size", "8", "--layers", "1", "--batch-size", "4", "--seq-length", "16", "--steps", "3"]
ELMAN = [sys.executable, "-m", "elman"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SPACE = "elman: error: standard output: No space left on device\n"
AND, BREAK = "--and-then", "\f"

# Runs several commands in one process.
SEVERAL = f"""
import sys
from elman.cli import main
print(sys.stdout.encoding)
line = []
for word in [*sys.argv[1:], {AND!r}]:
    if word != {AND!r}:
        line.append(word)
        continue
    status, line = main(line), []
    print(f"{{status}}{BREAK}", end="", flush=True)
    print("{BREAK}", end="", file=sys.stderr, flush=True)
"""
# Puts limits on a process and becomes it.
LIMITED = """
import json, os, resource, sys
for name, size in json.loads(sys.argv[1]).items():
    resource.setrlimit(getattr(resource, name), (size, size))
os.execv(sys.argv[2], sys.argv[2:])
"""
# Lets nothing be written but below one folder, and nothing be asked of the network; notes what was tried.
WATCH = """
import os, sys
tried = []
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")

def refuse(path):
    if isinstance(path, int):
        return
    path = os.path.abspath(os.fsdecode(path))
    if not path.startswith((os.environ["MAY_WRITE"], os.devnull)):
        if "__pycache__" not in path:
            tried.append(path)
        raise PermissionError(13, "Permission denied", path)

def watch(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.")):
        tried.append(f"{event} {arguments[1:]}" if event == "socket.connect" else f"{event} {arguments}")
        raise OSError(101, "Network is unreachable")
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        refuse(arguments[0])
    elif event in CHANGES:
        refuse(arguments[0])

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "weird.txt"
    path.write_text(CONTENT, encoding="utf-8", newline="")
    return path


@pytest.fixture(scope="module")
def run(text, tmp_path_factory) -> Path:
    """A run folder, for tests that only look."""
    options = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_length": 16, "steps": 3}
    return elman.train(text, out=tmp_path_factory.mktemp("runs") / "run", **options).path


@pytest.fixture
def site(tmp_path):
    """Have Python run some code before all else -> the environment for that."""

    def write(code: str) -> dict[str, str]:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
        return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}

    return write


def environment(changes: dict[str, str | None]) -> dict[str, str]:
    """This environment without what changes how Python, elman or a terminal behave, in UTF-8; None: not set."""
    ours = ("PYTHON", "LC_", "LANG", "ELMAN_", "XDG_", "COLUMNS", "NO_COLOR", "TMPDIR")
    kept = {name: value for name, value in os.environ.items() if name == "PYTHONPATH" or not name.startswith(ours)}
    return {name: value for name, value in {**kept, "PYTHONUTF8": "1", **changes}.items() if value is not None}


def call(*command, env=None, redirect="", **options) -> subprocess.CompletedProcess:
    """Run a command; its standard input is empty, and redirected as the shell's ``redirect`` says."""
    if redirect:
        command = ("sh", "-c", f'exec "$@" {redirect}', "sh", *command)
    words = [word if isinstance(word, bytes) else os.fsencode(word) for word in command]
    options = {"stdin": subprocess.DEVNULL, **options} if "input" not in options else options
    return subprocess.run(words, env=environment(env or {}), capture_output=True, timeout=100, **options)


def several(*lines, env=None, encoding="utf-8", flags=(), code=SEVERAL, before=(), **options) -> list[tuple]:
    """Run commands in one process, whose streams must have this encoding -> status, stdout and stderr of each."""
    words = [word for line in lines for word in (AND, *line)][1:]
    done = call(*before, sys.executable, *flags, "-c", code, *words, env=env, **options)
    out, err = (stream.decode(encoding) for stream in (done.stdout, done.stderr))
    assert done.returncode == 0, err
    name, out = out.split("\n", 1)
    assert codecs.lookup(name).name == codecs.lookup(encoding).name
    outs, errs = out.split(BREAK)[: len(lines)], err.split(BREAK)[: len(lines)]
    return [(int(out[-1]), out[:-1], err) for out, err in zip(outs, errs, strict=True)]


def all_commands(run, text, out) -> list[list]:
    """Something of every command that is quick; none of them fails."""
    return [
        ["train", text, *TINY, "--out", out],
        ["sample", run, "--length", "40"],
        ["eval", run, text],
        ["info", run],
        ["info", text],
        ["info", "--json"],
        ["gradcheck", "--cell", "rnn", "--hidden-size", "2", "--seq-length", "2"],
        ["train", "--help"],
        ["--version"],
    ]


def limited(**limits: int) -> list[str]:
    """What stands before a command to run it under limits (RLIMIT_...)."""
    return [sys.executable, "-ISc", LIMITED, json.dumps(limits)]


def assert_done(results: list[tuple]) -> None:
    for status, out, err in results:
        assert status == 0 and out and "Traceback" not in err and "error" not in err, (status, out, err)


def assert_refused(result, *said: str) -> None:
    if isinstance(result, subprocess.CompletedProcess):
        result = (result.returncode, result.stdout.decode(), result.stderr.decode())
    status, out, err = result
    assert (status, out) == (2, "") and err.startswith("elman: error: ") and err.count("\n") == 1, result
    for words in said:
        assert words in err


def assert_whole(out: Path) -> None:
    """A run folder in which nothing was written but by who writes it."""
    assert elman.load(out).language_model.config.hidden_size == 8
    records = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (records[0]["event"], records[-1]["event"]) == ("start", "end")
    assert (out / "config.toml").read_text(encoding="utf-8").startswith("[model]\n")


# locales and names

LOCALES = [
    (ASCII, "ascii"),
    ({"PYTHONIOENCODING": "gbk"}, "gbk"),
    ({"PYTHONIOENCODING": "utf-16"}, "utf-16"),
    pytest.param({**ASCII, "LC_ALL": "POSIX"}, "ascii", marks=pytest.mark.slow),
    pytest.param({"LC_ALL": "C", "PYTHONUTF8": None}, "utf-8", marks=pytest.mark.slow),
    pytest.param({"LC_ALL": "POSIX", "PYTHONUTF8": None}, "utf-8", marks=pytest.mark.slow),
    pytest.param({"PYTHONIOENCODING": "ascii"}, "ascii", marks=pytest.mark.slow),
    pytest.param({"PYTHONIOENCODING": "cp437"}, "cp437", marks=pytest.mark.slow),
]


def speak(run, text, out, **options) -> list[tuple]:
    lines = [
        ["train", text, *TINY, "--out", out],
        ["sample", run, "--length", "300"],
        ["eval", run, text, "--json"],
        ["info", run],
        ["info", text],
        ["sample", run, "--prompt", "☃"],
        ["train", "石头记"],
    ]
    return several(*lines, flags=["-X", "warn_default_encoding", "-W", "error::EncodingWarning"], **options)


@pytest.fixture(scope="module")
def spoken(run, text, tmp_path_factory) -> tuple[list[tuple], Path]:
    """What the commands say in UTF-8, and the run that they trained."""
    out = tmp_path_factory.mktemp("spoken") / "run"
    return speak(run, text, out), out


@pytest.mark.parametrize(("env", "encoding"), LOCALES)
def test_a_locale_changes_no_file_and_a_stream_shows_what_it_can(env, encoding, run, text, spoken, tmp_path):
    results = speak(run, text, tmp_path / "run", env=env, encoding=encoding)
    assert [status for status, _, _ in results] == [0, 0, 0, 0, 0, 2, 2]
    for file in ("model.safetensors", "config.toml"):
        assert (tmp_path / "run" / file).read_bytes() == (spoken[1] / file).read_bytes()
    for (_, out, err), (_, wanted, _) in zip(results[1:], spoken[0][1:], strict=True):
        assert out == wanted.encode(encoding, "replace").decode(encoding)
        assert "Traceback" not in err and err.count("\n") <= 1
    assert "红" in spoken[0][1][1] and ("?" in results[1][1]) == (encoding[:3] != "utf")
    assert "U+2603 SNOWMAN" in results[5][2] and "there is no file" in results[6][2]


def test_what_is_typed_in_utf8_is_read_so_in_a_locale_that_lacks_it(run):
    done = call(*ELMAN, "sample", run, "--prompt", "红楼", "--stop", "梦", "--length", "300", "--json", env=ASCII)
    plain = elman.load(run).generate("红楼", length=300)
    text = plain.partition("梦")[0] if "梦" in plain else plain
    assert json.loads(done.stdout) == {"seed": 0, "prompt": "红楼", "text": text}
    assert "梦" in plain
    assert_refused(call(*ELMAN, "sample", run, "--prompt", b"\xff", env=ASCII), "the model never saw '\\udcff'")


NAMES = ["红楼梦 梦".encode(), b"two\nlines", b"caf\xe9\xff"]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_will_do(name, text, tmp_path):
    file, out = bytes(tmp_path) + b"/" + name + b".txt", bytes(tmp_path) + b"/run " + name
    try:
        shutil.copy(text, file)
    except OSError:
        pytest.skip("this file system takes no such name")
    results = several(
        ["train", file, *TINY, "--out", out],
        ["train", name + b".txt", *TINY],
        ["sample", out],
        ["eval", out, file],
        ["info", out],
        ["info", file],
        ["train", "--resume", out, "--steps", "4"],
        cwd=tmp_path,
    )
    assert_done(results)
    assert results[3][1].count("\n") == 4 and results[3][1].startswith(ascii_of(name) + ", every token")
    for folder in (out, bytes(tmp_path) + b"/runs/" + name + b"-1"):
        assert Path(os.fsdecode(folder), "model.safetensors").exists()
    missing = b"no " + name
    for line in (["sample", missing], ["train", missing], ["train", missing + b"*"], ["train", file, "--out", out]):
        assert_refused(in_process(*map(os.fsdecode, line)))


def test_a_tokenizer_may_have_any_name_too(text, tmp_path):
    pytest.importorskip("tokenizers")
    file = bytes(tmp_path) + b"/caf\xe9.json"
    BpeTokenizer.train(CONTENT, 300).write(tmp_path / "plain.json")
    (tmp_path / "plain.json").rename(os.fsdecode(file))
    assert_done(several(["train", text, *TINY, "--tokenizer", file, "--out", tmp_path / "run"]))


def ascii_of(name: bytes) -> str:
    """A name as the terminal shows it on one line."""
    return " ".join(name.decode("utf-8", "surrogateescape").split()).encode("utf-8", "replace").decode()


def in_process(*arguments: str) -> tuple[int, str, str]:
    """The same in this process, where that is as good."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in "oe")
    try:
        status = main(arguments)
        streams = sys.stdout, sys.stderr
        for stream in streams:
            stream.flush()
        return (status, *(stream.buffer.getvalue().decode() for stream in streams))
    finally:
        sys.stdout, sys.stderr = before


def test_a_run_goes_on_in_a_locale_that_lacks_its_names(text, tmp_path):
    shutil.copy(text, tmp_path / "石头记.txt")
    elman.train(tmp_path / "石头记.txt", out=tmp_path / "run", hidden_size=8, num_layers=1, steps=2)
    assert_done(several(["train", "--resume", tmp_path / "run", "--steps", "3"], env=ASCII, encoding="ascii"))


def test_every_file_is_opened_as_bytes_or_with_an_encoding():
    careless = []
    for path in Path(elman.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and not any(word.arg == "encoding" for word in node.keywords):
                name = ast.unparse(node.func).rpartition(".")[2]
                called = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                binary = any(set(mode) <= set("rwabx+") and "b" in mode for mode in called)
                if name in ("read_text", "write_text", "TextIOWrapper") or (name == "open" and not binary):
                    careless.append(f"{path.name}: {ast.unparse(node)}")
    known = ("os.open(", "RunFolder.open(", "gzip.open", "bz2.open", "lzma.open")
    assert not [line for line in careless if not line.split(": ", 1)[1].startswith(known)]


# folders that are missing, or cannot be written

NOBODY = """
import pwd
def unknown(*_):
    raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = unknown
"""
LARGE = "\nimport elman.text.cache\nelman.text.cache.LARGE = 100\n"


@pytest.mark.parametrize("home", [None, "", "relative", "/dev/null"])
def test_without_a_home_all_works_but_what_needs_a_cache(home, run, text, site, tmp_path):
    env = {"HOME": home, **site(NOBODY)}
    if home is None:
        assert_done(several(*all_commands(run, text, tmp_path / "run"), env=env))
    (tmp_path / "site" / "sitecustomize.py").write_text(NOBODY + LARGE, encoding="utf-8")
    refused = several(["train", text, *TINY, "--out", tmp_path / "none"], ["eval", run, "tiny-shakespeare"], env=env)
    for result in refused:
        assert_refused(result, "ELMAN_CACHE_DIR")
        assert (home == "/dev/null") == ("/dev/null/.cache/elman" in result[2])
    assert not (tmp_path / "none").exists() and not (tmp_path / "relative").exists()


@pytest.mark.parametrize("place", ["~/.cache/elman", "caches/elman"])
def test_no_cache_is_made_in_the_current_folder(place, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda name: Path(place))  # as some versions of platformdirs do
    monkeypatch.delenv("ELMAN_CACHE_DIR", raising=False)
    with pytest.raises(InputError, match="ELMAN_CACHE_DIR"):
        cache.folder()


def test_a_cache_needs_no_home_where_its_folder_is_named(text, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LARGE", 100)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("ELMAN_CACHE_DIR", str(tmp_path / "cache"))
    assert in_process("info", str(text))[0] == 0 and list((tmp_path / "cache").iterdir())
    monkeypatch.setenv("ELMAN_CACHE_DIR", "")  # as good as not set
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    assert in_process("info", str(text))[0] == 0 and list((tmp_path / "usual").rglob("*.ids"))


@pytest.mark.parametrize("place", ["{text}", "{text}/below", "/dev/full", "/proc/none"])
def test_a_cache_that_cannot_be_is_one_line(place, text, monkeypatch):
    place = place.format(text=text)
    monkeypatch.setattr(cache, "LARGE", 100)
    for name in ("ELMAN_CACHE_DIR", "ELMAN_DATA_DIR"):
        monkeypatch.setenv(name, place)
    for arguments in (["info", str(text)], ["info", "tiny-shakespeare"]):
        assert_refused(in_process(*arguments), place, "ELMAN_CACHE_DIR")


def test_nothing_is_written_but_the_run_and_nothing_is_asked_of_the_network(run, text, site, tmp_path):
    (tmp_path / "own").mkdir()
    code = "import elman\nfor name in elman.__all__: getattr(elman, name)\n"
    code += SEVERAL + "import sitecustomize\nassert not sitecustomize.tried, sitecustomize.tried\n"
    helps = [[command, "--help"] for command in COMMANDS]
    built_in = ["train", "--preset", "hello", "--steps", "2", "--out", tmp_path / "own" / "hello"]
    lines = [*all_commands(run, text, tmp_path / "own" / "run"), built_in, ["info"], *helps]
    assert_done(several(*lines, env={**site(WATCH), "MAY_WRITE": str(tmp_path / "own")}, code=code))
    assert_whole(tmp_path / "own" / "run")


def test_a_current_folder_that_cannot_be_written_is_one_line_that_names_out(run, text, site, tmp_path):
    env = {**site(WATCH), "MAY_WRITE": str(tmp_path / "own")}
    assert_refused(call(*ELMAN, "train", text, *TINY, env=env, cwd=tmp_path), "runs", "Permission denied", "--out")
    assert not (tmp_path / "runs").exists()


def test_only_a_corpus_that_is_not_at_hand_is_looked_for_in_the_network(site, tmp_path):
    env = {**site(WATCH), "MAY_WRITE": str(tmp_path), "ELMAN_CACHE_DIR": str(tmp_path / "cache")}
    code = SEVERAL + "import sitecustomize\nprint(*sitecustomize.tried, sep='\\n', file=sys.stderr)\n"
    ((status, out, err),) = several(["train", "tiny-shakespeare", *TINY, "--out", tmp_path / "run"], env=env, code=code)
    assert_refused((status, out, err), "no connection", f"put it in {tmp_path / 'cache'} as tiny-shakespeare.txt")
    done = call(sys.executable, "-c", code, "train", "tiny-shakespeare", env=env)
    asked = [line for line in done.stderr.decode().splitlines() if line.startswith("socket.getaddrinfo")]
    assert asked and all("'raw.githubusercontent.com', 443" in line for line in asked)


NOWHERE = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/none']\n"


def test_without_a_temporary_folder_all_works_but_a_large_standard_input(run, text, site, tmp_path):
    env = site(NOWHERE)
    assert_done(several(*all_commands(run, text, tmp_path / "run"), env=env))
    assert_done(several(["eval", run, "-"], env=env, input=CONTENT.encode()))
    (tmp_path / "site" / "sitecustomize.py").write_text(
        NOWHERE + "import elman.text.files\nelman.text.files._IN_MEMORY = 100\n", encoding="utf-8"
    )
    said = "standard input does not fit into a temporary file: No usable temporary directory"
    assert_refused(call(*ELMAN, "eval", run, "-", env=env, input=CONTENT.encode()), said, "TMPDIR")


def test_a_stream_is_kept_to_the_letter_in_memory_and_on_disk(monkeypatch):
    raw = bytes(range(256)) * 9000
    for room in (1 << 24, 1000):
        monkeypatch.setattr(files, "_IN_MEMORY", room)
        spool = files.Spool(io.BytesIO(raw), "a stream")
        assert [b"".join(spool.blocks()) for _ in "ab"] == [raw] * 2
        assert spool._file._rolled == (room == 1000)


def test_a_stream_that_cannot_be_kept_or_read_is_never_taken_for_a_shorter_one(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    class Full(tempfile.SpooledTemporaryFile):
        write = full

    class Broken(io.BytesIO):
        read = full

    class NotWaiting(io.BytesIO):
        def read(self, size):
            return super().read(size) or None

    for stream, said in ((Broken(), "cannot read x: No space"), (NotWaiting(b"the heron"), "x does not wait")):
        with pytest.raises(InputError, match=said):
            files.Spool(stream, "x")
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Full)
    with pytest.raises(InputError, match=r"x does not fit into a temporary file: No space .*; .* TMPDIR"):
        files.Spool(io.BytesIO(b"the heron"), "x")


@linux
def test_a_current_folder_that_is_gone_is_one_line_or_no_matter(run, text, tmp_path):
    gone = ("sh", "-c", 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"', tmp_path / "gone")
    assert_done(several(*all_commands(run, text, tmp_path / "run"), before=gone))
    assert_refused(call(*gone, *ELMAN, "train", text, *TINY), "runs", "No such file", "--out")
    assert_refused(call(*gone, *ELMAN, "train", "weird.txt"), "there is no file 'weird.txt' here")


# streams

CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}
USED = {
    "train": ["train", "TEXT", *TINY, "--out", "OUT"],
    "train-json": ["train", "TEXT", *TINY, "--out", "OUT", "--json"],
    "sample": ["sample", "RUN"],
    "eval": ["eval", "RUN", "TEXT"],
    "info": ["info", "RUN"],
    "info-text": ["info", "TEXT"],
    "gradcheck": ["gradcheck", "--cell", "rnn", "--hidden-size", "2", "--seq-length", "2"],
    "bench": ["bench", "--case", "rnn-100", "--seconds", "0.1", "--no-torch"],
    "help": ["--help"],
    "version": ["--version"],
    "unknown": ["nothing"],
    "input": ["eval", "RUN", "-"],
}
QUICK = {
    *(("train", which) for which in CLOSED),
    *(("unknown", "stderr"), ("input", "stdin"), ("eval", "stdout"), ("sample", "all"), ("info", "all")),
    *(("help", "stdout"), ("version", "all")),
}


def words(name, run, text, tmp_path) -> list[str]:
    places = {"RUN": run, "TEXT": text, "OUT": tmp_path / "run"}
    return [str(places.get(word, word)) for word in USED[name]]


@pytest.mark.parametrize(
    ("name", "which"),
    [
        pytest.param(name, which, marks=[] if (name, which) in QUICK else pytest.mark.slow)
        for name in USED
        for which in CLOSED
    ],
)
def test_a_closed_stream_ends_nothing(name, which, run, text, tmp_path):
    before = (run / "model.safetensors").read_bytes()
    done = call(*ELMAN, *words(name, run, text, tmp_path), redirect=CLOSED[which])
    assert done.returncode == (2 if name in ("unknown", "input") else 0), done.stderr
    shown = bool(done.stdout), bool(done.stderr)
    if name in ("unknown", "input"):
        assert shown == (False, which not in ("stderr", "all"))
        assert (
            name == "unknown"
            or which != "stdin"
            or done.stderr == b"elman: error: standard input is closed; give a file\n"
        )
    else:
        assert shown == (which not in ("stdout", "all"), name == "train" and which not in ("stderr", "all"))
    if name.startswith("train"):
        assert_whole(tmp_path / "run")
    assert (run / "model.safetensors").read_bytes() == before


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    code = """
import sys
from elman.cli import main
assert main(["--version"]) == 0
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write(str(file.fileno()))
    print("this", flush=True)
    print("that", file=sys.stderr)
    import os
    os.write(1, b"printed by a library")
    os.write(2, b"printed by a library")
"""
    done = call(sys.executable, "-c", code, tmp_path / "file", redirect=CLOSED["all"])
    assert done.returncode == 0 and int((tmp_path / "file").read_text()) > 2


@needs_full
@pytest.mark.parametrize("flags", [[], ["-u"]])
@pytest.mark.parametrize("name", ["sample", pytest.param("eval", marks=pytest.mark.slow), "info", "help", "version"])
def test_a_full_standard_output_is_one_line(name, flags, run, text, tmp_path):
    command = [sys.executable, *flags, "-m", "elman", *words(name, run, text, tmp_path)]
    done = call(*command, redirect=">/dev/full")
    assert (done.returncode, done.stderr.decode()) == (2, SPACE)


@needs_full
@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_a_full_standard_error_ends_nothing(flags, run, text, tmp_path):
    command = [sys.executable, *flags, "-m", "elman"]
    done = call(*command, *words("train", run, text, tmp_path), redirect="2>/dev/full")
    assert done.returncode == 0 and b"Trained 3 steps" in done.stdout
    assert_whole(tmp_path / "run")
    assert call(*command, "nothing", redirect="2>/dev/full").returncode == 2
    assert call(*command, "nothing", redirect=">/dev/full 2>&1").returncode == 2


def with_a_closed_pipe(stream: str, *command, **options) -> tuple[int, bytes]:
    """Run the command with a stream that nobody reads -> status, what came on the other one, or None."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(list(map(str, command)), env=environment({}), stdin=subprocess.DEVNULL, **pipes) as process:
        try:
            getattr(process, stream).close()
            other = process.stderr if stream == "stdout" else process.stdout
            return process.wait(timeout=60) if other is None else (process.wait(timeout=60), other.read())
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["sample", "eval", "info", "help", "gradcheck"])
def test_a_closed_pipe_ends_quietly(name, run, text, tmp_path):
    assert with_a_closed_pipe("stdout", *ELMAN, *words(name, run, text, tmp_path)) == (0, b"")


def test_messages_that_nobody_reads_end_nothing(run, text, tmp_path):
    status, out = with_a_closed_pipe("stderr", *ELMAN, *words("train", run, text, tmp_path))
    assert status == 0 and b"Trained 3 steps" in out
    assert_whole(tmp_path / "run")
    assert with_a_closed_pipe("stderr", *ELMAN, "nothing") == (2, b"")
    assert with_a_closed_pipe("stdout", *ELMAN, "nothing", stderr=subprocess.STDOUT) == 2


def test_the_streams_of_who_calls_main_are_as_they_were(capsys):
    before = sys.stdout, sys.stderr
    assert main(["--version"]) == 0 and main(["nothing"]) == 2
    assert (sys.stdout, sys.stderr) == before


def test_names_and_models_cannot_steer_a_terminal(tmp_path, capsys):
    evil = tmp_path / "\x1b]0;evil\a\x9b.txt"
    evil.write_text("\x1b]0;evil\a[bold]ab[/bold] \x1b[2J\x9b31m\n the heron " * 40, encoding="utf-8")
    options = {"hidden_size": 8, "num_layers": 1, "steps": 1, "tokenizer": "word"}
    out = str(elman.train(evil, out=tmp_path / "run", **options).path)
    for line in (["eval", out, str(evil)], ["info", out], ["info", str(evil)], ["sample", "\x1b[2J"], ["\x1b[2J"]):
        main(line)
        shown = "".join(capsys.readouterr())
        assert shown and not [c for c in shown if not c.isprintable() and c != "\n"], line
        assert "\\x1b" in shown or line[0] != "info", line  # tokens are shown all the same


# Python's own switches, and limits


@pytest.mark.parametrize("columns", ["0", "1", "-1", "wide"])
def test_help_can_be_shown_on_any_width(columns):
    done = call(*ELMAN, "sample", "--help", env={"COLUMNS": columns, "TERM": None, "NO_COLOR": "1"})
    assert done.returncode == 0 and b"--temperature" in done.stdout and done.stderr == b""


def helps(*commands: str, flags=()) -> list[tuple]:
    lines = [[word for word in (command, "--help") if word] for command in commands]
    return several(*lines, flags=flags, env={"COLUMNS": "80"})


def test_help_is_whole_without_docstrings():
    commands = ["", *COMMANDS]
    commands.remove("train")
    shown = helps(*commands)
    assert "Start with `elman train`" in shown[0][1] and "One exact pass" in shown[1 + commands[1:].index("eval")][1]
    assert helps(*commands, flags=["-OO"]) == shown


def test_the_help_of_train_is_whole_without_docstrings():
    assert helps("train", flags=["-OO"]) == helps("train")


def test_all_works_without_assertions_and_with_warnings_as_errors(run, text, tmp_path):
    lines = all_commands(run, text, tmp_path / "run")
    assert_done(several(*lines, flags=["-OO"], env={"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}))


def test_a_warning_that_is_an_error_is_one_line(monkeypatch):
    monkeypatch.setattr("elman.workflows.info.installation", lambda: warnings.warn("so\nit is", UserWarning, 1))
    assert in_process("info") == (2, "", "elman: error: so it is\n")


def test_a_library_that_cannot_be_loaded_is_one_line(run, text, monkeypatch):
    monkeypatch.setitem(sys.modules, "elman.workflows.evaluate", None)
    assert_refused(in_process("eval", str(run), str(text)), "a library cannot be loaded: import of elman.workflows")


def test_files_of_the_current_folder_are_not_taken_for_libraries(run, tmp_path):
    for name in ("numpy", "random", "json", "click", "tempfile", "dataclasses"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    commands = [ELMAN, [shutil.which("elman", path=str(Path(sys.executable).parent))]]
    for command in commands if commands[1][0] else commands[:1]:
        done = call(*command, "sample", run, "--json", cwd=tmp_path)
        assert done.returncode == 0 and json.loads(done.stdout), done.stderr
    for flags in ({}, {"PYTHONSAFEPATH": "1"}):  # but who asks for a folder has it
        done = call(*ELMAN, "sample", run, env={"PYTHONPATH": str(tmp_path), **flags}, cwd=tmp_path.parent)
        assert b"the wrong one" in done.stderr


def test_few_open_files_are_enough(run, text, tmp_path):
    assert_done(several(*all_commands(run, text, tmp_path / "run"), before=limited(RLIMIT_NOFILE=16)))


@linux
def test_threads_have_small_stacks_or_are_done_without(run, text, tmp_path):
    def train(name, *before, threads="8", code=SEVERAL, **env):
        line = ["train", text, *TINY, "--hidden-size", "64", "--threads", threads, "--out", tmp_path / name]
        score = ["eval", run, text, "--threads", threads, "--json"]
        results = several(line, score, before=before, code=code, env={"OPENBLAS_NUM_THREADS": "1", **env})
        assert_done(results)
        return json.loads(results[1][1])["nats_per_token"]

    wanted = train("usual")
    assert train("small", *limited(RLIMIT_STACK=1 << 18), threads="64") == pytest.approx(wanted)
    # No thread can be started where each asks for a stack of more memory than there may be.
    none = """
import threading
try:
    threading.Thread(target=print).start()
except RuntimeError:
    pass
else:
    raise SystemExit("a thread was started")
"""
    assert train("none", *limited(RLIMIT_STACK=1 << 36, RLIMIT_AS=1 << 34), code=none + SEVERAL) == pytest.approx(
        wanted
    )
    some = limited(RLIMIT_STACK=1 << 32, RLIMIT_AS=10 << 30)
    assert train("some", *some) == pytest.approx(wanted)


@linux
def test_too_little_memory_is_one_line(text):
    command = [*limited(RLIMIT_AS=600 << 20), *ELMAN, "info", text]  # xz -9 takes more
    done = call(*command, env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stderr) == (2, b"elman: error: not enough memory\n")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "sample", "eval", "info", "info-text", "gradcheck"])
def test_with_less_and_less_memory_there_is_never_more_than_a_line(name, run, text, tmp_path):
    for size in range(400, 20, -40):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        command = [*limited(RLIMIT_AS=size << 20), *ELMAN, *words(name, run, text, tmp_path)]
        done = call(*command, env={"OPENBLAS_NUM_THREADS": "1"})
        errors = [line for line in done.stderr.decode().splitlines() if "error" in line.lower()]
        assert b"Traceback" not in done.stderr and len(errors) == (done.returncode != 0), (size, done.stderr)


@pytest.mark.parametrize("size", [0, 1000, 10_000])
def test_a_file_that_may_not_grow_is_named(size, run, text, tmp_path):
    done = call(*limited(RLIMIT_FSIZE=size), *ELMAN, *words("train", run, text, tmp_path))
    errors = [line for line in done.stderr.decode().splitlines() if line.startswith("elman: error: ")]
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert len(errors) == 1 and f"cannot write {tmp_path / 'run'}" in errors[0] and "File too large" in errors[0]


def test_a_sample_that_its_file_cannot_hold_is_one_line(run, tmp_path):
    command = [*limited(RLIMIT_FSIZE=1000), *ELMAN, "sample", run, "--length", "5000"]
    done = call(*command, redirect=f"> '{tmp_path / 'file'}'")
    assert (done.returncode, done.stderr) == (2, b"elman: error: standard output: File too large\n")


def test_a_cache_that_may_not_grow_is_one_line_and_leaves_nothing(text, site, tmp_path):
    env = {**site(LARGE), "ELMAN_CACHE_DIR": str(tmp_path / "cache")}
    done = call(*limited(RLIMIT_FSIZE=1000), *ELMAN, "info", text, env=env)
    assert_refused(done, f"the cache folder {tmp_path / 'cache'} cannot be written: File too large", "ELMAN_CACHE_DIR")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_pipe_is_read_as_a_file_is(text, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", 'cat "$0" > "$1"', str(text), str(tmp_path / "pipe")]) as writer:
        assert open_text([tmp_path / "pipe"]).sha256 == open_text([text]).sha256
        assert writer.wait(timeout=60) == 0
