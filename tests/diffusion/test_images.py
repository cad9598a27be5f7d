"""Pictures that come in: read, turned, bounded; and the sizes that they bring."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest

from nerite.diffusion import MAX_PIXELS, InvalidParams, Limits, read_picture
from nerite.diffusion.images import to_mask, to_network, to_pixels

Image = pytest.importorskip("PIL.Image")

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def file(pixels=PIXELS, kind="png", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(width, height):
    """A PNG whose head promises many pixels that never come."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    checked = chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + checked + b"\0\0\0\x20IDAT"


def test_files_and_their_base64_are_read():
    for data in (
        file(),
        base64.b64encode(file()),
        b"data:image/png;base64," + base64.b64encode(file()),
    ):
        assert (read_picture("image", data) == PIXELS).all()
    assert read_picture("image", file(kind="jpeg")).shape == (20, 30, 3)
    assert read_picture("image", file(kind="webp", lossless=True)).shape == (20, 30, 3)


def test_a_mask_is_grey_and_a_picture_is_not():
    assert read_picture("mask", file()).shape == (20, 30)
    assert read_picture("image", file(PIXELS[:, :, 0])).shape == (20, 30, 3)


def test_a_camera_that_was_held_upright_is_believed():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture("image", file(kind="jpeg", exif=exif)).shape == (30, 20, 3)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"GIF89a" + bytes(99), file()[:60], file()[:-30], b"\xff\xd8" + bytes(9)]
)
def test_what_is_no_picture_is_named(data):
    with pytest.raises(InvalidParams, match="^image cannot be read: ") as refusal:
        read_picture("image", data)
    assert refusal.value.field == "image"


@pytest.mark.parametrize("size", [(5000, 5000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_by_the_files_head(size):
    with pytest.raises(InvalidParams, match=f"mask has too many pixels: at most {MAX_PIXELS}"):
        read_picture("mask", bomb(*size))


def test_pixels_go_in_and_come_out():
    assert to_network(PIXELS, 30, 20).shape == (1, 3, 20, 30)
    assert (to_pixels(to_network(PIXELS, 30, 20))[0] == PIXELS).all()
    assert to_network(PIXELS, 16, 8).shape == (1, 3, 8, 16)
    assert set(np.unique(to_mask(PIXELS[:, :, 0], 30, 20))) == {0, 1}


def test_values_that_are_no_numbers_are_black(caplog):
    assert (to_pixels(np.full((1, 3, 2, 2), np.nan, np.float32)) == 0).all()
    assert "not numbers" in caplog.text


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((128, 128), (128, 128)),
        ((200, 100), (200, 96)),
        ((1000, 500), (256, 128)),
        ((32, 16), (128, 64)),
        ((1000, 1), (256, 64)),
        ((1, 1), (64, 64)),
    ],
)
def test_a_picture_of_any_size_has_one_that_can_be_painted(size, expected):
    fitted = Limits(width=128, height=128, max_size=256).fit(*size)
    assert (fitted["width"], fitted["height"]) == expected
