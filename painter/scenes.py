"""The 128x128 little scenes that the painter learns from, and which of them make sense."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image

from painter.canvas import SIZE, Canvas, Point
from painter.palette import CLOUDS, COLOURS, GROUNDS, MOON, RAINBOW, SKIES, SUNS, lit, mix
from painter.subjects import DRAW, Pose

SUBJECTS = tuple(DRAW)
HUES = tuple(COLOURS)
TIMES = tuple(SKIES)
LANDS = tuple(GROUNDS)
PLACES = ("left", "centre", "right")
THINGS = ("sun", "moon", "stars", "clouds", "rainbow")
Sky = frozenset[str]

_BRIGHT: tuple[tuple[str, ...], ...] = ((), ("sun",), ("clouds",), ("sun", "clouds"), ("rainbow",))
SKY_SETS: dict[str, tuple[Sky, ...]] = {
    "day": tuple(map(frozenset, (*_BRIGHT, ("rainbow", "clouds"), ("rainbow", "sun")))),
    "dawn": tuple(map(frozenset, _BRIGHT)),
    "sunset": tuple(map(frozenset, _BRIGHT)),
    "night": tuple(
        map(
            frozenset,
            ((), ("moon",), ("stars",), ("moon", "stars"), ("clouds",), ("moon", "clouds")),
        )
    ),
}
_CENTRES = {"left": 30.0, "centre": 64.0, "right": 98.0}
_STAR_FIELDS: tuple[tuple[Point, ...], ...] = (
    ((12, 16), (34, 30), (50, 10), (78, 22), (98, 8), (116, 30), (66, 40), (20, 50), (108, 54)),
    ((8, 34), (24, 12), (44, 26), (64, 14), (86, 34), (104, 14), (120, 44), (36, 52), (92, 58)),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows, in the words that captions use."""

    subject: str
    colour: str
    time: str
    ground: str
    place: str
    sky: Sky

    def key(self) -> str:
        """One line that names the combination, for hashing and for messages."""
        words = (self.subject, self.colour, self.time, self.ground, self.place)
        return "/".join((*words, "+".join(sorted(self.sky)) or "clear"))


def random_scene(rng: random.Random) -> Scene:
    """A sensible scene: ships on the sea, the sun by day, the moon by night."""
    subject = rng.choice(SUBJECTS)
    ground = "sea" if subject == "sailboat" else rng.choice(LANDS)
    time = rng.choice(TIMES)
    sky = rng.choice(SKY_SETS[time])
    return Scene(subject, rng.choice(HUES), time, ground, rng.choice(PLACES), sky)


def sensible(scene: Scene) -> bool:
    """Whether ``random_scene`` could have drawn this combination."""
    afloat = scene.subject != "sailboat" or scene.ground == "sea"
    return afloat and scene.sky in SKY_SETS[scene.time]


def render(scene: Scene, seed: int) -> Image.Image:
    """The scene as a picture; ``seed`` moves what the words leave open."""
    rng = random.Random(f"{scene.key()}#{seed}")
    canvas = Canvas()
    horizon = 80.0 + rng.uniform(-3, 3)
    canvas.gradient(0, horizon + 6, SKIES[scene.time])
    light = _paint_sky(canvas, scene, horizon, rng)
    _paint_ground(canvas, scene, horizon, light, rng)
    _paint_subject(canvas, scene, horizon, rng)
    return canvas.finish()


def _paint_sky(canvas: Canvas, scene: Scene, horizon: float, rng: random.Random) -> float | None:
    """Returns the x of the sun or moon, whose light glitters on the sea."""
    if "stars" in scene.sky:
        _paint_stars(canvas, rng)
    if "rainbow" in scene.sky:
        for band, colour in enumerate(RAINBOW):
            fill = mix(lit(colour, scene.time), SKIES[scene.time][1], 0.15)
            canvas.arc((64, horizon + 2), 60 - 3 * band, 3.4, fill)
    light = None
    if scene.sky & {"sun", "moon"}:
        light = _light_x(scene, rng)
        high = 24 if "rainbow" not in scene.sky else 15
        _paint_light(canvas, scene, (light, high + rng.uniform(-3, 3)), horizon)
    if "clouds" in scene.sky:
        _paint_clouds(canvas, scene, light, rng)
    return light


