"""Files -> bytes, in blocks: plain, compressed, or what came only once; the same bytes every time, or an error."""

from __future__ import annotations

import bz2
import glob
import gzip
import lzma
import os
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from elman.errors import InputError

BLOCK = 1 << 20  # bytes
_IN_MEMORY = 16 << 20  # bytes of a stream
_DECOMPRESSORS: dict[str, Callable[[BinaryIO], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


class Blocks(Protocol):
    """Bytes that can be read again and again."""

    def blocks(self) -> Iterator[bytes]:
        """All of them from the first on, at most BLOCK at a time."""


class File:
    """A file on disk, decompressed where its name ends in .gz, .bz2 or .xz."""

    def __init__(self, path: Path):
        self.path = path
        self._seen: tuple[int, int] | None = None

    def blocks(self) -> Iterator[bytes]:
        """Raises InputError where the file cannot be read, is damaged, or is not what it was when first read."""
        suffix = self.path.suffix.lower()
        try:
            with self.path.open("rb") as raw:
                self._check_unchanged(os.fstat(raw.fileno()))
                stream = _DECOMPRESSORS[suffix](raw) if suffix in _DECOMPRESSORS else raw
                while block := stream.read(BLOCK):
                    yield block
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.strerror:
                raise InputError(f"cannot read {self.path}: {error.strerror}") from None
            raise InputError(f"{self.path} is not a whole {suffix} file: {error}; get or make it again") from None

    def _check_unchanged(self, status: os.stat_result) -> None:
        now = status.st_size, status.st_mtime_ns
        if self._seen not in (None, now):
            raise InputError(f"{self.path} has changed since it was first read; start again")
        self._seen = now


class Spool:
    """What a stream gives, kept for as long as this object lives; what is large, in a temporary file.

    Raises InputError where the stream, shown so, cannot be read to its end or kept.
    """

    def __init__(self, stream: BinaryIO, shown: str):
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        for block in _blocks(stream, shown):
            try:
                self._file.write(block)
            except OSError as error:
                raise InputError(
                    f"{shown} does not fit into a temporary file: {error.strerror}; name a folder with room in TMPDIR"
                ) from None

    def blocks(self) -> Iterator[bytes]:
        """All that the stream gave."""
        at = 0
        while True:
            self._file.seek(at)  # others may read it meanwhile
            if not (block := self._file.read(BLOCK)):
                return
            at += len(block)
            yield block


def _blocks(stream: BinaryIO, shown: str) -> Iterator[bytes]:
    """All that is left of a stream."""
    try:
        while (block := stream.read(BLOCK)) != b"":
            if block is None:
                raise InputError(f"{shown} does not wait for its text (O_NONBLOCK is set); give it as a file")
            yield block
    except OSError as error:
        raise InputError(f"cannot read {shown}: {error.strerror}") from None


def stem(path: Path) -> str:
    """The name of a file without its ending, and without that of its compression: poems.txt.gz -> poems."""
    return path.with_suffix("").stem if path.suffix.lower() in _DECOMPRESSORS else path.stem


def files_below(folder: Path) -> tuple[list[Path], dict[str, list[str]]]:
    """All files below a folder, sorted, and the names of what is left out, by kind.

    ``hidden``: the name begins with a dot; ``special``: links to folders, broken links, and what is neither file nor
    folder. Raises InputError for a folder that cannot be read.
    """
    files: list[Path] = []
    left_out: dict[str, list[str]] = {"hidden": [], "special": []}

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot read the folder {error.filename}: {error.strerror}")

    for where, folders, names in os.walk(folder, onerror=refuse):
        for name in sorted([*folders, *names]):
            path = Path(where, name)
            if name.startswith("."):
                left_out["hidden"].append(name)
            elif path.is_file():
                files.append(path)
            elif name in names or path.is_symlink():
                left_out["special"].append(name)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return sorted(files), left_out


def files_matching(pattern: str) -> list[Path]:
    """The files that a pattern with * ? [ describes, sorted; ** stands for folders at any depth."""
    return sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207
