"""The models view: states, reasons, loading and unloading."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.web.pictures import paint, painted, view

from nerite import painter


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The painter, and a model whose code does not run."""
    folder = tmp_path / "models"
    shutil.copytree(painter.REPOSITORY, folder)
    broken = folder / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.py").write_text("raise RuntimeError('<b>this model is broken</b>')\n")
    (broken.parent / "config.pbtxt").write_text('backend: "python"\n')
    return folder


def test_load_unload_and_the_reason_of_a_failure(
    open_page: Any, start_server: Any, repository: Path
) -> None:
    server = start_server("--model-repository", str(repository), "--model-control-mode=explicit")
    page: Page = open_page(server.url)
    view(page, "Models")
    row = page.locator(".model", has_text="painter")
    expect(row.get_by_text("Not loaded")).to_be_visible()
    page.get_by_role("button", name="Load painter").click()
    expect(row.get_by_text("Ready", exact=True)).to_be_visible()
    expect(row).to_contain_text("from text, from pictures, under masks")
    expect(page.get_by_role("button", name="Unload painter")).to_be_focused()
    view(page, "Paint")
    paint(page, steps=2)
    painted(page)
    view(page, "Models")
    broken = page.locator(".model", has_text="broken")
    page.get_by_role("button", name="Load broken").click()
    expect(broken.get_by_text("Failed", exact=True)).to_be_visible()
    expect(broken).to_contain_text("<b>this model is broken</b>")
    page.get_by_role("button", name="Unload painter").click()
    expect(row.get_by_text("Not loaded")).to_be_visible()
    view(page, "Paint")
    expect(page.get_by_label("Model", exact=True)).to_have_value("")


def test_where_it_is_not_allowed_nothing_is_offered(open_page: Any, painter_server: Any) -> None:
    page: Page = open_page(painter_server.url)
    view(page, "Models")
    expect(page.get_by_text("Ready", exact=True)).to_be_visible()
    expect(page.get_by_text("--model-control-mode=explicit")).to_be_visible()
    expect(page.get_by_role("button", name="Unload painter")).to_have_count(0)
