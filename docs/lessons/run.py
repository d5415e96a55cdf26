"""Run lessons as scripts.

python docs/lessons/run.py docs/lessons/1-hello.md

The code cells of a page are executed in order, in one namespace. What the page claims, they assert.
"""

import re
import sys
from pathlib import Path

from elman.errors import InputError

CELL = re.compile(r"^```\{code-cell\}[^\n]*\n((?::[^\n]*\n)*)(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(page: Path) -> None:
    """Execute a page's cells; a traceback names the page and the line."""
    text = page.read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    for cell in CELL.finditer(text):
        lines_before = text.count("\n", 0, cell.start(2))
        exec(compile("\n" * lines_before + cell[2], page, "exec"), namespace)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        try:
            run(Path(argument))
        except InputError as error:  # such as a corpus that cannot be fetched
            sys.stderr.write(f"{argument}: {error}\n")
            sys.exit(2)
