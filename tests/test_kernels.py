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

from elman import LanguageModel, ModelConfig, SampleConfig, open_engine, optimizers
from elman.cells import CELLS, Cell
from elman.errors import InputError, KernelError, ModelFileError, NonFiniteError
from elman.kernels import available_kernels, bf16, bf16_lacks, open_kernel, reference
from elman.testing import check_cell

needs_native = pytest.mark.skipif(
    "native" not in available_kernels(), reason="the native kernel was not built here (no C++ compiler)"
)
needs_bf16 = pytest.mark.skipif(bf16_lacks() is not None, reason=f"no bf16 here: {bf16_lacks()}")
# max|a - b| <= this times max|b|: some ten roundings of each dtype, at default-scale weights and T <= 40.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
# In bf16 an operand whose last bits of float32 differ may round to the neighbour, 2^-8 away; few of those added up
# do, but what they lead to follows (1.3e-3 was seen; between bf16 and float32 it is 4e-3). A relu switches at 0, and
# one of 17 streams that switches is seen whole (2e-2).
BF16_TOLERANCE = {cell: 2**-8 if cell != "rnn-relu" else 2**-4 for cell in CELLS}
# T, B, H; the last shares hidden units among threads, not streams.
SIZES = [(1, 1, 1), (3, 1, 5), (7, 3, 16), (5, 17, 33), (40, 4, 20), (6, 2, 100), (2, 9, 64), (2, 3, 130), (3, 4, 300)]


def close(ours, theirs, tolerance=None):
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    tolerance = tolerance or TOLERANCE[str(theirs.dtype)]
    # The floor: an array of very few entries may be the small difference of numbers of order 1 (0.004 was seen).
    assert np.abs(ours - theirs).max() <= tolerance * max(0.05, np.abs(theirs).max())


def case(cell, T, B, H, dtype, seed=0):
    rng = np.random.default_rng(seed)
    bound = H**-0.5
    gates_x = rng.uniform(-2, 2, (T, B, cell.gates * H)).astype(dtype)
    W_hh = rng.uniform(-bound, bound, (cell.gates * H, H)).astype(dtype)
    b_hn = rng.uniform(-bound, bound, H).astype(dtype) if cell.hidden_bias else None
    state, d_state = (tuple(rng.uniform(-1, 1, (B, H)).astype(dtype) for _ in cell.states) for _ in "12")
    return gates_x, W_hh, b_hn, state, rng.standard_normal((T, B, H)).astype(dtype), d_state


def run(kernel, cell, gates_x, W_hh, b_hn, state, d_outputs, d_state, lengths=None):
    outputs, last, saved = kernel.recurrent_forward(cell, gates_x, W_hh, b_hn, state, lengths)
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
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("T", "B", "H"), SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_the_loop_over_time_with_lengths(name, T, B, H, threads):
    lengths = np.random.default_rng(1).integers(1, T, B, endpoint=True)
    arrays = (*case(CELLS[name], T, B, H, "float64"), lengths)
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


def check_product(M, N, K, dtype, threads):
    rng = np.random.default_rng(M)
    for A_order in "CF":
        for B_order in "CF":
            A = np.asarray(rng.standard_normal((M, K)).astype(dtype), order=A_order)
            B = np.asarray(rng.standard_normal((K, N)).astype(dtype), order=B_order)
            # Every rounding counts against the sum of what is added, which may be far larger than the result.
            scale = (np.abs(A).astype(float) @ np.abs(B).astype(float)).max()
            error = np.abs(open_kernel("native", threads).product(A, B) - A.astype(float) @ B.astype(float)).max()
            assert error <= 0.1 * TOLERANCE[dtype] * scale


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("M", "N", "K"),
    [
        *((1, 1, 1), (1, 100, 100), (2, 17, 3), (3, 129, 65), (6, 40, 257)),
        *((13, 16, 300), (30, 33, 1), (40, 600, 520), (500, 40, 600), (401, 5, 9)),
    ],
)
def test_product(M, N, K, dtype, threads):
    check_product(M, N, K, dtype, threads)


