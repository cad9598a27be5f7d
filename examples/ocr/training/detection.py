"""Trains text detection: pictures [n, h, w, 3] to scores and boxes at every fourth pixel."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from training import render
from training.loop import Loop

NAME, INPUT = "text_detection", "input_images:0"
OUTPUTS = ["feature_fusion/Conv_7/Sigmoid:0", "feature_fusion/concat_3:0"]
_BATCH, _SIZE, _STRIDE = 8, 256, 4
_MEANS = np.array([123.68, 116.78, 103.94], np.float32)


class Detection(nn.Module):
    """Down to a sixteenth, where a word is a few pixels, along the lines, and up to a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.quarter = nn.Sequential(nn.AvgPool2d(2), *_block(3, 20, 3, 2), *_block(20, 20, 3))
        self.eighth = nn.Sequential(*_block(20, 32, 3, 2), *_block(32, 32, 3))
        self.sixteenth = nn.Sequential(
            *_block(32, 48, 3, 2),
            *_block(48, 48, (1, 9), apart=2),
            *_block(48, 48, 3),
            *_block(48, 48, (1, 9), apart=2),
            *_block(48, 48, 3),
        )
        self.to_eighth = nn.Sequential(*_block(80, 32, 1), *_block(32, 32, 3))
        self.to_quarter = nn.Sequential(*_block(52, 24, 1), *_block(24, 24, 3))
        self.head = nn.Conv2d(24, 5, 1)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        quarter = self.quarter(pictures.permute(0, 3, 1, 2) / 64)
        eighth = self.eighth(quarter)
        wide = self.sixteenth(eighth)
        eighth = self.to_eighth(torch.cat([_doubled(wide), eighth], 1))
        found = self.head(self.to_quarter(torch.cat([_doubled(eighth), quarter], 1)))
        found = found.permute(0, 2, 3, 1)
        distances = found[..., 1:].clamp(-4, 4).exp() * 16
        geometry = torch.cat([distances, torch.zeros_like(found[..., :1])], 3)  # no word is turned
        return found[..., :1].sigmoid(), geometry


def _doubled(features: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")


def _block(
    before: int, after: int, kernel: int | tuple[int, int], step: int = 1, apart: int = 1
) -> list[nn.Module]:
    """apart: pixels from one of a row that the kernel sees to the next."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (sides[0] // 2, sides[1] // 2 * apart)
    convolution = nn.Conv2d(before, after, sides, step, padding, (1, apart), bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def batch(rng: np.random.Generator, count: int = _BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures, and of each place: 1 in a word, 0 in none, -1 between; and its four distances."""
    pictures, targets = [], []
    for _ in range(count):
        picture, placed = render.scene(rng, _SIZE, _SIZE, int(rng.integers(0, 10)))
        pictures.append(np.asarray(picture, np.float32) - _MEANS)
        targets.append(_target([box for _, box in placed]))
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(targets))


def _target(found: list[render.Box]) -> np.ndarray:
    side = _SIZE // _STRIDE
    target = np.zeros((side, side, 5), np.float32)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) * _STRIDE
    for left, top, right, bottom in found:
        distances = np.stack([y - top, right - x, bottom - y, x - left], axis=2)
        inside = (distances > 0).all(axis=2)
        height, width = bottom - top, right - left
        edge = np.array([0.25 * height, min(0.25 * width, 0.5 * height)] * 2, np.float32)
        core = (distances > edge).all(axis=2)
        target[inside, 0] = -1
        target[core, 0] = 1
        target[core, 1:] = distances[core]
    return target


def loss(model: nn.Module, pictures: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    scores, geometry = model(pictures)
    truth, known = targets[..., 0], targets[..., 0] >= 0
    surprise = nn.functional.binary_cross_entropy(
        scores[..., 0].clamp(1e-5, 1 - 1e-5), truth.clamp(0, 1), reduction="none"
    )
    core = truth == 1
    weights = torch.where(core, 3.0, 1.0) * known
    found, wanted = geometry[..., :4][core], targets[..., 1:][core]
    return (surprise * weights).sum() / known.sum() * 4 + _apart(found, wanted)


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How little the boxes share of what they cover, of boxes around the same point."""
    if not len(found):
        return found.sum()
    low = torch.minimum(found, wanted)
    shared = (low[:, 0] + low[:, 2]) * (low[:, 1] + low[:, 3])
    area = (found[:, 0] + found[:, 2]) * (found[:, 1] + found[:, 3])
    other = (wanted[:, 0] + wanted[:, 2]) * (wanted[:, 1] + wanted[:, 3])
    return -((shared + 1) / (area + other - shared + 1)).log().mean()


@torch.no_grad()
def right(model: nn.Module, rng: np.random.Generator) -> float:
    """How much the boxes share of what they cover, on the average of places in words."""
    pictures, targets = batch(rng, 16)
    _, geometry = model(pictures)
    core = targets[..., 0] == 1
    return float((-_apart(geometry[..., :4][core], targets[..., 1:][core])).exp())


def loop() -> Loop:
    return Loop(NAME, Detection(), batch, loss, right)
