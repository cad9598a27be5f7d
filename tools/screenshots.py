"""Photographs the web page for docs/images; run it when the page has changed.

    python tools/screenshots.py [FOLDER]

Needs Debian's chromium and the packages of `make test`. It starts a server of its own.
"""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import run_server  # noqa: E402
from tests.web.pictures import open_newest, paint, painted, view  # noqa: E402

PROMPTS = [
    "a yellow balloon over a meadow, with a rainbow",
    "an orange sailboat at sunset",
    "a purple mountain in the desert at night with stars",
    "a green tree in the snow with clouds",
    "a pink house in a meadow at dawn",
    "a white lighthouse by the sea at dawn",
    "a blue house on the sea at night with a moon",
    "a red house in the snow at night",
]
_OPTIONS = ["--model-control-mode=explicit", "--load-model=painter"]
MOST = 150_000  # bytes of a file


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    expect.set_options(timeout=120_000)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        tempfile.TemporaryDirectory() as temporary,
        sync_playwright() as playwright,
        run_server(Path(temporary) / "log", *_OPTIONS) as server,
    ):
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        photograph(browser, server.url, folder)
        browser.close()


def photograph(browser: Browser, address: str, folder: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
    page.set_default_timeout(120_000)
    page.goto(address)
    for number, prompt in enumerate(PROMPTS):
        paint(page, prompt, seed=number + 3)
        painted(page, number + 1)
    page.evaluate("document.getElementById('form').scrollTo(0, 0)")
    page.locator("#seed").fill("")
    keep(page, folder / "web-paint.webp")
    open_newest(page)
    keep(page, folder / "web-viewer.webp")
    page.get_by_role("button", name="a part repainted").click()
    mask(page)
    page.evaluate("document.getElementById('form').scrollTo(0, 0)")
    keep(page, folder / "web-mask.webp")
    page.locator("#source-remove").click()
    page.locator("#prompt").fill("a red house in the snow at night")
    view(page, "API")
    keep(page, folder / "web-api.webp")
    view(page, "Models")
    keep(page, folder / "web-models.webp", 360)
    monitor(page, folder)
    phone(page, folder)


def mask(page: Page) -> None:
    place = page.locator(".drawing").bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + 0.35 * place["width"], place["y"] + 0.55 * place["height"])
    page.mouse.down()
    for x, y in ((0.6, 0.5), (0.4, 0.65), (0.62, 0.7)):
        page.mouse.move(place["x"] + x * place["width"], place["y"] + y * place["height"], steps=9)
    page.mouse.up()


def monitor(page: Page, folder: Path) -> None:
    """In the dark, with something to see: three rounds of pictures while it looks."""
    page.emulate_media(color_scheme="dark")
    for count in (2, 6, 4):
        view(page, "Paint")
        before = page.locator("#pictures img").count()
        paint(page, "a blue sailboat", n=count)
        view(page, "Monitor")
        expect(page.locator("#pictures img")).to_have_count(before + count)
        page.wait_for_timeout(5000)
    keep(page, folder / "web-monitor.webp", 480)


def phone(page: Page, folder: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    view(page, "Paint")
    paint(page, "a red lighthouse at night with a moon", n=1, seed=5, steps=150)
    page.evaluate("document.getElementById('settings').open = false")
    expect(page.locator(".state").first).to_contain_text("Step 1")
    page.wait_for_timeout(1500)
    keep(page, folder / "web-phone.webp", 844)


def keep(page: Page, file: Path, height: int = 800) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(400)  # until what fades has faded
    size = page.viewport_size
    assert size is not None
    clip = {"x": 0, "y": 0, "width": size["width"], "height": height}
    shot = Image.open(io.BytesIO(page.screenshot(clip=clip)))
    shot.convert("RGB").save(file, quality=82, method=6)
    assert file.stat().st_size < MOST, file


if __name__ == "__main__":
    main()
