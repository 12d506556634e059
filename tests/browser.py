"""Headless Chromium for tests of pages, and why there is none where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; skips the test where playwright or Chromium is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs Chromium on the PATH")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def report_pages(browser: Any, root: Path) -> Iterator[Callable[..., Any]]:
    """A function that opens a report at an address in a page of its own; ends by asking that nothing went wrong."""
    pages, wrong = [], []

    def open_page(address: str = "", folder: Path = root, **options: Any) -> Any:
        page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        pages.append(page)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((folder / "index.html").as_uri() + address)
        page.locator("#explore[data-ready]").wait_for(state="attached")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert wrong == []
