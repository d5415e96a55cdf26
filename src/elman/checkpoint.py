"""The model file: one safetensors file that reopens with nothing else, verified by a digest, written atomically.

Layout: tensors by name, and in the header's ``__metadata__`` the single key ``elman``, whose JSON text begins with
``{"sha256":"…64 digits…"``. The digest is taken over the whole file with those 64 digits as zeros, so that any change
of any byte is found. The format is https://github.com/huggingface/safetensors; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import ModelFileError

FORMAT_VERSION = 1
_KEY = "elman"
_OPENING = '{"sha256":"'
_ZEROS = "0" * 64
_LENGTH_BYTES = 8
_MAX_HEADER = 100_000_000  # the format's own limit
_MAGIC = {
    b"PK\x03\x04": "a zip archive, perhaps of PyTorch or NumPy",
    b"\x80": "a Python pickle",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
}


def save(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able metadata; the file is there whole or not at all.

    Equal tensors and metadata give equal bytes. Raises OSError where it cannot be written.
    """
    from safetensors.numpy import save as serialize

    text = json.dumps({"sha256": _ZEROS, "format": FORMAT_VERSION, **metadata}, separators=(",", ":"))
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    content = bytearray(serialize(contiguous, metadata={_KEY: text}))
    start = _digest_position(content)
    content[start : start + 64] = hashlib.sha256(content).hexdigest().encode()
    write_atomically(Path(path), bytes(content))


def load(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read and verify a file that ``save`` wrote -> tensors, metadata (without digest and format).

    Raises ModelFileError with what is wrong: not there, not this format, truncated, altered, or from a later version.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read the model file {path}: {error.strerror}") from None
    try:
        metadata = _verify(content)
        return _tensors(content), metadata
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _verify(content: bytes) -> dict[str, Any]:
    """Check the whole file against its header and its digest -> the metadata."""
    header = _header(content)
    ends = [_end_of(entry) for name, entry in header.items() if name != "__metadata__"]
    metadata = header.get("__metadata__")
    text = metadata.get(_KEY) if isinstance(metadata, dict) and len(metadata) == 1 else None
    if not isinstance(text, str) or not text.startswith(_OPENING):
        raise ModelFileError("a safetensors file, but not an elman model: it has no elman metadata")
    expected = _LENGTH_BYTES + _header_size(content) + max(ends, default=0)
    if len(content) != expected:
        what = "truncated" if len(content) < expected else "with something appended"
        raise ModelFileError(f"{what}: {len(content)} bytes where the header says {expected}; copy it again")
    start = _digest_position(content)
    zeroed = b"".join((content[:start], _ZEROS.encode(), content[start + 64 :]))
    if hashlib.sha256(zeroed).hexdigest().encode() != content[start : start + 64]:
        raise ModelFileError("altered or damaged: its SHA-256 is not the one written in it; copy it again")
    parsed = _parse(text)
    version = parsed.pop("format", None)
    if version != FORMAT_VERSION:
        raise ModelFileError(f"format version {version}, but this elman reads version {FORMAT_VERSION}; upgrade elman")
    del parsed["sha256"]
    return parsed


def _header(content: bytes) -> dict[str, Any]:
    for magic, kind in _MAGIC.items():
        if content.startswith(magic) and content[8:9] != b"{":
            raise ModelFileError(f"not an elman model: it looks like {kind}")
    size = _header_size(content)
    if content[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{" or size > _MAX_HEADER:
        raise ModelFileError("not an elman model: it does not begin as a safetensors file does")
    if len(content) < _LENGTH_BYTES + size:
        raise ModelFileError(f"truncated: {len(content)} bytes, which is less than its header; copy it again")
    return _parse(content[_LENGTH_BYTES : _LENGTH_BYTES + size])


def _header_size(content: bytes | bytearray) -> int:
    return int.from_bytes(content[:_LENGTH_BYTES], "little")


def _parse(text: str | bytes) -> dict[str, Any]:
    """A JSON object in which no key stands twice."""
    try:
        parsed = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise ModelFileError("damaged: its header cannot be read; copy it again")
    return parsed


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("a key stands twice")
    return parsed


def _end_of(entry: Any) -> int:
    match entry:
        case {"data_offsets": [int(begin), int(end)]} if 0 <= begin <= end:
            return end
    raise ModelFileError("damaged: its header cannot be read; copy it again")


def _digest_position(content: bytes | bytearray) -> int:
    """Where the 64 digits stand: after the opening of the metadata's text, whose quotes the header escapes."""
    opening = json.dumps(_OPENING)[:-1].encode()
    position = content.find(opening, _LENGTH_BYTES, _LENGTH_BYTES + _header_size(content))
    if position < 0:
        raise ModelFileError("not an elman model: its metadata does not begin with a digest")
    return position + len(opening)


def _tensors(content: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    try:
        return deserialize(content)
    except (SafetensorError, KeyError) as error:
        raise ModelFileError(f"its tensors cannot be read: {error}") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under another name in the same folder, flush it to the disk, and rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
