"""A model folder as verbs which the engine drives: start, step, decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.embeddings import Embeddings
from nerite.diffusion.families.general import General
from nerite.diffusion.families.sd import StableDiffusion
from nerite.diffusion.families.sd3 import StableDiffusion3
from nerite.diffusion.families.sdxl import StableDiffusionXL
from nerite.diffusion.folder import INDEX, read_json
from nerite.diffusion.job import Params, Work
from nerite.diffusion.limits import Limits
from nerite.diffusion.memory import Memory
from nerite.diffusion.network import Runtime
from nerite.diffusion.runtimes.choice import RUNTIMES, open_runtime
from nerite.diffusion.settings import Settings
from nerite.diffusion.stepwise import Family, Stepwise
from nerite.diffusion.version_folder import find_model_folder

__all__ = ["RUNTIMES", "Pipeline", "find_model_folder", "open_pipeline"]

_USUAL = Settings()


class Pipeline(Protocol):
    """A loaded model. ``check`` may be called from any thread, the rest from one at a time."""

    limits: Limits
    embeddings: Embeddings | None
    """What its prompts were encoded to, where that is kept."""
    scheduler: str
    """The class of the sampler that is used where a request names none."""

    def check(self, params: Params) -> None:
        """Raises InvalidParams; cheap, touches no tensor."""
        ...

    def measure(self) -> Memory:
        """What a request costs, found out by painting nothing; once, before anything else."""
        ...

    def start(self, requests: Sequence[Params]) -> Sequence[Work]:
        """Encode the prompts together and draw the noise; one piece of work each, in order."""
        ...

    def step(self, works: Sequence[Work]) -> None:
        """Move works of equal key, none of them done, one step on with one forward.

        Where it raises, they are where they were.
        """
        ...

    def decode(self, images: Sequence[tuple[Work, int]]) -> NDArray[np.uint8]:
        """Those images (work and number within it), of equal size, as uint8 [n, h, w, 3]."""
        ...

    def preview(self, work: Work, *, exact: bool) -> NDArray[np.uint8] | None:
        """What the first image looks like so far, uint8 [h, w, 3], where that can be told.

        ``exact`` takes the decoder, else a guess of one pixel for each of the latents'.
        """
        ...

    def drop(self, work: Work) -> None:
        """Nobody wants it any more."""
        ...

    def trim(self) -> None:
        """Give back memory that is kept for later use."""
        ...


_FAMILIES: Mapping[str, Callable[[Path, Runtime], Family]] = {
    f"{maker}{family}{task}Pipeline": build
    for family, build in (
        ("StableDiffusion", StableDiffusion),
        ("StableDiffusionXL", StableDiffusionXL),
        ("StableDiffusion3", StableDiffusion3),
    )
    for maker in ("", "Onnx", "ORT")
    for task in ("", "Img2Img", "Inpaint")
}


def open_pipeline(folder: Path, settings: Settings = _USUAL, **changes: Any) -> Pipeline:
    """Load the diffusers folder ``folder`` as ``settings`` say, and ``changes`` of their fields.

    Raises FileNotFoundError or ValueError, in a sentence that says what was found and what was
    expected.
    """
    settings = replace(settings, **changes)
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder} holds no {INDEX}: a model in diffusers' layout has one")
    name = str(read_json(folder / INDEX).get("_class_name"))
    if name not in _FAMILIES:
        return General(folder, name, settings)
    family = _FAMILIES[name](folder, open_runtime(folder, settings))
    return Stepwise(family, fixed_rows=settings.fixed_rows)
