"""Painting: previews, progress, cancelling, several pictures, settings and seeds."""

import re
import time
import urllib.request
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.web.pictures import RED_HOUSE, open_newest, paint, painted, pictures, shown, watch

SLOW = {"steps": 900}  # far longer than a test takes


@pytest.fixture
def page(open_page: Any, painter_server: Any) -> Page:
    made: Page = open_page(painter_server.url)
    expect(made.get_by_text("Say what to paint")).to_be_visible()
    return made


def test_previews_come_before_the_picture(page: Page) -> None:
    watch(page)
    paint(page, seed=7)
    expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    painted(page)
    expect(page.locator(".state")).to_have_text(re.compile("Painted in"))
    found = shown(page)
    assert [one["finished"] for one in found].count(False) >= 2
    assert found[-1]["finished"]
    expect(page.get_by_role("progressbar")).to_have_count(0)


def test_an_idea_paints_at_once(page: Page) -> None:
    page.get_by_role("button", name=RED_HOUSE).click()
    painted(page)
    assert page.get_by_label("What shall it be?").input_value() == RED_HOUSE


def test_the_keyboard_is_enough(page: Page) -> None:
    page.get_by_label("What shall it be?").press_sequentially("a blue boat")
    page.keyboard.press("Control+Enter")
    painted(page)
    page.locator("#pictures button").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#pictures button").first).to_be_focused()


def test_cancelling_ends_it_at_the_server_too(page: Page, painter_server: Any) -> None:
    before = _count(painter_server, "nv_inference_request_failure", reason="CANCELED")
    paint(page, **SLOW)
    expect(page.locator(".state")).to_have_text(re.compile("Step [1-9]"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state")).to_have_text("Cancelled")
    deadline = time.monotonic() + 30
    while _count(painter_server, "nv_inference_request_failure", reason="CANCELED") == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert pictures(page).count() == 0


def test_several_pictures_each_with_its_seed(page: Page) -> None:
    paint(page, n=3, seed=40, steps=4)
    painted(page, 3)
    expect(page.locator(".state")).to_have_text(re.compile("Painted in"))
    seeds = set()
    for button in page.locator("#pictures button").all():
        button.click()
        seeds.add(page.get_by_role("dialog").locator("dt:text-is('Seed') + dd").inner_text())
        page.keyboard.press("Escape")
    assert seeds == {"40", "41", "42"}


def test_more_at_once_than_a_browser_has_connections(page: Page) -> None:
    for seed in range(7):
        paint(page, seed=seed, steps=2)
    painted(page, 7)


def test_dice_and_the_same_seed_again(page: Page) -> None:
    page.get_by_role("button", name="Throw the dice").click()
    thrown = page.get_by_label("Seed", exact=True).input_value()
    assert 0 <= int(thrown) < 2**32
    page.get_by_label("Seed", exact=True).fill("")
    paint(page, steps=2)
    painted(page)
    page.get_by_role("button", name="Use the seed of the last picture again").click()
    drawn = page.get_by_label("Seed", exact=True).input_value()
    assert int(drawn) >= 0
    viewer = open_newest(page)
    assert viewer.locator("dt:text-is('Seed') + dd").inner_text() == drawn


def test_all_settings_are_asked_for_and_shown(page: Page) -> None:
    page.get_by_label("Size").select_option(label="192 × 128, wide")
    page.get_by_label("Sampler").select_option("euler_a")
    with page.expect_request("**/v1/images/generations") as asked:
        paint(page, steps=3, guidance_scale=2.5, negative_prompt="a moon", seed=9)
    body = asked.value.post_data_json
    wanted = {
        "model": "painter",
        "prompt": RED_HOUSE,
        "negative_prompt": "a moon",
        "n": 1,
        "size": "192x128",
        "steps": 3,
        "guidance_scale": 2.5,
        "scheduler": "euler_a",
        "seed": 9,
    }
    assert {name: body[name] for name in wanted} == wanted
    painted(page)
    viewer = open_newest(page)
    for text in ("a moon", "painter", "192 × 128", "2.5", "euler_a"):
        expect(viewer.get_by_text(text, exact=True)).to_be_visible()


def test_an_own_size(page: Page) -> None:
    page.get_by_label("Size").select_option(label="Another size…")
    page.get_by_label("Width in pixels").fill("72")
    page.get_by_label("Height in pixels").fill("96")
    paint(page, steps=2)
    assert painted(page).evaluate("image => [image.naturalWidth, image.naturalHeight]") == [72, 96]


def test_what_users_write_stays_text(page: Page) -> None:
    wicked = (
        "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
    )
    paint(page, wicked, negative_prompt=wicked, steps=2)
    painted(page)
    viewer = open_newest(page)
    expect(viewer.locator(".prompt")).to_have_text(wicked)
    page.keyboard.press("Escape")
    page.get_by_role("link", name="API").click()
    expect(page.locator("pre").first).to_contain_text("onerror")
    assert page.locator("img[src=x], body script").count() == 0
    assert "hacked" not in page.title()


def _count(server: Any, name: str, **labels: str) -> int:
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    rows = [line for line in lines if line.startswith(name + "{")]
    found = [line for line in rows if all(pair in line for pair in wanted)]
    return sum(int(float(line.rpartition(" ")[2])) for line in found)
