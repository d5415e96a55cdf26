"""A real browser for the tests of pages: one a session, and pages in which nothing may go wrong unseen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium under playwright, or a skip that says what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip(f"there is no browser: none of {', '.join(_NAMES)} is on the path")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open an HTML file: ``open_page(path, width=1280, height=900, dark=False, **context options) -> page``.

    No request may leave the page, and the test fails after its end where one tried, where the console got a message,
    or where a script failed. A script may set ``window.hacked`` to tell that it ran though it should not.
    """
    contexts: list[Any] = []
    wrong: list[str] = []

    def opened(path: Path, width: int = 1280, height: int = 900, dark: bool = False, **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", **options
        )
        contexts.append(context)
        address = path.resolve().as_uri()

        def settle(route: Any) -> None:
            if route.request.url.partition("#")[0] == address:
                route.continue_()
            else:
                wrong.append(f"a request to {route.request.url}")
                route.abort()

        context.route("**/*", settle)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"the console says: {message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"a script failed: {error}"))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            if page.evaluate("typeof window.hacked") != "undefined":
                wrong.append("a text of the data ran as a script")
        context.close()
    if wrong:
        pytest.fail("; ".join(wrong))
