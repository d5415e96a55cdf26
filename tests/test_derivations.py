"""The pages of docs/derivations: what they quote stands in the code, what they compute is what they print."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import runpy
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

from elman.cells import CELLS
from elman.cli import main

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "derivations"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.stem != "index")
FILES = sorted({cell.forward.__module__.rpartition(".")[2] for cell in CELLS.values()})  # rnn, …: a page each
LABEL = re.compile(r"\((\d)\)")


class Quote(NamedTuple):
    """A block that begins with ``# FILE`` or ``# FILE: FUNCTION``, without the indentation that its lines share."""

    file: str
    function: str | None
    lines: list[str]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def quote(content: str) -> Quote | None:
    first, *lines = content.splitlines()
    named = re.fullmatch(r"# (src/\S+\.py)(?:: (\w+))?", first)
    return Quote(named[1], named[2], lines) if named else None


def quotes(page: Path) -> list[Quote]:
    return [found for _, content in blocks(page) if (found := quote(content))]


def source(file: str, function: str | None) -> list[str]:
    """The lines of a file, or those of its functions of this name, inner ones too."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if function is None:
        return text.splitlines()
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef) and n.name == function]
    assert nodes, f"there is no function {function} in {file}"
    return [line for node in nodes for line in text.splitlines()[node.lineno - 1 : node.end_lineno]]


def tags(page: Path) -> tuple[set[str], set[str]]:
    """The numbers of the page's equations, forward and, with a prime, backward."""
    text = page.read_text(encoding="utf-8")
    return set(re.findall(r"\\tag\{(\d)\}", text)), set(re.findall(r"\\tag\{(\d)'\}", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_quote_stands_in_the_source(page):
    assert quotes(page)
    for file, function, lines in quotes(page):
        code = source(file, function)
        parts = (dedent("\n".join(code[start : start + len(lines)])) for start in range(len(code)))
        assert "\n".join(lines) in parts, f"{page.name} quotes of {file}, {function}, what is not there: {lines}"


@pytest.mark.parametrize("name", FILES)
def test_every_labelled_line_of_a_cell_is_on_its_page(name):
    page, file = FOLDER / f"{name}.md", f"src/elman/cells/{name}.py"
    quoted = [line.strip() for found in quotes(page) if found.file == file for line in found.lines]
    text = (ROOT / file).read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text), clean=False) or ""
    equations = [line for line in docstring.splitlines() if re.search(r"\(\d\)$", line)]
    code = [line for line in text.splitlines() if LABEL.search(line.partition("#")[2])]
    assert len(equations) >= 2
    assert len(code) >= 4
    for line in [*equations, *code]:
        assert line.strip() in quoted, f"{page.name} leaves out the line {line!r} of {file}"


@pytest.mark.parametrize("name", FILES)
def test_every_label_has_its_equation_forward_and_backward(name):
    forward, backward = tags(FOLDER / f"{name}.md")
    labels = set(LABEL.findall("".join(source(f"src/elman/cells/{name}.py", None))))
    assert forward == backward == labels


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_prints_what_stands_below_it(page):
    names: dict = {}
    contents = [(language, content) for language, content in blocks(page) if not quote(content)]
    assert [language for language, _ in contents] == ["python", "text"] * (len(contents) // 2)
    assert contents
    for (_, code), (_, shown) in zip(contents[::2], contents[1::2], strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page.name, "exec"), names)
        assert printed.getvalue() == shown
    assert any("central difference" in shown for _, shown in contents)


@pytest.mark.parametrize("name", FILES)
def test_a_page_names_a_term_whose_loss_shows(name, capsys):
    (command,) = re.findall(r"`elman (gradcheck .*?)`", (FOLDER / f"{name}.md").read_text(encoding="utf-8"))
    assert main(command.split()) == 1
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_and_figure_of_a_page_is_there(page):
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings]


def test_the_figures_are_what_their_script_draws():
    figures = runpy.run_path(str(ROOT / "docs" / "images" / "draw_cells.py"))["FIGURES"]
    for name, draw in figures.items():
        assert (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8") == draw().svg(), (
            f"docs/images/{name}.svg is out of date: run python docs/images/draw_cells.py"
        )
