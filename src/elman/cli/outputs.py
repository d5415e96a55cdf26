"""Files that a command is asked to write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from elman.errors import InputError

HTML = (".html", ".htm")
TOML = (".toml",)


def check(path: str | Path, endings: Sequence[str], inputs: Iterable[str | Path] = ()) -> Path:
    """The path, before the work begins.

    Raises InputError for another ending, which a text or a model has, for one of the command's inputs, for what is no
    file, and where its folder is missing.
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise InputError(f"{path} must end in {' or '.join(endings)}")
    if any(path.resolve() == Path(each).resolve() for each in inputs):
        raise InputError(f"{path} is what is read; give another file to write")
    if path.exists() and not path.is_file():  # a device would be replaced by a file of its name
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'no file'}; give the name of a file to write")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}")
    return path


def write(path: Path, content: str | bytes) -> str:
    """Write the file, whole or not at all -> what to tell of it. Raises OSError where it cannot be."""
    from elman.checkpoint import write_atomically

    raw = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    write_atomically(path, raw)
    size = f"{len(raw) / 1e6:.1f} MB" if len(raw) >= 1e6 else f"{len(raw) / 1e3:.0f} kB"
    return f"{path}: {size}"