def _light_x(scene: Scene, rng: random.Random) -> float:
    """The sun and the moon keep clear of the subject."""
    if "rainbow" in scene.sky:
        return 15 if scene.place != "left" else 113
    wide = scene.subject == "mountain"
    choices = {
        "left": (108.0,) if wide else (72.0, 106.0),
        "centre": (13.0, 115.0) if wide else (20.0, 108.0),
        "right": (20.0,) if wide else (22.0, 56.0),
    }[scene.place]
    return rng.choice(choices) + (0 if wide else rng.uniform(-4, 4))


def _paint_light(canvas: Canvas, scene: Scene, where: Point, horizon: float) -> None:
    if "moon" in scene.sky:
        canvas.glow(where, 24, MOON, 0.35)
        canvas.crescent(where, 10, (-3.2, -1.6), MOON)
        return
    if scene.time != "day":
        where = where[0], horizon - 20
    colour = SUNS[scene.time]
    canvas.glow(where, 34, colour, 0.6)
    canvas.ellipse(where, 10, 10, colour)


def _paint_stars(canvas: Canvas, rng: random.Random) -> None:
    flip, shift = rng.random() < 0.5, rng.uniform(-3, 3)
    for number, (x, y) in enumerate(rng.choice(_STAR_FIELDS)):
        x = (SIZE - x if flip else x) + shift
        long, short = (3.4, 1.1) if number % 2 else (2.6, 0.9)
        points = []
        for corner in range(8):
            radius = short if corner % 2 else long
            angle = math.pi * corner / 4
            points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
        canvas.polygon(points, (255, 250, 224))


def _paint_clouds(canvas: Canvas, scene: Scene, light: float | None, rng: random.Random) -> None:
    body, under = CLOUDS[scene.time]
    spots = [x for x in (22.0, 64.0, 106.0) if light is None or abs(x - light) > 22]
    if scene.subject == "balloon":
        spots = [x for x in spots if abs(x - _CENTRES[scene.place]) > 22]
    for number, x in enumerate(spots):
        x, y = x + rng.uniform(-5, 5), (16.0, 25.0)[number % 2] + rng.uniform(-3, 3)
        puffs = ((-9, 0, 5.5), (0, -3, 8), (9, 0, 6))
        for dx, dy, r in puffs:
            canvas.ellipse((x + dx, y + dy + 1.5), r, r, under)
        canvas.rectangle((x - 9, y), (x + 9, y + 7), under)
        for dx, dy, r in puffs:
            canvas.ellipse((x + dx, y + dy), r - 0.8, r - 0.8, body)
        canvas.rectangle((x - 9, y - 1), (x + 9, y + 4.5), body)


def _paint_ground(
    canvas: Canvas, scene: Scene, horizon: float, light: float | None, rng: random.Random
) -> None:
    far, near, front = GROUNDS[scene.ground][scene.time]
    if scene.ground == "sea":
        canvas.gradient(horizon, SIZE, (near, front))
        _paint_waves(canvas, scene, horizon, light, rng)
        return
    phase = rng.uniform(0, 2 * math.pi)
    canvas.polygon(_hills(horizon - 1, 4.5, 52, phase), far)
    canvas.gradient(horizon + 6, SIZE, (near, front))
    canvas.polygon(
        [*_hills(horizon + 4.5, 1.5, 90, -phase)[:-2], (SIZE, horizon + 7), (0, horizon + 7)], near
    )
    extra = {"meadow": _paint_flowers, "desert": _paint_cactus, "snow": _paint_pines}
    extra[scene.ground](canvas, scene, horizon, rng)


def _hills(level: float, height: float, length: float, phase: float) -> list[Point]:
    ridge = [
        (float(x), level - height * math.sin(2 * math.pi * x / length + phase))
        for x in range(0, SIZE + 4, 4)
    ]
    return [*ridge, (SIZE, SIZE), (0, SIZE)]


