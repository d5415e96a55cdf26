"""Speed on this machine: elman's training step and generation, PyTorch's beside them, and the machine's own limit.

A :class:`Case` is what is computed, a :class:`Contender` somebody who computes it. All contenders of a case start from
the same weights and read the same ids, and are timed in turn, block after block, only after :func:`check_agreement` has
seen that they compute the same thing.
"""

# mypy: disable-error-code="import-not-found"
# PyTorch may be absent.

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from typing import Any, Literal

import numpy as np

import elman
from elman.cells import CELLS
from elman.config import CellName, ModelConfig, SampleConfig
from elman.engines import open_engine
from elman.errors import ElmanError, InputError, did_you_mean
from elman.kernels import available_kernels, open_kernel, processors
from elman.models import LanguageModel
from elman.optimizers import Adam
from elman.workflows.info import blas_libraries

Record = dict[str, Any]

LEARNING_RATE = 2e-3  # Adam's, with PyTorch's betas and epsilon
CLIP_NORM = 1.0
TOLERANCE = 1e-4  # relative, between what two contenders compute
_WINDOWS = 8  # of random ids, read one after the other and then again
_CHECKED_STEPS = 3
_CHECKED_TOKENS = 12
_BLOCK = 0.2  # seconds of one block at most
_TRIAL = 0.05  # seconds for a setting of PyTorch, or one step
_LEAST_ROUNDS = 3
_PEAKS = 5
_PAUSE = 0.3  # seconds after a block of PyTorch: its threads spin on for a while, and would slow down who comes next


@dataclass(frozen=True)
class Case:
    """What is measured: a language model, and T·B tokens a step.

    ``task`` "training": the whole step on a window (T, B): forward, backward, clipping of the global norm to 1, Adam,
    state carried. "generation": T tokens drawn one by one from an LSTM, B 1. ``embedding_size`` None: one-hot input.
    """

    name: str
    cell: CellName
    hidden_size: int
    num_layers: int
    seq_length: int
    batch_size: int
    vocab_size: int = 65
    embedding_size: int | None = None
    task: Literal["training", "generation"] = "training"

    @property
    def config(self) -> ModelConfig:
        """The model."""
        return ModelConfig(self.vocab_size, self.cell, self.hidden_size, self.num_layers, self.embedding_size)

    @property
    def tokens(self) -> int:
        """How many tokens a step has."""
        return self.seq_length * self.batch_size

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products of a step, 2 a weight and token, and 3 times that to train.

        One-hot input is a row gather and costs none. Products alone are counted, so that a share of the peak is never
        flattered.
        """
        H, G = self.hidden_size, CELLS[self.cell].gates
        first = G * H * ((self.embedding_size or 0) + H)
        weights = first + (self.num_layers - 1) * 2 * G * H * H + H * self.vocab_size
        return (6 if self.task == "training" else 2) * self.tokens * weights

    def windows(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Inputs and targets (T, B) of successive steps: random ids, the same in every call."""
        T = self.seq_length
        ids = np.random.default_rng(0).integers(0, self.vocab_size, (_WINDOWS * T + 1, self.batch_size))
        return [(ids[i : i + T], ids[i + 1 : i + T + 1]) for i in range(0, _WINDOWS * T, T)]


CASES = (
    Case("rnn-100", "rnn", 100, 1, 25, 1),
    Case("lstm-100", "lstm", 100, 1, 25, 1),
    Case("rnn-2x128", "rnn", 128, 2, 50, 50),
    Case("lstm-2x128", "lstm", 128, 2, 50, 50),
    Case("gru-2x128", "gru", 128, 2, 50, 50),
    Case("rnn-512", "rnn", 512, 1, 128, 64),
    Case("lstm-512", "lstm", 512, 1, 128, 64),
    Case("gru-512", "gru", 512, 1, 128, 64),
    Case("lstm-200-words", "lstm", 200, 1, 35, 32, 20_000, 200),
    Case("generate-2x128", "lstm", 128, 2, 300, 1, task="generation"),
    Case("generate-512", "lstm", 512, 1, 300, 1, task="generation"),
)


