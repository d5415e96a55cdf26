"""Every quantity that is shown has its equation and the line that computes it."""

from __future__ import annotations

from pathlib import Path

import pytest

import elman
from elman.cells import CELLS, Cell, rnn
from elman.config import ModelConfig
from elman.explain import source
from elman.explain.unroll import unroll
from elman.models import LanguageModel

PACKAGE = Path(elman.__file__).parent


def check(origin: source.Origin) -> None:
    assert origin.equation and origin.code
    assert origin.file.startswith("src/elman/")
    file = PACKAGE / origin.file.removeprefix("src/elman/")
    assert file.read_text(encoding="utf-8").splitlines()[origin.line - 1].strip() == origin.code


@pytest.mark.parametrize("key", source.OUTSIDE)
def test_what_lies_outside_the_cells_has_one_line(key):
    check(source.outside_origin(key))


@pytest.mark.parametrize("cell", CELLS.values(), ids=list(CELLS))
def test_every_local_name_of_a_cell_has_its_line(cell):
    model = LanguageModel(ModelConfig(4, cell.name, hidden_size=2, num_layers=1))
    layer = unroll(model, [0, 1], [1, 2]).steps[0].layers[0]
    for backward, names in ((False, layer.forward), (True, layer.backward)):
        for name, vector in names.items():
            blocks = range(cell.gates) if len(vector) == cell.gates * 2 > 2 and name != "x" else [None]
            for block in blocks:
                if name not in source.OUTSIDE:
                    check(source.cell_origin(cell, backward, name, block))


def origin_of(cell: str, backward: bool, name: str, block: int | None = None) -> tuple[str, str]:
    found = source.cell_origin(CELLS[cell], backward, name, block)
    return found.equation, found.code


def test_the_equation_is_that_of_the_docstring_and_the_line_that_of_the_block():
    assert origin_of("lstm", False, "c") == ("c = f · c_prev + i · g", "c = f * c_prev + i * g  # (5)")
    assert origin_of("lstm", True, "d_a", 1) == (
        "d_a_f = d_f · f · (1 - f)",
        "d_a[:, H : 2 * H] = d_f * f * (1 - f)  # (2)",
    )
    assert origin_of("lstm", True, "d_f")[0] == "d_f = d_c·c_prev"
    assert origin_of("lstm", True, "d_c_prev")[0] == "d_c_prev = d_c · f"
    assert origin_of("lstm", False, "a", 2) == ("a = gates_x + gates_h", "a = gates_x + gates_h")
    assert origin_of("gru", True, "d_gates_h", 2) == ("d_h_n = d_x_n · r", "d_gates_h[:, 2 * H :] = d_x_n * r  # (3)")
    assert origin_of("gru", True, "d_gates_h", 0)[1] == "d_gates_h = d_gates_x.copy()"
    assert origin_of("gru", True, "d_x_n")[0] == "d_x_n = d_n · (1 - n²), d_n = d_h·(1 - z)"
    assert origin_of("gru", True, "d_h_direct")[0] == "d_h_prev = d_h · z"
    assert origin_of("gru", True, "h_prev - n")[1].startswith("d_gates_x[:, H : 2 * H] =")


def test_what_comes_from_another_step_has_the_line_that_computes_it():
    for key in ("d_h_next", "d_c_next", "d_h_prev"):
        assert source.outside_origin(key).code == "d_prev = (d_h_direct + d_gates_h[t] @ W_hh, *d_rest)"
    for key in ("h_prev", "c_prev"):
        assert source.outside_origin(key).code == "new_state, saved_t = cell.forward(gates_x[t], gates_h, state)"


def test_tanh_and_relu_have_an_equation_each():
    assert origin_of("rnn", True, "d_a") == ("d_a = d_h · (1 - h²)", "d_a = d_h * (1 - h * h)  # (2)")
    assert origin_of("rnn-relu", True, "d_a") == ("d_a = d_h · [h > 0]", "d_a = d_h * (h > 0)  # (2)")
    assert origin_of("rnn", True, "1 - h * h")[0] == "d_a = d_h · (1 - h²)"


def test_derivatives_without_a_name_are_found():
    assert source.slopes(CELLS["rnn"].backward) == ("1 - h * h",)
    assert source.slopes(CELLS["rnn-relu"].backward) == ("h > 0",)
    assert set(source.slopes(CELLS["lstm"].backward)) == {
        "1 - tanh_c * tanh_c",
        *(f"1 - {gate}" for gate in ("o", "f", "i", "g * g")),
    }


def test_a_cell_without_source_has_numbers_and_no_lines():
    namespace: dict = {}
    text = (
        "def backward(d_state, h):\n    (d_h,) = d_state\n    d_a = d_h * (1 - h * h)\n    return d_a, d_a, (0 * d_h,)"
    )
    exec(text, namespace)
    cell = Cell("rnn", ("h",), ("h",), rnn.forward_tanh, namespace["backward"])
    assert source.slopes(cell.backward) == ()
    assert source.cell_origin(cell, True, "d_a").line == 0
