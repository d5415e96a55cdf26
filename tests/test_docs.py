"""The documentation: its code runs, its pages are reached, its links lead to files, its help is the commands'."""

from __future__ import annotations

import fnmatch
import re
import runpy

import pytest

import pages

DOCS = pages.ROOT / "docs"
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
RUNNING = [name for name in PAGES if pages.blocks(DOCS / name) and name.partition("/")[0] in (name, "howto")]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "/" in name else name for name in RUNNING]
)
def test_every_block_of_code_runs_in_order(name, tmp_path, verse):
    pages.write_texts(tmp_path, verse)
    for block in pages.blocks(DOCS / name):
        pages.run(block, tmp_path)


def test_the_pages_with_code_are_there():
    wanted = ("own-text", "chinese", "names", "tune", "resume", "score", "serve", "deploy")
    assert {"quickstart.md", *(f"howto/{name}.md" for name in wanted)} <= {*RUNNING}


def test_every_page_is_in_a_toctree():
    listed = {"index.md"}
    for name in PAGES:
        folder = name.rpartition("/")[0]
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), flags=re.DOTALL):
            for entry in (line for line in tree.splitlines() if line and not line.startswith(":")):
                listed |= {*fnmatch.filter(PAGES, f"{folder}/{entry}.md".lstrip("/"))}
    assert {*PAGES} - listed == set()


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_file(name):
    for target in pages.links(DOCS / name):
        assert ((DOCS / name).parent / target).is_file(), target


def test_the_page_of_commands_is_what_they_say():
    script = runpy.run_path(str(DOCS / "commands.py"))
    same = script["PAGE"].read_text(encoding="utf-8") == script["page"]()
    assert same, "the help of a command has changed; run: python docs/commands.py"