def _paint_waves(
    canvas: Canvas, scene: Scene, horizon: float, light: float | None, rng: random.Random
) -> None:
    near = GROUNDS["sea"][scene.time][1]
    crest = mix(near, (255, 255, 255), 0.35)
    shift = rng.uniform(0, 36)
    for row, y in enumerate((horizon + 9, horizon + 21, horizon + 34)):
        for column in range(-1, 5):
            x = column * 36 + shift + 18 * (row % 2) - 18
            wave = [(x + d, y - 1.4 * math.sin(math.pi * d / 7)) for d in range(0, 15)]
            canvas.line(wave, 1.8, crest)
    if light is not None:
        colour = MOON if scene.time == "night" else SUNS[scene.time]
        fill = mix(near, colour, 0.75)
        for step, half in enumerate((9, 5, 8, 4, 6, 3)):
            y = horizon + 2.5 + 5 * step
            canvas.line([(light - half, y), (light + half, y)], 2.2, fill)


def _away(scene: Scene, near: float, far: float) -> tuple[float, float]:
    """Two x places on the side of the picture where the subject is not."""
    return {
        "left": (SIZE - near, SIZE - far),
        "centre": (near, SIZE - near),
        "right": (near, far),
    }[scene.place]


def _paint_flowers(canvas: Canvas, scene: Scene, horizon: float, rng: random.Random) -> None:
    shift = rng.uniform(-4, 4)
    for number, x in enumerate((10, 34, 60, 88, 114)):
        y = horizon + (32, 40, 36, 42, 33)[number] + shift / 4
        canvas.ellipse((x + shift, y), 2.2, 2.2, lit((255, 248, 206), scene.time))


def _paint_cactus(canvas: Canvas, scene: Scene, horizon: float, rng: random.Random) -> None:
    x, y = _away(scene, 16 + rng.uniform(-4, 4), 40)[0], horizon + 22
    fill = lit((70, 128, 84), scene.time)
    for dx, top, bottom in ((0, -19, 0), (-6, -13, -6), (6, -15, -8)):
        canvas.rectangle((x + dx - 1.8, y + top), (x + dx + 1.8, y + bottom), fill)
        canvas.ellipse((x + dx, y + top), 1.8, 1.8, fill)
    canvas.rectangle((x - 7.8, y - 8.5), (x, y - 5.5), fill)
    canvas.rectangle((x, y - 10.5), (x + 7.8, y - 7.5), fill)


def _paint_pines(canvas: Canvas, scene: Scene, horizon: float, rng: random.Random) -> None:
    fill = lit((54, 104, 96), scene.time)
    shift = rng.uniform(-4, 4)
    for place, size in zip(_away(scene, 12, 30), (1.0, 0.75), strict=True):
        x, y = place + shift, horizon + 10
        canvas.rectangle((x - 1.2, y - 2), (x + 1.2, y + 2), lit((96, 66, 50), scene.time))
        for level in range(3):
            half, foot = (6.5 - 1.3 * level) * size, y - 1 - 5.5 * level * size
            canvas.polygon([(x - half, foot), (x, foot - 9 * size), (x + half, foot)], fill)


def _paint_subject(canvas: Canvas, scene: Scene, horizon: float, rng: random.Random) -> None:
    x = _CENTRES[scene.place] + rng.uniform(-5, 5)
    size = rng.uniform(0.94, 1.06)
    foot = horizon + 17 + rng.uniform(-2, 2)
    if scene.subject == "balloon":
        foot = 68 + rng.uniform(-4, 4)
    elif scene.subject == "mountain":
        foot = horizon + 7
    elif scene.subject == "sailboat":
        foot = horizon + 14 + rng.uniform(-2, 2)
    elif scene.ground == "sea":
        _paint_island(canvas, scene, (x, foot))
    else:
        shadow = mix(GROUNDS[scene.ground][scene.time][2], (20, 20, 60), 0.28)
        canvas.ellipse((x + 4, foot), 20 * size, 3.2, shadow)
    if scene.subject == "mountain" and scene.ground == "sea":
        foam = mix(GROUNDS["sea"][scene.time][1], (255, 255, 255), 0.5)
        canvas.ellipse((x, foot), 39 * size, 2.2, foam)
    DRAW[scene.subject](canvas, Pose(x, foot, size, scene.colour, scene.time))


def _paint_island(canvas: Canvas, scene: Scene, where: Point) -> None:
    x, y = where
    foam = mix(GROUNDS["sea"][scene.time][1], (255, 255, 255), 0.5)
    canvas.ellipse((x, y + 5), 29, 6, foam)
    canvas.ellipse((x, y + 3), 27, 6.5, lit((150, 118, 92), scene.time))
    canvas.ellipse((x, y + 1), 24, 4.5, lit((206, 176, 128), scene.time))
