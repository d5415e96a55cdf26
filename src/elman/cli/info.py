"""``elman info``: what a model file holds, or what this installation can do."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command("info", short_help="Show what a model file holds, or what is installed.")
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout, JSON.")
def command(model: str | None, as_json: bool) -> None:
    """Show what MODEL, a run folder or a model file, holds; without MODEL, what is installed."""
    from elman.workflows import info

    record = info.installation() if model is None else info.model(model)
    if as_json:
        print(json.dumps(record))
    else:
        _show(record)


_LONGEST = 150  # characters of a vocabulary


def _show(value: dict[str, Any], indent: str = "") -> None:
    width = max(len(key) for key in value)
    for key, item in value.items():
        if isinstance(item, dict) and item:
            print(f"{indent}{key}")
            _show(item, indent + "  ")
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list) else item
            if isinstance(shown, str) and len(shown) > _LONGEST:
                shown = f"{shown[:_LONGEST]}… ({len(shown):,} in all)"
            print(f"{indent}{key:<{width}}  {shown!r}" if key == "characters" else f"{indent}{key:<{width}}  {shown}")