@needs_native
@given(st.integers(1, 40), st.integers(1, 140), st.integers(1, 70), st.sampled_from(list(TOLERANCE)))
@settings(max_examples=60, deadline=None)
def test_product_at_any_size(M, N, K, dtype):
    check_product(M, N, K, dtype, 2)


TIES = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-23, -1 - 2**-8]
SPECIAL = np.array([*TIES, 3.4e38, -3.4e38, 1e-39, np.inf, -np.inf, np.nan, 0, -0.0, 1, 2e-38, 2.0**-126], np.float32)


def test_rounding_to_bfloat16():
    expected = [1, 1 + 2**-6, 1 + 2**-7, -1, np.inf, -np.inf, 0, np.inf, -np.inf, np.nan]
    np.testing.assert_array_equal(bf16.rounded(SPECIAL)[:10], expected)
    powers = np.float32(2.0) ** np.arange(-50, 50, dtype=np.float32)
    x = np.random.default_rng(0).standard_normal((100, 100)).astype(np.float32) * powers
    rounded = bf16.rounded(x)
    assert not (rounded.view(np.uint32) & 0xFFFF).any()
    spacing = 2.0 ** (np.floor(np.log2(np.abs(x.astype(float)))) - 7)
    assert (np.abs(rounded.astype(float) - x) <= spacing / 2).all()


@needs_bf16
def test_native_rounding_to_bfloat16():
    from elman.kernels import _native

    for x in (SPECIAL, np.random.default_rng(0).standard_normal(10_000).astype(np.float32)):
        product = np.empty((len(x), 1), np.float32)
        _native.product_bf16(x[:, np.newaxis], np.ones((1, 1), np.float32), product, 1)
        np.testing.assert_array_equal(product[:, 0], bf16.rounded(x))


@needs_bf16
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("M", "N", "K"),
    [
        (1, 1, 1),
        (16, 32, 32),
        (17, 33, 65),
        (40, 600, 520),
        (500, 40, 600),
        (401, 5, 9),
        (33, 100, 1000),
        (20, 300, 4000),
    ],
)
def test_product_in_bf16(M, N, K, threads):
    """Each entry as the rounded operands' product: what is left are the roundings of float32's sums."""
    from elman.kernels import _native

    rng = np.random.default_rng(M)
    for orders in ("CC", "CF", "FC", "FF"):
        A, B = (
            np.asarray(rng.standard_normal(shape).astype(np.float32), order=order)
            for shape, order in zip(((M, K), (K, N)), orders, strict=True)
        )
        C = np.full((M, N), np.nan, np.float32)
        _native.product_bf16(A, B, C, threads)
        exact = bf16.rounded(A).astype(float) @ bf16.rounded(B).astype(float)
        scale = (np.abs(A).astype(float) @ np.abs(B).astype(float)).max()
        assert np.abs(C - exact).max() <= 1e-6 * scale
        np.testing.assert_allclose(bf16.product(A, B), exact, rtol=0, atol=1e-6 * scale)


@needs_native
def test_product_in_bf16_of_wrong_arrays():
    from elman.kernels import _native

    A, B, C = (np.zeros(shape, np.float32) for shape in ((3, 4), (4, 5), (3, 5)))
    for wrong in ((A[:, :3], B, C), (A, B, C.T.copy()), (np.zeros((6, 8), np.float32)[::2, ::2], B, C), (A, B, A)):
        with pytest.raises(InputError, match=r"must have the shape|needs rows or columns of A and B"):
            _native.product_bf16(*wrong, 1)


