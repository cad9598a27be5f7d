"""Where training runs: the GPU if there is one, else the CPU, in bfloat16 either way."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device's name and its cheap arithmetic."""

    name: str

    @classmethod
    def best(cls) -> Device:
        return cls("cuda" if torch.cuda.is_available() else "cpu")

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.name, torch.bfloat16)
