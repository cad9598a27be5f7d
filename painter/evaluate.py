"""Paints captions never trained on, reads the pictures back, and says how often they are right.

``python -m painter.evaluate`` prints the table of ``docs/painter.md`` and writes its contact sheet.
"""

from __future__ import annotations

import argparse
import random
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from painter import checker, train_checker
from painter.captions import Caption, full_caption
from painter.data import Pixels, held_out_scene
from painter.device import Device
from painter.export import VERSION
from painter.paint import Painter, Settings
from painter.scenes import Scene
from painter.train_vae import tensor

ATTRIBUTES = (*checker.CLASSES, "sky")
SHEET = Path("docs/images/painter.jpg")
ROWS = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """A caption, the picture painted from it, and what the picture shows."""

    caption: Caption
    picture: Pixels
    seen: Scene

    def right(self, attribute: str) -> bool:
        return bool(getattr(self.caption, attribute) == getattr(self.seen, attribute))


def held_out_captions(count: int, seed: int) -> list[Caption]:
    rng = random.Random(f"evaluation {seed}")
    return [full_caption(held_out_scene(rng), rng) for _ in range(count)]


def paint_all(painter: Painter, told: list[Caption], settings: Settings) -> list[Trial]:
    reader, device = checker.load(), Device("cpu")
    trials: list[Trial] = []
    for start in tqdm(range(0, len(told), ROWS), desc="painting", mininterval=5):
        batch = told[start : start + ROWS]
        seeds = list(range(start, start + len(batch)))
        pictures = painter.paint([one.text for one in batch], seeds, settings)
        seen = reader.read(tensor(pictures, device))
        trials += [Trial(*row) for row in zip(batch, pictures, seen, strict=True)]
    return trials


def print_table(trials: list[Trial], fresh: dict[str, float]) -> None:
    print("\n| attribute | painted right | checker on true renders |\n| --- | --- | --- |")
    for attribute in ATTRIBUTES:
        share = sum(trial.right(attribute) for trial in trials) / len(trials)
        print(f"| {attribute} | {share:.1%} | {fresh[attribute]:.1%} |")
    core = sum(all(t.right(a) for a in checker.CLASSES) for t in trials) / len(trials)
    every = sum(all(t.right(a) for a in ATTRIBUTES) for t in trials) / len(trials)
    print(f"| the five together | {core:.1%} | |\n| all six together | {every:.1%} | |")


def print_misses(trials: list[Trial]) -> None:
    for trial in trials:
        for attribute in ATTRIBUTES:
            if not trial.right(attribute):
                told, seen = getattr(trial.caption, attribute), getattr(trial.seen, attribute)
                print(
                    f"{attribute}: told {_plain(told)}, seen {_plain(seen)}: {trial.caption.text}"
                )


def _plain(value: str | frozenset[str]) -> str:
    return value if isinstance(value, str) else "+".join(sorted(value)) or "clear"


def contact_sheet(trials: list[Trial], path: Path, columns: int = 8) -> None:
    """The pictures as they came, with the words they were painted from."""
    cell, foot, gap = 128, 52, 6
    rows = -(-len(trials) // columns)
    size = columns * (cell + gap) + gap, rows * (cell + foot + gap) + gap
    sheet = Image.new("RGB", size, (250, 250, 250))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for number, trial in enumerate(trials):
        x = gap + number % columns * (cell + gap)
        y = gap + number // columns * (cell + foot + gap)
        sheet.paste(Image.fromarray(trial.picture), (x, y))
        lines = textwrap.wrap(trial.caption.text, 25)[:4]
        draw.multiline_text((x, y + cell + 2), "\n".join(lines), (50, 50, 60), font, spacing=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=90, subsampling=0, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=VERSION)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--spacing", help="timestep spacing, if not the model's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, default=SHEET)
    parser.add_argument("--misses", action="store_true", help="list what came out wrong")
    given = parser.parse_args()
    np.random.seed(given.seed)
    torch.manual_seed(given.seed)
    settings = Settings(given.steps, given.guidance, given.spacing)
    told = held_out_captions(given.count, given.seed)
    trials = paint_all(Painter(given.model), told, settings)
    print_table(trials, train_checker.accuracy(checker.load(), 1000, Device("cpu")))
    if given.misses:
        print_misses(trials)
    contact_sheet(trials[:32], given.sheet)


if __name__ == "__main__":
    main()
