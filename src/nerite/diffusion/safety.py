"""The safety checker of a model's own folder: flags pictures that its makers would not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.folder import read_json_if_there
from nerite.diffusion.network import expect_inputs
from nerite.diffusion.runtimes.onnx import OnnxRuntime
from nerite.diffusion.settings import Settings

_PART, _EXTRACTOR, _GRAPH = "safety_checker", "feature_extractor", "model.onnx"
_FLAGGED = "has_nsfw_concepts"  # the graph's output
_SIDE = 224
# CLIP's, where the folder names no others.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_SPREAD = (0.26862954, 0.26130258, 0.27577711)


Look = Callable[[NDArray[np.float32]], NDArray[np.bool_]]
"""Which of the pictures, float32 [n, 3, side, side] as CLIP sees them, are flagged: bool [n]."""


class SafetyChecker:
    """On the CPU: a graph on onnxruntime, else safetensors on torch.

    Raises FileNotFoundError or ValueError.
    """

    def __init__(self, folder: Path) -> None:
        part = folder / _PART
        if not ((part / _GRAPH).is_file() or (part / "config.json").is_file()):
            raise FileNotFoundError(f"{part} is missing: there is no safety checker")
        self._side, self._mean, self._spread = _read_settings(folder / _EXTRACTOR)
        self._look = _open_graph(part / _GRAPH) if (part / _GRAPH).is_file() else _open_torch(part)

    def flag(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of the pictures, uint8 [n, h, w, 3], it would not show: bool [n]."""
        return self._look(np.stack([self._prepare(image) for image in images]))

    def _prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As CLIP sees it: the short side scaled, the middle cut out, float32 [3, side, side]."""
        from PIL import Image

        height, width = image.shape[:2]
        scale = self._side / min(height, width)
        size = (max(self._side, int(width * scale)), max(self._side, int(height * scale)))
        scaled = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - self._side) // 2, (size[1] - self._side) // 2
        middle = scaled.crop((left, top, left + self._side, top + self._side))
        values = (np.asarray(middle, np.float32) / 255 - self._mean) / self._spread
        return np.ascontiguousarray(values.transpose(2, 0, 1), np.float32)


def _read_settings(folder: Path) -> tuple[int, NDArray[np.float32], NDArray[np.float32]]:
    settings = read_json_if_there(folder / "preprocessor_config.json")
    crop: Any = settings.get("crop_size") or _SIDE
    side = int(crop["height"] if isinstance(crop, dict) else crop)
    mean = np.array(settings.get("image_mean") or _MEAN, np.float32)
    return side, mean, np.array(settings.get("image_std") or _SPREAD, np.float32)


def _open_graph(path: Path) -> Look:
    """In diffusers' ONNX layout: ``clip_input`` and the pictures to blacken, one at a time."""
    network = OnnxRuntime(path.parents[1], Settings()).load(_PART)
    expect_inputs(network, _PART, {"clip_input": None, "images": None})
    network.check_output(_FLAGGED)
    # It blackens what it is given, so it is given nothing worth keeping.
    sides = [side if isinstance(side, int) else 1 for side in network.inputs["images"].shape[1:3]]
    blank = np.zeros((1, *sides, 3), np.float32)

    def look(seen: NDArray[np.float32]) -> NDArray[np.bool_]:
        feeds = [{"clip_input": one[None], "images": blank} for one in seen]
        return np.array([network.run(feed, [_FLAGGED])[0].any() for feed in feeds], bool)

    return look


def _open_torch(folder: Path) -> Look:
    network = _load(folder)

    def look(seen: NDArray[np.float32]) -> NDArray[np.bool_]:
        import torch

        with torch.no_grad():
            # It blackens what it is given, so it is given nothing worth keeping.
            blank = np.zeros((len(seen), 1, 1, 3), np.float32)
            _, flagged = network(images=blank, clip_input=torch.from_numpy(seen))
        return np.array(flagged, bool)

    return look


def _load(folder: Path) -> Any:
    if not list(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"{folder} holds neither safetensors nor a model.onnx, as which a safety checker is "
            "read: `nerite import --allow-pickle` converts a pickle"
        )
    try:
        from diffusers.pipelines.stable_diffusion import safety_checker
        from diffusers.utils import logging
    except ImportError:
        raise ValueError(
            f"{folder} needs torch and diffusers: pip install 'nerite[diffusion]'"
        ) from None
    logging.get_logger(safety_checker.__name__).setLevel(logging.ERROR)
    try:
        network = safety_checker.StableDiffusionSafetyChecker.from_pretrained(
            folder, use_safetensors=True, local_files_only=True
        )
    except Exception as error:  # many types, for files missing, cut off or of another model
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"{folder} cannot be loaded: {first}") from error
    return network.eval().requires_grad_(False)
