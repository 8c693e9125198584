"""The live page in a headless Chromium, for tests that run in Trio: all of it happens in one thread of its own."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not there (Debian: chromium)")


class BrowserPage:
    """A page that stays open. Whoever opens it calls `end`. Everything here blocks.

    Args:
        url: What it shows.
    """

    def __init__(self, url: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="browser")
        self._open: tuple[Any, Any, Any] = self._thread.submit(_open, url).result()

    def text(self, selector: str) -> str:
        """What a person reads in an element."""
        return self._thread.submit(self._open[2].inner_text, selector).result()

    def classes(self, selector: str) -> set[str]:
        """The classes of an element."""
        return set((self._thread.submit(self._open[2].get_attribute, selector, "class").result() or "").split())

    def end(self) -> None:
        """Close it, and the browser."""
        playwright, browser, _ = self._open
        self._thread.submit(browser.close).result()
        self._thread.submit(playwright.stop).result()
        self._thread.shutdown()


def _open(url: str) -> tuple[Any, Any, Any]:
    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
    page = browser.new_page()
    page.goto(url)
    return playwright, browser, page
