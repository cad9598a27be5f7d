"""The monitor, drawn from the metrics."""

import re
from typing import Any

from playwright.sync_api import Page, expect
from tests.web.pictures import paint, painted, view


def test_what_is_painted_is_counted(open_page: Any, painter_server: Any) -> None:
    page: Page = open_page(painter_server.url)
    view(page, "Monitor")
    cell = page.get_by_role("row", name=re.compile("painter")).get_by_role("cell").first
    expect(cell).to_have_text(re.compile(r"\d+"))
    before = int(cell.inner_text())
    memory = page.get_by_role("region", name="Memory").locator(".now")
    expect(memory).to_have_text(re.compile(r"\d+ [MG]B"))
    view(page, "Paint")
    paint(page, n=2, steps=2)
    painted(page, 2)
    view(page, "Monitor")
    expect(cell).to_have_text(str(before + 2))
    rate = page.get_by_role("region", name="Pictures a second").locator(".now")
    expect(rate).to_have_text(re.compile(r"0\.\d+|[1-9]"))
    time = page.get_by_role("region", name="Time of a request").locator(".now")
    expect(time).to_have_text(re.compile(r"[\d.]+ m?s"))
    drawn = page.get_by_role("region", name="In the queue").locator(".line")
    assert re.match(r"M[\d.]+ [\d.]+L", drawn.get_attribute("d") or "")


def test_a_server_without_metrics_says_so(open_page: Any, start_server: Any) -> None:
    server = start_server("--allow-metrics=false")
    page: Page = open_page(server.url)
    view(page, "Monitor")
    expect(page.get_by_text("--allow-metrics=false")).to_be_visible()


def test_it_asks_only_while_it_is_looked_at(open_page: Any, painter_server: Any) -> None:
    page: Page = open_page(painter_server.url)
    view(page, "Monitor")
    expect(page.get_by_role("row", name=re.compile("painter"))).to_be_visible()
    view(page, "Paint")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)  # longer than it waits between two looks
    assert asked == []