@needs_native
def test_product_of_views_with_gaps():
    A, B = np.random.default_rng(0).standard_normal((2, 40, 60))
    close(open_kernel("native").product(A[::2, 3:33:3], B[5:15, ::4]), A[::2, 3:33:3] @ B[5:15, ::4])


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("N", "V", "H"), [(1, 1, 1), (2, 3, 5), (17, 16, 33), (300, 65, 20), (5, 100, 64), (70, 1000, 7), (90, 60_000, 3)]
)
def test_output_layer(N, V, H, dtype, threads):  # the last goes over its rows in two groups
    rng = np.random.default_rng(N)
    W_hy, b_y = rng.uniform(-1, 1, (V, H)).astype(dtype), rng.uniform(-1, 1, V).astype(dtype)
    rows, targets = rng.uniform(-1, 1, (N, H)).astype(dtype), rng.integers(-1, V, N)
    kernel = open_kernel("native", threads)
    losses, *gradients = kernel.output_gradients(W_hy, b_y, rows, targets, 0.3)
    expected, *expected_gradients = reference.output_gradients(W_hy, b_y, rows, targets, 0.3)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=TOLERANCE[dtype])
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        close(ours, theirs)
    np.testing.assert_allclose(kernel.output_losses(W_hy, b_y, rows, targets), losses, rtol=0, atol=TOLERANCE[dtype])
    close(reference.output_losses(W_hy, b_y, rows, targets), expected)


@needs_native
def test_output_layer_of_extreme_logits():
    W_hy, rows = np.diag([1e4, 1.0, 1.0]).astype(np.float32), np.array([[1, 0, -1], [-1, -500, 88]], np.float32)
    for kernel in (open_kernel("native"), reference):
        losses, d_rows, _, d_b_y = kernel.output_gradients(W_hy, np.zeros(3, np.float32), rows, np.array([0, 2]), 1.0)
        np.testing.assert_allclose(losses, 0, atol=1e-6)
        np.testing.assert_allclose(d_rows, 0, atol=1e-2)  # a probability's last bit times 1e4
        np.testing.assert_allclose(d_b_y, 0, atol=1e-6)


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


def window(config, T, B, seed):
    rng = np.random.default_rng(seed)
    inputs, targets = rng.integers(0, config.vocab_size, (2, T, B))
    targets[rng.random((T, B)) < 0.1] = -1
    return inputs, targets


def check_composed_step(config, T, B, threads, reduction="mean", precision="float32"):
    """Loss, gradients, norm and state of one native call against LanguageModel on the reference kernel."""
    lm = LanguageModel(config, kernel="numpy")
    tolerance = TOLERANCE[config.dtype]
    if precision == "bf16":
        lm.kernel, tolerance = bf16, BF16_TOLERANCE[config.cell]
    inputs, targets = window(config, T, B, T)
    shape = (config.num_layers, B, config.hidden_size)
    state = tuple(np.random.default_rng(2).uniform(-1, 1, shape).astype(config.dtype) for _ in lm.cell.states)
    optimizer = optimizers.SGD(0.1)
    parameters = {n: p.copy() for n, p in lm.parameters.items()}
    trainer = open_kernel("native", threads).trainer(config, parameters, optimizer, precision)
    rngs = [np.random.default_rng(1) if config.dropout else None for _ in "12"]
    regularization = 0.5 if config.num_layers > 1 else 0.0
    loss, norm, last = trainer.step(inputs, targets, state, reduction, regularization, 0.1, None, None, rngs[0])
    expected, gradients, expected_last = lm.loss_and_gradients(
        inputs, targets, state if len(state) > 1 else state[0], reduction, rngs[1], regularization
    )
    assert loss == pytest.approx(expected, rel=tolerance)
    assert norm == pytest.approx(optimizers.global_norm(gradients), rel=10 * tolerance)
    for ours, theirs in zip(last, expected_last if len(last) > 1 else (expected_last,), strict=True):
        close(ours, theirs, tolerance)
    # The floors: gradients of a mean loss are of order 0.01, and some of them small differences of that.
    for name, gradient in gradients.items():
        error = np.abs(trainer.gradients[name] - gradient).max()
        assert error <= tolerance * max(1e-2 if reduction == "mean" else 1, np.abs(gradient).max()), name


INPUTS = {"one-hot": {}, "embedding": {"embedding_size": 5}, "tied": {"embedding_size": 0, "tie_weights": True}}


def model_config(V, cell, H, L, dtype="float64", inputs="one-hot", dropout=0.0):
    options = dict(INPUTS[inputs])
    if inputs == "tied":
        options["embedding_size"] = H
    return ModelConfig(V, cell, H, L, dtype=dtype, dropout=dropout, **options)


