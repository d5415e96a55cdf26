"""From a quantity to the equation that defines it and the line of code that computes it, both read in the source.

The equations are those of the cells' docstrings, ``forward`` in the left column and ``backward`` in the right one, each
with its label in brackets; the lines are found by what they assign. Nothing is copied that could grow stale.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def parsed(function: Callable[..., Any]) -> ast.FunctionDef | None:
    """The syntax tree of a Python function, its line numbers those of the file; None where there is no source."""
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return None
    (tree,) = ast.parse(textwrap.dedent("".join(lines))).body
    return ast.increment_lineno(tree, first - 1) if isinstance(tree, ast.FunctionDef) else None


@cache
def slopes(function: Callable[..., Any]) -> tuple[str, ...]:
    """The differences and comparisons that a function multiplies by, as code: ``1 - h * h`` of tanh, for example.

    These are the derivatives that have no name in the code of a cell's backward.
    """
    tree = parsed(function)
    products = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)] if tree else []
    factors = [side for node in products if isinstance(node.op, ast.Mult) for side in (node.left, node.right)]
    found = [node for node in factors if isinstance(node, ast.Compare) or _is_difference(node)]
    return tuple(dict.fromkeys(ast.unparse(node) for node in sorted(found, key=lambda node: node.lineno)))


def _is_difference(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)
