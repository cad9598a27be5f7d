"""The six things a scene can be about, each drawn around a foot point on the ground."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from painter.canvas import Canvas, Point
from painter.palette import COLOURS, LAMP, Rgb, lit, mix


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a subject stands, how large, in which colour and light."""

    x: float
    y: float
    size: float
    colour: str
    time: str

    def at(self, dx: float, dy: float) -> Point:
        return self.x + dx * self.size, self.y + dy * self.size

    def lit(self, colour: Rgb) -> Rgb:
        return lit(colour, self.time)

    @property
    def main(self) -> Rgb:
        return self.lit(COLOURS[self.colour])

    @property
    def shade(self) -> Rgb:
        """The side away from the light."""
        if self.colour == "white":
            return self.lit((196, 206, 226))
        return mix(self.main, (20, 12, 50), 0.30)

    @property
    def bright(self) -> Rgb:
        return mix(self.main, (255, 255, 255), 0.30 if self.time != "night" else 0.18)

    @property
    def lamps(self) -> bool:
        return self.time in ("night", "sunset")


def house(canvas: Canvas, pose: Pose) -> None:
    at = pose.at
    slate = pose.lit((92, 84, 108))
    glass = LAMP if pose.lamps else pose.lit((186, 220, 240))
    canvas.rectangle(at(9, -36), at(14, -24), pose.lit((120, 92, 90)))
    canvas.rectangle(at(-18, -21), at(18, 0), pose.main)
    canvas.rectangle(at(10, -21), at(18, 0), pose.shade)
    canvas.polygon([at(-22, -20), at(-10, -36), at(10, -36), at(22, -20)], slate)
    canvas.polygon(
        [at(-22, -20), at(-20.5, -22), at(20.5, -22), at(22, -20)], mix(slate, (0,) * 3, 0.25)
    )
    canvas.rectangle(at(-3.5, -13), at(3.5, 0), pose.lit((104, 66, 44)))
    for dx in (-14, 7):
        canvas.rectangle(
            at(dx - 0.8, -15.8),
            at(dx + 7.8, -6.2),
            pose.lit((250, 250, 250)) if pose.colour != "white" else slate,
        )
        canvas.rectangle(at(dx, -15), at(dx + 7, -7), glass)


def tree(canvas: Canvas, pose: Pose) -> None:
    at, s = pose.at, pose.size
    bark = pose.lit((116, 74, 46))
    canvas.polygon([at(-4.5, 0), at(-2.8, -20), at(2.8, -20), at(4.5, 0)], bark)
    canvas.polygon([at(1, 0), at(1, -20), at(2.8, -20), at(4.5, 0)], mix(bark, (20, 10, 30), 0.3))
    crown = ((-10, -25, 10.5), (10, -25, 10.5), (0, -36, 13.5), (0, -24, 10))
    for dx, dy, r in crown:
        canvas.ellipse(at(dx, dy), r * s, r * s, pose.shade)
    for dx, dy, r in crown:
        canvas.ellipse(at(dx - 1.2, dy - 1.8), (r - 1.8) * s, (r - 1.8) * s, pose.main)
    canvas.ellipse(at(-5, -39), 5 * s, 4 * s, pose.bright)


def sailboat(canvas: Canvas, pose: Pose) -> None:
    at = pose.at
    wood = pose.lit((138, 84, 50))
    canvas.rectangle(at(-1, -46), at(1, -8), pose.lit((92, 62, 44)))
    canvas.polygon([at(2, -45), at(2, -12), at(20, -12)], pose.main)
    canvas.polygon([at(2, -19), at(2, -12), at(20, -12), at(16.2, -19)], pose.shade)
    canvas.polygon([at(-2, -41), at(-2, -12), at(-15, -12)], pose.bright)
    canvas.polygon([at(-20, -9), at(22, -9), at(16, 1), at(-14, 1)], wood)
    canvas.polygon(
        [at(-20, -9), at(22, -9), at(20.8, -7), at(-18.8, -7)], pose.lit((246, 240, 226))
    )
    canvas.line([at(-21, 2.2), at(23, 2.2)], 1.6, pose.lit((214, 236, 248)))


