"""What a function computed, local name by local name, read from outside while it runs.

The cells and the loops have no hooks: locals are copied when a function returns. Every quantity that an equation of
the code names can be shown, also of a cell that somebody adds, and what is shown is what was computed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Call:
    """One call of a function: every local name with its value at the return, and what it returned; arrays copied.

    Names of one and the same array share one copy.
    """

    function: Callable[..., Any]
    values: dict[str, Any]
    result: Any


@contextmanager
def recording(*functions: Callable[..., Any]) -> Iterator[list[Call]]:
    """Record the calls of these Python functions in this thread, in the order in which they return.

    Used as ``with recording(cell.forward) as calls:``; ``calls`` grows while the block runs. The one profile function
    that Python has in a thread is in use meanwhile; the one before is put back.
    """
    by_code = {function.__code__: function for function in functions}
    calls: list[Call] = []

    def look(frame: FrameType, event: str, result: Any) -> None:
        if event == "return" and frame.f_code in by_code:
            copies: dict[int, np.ndarray] = {}
            values = {name: _copy(value, copies) for name, value in frame.f_locals.items()}
            calls.append(Call(by_code[frame.f_code], values, _copy(result, copies)))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def _copy(value: Any, copies: dict[int, np.ndarray]) -> Any:
    """The value with its arrays copied, each once; ``copies`` are those made so far, by the id of the array."""
    if isinstance(value, np.ndarray):
        return copies.setdefault(id(value), value.copy())
    if isinstance(value, tuple | list):
        return tuple(_copy(each, copies) for each in value)
    return value
