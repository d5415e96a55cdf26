"""Ending a run early: what asks for it, and how the step in hand is finished all the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stop(threading.Event):
    """Set it, from any thread, to have a run saved and ended; ``signal`` is the number of the signal that did."""

    signal: int | None = None


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """The first signal (Ctrl-C, SIGTERM, SIGHUP) sets ``stop``; the second one ends the process at once.

    Only in the main thread, which is where Python handles signals; one that is ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: Any) -> None:
        if not stop.is_set():
            stop.signal = number
            stop.set()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)

    previous = {number: signal.getsignal(number) for number in SIGNALS}
    caught = [number for number, handler in previous.items() if handler not in (signal.SIG_IGN, None)]
    for number in caught:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, previous[number])
