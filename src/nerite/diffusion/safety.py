"""The safety checker of a model's own folder: flags pictures that its makers would not show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.folder import read_json_if_there

_PART, _EXTRACTOR = "safety_checker", "feature_extractor"
_SIDE = 224
# CLIP's, where the folder names no others.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_SPREAD = (0.26862954, 0.26130258, 0.27577711)


class SafetyChecker:
    """On the CPU, from safetensors only. Raises FileNotFoundError or ValueError."""

    def __init__(self, folder: Path) -> None:
        if not (folder / _PART / "config.json").is_file():
            raise FileNotFoundError(f"{folder / _PART} is missing: there is no safety checker")
        self._side, self._mean, self._spread = _read_settings(folder / _EXTRACTOR)
        self._network = _open(folder / _PART)

    def flag(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of the pictures, uint8 [n, h, w, 3], it would not show: bool [n]."""
        import torch

        seen = np.stack([self._prepare(image) for image in images])
        with torch.no_grad():
            # It blackens what it is given, so it is given nothing worth keeping.
            blank = np.zeros((len(images), 1, 1, 3), np.float32)
            _, flagged = self._network(images=blank, clip_input=torch.from_numpy(seen))
        return np.array(flagged, bool)

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


def _open(folder: Path) -> Any:
    if not list(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"{folder} holds no safetensors, the only form in which a safety checker is read: "
            "`nerite import --allow-pickle` converts a pickle"
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
