"""What a model's config does with pictures that its safety checker flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nerite.core.errors import invalid
from nerite.core.tensor import Tensor
from nerite.diffusion import Painted, SafetyChecker

FLAGGED = "flagged"
_MODES = ("off", "flag", "blank")


class Safety:
    """Raises InferenceError for a mode that is none, FileNotFoundError and ValueError."""

    def __init__(self, mode: str, folder: Path) -> None:
        self._checker = SafetyChecker(folder)
        self.blanks = mode == "blank"

    def look(self, painted: Sequence[Painted]) -> tuple[list[Painted], list[Tensor]]:
        """The pictures to answer with, and for each request's what was flagged: bool [n]."""
        flags = [self._checker.flag(one.images) for one in painted]
        if not self.blanks:
            return list(painted), list(flags)
        shown = []
        for one, flagged in zip(painted, flags, strict=True):
            kept = ~flagged[:, None, None, None]
            shown.append(replace(one, images=one.images * kept.astype(np.uint8)))
        return shown, list(flags)


def safety_mode(parameters: Mapping[str, str]) -> str:
    """The config's parameter safety_checker. Raises InferenceError."""
    mode = parameters.get("safety_checker", "off")
    if mode not in _MODES:
        raise invalid(f"parameter safety_checker is '{mode}': it must be {', '.join(_MODES)}")
    return mode
