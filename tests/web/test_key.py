"""A server that asks for a key: the page asks its user for it, once."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.web.pictures import paint, painted

KEY = "open-sesame"


@pytest.fixture
def locked(start_server: Any, tmp_path: Path) -> Any:
    (tmp_path / "keys").write_text(f"{KEY}\n")
    return start_server("--api-key-file", str(tmp_path / "keys"))


def give(page: Page, key: str, remember: bool = False) -> None:
    expect(page.get_by_role("dialog", name="This server asks for an API key")).to_be_visible()
    page.get_by_label("API key", exact=True).fill(key)
    if remember:
        page.get_by_label("Remember it in this browser").check()
    page.get_by_role("button", name="Use this key").click()


def test_a_wrong_key_then_the_right_one(open_page: Any, locked: Any) -> None:
    page: Page = open_page(locked.url)
    give(page, "wrong")
    expect(page.get_by_text("the API key is not one of this server's")).to_be_visible()
    give(page, KEY)
    paint(page, steps=2)
    painted(page)
    for view in ("Models", "Monitor"):
        page.get_by_role("navigation").get_by_role("link", name=view).click()
    expect(page.get_by_role("rowheader", name="painter")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="API").click()
    expect(page.locator("pre").first).to_contain_text("$NERITE_API_KEY")
    assert KEY not in page.locator("#snippets").inner_text()


def test_the_key_is_kept_as_long_as_was_said(open_page: Any, locked: Any) -> None:
    page: Page = open_page(locked.url)
    give(page, KEY)
    expect(page.get_by_text("Say what to paint")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Say what to paint")).to_be_visible()
    other = page.context.new_page()
    other.goto(locked.url)
    give(other, KEY, remember=True)
    expect(other.get_by_text("Say what to paint")).to_be_visible()
    third = page.context.new_page()
    third.goto(locked.url)
    expect(third.get_by_text("Say what to paint")).to_be_visible()


def test_without_a_key_the_page_says_why(open_page: Any, locked: Any) -> None:
    page: Page = open_page(locked.url)
    page.get_by_role("button", name="Not now").click()
    expect(page.get_by_role("heading", name="The server asks for an API key")).to_be_visible()
    page.get_by_role("button", name="Enter the key").click()
    give(page, KEY)
    expect(page.get_by_text("Say what to paint")).to_be_visible()
