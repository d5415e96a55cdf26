"""From a quantity to the equation that defines it and the line of code that computes it, both read in the source.

A cell's equations are those of its docstring, ``forward`` in the left column and ``backward`` in the right one, each
with its label in brackets; its lines are found by what they assign. Nothing is copied that could grow stale: of what
lies outside the cells the equations stand here, each with a piece of the line that computes it.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from elman.cells import Cell
from elman.kernels import reference
from elman.layers import embedding, recurrent, stack

Function = Callable[..., Any]


@dataclass(frozen=True)
class Origin:
    """Where a quantity comes from: the equation, the file (src/elman/…), its line from 1, and its code.

    ``line`` is 0 where the source is not there.
    """

    equation: str
    file: str
    line: int
    code: str


_ONE_HOT = ("x = one_hot(input), never made: the product with it is a row", recurrent.forward, "(W_xh.T, x) if one_hot")
_OUTSIDE: dict[str, tuple[str, Function, str]] = {
    "one_hot": _ONE_HOT,
    "x": _ONE_HOT,
    "x of an embedding": ("x = E[input]", embedding.forward, "kernel.gather_rows(E, ids)"),
    "x of a layer below": ("x = h of the layer below", stack.forward, "x, state_l, backward_l = recurrent.forward("),
    "h_prev": ("h_prev = h of the step before", reference.recurrent_forward, "new_state, saved_t = cell.forward("),
    "c_prev": ("c_prev = c of the step before", reference.recurrent_forward, "new_state, saved_t = cell.forward("),
    "gates_x": ("gates_x = x W_xhᵀ + b_h", recurrent.forward, "kernel.gather_rows(W_xh.T, x) if one_hot"),
    "gates_h": ("gates_h = h_prev W_hhᵀ", reference.recurrent_forward, "gates_h = state[0] @ W_hh.T"),
    "gates_h with b_hn": (
        "gates_h = h_prev W_hhᵀ, in the last block + b_hn",
        reference.recurrent_forward,
        "gates_h = state[0] @ W_hh.T",
    ),
    "logits": ("logits = h W_hyᵀ + b_y", reference.output_gradients, "rows @ W_hy.T + b_y"),
    "probabilities": (
        "probabilities = exp(logits) / Σ exp(logits)",
        reference._cross_entropy,
        "probabilities /= total",
    ),
    "loss": ("loss = -log probabilities[target]", reference._cross_entropy, "losses = np.log(total"),
    "d_logits": (
        "d_logits = probabilities - one_hot(target)",
        reference.output_gradients,
        "d_logits[np.arange(len(targets)), targets] -= 1",
    ),
    "d_outputs": ("d_outputs = d_logits W_hy", reference.output_gradients, "d_logits @ W_hy"),
    "d_outputs of a layer above": (
        "d_outputs = d_x of the layer above",
        stack.forward,
        "d_x, d_state_l, gradients_l =",
    ),
    "d_h_next": ("d_h_next = d_h_prev of the step after", reference.recurrent_backward, "d_prev = (d_h_direct"),
    "d_c_next": ("d_c_next = d_c_prev of the step after", reference.recurrent_backward, "d_prev = (d_h_direct"),
    "d_h": ("d_h = d_outputs + d_h_next", reference.recurrent_backward, "d_h = d_state[0] + d_outputs[t]"),
    "d_h_prev": ("d_h_prev = d_gates_h W_hh", reference.recurrent_backward, "d_prev = (d_h_direct"),
    "d_h_prev with d_h_direct": (
        "d_h_prev = d_h_direct + d_gates_h W_hh",
        reference.recurrent_backward,
        "d_prev = (d_h_direct",
    ),
    "d_x": ("d_x = d_gates_x W_xh", recurrent.forward, "kernel.product(rows_x, W_xh)"),
    "W_xh": ("d_W_xh = Σ_t d_gates_xᵀ x", recurrent.forward, "d_W_xh = kernel.product(rows_x.T"),
    "W_xh of one-hot": ("d_W_xh = Σ_t d_gates_xᵀ x", recurrent.forward, "d_W_xh = kernel.scatter_add_rows"),
    "W_hh": ("d_W_hh = Σ_t d_gates_hᵀ h_prev", recurrent.forward, "kernel.product(rows_h.T"),
    "b_h": ("d_b_h = Σ_t d_gates_x", recurrent.forward, "rows_x.sum(axis=0)"),
    "b_hn": ("d_b_hn = Σ_t d_gates_h, the last block", recurrent.forward, "rows_h[:, -H:].sum(axis=0)"),
    "W_hy": ("d_W_hy = Σ_t d_logitsᵀ h", reference.output_gradients, "d_logits.T @ rows"),
    "b_y": ("d_b_y = Σ_t d_logits", reference.output_gradients, "d_logits.sum(axis=0)"),
    "E": ("d_E[input] = Σ_t d_x", embedding.forward, "kernel.scatter_add_rows(d_outputs, ids, len(E))"),
    "E of tied weights": (
        "d_E[input] = Σ_t d_x, and + Σ_t d_logitsᵀ h as the output's weights",
        embedding.forward,
        "kernel.scatter_add_rows(d_outputs, ids, len(E))",
    ),
}
_BLOCKS = {"gates_x": "x", "gates_h": "h", "d_gates_x": "d_x", "d_gates_h": "d_h"}  # as the docstrings name them


def block_name(name: str, gate: str) -> str:
    """What the equations call the block of a gate: ``x_r`` of ``gates_x``, ``d_a_i`` of ``d_a``."""
    return f"{_BLOCKS.get(name, name)}_{gate}"


OUTSIDE = tuple(_OUTSIDE)


def outside_origin(key: str) -> Origin:
    """The origin of a quantity that no cell computes: a key of the table above."""
    equation, function, piece = _OUTSIDE[key]
    tree = parsed(function)
    if tree is None:
        return Origin(equation, _file(function), 0, "")
    lines = _lines(function)
    (line,) = (n for n in range(tree.lineno, (tree.end_lineno or 0) + 1) if piece in lines[n - 1])
    return Origin(equation, _file(function), line, lines[line - 1].strip())


def cell_origin(cell: Cell, backward: bool, name: str, block: int | None = None) -> Origin:
    """The origin of a local name of a cell's forward or backward, or of one gate's block of it.

    A derivative without a name (``slopes``) has that of the quantity which it is a factor of. What has no name there,
    such as ``d_h_direct``, comes from the return; what has no equation in the docstring has its code as one.
    """
    function = cell.backward if backward else cell.forward
    tree = parsed(function)
    if tree is None:
        return Origin("", _file(function), 0, "")
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AugAssign)]
    if name in slopes(function):
        statement: ast.stmt = next(each for each in statements if _has(each, name))
        name, part = next(_targets(statement))
        block = next((k for k in range(cell.gates) if _covers(part, k, cell.gates)), None) if part else None
    else:
        computing = [
            each
            for each in statements
            for target, part in _targets(each)
            if target == name and (part is None or (block is not None and _covers(part, block, cell.gates)))
        ]
        statement = max(computing, key=lambda each: each.lineno, default=tree.body[-1])
    wanted = "d_h_prev" if name == "d_h_direct" else name if block is None else block_name(name, cell.gate_names[block])
    code = _lines(function)[statement.lineno - 1].strip()
    return Origin(_equation(function, wanted) or code.split("#")[0].strip(), _file(function), statement.lineno, code)


@cache
def slopes(function: Function) -> tuple[str, ...]:
    """The differences and comparisons that a function multiplies by, as code: ``1 - h * h`` of tanh, for example.

    These are the derivatives that have no name in the code of a cell's backward.
    """
    tree = parsed(function)
    products = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)] if tree else []
    factors = [side for node in products if isinstance(node.op, ast.Mult) for side in (node.left, node.right)]
    found = [node for node in factors if isinstance(node, ast.Compare) or _is_difference(node)]
    return tuple(dict.fromkeys(ast.unparse(node) for node in sorted(found, key=lambda node: node.lineno)))


@cache
def parsed(function: Function) -> ast.FunctionDef | None:
    """The syntax tree of a Python function, its line numbers those of the file; None where there is no source."""
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return None
    (tree,) = ast.parse(textwrap.dedent("".join(lines))).body
    return ast.increment_lineno(tree, first - 1) if isinstance(tree, ast.FunctionDef) else None


@cache
def equations(function: Function, backward: bool) -> dict[str, str]:
    """The equations of a cell's docstring by the name that they define, those of forward or of backward.

    A word after an equation says which functions it is for: those whose name ends with it.
    """
    module = inspect.getmodule(function)
    try:
        docstring = ast.get_docstring(ast.parse(inspect.getsource(module))) or "" if module else ""
    except OSError:
        return {}
    found: dict[str, str] = {}
    for text in _column(docstring.splitlines(), backward):
        equation, *words = re.split(r"\s{2,}", re.sub(r"\s+(\+?=)", r" \1", text))
        if len(words) == 1 and not function.__name__.endswith(words[0]):
            continue
        *defined, value = re.split(r" \+?= ", equation)
        names, values = defined[0].split(", "), value.split(", ")
        if len(names) == len(values) > 1:
            found |= {name: f"{name} = {each}" for name, each in zip(names, values, strict=True)}
        else:
            whole = " ".join([equation, *words]) if len(words) > 1 else equation
            found |= dict.fromkeys(defined, whole)
    return found


def _column(lines: list[str], backward: bool) -> Iterator[str]:
    """The labelled equations under the heading ``forward`` or ``backward``, without their labels."""
    at = next((n for n, line in enumerate(lines) if re.match(r"\s*forward\s+backward", line)), len(lines))
    for line in lines[at + 1 :]:
        if not line.strip():
            return
        middle = lines[at].index("backward")
        labelled = re.fullmatch(r"\s*(.+?)\s+(\(\d+\))", line[middle:].rstrip() if backward else line[:middle].rstrip())
        if labelled:
            yield labelled[1]


def _equation(function: Function, name: str) -> str:
    """The equation that defines a name, and those of the names in it that the code does not have."""
    tree, backward = parsed(function), function.__name__.startswith("backward")
    known = equations(function, backward)
    if name not in known:
        return ""
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree else set()
    used = dict.fromkeys(re.findall(r"\w+", known[name].rpartition("=")[2]))
    return ", ".join([known[name], *(known[each] for each in used if each in known and each not in stored)])


def _targets(statement: ast.stmt) -> Iterator[tuple[str, ast.Slice | None]]:
    """The names that a statement assigns to, each with the columns where it is a part of them."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]  # type: ignore[attr-defined]
    for target in targets:
        for each in target.elts if isinstance(target, ast.Tuple) else [target]:
            if isinstance(each, ast.Name):
                yield each.id, None
            elif isinstance(each, ast.Subscript) and isinstance(each.value, ast.Name):
                part = each.slice.elts[-1] if isinstance(each.slice, ast.Tuple) else each.slice
                if isinstance(part, ast.Slice):
                    yield each.value.id, part


def _covers(part: ast.Slice | None, block: int, gates: int) -> bool:
    """Whether columns written with H, such as ``2 * H :``, are those of a gate's block."""
    if part is None:
        return False
    start, stop = (_blocks(end) if end else None for end in (part.lower, part.upper))
    return block in range(gates)[start:stop]


def _blocks(end: ast.expr) -> int:
    """How many blocks of H columns lie before ``H`` or ``2 * H``."""
    found = re.fullmatch(r"(?:(\d+) \* )?H", ast.unparse(end))
    return int(found[1] or 1) if found else 0


def _has(statement: ast.stmt, code: str) -> bool:
    return any(isinstance(node, ast.expr) and ast.unparse(node) == code for node in ast.walk(statement))


def _is_difference(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)


@cache
def _lines(function: Function) -> list[str]:
    return Path(inspect.getsourcefile(function) or "").read_text(encoding="utf-8").splitlines()


def _file(function: Function) -> str:
    file, package = Path(inspect.getfile(function)), Path(__file__).parents[1]
    return f"src/elman/{file.relative_to(package).as_posix()}" if file.is_relative_to(package) else file.name
