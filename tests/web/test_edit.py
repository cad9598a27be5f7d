"""Beginning with a picture, and painting a part of it anew."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect
from tests.web.pictures import RED_HOUSE, difference, open_newest, paint, painted

BOX = [0.25, 0.25, 0.75, 0.75]
DROP = """(form, [name, text]) => {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name));
  for (const type of ["dragover", "drop"]) {
    const event = new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true });
    form.dispatchEvent(event);
  }
}"""


@pytest.fixture
def page(open_page: Any, painter_server: Any) -> Page:
    made: Page = open_page(painter_server.url)
    expect(made.get_by_text("Say what to paint")).to_be_visible()
    return made


@pytest.fixture
def wide_picture(tmp_path: Path) -> Path:
    """Not the model's size: red on the left, blue on the right."""
    image = Image.new("RGB", (300, 150), "red")
    ImageDraw.Draw(image).rectangle((150, 0, 300, 150), fill="blue")
    image.save(tmp_path / "wide.jpg", quality=95)
    return tmp_path / "wide.jpg"


def begin_with(page: Page, file: Path) -> None:
    page.locator("#file").set_input_files(file)
    expect(page.get_by_role("img", name="The picture to begin with")).to_be_visible()


def paint_mask(page: Page) -> None:
    """All of BOX, by pointer."""
    canvas = page.locator(".drawing")
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    assert place is not None
    radius = 0.125  # of the side: half a brush of 25 %
    page.locator("#brush").fill("25")
    left, top, right, bottom = BOX
    rows = [top + radius, (top + bottom) / 2, bottom - radius]
    for row in rows:
        y = place["y"] + row * place["height"]
        page.mouse.move(place["x"] + (left + radius) * place["width"], y)
        page.mouse.down()
        page.mouse.move(place["x"] + (right - radius) * place["width"], y, steps=8)
        page.mouse.up()


def test_a_dropped_picture_is_cut_to_the_size(page: Page, wide_picture: Path) -> None:
    text = base64.b64encode(wide_picture.read_bytes()).decode()
    page.locator("#form").evaluate(DROP, ["wide.jpg", text])
    expect(page.get_by_role("img", name="The picture to begin with")).to_be_visible()
    with page.expect_request("**/v1/images/edits") as asked:
        paint(page, steps=4, seed=3)
    body = asked.value.post_data_json
    sent = Image.open(
        io.BytesIO(base64.b64decode(body["images"][0]["image_url"].partition(",")[2]))
    )
    assert sent.size == (128, 128)
    assert sent.getpixel((10, 64))[0] > 200 and sent.getpixel((118, 64))[2] > 200
    assert body["strength"] == 0.8 and "mask" not in body
    painted(page)
    viewer = open_newest(page)
    expect(viewer.locator("dt:text-is('Began with') + dd")).to_have_text("a picture")


def test_little_strength_changes_little(page: Page, wide_picture: Path) -> None:
    begin_with(page, wide_picture)
    for strength in ("1", "0.1"):
        page.locator("#strength").fill(strength)
        paint(page, seed=3)
        expect(page.locator(".easel .state")).to_contain_text("Painted in")
    slight, strong = painted(page, 2).all()
    page.locator("#source-remove").click()
    much, _ = difference(slight, strong, [0, 0, 1, 1])
    assert much > 10


def test_only_the_masked_part_is_painted_anew(page: Page) -> None:
    paint(page, seed=7)
    painted(page)
    open_newest(page).get_by_role("button", name="a part repainted").click()
    expect(page.locator(".drawing")).to_be_focused()
    paint_mask(page)
    with page.expect_request("**/v1/images/edits") as asked:
        paint(page, "a yellow balloon at sunset", seed=1)
    url = asked.value.post_data_json["mask"]["image_url"]
    mask = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert mask.mode == "RGBA"
    assert mask.getpixel((64, 64))[3] == 0 and mask.getpixel((4, 4))[3] == 255
    new, old = painted(page, 2).all()
    inside, outside = difference(new, old, [0.2, 0.2, 0.8, 0.8])
    assert inside > 4 * outside
    viewer = open_newest(page)
    expect(viewer.locator("dt:text-is('Began with') + dd")).to_have_text("a picture, in part")


def test_a_mask_by_keys_with_undo_invert_and_clear(page: Page, wide_picture: Path) -> None:
    begin_with(page, wide_picture)
    page.get_by_role("button", name="Repaint a part").click()
    canvas = page.locator(".drawing")
    covered = """canvas => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, at) => at % 4 === 3 && value > 127).length / (data.length / 4);
    }"""
    canvas.focus()
    page.keyboard.press("Space")
    one = canvas.evaluate(covered)
    assert 0.005 < one < 0.05
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Space")
    two = canvas.evaluate(covered)
    assert two > 1.5 * one
    page.keyboard.press("Control+z")
    assert canvas.evaluate(covered) == one
    page.get_by_role("button", name="Invert").click()
    assert canvas.evaluate(covered) == pytest.approx(1 - one, abs=0.01)
    page.get_by_role("button", name="Erase").click()
    canvas.focus()
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Space")
    assert canvas.evaluate(covered) < 1 - one
    page.get_by_role("button", name="Clear").click()
    assert canvas.evaluate(covered) == 0


def test_what_is_no_picture_is_said_so(page: Page, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture at all")
    page.locator("#file").set_input_files(tmp_path / "text.png")
    expect(page.get_by_text("This is no picture that the browser can read.")).to_be_visible()
    paint(page, steps=2)
    painted(page)


def test_another_size_cuts_the_picture_anew(page: Page, wide_picture: Path) -> None:
    begin_with(page, wide_picture)
    page.get_by_label("Size").select_option(label="192 × 128, wide")
    paint(page, steps=2)
    sizes = painted(page).evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert sizes == [192, 128]


def test_small_changes_and_another_seed(page: Page) -> None:
    paint(page, seed=7, steps=8)
    painted(page)
    open_newest(page).get_by_role("button", name="small changes").click()
    painted(page, 2)
    viewer = open_newest(page)
    expect(viewer.locator(".prompt")).to_have_text(RED_HOUSE)
    expect(viewer.locator("dt:text-is('Change') + dd")).to_have_text("45 %")
    viewer.get_by_role("button", name="another seed").click()
    painted(page, 3)
