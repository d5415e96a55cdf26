"""What a model file holds, and what this installation can do."""

from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

import elman
from elman.kernels import available_kernels
from elman.presets import PRESETS
from elman.text.corpora import CORPORA
from elman.text.sources import read_corpus
from elman.text_model import load


def installation() -> dict[str, Any]:
    """Versions, kernels, the BLAS library behind NumPy, presets, and the corpora with their digests."""
    return {
        "elman": elman.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "kernels": available_kernels(),
        "native": _describe_native(),
        "blas": blas_libraries(),
        "processors": os.cpu_count(),
        "presets": {name: preset.summary for name, preset in PRESETS.items()},
        "corpora": {name: _describe_corpus(name) for name in CORPORA},
    }


def blas_libraries() -> list[str]:
    """The BLAS libraries loaded in this process: name, version, the processor core that they compute for, threads."""
    from threadpoolctl import threadpool_info

    return [
        f"{library['internal_api']} {library['version']} ({library.get('architecture', 'unknown')}, "
        f"{library['num_threads']} threads)"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]


def _describe_native() -> str:
    if "native" not in available_kernels():
        return "not built: no C++ compiler worked at installation"
    from elman.kernels.native import instruction_set

    return f"built, computes with {instruction_set()}"


def _describe_corpus(name: str) -> dict[str, Any]:
    source = read_corpus(name)
    return {"characters": len(source.content), "sha256": source.sha256}


def model(path: str | Path) -> dict[str, Any]:
    """The configuration, tokenizer, training protocol and figures of a model file or run folder.

    Raises ModelFileError where it is missing, damaged or not ours.
    """
    opened = load(path)
    language_model, tokenizer = opened.language_model, opened.tokenizer
    return {
        "model": dataclasses.asdict(language_model.config),
        "parameters": language_model.num_parameters,
        "tensors": {name: list(array.shape) for name, array in language_model.parameters.items()},
        "tokenizer": tokenizer.to_json() | {"vocab_size": tokenizer.vocab_size},
        **opened.info,
    }
