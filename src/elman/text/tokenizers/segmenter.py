"""Chinese runs -> words, with rjieba, or jieba where only that is installed; loaded with the first run that is cut.

Both cut as jieba does by default: the likeliest words of its dictionary, and a hidden Markov model (HMM) for words that
are not in it (https://github.com/fxsjy/jieba). Their versions differ in dictionary and model, so they are recorded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import metadata

from elman.errors import InputError

SEGMENTERS = ("rjieba", "jieba")


class Segmenter:
    """Cuts text into words with the segmenter that is installed, or the one that is ``recorded`` (name, version).

    ``used`` is the one that cut something, or is recorded; None while there is none.
    """

    def __init__(self, recorded: tuple[str, str] | None = None):
        self.used = recorded
        self._cut: Callable[[str], list[str]] | None = None

    def cut(self, text: str) -> list[str]:
        """Words, which joined are the text; a line end stands by itself, and nothing before it matters after it.

        Raises InputError, with the command that installs it, where there is no segmenter, or not the recorded one.
        Warns (UserWarning), once, where that has another version.
        """
        if self._cut is None:
            self._cut = self._open()
        return self._cut(text)

    def _open(self) -> Callable[[str], list[str]]:
        if self.used is None:
            self.used = _installed()
        name, recorded = self.used
        version = _installed_version(name)
        if version is None:
            raise InputError(
                f"{name} {recorded} cut this model's text into words and is not installed; another segmenter would cut "
                f"otherwise: python -m pip install '{name}=={recorded}'"
            )
        if version != recorded:
            warnings.warn(
                f"{name} {recorded} cut this model's text into words, but {version} is installed, which may cut "
                f"otherwise; to have the same: python -m pip install '{name}=={recorded}'",
                UserWarning,
                stacklevel=2,
            )
        return _load(name)


def _installed() -> tuple[str, str]:
    """Name and version of the first of the segmenters that is installed."""
    for name in SEGMENTERS:
        version = _installed_version(name)
        if version is not None:
            return name, version
    raise InputError(
        "cutting Chinese into words needs rjieba, which is not installed: python -m pip install 'elman[zh]'"
    )


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _load(name: str) -> Callable[[str], list[str]]:
    if name == "rjieba":
        import rjieba

        return rjieba.cut
    import jieba

    jieba.setLogLevel("WARNING")  # it tells stderr that it loads its dictionary
    return jieba.lcut
