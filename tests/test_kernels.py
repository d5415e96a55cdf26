"""One table for every kernel: the native functions against their NumPy twins, over cells, dtypes, threads, sizes."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman import LanguageModel, ModelConfig
from elman.cells import CELLS, Cell
from elman.errors import KernelError
from elman.kernels import available_kernels, open_kernel, reference
from elman.testing import check_cell

needs_native = pytest.mark.skipif(
    "native" not in available_kernels(), reason="the native kernel was not built here (no C++ compiler)"
)
# max|a - b| <= this times max|b|: some ten roundings of each dtype, at default-scale weights and T <= 40.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
SIZES = [(1, 1, 1), (3, 1, 5), (7, 3, 16), (5, 17, 33), (40, 4, 20), (6, 2, 100), (2, 9, 64), (2, 3, 130)]  # T, B, H


def close(ours, theirs):
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    # The floor: an array of very few entries may be the small difference of numbers of order 1 (0.004 was seen).
    assert np.abs(ours - theirs).max() <= TOLERANCE[str(theirs.dtype)] * max(0.05, np.abs(theirs).max())


def case(cell, T, B, H, dtype, seed=0):
    rng = np.random.default_rng(seed)
    bound = H**-0.5
    gates_x = rng.uniform(-2, 2, (T, B, cell.gates * H)).astype(dtype)
    W_hh = rng.uniform(-bound, bound, (cell.gates * H, H)).astype(dtype)
    b_hn = rng.uniform(-bound, bound, H).astype(dtype) if cell.hidden_bias else None
    state, d_state = (tuple(rng.uniform(-1, 1, (B, H)).astype(dtype) for _ in cell.states) for _ in "12")
    return gates_x, W_hh, b_hn, state, rng.standard_normal((T, B, H)).astype(dtype), d_state


def run(kernel, cell, gates_x, W_hh, b_hn, state, d_outputs, d_state):
    outputs, last, saved = kernel.recurrent_forward(cell, gates_x, W_hh, b_hn, state)
    d_gates_x, d_gates_h, d_first = kernel.recurrent_backward(cell, d_outputs, d_state, W_hh, saved)
    return [outputs, *last, d_gates_x, d_gates_h, *d_first]


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("T", "B", "H"), SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_the_loop_over_time(name, T, B, H, dtype, threads):
    arrays = case(CELLS[name], T, B, H, dtype)
    ours = run(open_kernel("native", threads), CELLS[name], *arrays)
    for our, their in zip(ours, run(reference, CELLS[name], *arrays), strict=True):
        close(our, their)


@needs_native
@given(
    st.sampled_from(list(CELLS)),
    st.integers(1, 9),
    st.integers(1, 17),
    st.integers(1, 70),
    st.sampled_from(["f4", "f8"]),
)
@settings(max_examples=100, deadline=None)
def test_the_loop_over_time_at_any_size(name, T, B, H, dtype):
    arrays = case(CELLS[name], T, B, H, dtype)
    for our, their in zip(
        run(open_kernel("native", 2), CELLS[name], *arrays), run(reference, CELLS[name], *arrays), strict=True
    ):
        close(our, their)


@needs_native
@pytest.mark.slow
@given(
    st.sampled_from(list(CELLS)),
    st.integers(1, 40),
    st.integers(1, 17),
    st.integers(1, 300),
    st.sampled_from(["f4", "f8"]),
)
@settings(max_examples=1000, deadline=None)
def test_the_loop_over_time_at_a_thousand_sizes(name, T, B, H, dtype):
    test_the_loop_over_time_at_any_size.hypothesis.inner_test(name, T, B, H, dtype)


@needs_native
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("N", "V"), [(1, 1), (2, 3), (17, 16), (300, 65), (5, 100), (64, 1000)])
def test_cross_entropy(N, V, dtype):
    rng = np.random.default_rng(N)
    logits, targets = (rng.standard_normal((N, V)) * 4).astype(dtype), rng.integers(-1, V, N)
    kernel = open_kernel("native", 2)
    losses, probabilities = kernel.cross_entropy_forward(logits, targets)
    expected = reference.cross_entropy_forward(logits, targets)
    np.testing.assert_allclose(losses, expected[0], rtol=0, atol=TOLERANCE[dtype])
    close(probabilities, expected[1])
    close(
        kernel.cross_entropy_backward(probabilities, targets, 0.3),
        reference.cross_entropy_backward(expected[1], targets, 0.3),
    )


@needs_native
def test_cross_entropy_of_extreme_logits():
    logits = np.array([[1e4, 0.0, -1e4], [-88.0, -500.0, 88.0]], np.float32)
    losses, probabilities = open_kernel("native").cross_entropy_forward(logits, np.array([0, 2]))
    np.testing.assert_allclose(losses, 0, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@needs_native
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("V", [1, 5, 100])
@pytest.mark.parametrize("C", [1, 7, 64, 130])
def test_rows(C, V, dtype):
    rng = np.random.default_rng(C)
    table = rng.standard_normal((V, C)).astype(dtype)
    kernel = open_kernel("native", 2)
    for shape in ((1, 1), (3, 2), (40, 5)):
        ids = rng.integers(0, V, shape)
        for layout in (table, np.asfortranarray(table)):
            np.testing.assert_array_equal(kernel.gather_rows(layout, ids), table[ids])
        d_rows = rng.standard_normal((*shape, C)).astype(dtype)
        close(kernel.scatter_add_rows(d_rows, ids, V), reference.scatter_add_rows(d_rows, ids, V))


@needs_native
def test_every_native_function_has_a_twin_with_the_same_signature():
    kernel = open_kernel("native")
    twins = {name for name, function in vars(reference).items() if inspect.isfunction(function)}
    assert twins == {name for name in dir(kernel) if callable(getattr(kernel, name)) and not name.startswith("_")}
    for name in twins:
        ours, theirs = inspect.signature(getattr(kernel, name)), inspect.signature(getattr(reference, name))
        assert list(ours.parameters) == list(theirs.parameters)


@needs_native
@pytest.mark.parametrize("name", CELLS)
def test_bytes_do_not_depend_on_threads_calls_before_or_memory_layout(name):
    arrays = case(CELLS[name], 6, 8, 48, "float32")
    first = [array.tobytes() for array in run(open_kernel("native", 1), CELLS[name], *arrays)]
    strided = tuple(
        np.repeat(array, 2, axis=-1)[..., ::2] if isinstance(array, np.ndarray) else array for array in arrays
    )
    run(open_kernel("native", 2), CELLS[name], *case(CELLS[name], 3, 5, 70, "float32", seed=1))
    for threads in (1, 2, 5):
        for inputs in (arrays, strided):
            again = run(open_kernel("native", threads), CELLS[name], *inputs)
            assert [array.tobytes() for array in again] == first


@needs_native
@pytest.mark.parametrize("name", CELLS)
def test_nan_is_not_lost(name):
    gates_x, W_hh, b_hn, state, *_ = case(CELLS[name], 3, 2, 20, "float32")
    gates_x[1, 1, 3] = np.nan
    outputs, last, _ = open_kernel("native").recurrent_forward(CELLS[name], gates_x, W_hh, b_hn, state)
    assert np.isfinite(outputs[0]).all() and np.isfinite(outputs[:, 0]).all()
    assert np.isnan(outputs[1, 1]).any() and np.isnan(last[0][1]).all()
    _, probabilities = open_kernel("native").cross_entropy_forward(np.array([[1, np.nan, 2]]), np.array([0]))
    assert np.isnan(probabilities).all()


@needs_native
def test_several_python_threads_compute_at_once():
    arrays = case(CELLS["lstm"], 20, 16, 64, "float32")
    kernel = open_kernel("native", 2)
    expected = [array.tobytes() for array in run(kernel, CELLS["lstm"], *arrays)]
    with ThreadPoolExecutor(4) as pool:
        for done in pool.map(lambda _: run(kernel, CELLS["lstm"], *arrays), range(40)):
            assert [array.tobytes() for array in done] == expected


@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_computes_with_threads_of_its_own():
    code = (
        "import os, sys; sys.path.insert(0, 'tests')\n"
        "from test_kernels import CELLS, case, open_kernel, run\n"
        "arrays = case(CELLS['lstm'], 20, 16, 64, 'float32'); kernel = open_kernel('native', 2)\n"
        "before = [a.tobytes() for a in run(kernel, CELLS['lstm'], *arrays)]\n"
        "child = os.fork()\n"
        "same = [a.tobytes() for a in run(kernel, CELLS['lstm'], *arrays)] == before\n"
        "if child == 0: os._exit(0 if same else 1)\n"
        "sys.exit(0 if same and os.waitpid(child, 0)[1] == 0 else 1)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0


@needs_native
def test_every_instruction_set_that_this_processor_has():
    from elman.kernels import _native

    for isa in _native.supported():
        environment = {**os.environ, "ELMAN_ISA": isa}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            __file__,
            "-k",
            "loop_over_time or entropy or rows or nan",
        ]
        if "ELMAN_ISA" not in os.environ:
            done = subprocess.run([*command, "-p", "no:cacheprovider"], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{isa}\n{done.stdout[-2000:]}"


@needs_native
def test_an_instruction_set_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setenv("ELMAN_ISA", "x86-64-v9")
    with pytest.raises(KernelError, match="x86-64-v9"):
        open_kernel("native")


@needs_native
def test_a_cell_of_ones_own_is_refused_by_name():
    lstm = CELLS["lstm"]
    own = Cell("own", lstm.gates, lstm.states, lambda *a: lstm.forward(*a), lstm.backward)
    with pytest.raises(KernelError, match=r"'own'.*numpy"):
        open_kernel("native").recurrent_forward(own, *case(own, 2, 2, 3, "float32")[:4])
    check_cell(own)


@pytest.mark.parametrize("name", CELLS)
def test_a_model_gives_the_same_numbers_with_every_kernel_here(name):
    config = ModelConfig(7, name, 20, 2, embedding_size=5, dropout=0.3, dtype="float64")
    inputs, targets = np.random.default_rng(0).integers(0, 7, (2, 6, 4))
    results = [
        LanguageModel(config, kernel=kernel).loss_and_gradients(inputs, targets, rng=np.random.default_rng(1))
        for kernel in available_kernels()
    ]
    for loss, gradients, _ in results:
        assert loss == pytest.approx(results[-1][0], rel=1e-12)
        for array, gradient in gradients.items():
            close(gradient, results[-1][1][array])