@needs_native
@pytest.mark.parametrize(("dtype", "threads"), [("float32", 1), ("float32", 3), ("float64", 3)])
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("name", CELLS)
def test_composed_step(name, dropout, inputs, dtype, threads):
    sizes = (1, 1, 2, 1, 1), (3, 17, 100, 33, 2), (40, 4, 7, 20, 1), (5, 3, 30, 100, 3), (3, 4, 9, 300, 2)
    for T, B, V, H, L in sizes:
        check_composed_step(
            model_config(V, name, H, L, dtype, inputs, dropout), T, B, threads, "sum" if L > 1 else "mean"
        )


BF16_SIZES = [  # streams in 1 to 5 tiles, whole and not; shared among threads by units and by streams
    *((1, 1, 2, 1, 1), (3, 17, 100, 33, 2), (40, 4, 7, 20, 1)),
    *((5, 3, 30, 100, 3), (4, 70, 20, 96, 2), (9, 40, 65, 300, 1)),
]


@needs_bf16
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("name", CELLS)
def test_composed_step_in_bf16(name, inputs, threads):
    for T, B, V, H, L in BF16_SIZES:
        config = model_config(V, name, H, L, "float32", inputs, 0.4)
        check_composed_step(config, T, B, threads, "sum", "bf16")


composed_sizes = given(
    st.sampled_from(list(CELLS)),
    st.sampled_from(list(INPUTS)),
    st.integers(1, 12),
    st.integers(1, 17),
    st.integers(1, 100),
    st.integers(1, 70),
    st.integers(1, 3),
    st.sampled_from(list(TOLERANCE)),
)


@needs_native
@composed_sizes
@settings(max_examples=60, deadline=None)
def test_composed_step_at_any_size(name, inputs, T, B, V, H, L, dtype):
    check_composed_step(model_config(V, name, H, L, dtype, inputs), T, B, 2)


@needs_bf16
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("name", CELLS)
def test_every_product_of_the_composed_step_rounds_its_operands(name, inputs):
    """A product that did not would leave its gradient as far from the reference as float32 is."""
    config = model_config(40, name, 64, 2, "float32", inputs)
    lm = LanguageModel(config, kernel="numpy")
    given = window(config, 6, 20, 0)
    _, in_float32, _ = lm.loss_and_gradients(*given)
    lm.kernel = bf16
    _, expected, _ = lm.loss_and_gradients(*given)
    trainer = open_kernel("native").trainer(config, lm.parameters, optimizers.SGD(0.1), "bf16")
    state = tuple(np.zeros((2, 20, 64), np.float32) for _ in lm.cell.states)
    trainer.step(*given, state, "mean", 0.0, 0.1, None, None, None)
    for array in expected:
        error, rounding = (np.linalg.norm(g[array] - expected[array]) for g in (trainer.gradients, in_float32))
        assert error < 0.3 * rounding, array


@needs_bf16
@composed_sizes
@settings(max_examples=60, deadline=None)
def test_composed_step_in_bf16_at_any_size(name, inputs, T, B, V, H, L, dtype):
    check_composed_step(model_config(V, name, H, L, "float32", inputs), T, B, 2, "sum", "bf16")


@needs_native
@pytest.mark.slow
@composed_sizes
@settings(max_examples=1000, deadline=None)
def test_composed_step_at_a_thousand_sizes(name, inputs, T, B, V, H, L, dtype):
    check_composed_step(model_config(V, name, H, L, dtype, inputs), T, B, 2)


