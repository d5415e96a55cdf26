"""Writes docs/reference/commands.md, the help of every command. A test holds it to what the commands say.

Run it after a change of an option: python docs/commands.py
"""

from importlib import import_module
from pathlib import Path

import click

from elman.cli import COMMANDS, _elman

PAGE = Path(__file__).parent / "reference" / "commands.md"
_WIDTH = 80
_HEAD = """\
% Written by docs/commands.py; run it after a change of an option.

# Commands

What `elman --help` and `elman COMMAND --help` print. Names of files, options and records are part of the contract: they
change with a line in the [changelog](../changelog.md) only.
"""


def page() -> str:
    """The whole page."""
    texts = [_block("elman", _elman)]
    texts += [_block(f"elman {name}", import_module(home).command) for name, home in COMMANDS.items()]
    return _HEAD + "".join(texts)


def _block(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, terminal_width=_WIDTH, max_content_width=_WIDTH)
    context.help_option_names = ["-h", "--help"]
    return f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
