"""The one training loop: a wall-clock budget, an average of the weights, and checkpoints.

Several workers of one thread each, which meet once a step, bear a shared CPU far better than one
worker of several threads, which meet at every operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

Step = Callable[[float], Tensor]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a stage runs and how fast it learns; rates decay to nothing at its end."""

    name: str
    folder: Path
    minutes: float
    rate: float
    warm_up: float = 0.02
    decay: float = 0.999
    weight_decay: float = 1e-3
    save_every: float = 60.0

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.pt"


def rank() -> int:
    """Which of the workers this is; the first saves and shows progress."""
    return dist.get_rank() if dist.is_initialized() else 0


class Loop:
    """Runs a step again and again until the plan's minutes, summed over resumes, are over.

    The budget is time and not steps, so that a machine of any speed ends with a decayed rate.
    """

    def __init__(self, plan: Plan, network: nn.Module) -> None:
        self.plan = plan
        self.network = network
        self._spent = 0.0
        self._steps = 0
        self._optimizer = torch.optim.AdamW(
            network.parameters(), plan.rate, betas=(0.9, 0.99), weight_decay=plan.weight_decay
        )
        self._average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        if plan.checkpoint.exists():
            self._resume()

    def run(self, step: Step) -> None:
        """``step`` gets the share of the time spent and returns the loss."""
        budget = self.plan.minutes * 60
        torch.manual_seed(1000 * self._steps + rank())
        bar = tqdm(
            total=round(budget),
            desc=self.plan.name,
            unit="s",
            mininterval=10,
            disable=rank() > 0,
            initial=round(self._spent),
        )
        smooth, saved, before = 0.0, time.monotonic(), time.monotonic()
        while (share := self._agreed(self._spent / budget)) < 1:
            loss = self._update(step, share)
            smooth += max(0.01, 1 / (1 + self._steps)) * (loss - smooth) if smooth else loss
            now = time.monotonic()
            self._spent, before = self._spent + now - before, now
            bar.set_postfix(step=self._steps, loss=f"{smooth:.5f}", refresh=False)
            bar.update(int(self._spent) - bar.n)
            if now - saved > self.plan.save_every:
                self._save()
                saved = now
        self._save()
        bar.close()

    @staticmethod
    def _agreed(share: float) -> float:
        """The first worker's clock holds for all, so that their rates are the same."""
        if not dist.is_initialized():
            return share
        shared = torch.tensor(share, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)

    def _update(self, step: Step, share: float) -> float:
        plan = self.plan
        rate = min(1.0, (share + 1e-4) / plan.warm_up) * max(0.0, 1 - share) ** 0.9
        for group in self._optimizer.param_groups:
            group["lr"] = plan.rate * rate
        self._optimizer.zero_grad(set_to_none=True)
        loss = step(share)
        loss.backward()
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self._steps += 1
        self._blend()
        return float(loss.detach())

    def _share_gradients(self) -> None:
        if not dist.is_initialized():
            return
        found = [p.grad for p in self.network.parameters() if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in found])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        start = 0
        for gradient in found:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def _blend(self) -> None:
        keep = min(self.plan.decay, (1 + self._steps) / (10 + self._steps))
        state = self.network.state_dict()
        names = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self._average[k] for k in names], [state[k] for k in names], 1 - keep)

    def _save(self) -> None:
        if rank() > 0:
            return
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        part = self.plan.checkpoint.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "average": self._average,
                "optimizer": self._optimizer.state_dict(),
                "spent": self._spent,
                "steps": self._steps,
            },
            part,
        )
        part.rename(self.plan.checkpoint)

    def _resume(self) -> None:
        kept = torch.load(self.plan.checkpoint, weights_only=True)
        self.network.load_state_dict(kept["network"])
        self._optimizer.load_state_dict(kept["optimizer"])
        self._average = kept["average"]
        self._spent, self._steps = kept["spent"], kept["steps"]


def load_average(network: nn.Module, checkpoint: Path) -> None:
    """Put the averaged weights of a checkpoint into ``network``."""
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
