"""TEXT -> TOKENS: ids on disk, so that a text may be larger than memory.

The ids of a large text go to a file of the cache, named after a digest of the text's part and the tokenizer, and are
read from there by windows. A file of the cache is written whole or not at all, and may be removed at any time between
two runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from elman.errors import InputError
from elman.text.tokenizers import Tokenizer

LARGE = 1 << 24  # characters from which on ids are kept on disk
_FORMAT = 2  # to be raised where ids, or how they are written, change for the same text and tokenizer
_DIGEST = 32  # bytes of a SHA-256
_STALE = 86_400  # seconds after which what an interrupted process left is removed


class IdFile:
    """Ids (N,) in a file, read by slices (os.pread), so that none of them stay in memory.

    Behind them stands their SHA-256. Raises InputError where the file has become shorter since it was opened.
    """

    def __init__(self, path: Path, dtype: np.dtype):
        self.dtype = dtype
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._path = path
        self._length = (os.fstat(self._file).st_size - _DIGEST) // dtype.itemsize

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice, /) -> np.ndarray:
        start, stop, step = part.indices(self._length)
        size = self.dtype.itemsize
        wanted = max(0, stop - start) * size
        raw = os.pread(self._file, wanted, start * size)
        if len(raw) < wanted:
            raise InputError(f"the cache file {self._path} was cut while it was read; start again")
        return np.frombuffer(raw, self.dtype)[::step]


def encode(chunks: Iterable[str], tokenizer: Tokenizer, characters: int, digest: str) -> np.ndarray | IdFile:
    """The ids of a text that comes in chunks: in memory, or in a file of the cache where it has LARGE characters.

    digest: of the text and the part of it that the chunks are. Raises InputError where the cache cannot be written.
    """
    if characters < LARGE:
        parts = list(tokenizer.encode_chunks(chunks))
        return np.concatenate(parts) if parts else np.empty(0, np.uint8)
    key = hashlib.sha256(json.dumps([_FORMAT, digest, tokenizer.to_json()], sort_keys=True).encode()).hexdigest()
    path = folder() / f"{key}.ids"
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    if not _is_whole(path):
        _write(path, chunks, tokenizer, dtype)
    return IdFile(path, dtype)


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size - _DIGEST
            digest = hashlib.sha256()
            while left > 0 and (block := file.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
            return left == 0 and file.read() == digest.digest()
    except OSError:
        return False


def folder() -> Path:
    """Where the cache is: ELMAN_CACHE_DIR, or else the usual place of this system.

    Raises InputError where a user without a home folder has no such place.
    """
    if named := os.environ.get("ELMAN_CACHE_DIR"):
        return Path(named)
    import pooch

    with contextlib.suppress(RuntimeError):
        usual = Path(pooch.os_cache("elman"))
        if usual.is_absolute():  # some versions give a folder called ~
            return usual
    raise InputError("a cache is needed and there is no home folder for it; name a folder in ELMAN_CACHE_DIR")


def _write(path: Path, chunks: Iterable[str], tokenizer: Tokenizer, dtype: np.dtype) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        descriptor, name = tempfile.mkstemp(".part", path.stem, path.parent)
    except OSError as error:
        raise _unwritable(path.parent, error) from None
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            digest = hashlib.sha256()
            for ids in tokenizer.encode_chunks(chunks):
                raw = ids.astype(dtype).tobytes()
                digest.update(raw)
                file.write(raw)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:  # also of the second flush, when the file is closed
        part.unlink(missing_ok=True)
        raise _unwritable(path.parent, error) from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_stale(cache: Path) -> None:
    for part in cache.glob("*.part"):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mtime < time.time() - _STALE:
                part.unlink()


def _unwritable(cache: Path, error: OSError) -> InputError:
    return InputError(
        f"the cache folder {cache} cannot be written: {error.strerror}; name another one in ELMAN_CACHE_DIR"
    )
