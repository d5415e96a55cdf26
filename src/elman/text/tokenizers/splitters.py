"""How text is cut into words: two conventions, which a word tokenizer chooses from by name."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import chain
from typing import Protocol

from elman.text.tokenizers.chunks import stretches
from elman.text.tokenizers.segmenter import Segmenter
from elman.text.tokenizers.vocabulary import UNKNOWN, UNKNOWN_SHOWN

LINE_END = "<eos>"
_HAN = "々〇\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HAN_RUN = re.compile(f"([{_HAN}]+)")


class Splitter(Protocol):
    """Cuts text into pieces, each one token.

    ``line_end`` is the piece of a line end, ``blank`` what stands between two pieces in decoded text, and
    ``unknown_shown`` what ``<unk>`` is decoded as. ``up_to_last_cut`` is for ``stretches``.
    """

    name: str
    line_end: str
    blank: str
    unknown_shown: str
    up_to_last_cut: re.Pattern[str]

    def cut(self, text: str) -> list[str]:
        """Text -> pieces."""

    def offset(self, text: str, place: int) -> int:
        """Where in the text the piece number ``place`` begins."""

    def first(self, text: str) -> str:
        """The part of a text that its first piece stands for."""


class UnicodeSplitter:
    r"""Pieces that joined are the text.

    They are, with white space as in ``str.isspace``:

    - letters, with combining marks and zero-width joiners after them, and apostrophes (' ’) between them;
    - decimal digits;
    - Chinese characters, as words that the segmenter cuts; without a segmenter each by itself;
    - a line end, each by itself;
    - other white space;
    - any other character by itself.

    Letters are what Python's ``\w`` has beside decimal digits, the underscore and Chinese, so ½ and Ⅷ are letters.
    """

    name = "unicode"
    line_end = "\n"
    blank = ""
    unknown_shown = UNKNOWN_SHOWN
    up_to_last_cut = re.compile(r"(?s).*(?:[\n.,;:!?。，、；：！？]|[^\S\n](?=\S))")

    def __init__(self, segmenter: Segmenter | None):
        self.segmenter = segmenter

    def cut(self, text: str) -> list[str]:
        """Text -> pieces."""
        find = _piece_pattern().findall
        if self.segmenter is None or not _HAN_RUN.search(text):
            return find(text)
        # The segmenter gets all runs in one call, with a line end for each piece between them, which it gives back.
        # What stands between Chinese runs is much the same everywhere, so each is cut once.
        parts = _HAN_RUN.split(text)  # what stands between runs, and they, in turn
        pieces = {part: find(part) for part in set(parts[::2])}
        others = chain.from_iterable([pieces[part] for part in parts[::2]])
        parts[::2] = ["\n" * len(pieces[part]) for part in parts[::2]]
        return [word if word != "\n" else next(others) for word in self.segmenter.cut("".join(parts))]

    def offset(self, text: str, place: int) -> int:
        """Where in the text the piece number ``place`` begins."""
        return sum(map(len, self.cut(text)[:place]))

    def first(self, text: str) -> str:
        """The first piece."""
        return self.cut(next(stretches(text, self.up_to_last_cut)))[0]


class WhitespaceSplitter:
    """The convention of the Penn Treebank's language-model files: words between white space, ``<eos>`` a line end.

    A word ``<unk>`` or ``<eos>`` in the text is that token. Which white space was there is lost: decoded words have
    one space between them, and none beside a line end.
    """

    name = "whitespace"
    line_end = LINE_END
    blank = " "
    unknown_shown = UNKNOWN
    up_to_last_cut = re.compile(r"(?s).*\s")

    def cut(self, text: str) -> list[str]:
        """Text -> pieces."""
        return text.replace("\n", f" {LINE_END} ").split()

    def offset(self, text: str, place: int) -> int:
        """Where in the text the piece number ``place`` begins."""
        return [found.start() for found in re.finditer(r"\n|\S+", text)][place]

    def first(self, text: str) -> str:
        """The first piece and the blanks around it, so that what follows them is what the other pieces stand for."""
        found = re.match(r"[^\S\n]*(?:\n|\S+)[^\S\n]*", text)
        assert found is not None
        return found[0]


@cache
def _piece_pattern() -> re.Pattern[str]:
    """What matches one piece at a time. It is made on first use, as it looks at every character that may be a mark."""
    letter = rf"[^\W\d_{_HAN}]"
    low = "".join(map(chr, filter(_is_mark, range(0x10000)))) + "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
    # Behind the second plane there are marks only in the variation selectors' block. Python looks through a class of
    # characters above U+FFFF one by one, so that is for the few which are above.
    high = "".join(map(chr, filter(_is_mark, range(0x10000, 0x20000)))) + "\U000e0100-\U000e01ef"
    joined = rf"(?:[{low}]|[\U00010000-\U0010ffff](?<=[{high}]))"
    return re.compile(rf"(?s){letter}+(?:{joined}{letter}*|['’]{letter}+)*|[^\S\n]+|\d+|.")


def _is_mark(code: int) -> bool:
    return unicodedata.category(chr(code)).startswith("M")
