r"""The model file: one safetensors file that reopens with nothing else, verified by a digest, written atomically.

- 8 bytes: the length of the header;
- the header: ``{"__metadata__":{"elman":"TEXT"},"NAME":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},…}``;
- the tensors' data in the header's order, without gaps.

TEXT is JSON inside JSON, so its quotes are escaped; it begins with ``{"sha256":"…64 digits…","format":1``. The digest
is taken over the whole file with those 64 digits as zeros, so that any change of any byte is found. As a digest does
not say who wrote a file, no file is trusted: sizes are limited before anything is parsed, and what is parsed must be as
``save`` writes it. The format is https://github.com/huggingface/safetensors; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import InputError, LaterFormatError, ModelFileError

FORMAT_VERSION = 1
_KEY = "elman"
_LENGTH_BYTES = 8
_BEFORE_TEXT = b'{"__metadata__":{"elman":'
_OPENING = _BEFORE_TEXT + rb'"{\"sha256\":\"'
_ZEROS = "0" * 64
_MAX_TEXT = 64_000_000  # bytes of the quoted TEXT: a vocabulary of a million words and more
_MAX_TENSORS = 20_000  # 1,000 layers with what an optimiser remembers of them and a copy of the best
_MAX_LIST = 10_000_000  # bytes of the header after the TEXT
_MAX_BRACKETS = 2_000_000  # in the TEXT, which a merge of BPE has one of; parsed, a pair takes forty times its size
_DTYPES = {f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)}
_DTYPES |= {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,199}")
_NUMBER = r"(?:0|[1-9][0-9]{0,18})"
_ENTRY = re.compile(
    rf',"([^"]*)":{{"dtype":"([A-Z][A-Z0-9_]{{0,19}})","shape":\[((?:{_NUMBER}(?:,{_NUMBER}){{0,7}})?)\],'
    rf'"data_offsets":\[({_NUMBER}),({_NUMBER})\]}}'
)
_MAGIC = {
    b"PK\x03\x04": "a zip archive, perhaps of PyTorch or NumPy",
    b"\x80": "a Python pickle",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
}


def save(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able metadata; the file is there whole or not at all.

    Equal tensors and metadata give equal bytes. Raises OSError where it cannot be written, and InputError for what
    ``load`` would refuse: another dtype than float32, float64 or whole numbers, an odd name, too much of anything.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save as serialize

    text = json.dumps({"sha256": _ZEROS, "format": FORMAT_VERSION, **metadata}, separators=(",", ":"))
    try:
        content = serialize({name: np.asarray(each, order="C") for name, each in tensors.items()}, {_KEY: text})
        start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
        _, listed = _split(content[_LENGTH_BYTES:start])
        _tensors(listed, np.frombuffer(content, np.uint8)[start:])
    except (SafetensorError, ModelFileError) as error:
        raise InputError(f"what is to be saved in {path} cannot be: {error}") from None
    digits = _LENGTH_BYTES + len(_OPENING)
    digest = hashlib.sha256(content).hexdigest().encode()
    write_atomically(Path(path), content[:digits], digest, memoryview(content)[digits + 64 :])


def load(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read and verify a file that ``save`` wrote -> tensors, metadata (without digest and format).

    The tensors share one block of memory of the file's size. Raises ModelFileError with what is wrong: not there, not
    this format, truncated, altered; LaterFormatError where a later elman wrote it.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            return _read(file)
    except OSError as error:
        raise ModelFileError(f"cannot read the model file {path}: {error.strerror}") from None
    except ModelFileError as error:
        raise type(error)(f"{path}: {error}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting until someone writes into a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read(file: io.BufferedReader) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError("not a file, but a device or a pipe")
    header = _header(file, status.st_size)
    text, listed = _split(header)
    start = _LENGTH_BYTES + len(header)
    ends = re.findall(r'"data_offsets":\[[0-9]{1,19},([0-9]{1,19})\]', listed)
    expected = start + max(map(int, ends), default=0)
    if status.st_size != expected:
        what = "truncated" if status.st_size < expected else "with something appended"
        raise ModelFileError(f"{what}: {status.st_size} bytes where the header says {expected}; copy it again")
    data = np.empty(expected - start, np.uint8)
    file.readinto(data.data)
    _check_digest(header, data)
    metadata = _metadata(text)  # first, as it tells a later format, whose tensors may be others
    return _tensors(listed, data), metadata


def _header(file: io.BufferedReader, file_size: int) -> bytes:
    start = file.read(_LENGTH_BYTES + 1)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic) and start[_LENGTH_BYTES:] != b"{":
            raise ModelFileError(f"not an elman model: it looks like {kind}")
    size = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if start[_LENGTH_BYTES:] != b"{" or size > _MAX_TEXT + _MAX_LIST:
        raise ModelFileError("not an elman model: it does not begin as one does")
    if file_size < _LENGTH_BYTES + size:
        raise ModelFileError(f"truncated: {file_size} bytes, which is less than its header; copy it again")
    file.seek(_LENGTH_BYTES)
    return file.read(size)


def _split(header: bytes) -> tuple[str, str]:
    """The header's TEXT, and what comes behind it, each of a limited size."""
    if not header.startswith(_OPENING):
        raise ModelFileError("a safetensors file, but not an elman model: its header does not begin as elman's does")
    try:
        readable = header.decode("ascii")
        text, end = json.JSONDecoder().raw_decode(readable, len(_BEFORE_TEXT))
    except ValueError:
        raise ModelFileError("damaged: its header cannot be read; copy it again") from None
    listed = readable[end:]
    if end > _MAX_TEXT or text.count("[") + text.count("{") > _MAX_BRACKETS:
        raise ModelFileError(f"its metadata are too large: {end:,} bytes; a vocabulary must be smaller (--max-vocab)")
    if len(listed) > _MAX_LIST or listed.count('"data_offsets"') > _MAX_TENSORS:
        raise ModelFileError(f"it has too many tensors: {len(listed):,} bytes list them")
    return text, listed


