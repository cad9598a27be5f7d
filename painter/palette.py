"""Colours of the scenes by time of day; the eight names must stay distinct in every light."""

from __future__ import annotations

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 36, 44),
    "blue": (36, 96, 224),
    "yellow": (252, 212, 36),
    "white": (247, 247, 249),
    "purple": (136, 58, 196),
    "orange": (246, 126, 20),
    "green": (36, 156, 66),
    "pink": (252, 142, 192),
}
SKIES: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "day": ((74, 152, 232), (138, 196, 244), (212, 236, 250)),
    "dawn": ((142, 158, 222), (226, 186, 214), (255, 222, 196)),
    "sunset": ((84, 52, 130), (226, 92, 92), (255, 184, 84)),
    "night": ((12, 16, 50), (26, 34, 82), (52, 66, 124)),
}
GROUNDS: dict[str, dict[str, tuple[Rgb, Rgb, Rgb]]] = {  # far hills, horizon, foreground
    "meadow": {
        "day": ((112, 184, 96), (150, 208, 92), (92, 170, 64)),
        "dawn": ((142, 176, 128), (178, 204, 124), (122, 164, 92)),
        "sunset": ((112, 108, 72), (150, 150, 66), (84, 104, 52)),
        "night": ((26, 56, 66), (38, 80, 66), (20, 52, 50)),
    },
    "desert": {
        "day": ((232, 190, 116), (250, 222, 152), (228, 184, 102)),
        "dawn": ((228, 178, 146), (250, 212, 170), (224, 170, 126)),
        "sunset": ((202, 112, 76), (244, 172, 98), (196, 112, 64)),
        "night": ((78, 68, 96), (122, 104, 110), (84, 70, 86)),
    },
    "snow": {
        "day": ((200, 220, 242), (253, 254, 255), (218, 230, 246)),
        "dawn": ((216, 204, 230), (254, 238, 240), (224, 210, 232)),
        "sunset": ((196, 156, 186), (252, 218, 204), (206, 170, 192)),
        "night": ((96, 112, 166), (156, 170, 212), (110, 124, 176)),
    },
    "sea": {
        "day": ((0, 0, 0), (84, 172, 222), (26, 100, 178)),
        "dawn": ((0, 0, 0), (186, 178, 212), (92, 112, 180)),
        "sunset": ((0, 0, 0), (206, 106, 104), (78, 54, 122)),
        "night": ((0, 0, 0), (40, 62, 122), (14, 26, 68)),
    },
}
CLOUDS: dict[str, tuple[Rgb, Rgb]] = {  # body, underside
    "day": ((255, 255, 255), (214, 228, 244)),
    "dawn": ((255, 240, 234), (240, 204, 214)),
    "sunset": ((252, 180, 150), (206, 116, 128)),
    "night": ((92, 102, 150), (62, 70, 118)),
}
SUNS: dict[str, Rgb] = {
    "day": (255, 226, 84),
    "dawn": (255, 240, 176),
    "sunset": (255, 226, 130),
}
MOON: Rgb = (255, 246, 208)
RAINBOW: tuple[Rgb, ...] = (
    (232, 72, 72),
    (250, 166, 60),
    (252, 232, 90),
    (96, 196, 100),
    (74, 136, 230),
    (150, 92, 206),
)
LAMP: Rgb = (255, 222, 110)


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """``first`` with ``share`` of ``second`` in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def lit(colour: Rgb, time: str) -> Rgb:
    """A day colour as it looks at ``time``: tinted gently, so that it keeps its name."""
    if time == "dawn":
        return mix(colour, (255, 206, 190), 0.10)
    if time == "sunset":
        red, green, blue = colour
        return mix((red, round(green * 0.92), round(blue * 0.88)), (255, 140, 80), 0.05)
    if time == "night":
        red, green, blue = colour
        return mix((round(red * 0.84), round(green * 0.84), round(blue * 0.94)), (30, 36, 110), 0.1)
    return colour
