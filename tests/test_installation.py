"""``pip install`` of this folder into a virtual environment of its own, with a C++ compiler and without one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def run(*arguments, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        list(map(str, arguments)), cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}
    )


def install(folder: Path, **environment: str) -> list:
    """The command that runs the elman installed into ``folder``; -I, that it is this one whatever PYTHONPATH says."""
    venv.create(folder / "venv", with_pip=True, symlinks=os.name != "nt")
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = run(python, "-I", "-m", "pip", "install", ROOT, cwd=folder, **environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    where = run(python, "-I", "-c", "import elman; print(elman.__file__)", cwd=folder).stdout
    assert Path(where.strip()).is_relative_to(folder), where
    return [python, "-I", "-m", "elman"]


def installed(elman: list, cwd: Path) -> dict:
    done = run(*elman, "info", "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def train(elman: list, *options: str, cwd: Path) -> subprocess.CompletedProcess:
    return run(*elman, "train", "--preset", "hello", "--steps", "5", "--out", "X", *options, cwd=cwd)


@pytest.mark.skipif(shutil.which("false") is None, reason="no command `false` here to stand for a broken compiler")
def test_without_a_compiler_it_is_installed_in_pure_python(tmp_path):
    broken = shutil.which("false")
    elman = install(tmp_path, CC=broken, CXX=broken)
    info = installed(elman, tmp_path)
    assert info["kernels"] == ["numpy"]
    assert info["native"].startswith("not built")

    refused = train(elman, "--kernel", "native", cwd=tmp_path)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert refused.stderr.startswith("elman: error: the native kernel was not built here")
    assert not (tmp_path / "X").exists()

    done = train(elman, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "X" / "model.safetensors").exists()


@pytest.mark.skipif(
    shutil.which((os.environ.get("CXX") or "c++").split()[0]) is None, reason="no C++ compiler here (CXX, or else c++)"
)
def test_with_a_compiler_the_native_kernel_is_built(tmp_path):
    elman = install(tmp_path)
    info = installed(elman, tmp_path)
    assert info["kernels"] == ["native", "numpy"]
    assert info["native"].startswith("built")

    done = train(elman, "--kernel", "native", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "X" / "model.safetensors").exists()
