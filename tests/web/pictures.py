"""What the tests of the page do and look for, in words."""

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

RED_HOUSE = "a red house in the snow at night"
# Keeps a list of what the first frame has shown.
_WATCH = """() => {
  window.shown = [];
  new MutationObserver(() => {
    const image = document.querySelector(".frame img");
    if (!image || window.shown.some((one) => one.src === image.src)) return;
    window.shown.push({ src: image.src, finished: image.dataset.finished === "true" });
  }).observe(document.getElementById("easels"), { childList: true, subtree: true });
}"""
# The mean difference of two images' pixels inside a box and outside of it, of 255.
_DIFFERENCE = """([one, other, [left, top, right, bottom]]) => {
  const pixels = (image) => {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    return pen.getImageData(0, 0, canvas.width, canvas.height);
  };
  const [a, b] = [pixels(one), pixels(other)];
  const sums = { in: 0, out: 0 };
  const counts = { in: 0, out: 0 };
  for (let at = 0; at < a.data.length; at += 1) {
    const x = (at >> 2) % a.width / a.width;
    const y = Math.floor((at >> 2) / a.width) / a.height;
    const place = x >= left && x < right && y >= top && y < bottom ? "in" : "out";
    sums[place] += Math.abs(a.data[at] - b.data[at]);
    counts[place] += 1;
  }
  return [sums.in / counts.in, sums.out / counts.out];
}"""


def paint(page: Page, prompt: str = RED_HOUSE, **fields: Any) -> None:
    """Fill the form's fields and press Paint."""
    page.get_by_label("What shall it be?").fill(prompt)
    for name, value in fields.items():
        page.locator(f"#{name}").fill(str(value))
    page.get_by_role("button", name="Paint", exact=True).click()


def pictures(page: Page) -> Locator:
    """Those of the gallery, newest first."""
    return page.locator("#pictures img")


def painted(page: Page, count: int = 1) -> Locator:
    """The gallery once it holds `count` pictures."""
    expect(pictures(page)).to_have_count(count)
    return pictures(page)


def watch(page: Page) -> None:
    page.evaluate(_WATCH)


def shown(page: Page) -> list[dict[str, Any]]:
    """What the first frame has shown since watch(): previews, then the picture."""
    found: list[dict[str, Any]] = page.evaluate("window.shown")
    return found


def difference(one: Locator, other: Locator, box: list[float]) -> tuple[float, float]:
    """How much two pictures differ inside a box (left, top, right, bottom, of 1) and outside."""
    handles = [one.element_handle(), other.element_handle(), box]
    inside, outside = one.page.evaluate(_DIFFERENCE, handles)
    return inside, outside


def view(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1, name=re.compile(".+")).first).to_be_visible()


def open_newest(page: Page) -> Locator:
    """The newest picture in full view."""
    page.locator("#pictures button").first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer).to_be_visible()
    return viewer
