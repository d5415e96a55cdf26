"""What a person is told of the files of a text: what was guessed, changed and left out, a plain line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elman.text.encodings import Cleaned

_NAMED = 3  # files by name, of more
_CLEANED = (
    ("mark", "a byte-order mark left out", "{:,} byte-order marks left out"),
    ("marks_inside", "a byte-order mark inside left out", "{:,} byte-order marks inside left out"),
    ("crlf", "1 CRLF line end became LF", "{:,} CRLF line ends became LF"),
    ("replaced", "1 place that does not decode became U+FFFD", "{:,} places that do not decode became U+FFFD"),
)


@dataclass(frozen=True)
class Found:
    """A file that was read: its path as given, its encoding, how sure that is (1: no guess), what was cleaned."""

    path: str
    encoding: str
    sure: float
    cleaned: Cleaned


def describe(files: Sequence[Found], group: str | None = None) -> Iterator[str]:
    """The notes on a file, or on the files of a group (a folder or a pattern) together."""
    for encoding in dict.fromkeys(file.encoding for file in files if file.sure < 1):
        guessed = [file for file in files if file.encoding == encoding and file.sure < 1]
        sure = min(file.sure for file in guessed)
        yield f"{_name(guessed, group)}: read as {encoding} (guessed, {sure:.0%} sure; --encoding names another)"
    for field, one, many in _CLEANED:
        changed = [file for file in files if getattr(file.cleaned, field)]
        if count := sum(getattr(file.cleaned, field) for file in changed):
            yield f"{_name(changed, group)}: {one if count == 1 else many.format(count)}"


def describe_left_out(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """What was left out of a group, by kind -> '3 binary files left out (a.png, b.png, c.png)' for each kind."""
    return [
        f"{len(names)} {kind} {'file' if len(names) == 1 else 'files'} left out ({_some(names)})"
        for kind, names in left_out.items()
        if names
    ]


def _name(files: Sequence[Found], group: str | None) -> str:
    if group is None:
        return _plain(Path(files[0].path).name)
    if len(files) == 1:
        return _plain(files[0].path)
    return f"{_plain(group)}, {len(files)} files ({_some([Path(file.path).name for file in files])})"


def _some(names: Sequence[str]) -> str:
    return ", ".join([_plain(name) for name in names[:_NAMED]] + ["…"] * (len(names) > _NAMED))


def _plain(name: str) -> str:
    return name if name.isprintable() else ascii(name)
