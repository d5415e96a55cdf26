"""The standard streams as the shell left them: closed, full, or in an encoding that lacks characters."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Standard streams that can be used whatever they are.

    A character that a stream cannot show is a '?'. Where standard output fails the error names it; what standard error
    cannot take is lost, for no work is given up for a message, unless both are one (2>&1). A closed stream is the null
    device: the next file that is opened would else get its number, and be written into by prints.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # this gets the lowest number that is free
            if name != "stdin":  # which is still known to be closed
                setattr(sys, name, open(null, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    stdout, stderr = sys.stdout, sys.stderr
    output: Any = _Output(stdout)
    messages: Any = _Output(stderr) if _are_one(stdout, stderr) else _Messages(stderr)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(messages):
            yield
    finally:
        for stream in (stdout, stderr):
            try:
                stream.flush()
            except OSError:  # what still waits goes nowhere, or Python would try again at its end and complain
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _are_one(stream: TextIO, other: TextIO) -> bool:
    try:
        return os.path.sameopenfile(stream.fileno(), other.fileno())
    except (OSError, AttributeError):  # not files
        return False


class _Output:
    """A stream that names itself in its errors."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            error.filename = "standard output"
            raise

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            error.filename = "standard output"
            raise


class _Messages(_Output):
    """A stream that does not fail."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()
