"""Chromium on the web page: what a test visits is watched for errors and for requests to other places."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from live_service import Live

CHROMIUM = Path("/usr/bin/chromium")
LOCALES = {"en": "en-GB", "ru": "ru-RU"}
_REFUSED = "Failed to load resource: the server responded with a status of"

expect.set_options(timeout=15_000)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium; without it the tests fail, since a page that nobody opened is not tested."""
    if not CHROMIUM.is_file():
        pytest.fail(f"{CHROMIUM} is missing: the web page is tested in Debian's package chromium", False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visits:
    """Pages of one shop, each in a browser of its own that remembers nothing."""

    def __init__(self, browser: Browser, shop: Live) -> None:
        self._browser, self.shop = browser, shop
        self._contexts: list[BrowserContext] = []
        self.errors: list[str] = []  # of the page, refused requests aside
        self.elsewhere: list[str] = []  # requests that left the service

    def open(
        self, hash_: str = "", *, key: str | None = None, language: str = "en", width: int = 1200,
        scheme: Any = "light", remembers: dict[str, str] | None = None,
    ) -> Page:  # fmt: skip
        """Open the page at a hash, with the key of an administrator unless another one is given."""
        context = self._browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, locale=LOCALES[language]
        )
        self._contexts.append(context)
        given = self.shop.tokens["admin"] if key is None else key
        context.add_init_script(_stored("sessionStorage", {"key": given} if given else {}))
        context.add_init_script(_stored("localStorage", remembers or {}))
        return self.watch(context.new_page(), hash_)

    def watch(self, page: Page, hash_: str = "") -> Page:
        """Go to a hash and note what goes wrong from now on."""
        page.on("console", lambda said: said.type == "error" and self._note(said.text))
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("request", lambda request: self._follow(request.url))
        page.goto(f"{self.shop.address}/{hash_}")
        return page

    def _note(self, text: str) -> None:
        if not text.startswith(_REFUSED):
            self.errors.append(text)

    def _follow(self, url: str) -> None:
        if not url.startswith((self.shop.address, "blob:", "about:")):
            self.elsewhere.append(url)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def _stored(where: str, values: dict[str, str]) -> str:
    """Return a script that stores values when the first page of a browser is opened, and never again."""
    lines = "".join(f"{where}.setItem('tilth.{name}', {value!r});" for name, value in values.items())
    return f"if (!{where}.getItem('stored')) {{ {where}.setItem('stored', '1'); {lines} }}"
