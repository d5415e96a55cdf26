"""The same numbers as PyTorch in float64: 100 random layers, whole models, 200 steps of every optimiser."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import open_layer, parts_of
from elman import LanguageModel, ModelConfig, optimizers
from elman.cells import CELLS
from elman.kernels import available_kernels, open_kernel, reference

torch = pytest.importorskip("torch", reason="parity with PyTorch needs torch: python -m pip install torch")
pytestmark = pytest.mark.torch

TOLERANCE = 1e-10  # absolute, or relative to the largest entry; what is left is some 1e-14
THEIRS = {"W_xh": "weight_ih", "W_hh": "weight_hh", "b_h": "bias_ih", "b_hn": "bias_hh"}  # b_hn is its block n


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_close(ours, theirs, what=""):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape, what
    assert np.abs(ours - theirs).max() <= TOLERANCE * max(1, np.abs(theirs).max()), what


def leaf(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def torch_layer(cell, parameters, *sizes):
    if cell.startswith("rnn"):
        layer = torch.nn.RNN(*sizes, nonlinearity="relu" if cell == "rnn-relu" else "tanh", dtype=torch.float64)
    else:
        layer = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](*sizes, dtype=torch.float64)
    with torch.no_grad():
        for name, tensor in layer.named_parameters():
            if name.startswith("bias_hh"):
                tensor.zero_()
        for name, array in parameters.items():
            tensor_of(layer, name).copy_(torch.tensor(array))
    return layer


def tensor_of(layer, name, gradient=False):
    _, number, kind = name.split(".")
    tensor = getattr(layer, f"{THEIRS[kind]}_l{number}")
    tensor = tensor.grad if gradient else tensor
    return tensor[-layer.hidden_size :] if kind == "b_hn" else tensor


def random_state(rng, cell, *shape):
    parts = tuple(rng.standard_normal(shape) for _ in CELLS[cell].states)
    return parts if len(parts) > 1 else parts[0]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("cell", CELLS)
def test_layers(cell, seed):
    rng = np.random.default_rng(seed)
    T, B, input_size, H, L = (int(rng.integers(1, most + 1)) for most in (8, 4, 6, 7, 3))
    layer = open_layer(cell, input_size, H, L, dtype="float64", seed=seed)
    for array in layer.parameters.values():
        array *= rng.choice([1, 3])  # with 3, gates saturate
    x, state = rng.standard_normal((T, B, input_size)), random_state(rng, cell, L, B, H)
    outputs, last, backward = layer(x, state)
    d_outputs, d_last = rng.standard_normal((T, B, H)), random_state(rng, cell, L, B, H)
    d_x, d_first, gradients = backward(d_outputs, d_last)

    theirs = torch_layer(cell, layer.parameters, input_size, H, L)
    their_x, their_first = leaf(x), tuple(leaf(part) for part in parts_of(state))
    their_outputs, their_last = theirs(their_x, their_first if len(their_first) > 1 else their_first[0])
    their_last = parts_of(their_last)
    torch.autograd.backward(
        [their_outputs, *their_last], [torch.tensor(array) for array in (d_outputs, *parts_of(d_last))]
    )
    assert_close(outputs, their_outputs, "outputs")
    assert_close(d_x, their_x.grad, "x")
    for i, name in enumerate(CELLS[cell].states):
        assert_close(parts_of(last)[i], their_last[i], f"last {name}")
        assert_close(parts_of(d_first)[i], their_first[i].grad, f"initial {name}")
    assert gradients.keys() == layer.parameters.keys()
    for name, gradient in gradients.items():
        assert_close(gradient, tensor_of(theirs, name, gradient=True), name)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["one-hot", "embedding", "tied"])
@pytest.mark.parametrize("cell", CELLS)
def test_language_models(cell, kind, reduction):
    V, H, L, T, B = 7, 6, 2, 9, 3
    E = {"one-hot": None, "embedding": 4, "tied": H}[kind]
    config = ModelConfig(V, cell, H, L, E, tie_weights=kind == "tied", dtype="float64")
    lm = LanguageModel(config, seed=1)
    rng = np.random.default_rng(1)
    inputs, targets = rng.integers(0, V, (2, T, B))
    targets[rng.random((T, B)) < 0.3] = -1
    state = random_state(rng, cell, L, B, H)
    loss, gradients, last = lm.loss_and_gradients(inputs, targets, state, reduction)

    recurrent = {name.removeprefix("recurrent."): array for name, array in lm.parameters.items() if "layers" in name}
    theirs = torch_layer(cell, recurrent, V if E is None else E, H, L)
    own = {name: leaf(array) for name, array in lm.parameters.items() if "layers" not in name}
    ids = torch.tensor(inputs)
    x = torch.nn.functional.one_hot(ids, V).double() if E is None else own["embedding.E"][ids]
    first = tuple(torch.tensor(part) for part in parts_of(state))
    hidden, their_last = theirs(x, first if len(first) > 1 else first[0])
    logits = hidden @ own["embedding.E" if kind == "tied" else "output.W_hy"].T + own["output.b_y"]
    their_loss = torch.nn.functional.cross_entropy(
        logits.reshape(T * B, V), torch.tensor(targets).reshape(-1), ignore_index=-1, reduction=reduction
    )
    their_loss.backward()
    assert loss == pytest.approx(their_loss.item(), rel=1e-12)
    assert_close(lm.forward(inputs, state)[0], logits, "logits")
    for ours, part in zip(parts_of(last), parts_of(their_last), strict=True):
        assert_close(ours, part, "last state")
    assert gradients.keys() == own.keys() | {f"recurrent.{name}" for name in recurrent}
    for name, gradient in gradients.items():
        their = own[name].grad if name in own else tensor_of(theirs, name.removeprefix("recurrent."), gradient=True)
        assert_close(gradient, their, name)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: optimizers.SGD(0.05), lambda w: torch.optim.SGD(w, lr=0.05)),
        (lambda: optimizers.SGD(0.05, momentum=0.9), lambda w: torch.optim.SGD(w, lr=0.05, momentum=0.9)),
        # Ours has epsilon inside the root, theirs outside; without it both are the paper's.
        (lambda: optimizers.Adagrad(0.1, epsilon=0), lambda w: torch.optim.Adagrad(w, lr=0.1, eps=0)),
        (lambda: optimizers.RMSProp(2e-3, 0.99, 1e-8), lambda w: torch.optim.RMSprop(w, lr=2e-3, alpha=0.99, eps=1e-8)),
        (lambda: optimizers.Adam(1e-2), lambda w: torch.optim.Adam(w, lr=1e-2)),
        (
            lambda: optimizers.Adam(1e-2, 0.7, 0.9, 1e-3),
            lambda w: torch.optim.Adam(w, lr=1e-2, betas=(0.7, 0.9), eps=1e-3),
        ),
        (lambda: optimizers.AdamW(1e-2), lambda w: torch.optim.AdamW(w, lr=1e-2)),
        (lambda: optimizers.AdamW(1e-2, weight_decay=0.3), lambda w: torch.optim.AdamW(w, lr=1e-2, weight_decay=0.3)),
    ],
    ids=["sgd", "momentum", "adagrad", "rmsprop", "adam", "adam-settings", "adamw", "adamw-decay"],
)
def test_200_steps_of_an_optimizer(ours, theirs):
    rng = np.random.default_rng(2)
    parameters = {"W": rng.standard_normal((4, 3)), "b": rng.standard_normal(5)}
    tensors = {name: leaf(array) for name, array in parameters.items()}
    our, their = ours(), theirs(list(tensors.values()))
    for step in range(200):
        size = 10.0 ** rng.integers(-6, 3)  # gradients of many sizes, some smaller than epsilon
        gradients = {name: size * rng.standard_normal(w.shape) + 0.1 * w for name, w in parameters.items()}
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[name])
        our.update(parameters, gradients)
        their.step()
        for name, w in parameters.items():
            assert_close(w, tensors[name], f"{name} after step {step + 1}")
    assert our.steps == 200


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 5.0, 1e6])
def test_clip_by_global_norm(max_norm):
    rng = np.random.default_rng(3)
    gradients = {"W": rng.standard_normal((4, 3)), "b": rng.standard_normal(5)}
    tensors = [leaf(gradient) for gradient in gradients.values()]
    for tensor, gradient in zip(tensors, gradients.values(), strict=True):
        tensor.grad = torch.tensor(gradient)
    norm = optimizers.clip_by_global_norm(gradients, max_norm)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(tensors, max_norm).item(), rel=1e-14)
    for tensor, gradient in zip(tensors, gradients.values(), strict=True):
        assert_close(gradient, tensor.grad)


def test_clip_by_value():
    gradient = np.random.default_rng(4).standard_normal((50, 3)) * 5
    tensor = leaf(gradient)
    tensor.grad = torch.tensor(gradient)
    optimizers.clip_by_value({"W": gradient}, 2.5)
    torch.nn.utils.clip_grad_value_([tensor], 2.5)
    assert np.array_equal(gradient, tensor.grad.numpy())


@pytest.mark.parametrize("size", [1e-30, 1.0, 50.0, 1e4, 1e300])
def test_cross_entropy_of_logits_of_any_size(size):
    rng = np.random.default_rng(5)
    logits = rng.standard_normal((40, 6)) * size
    logits[3] = 7.0  # all equal
    logits[4, :5] = -np.inf  # one symbol is certain
    targets = rng.integers(-1, 6, 40)
    targets[4], targets[5] = 5, -1
    losses, probabilities = reference._cross_entropy(logits, targets)

    tensor = leaf(logits)
    their_losses = torch.nn.functional.cross_entropy(tensor, torch.tensor(targets), ignore_index=-1, reduction="none")
    (0.25 * their_losses.sum()).backward()
    assert_close(losses, their_losses)
    assert_close(probabilities, torch.softmax(tensor, dim=1))
    finite = np.isfinite(logits).all(axis=1)
    for kernel in available_kernels():
        again, d_rows, _, d_b_y = open_kernel(kernel).output_gradients(
            np.eye(6), np.zeros(6), logits[finite], targets[finite], 0.25
        )
        assert_close(again, their_losses[finite])
        assert_close(d_rows, tensor.grad[finite])
        assert_close(d_b_y, tensor.grad[finite].sum(dim=0))
    assert np.isfinite(losses).all()