@needs_native
@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 0.2}, {"clip_value": 0.01}], ids=["none", "norm", "value"])
@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("name", CELLS)
def test_composed_steps_over_50_windows(name, optimizer, clipping):
    config = model_config(11, name, 19, 2, inputs="embedding", dropout=0.2)
    runs = []
    for kernel in ("numpy", "native"):
        lm = LanguageModel(config, kernel=kernel, threads=2)
        settings = {"momentum": 0.9} if optimizer == "sgd" else {"weight_decay": 0.1} if optimizer == "adamw" else {}
        opt = optimizers.OPTIMIZERS[optimizer](learning_rate=3e-3, **settings)
        engine = open_engine(model=lm, optimizer=opt, seed=1, **clipping)
        losses = [engine.step(*window(config, 6, 5, step), reset=[step % 7 == 0] * 5) for step in range(50)]
        slots = {f"{slot} {n}": array for slot, arrays in opt.slots.items() for n, array in arrays.items()}
        runs.append((losses, engine.gradient_norm, lm.parameters, slots, engine.state, opt.steps))
    (losses, norm, parameters, slots, state, steps), native = runs[0], runs[1]
    np.testing.assert_allclose(native[0], losses, rtol=1e-11)  # 50 steps multiply the roundings of one
    assert native[1] == pytest.approx(norm, rel=1e-9)
    for ours, theirs in ((native[2], parameters), (native[3], slots)):
        for array in theirs:
            assert np.abs(ours[array] - theirs[array]).max() <= 1e-10 * max(0.01, np.abs(theirs[array]).max()), array
    np.testing.assert_allclose(np.array(native[4]), np.array(state), atol=1e-10)
    assert native[5] == steps == 50


@needs_native
@pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=needs_bf16)])
@pytest.mark.parametrize("name", CELLS)
def test_composed_step_bytes_do_not_depend_on_threads_or_what_was_computed_before(name, precision):
    config = model_config(65, name, 96, 2, "float32", dropout=0.1)
    results = []
    for threads, first in ((1, None), (2, None), (2, (3, 40)), (3, (12, 2))):
        lm = LanguageModel(config, kernel="native", threads=threads)
        options = {"clip_norm": 1.0, "seed": 5, "precision": precision}
        engine = open_engine(model=lm, optimizer=optimizers.Adam(), **options)
        if first:  # another window shape leaves other numbers in the workspace
            kept = {n: p.copy() for n, p in lm.parameters.items()}
            engine.step(*window(config, *first, 0), learning_rate=0)
            engine = open_engine(model=lm, optimizer=optimizers.Adam(), **options)
            for n, p in kept.items():
                lm.parameters[n][...] = p
        losses = [engine.step(*window(config, 10, 30, step)) for step in range(3)]
        results.append((losses, [array.tobytes() for array in lm.parameters.values()]))
    assert all(result == results[0] for result in results)


@needs_native
def test_composed_step_allocates_nothing_after_the_first():
    config = model_config(65, "lstm", 64, 2, "float32", dropout=0.1)
    engine = open_engine(model=LanguageModel(config, kernel="native"), optimizer=optimizers.Adam(), clip_norm=1.0)
    sizes = []
    for step in range(4):
        engine.step(*window(config, 12, 20, step))
        sizes.append(engine._trainer.workspace_bytes)
    assert len(set(sizes)) == 1 and sizes[0] > 0


@needs_native
def test_a_replaced_parameter_is_the_one_that_is_trained():
    config = model_config(5, "gru", 4, 1)
    lm = LanguageModel(config, kernel="native")
    engine = open_engine(model=lm, optimizer=optimizers.SGD(0.1))
    engine.step(*window(config, 3, 2, 0))
    replaced = np.asfortranarray(lm.parameters["output.W_hy"] + 1)
    lm.parameters["output.W_hy"] = replaced
    engine.optimizer.slots["velocity"]["output.b_y"] = np.full(5, 1e3)
    before = lm.parameters["output.b_y"].copy()
    engine.step(*window(config, 3, 2, 1))
    assert 0 < np.abs(lm.parameters["output.W_hy"] - replaced).max() < 1
    np.testing.assert_allclose(lm.parameters["output.b_y"], before, atol=1)  # momentum 0 forgets the velocity
    lm.parameters["output.W_hy"] = np.zeros((5, 9))
    with pytest.raises(ModelFileError, match=r"output\.W_hy is float64 \(5, 9\)"):
        engine.step(*window(config, 3, 2, 2))


@needs_native
def test_an_optimizer_of_ones_own_is_used():
    class Sign(optimizers.SGD):
        def _update(self, w, g, lr, *slots):
            w -= lr * np.sign(g)

    lm = LanguageModel(model_config(5, "rnn", 4, 1), kernel="native")
    before = lm.parameters["output.b_y"].copy()
    open_engine(model=lm, optimizer=Sign(0.5)).step(*window(lm.config, 3, 2, 0))
    np.testing.assert_allclose(np.abs(lm.parameters["output.b_y"] - before), 0.5)


