"""Corpora that have a name and need no file."""

from __future__ import annotations

from collections.abc import Callable


def python_topics() -> str:
    """Python's own documentation of its topics, which every CPython carries; some 465,000 characters in Python 3.11.

    The text varies with the version of Python, so its digest is recorded in every model trained on it.
    """
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def hello() -> str:
    """The five letters of tutorial 1."""
    return "hello"


DEFAULT_CORPUS = "python-topics"
CORPORA: dict[str, Callable[[], str]] = {DEFAULT_CORPUS: python_topics, "hello": hello}