def lighthouse(canvas: Canvas, pose: Pose) -> None:
    at, s = pose.at, pose.size
    if pose.time == "night":
        for side in (-1, 1):
            beam = [at(0, -52), at(side * 112, -78), at(side * 112, -30)]
            canvas.veil(beam, (255, 240, 170), 0.22)
    other = pose.lit((222, 228, 238) if pose.colour == "white" else (248, 248, 250))
    for band in range(5):
        low, high = band / 5, (band + 1) / 5
        wl, wh, yl, yh = 9 - 3.5 * low, 9 - 3.5 * high, -46 * low, -46 * high
        fill = other if band % 2 else pose.main
        canvas.polygon([at(-wl, yl), at(-wh, yh), at(wh, yh), at(wl, yl)], fill)
        dark = mix(fill, (20, 12, 50), 0.22)
        canvas.polygon([at(wl * 0.35, yl), at(wh * 0.35, yh), at(wh, yh), at(wl, yl)], dark)
    slate = pose.lit((74, 68, 92))
    canvas.rectangle(at(-8, -48), at(8, -45.5), slate)
    canvas.rectangle(at(-4.5, -55), at(4.5, -48), LAMP)
    canvas.polygon([at(-6.5, -55), at(0, -62), at(6.5, -55)], slate)
    if pose.lamps:
        canvas.glow(at(0, -51.5), 13 * s, LAMP, 0.55)


def mountain(canvas: Canvas, pose: Pose) -> None:
    at = pose.at
    left, peak, right = (-37, 0), (0, -50), (37, 0)
    canvas.polygon(
        [at(*left), at(-17, -26), at(-13, -28), at(*peak), at(16, -26), at(*right)], pose.main
    )
    canvas.polygon(
        [at(*peak), at(16, -26), at(*right), at(12, 0), at(5, -18), at(7, -28)], pose.shade
    )
    snow = pose.lit((252, 252, 255))
    cap = [at(*peak), at(-7.6, -37), at(-4, -34), at(-0.5, -38), at(4, -33.5), at(9, -36)]
    canvas.polygon(cap, snow)
    canvas.polygon(
        [at(*peak), at(2.8, -35), at(4, -33.5), at(9, -36)], mix(snow, (90, 100, 170), 0.25)
    )


def balloon(canvas: Canvas, pose: Pose) -> None:
    at, s = pose.at, pose.size
    rope = pose.lit((96, 70, 56))
    for side in (-1, 1):
        canvas.line([at(side * 7, -20), at(side * 3.4, -8)], 1.2, rope)
    canvas.polygon([at(-15.6, -33), at(-5.5, -17), at(5.5, -17), at(15.6, -33)], pose.shade)
    canvas.ellipse(at(0, -38), 17 * s, 17 * s, pose.shade)
    canvas.polygon([at(-10.6, -33), at(-3.8, -17), at(3.8, -17), at(10.6, -33)], pose.main)
    canvas.ellipse(at(0, -38), 11.5 * s, 16.9 * s, pose.main)
    canvas.polygon([at(-4.4, -33), at(-1.6, -17), at(1.6, -17), at(4.4, -33)], pose.bright)
    canvas.ellipse(at(0, -38), 4.8 * s, 16.8 * s, pose.bright)
    canvas.rectangle(at(-5, -8), at(5, 0), pose.lit((150, 98, 54)))
    canvas.rectangle(at(-5, -8), at(5, -6), pose.lit((206, 156, 96)))


DRAW: dict[str, Callable[[Canvas, Pose], None]] = {
    "house": house,
    "tree": tree,
    "sailboat": sailboat,
    "lighthouse": lighthouse,
    "mountain": mountain,
    "balloon": balloon,
}
