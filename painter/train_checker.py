"""Stage ``checker``: the examiner learns on true renders of every combination, lightly spoilt."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from painter.checker import CLASSES, Checker, answers, save
from painter.data import pool
from painter.device import Device
from painter.loop import Loop, Plan, load_average, rank
from painter.scenes import Scene, random_scene, render
from painter.train_vae import tensor

BATCH = 64


def spoil(pictures: Tensor) -> Tensor:
    """Shift, blur, noise and light as a painted picture may have them, too little to mislead."""
    dx, dy = (int(v) for v in torch.randint(-2, 3, (2,)))
    pictures = torch.roll(F.pad(pictures, (2, 2, 2, 2), mode="replicate"), (dy, dx), (2, 3))
    pictures = pictures[:, :, 2:-2, 2:-2]
    if torch.rand(()) < 0.5:
        blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
        pictures = torch.lerp(pictures, blurred, float(torch.rand(())))
    spread = 0.06 * torch.rand(len(pictures), 1, 1, 1, device=pictures.device)
    light = 1 + 0.06 * torch.randn(len(pictures), 1, 1, 1, device=pictures.device)
    return (pictures * light + spread * torch.randn_like(pictures)).clamp(-1, 1)


def train(plan: Plan, device: Device) -> None:
    scenes, pixels = pool(plan.folder, 12_000, seed=7, pick=random_scene)
    named, sky = answers(scenes)
    checker = Checker().to(device.name)
    rng = np.random.default_rng(5 + rank())

    def step(share: float) -> Tensor:
        rows = rng.integers(0, len(scenes), BATCH)
        pictures = spoil(tensor(pixels[rows], device))
        right, things = named[rows].to(device.name), sky[rows].to(device.name)
        *read, seen = checker(pictures)
        losses = [F.cross_entropy(scores, right[:, n]) for n, scores in enumerate(read)]
        return torch.stack([*losses, 2 * F.binary_cross_entropy_with_logits(seen, things)]).sum()

    Loop(plan, checker).run(step)
    if rank() > 0:
        return
    load_average(checker, plan.checkpoint)
    save(checker)
    for attribute, share in accuracy(checker, 2000, device).items():
        print(f"{attribute:8} {share:.4f}")


def accuracy(checker: Checker, count: int, device: Device) -> dict[str, float]:
    """The share of fresh true renders that are read right, attribute by attribute."""
    rng = random.Random("fresh renders")
    scenes = [random_scene(rng) for _ in range(count)]
    pictures = np.stack([np.asarray(render(scene, 10**9 + n)) for n, scene in enumerate(scenes)])
    read: list[Scene] = []
    for start in range(0, count, 100):
        read += checker.read(tensor(pictures[start : start + 100], device))
    shares = {}
    for attribute in (*CLASSES, "sky"):
        pairs = zip(scenes, read, strict=True)
        hits = sum(getattr(true, attribute) == getattr(seen, attribute) for true, seen in pairs)
        shares[attribute] = hits / count
    return shares
