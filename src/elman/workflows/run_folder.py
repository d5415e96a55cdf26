"""The folder of a training run: the model, the last checkpoints, the log and the configuration."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from elman import checkpoint
from elman.errors import InputError, LaterFormatError, ModelFileError, RunFolderError
from elman.text_model import MODEL_FILE
from elman.workflows.lock import FolderLock

CHECKPOINT_FILE = "checkpoint.safetensors"
LOG_FILE = "log.jsonl"
CONFIG_FILE = "config.toml"
TOKENIZER_FILE = "tokenizer.json"  # of a bpe tokenizer, for other programs
_EARLIER = re.compile(r"checkpoint-(\d+)\.safetensors")
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)  # says a file system that has none


class RunFolder:
    """``model.safetensors``, ``checkpoint.safetensors`` (the last), ``log.jsonl`` and ``config.toml``.

    Checkpoints before the last one are ``checkpoint-<step>.safetensors``. The folder is locked from :meth:`create` or
    :meth:`open` to :meth:`close`. What cannot be written is a RunFolderError that names the file. ``notes``: what a
    person should know of the folder.
    """

    def __init__(self, path: Path, is_new: bool = False):
        self.path = path
        self.model_path = path / MODEL_FILE
        self.log_lines = 1  # that of the start comes first
        self._last = path / CHECKPOINT_FILE
        self._last_step: int | None = None  # of the last checkpoint, where it is whole
        self._is_new = is_new
        with self.writing():
            self._lock = FolderLock(path)
            for file in path.iterdir():
                if _TEMPORARY.fullmatch(file.name):  # a killed process left it
                    file.unlink()
        self.notes = [] if self._lock.note is None else [self._lock.note]

    @classmethod
    def create(cls, out: str | Path | None, name: str) -> RunFolder:
        """Make a new run folder: ``out``, or without it the first free ``runs/<name>-<n>``.

        Raises RunFolderError where ``out`` already holds a run, is a file, or cannot be made.
        """
        is_new = True
        if out is None:
            number = 1
            while (path := Path("runs") / f"{name}-{number}").exists() or not _make(path):
                number += 1
        elif str(out) == "":
            raise RunFolderError("the run folder has an empty name; give another one with --out")
        else:
            path = Path(out)
            is_new = _make(path)
        folder = cls(path, is_new)
        held = [file for file in (MODEL_FILE, CHECKPOINT_FILE, LOG_FILE, CONFIG_FILE) if (path / file).exists()]
        held += [path.name for _, path in folder._earlier()]
        if held:
            folder.close()
            raise RunFolderError(
                f"{path} already holds a run ({held[0]}); "
                f"continue it with --resume {path}, or give another folder with --out"
            )
        return folder

    @classmethod
    def open(cls, path: str | Path) -> tuple[RunFolder, dict[str, np.ndarray], dict[str, Any]]:
        """Open a run to go on with it -> folder, and the tensors and metadata of its newest whole checkpoint.

        Raises RunFolderError where there is no run or another process trains it, ModelFileError where no checkpoint
        is whole.
        """
        path = Path(path)
        if not is_run(path):
            raise RunFolderError(f"{path} holds no run to resume: there is no {CHECKPOINT_FILE} in it")
        folder = cls(path)
        try:
            return folder, *folder.read_checkpoint()
        except BaseException:
            folder.close()
            raise

    def close(self) -> None:
        """Unlock the folder; remove it where nothing came into it."""
        self._lock.release()
        if self._is_new:
            with suppress(OSError):  # it is not empty
                self.path.rmdir()

    @property
    def has_ended(self) -> bool:
        """Whether the run wrote its last record, and its model is there."""
        log = self.path / LOG_FILE
        last = log.read_bytes().splitlines()[-1:] if log.exists() else []
        return self.model_path.exists() and any(line.startswith(b'{"event": "end"') for line in last)

    def read_checkpoint(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The newest whole checkpoint; a note tells where that is not the last one that was written."""
        failures = []
        for path in (self._last, *(path for _, path in self._earlier())):
            try:
                tensors, metadata = checkpoint.load(path)
                if metadata.get("kind") != "checkpoint":
                    kind = "a model" if metadata.get("kind") == "model" else "a file of another kind"
                    raise ModelFileError(f"{path} is not a checkpoint but {kind}")
            except LaterFormatError:
                raise
            except ModelFileError as error:
                failures.append(str(error))
                continue
            if failures:
                self.notes.append(f"THE LAST CHECKPOINT IS LOST: {failures[0]}. Going on from {path.name} instead")
            elif isinstance(progress := metadata.get("progress"), dict):
                self._last_step = progress.get("step")
            return tensors, metadata
        raise ModelFileError(failures[0])

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], keep: int
    ) -> None:
        """Make this the last checkpoint, whole or not at all, and keep so many in all."""
        with self.writing():
            if (log := self.path / LOG_FILE).exists():  # with all the lines that the checkpoint knows of
                _flush_to_disk(log)
            if keep > 1 and self._last_step is not None:
                self._keep_last()
            checkpoint.save(self._last, tensors, metadata)
            self._last_step = step
            earlier = self._earlier()
            kept = [path for number, path in earlier if number < step][: keep - 1]
            for _, path in earlier:
                if path not in kept:  # too many, or of a course that the run left
                    path.unlink()

    def _keep_last(self) -> None:
        """Give the last checkpoint, which is about to be replaced, a name of its own as well."""
        kept = self.path / f"checkpoint-{self._last_step}.safetensors"
        kept.unlink(missing_ok=True)
        try:
            os.link(self._last, kept)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            checkpoint.write_atomically(kept, self._last.read_bytes())

    def _earlier(self) -> list[tuple[int, Path]]:
        """Steps and files of the checkpoints before the last one, the newest first."""
        return sorted(
            ((int(match[1]), file) for file in self.path.iterdir() if (match := _EARLIER.fullmatch(file.name))),
            reverse=True,
        )

    def write(self, name: str, content: bytes) -> None:
        """Replace another file of the folder."""
        with self.writing():
            checkpoint.write_atomically(self.path / name, content)

    def begin_log(self, start: Mapping[str, Any], lines: int = 1) -> None:
        """Write the start record, and keep what comes after it in the first lines: those that a checkpoint knows of."""
        log = self.path / LOG_FILE
        before = log.read_bytes().splitlines(keepends=True)[1:lines] if log.exists() else []
        if len(before) < lines - 1:
            self.notes.append(f"{log} has lost {lines - 1 - len(before)} of its {lines} lines")
        self.write(LOG_FILE, self._line(start) + b"".join(before))
        self.log_lines = lines

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record to the log."""
        path = self.path / LOG_FILE
        with self.writing(path), path.open("ab") as file:
            file.write(self._line(record))
        self.log_lines += 1

    def _line(self, record: Mapping[str, Any]) -> bytes:
        """A line of the log, which knows the folder only as itself, so that it may be moved."""
        here = {"out": ".", "model": MODEL_FILE}
        return json.dumps({key: here.get(key, value) for key, value in record.items()}).encode() + b"\n"

    @contextmanager
    def writing(self, path: Path | None = None) -> Iterator[None]:
        """Turn a system's error into one that names the file (``path`` where the system does not) and a way out."""
        try:
            yield
        except OSError as error:
            failed = f"cannot write {error.filename or path or self.path}: {error.strerror}"
            if is_run(self.path):
                whole = "" if self._last_step is None else f", which is whole up to step {self._last_step:,}"
                advice = f"when that is mended, go on with elman train --resume {self.path}{whole}"
            else:
                advice = "give a folder in another place with --out"
            raise RunFolderError(f"{failed}; {advice}") from None


def _make(path: Path) -> bool:
    """Make a folder, unless it is there already -> whether it was made."""
    try:
        path.mkdir(parents=True)
        return True
    except OSError as error:
        if isinstance(error, FileExistsError) and path.is_dir():
            return False
        what = "is a file" if isinstance(error, FileExistsError) else f"cannot be made: {error.strerror}"
        raise RunFolderError(f"the run folder {path} {what}; give another one with --out") from None


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run that can be gone on with."""
    try:
        return any(file.name == CHECKPOINT_FILE or _EARLIER.fullmatch(file.name) for file in folder.iterdir())
    except OSError:
        return False


def check_no_run(texts: Sequence[str | Path]) -> None:
    """Raise InputError where one of the texts to read is the folder of a run."""
    for text in texts:
        if is_run(Path(text)):
            raise InputError(f"{text} is a run folder, not a text; to go on with the run give --resume {text}")


def _flush_to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(file)