def find_cases(names: Sequence[str]) -> list[Case]:
    """The cases of these names; all, where none is given. Raises InputError for another name."""
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            raise InputError(f"no case {name!r}; there are {', '.join(known)}.{did_you_mean(name, list(known))}")
    return [known[name] for name in names] or list(CASES)


@dataclass(frozen=True)
class Contender:
    """Somebody who computes a case.

    ``check`` comes first, once. It warms up, and returns figures that must be the same for all contenders: the losses
    of the first steps, or the nats of given tokens. ``step`` is what is timed. ``pause`` is how many seconds to rest
    after a block.
    """

    name: str
    check: Callable[[], list[float]]
    step: Callable[[], object]
    pause: float = 0.0


def bench(
    cases: Sequence[Case] = CASES,
    kernel: str = "auto",
    threads: int | None = None,
    seconds: float = 4.0,
    torch: bool = True,
) -> Iterator[Record]:
    """Measure the cases one after the other, for about ``seconds`` each: a record "start", one "case" each, "end".

    "start": versions, kernel, threads, ``blas``, and ``peak_flops`` of :func:`measure_peak`. "case": the sizes, medians
    ``seconds_per_step`` and ``tokens_per_second``, ``share_of_peak``, and where PyTorch is installed and ``torch`` is
    true, its fastest setting, its speed and the ``ratio`` of the two (above 1: elman is faster) with the least and the
    most of a round; else None.

    PyTorch's number of threads and its oneDNN switch are left as the last measurement had them. Raises InputError or
    KernelError for what cannot be used, ElmanError where PyTorch computes something else.
    """
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds must be a number above 0, not {seconds:g}")
    opened = open_kernel(kernel, threads)
    threads = threads or processors()
    torch = torch and find_spec("torch") is not None
    began = time.perf_counter()
    peak = measure_peak(threads)
    yield {
        "event": "start",
        "elman": elman.__version__,
        "numpy": np.__version__,
        "torch": _torch_version() if torch else None,
        "kernel": opened.NAME,
        "threads": threads,
        "blas": blas_libraries(),
        "peak_flops": peak,
        "cases": [case.name for case in cases],
    }
    for case in cases:
        yield _measure_case(case, opened.NAME, threads, seconds, peak, torch)
    yield {"event": "end", "seconds": time.perf_counter() - began}


def measure_peak(threads: int) -> float | None:
    """Floating-point operations a second that FMA loops reach in registers on so many threads at once.

    The best of five times, as whatever else runs here only takes from it. None where the native kernel, which has the
    loops, is not built.
    """
    if "native" not in available_kernels():
        return None
    from elman.kernels.native import fma_peak

    return max(fma_peak(threads) for _ in range(_PEAKS))


def _measure_case(case: Case, kernel: str, threads: int, seconds: float, peak: float | None, torch: bool) -> Record:
    deadline = time.perf_counter() + seconds
    contenders = [open_elman(case, kernel, threads)]
    figures = contenders[0].check()
    if torch:
        contenders.append(fastest(case, torch_settings(case, threads), figures, seconds / 2))
    rounds = []
    left = max(0.0, deadline - time.perf_counter())
    for times in time_in_turn(contenders, min(_BLOCK, left / (2 * _LEAST_ROUNDS * len(contenders)))):
        rounds.append(times)
        if len(rounds) >= _LEAST_ROUNDS and time.perf_counter() >= deadline:
            break
    ours, *others = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratios = [times[-1] / times[0] for times in rounds]
    return {
        "event": "case",
        "case": case.name,
        "task": case.task,
        "cell": case.cell,
        "hidden_size": case.hidden_size,
        "num_layers": case.num_layers,
        "seq_length": case.seq_length,
        "batch_size": case.batch_size,
        "vocab_size": case.vocab_size,
        "embedding_size": case.embedding_size,
        "flops": case.flops,
        "rounds": len(rounds),
        "seconds_per_step": ours,
        "tokens_per_second": case.tokens / ours,
        "share_of_peak": case.flops / ours / peak if peak else None,
        "torch_setting": contenders[1].name if torch else None,
        "torch_tokens_per_second": case.tokens / others[0] if torch else None,
        "ratio": others[0] / ours if torch else None,
        "ratio_least": min(ratios) if torch else None,
        "ratio_most": max(ratios) if torch else None,
    }


