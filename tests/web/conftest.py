"""A real browser on a real server: Debian's Chromium, driven by Playwright."""

import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

WIDE = {"width": 1280, "height": 860}
# What a slow machine may take; nothing waits that long for what is there.
PATIENCE = 60_000


@pytest.fixture(scope="module")
def browser(service: Callable[[str], str]) -> Iterator[Browser]:
    """For one module: Playwright's loop must have ended before tests with loops of their own."""
    path = service("chromium")
    # Chromium keeps its sandbox from root, which continuous integration is.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`open_page(address)`: a page in a browser that knows nothing yet.

    What any such page says of faults, and whatever it asks of other machines, fails the test.
    """
    opened: list[Any] = []
    faults: list[str] = []

    def open_(address: str, **wishes: Any) -> Page:
        context = browser.new_context(**{"viewport": WIDE, **wishes})
        opened.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"uncaught: {error}"))
        page.on("console", lambda said: faults.extend(_complaint(said)))
        context.on("request", lambda asked: faults.extend(_elsewhere(asked.url)))
        page.goto(address)
        return page

    expect.set_options(timeout=PATIENCE)
    yield open_
    for context in opened:
        context.close()
    assert faults == []


def _complaint(said: Any) -> list[str]:
    """Whatever is refused is told in the console too; what the page makes of that is tested."""
    known = said.text.startswith("Failed to load resource")
    return [f"{said.type}: {said.text}"] if said.type in ("error", "warning") and not known else []


def _elsewhere(url: str) -> list[str]:
    parts = urlsplit(url)
    local = parts.scheme in ("blob", "data") or parts.hostname == "127.0.0.1"
    return [] if local else [f"asked elsewhere: {url}"]
