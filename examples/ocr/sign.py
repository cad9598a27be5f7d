"""Paints the sign that the walkthrough reads: `python sign.py`."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LINES = [
    (56, 60, 52, "harbour  cafe"),
    (84, 170, 40, "open  daily"),
    (56, 260, 32, "from  0900  until  1730"),
    (120, 360, 30, "closed  in  winter"),
]
_WALL, _BOARD, _INK = (198, 190, 172), (34, 68, 84), (244, 236, 214)


def paint() -> Image.Image:
    picture = Image.new("RGB", (640, 480), _WALL)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((24, 24, 616, 456), fill=_BOARD)
    for left, top, size, text in LINES:
        draw.text((left, top), text, fill=_INK, font=ImageFont.load_default(size))
    return picture


if __name__ == "__main__":
    paint().save(Path(__file__).with_name("sign.jpg"), quality=90)
