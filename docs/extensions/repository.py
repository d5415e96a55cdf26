"""Links to files of the repository, which lead somewhere on a code host and in the built pages alike.

A page, or a text that it includes, links to a file by its relative path, with a line if need be, as in
``[rnn.py](../src/elman/cells/rnn.py#L20)``. Here such a link leads to the page of the documentation that holds the
file, or else to a page that is made of it, with numbered lines. The reference links to the same pages.
"""

import inspect
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from pygments.lexers import find_lexer_class_for_filename
from sphinx.application import Sphinx

import elman

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^()\s#]+)(?:#([^()\s]+))?\)")
_INCLUDED = re.compile(r"\A```\{include\} (\S+)\n```\s*\Z")  # a page that is a file of the repository and nothing else


def _on_source(app: Sphinx, docname: str, content: list[str]) -> None:
    content[0] = _with_links(app, content[0], app.env.doc2path(docname), docname)


def _on_include(app: Sphinx, relative_path: Path, _: str, content: list[str]) -> None:
    if relative_path.suffix == ".md":
        content[0] = _with_links(app, content[0], DOCS / relative_path, app.env.docname)


def _with_links(app: Sphinx, text: str, file: Path, docname: str) -> str:
    """The text of a file with those links changed that would not lead anywhere from the page ``docname``."""

    def changed(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(Path(file).parent / link[1]))
        if not target.is_file():
            return link[0]
        page = _pages().get(target, target)
        if page.is_relative_to(DOCS):
            fragment = f"#{link[2]}" if link[2] else ""
            return f"{os.path.relpath(page, (DOCS / docname).parent)}{fragment})"
        line = re.match("L([0-9]+)", link[2] or "")
        fragment = f"#L-{line[1]}" if line else ""
        return f"{app.builder.get_relative_uri(docname, _page_of(app, target))}{fragment}){{.external}}"

    return _LINK.sub(changed, text)


def _pages() -> dict[Path, Path]:
    """The files outside of docs/ that have a page in it."""
    found = {page: _INCLUDED.match(page.read_text(encoding="utf-8")) for page in DOCS.glob("*.md")}
    pages = {Path(os.path.normpath(DOCS / include[1])): page for page, include in found.items() if include}
    return {**pages, ROOT / "README.md": DOCS / "index.md"}


def _page_of(app: Sphinx, file: Path) -> str:
    """The name of the page that shows a file, and a note that it is to be made."""
    name = file.relative_to(ROOT).as_posix()
    app.env.repository_files = {*getattr(app.env, "repository_files", ()), name}
    return f"source/{name}"


def _collect_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, str], str]]:
    for name in sorted(getattr(app.env, "repository_files", ())):
        lexer = find_lexer_class_for_filename(name)
        code = app.builder.highlighter.highlight_block(
            (ROOT / name).read_text(encoding="utf-8"),
            lexer.aliases[0] if lexer else "none",
            linenos="inline",
            linespans="L",
        )
        yield f"source/{name}", {"title": name, "body": f'<h1 class="source">{name}</h1>\n{code}'}, "page.html"


def _link_to_code(app: Sphinx, domain: str, info: dict[str, str]) -> str | None:
    """The page and line of a function or class of the reference, seen from a page beside it."""
    if domain != "py" or not info["module"]:
        return None
    found = import_module(info["module"])
    for part in info["fullname"].split("."):
        found = inspect.unwrap(getattr(found, part, None))
    if isinstance(found, property):
        found = found.fget
    try:
        file, line = Path(inspect.getsourcefile(found) or ""), inspect.getsourcelines(found)[1]
    except (TypeError, OSError):  # it has no lines, such as a constant
        return None
    package = Path(elman.__file__).parent  # src/elman, or where a copy of it is installed
    if not file.is_relative_to(package):
        return None
    return f"../{_page_of(app, ROOT / 'src' / 'elman' / file.relative_to(package))}.html#L-{line}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.linkcode")
    app.config.linkcode_resolve = lambda domain, info: _link_to_code(app, domain, info)
    app.connect("source-read", _on_source)
    app.connect("include-read", _on_include)
    app.connect("html-collect-pages", _collect_pages)
    return {"parallel_read_safe": False}
