"""Pools of ready-made scenes: drawing is quick, but not so quick as to be done in a step."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from painter.canvas import SIZE
from painter.scenes import Scene, random_scene, render

Pixels = npt.NDArray[np.uint8]
Pick = Callable[[random.Random], Scene]
CELL = 8
HELD_OUT_SHARE = 0.1


def held_out(scene: Scene) -> bool:
    """Whether subject, colour, time and ground together are kept from all training."""
    words = (scene.subject, scene.colour, scene.time, scene.ground)
    digest = hashlib.sha256("/".join(words).encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def training_scene(rng: random.Random) -> Scene:
    """A random scene whose combination may be trained on."""
    while held_out(scene := random_scene(rng)):
        pass
    return scene


def held_out_scene(rng: random.Random) -> Scene:
    """A random scene whose combination was never trained on."""
    while not held_out(scene := random_scene(rng)):
        pass
    return scene


def scenes(count: int, seed: int, pick: Pick = training_scene) -> list[Scene]:
    """``count`` scenes, the same for the same seed."""
    rng = random.Random(f"scenes {seed}")
    return [pick(rng) for _ in range(count)]


def _pixels(numbered: tuple[int, Scene]) -> Pixels:
    number, scene = numbered
    return np.asarray(render(scene, number))


def pool(
    folder: Path, count: int, seed: int, pick: Pick = training_scene
) -> tuple[list[Scene], Pixels]:
    """``count`` scenes and their pixels, drawn once and then kept in ``folder``."""
    chosen = scenes(count, seed, pick)
    path = folder / f"pool-{count}-{seed}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shape = (count, SIZE, SIZE, 3)
        part = path.with_suffix(".part")
        drawn = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        with multiprocessing.Pool(os.cpu_count()) as workers:
            numbered = enumerate(chosen, start=seed * 10_000_000)
            for number, picture in enumerate(workers.imap(_pixels, numbered, chunksize=64)):
                drawn[number] = picture
        drawn.flush()
        part.rename(path)
    return chosen, np.load(path, mmap_mode="r")


def crop_odds(pixels: Pixels, crop: int) -> npt.NDArray[np.float32]:
    """For each picture the running odds of its crop corners, high where there is detail.

    Corners lie on the cells of the latent grid, as every cell does in a whole picture.
    """
    cells, span = SIZE // CELL, crop // CELL
    corners = cells - span + 1
    odds = np.empty((len(pixels), corners * corners), np.float32)
    for start in range(0, len(pixels), 256):
        block = pixels[start : start + 256, :, :, 1].astype(np.float32)
        detail = np.zeros(block.shape[:3], np.float32)
        detail[:, 1:] += np.abs(np.diff(block, axis=1))
        detail[:, :, 1:] += np.abs(np.diff(block, axis=2))
        grid = detail.reshape(-1, cells, CELL, cells, CELL).sum((2, 4))
        sums = np.zeros((len(grid), cells + 1, cells + 1), np.float32)
        sums[:, 1:, 1:] = grid.cumsum(1).cumsum(2)
        inside = (
            sums[:, span:, span:]
            - sums[:, :-span, span:]
            - sums[:, span:, :-span]
            + sums[:, :-span, :-span]
        )
        weight = inside.reshape(len(grid), -1) ** 1.5 + 1
        odds[start : start + 256] = (weight / weight.sum(1, keepdims=True)).cumsum(1)
    return odds


class Crops:
    """Draws batches of crops of a pool, or whole pictures where the crop is the picture."""

    def __init__(self, pixels: Pixels, crop: int, seed: int) -> None:
        self._pixels = pixels
        self._crop = crop
        self._odds = crop_odds(pixels, crop) if crop < SIZE else None
        self._rng = np.random.default_rng(seed)

    def batch(self, count: int) -> Pixels:
        rows = self._rng.integers(0, len(self._pixels), count)
        if self._odds is None:
            return self._pixels[rows]
        corners = (SIZE - self._crop) // CELL + 1
        picked = (self._odds[rows] < self._rng.random((count, 1))).sum(1)
        picked = picked.clip(max=corners * corners - 1)
        batch = []
        for row, place in zip(rows, picked, strict=True):
            y, x = (int(place) // corners) * CELL, (int(place) % corners) * CELL
            batch.append(self._pixels[row, y : y + self._crop, x : x + self._crop])
        return np.stack(batch)
