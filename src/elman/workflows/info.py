"""What a model file holds, what a text is like and how hard to predict, and what this installation can do."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import elman
from elman.config import TrainConfig
from elman.kernels import available_kernels, bf16_lacks
from elman.presets import PRESETS
from elman.text.corpora import CORPORA, DOWNLOADS
from elman.text.ngrams import witten_bell, xz_nats
from elman.text.sources import open_corpus, open_text
from elman.text.split import Part, SplitText, split_text, unknown_share
from elman.text_model import MODEL_FILE, load
from elman.workflows.run_folder import check_no_run, is_run

_COMMONEST = 20
_MOST_ORDERS = 6
_MOST_TOKENS = 20_000_000  # for n-grams and xz, which take memory and minutes


def installation() -> dict[str, Any]:
    """Versions, kernels, the BLAS library behind NumPy, presets, and the corpora with their digests."""
    return {
        "elman": elman.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "kernels": available_kernels(),
        "native": _describe_native(),
        "bf16": _describe_bf16(),
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


def _describe_bf16() -> str:
    lacks = bf16_lacks()
    return f"not here: {lacks}" if lacks else "here: elman train --precision bf16 uses AMX tiles"


def _describe_corpus(name: str) -> dict[str, Any]:
    if name in DOWNLOADS:
        return {"url": DOWNLOADS[name].url, "sha256": DOWNLOADS[name].sha256}
    text = open_corpus(name)
    return {"characters": text.characters, "sha256": text.sha256}


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


def is_model(path: str | Path) -> bool:
    """Whether a path is meant as a model: a run folder, a model file, or a name that ends like one."""
    path = Path(path)
    if path.is_file() and path.suffix != ".safetensors":
        with path.open("rb") as file:
            head = file.read(9)
        return head[4:] == b"\0\0\0\0{"  # the length of a header, and its first character
    return is_run(path) or (path / MODEL_FILE).exists() or path.suffix == ".safetensors"


def text(texts: Sequence[str | Path], train: TrainConfig) -> dict[str, Any]:
    """What a text is like, and what a model of it has to beat on the validation part that training holds out.

    -> text, characters, distinct_characters, encodings, sha256, notes; tokenizer, vocab_size, train_tokens,
    valid_tokens, characters_per_token, coverage (share of the validation tokens that are not ``<unk>``), unknown_rate;
    commonest (token and count in the training part); split, uniform, ngrams (Witten-Bell, a figure an order) and xz,
    each in nats_per_token and bits_per_char (:mod:`elman.text.ngrams`). Raises InputError for an unusable text.
    """
    check_no_run(texts)
    opened = open_text(texts, train.encoding, train.encoding_errors)
    data = split_text(opened, None, train)
    tokenizer = data.tokenizer
    counts = _counts(data)
    return {
        "text": opened.name,
        "characters": opened.characters,
        "distinct_characters": len(set().union(*map(set, opened.chunks()))),
        "encodings": list(opened.encodings),
        "sha256": opened.sha256,
        "notes": list(data.notes),
        "tokenizer": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "train_tokens": len(data.train_ids),
        "valid_tokens": 0 if data.valid_ids is None else len(data.valid_ids),
        "characters_per_token": data.train.characters / len(data.train_ids),
        **_coverage(data),
        "commonest": [[tokenizer.describe(token), count] for token, count in counts.most_common(_COMMONEST)],
        "split": data.split,
        **_baselines(data),
    }


def _counts(data: SplitText) -> Counter[int]:
    """How often each id stands in the training part."""
    counts = np.zeros(data.tokenizer.vocab_size, np.int64)
    for start in range(0, len(data.train_ids), 1 << 20):
        counts += np.bincount(data.train_ids[start : start + (1 << 20)], minlength=len(counts))
    return Counter({token: int(counts[token]) for token in np.flatnonzero(counts).tolist()})


def _coverage(data: SplitText) -> dict[str, float | None]:
    if data.valid_ids is None:
        return {"coverage": None, "unknown_rate": None}
    rate = unknown_share(data.valid_ids, data.tokenizer)
    return {"coverage": 1 - rate, "unknown_rate": rate}


def _baselines(data: SplitText) -> dict[str, Any]:
    """The figures to beat; None for what a text without a validation part, or too large a one, does not have."""
    if data.valid is None or data.valid_ids is None:
        return {"uniform": None, "ngrams": None, "xz": None}
    valid, tokens, size = data.valid, len(data.valid_ids), data.tokenizer.vocab_size

    def figures(nats: float, spelling: float = 0.0) -> dict[str, float]:
        bits = (nats * tokens + spelling) / math.log(2) / valid.characters
        return {"nats_per_token": nats, "bits_per_char": bits}

    uniform = figures(math.log(size), data.valid_spelling)
    if len(data.train_ids) + tokens > _MOST_TOKENS:
        return {"uniform": uniform, "ngrams": None, "xz": None}
    nats = witten_bell(data.train_ids[:], data.valid_ids[:], size, _MOST_ORDERS)
    orders = [{"order": n, **figures(each, data.valid_spelling)} for n, each in enumerate(nats, 1)]
    xz = xz_nats(_characters(data.train), _characters(valid)) * valid.characters / tokens
    return {"uniform": uniform, "ngrams": orders, "xz": figures(xz)}


def _characters(part: Part) -> Any:
    return part.text.chunks(part.start, part.stop)
