"""What may be shown on a person's terminal, and what a number looks like there."""

from __future__ import annotations

import math
import sys

_CONTROLS = {code: None for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}


def harmless(text: str) -> str:
    """The text without control characters, so that what a model wrote cannot steer a terminal."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    """The text on one line, harmless."""
    return harmless(" ".join(text.split()))


def write(text: str) -> None:
    """Write to stdout at once; on a terminal without control characters, elsewhere to the letter."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def count(number: float) -> str:
    """1234567 -> '1.23M', 45678 -> '45.7k'."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if round(number) >= size * (1 - 5e-4):  # 999,950 is 1M, not 1e+03k
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """75.2 -> '1:15', 12.34 -> '12.3 s'."""
    if seconds == math.inf:
        return "for ever"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