def time_in_turn(contenders: Sequence[Contender], block: float = _BLOCK) -> Iterator[list[float]]:
    """Round after round without end, a block of steps of each contender in turn: yields seconds a step, one for each.

    A block takes about ``block`` seconds, and is at least one step.
    """
    lengths = []
    for contender in contenders:
        lengths.append(max(1, round(block / _time_block(contender, 1))))
        time.sleep(contender.pause)
    while True:
        times = []
        for contender, length in zip(contenders, lengths, strict=True):
            times.append(_time_block(contender, length))
            time.sleep(contender.pause)
        yield times


def _time_block(contender: Contender, steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        contender.step()
    return (time.perf_counter() - began) / steps


def check_agreement(case: Case, figures: list[float], contender: Contender) -> None:
    """Raise ElmanError where a contender's figures are not these: it computes something else, and its time is void."""
    theirs = contender.check()
    if not np.allclose(figures, theirs, rtol=TOLERANCE, atol=0):
        first, second = (", ".join(f"{figure:.6f}" for figure in each) for each in (figures, theirs))
        raise ElmanError(f"{case.name}: {contender.name} computes {second}, not {first} from the same weights and ids")


def fastest(
    case: Case, settings: dict[str, Callable[[], Contender]], figures: list[float], seconds: float
) -> Contender:
    """The setting whose step is the fastest in a short trial. Each is checked against ``figures``, elman's.

    Once ``seconds`` have passed, no further setting is tried; the likelier ones come first.
    """
    best, least = None, math.inf
    end = time.perf_counter() + seconds
    for open_contender in settings.values():
        if best is not None and time.perf_counter() > end:
            break
        contender = open_contender()
        check_agreement(case, figures, contender)
        trial_end = time.perf_counter() + _TRIAL
        times = [_time_block(contender, 1)]
        while time.perf_counter() < trial_end:
            times.append(_time_block(contender, 1))
        if statistics.median(times) < least:
            best, least = contender, statistics.median(times)
    assert best is not None
    time.sleep(best.pause)
    return best


# elman


def open_elman(case: Case, kernel: str, threads: int) -> Contender:
    """elman with a kernel; named "elman, KERNEL kernel"."""
    model = LanguageModel(case.config, kernel=kernel, threads=threads)
    name = f"elman, {model.kernel.NAME} kernel"
    if case.task == "generation":
        prompt, config = _prompt(case), SampleConfig(case.seq_length, temperature=1.0)

        def generate() -> None:
            deque(model.generate(prompt, config), maxlen=0)

        return Contender(name, lambda: model.score(_given_tokens(case)).tolist(), generate)
    engine = open_engine("cpu", model=model, optimizer=Adam(LEARNING_RATE), clip_norm=CLIP_NORM)
    windows = cycle(case.windows())

    def step() -> float:
        return engine.step(*next(windows))

    return Contender(name, lambda: [step() for _ in range(_CHECKED_STEPS)], step)


def _given_tokens(case: Case) -> np.ndarray:
    return np.random.default_rng(1).integers(0, case.vocab_size, _CHECKED_TOKENS)


def _prompt(case: Case) -> np.ndarray:
    return _given_tokens(case)[:1]


# PyTorch, as a practitioner would write it, in the settings that may be its fastest


_TORCH_NAMES = {"W_xh": "weight_ih", "W_hh": "weight_hh", "b_h": "bias_ih", "b_hn": "bias_hh"}  # b_hn is its block n


def torch_modules(case: Case) -> tuple[Any, Any, Any]:
    """Embedding (None: one-hot input), recurrent layers and output layer, with the weights that elman starts from.

    PyTorch has a second bias, bias_hh. Trained, it would double the step of the sum of the two. It stays 0 and is not
    trained, so that both train the same model and PyTorch has no work of it; a GRU's is trained in block n, which is
    b_hn, and a hook holds the gradient of the rest at 0.
    """
    import torch
    from torch import nn

    V, E, H = case.vocab_size, case.embedding_size, case.hidden_size
    relu = partial(nn.RNN, nonlinearity="relu")
    layers: dict[str, Callable[..., Any]] = {"rnn": nn.RNN, "rnn-relu": relu, "gru": nn.GRU, "lstm": nn.LSTM}
    embedding = nn.Embedding(V, E) if E else None
    recurrent = layers[case.cell](E or V, H, case.num_layers)
    output = nn.Linear(H, V)
    tensors: dict[str, Any] = {"output.W_hy": output.weight.data, "output.b_y": output.bias.data}
    if embedding:
        tensors["embedding.E"] = embedding.weight.data
    for layer in range(case.num_layers):
        for ours, theirs in _TORCH_NAMES.items():
            tensors[f"recurrent.layers.{layer}.{ours}"] = getattr(recurrent, f"{theirs}_l{layer}").data
        bias = getattr(recurrent, f"bias_hh_l{layer}")
        bias.data.zero_()
        if case.cell == "gru":
            tensors[f"recurrent.layers.{layer}.b_hn"] = bias.data[2 * H :]
            bias.register_hook((torch.arange(3 * H) >= 2 * H).float().mul)
        else:
            bias.requires_grad_(False)
    for name, array in LanguageModel(case.config, kernel="numpy").parameters.items():
        tensors[name].copy_(torch.from_numpy(array))
    return embedding, recurrent, output


def torch_forward(modules: Any, inputs: Any, targets: Any, state: Any) -> tuple[Any, Any]:
    """Modules of :func:`torch_modules`, inputs and targets (T, B), state -> mean loss and the state after it."""
    from torch.nn import functional

    embedding, recurrent, output = modules
    x = embedding(inputs) if embedding else functional.one_hot(inputs, output.out_features).float()
    hidden, state = recurrent(x, state)
    return functional.cross_entropy(output(hidden).flatten(0, 1), targets.flatten()), state


def torch_training(
    case: Case,
    name: str,
    threads: int,
    fused: bool = True,
    onednn: bool = True,
    forward: Callable[..., tuple[Any, Any]] = torch_forward,
) -> Contender:
    """A training step in PyTorch; ``forward`` may be another way to compute :func:`torch_forward`."""
    import torch
    from torch.nn.utils import clip_grad_norm_

    modules = torch_modules(case)
    trained = [p for module in modules if module is not None for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE, fused=fused)
    windows = cycle([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in case.windows()])
    state: Any = None

    def step() -> float:
        nonlocal state
        _use(threads, onednn)
        loss, state = forward(modules, *next(windows), state)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(trained, CLIP_NORM)
        optimizer.step()
        state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        return float(loss.item())

    return Contender(f"PyTorch, {name}", lambda: [step() for _ in range(_CHECKED_STEPS)], step, _PAUSE)


def torch_generation(
    case: Case,
    name: str,
    threads: int,
    loop: Callable[[Any], Callable[[Any, int], tuple[Any, Any]]],
    onednn: bool = True,
) -> Contender:
    """Drawing token after token in PyTorch, in one stream; ``loop``: module_loop or cell_loop."""
    import torch
    from torch.nn import functional

    draw = loop(torch_modules(case))
    given, prompt = torch.from_numpy(_given_tokens(case)), torch.from_numpy(_prompt(case))

    @torch.inference_mode()
    def check() -> list[float]:
        _use(threads, onednn)
        _, logits = draw(given, 0)
        nats: list[float] = functional.cross_entropy(logits, given[1:], reduction="none").tolist()
        return nats

    @torch.inference_mode()
    def step() -> None:
        _use(threads, onednn)
        draw(prompt, case.seq_length)

    return Contender(f"PyTorch, {name}", check, step, _PAUSE)


def module_loop(modules: Any) -> Callable[[Any, int], tuple[Any, Any]]:
    """A loop over nn.LSTM: prompt (N,) and a length -> all ids, and the logits (N + length - 1, V) after them."""
    import torch
    from torch.nn import functional

    _, recurrent, output = modules
    table = _input_table(modules)

    def run(prompt: Any, length: int) -> tuple[Any, Any]:
        ids, logits, state = list(prompt.split(1)), [], None
        for i in range(len(prompt) + length - 1):
            hidden, state = recurrent(functional.embedding(ids[i], table).unsqueeze(0), state)
            logits.append(output(hidden[0]))
            if i + 1 >= len(prompt):
                ids.append(torch.multinomial(torch.softmax(logits[-1], 1), 1)[0])
        return torch.cat(ids), torch.cat(logits)

    return run


def cell_loop(modules: Any, scripted: bool) -> Callable[[Any, int], tuple[Any, Any]]:
    """The same loop over PyTorch's function of one time step; ``scripted``: compiled by torch.jit.script."""
    import torch
    from torch.nn import functional

    def run(
        prompt: torch.Tensor,
        length: int,
        table: torch.Tensor,
        layers: list[list[torch.Tensor]],
        W_hy: torch.Tensor,
        b_y: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        h = [torch.zeros(1, W_hy.size(1)) for _ in layers]
        c = [torch.zeros(1, W_hy.size(1)) for _ in layers]
        ids, logits = list(prompt.split(1)), []
        for i in range(len(prompt) + length - 1):
            x = functional.embedding(ids[i], table)
            for k in range(len(layers)):
                W_xh, W_hh, b_xh, b_hh = layers[k]
                h[k], c[k] = torch.lstm_cell(x, [h[k], c[k]], W_xh, W_hh, b_xh, b_hh)
                x = h[k]
            logits.append(functional.linear(x, W_hy, b_y))
            if i + 1 >= len(prompt):
                ids.append(torch.multinomial(torch.softmax(logits[-1], 1), 1)[0])
        return torch.cat(ids), torch.cat(logits)

    _, recurrent, output = modules
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # jit.script is to go, but is the fastest loop there is
        loop: Callable[..., tuple[Any, Any]] = torch.jit.script(run) if scripted else run
    weights = (_input_table(modules), recurrent.all_weights, output.weight, output.bias)
    return lambda prompt, length: loop(prompt, length, *weights)


def _input_table(modules: Any) -> Any:
    """A row for each id: of the embedding, or of the one-hot vectors."""
    import torch

    embedding, _, output = modules
    return embedding.weight if embedding else torch.eye(output.out_features)


def torch_settings(case: Case, threads: int) -> dict[str, Callable[[], Contender]]:
    """The ways to compute a case with PyTorch that may be the fastest one here: a name, and what opens it."""
    settings: dict[str, Callable[[str, int], Contender]] = {}
    if case.task == "generation":
        settings["lstm_cell, scripted"] = partial(torch_generation, case, loop=partial(cell_loop, scripted=True))
        settings["lstm_cell"] = partial(torch_generation, case, loop=partial(cell_loop, scripted=False))
        settings["nn.LSTM, no oneDNN"] = partial(torch_generation, case, loop=module_loop, onednn=False)
        settings["nn.LSTM"] = partial(torch_generation, case, loop=module_loop)
    else:
        for fused in (True, False) if _has_fused_adam() else (False,):
            for onednn in (True, False) if case.cell == "lstm" else (True,):  # only nn.LSTM has loops in oneDNN
                name = f"{'fused' if fused else 'foreach'} Adam{'' if onednn else ', no oneDNN'}"
                settings[name] = partial(torch_training, case, fused=fused, onednn=onednn)
    return on_threads(case, threads, settings)


def on_threads(
    case: Case, threads: int, settings: dict[str, Callable[[str, int], Contender]]
) -> dict[str, Callable[[], Contender]]:
    """Settings opened with a name and a number of threads -> the same on ``threads``, with one stream on 1 too.

    One stream has little to share, so that one thread alone may be faster than all.
    """
    if case.batch_size > 1 or threads == 1:
        return {name: partial(opener, name, threads) for name, opener in settings.items()}
    return {
        f"{name}, threads={number}": partial(opener, f"{name}, threads={number}", number)
        for name, opener in settings.items()
        for number in (1, threads)
    }


def _use(threads: int, onednn: bool) -> None:
    import torch

    backends: Any = torch.backends
    torch.set_num_threads(threads)
    backends.mkldnn.enabled = onednn


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def _has_fused_adam() -> bool:
    """Whether Adam in one call exists for processors (PyTorch 2.4 and later)."""
    import torch

    try:
        torch.optim.Adam([torch.zeros(1, requires_grad=True)], fused=True)
    except RuntimeError:
        return False
    return True
