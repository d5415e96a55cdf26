"""Figures through matplotlib, an optional package: loss curves of runs, and the plots of an inspection.

matplotlib is loaded when a figure is asked for; nothing is shown on a screen. Names come from files and folders, so
none is read as mathematics ($...$).
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

from elman.errors import InputError

FORMATS = ("png", "svg", "pdf")
_CJK = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei")


def check_installed() -> None:
    """Raise InputError where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("plots need matplotlib, which is not installed: python -m pip install 'elman[plot]'") from None


def loss_curves(curves: Sequence[dict[str, Any]], x: str, form: str = "png") -> bytes:
    """Training and validation losses of runs (see :mod:`elman.workflows.curves`) against ``x`` -> an image file."""
    figure = _figure(8, 5)
    axes = figure.subplots()
    handles = []
    for number, curve in enumerate(curves):
        train, valid = curve["train"], curve["valid"]
        color = f"C{number % 10}"
        (line,) = axes.plot(train[x], train["loss"], color=color, alpha=0.45 if valid["loss"] else 1, linewidth=1.2)
        if valid["loss"]:
            (line,) = axes.plot(valid[x], valid["loss"], color=color, marker="o", markersize=3.5)
        handles.append(line)
    axes.set_xlabel({"steps": "step", "seconds": "seconds of training", "tokens": "tokens trained on"}[x])
    axes.set_ylabel("loss, nats a token")
    if any(curve["valid"]["loss"] for curve in curves):
        axes.set_title("with points: validation; pale: training", fontsize="medium")
    axes.grid(alpha=0.3)
    _legend(axes, handles, [curve["name"] for curve in curves])
    return _image(figure, form)


def inspection(record: dict[str, Any], form: str = "png") -> bytes:
    """Gate saturation and gradient norms of :func:`elman.workflows.inspect.inspect` -> an image file."""
    gates = record["saturation"]
    figure = _figure(max(8, 3.6 * len(gates)), 8)
    above, below = figure.subfigures(2, 1)
    for axes, gate in zip(above.subplots(1, len(gates), squeeze=False)[0], gates, strict=True):
        _saturation(axes, gate)
    axes = below.subplots()
    handles = []
    for number, line in enumerate(record["reach"]["lines"]):
        norms = [norm if norm > 0 else math.nan for norm in line["norms"]]
        handles += axes.plot(norms, color=f"C{number % 10}", linewidth=2.5 if number == 0 else 1.4)
    axes.set_yscale("log")
    axes.set_xlabel("k, tokens back")
    axes.set_ylabel("gradient norm, relative to k = 0")
    axes.grid(alpha=0.3)
    _legend(axes, handles, [line["name"] for line in record["reach"]["lines"]])
    return _image(figure, form)


def _saturation(axes: Any, gate: dict[str, Any]) -> None:
    for number, left in enumerate(gate["left"]):
        if gate["right"] is None:
            axes.hist(left, bins=20, range=(0, 1), alpha=0.6, label=f"layer {number}")
        else:
            axes.scatter(left, gate["right"][number], s=12, alpha=0.6, label=f"layer {number}")
    if gate["gate"] != "h":
        names = ("share below 0.1", "share above 0.9")
    else:
        names = ("share h = 0", "units") if gate["right"] is None else ("share below -0.9", "share above 0.9")
    axes.set(xlabel=names[0], ylabel=names[1], xlim=(-0.02, 1.02))
    if gate["right"] is not None:
        axes.set_ylim(-0.02, 1.02)
        axes.plot([0, 1], [1, 0], color="0.7", linestyle="--", linewidth=1)
    axes.set_title("h" if gate["gate"] == "h" else f"gate {gate['gate']}", fontsize="medium", parse_math=False)
    if 1 < len(gate["left"]) <= 10:
        axes.legend(fontsize="small")


def _figure(width: float, height: float) -> Any:
    check_installed()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _legend(axes: Any, handles: list[Any], names: list[str]) -> None:
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    family = ["DejaVu Sans", *(name for name in _CJK if name in there)]
    legend = axes.legend(handles, [str(number) for number in range(len(names))], fontsize="small")
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_family(family)
        # Not as the label above, as one that begins with _ is left out; a name of a file may hold halves of characters.
        text.set_text(name.encode("utf-8", "replace").decode())


def _image(figure: Any, form: str) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(content, format=form)
    return content.getvalue()
