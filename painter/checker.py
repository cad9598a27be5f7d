"""Reads attributes off pixels, knowing nothing of prompts: the painter's examiner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from painter.scenes import HUES, LANDS, PLACES, SUBJECTS, THINGS, TIMES, Scene

WEIGHTS = Path(__file__).with_name("checker.safetensors")
CLASSES: dict[str, Sequence[str]] = {
    "subject": SUBJECTS,
    "colour": HUES,
    "time": TIMES,
    "ground": LANDS,
    "place": PLACES,
}


class Checker(nn.Module):
    """Five strided convolutions and a linear map: a quarter of a million weights."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 64, 96, 96)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.sizes = [len(names) for names in CLASSES.values()] + [len(THINGS)]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.1))
        self.heads = nn.Linear(96 * 16, sum(self.sizes))

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        return torch.split(self.heads(self.features(pictures)), self.sizes, 1)

    @torch.no_grad()
    def read(self, pictures: Tensor) -> list[Scene]:
        """What each picture (-1 to 1, channels first) shows."""
        *named, sky = self.eval()(pictures)
        choices = [scores.argmax(1).tolist() for scores in named]
        found = []
        for row, things in enumerate((sky > 0).tolist()):
            subject, colour, time, ground, place = (
                names[choice[row]] for names, choice in zip(CLASSES.values(), choices, strict=True)
            )
            seen = frozenset(name for name, there in zip(THINGS, things, strict=True) if there)
            found.append(Scene(subject, colour, time, ground, place, seen))
        return found


def answers(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Class numbers of the five attributes, and what is in the sky."""
    named = [
        [names.index(getattr(scene, attribute)) for attribute, names in CLASSES.items()]
        for scene in scenes
    ]
    sky = [[float(thing in scene.sky) for thing in THINGS] for scene in scenes]
    return torch.tensor(named), torch.tensor(sky)


def save(checker: Checker, path: Path = WEIGHTS) -> None:
    state = {name: value.contiguous() for name, value in checker.state_dict().items()}
    save_file({name: v.half() if v.is_floating_point() else v for name, v in state.items()}, path)
    path.chmod(0o644)


def load(path: Path = WEIGHTS) -> Checker:
    checker = Checker()
    checker.load_state_dict(load_file(path))
    return checker.eval()
