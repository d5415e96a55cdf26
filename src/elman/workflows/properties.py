"""What can be said of each character of a text, to ask whether a hidden unit knows it.

Everything is as it stands after the character has been read: an opening quotation mark is inside the quotation, the
closing one no longer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

_QUOTES = {"“": "”", "„": "“”", "«": "»", "「": "」", "『": "』", '"': '"'}
_BRACKETS = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】", "《": "》", "〈": "〉", "〔": "〕"}
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")
_ELIDED = re.compile(r"(?:t(?:is|was|were|will|wixt|would|il|ill)|em|gainst|mongst|bout|cause|scape|n|d|s|ll)\b", re.I)
_LETTER = re.compile(r"\w")


@dataclass(frozen=True)
class Property:
    """``name``; ``rule``: what it means exactly, in words; ``values`` (characters,): bool, or numbers."""

    name: str
    rule: str
    values: np.ndarray


def properties(text: str) -> list[Property]:
    """All properties of a text, the harder ones first."""
    characters = np.array(list(text)) if text else np.empty(0, "<U1")
    paragraphs = _paragraphs(text)
    return [
        Property(
            "inside quotes",
            "from “, „, «, 「, 『 or \" up to the mark that closes it, or the end of the paragraph; from ' or ‘ only "
            "where a mark in the paragraph closes it and it is no apostrophe (don't, 'tis)",
            _inside(text, paragraphs, _QUOTES) | _inside_single(text, paragraphs),
        ),
        Property(
            "inside brackets",
            "from ( [ { or a Chinese bracket up to the one that closes it, or the end of the paragraph",
            _inside(text, paragraphs, _BRACKETS),
        ),
        Property("position in the line", "characters since the line began, 0 for a line end", _positions(text)),
        Property(
            "word boundary",
            "neither a letter, a digit nor an apostrophe between letters",
            _boundaries(text),
        ),
        Property("capital letter", "an upper-case letter", np.char.isupper(characters)),
        Property("digit", "a decimal digit", np.char.isdecimal(characters)),
    ]


def _paragraphs(text: str) -> list[tuple[int, int]]:
    """Beginning and end of each paragraph; a blank line ends one."""
    ends = [*(found.end() for found in _PARAGRAPH_END.finditer(text)), len(text)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _inside(text: str, paragraphs: list[tuple[int, int]], pairs: dict[str, str]) -> np.ndarray:
    inside = np.zeros(len(text), np.bool_)
    for begin, end in paragraphs:
        closing: list[str] = []  # what closes those that are open, the innermost last
        for place in range(begin, end):
            character = text[place]
            if closing and character in closing[-1]:
                closing.pop()
            elif character in pairs:
                closing.append(pairs[character])
            inside[place] = bool(closing)
        if inside[end - 1 : end].any():
            inside[len(text[begin:end].rstrip()) + begin : end] = False
    return inside


def _inside_single(text: str, paragraphs: list[tuple[int, int]]) -> np.ndarray:
    inside = np.zeros(len(text), np.bool_)
    for begin, end in paragraphs:
        opened = None
        for found in re.finditer("['‘’]", text[begin:end]):
            place = begin + found.start()
            after_letter = bool(_LETTER.match(text[place - 1 : place])) if place > begin else False
            before_letter = bool(_LETTER.match(text[place + 1 : place + 2])) and place + 1 < end
            after_blank = place == begin or text[place - 1].isspace()
            if opened is None:
                opens = not after_letter and text[place] != "’" and text[place + 1 : place + 2].strip() != ""
                if opens and not (before_letter and _ELIDED.match(text, place + 1)):
                    opened = place
            elif text[place] != "‘" and not before_letter and not after_blank:
                inside[opened:place] = True
                opened = None
    return inside


def _positions(text: str) -> np.ndarray:
    ends = np.array([character == "\n" for character in text], np.bool_)
    places = np.arange(len(text))
    last = np.maximum.accumulate(np.where(ends, places, -1)) if len(text) else places
    return places - last


def _boundaries(text: str) -> np.ndarray:
    found = np.ones(len(text), np.bool_)
    for word in re.finditer(r"\w+(?:['’]\w+)*", text):
        found[word.start() : word.end()] = False
    return found