def _check_digest(header: bytes, data: np.ndarray) -> None:
    digits = slice(len(_OPENING), len(_OPENING) + 64)
    digest = hashlib.sha256(len(header).to_bytes(_LENGTH_BYTES, "little"))
    for part in (header[: digits.start], _ZEROS.encode(), memoryview(header)[digits.stop :], data.data):
        digest.update(part)
    if digest.hexdigest().encode() != header[digits]:
        raise ModelFileError("altered or damaged: its SHA-256 is not the one written in it; copy it again")


def _metadata(text: str) -> dict[str, Any]:
    """What the TEXT says: an object in which no key stands twice, without digest and format."""
    try:
        metadata = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise ModelFileError("its metadata cannot be read") from None
    version = metadata.pop("format", None)
    if type(version) is not int or version < 1:
        raise ModelFileError("its metadata has no format version")
    if version > FORMAT_VERSION:
        shown = str(version)[:20]
        raise LaterFormatError(f"format version {shown}, but this elman reads version {FORMAT_VERSION}; upgrade elman")
    del metadata["sha256"]
    return metadata


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("a key stands twice")
    return parsed


def _tensors(listed: str, data: np.ndarray) -> dict[str, np.ndarray]:
    """The tensors that the header lists, as views of the data, which they must cover one behind the other."""
    tensors: dict[str, np.ndarray] = {}
    place, begin = 1, 0
    while entry := _ENTRY.match(listed, place):
        place = entry.end()
        name, kind, lengths = entry[1], entry[2], entry[3]
        if not _NAME.fullmatch(name) or name in tensors:
            raise ModelFileError(f"its tensor {name[:40]!r} is there twice or has a name that elman does not give")
        if kind not in _DTYPES:
            raise ModelFileError(f"its tensor {name} is {kind}, which elman does not use")
        dtype, shape = _DTYPES[kind], [int(length) for length in lengths.split(",") if length]
        end = begin + math.prod(shape) * dtype.itemsize
        if [int(entry[4]), int(entry[5])] != [begin, end] or begin % dtype.itemsize:
            raise ModelFileError(f"its tensor {name} is not where the one before ends or not as its shape says")
        try:
            tensors[name] = data[begin:end].view(dtype).reshape(shape)
        except ValueError:
            raise ModelFileError(f"its tensor {name} has a shape that no array can have") from None
        begin = end
    if listed[:1] != "}" or listed[place:].rstrip(" ") != "}":
        raise ModelFileError("its list of tensors is not one that elman writes")
    return tensors


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write a file under another name in the same folder, flush it to the disk, and rename it into place.

    ``content``: its parts in order. Raises OSError, with the file's name, where it cannot be; the old file then stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.writelines(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:  # a failed write or flush does not say of which file
        raise OSError(error.errno, error.strerror, str(path)) from None
