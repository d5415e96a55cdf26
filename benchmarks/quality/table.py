"""Runs -> the Markdown table of docs/results.md: a line for each contender of a row, medians over its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

Run = dict[str, Any]  # what reproduce.py keeps of one run

NOTE_ON_PYTORCH = (
    "PyTorch: the recipe, the initial weights and the windows of the elman run of the same seed (lstm_torch.py). Its "
    "time is that of its training steps alone: imports, ten validations and the scoring are not counted against it."
)
NOTE_ON_GPT = (
    "GPT: nanoGPT's recipe for a processor (gpt.py), its time counted as PyTorch's. A transformer has no state: under "
    "'state carried' each token is predicted from the 56 to 63 before it (windows of 64 that slide by 8; the first "
    "ones have fewer), under 'cold windows of 256' in the same way from what its window has; 'blocks of 64' are cold "
    "windows of 64, nanoGPT's own measure."
)


def _spread(key: str, digits: int = 3) -> Callable[[list[Run]], str]:
    """Median, least and most of a figure; '-' where it is not there."""

    def cell(runs: list[Run]) -> str:
        values = [run[key] for run in runs if run[key] is not None]
        if not values:
            return "-"
        middle, least, most = (f"{f(values):.{digits}f}" for f in (statistics.median, min, max))
        return middle if least == most else f"{middle} ({least} to {most})"

    return cell


def _median(key: str, form: str, scale: float = 1.0) -> Callable[[list[Run]], str]:
    return lambda runs: format(statistics.median(run[key] for run in runs) / scale, form)


_COLUMNS: dict[str, Callable[[list[Run]], str]] = {
    "row": lambda runs: runs[0]["row"],
    "who": lambda runs: runs[0]["contender"],
    "model": lambda runs: runs[0]["model"],
    "parameters": _median("parameters", ",.0f"),
    "tokens, M": _median("tokens", ".2f", 1e6),
    "seconds": _spread("seconds", 1),
    "cores": _median("cores", ".2f"),
    "state carried": _spread("nats"),
    "cold windows of 256": _spread("cold"),
    "seeds": lambda runs: str(len(runs)),
}
_WORD_COLUMNS: dict[str, Callable[[list[Run]], str]] = {
    "perplexity": lambda runs: f"{math.exp(statistics.median(run['nats'] for run in runs)):.1f}",
    "<unk>": _median("unknown", ".2%"),
}


def table(runs: Iterable[Run]) -> str:
    """A line for each row and contender in the order in which they come, and the notes that belong to them."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["row"], run["contender"]), []).append(run)
    every = [run for group in groups.values() for run in group]
    columns = _COLUMNS | (_WORD_COLUMNS if any(run["unknown"] for run in every) else {})
    lines = [_line(columns), "|---" * len(columns) + "|"]
    lines += [_line(column(group) for column in columns.values()) for group in groups.values()]
    contenders = {run["contender"] for run in every}
    notes = [NOTE_ON_PYTORCH] if contenders & {"pytorch", "pytorch-bf16"} else []
    if "gpt" in contenders:
        blocks = statistics.median(run["blocks"] for run in every if run["contender"] == "gpt")
        notes.append(f"{NOTE_ON_GPT} Blocks of 64: {blocks:.3f}.")
    machines = dict.fromkeys(f"{run['machine']}; commit {run['commit']}" for run in every)
    return "\n\n".join(["\n".join(lines), *notes, *machines])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