@needs_native
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("name", CELLS)
def test_composed_generation_draws_what_the_layers_and_the_sampler_draw(name, inputs):
    config = model_config(40, name, 37, 2, inputs=inputs)
    models = [LanguageModel(config, seed=3, kernel=kernel) for kernel in ("numpy", "native")]
    for lm in models:
        lm.parameters["output.b_y"][:] = np.random.default_rng(0).standard_normal(40)
    state = np.random.default_rng(1).uniform(-1, 1, (2, 1, 37))
    state = (state, state[::-1]) if name == "lstm" else state
    for top_k, top_p, temperature in ((0, 1.0, 1.0), (5, 1.0, 0.7), (0, 0.6, 1.3), (7, 0.5, 2.0), (99, 0.99, 1.0)):
        settings = SampleConfig(150, temperature, top_k, top_p, seed=top_k)
        for prompt, forbidden in (([1], None), ([3, 0, 39], 12)):
            texts = [list(lm.generate(np.array(prompt), settings, state, forbidden=forbidden)) for lm in models]
            assert texts[0] == texts[1] and len(texts[0]) == 150 and forbidden not in texts[0]
    greedy = [list(lm.generate(np.array([1]), SampleConfig(50, 0.0))) for lm in models]
    assert greedy[0] == greedy[1]
    models[1].parameters["output.b_y"][7] = np.nan
    with pytest.raises(NonFiniteError, match="logits are not numbers"):
        list(models[1].generate(np.array([1]), SampleConfig(5)))


@needs_native
def test_composed_generation_changes_neither_model_nor_state():
    lm = LanguageModel(model_config(9, "lstm", 8, 1), kernel="native")
    state = tuple(np.ones((1, 1, 8)) for _ in "hc")
    before = [array.tobytes() for array in (*lm.parameters.values(), *state)]
    list(lm.generate(np.array([1, 2]), SampleConfig(20), state))
    assert [array.tobytes() for array in (*lm.parameters.values(), *state)] == before


@needs_native
def test_every_native_function_has_a_twin_with_the_same_signature():
    kernel = open_kernel("native")
    twins = {name for name, function in vars(reference).items() if inspect.isfunction(function) and name[0] != "_"}
    composed = {"trainer", "knows_optimizer", "generator"}  # checked above against their oracles
    assert twins | composed == {name for name in dir(kernel) if callable(getattr(kernel, name)) and name[0] != "_"}
    for name in twins:
        theirs = inspect.signature(getattr(reference, name))
        for other in (kernel, bf16):
            assert list(inspect.signature(getattr(other, name)).parameters) == list(theirs.parameters)


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
    for broken in range(3):
        b_y = np.zeros(3)
        b_y[broken] = np.nan
        losses, d_rows, *_ = open_kernel("native").output_gradients(
            np.ones((3, 2)), b_y, np.ones((1, 2)), np.array([0]), 1
        )
        assert np.isnan(losses).all() and np.isnan(d_rows).all()


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
@pytest.mark.parametrize(
    "tests",
    [
        "loop_over_time or output or product or rows or nan",
        pytest.param("composed", marks=pytest.mark.slow),  # of the functions that the others test
    ],
)
def test_every_instruction_set_that_this_processor_has(tests):
    from elman.kernels import _native

    for isa in _native.supported()[1:]:  # the first one is that of all tests here
        environment = {**os.environ, "ELMAN_ISA": isa}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-n0",
            __file__,
            "-k",
            tests,
        ]
        if "ELMAN_ISA" not in os.environ:
            done = subprocess.run([*command, "-p", "no:cacheprovider"], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{isa}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@needs_native
def test_an_instruction_set_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setenv("ELMAN_ISA", "x86-64-v9")
    with pytest.raises(KernelError, match="x86-64-v9"):
        open_kernel("native")


@needs_native
def test_a_cell_of_ones_own_is_refused_by_name():
    lstm = CELLS["lstm"]
    own = Cell("own", lstm.gate_names, lstm.states, lambda *a: lstm.forward(*a), lstm.backward)
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
