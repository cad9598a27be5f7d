"""What the browser keeps: the pictures, their settings, and the form."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from tests.web.pictures import RED_HOUSE, open_newest, paint, painted, pictures


@pytest.fixture
def page(open_page: Any, painter_server: Any) -> Page:
    """With two pictures."""
    made: Page = open_page(painter_server.url, permissions=["clipboard-read", "clipboard-write"])
    paint(made, "a blue boat", seed=5, steps=3)
    painted(made)
    paint(made, RED_HOUSE, seed=7, steps=3)
    painted(made, 2)
    return made


def test_pictures_and_form_survive_a_reload(page: Page) -> None:
    page.reload()
    painted(page, 2)
    assert [one.get_attribute("alt") for one in pictures(page).all()] == [RED_HOUSE, "a blue boat"]
    assert pictures(page).first.evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert page.get_by_label("What shall it be?").input_value() == RED_HOUSE
    assert page.get_by_label("Seed", exact=True).input_value() == "7"
    viewer = open_newest(page)
    expect(viewer.locator("dt:text-is('Steps') + dd")).to_have_text("3")


def test_downloads_are_named_after_the_prompt(page: Page, tmp_path: Path) -> None:
    viewer = open_newest(page)
    with page.expect_download() as saved:
        viewer.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename == "a-red-house-in-the-snow-at-night-7.png"
    saved.value.save_as(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (128, 128)


def test_settings_are_copied_as_the_api_takes_them(page: Page) -> None:
    open_newest(page).get_by_role("button", name="Copy settings").click()
    expect(page.get_by_text("Settings copied.").first).to_be_attached()
    found = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert found == {"model": "painter", "prompt": RED_HOUSE, "seed": 7, "steps": 3}


def test_other_settings_come_back_into_the_form(page: Page) -> None:
    page.locator("#pictures button").last.click()
    page.get_by_role("dialog").get_by_role("button", name="other settings").click()
    expect(page.get_by_label("What shall it be?")).to_be_focused()
    assert page.get_by_label("What shall it be?").input_value() == "a blue boat"
    assert page.get_by_label("Seed", exact=True).input_value() == "5"


def test_turning_from_one_to_the_next(page: Page) -> None:
    viewer = open_newest(page)
    expect(viewer.get_by_role("button", name="Newer picture")).to_be_disabled()
    page.keyboard.press("ArrowRight")
    expect(viewer.locator(".prompt")).to_have_text("a blue boat")
    viewer.get_by_role("button", name="Newer picture").click()
    expect(viewer.locator(".prompt")).to_have_text(RED_HOUSE)


def test_deleting_can_be_undone_once(page: Page) -> None:
    open_newest(page).get_by_role("button", name="Delete").click()
    painted(page, 1)
    page.get_by_role("button", name="Undo").last.click()
    painted(page, 2)
    assert pictures(page).first.get_attribute("alt") == RED_HOUSE
    open_newest(page).get_by_role("button", name="Delete").click()
    painted(page, 1)
    page.reload()
    painted(page, 1)


def test_all_are_deleted_only_when_sure(page: Page) -> None:
    page.get_by_role("button", name="Delete all").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep them").click()
    painted(page, 2)
    page.get_by_role("button", name="Delete all").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete all").click()
    painted(page, 0)
    page.reload()
    expect(page.get_by_text(re.compile("What you paint is kept here"))).to_be_visible()
    painted(page, 0)


def test_a_browser_that_keeps_nothing_still_paints(open_page: Any, painter_server: Any) -> None:
    page: Page = open_page("about:blank")
    page.add_init_script("delete globalThis.indexedDB; delete IDBFactory.prototype.open")
    page.goto(painter_server.url)
    paint(page, steps=2)
    painted(page)
    open_newest(page)
