"""Random wrong arguments for the native kernel: refused with nothing changed, or computed rightly; never a crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elman import LanguageModel, ModelConfig, SampleConfig, open_engine, optimizers
from elman.cells import CELLS
from elman.errors import InputError
from elman.kernels import bf16_lacks, open_kernel, reference
from spoiling import (
    SANITIZED,
    TOLERANCE,
    Memory,
    close,
    contents,
    fill,
    needs_native,
    pick,
    placed,
    random_config,
    run_cases,
    run_in_child,
    sizes,
    spoil,
    wrong_number,
)

REFUSED = (TypeError, ValueError, IndexError, OverflowError, MemoryError, AttributeError)
FUNCTIONS = ("recurrent_forward", "recurrent_backward", "product", "output", "gather_rows", "scatter_add_rows")


def native():
    from elman.kernels import _native

    return _native


# The functions of elman.kernels._native, one by one: fit arguments, which are written, and what they are to be after

WRITTEN = {
    "recurrent_forward": ("outputs", "gates", "c", "extra"),
    "recurrent_backward": ("d_h", "d_c", "d_gates_x", "d_gates_h"),
    "product": ("C",),
    "output": ("losses", "d_rows", "d_W_hy", "d_b_y"),
    "gather_rows": ("rows",),
    "scatter_add_rows": ("table",),
}
FREE_STRIDES = {("product", "A"), ("product", "B"), ("gather_rows", "table")}


def loop_arguments(rng, dtype):
    """Those of the forward, those of the backward but for what forward leaves, and what the reference makes of them."""
    cell = CELLS[pick(rng, list(CELLS))]
    T, B, H = sizes(rng, 3)
    H = int(H * rng.integers(1, 9))
    G = cell.gates
    gates_x, W_hh = fill(rng, (T, B, G * H), dtype), fill(rng, (G * H, H), dtype) / H
    b_hn = fill(rng, H, dtype) if cell.hidden_bias else None
    state, d_state = (tuple(fill(rng, (B, H), dtype) for _ in cell.states) for _ in "12")
    lengths = rng.integers(1, T, B, endpoint=True) if rng.random() < 0.5 else None
    d_outputs = fill(rng, (T, B, H), dtype)
    outputs, _, saved = reference.recurrent_forward(cell, gates_x, W_hh, b_hn, state, lengths)
    d_gates_x, d_gates_h, d_first = reference.recurrent_backward(cell, d_outputs, d_state, W_hh, saved)
    empty = lambda needed, *shape: np.full(shape, np.nan, dtype) if needed else None  # noqa: E731
    forward = {
        "cell": list(CELLS).index(cell.name),
        "gates_x": gates_x,
        "W_hh": W_hh,
        "b_hn": b_hn,
        "h_first": state[0],
        "c_first": state[1] if len(state) > 1 else None,
        "lengths": lengths,
        "outputs": empty(True, T, B, H),
        "gates": empty(G > 1, T, B, G * H),
        "c": empty(len(state) > 1, T, B, H),
        "extra": empty(G > 1, T, B, H),
        "threads": int(rng.integers(1, 4)),
    }
    backward = {
        "d_outputs": d_outputs,
        "d_h": d_state[0],
        "d_c": d_state[1] if len(state) > 1 else None,
        "d_gates_x": empty(True, T, B, G * H),
        "d_gates_h": empty(cell.hidden_bias, T, B, G * H),
    }
    after = {"d_h": d_first[0], "d_c": d_first[-1], "d_gates_x": d_gates_x, "d_gates_h": d_gates_h}
    return forward, backward, {"outputs": outputs}, after


def fit_arguments(name, rng, dtype):
    """Arguments of a native function, the range of the ids among them, and what it is to leave in them."""
    threads = int(rng.integers(1, 4))
    match name:
        case "recurrent_forward":
            forward, _, after, _ = loop_arguments(rng, dtype)
            return forward, {"lengths": (1, len(forward["outputs"]) + 1)}, after
        case "recurrent_backward":
            forward, backward, _, after = loop_arguments(rng, dtype)
            native().recurrent_forward(**forward)
            both = {n: v for n, v in forward.items() if n not in ("gates_x", "b_hn")} | backward
            return both, {"lengths": (1, len(forward["outputs"]) + 1)}, after
        case "product":
            M, N, K = (5 * n for n in sizes(rng, 3))
            A = np.asarray(fill(rng, (M, K), dtype), order=pick(rng, "CF"))
            B = np.asarray(fill(rng, (K, N), dtype), order=pick(rng, "CF"))
            return {"A": A, "B": B, "C": np.full((M, N), np.nan, dtype), "threads": threads}, {}, {"C": A @ B}
        case "output":
            N, V, H = sizes(rng, 3)
            W_hy, b_y, rows = fill(rng, (V, H), dtype), fill(rng, V, dtype), fill(rng, (N, H), dtype)
            targets = rng.integers(-1, V, N)
            after = dict(zip(WRITTEN[name], reference.output_gradients(W_hy, b_y, rows, targets, 0.5), strict=True))
            gradients = rng.random() < 0.7
            room = {n: np.full_like(a, np.nan) if gradients or n == "losses" else None for n, a in after.items()}
            given = {"W_hy": W_hy, "b_y": b_y, "rows": rows, "targets": targets, "scale": 0.5}
            return {**given, **room, "threads": threads}, {"targets": (-1, V)}, after
        case "gather_rows":
            V, C, N, B = sizes(rng, 4)
            table = np.asarray(fill(rng, (V, C), dtype), order=pick(rng, "CF"))
            ids = rng.integers(0, V, pick(rng, [(N,), (N, B), (N, 1, B)]))
            rows = np.full((*ids.shape, C), np.nan, dtype)
            return {"table": table, "ids": ids, "rows": rows, "threads": threads}, {"ids": (0, V)}, {"rows": table[ids]}
        case "scatter_add_rows":
            V, C, N = sizes(rng, 3)
            d_rows, ids = fill(rng, (N, C), dtype), rng.integers(0, V, N)
            after = reference.scatter_add_rows(d_rows, ids, V)
            given = {"d_rows": d_rows, "ids": ids, "table": np.zeros((V, C), dtype), "threads": threads}
            return given, {"ids": (0, V)}, {"table": after}
    raise AssertionError(name)


def overlapping(rng, given, written):
    """Another array of the arguments, or a part of its memory, for one that is written -> its name and the array."""
    array = given[written]
    others = [n for n, a in given.items() if n != written and isinstance(a, np.ndarray) and a.dtype.kind in "fi"]
    others = [n for n in others if given[n].nbytes >= array.nbytes and given[n].flags.forc]
    if not others:
        return None
    other = given[pick(rng, others)]
    if other.flags.f_contiguous:
        other = other.T
    flat = other.reshape(-1).view(np.uint8)
    start = int(rng.integers(0, flat.size - array.nbytes, endpoint=True)) // 8 * 8
    return flat[start : start + array.nbytes].view(array.dtype).reshape(array.shape)


def spoil_one(rng, name, which, given, ids):
    """Spoil one argument in place -> whether it is wrong now."""
    value = given[which]
    if value is None:
        if which == "lengths" or (name == "output" and which.startswith("d_")):
            return "right"
        given[which] = np.zeros(pick(rng, [(1,), (2, 3), (1, 1, 1)]), pick(rng, ["f4", "f8", "i8"]))
        return "wrong"
    if which == "scale":
        given[which], verdict = pick(rng, [("x", "wrong"), (None, "wrong"), (np.nan, "odd"), (1e308, "odd")])
        return verdict
    if which in ("threads", "cell"):
        given[which] = wrong_number(rng, 1 if which == "threads" else 0, 1024 if which == "threads" else 3)
        return "wrong"
    if which in WRITTEN[name] and rng.random() < 0.2:
        spoiled = overlapping(rng, given, which)
        if spoiled is not None:
            given[which] = spoiled
            return "wrong"
    given[which], verdict = spoil(
        rng, value, which in WRITTEN[name], ids.get(which), free_strides=(name, which) in FREE_STRIDES
    )
    if which == "lengths" and given[which] is None:
        return "odd"  # all streams have all steps
    if which == "d_rows" and name == "output" and given[which] is None and given["d_W_hy"] is None:
        return "odd"
    spoiled = given[which]
    if verdict == "wrong" and isinstance(spoiled, np.ndarray) and spoiled.dtype == value.dtype:
        if (name, which) == ("scatter_add_rows", "ids") and spoiled.shape != value.shape and spoiled.size == value.size:
            return "right"  # of any shape
        if which == "table" and len(spoiled) != len(value) and spoiled.shape[1:] == value.shape[1:]:
            return "odd"  # its length says only which ids there are
    if which == "B" and verdict == "right":
        return "right" if spoiled.itemsize in spoiled.strides else "wrong"  # rows or columns in one piece
    return verdict


def fuzz_functions(rng):
    """A native function with one or several wrong arguments, then with the right ones."""
    name, dtype = pick(rng, FUNCTIONS), pick(rng, list(TOLERANCE))
    fit, ids, after = fit_arguments(name, rng, dtype)
    memory = Memory()
    given = {n: v.copy("K") if (name, n) in FREE_STRIDES else placed(memory, v) for n, v in fit.items()}
    some = rng.permutation(list(given))[: 1 if rng.random() < 0.8 else 3]
    verdicts = [spoil_one(rng, name, str(which), given, ids) for which in some]
    before = contents(given.values())
    try:
        getattr(native(), name)(**given)
    except REFUSED:
        assert contents(given.values()) == before, "refused, and yet an array was changed"
        assert set(verdicts) != {"right"}, "refused without need"
    else:
        assert verdicts != ["wrong"], "wrong, and not refused"
        if set(verdicts) == {"right"}:
            for written, array in after.items():
                close(given[written], array, dtype)
    memory.check()
    getattr(native(), name)(**fit)
    for written, array in after.items():
        close(fit[written], array, dtype)


# The composed training step and generation


def spec_arguments(config):
    number = list(CELLS).index(config.cell)
    sizes = (config.vocab_size, config.embedding_size or 0, config.hidden_size, config.num_layers)
    return [number, *sizes, config.tie_weights]


def spoil_list(rng, arrays, spares):
    """Another list than this one of arrays in place -> whether it is wrong now."""
    at = int(rng.integers(len(arrays)))
    match pick(rng, ["shorter", "longer", "empty", "one spoiled", "one twice"]):
        case "shorter":
            del arrays[at]
        case "longer":
            arrays.insert(at, arrays[at].copy())
        case "empty":
            arrays.clear()
        case "one spoiled":
            arrays[at], verdict = spoil(rng, arrays[at], writable=True)
            return verdict
        case "one twice":
            like = [other for other in spares if other.shape == arrays[at].shape and other is not arrays[at]]
            if not like:
                return "right"
            arrays[at] = pick(rng, like)
    return "wrong"


def fuzz_trainer(rng):
    config = random_config(rng, dropout=pick(rng, [0.0, 0.4]))
    lm = LanguageModel(config, kernel="numpy")
    T, B = sizes(rng, 2)
    V, L, H = config.vocab_size, config.num_layers, config.hidden_size
    lstm = config.cell == "lstm"
    optimizer = int(rng.integers(5))
    with_bf16 = bf16_lacks() is None and config.dtype == "float32" and rng.random() < 0.5
    memory = Memory()
    masks = 1 if config.variational_dropout else T
    draws = np.random.default_rng(7)  # as the model draws: tokens first
    of_tokens = draws.random((T, B), np.float32) if config.embedding_dropout else None
    uniforms = draws.random((L, masks, B, H), np.float32) if config.dropout else None
    regularization = pick(rng, [0.0, 0.5])
    state = [fill(rng, (L, B, H), config.dtype) for _ in range(1 + lstm)]
    inputs, targets = rng.integers(0, V, (T, B)), rng.integers(-1, V, (T, B))

    def arguments():
        """Those of the constructor and those of step, all fresh."""
        arrays = list(lm.parameters.values())
        slots = [[np.zeros_like(a) for a in arrays], [np.zeros_like(a) for a in arrays] if optimizer > 2 else []]
        lists = [[a.copy() for a in arrays], [np.full_like(a, np.nan) for a in arrays], *slots]
        making = {"spec": native().Spec(*spec_arguments(config)), "parameters": lists[0], "gradients": lists[1]}
        making |= {"first_slots": lists[2], "second_slots": lists[3], "threads": int(rng.integers(1, 4))}
        making["bf16"] = with_bf16
        stepping = {"inputs": inputs, "targets": targets, "uniforms": uniforms, "dropout": config.dropout}
        stepping |= {"embedding_uniforms": of_tokens, "embedding_dropout": config.embedding_dropout}
        stepping |= {"h_first": state[0], "c_first": state[1] if lstm else None}
        stepping |= {"h_last": np.full_like(state[0], np.nan), "c_last": np.zeros_like(state[1]) if lstm else None}
        stepping |= {"mean": False, "activation_regularization": regularization}
        stepping |= {"optimizer": optimizer, "learning_rate": 0.1, "momentum": 0.0, "beta1": 0.9}
        stepping |= {"beta2": 0.99, "epsilon": 1e-8, "weight_decay": 0.0, "steps": 1, "clip_norm": 0.0}
        stepping |= {"clip_value": 0.0}
        return [{n: placed(memory, v) for n, v in given.items()} for given in (making, stepping)]

    kind = getattr(native(), f"Trainer{config.dtype.title()}")
    making, stepping = arguments()
    verdict = "right"
    if rng.random() < 0.3:
        name = pick(rng, ["parameters", "gradients", "first_slots", "second_slots", "threads", "bf16"])
        if name == "bf16":
            wrong = [None, "x", 2, *([True] if config.dtype == "float64" or bf16_lacks() else [])]
            making[name], verdict = pick(rng, wrong), "wrong"
        elif name == "threads":
            making[name], verdict = wrong_number(rng, 1, 1024), "wrong"
        elif making[name]:
            spares = [a for n in ("parameters", "gradients", "first_slots", "second_slots") for a in making[n]]
            verdict = spoil_list(rng, making[name], spares)
            if name == "second_slots" and not making[name]:
                verdict = "only the step is wrong"
    else:
        name = pick(rng, [n for n, v in stepping.items() if isinstance(v, np.ndarray) or n in ("dropout", "optimizer")])
        ids = {"inputs": (0, V), "targets": (-1, V)}.get(name)
        if name == "dropout":
            wrong = [None, "x", *([-0.1, 1.0, 2.0, np.nan, np.inf] if config.dropout else [])]
            stepping[name], verdict = pick(rng, wrong), "wrong"
        elif name == "optimizer":
            stepping[name], verdict = wrong_number(rng, 0, 4 if optimizer > 2 else 2), "wrong"
        elif name.endswith("_last") and rng.random() < 0.3:
            held = (*making["parameters"], *making["gradients"], stepping["h_first"])
            held = [a for a in held if a.size >= stepping[name].size]
            if held:
                part = pick(rng, held).reshape(-1)[: stepping[name].size]
                stepping[name], verdict = part.reshape(stepping[name].shape), "wrong"
        else:
            stepping[name], verdict = spoil(rng, stepping[name], name.endswith("_last"), ids)
            if name.endswith("uniforms") and stepping[name] is None:
                verdict = "odd"
    before = contents([*making.values(), *stepping.values()])
    try:
        trainer = kind(**making)
        assert verdict != "wrong" or name in stepping, "wrong, and not refused"
        trainer.step(**stepping)
    except REFUSED:
        assert contents([*making.values(), *stepping.values()]) == before, "refused, and yet an array was changed"
        assert verdict != "right", "refused without need"
    else:
        assert verdict in ("right", "odd"), "wrong, and not refused"
    memory.check()

    making, stepping = arguments()
    loss, _ = kind(**making).step(**stepping)
    if with_bf16:  # what it computes is compared in test_kernels.py
        assert np.isfinite(loss)
        memory.check()
        return
    drawn = np.random.default_rng(7) if config.drops else None
    given = (inputs, targets, tuple(state) if lstm else state[0], "sum", drawn, regularization)
    expected, gradients, last = lm.loss_and_gradients(*given)
    np.testing.assert_allclose(loss, expected, rtol=TOLERANCE[config.dtype], atol=TOLERANCE[config.dtype])
    close(stepping["h_last"], last[0] if lstm else last, config.dtype)
    for ours, name in zip(making["gradients"], lm.parameters, strict=True):
        close(ours, gradients[name], config.dtype)
    memory.check()


def fuzz_generator(rng):
    config = random_config(rng)
    lm = LanguageModel(config, kernel="numpy")
    V, L, H = config.vocab_size, config.num_layers, config.hidden_size
    lstm = config.cell == "lstm"
    memory = Memory()
    settings = SampleConfig(
        int(rng.integers(1, 9)), pick(rng, [0.0, 0.8, 3.0]), pick(rng, [0, 1, 5, 2**40]), pick(rng, [1.0, 0.5, 1e-9]), 3
    )
    forbidden = pick(rng, [None, int(rng.integers(V))]) if V > 1 else None
    state = [fill(rng, (L, 1, H), config.dtype) for _ in range(1 + lstm)]
    token = int(rng.integers(V))

    def arguments():
        making = {"spec": native().Spec(*spec_arguments(config)), "parameters": list(lm.parameters.values())}
        drawing = {"token": token, "h": state[0], "c": state[1] if lstm else None}
        drawing |= {"uniforms": np.random.default_rng(3).random(settings.length), "temperature": settings.temperature}
        drawing |= {"top_k": settings.top_k, "top_p": settings.top_p, "ids": np.full(settings.length, -7)}
        drawing |= {"forbidden": -1 if forbidden is None else forbidden}
        making["threads"] = int(rng.integers(1, 4))
        return [{n: placed(memory, v) for n, v in given.items()} for given in (making, drawing)]

    kind = getattr(native(), f"Generator{config.dtype.title()}")
    making, drawing = arguments()
    wrong_values = {
        "token": [-1, V, 2**31, 2**62, -(2**62), 2**70, None, 0.5],
        "temperature": [-0.1, np.nan, np.inf, -np.inf, None, "x"],
        "top_k": [-1, 2**70, None, 1.5],
        "top_p": [0.0, -0.5, 1.5, np.nan, np.inf, None],
        "forbidden": [-2, V, 2**31, 2**62, -(2**62), None],
        "uniforms": [1.0, -1e-9, np.nan, np.inf, 1e300],
    }
    if rng.random() < 0.05:
        making["threads"], verdict = wrong_number(rng, 1, 1024), "wrong"
    elif rng.random() < 0.3:
        name = "parameters"
        verdict = spoil_list(rng, making[name], making[name])
        if verdict == "wrong" and len(making[name]) == len(lm.parameters):
            pairs = zip(making[name], lm.parameters.values(), strict=True)
            if all(isinstance(a, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype for a, b in pairs):
                verdict = "odd"  # weights are only read, so that one may stand twice
        if verdict == "right" and any(not np.isfinite(a).all() for a in making[name]):
            verdict = "odd"
    else:
        name = pick(rng, [n for n, v in drawing.items() if v is not None])
        verdict = "wrong"
        if name in wrong_values and (name != "uniforms" or rng.random() < 0.5):
            value = pick(rng, wrong_values[name])
            if name == "uniforms":
                drawing[name][rng.integers(settings.length)] = value
            else:
                drawing[name] = value
        elif name in ("h", "c") and rng.random() < 0.2 and making["parameters"][-2].size >= H * L:
            drawing[name] = making["parameters"][-2].reshape(-1)[: L * H].reshape(L, 1, H)
        else:
            drawing[name], verdict = spoil(rng, drawing[name], writable=name != "uniforms")
            if name in ("h", "c") and verdict == "right" and not np.isfinite(drawing[name]).all():
                verdict = "odd"
            if name == "uniforms" and verdict == "odd":
                verdict = "odd" if (drawing[name] >= 0).all() and (drawing[name] < 1).all() else "wrong"
    before = contents([*making.values(), *drawing.values()])
    try:
        drawer = kind(**making)
        sound = drawer.draw(**drawing)
    except REFUSED:
        assert contents([*making.values(), *drawing.values()]) == before, "refused, and yet an array was changed"
        assert verdict != "right", "refused without need"
    else:
        assert verdict in ("right", "odd"), "wrong, and not refused"
        if sound:
            assert ((drawing["ids"] >= 0) & (drawing["ids"] < V)).all(), "drew what is no id"
    memory.check()

    making, drawing = arguments()
    assert kind(**making).draw(**drawing)
    expected = lm.generate(
        np.array([token]), settings, tuple(state) if lstm else state[0], np.random.default_rng(3), forbidden
    )
    if config.dtype == "float64":  # in float32 a rounding may tip a draw
        assert drawing["ids"].tolist() == list(expected)
    memory.check()


def fuzz_spec(rng):
    """Sizes of a model: those that no int of the kernel could count are refused before there is an array."""
    fit = spec_arguments(random_config(rng))
    which = int(rng.integers(5))
    least, most = ((0, 3), (1, 2**30), (0, 2**30), (1, 2**30), (1, 2**30))[which]
    wrong = list(fit)
    wrong[which] = wrong_number(rng, least, most)
    with pytest.raises(REFUSED):
        native().Spec(*wrong)
    tied = [fit[0], fit[1], fit[3] + 1, fit[3], fit[4], True]
    for one in (tied, [3, 5, 0, 2**29, 1, False], [0, 5, 0, 2**24, 2**10, False]):
        with pytest.raises(InputError):
            native().Spec(*one)
    with pytest.raises(REFUSED):
        native().fma_peak(wrong_number(rng, 1, 1024))
    with pytest.raises(InputError):
        native().use(pick(rng, ["", "x86-64-v9", "x86-64", "base ", "\0"]))
    native().Spec(*fit)


# NativeKernel: what is not refused is what the reference gives


def fuzz_kernel(rng):
    dtype, name = pick(rng, list(TOLERANCE)), pick(rng, FUNCTIONS)
    kernel = open_kernel("native", int(rng.integers(1, 4)))
    fit, ids, _ = fit_arguments(name, rng, dtype)
    match name:
        case "recurrent_forward" | "recurrent_backward":
            forward, backward, _, _ = loop_arguments(rng, dtype)
            cell = list(CELLS.values())[forward["cell"]]
            state = [forward[n] for n in ("h_first", "c_first") if forward[n] is not None]
            d_state = [backward[n] for n in ("d_h", "d_c") if backward[n] is not None]
            given = [forward["gates_x"], forward["W_hh"], forward["b_hn"], *state, forward["lengths"]]
            given += [backward["d_outputs"], *d_state]
            limits = [None] * (3 + len(state)) + [(1, len(forward["outputs"]) + 1)] + [None] * (1 + len(d_state))
            S = len(state)

            def call(kernel, gates_x, W_hh, b_hn, *rest):
                state, lengths, d_outputs, d_state = rest[:S], rest[S], rest[S + 1], rest[S + 2 :]
                outputs, last, saved = kernel.recurrent_forward(cell, gates_x, W_hh, b_hn, tuple(state), lengths)
                d = kernel.recurrent_backward(cell, d_outputs, tuple(d_state), W_hh, saved)
                return [outputs, *last, *d[:2], *d[2]]
        case "product":
            given, limits = [fit["A"], fit["B"]], [None, None]

            def call(kernel, A, B):
                return [kernel.product(A, B)]
        case "output":
            given = [fit[n] for n in ("W_hy", "b_y", "rows", "targets")]
            limits = [None, None, None, ids["targets"]]

            def call(kernel, *given):
                return [*kernel.output_gradients(*given, 0.5), kernel.output_losses(*given)]
        case "gather_rows":
            given, limits = [fit["table"], fit["ids"]], [None, ids["ids"]]

            def call(kernel, table, ids):
                return [kernel.gather_rows(table, ids)]
        case "scatter_add_rows":
            given, limits = [fit["d_rows"], fit["ids"]], [None, ids["ids"]]

            def call(kernel, d_rows, ids):
                return [kernel.scatter_add_rows(d_rows, ids, ids_end)]

            ids_end = ids["ids"][1]
    spoiled = list(given)
    at = pick(rng, [i for i, value in enumerate(given) if value is not None])
    spoiled[at], verdict = spoil(rng, given[at], ids=limits[at])
    before = contents(spoiled)
    try:
        with np.errstate(all="ignore"):
            ours = call(kernel, *spoiled)
    except REFUSED:
        sound = isinstance(spoiled[at], np.ndarray) and spoiled[at].dtype == given[at].dtype
        sound = sound and spoiled[at].flags.aligned and np.array_equal(spoiled[at], given[at])
        assert not sound, "refused without need"
    else:
        assert not limits[at] or spoiled[at] is None or spoiled[at].dtype.kind in "iu", "ids that are no whole numbers"
        if verdict != "odd" and isinstance(spoiled[at], np.ndarray) and spoiled[at].dtype == given[at].dtype:
            for our, their in zip(ours, call(reference, *spoiled), strict=True):
                close(our, their, dtype)
    assert contents(spoiled) == before, "an argument was changed"
    for our, their in zip(call(kernel, *given), call(reference, *given), strict=True):
        close(our, their, dtype)


TARGETS = {
    "functions": fuzz_functions,
    "trainer": fuzz_trainer,
    "generator": fuzz_generator,
    "spec": fuzz_spec,
    "kernel": fuzz_kernel,
}


@needs_native
@pytest.mark.parametrize("target", TARGETS)
def test_wrong_arguments_are_refused_and_right_ones_computed(target):
    run_in_child(__file__, target, 0, 0, 60 if SANITIZED else 200)


@needs_native
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_five_thousand_wrong_arguments(target):
    run_in_child(__file__, target, 1, 0, 5_000)


# What was found


def a_hundred_layers():
    """They needed more blocks of memory than there could be, and that was a MemoryError."""
    config, ids = ModelConfig(3, "lstm", 2, 100, dropout=0.1, dtype="float64"), np.ones((2, 3), int)
    engines = [
        open_engine(model=LanguageModel(config, kernel=kernel), optimizer=optimizers.SGD())
        for kernel in ("numpy", "native")
    ]
    np.testing.assert_allclose(*(engine.step(ids, ids) for engine in engines), rtol=1e-9)


def more_threads_than_processors():
    """Those without work spun beside those with some, and twenty small steps took a minute."""
    config = ModelConfig(65, "lstm", 128, 2)
    inputs, targets = np.random.default_rng(0).integers(0, 65, (2, 30, 40))
    results = []
    for threads in (1, 2, 100, 3, 200 if SANITIZED else 1000, 1):
        engine = open_engine(model=LanguageModel(config, kernel="native", threads=threads), optimizer=optimizers.Adam())
        losses = [engine.step(inputs, targets) for _ in range(2)]
        drawn = list(engine.model.generate([1], SampleConfig(20)))
        results.append((losses, drawn, contents(engine.model.parameters.values())))
    assert all(result == results[0] for result in results)


def memory_that_runs_out():
    """What a step had taken by then was not given back, so that later ones took ever more."""
    import resource

    engine = open_engine(
        model=LanguageModel(ModelConfig(3, "lstm", 64, 2), kernel="native"), optimizer=optimizers.SGD(1e-300)
    )
    ids, wide = np.ones((2, 3), int), np.zeros((1000, 2000), int)
    loss = engine.step(ids, ids)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 1_000_000_000, -1))
    sizes = []
    for _ in range(3):
        engine.state = None
        with pytest.raises(MemoryError):
            engine.step(wide, wide)
        assert engine.step(ids, ids) == loss
        sizes.append(engine._trainer.workspace_bytes)
    assert sizes == sizes[:1] * 3


def an_instruction_set_chosen_after_weights_were_packed():
    lm = LanguageModel(ModelConfig(30, "lstm", 70, 2, dtype="float64"), kernel="native")
    settings, state = SampleConfig(40), (np.zeros((2, 1, 70)),) * 2
    drawn = []
    for isa in native().supported():
        native().use(isa)
        generator = lm.kernel.generator(lm.config, lm.parameters)
        native().use(native().supported()[0])
        drawn.append(generator.draw(1, state, np.random.default_rng(0).random(40), settings, None)[0].tolist())
    assert drawn == drawn[:1] * len(drawn)


def a_function_called_before_an_instruction_set_is_chosen():
    C = np.zeros((2, 2))
    native().product(np.eye(2), np.eye(2), C, 1)
    assert (np.eye(2) == C).all()


def arrays_without_entries_or_with_too_many():
    """Shapes that fit each other, with a size that is 0, or one that no int holds beside others that are 0."""
    zeros = np.zeros
    for a, b in ((0, 3), (2**31, 0), (2**40, 0)):
        ids = zeros(b, int)
        calls = [
            ("product", zeros((a, b)), zeros((b, b)), zeros((a, b))),
            ("product", zeros((b, a)), zeros((a, b)), zeros((b, b))),
            ("product", zeros((b, b)), zeros((b, a)), zeros((b, a))),
            ("output", zeros((b, a)), zeros(b), zeros((b, a)), ids, 1.0, zeros(b), None, None, None),
            ("gather_rows", zeros((b, a)), ids, zeros((b, a))),
            ("scatter_add_rows", zeros((b, a)), ids, zeros((b, a))),
        ]
        for T, B, H in ((a, b, b), (b, a, b), *([(b, b, a)] if a == 0 else [])):
            gates, state, none = zeros((T, B, H)), zeros((B, H)), [None] * 3
            calls.append(
                ("recurrent_forward", 0, gates, zeros((H, H)), None, state, None, None, zeros((T, B, H)), *none)
            )
        for name, *given in calls:
            with pytest.raises(InputError, match=r"takes 1 to 2\^30"):
                getattr(native(), name)(*given, 1)


def more_layers_than_there_are_arrays():
    """The shapes of all of them were to be listed first."""
    spec = native().Spec(0, 1, 0, 1, 2**30, False)
    with pytest.raises(InputError, match="an array for each parameter"):
        native().TrainerFloat32(spec, [], [], [], [], 1)
    with pytest.raises(InputError, match="an array for each parameter"):
        native().GeneratorFloat32(spec, [], 1)


def a_result_that_lies_in_a_matrix_read_backwards():
    room = np.arange(32.0)
    backwards, C = room[16:].reshape(4, 4)[::-1], room[12:28].reshape(4, 4)
    for A, B in ((backwards, np.eye(4)), (np.eye(4), backwards)):
        with pytest.raises(InputError, match="shares memory"):
            native().product(A, B, C, 1)
    assert (room == np.arange(32)).all()


FOUND = {
    function.__name__: function
    for function in (
        a_hundred_layers,
        more_threads_than_processors,
        memory_that_runs_out,
        an_instruction_set_chosen_after_weights_were_packed,
        a_function_called_before_an_instruction_set_is_chosen,
        arrays_without_entries_or_with_too_many,
        more_layers_than_there_are_arrays,
        a_result_that_lies_in_a_matrix_read_backwards,
    )
}


@needs_native
@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(name):
    if name == memory_that_runs_out.__name__ and (SANITIZED or not Path("/proc/self/statm").exists()):
        pytest.skip("memory cannot be limited here")
    run_in_child(__file__, name, 0, 0, 1)


if __name__ == "__main__":
    run_cases(TARGETS, FOUND)
