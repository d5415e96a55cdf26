"""The folder of a training run: the model, the checkpoint, the log and the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elman import checkpoint
from elman.errors import InputError, ModelFileError, RunFolderError
from elman.text_model import MODEL_FILE

CHECKPOINT_FILE = "checkpoint.safetensors"
LOG_FILE = "log.jsonl"
CONFIG_FILE = "config.toml"
TOKENIZER_FILE = "tokenizer.json"  # of a bpe tokenizer, for other programs


class RunFolder:
    """``model.safetensors`` (the best), ``checkpoint.safetensors`` (the last), ``log.jsonl`` and ``config.toml``."""

    def __init__(self, path: Path):
        self.path = path
        self.model_path = path / MODEL_FILE
        self.log_lines = 0

    @classmethod
    def create(cls, out: str | Path | None, name: str, config_toml: str) -> RunFolder:
        """Make a new run folder: ``out``, or without it the first free ``runs/<name>-<n>``.

        Raises RunFolderError where ``out`` already holds a run or is a file.
        """
        if out is None:
            number = 1
            while (path := Path("runs") / f"{name}-{number}").exists():
                number += 1
        elif str(out) == "":
            raise RunFolderError("the run folder has an empty name; give another one with --out")
        else:
            path = Path(out)
            if path.exists() and not path.is_dir():
                raise RunFolderError(f"{path} is a file; give another folder with --out")
            held = [file for file in (MODEL_FILE, CHECKPOINT_FILE, LOG_FILE, CONFIG_FILE) if (path / file).exists()]
            if held and held != [LOG_FILE, CONFIG_FILE]:  # these two alone: a run that ended before it began
                raise RunFolderError(
                    f"{path} already holds a run ({held[0]}); "
                    f"continue it with --resume {path}, or give another folder with --out"
                )
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path)
        folder.write_config(config_toml)
        (path / LOG_FILE).write_bytes(b"")
        return folder

    @classmethod
    def open(cls, path: str | Path) -> tuple[RunFolder, dict[str, np.ndarray], dict[str, Any]]:
        """Open a run to go on with it -> folder, the checkpoint's tensors and metadata; the log is cut back to it.

        Raises RunFolderError where there is no run, ModelFileError where its checkpoint is damaged.
        """
        folder = cls(Path(path))
        if not (folder.path / CHECKPOINT_FILE).exists():
            raise RunFolderError(f"{path} holds no run to resume: there is no {CHECKPOINT_FILE} in it")
        tensors, metadata = checkpoint.load(folder.path / CHECKPOINT_FILE)
        if metadata.get("kind") != "checkpoint":
            raise ModelFileError(f"{folder.path / CHECKPOINT_FILE} is not a checkpoint but a {metadata.get('kind')}")
        return folder, tensors, metadata

    def write_config(self, config_toml: str) -> None:
        """Replace the configuration."""
        checkpoint.write_atomically(self.path / CONFIG_FILE, config_toml.encode())

    def cut_log(self, lines: int) -> None:
        """Keep the first lines of the log: those that the checkpoint knows of."""
        log = self.path / LOG_FILE
        kept = log.read_text(encoding="utf-8").splitlines(keepends=True)[:lines] if log.exists() else []
        checkpoint.write_atomically(log, "".join(kept).encode())
        self.log_lines = len(kept)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record to the log."""
        with (self.path / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.log_lines += 1

    def save_checkpoint(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all."""
        checkpoint.save(self.path / CHECKPOINT_FILE, tensors, metadata)


def check_no_run(texts: Sequence[str | Path]) -> None:
    """Raise InputError where one of the texts to read is the folder of a run."""
    for text in texts:
        if (Path(text) / CHECKPOINT_FILE).exists():
            raise InputError(f"{text} is a run folder, not a text; to go on with the run give --resume {text}")
