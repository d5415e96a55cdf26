"""A template and its data -> one HTML file that needs nothing else: no network, no other file.

A template is a folder beside this file with ``body.html``, ``page.css`` and ``page.js``; ``shared.css`` and
``shared.js`` come before its own. The data lies in the page as JSON, which the script parses; a text of a model's or a
file reaches the page by ``textContent`` only. A policy in the page forbids every request and every script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib import resources
from typing import Any

_POLICY = (
    "default-src 'none'; style-src 'sha256-{style}'; style-src-attr 'unsafe-inline'; script-src 'sha256-{script}'; "
    "img-src data:"
)
_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def render(template: str, title: str, data: Any) -> str:
    """The page of a template ("trace" or "inspect") with these data, which JSON can hold, as HTML text."""
    folder = resources.files("elman.pages")
    style = _read(folder / "shared.css") + _read(folder / template / "page.css")
    script = _read(folder / "shared.js") + _read(folder / template / "page.js")
    return _FRAME.format(
        policy=_POLICY.format(style=_digest(style), script=_digest(script)),
        title=html.escape(title),
        style=style,
        script=script,
        body=_read(folder / template / "body.html"),
        data=json_in_html(data),
    )


def json_in_html(data: Any) -> str:
    """JSON that no text in it can break out of: < > & are written as escapes, and NaN is refused."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read(path: Any) -> str:
    return path.read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
