"""One way to train either model: for some seconds, from where it was left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

_RATE = 2e-3
_TOLD_EVERY = 100


@dataclass
class Loop:
    """batch, loss, right: what the model learns from, how wrong it is, and how good."""

    name: str
    model: nn.Module
    batch: Callable[..., Any]
    loss: Callable[..., torch.Tensor]
    right: Callable[[nn.Module, np.random.Generator], float]

    def train(self, folder: Path, seconds: float, steps: int) -> None:
        """Until `steps` in all, or for `seconds`; the state is kept in `folder`."""
        file = folder / f"{self.name}.pt"
        optimizer = torch.optim.AdamW(self.model.parameters(), _RATE, weight_decay=1e-4)
        done = 0
        if file.is_file():
            kept = torch.load(file, weights_only=True)
            self.model.load_state_dict(kept["model"])
            optimizer.load_state_dict(kept["optimizer"])
            done = kept["done"]
        rng = np.random.default_rng(done)
        end = time.monotonic() + seconds
        while done < steps and time.monotonic() < end:
            done += 1
            for group in optimizer.param_groups:
                group["lr"] = _rate(done, steps)
            value = self._step(optimizer, rng)
            if done % _TOLD_EVERY == 0:
                print(f"{self.name} {done}/{steps}: loss {value:.4f}", flush=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "done": done,
        }
        torch.save(state, file)
        self.model.eval()
        share = self.right(self.model, np.random.default_rng(10**6))
        print(f"{self.name} after {done} steps: {share:.3f}", flush=True)

    def _step(self, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> float:
        self.model.train()
        value = self.loss(self.model, *self.batch(rng))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizer.step()
        return float(value)


def _rate(done: int, steps: int) -> float:
    """Up in the first hundred steps, then down along a cosine to a fiftieth."""
    share = done / steps
    return _RATE * min(1.0, done / 100) * (0.51 + 0.49 * float(np.cos(np.pi * share)))
