"""The rows of docs/results.md: what each trains on, with which recipe, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PEERS = ("pytorch", "pytorch-bf16", "gpt")


@dataclass(frozen=True)
class Row:
    """One row.

    ``corpus``: what `elman train` reads where no other is given; None: it must be given. ``task``: a text with its last
    tenth held out, that text in words, or lines that are split three ways. ``preset`` None: the default one.
    ``minutes`` None: as long as the preset says, or as ``--minutes`` does where ``timed``. ``options``: more of them.
    """

    name: str
    summary: str
    corpus: str | None
    task: Literal["text", "words", "names"]
    preset: str | None = None
    minutes: float | None = None
    timed: bool = True
    options: tuple[str, ...] = ()
    contenders: tuple[str, ...] = ("elman", *PEERS)


def _characters(name: str, minutes: float) -> Row:
    summary = f"tiny-shakespeare, characters, the default preset, {minutes * 60:.0f} s"
    return Row(name, summary, "tiny-shakespeare", "text", minutes=minutes)


_WORDS = ("--tokenizer", "word", "--word-splitter", "whitespace", "--max-vocab", "10000")

ROWS = {
    row.name: row
    for row in (
        _characters("char-10s", 10 / 60),
        _characters("char-30s", 30 / 60),
        _characters("char-60s", 1),
        _characters("char-180s", 3),
        _characters("char-30min", 30),
        Row(
            "nanogpt",
            "tiny-shakespeare, nanoGPT's recipe for a processor as it was published: 2,000 iterations",
            "tiny-shakespeare",
            "text",
            timed=False,
            contenders=("gpt",),
        ),
        Row(
            "names",
            "names, 80/10/10, each line a text of its own, preset names, one minute",
            "names",
            "names",
            "names",
            1,
            options=("--items", "lines"),
        ),
        Row(
            "zaremba-small",
            "a word corpus, Zaremba et al. 2014's small model to the letter",
            None,
            "words",
            "zaremba-small",
            timed=False,
            options=_WORDS,
            contenders=("elman", "pytorch", "pytorch-bf16"),
        ),
        Row(
            "word-lstm",
            "the same, preset word-lstm, for the seconds that zaremba-small took (--minutes)",
            None,
            "words",
            "word-lstm",
            options=_WORDS,
        ),
    )
}


def find(name: str) -> tuple[Row, str]:
    """The row of a name, and the contender: a peer's where the name ends with it, else elman or the only one."""
    known = names()
    if name not in known:
        raise SystemExit(f"no row {name!r}; there are {', '.join(known)}")
    return known[name]


def names() -> dict[str, tuple[Row, str]]:
    """All rows, those of the peers among them, by name."""
    return {
        row.name if contender == row.contenders[0] else f"{row.name}-{contender}": (row, contender)
        for row in ROWS.values()
        for contender in row.contenders
    }
