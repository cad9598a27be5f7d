"""A model folder as three verbs, start, step and finish, which the engine drives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nerite.diffusion.families.sd import StableDiffusion
from nerite.diffusion.folder import INDEX, find_model_folder, read_json
from nerite.diffusion.job import Job, Painted, Params
from nerite.diffusion.limits import Limits
from nerite.diffusion.network import Loader
from nerite.diffusion.runtimes.onnx import onnx_loader

__all__ = ["Pipeline", "find_model_folder", "open_pipeline"]


class Pipeline(Protocol):
    """A loaded model. ``check`` may be called from any thread, the rest from one at a time."""

    limits: Limits

    def check(self, params: Params) -> None:
        """Raises InvalidParams; cheap, touches no tensor."""
        ...

    def start(self, requests: Sequence[Params]) -> list[Job]:
        """Encode the prompts together and draw the noise; one Job per request, in order."""
        ...

    def step(self, jobs: Sequence[Job]) -> None:
        """Move jobs of equal key, none of them done, one step on with one forward."""
        ...

    def finish(self, jobs: Sequence[Job]) -> list[Painted]:
        """Decode jobs of equal key that are done; one Painted per job, in order."""
        ...


_FAMILIES: Mapping[str, Callable[[Path, Loader], Pipeline]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "OnnxStableDiffusionPipeline": StableDiffusion,
    "ORTStableDiffusionPipeline": StableDiffusion,
}


def open_pipeline(folder: Path, *, device: str = "cpu", threads: int | None = None) -> Pipeline:
    """Load the diffusers folder ``folder`` on ``device`` ("cpu", "cuda", "cuda:N").

    ``threads`` None means every core this process may use. Raises FileNotFoundError or
    ValueError, in a sentence that says what was found and what was expected.
    """
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder} holds no {INDEX}: a model in diffusers' layout has one")
    name = str(read_json(folder / INDEX).get("_class_name"))
    if name not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        raise ValueError(f"{folder / INDEX} names the pipeline {name!r}; served are {known}")
    if not (folder / "unet" / "model.onnx").is_file():
        weights = sorted(folder.glob("unet/*.safetensors")) + sorted(folder.glob("unet/*.bin"))
        found = f"only {weights[0].name}" if weights else "no network"
        raise FileNotFoundError(
            f"{folder / 'unet'} holds {found}, and model.onnx is expected: export the folder to "
            "ONNX in diffusers' layout (text_encoder, unet, vae_decoder)"
        )
    load = onnx_loader(folder, device=device, threads=threads)
    return _FAMILIES[name](folder, load)
