"""What tests of arguments share: arrays that are spoiled in a way, and child processes that may crash.

A crash must be a failed test that names its seed. So cases run in a child, which a test file is too:

    python tests/test_fuzz_kernel.py TARGET SEED FIRST LAST
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from elman import ModelConfig
from elman.cells import CELLS
from elman.kernels import available_kernels

needs_native = pytest.mark.skipif(
    "native" not in available_kernels(), reason="the native kernel was not built here (no C++ compiler)"
)
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}

ROOM = 256  # bytes before and after an array, which nobody may write


class Memory:
    """Arrays of one case, each with room around it, and what was in them."""

    def __init__(self):
        self.held = []

    def place(self, array):
        """A copy with room around it; under the sanitizers without, as they know where an allocation ends."""
        if SANITIZED:
            return np.array(array, order="C")
        raw = np.full(array.nbytes + 2 * ROOM + 64, 0xA5, np.uint8)
        start = ROOM + -(raw.ctypes.data + ROOM) % 64
        inside = raw[start : start + array.nbytes]
        inside[...] = np.frombuffer(array.tobytes(), np.uint8)
        self.held.append((raw, start, array.nbytes))
        return inside.view(array.dtype).reshape(array.shape)

    def check(self):
        for raw, start, size in self.held:
            assert (raw[:start] == 0xA5).all() and (raw[start + size :] == 0xA5).all(), "written beyond an array"


def placed(memory, value):
    if isinstance(value, np.ndarray):
        return memory.place(value)
    return [placed(memory, part) for part in value] if isinstance(value, list) else value


def contents(values):
    """The bytes of all arrays, to see whether one changed."""
    return [
        contents(value) if isinstance(value, list) else np.array(value).tobytes()
        for value in values
        if isinstance(value, (np.ndarray, list))
    ]


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def misaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    raw[...] = np.frombuffer(array.tobytes(), np.uint8)
    return raw.view(array.dtype).reshape(array.shape)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def of_another_type(rng, array):
    names = ["?", "i1", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", "O", "U4", "M8[s]", array.dtype.newbyteorder()]
    names = [name for name in names if np.dtype(name) != array.dtype]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return array.astype(pick(rng, names))


def of_another_shape(rng, array):
    shape = list(array.shape)
    axis = int(rng.integers(array.ndim))
    shape[axis] = pick(rng, [0, shape[axis] + 1, shape[axis] - 1, 2 * shape[axis] + 1])
    shapes = [shape, [*array.shape, 1], [1, *array.shape], [*array.shape, 0], [2**40, *shape[1:], 0]]
    if array.ndim > 1:
        shapes += [[array.size], *([array.shape[::-1]] if array.shape != array.shape[::-1] else [])]
    shape = pick(rng, shapes)
    return np.resize(array, shape) if array.size and 0 not in shape else np.zeros(shape, array.dtype)


def with_wrong_ids(rng, array, least, end):
    array = array.copy()
    array.flat[rng.integers(array.size)] = pick(rng, [least - 1, end, 2**62, -(2**62), 2**31, -(2**31) - 1, 2**32])
    return array


def with_odd_numbers(rng, array):
    array = array.copy()
    array.flat[rng.integers(array.size, size=3)] = pick(rng, [np.nan, np.inf, -np.inf, 0.0, np.finfo(array.dtype).max])
    return array


NO_ARRAYS = [0, 1.5, "text", {}, [], [[1.0], []], object(), b"\0" * 64, np.float64(1), np.int64(3), slice(None)]


def spoil(rng, array, writable=False, ids=None, free_strides=False):
    """Something else than this array -> it, and whether it is wrong ("odd": right, but not to be compared)."""
    kinds = ["type", "shape", "none", "nothing like it", "gaps", "backwards", "misaligned", "read-only", "list"]
    kinds += ["wrong ids"] * 4 if ids else ["odd numbers"] if array.dtype.kind == "f" else []
    match kind := pick(rng, kinds):
        case "type":
            return of_another_type(rng, array), "wrong"
        case "shape":
            return of_another_shape(rng, array), "wrong"
        case "none":
            return None, "wrong"
        case "nothing like it":
            return pick(rng, NO_ARRAYS), "wrong"
        case "list":
            return array.tolist(), "wrong"
        case "gaps":
            spoiled = np.repeat(array, 2, axis=-1)[..., ::2]
            return spoiled, "wrong" if array.size > 1 and not free_strides else "right"
        case "backwards":
            spoiled = array[::-1].copy()[::-1]
            return spoiled, "wrong" if len(array) > 1 and not free_strides else "right"
        case "misaligned":
            return misaligned(array), "wrong"
        case "read-only":
            return read_only(array), "wrong" if writable else "right"
        case "wrong ids":
            return with_wrong_ids(rng, array, *ids), "wrong"
        case "odd numbers":
            return with_odd_numbers(rng, array), "odd"
    raise AssertionError(kind)


def wrong_number(rng, least, most):
    """What is no number from least to most."""
    return pick(rng, [least - 1, most + 1, -1 - least, 2**31, -(2**31) - 1, 2**40, 2**70, None, "2", 1.5, [1], np.nan])


def close(ours, theirs, dtype):
    if ours is None:
        return
    scale = max(1.0, float(np.abs(theirs).max(initial=0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * scale)


def fill(rng, shape, dtype):
    return rng.uniform(-1, 1, shape).astype(dtype)


def sizes(rng, count):
    """Mostly small, now and then large enough for several threads."""
    return [int(n) for n in rng.integers(1, 40 if rng.random() < 0.05 else 9, count)]


def random_config(rng, dropout=0.0):
    V, H, L = (int(rng.integers(1, most)) for most in (12, 20, 4))
    embedding = pick(rng, [None, 3, H])
    return ModelConfig(
        V,
        pick(rng, list(CELLS)),
        H,
        L,
        embedding,
        dropout=dropout,
        tie_weights=embedding == H and rng.random() < 0.5,
        dtype=pick(rng, list(TOLERANCE)),
        variational_dropout=bool(rng.random() < 0.5),
        embedding_dropout=dropout if embedding and rng.random() < 0.5 else 0.0,
    )


def run_in_child(file: str, target: str, seed: int, first: int, last: int) -> None:
    """Cases [first, last) of a target; AssertionError where one fails or crashes."""
    command = [sys.executable, file, target, str(seed), str(first), str(last)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    case = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"{case} ended with {done.returncode}\n{done.stderr[-6000:]}"


def run_cases(targets: dict[str, Callable], found: dict[str, Callable]) -> None:
    """What a test file does as a child: cases of a target, each with its generator, or one that was found."""
    target, seed, first, last = sys.argv[1], *map(int, sys.argv[2:])
    faulthandler.enable()
    warnings.simplefilter("ignore")
    for case in range(first, last):
        print(target, seed, case, case + 1, flush=True)
        if target in found:
            found[target]()
        else:
            targets[target](np.random.default_rng([seed, case]))
