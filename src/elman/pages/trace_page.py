"""The page of ``elman trace``: the unrolled network with its numbers, and sliders over steps and training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elman.pages.page import render

SNAPSHOTS = 20  # states of the training on a page, at most


def trace_page(record: Mapping[str, Any]) -> str:
    """The page of a record of :func:`elman.workflows.trace.trace`, as HTML text, numbers to 7 digits.

    The page adds the gradients up by itself, from the factors.
    """
    ids = [*record["inputs"], record["targets"][-1]]
    text = "".join(record["glyphs"][token] for token in ids)
    left_out = ("symbols", "text", "snapshots")
    data = {key: value for key, value in record.items() if key not in left_out}
    data["snapshots"] = [
        {
            "update": shot["update"],
            "loss": shot["loss"],
            "parameters": _short(shot["parameters"]),
            "steps": [_short(step["values"]) for step in shot["steps"]],
        }
        for shot in record["snapshots"]
    ]
    return render("trace", f"elman trace {text}", data)


def _short(value: Any) -> Any:
    """The same with its numbers rounded to 7 digits."""
    if isinstance(value, Mapping):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.7g}")
