"""For everyone: axe finds nothing serious in any view, in light and in dark, wide and narrow."""

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect
from tests.web.pictures import open_newest, paint, painted, view

NARROW = {"width": 390, "height": 844}
SERIOUS = ("serious", "critical")


def check(page: Page, where: str) -> None:
    page.wait_for_timeout(250)  # until what fades has faded
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in SERIOUS
    ]
    assert serious == [], where


def check_width(page: Page, where: str) -> None:
    """Nothing is wider than the screen."""
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, where


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view(
    open_page: Any, painter_server: Any, tmp_path: Path, scheme: str, narrow: bool
) -> None:
    more = {"viewport": NARROW, "has_touch": True} if narrow else {}
    page: Page = open_page(painter_server.url, color_scheme=scheme, **more)
    expect(page.get_by_text("Say what to paint")).to_be_visible()
    check(page, "welcome")
    paint(page)
    painted(page)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    page.locator("#file").set_input_files(tmp_path / "red.png")
    page.get_by_role("button", name="Repaint a part").click()
    check(page, "paint")
    check_width(page, "paint")
    open_newest(page)
    check(page, "viewer")
    check_width(page, "viewer")
    page.keyboard.press("Escape")
    page.evaluate("document.getElementById('settings').open = true")
    paint(page, steps=9999)
    expect(page.locator(".fault")).to_be_visible()
    check(page, "a problem")
    for name in ("Models", "Monitor", "API"):
        view(page, name)
        expect(page.locator(f"#view-{name.lower()}")).to_contain_text("painter")
        check(page, name)
        check_width(page, name)


def test_the_dialogs(open_page: Any, start_server: Any, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("key\n")
    server = start_server("--api-key-file", str(tmp_path / "keys"))
    page: Page = open_page(server.url)
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page, "key")
    page.get_by_role("button", name="Not now").click()
    check(page, "nothing without a key")


def test_colours_are_chosen_and_kept(open_page: Any, painter_server: Any) -> None:
    page: Page = open_page(painter_server.url, color_scheme="light")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    button = page.locator("#theme")
    button.click()
    assert page.evaluate(ground) == light  # light is what the system says
    button.click()
    assert page.evaluate(ground) != light
    expect(button).to_have_accessible_name("Colours: dark")
    page.reload()
    assert page.evaluate(ground) != light
    button.click()
    assert page.evaluate(ground) == light


def test_views_are_addresses(open_page: Any, painter_server: Any) -> None:
    page: Page = open_page(f"{painter_server.url}/#models")
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    assert page.title() == "Models · nerite"
    view(page, "Monitor")
    page.go_back()
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    expect(page.locator("nav a[aria-current=page]")).to_have_text("Models")


def test_little_is_sent(open_page: Any, painter_server: Any) -> None:
    """The whole page with all of its parts; what browsers keep is asked for and not sent again."""
    answers: list[Any] = []
    page: Page = open_page("about:blank")
    page.on("response", lambda answer: answers.append(answer))
    page.goto(painter_server.url, wait_until="networkidle")
    expect(page.get_by_text("Say what to paint")).to_be_visible()
    sent = [_size(answer) for answer in answers]
    assert len(sent) > 20
    assert sum(sent) < 150_000
    timing = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    print(f"{sum(sent)} bytes in {len(sent)} answers; first contentful paint {timing:.0f} ms")


def _size(answer: Any) -> int:
    sizes = answer.request.sizes()
    return int(sizes["responseBodySize"] + sizes["responseHeadersSize"])
