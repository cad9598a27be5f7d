"""Trains text recognition: grey crops of words, [n, 1, 32, 100], to letters, [n, 26, 37]."""

from __future__ import annotations

import numpy as np
import torch
from reading import ALPHABET, crop, words
from torch import nn
from training import render
from training.loop import Loop

NAME, INPUT, OUTPUTS = "text_recognition", "input.1", ["308"]
_BATCH = 48


class Recognition(nn.Module):
    """Convolutions down to one row of 26 places, then along it."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = nn.Sequential(
            *_block(1, 16, 3, 1),
            nn.MaxPool2d(2),
            *_block(16, 32, 3, 1),
            nn.MaxPool2d(2),
            *_block(32, 64, 3, 1),
            nn.MaxPool2d((2, 1)),
            *_block(64, 80, 3, 1),
            nn.MaxPool2d((2, 1)),
            *_block(80, 96, 2, (0, 1)),
        )
        self.line = nn.Sequential(
            *_block(96, 96, (1, 5), (0, 2)), nn.Conv2d(96, 1 + len(ALPHABET), 1)
        )

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.line(self.picture(crops)).squeeze(2).transpose(1, 2)


def _block(before: int, after: int, kernel: object, padding: object) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, padding=padding, bias=False)  # type: ignore[arg-type]
    return [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def batch(rng: np.random.Generator, count: int = _BATCH) -> tuple[torch.Tensor, list[str]]:
    """Crops and what is written on them."""
    crops: list[np.ndarray] = []
    texts: list[str] = []
    while len(crops) < count:
        picture, placed = render.scene(rng, 480, 320, 12)
        grey = render.grey(picture)
        for text, box in placed * 2:  # each cut twice: to draw costs more than to cut
            crops.append(crop(grey, render.shaken(rng, box)))
            texts.append(text)
    return torch.from_numpy(np.stack(crops[:count])), texts[:count]


def loss(model: nn.Module, crops: torch.Tensor, texts: list[str]) -> torch.Tensor:
    scores = model(crops).transpose(0, 1).log_softmax(2)
    letters = torch.tensor([ALPHABET.index(one) + 1 for text in texts for one in text])
    places = torch.full((len(texts),), scores.shape[0])
    lengths = torch.tensor([len(text) for text in texts])
    return nn.functional.ctc_loss(scores, letters, places, lengths, zero_infinity=True)


@torch.no_grad()
def right(model: nn.Module, rng: np.random.Generator) -> float:
    """The share of words that are read without a mistake."""
    crops, texts = batch(rng, 256)
    found = words(model(crops).numpy())
    return float(np.mean([one == other for one, other in zip(found, texts, strict=True)]))


def loop() -> Loop:
    return Loop(NAME, Recognition(), batch, loss, right)
