"""Corpora that have a name: built in, or fetched once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elman.errors import InputError
from elman.text import cache


def python_topics() -> str:
    """Python's own documentation of its topics, which every CPython carries; some 465,000 characters in Python 3.11.

    The text varies with the version of Python, so its digest is recorded in every model trained on it.
    """
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def hello() -> str:
    """The five letters of tutorial 1."""
    return "hello"


@dataclass(frozen=True)
class Download:
    """Where a corpus is fetched from, its SHA-256, and the names of the file where a person has it already."""

    url: str
    sha256: str
    files: tuple[str, ...]


DEFAULT_CORPUS = "python-topics"
BUILT_IN: dict[str, Callable[[], str]] = {DEFAULT_CORPUS: python_topics, "hello": hello}
DOWNLOADS = {
    "tiny-shakespeare": Download(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ("tiny-shakespeare.txt", "tinyshakespeare.txt"),
    ),
    "names": Download(
        "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
        "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        ("names.txt",),
    ),
}
CORPORA = (*BUILT_IN, *DOWNLOADS)


def fetch(name: str) -> Path:
    """The file of a corpus in DOWNLOADS: from the folder ELMAN_DATA_DIR, else the cache, else its URL.

    The cache is the folder ELMAN_CACHE_DIR, or the user's. Raises InputError where the file cannot be fetched or kept,
    or where it is another one; the cache then holds none.
    """
    return _file_at_hand(name) or _cached_file(name)


def _file_at_hand(name: str) -> Path | None:
    folder, corpus = os.environ.get("ELMAN_DATA_DIR"), DOWNLOADS[name]
    if not folder:
        return None
    for file in corpus.files:
        path = Path(folder, file)
        if path.is_file():
            if (found := _sha256(path)) != corpus.sha256:
                raise InputError(
                    f"{path} is not the corpus {name}: its SHA-256 is {found} instead of {corpus.sha256}; "
                    f"put the file from {corpus.url} there, or remove it"
                )
            return path
    path = Path(folder, _file_of(corpus.url))  # a name that other files have too
    return path if path.is_file() and _sha256(path) == corpus.sha256 else None


def _cached_file(name: str) -> Path:
    import pooch
    from requests import RequestException

    corpus, file = DOWNLOADS[name], f"{name}.txt"
    folder = cache.folder()
    pooch.get_logger().setLevel("ERROR")
    try:
        return Path(
            pooch.retrieve(
                corpus.url, f"sha256:{corpus.sha256}", file, folder, downloader=pooch.HTTPDownloader(progressbar=False)
            )
        )
    except RequestException as error:
        reason = "no connection" if error.response is None else f"HTTP status {error.response.status_code}"
    except OSError as error:
        raise InputError(
            f"cannot keep the corpus {name} in {folder}: {error.strerror or error}; "
            "name a folder that can be written with ELMAN_CACHE_DIR"
        ) from None
    except ValueError:
        reason = f"what came has another SHA-256 than {corpus.sha256}"
    own = os.environ.get("ELMAN_DATA_DIR")
    raise InputError(
        f"cannot fetch the corpus {name} from {corpus.url}: {reason}; "
        f"get {_file_of(corpus.url)} from there by other means and put it in {own or folder} as {file}"
        + ("" if own else " (or in a folder that you name with ELMAN_DATA_DIR)")
    )


def _file_of(url: str) -> str:
    return url.rpartition("/")[2]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
