"""The API view: its commands and programs run as they stand, and paint what the page paints."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from tests.web.pictures import open_newest, paint, painted, view

# What a shell and Python would take for something else.
PROMPT = """it's a "red" house, $HOME & `all` 100 % \\ ünïcode"""
LANGUAGES = ["curl", "Python, openai", "Python, tritonclient", "nerite"]


@pytest.fixture
def page(open_page: Any, painter_server: Any) -> Page:
    made: Page = open_page(painter_server.url)
    expect(made.get_by_text("Say what to paint")).to_be_visible()
    return made


def run(page: Page, title: str, folder: Path) -> Image.Image:
    """What the view says for `title`, run in `folder`."""
    text = page.get_by_role("region", name=title).inner_text()
    for old in folder.glob("painted*.png"):
        old.unlink()
    program = [sys.executable, "-c"] if title.startswith("Python") else ["bash", "-ec"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if title == "nerite":  # whatever is installed is not what is tested
        text = text.replace("nerite generate", f"{sys.executable} -m nerite generate", 1)
    done = subprocess.run(
        [*program, text], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("painted*.png")
    with Image.open(made) as opened:
        return opened.convert("RGB")


def picture(page: Page, folder: Path) -> Image.Image:
    """The newest one, downloaded."""
    viewer = open_newest(page)
    with page.expect_download() as saved:
        viewer.get_by_role("link", name="Download").click()
    saved.value.save_as(folder / "newest.png")
    page.keyboard.press("Escape")
    with Image.open(folder / "newest.png") as opened:
        return opened.convert("RGB")


def check_all(page: Page, folder: Path) -> None:
    painted(page)
    expected = np.asarray(picture(page, folder), np.int16)
    view(page, "API")
    for title in LANGUAGES:
        found = np.asarray(run(page, title, folder), np.int16)
        assert found.shape == expected.shape, title
        # What runs beside it may round differently, never by more than this.
        assert np.abs(found - expected).max() <= 2, title


def test_each_paints_the_same_picture(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Sampler").select_option("euler")
    page.get_by_label("Size").select_option(label="192 × 128, wide")
    fields = {"seed": 11, "steps": 3, "guidance_scale": 2.5, "negative_prompt": "-a 'moon'"}
    paint(page, PROMPT, **fields)
    check_all(page, tmp_path)


def test_each_repaints_the_same_part(page: Page, tmp_path: Path) -> None:
    Image.effect_mandelbrot((128, 128), (-2, -1.5, 1, 1.5), 50).save(tmp_path / "begin.png")
    page.locator("#file").set_input_files(tmp_path / "begin.png")
    page.get_by_role("button", name="Repaint a part").click()
    page.locator("#brush").fill("40")
    page.locator(".drawing").focus()
    page.keyboard.press("Space")
    page.locator("#strength").fill("0.9")
    paint(page, PROMPT, seed=4, steps=4)
    painted(page)
    view(page, "API")
    for name in ("picture.png", "mask.png"):
        with page.expect_download() as saved:
            page.get_by_role("link", name=name).click()
        saved.value.save_as(tmp_path / name)
    view(page, "Paint")
    check_all(page, tmp_path)


def test_without_a_prompt_it_still_shows_one(page: Page) -> None:
    view(page, "API")
    expect(page.locator("pre").first).to_contain_text("a red house in the snow at night")
    page.get_by_role("link", name="All of the API").click()
    expect(page.get_by_role("heading", name="The HTTP API")).to_be_visible()
