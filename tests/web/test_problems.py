"""What goes wrong, and what the page says of it."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from tests.web.pictures import paint, painted

from nerite import painter


@pytest.fixture
def page(open_page: Any, painter_server: Any) -> Page:
    made: Page = open_page(painter_server.url)
    expect(made.get_by_text("Say what to paint")).to_be_visible()
    return made


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("steps", "5000", "1000"),
        ("guidance_scale", "-1", "greater than or equal to 0"),
        ("n", "11", "less than or equal to 10"),
        ("seed", "seven", "seven"),
        ("prompt", "", "say what is to be painted"),
    ],
)
def test_an_error_stands_at_its_field(page: Page, field: str, value: str, words: str) -> None:
    page.locator(f"#{field}").fill(value)
    prompt = "" if field == "prompt" else "a house"
    page.get_by_label("What shall it be?").fill(prompt)
    page.get_by_role("button", name="Paint", exact=True).click()
    fault = page.locator(".fault")
    expect(fault).to_contain_text("The server refused this")
    expect(fault).to_contain_text(words)
    expect(fault).to_contain_text(re.compile("Request req_"))
    expect(page.locator(f"#{field}")).to_be_focused()
    expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(f"#{field}-problem")).to_contain_text(words)


def test_a_wrong_size_is_mended_and_painted(page: Page) -> None:
    page.get_by_label("Size").select_option(label="Another size…")
    page.get_by_label("Width in pixels").fill("4000")
    page.get_by_label("Height in pixels").fill("100")
    paint(page, steps=2)
    expect(page.locator("#size-problem")).to_contain_text(re.compile("256|multiple"))
    page.get_by_label("Size").select_option(index=0)
    paint(page, steps=2)
    painted(page)
    expect(page.locator("#size-problem")).to_be_hidden()


def test_a_busy_server_is_tried_again(page: Page) -> None:
    def refuse(route: Route) -> None:
        said = {"error": {"message": "the queue is full", "type": "rate_limit_error"}}
        route.fulfill(status=429, json=said, headers={"retry-after": "2"})

    page.route("**/v1/images/generations", refuse, times=1)
    paint(page, steps=2)
    expect(page.locator(".fault")).to_contain_text("The server has enough to do")
    expect(page.locator(".fault")).to_contain_text("Try again in 2 s.")
    page.get_by_role("button", name="Try again").click()
    painted(page)


@pytest.mark.parametrize("end", ["", 'data: {"error": {"message": "the model fell over"}}\n\n'])
def test_an_answer_that_breaks_off(page: Page, end: str) -> None:
    told = 'data: {"type": "image_generation.progress", "step": 1, "steps": 9}\n\n'
    page.route(
        "**/v1/images/generations",
        lambda route: route.fulfill(body=told + end, content_type="text/event-stream"),
    )
    paint(page)
    words = "the model fell over" if end else "ended too early"
    expect(page.locator(".fault")).to_contain_text(words)


def test_a_server_that_is_gone(page: Page) -> None:
    page.route("**/v1/**", lambda route: route.abort())
    page.get_by_role("button", name="a red house in the snow at night").click()
    expect(page.locator(".fault")).to_contain_text("The server cannot be reached")
    expect(page.locator(".fault")).to_contain_text("nerite serve")


def test_no_model_yet(open_page: Any, start_server: Any) -> None:
    repository = str(painter.REPOSITORY)
    server = start_server("--model-repository", repository, "--model-control-mode=explicit")
    page: Page = open_page(server.url)
    expect(page.get_by_text("No model here paints")).to_be_visible()
    page.get_by_role("link", name="See the models").click()
    page.get_by_role("button", name="Load painter").click()
    expect(page.get_by_text("Ready", exact=True)).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="Paint").click()
    paint(page, steps=2)
    painted(page)
