"""Bad input is answered with the field, the value and the remedy."""

import math
from dataclasses import replace

import numpy as np
import pytest

from nerite.diffusion import InvalidParams, Limits, Params

LIMITS = Limits(width=128, height=128, max_size=256)
GOOD = Params("a house", width=128, height=64)

PICTURE = np.zeros((8, 8, 3), np.uint8)

BAD = [
    ("clip_skip", -1, "clip_skip is -1: it must be a whole number from 0"),
    ("strength", 0.5, "strength is given without image"),
    ("mask", PICTURE[:, :, 0], "mask is given without image"),
    ("image", PICTURE[:, :, :2], r"image is uint8 \[8, 8, 2\]: uint8 \[height, width, 3\] is"),
    ("image", PICTURE[:, :, 0], r"image is uint8 \[8, 8\]: uint8 \[height, width, 3\] is"),
    ("image", PICTURE.astype(float), r"image is float64 \[8, 8, 3\]: "),
    ("image", PICTURE[:0], r"image is uint8 \[0, 8, 3\]: "),
    ("image", "picture.png", r"image is str \[\]: "),
    ("image", np.broadcast_to(PICTURE[:1, :1], (5000, 5000, 3)), "image has 5000 x 5000 pixels"),
    ("width", 100, "width is 100: it must be a multiple of 8 from 64 to 256; try 96 or 104"),
    ("width", 0, "width is 0: it must be a multiple of 8 from 64 to 256; try 64"),
    ("height", -8, "height is -8: it must be a multiple of 8 from 64 to 256; try 64"),
    ("height", 264, "height is 264: it must be a multiple of 8 from 64 to 256; try 256"),
    ("height", 10**9, "height is 1000000000: .*; try 256"),
    ("width", 128.0, "width is 128.0: it must be a multiple of 8 from 64 to 256"),
    ("width", True, "width is True: "),
    ("steps", 0, "steps is 0: it must be a whole number from 1 to 1000"),
    ("steps", 100_000, "steps is 100000: it must be a whole number from 1 to 1000"),
    ("steps", True, "steps is True: "),
    ("steps", 20.0, "steps is 20.0: "),
    ("guidance_scale", math.nan, "guidance_scale is nan: it must be a number from 0 to 100"),
    ("guidance_scale", math.inf, "guidance_scale is inf: "),
    ("guidance_scale", -0.5, "guidance_scale is -0.5: "),
    ("guidance_scale", 100.5, "guidance_scale is 100.5: "),
    ("guidance_scale", True, "guidance_scale is True: "),
    ("guidance_scale", "7", "guidance_scale is '7': "),
    ("num_images", 0, "num_images is 0: it must be a whole number 1 or more"),
    ("num_images", -3, "num_images is -3: "),
    ("seed", 2**63, "seed is 9223372036854775808: it must be a whole number from -92"),
    ("seed", 1.5, "seed is 1.5: "),
    ("prompt", b"a house", "prompt is b'a house': it must be text"),
    ("prompt", None, "prompt is None: it must be text"),
    ("negative_prompt", "\ud800", "negative_prompt holds half of a surrogate pair"),
    ("scheduler", 3, "scheduler is 3: it must be text"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD, ids=lambda part: repr(part)[:24])
def test_a_bad_value_is_named_with_its_range(field, value, message):
    with pytest.raises(InvalidParams, match=message) as refusal:
        LIMITS.check(replace(GOOD, **{field: value}))
    assert refusal.value.field == field
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -(2**63)},
        {"seed": 2**63 - 1},
        {"steps": 1},
        {"steps": 1000},
        {"guidance_scale": 0},
        {"guidance_scale": np.float32(7.5)},
        {"width": np.int32(64), "height": 256},
        {"prompt": ""},
        {"prompt": "雪 🏠 \x00" * 10_000},
        {"num_images": 10_000},
    ],
    ids=lambda change: str(change)[:30],
)
def test_what_is_in_range_passes(change):
    LIMITS.check(replace(GOOD, **change))


def test_an_endless_value_is_cut_in_the_message():
    with pytest.raises(InvalidParams) as refusal:
        LIMITS.check(replace(GOOD, prompt=b"x" * 10_000))
    assert len(str(refusal.value)) < 120
