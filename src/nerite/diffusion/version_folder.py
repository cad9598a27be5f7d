"""Where in a version folder the model lies, also in the tree of Triton's own diffusion backend.

That one's `*-pytorch_model` holds the parts of a diffusers folder, some levels deeper and without
an index; its ONNX files and engines were made for one batch size and one GPU, and are not read.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from nerite.diffusion.folder import INDEX

_PARTS = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}
# What that backend paints with where it has saved none.
_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}


def find_model_folder(version_folder: Path) -> Path:
    """``version_folder`` itself where it holds model_index.json, else its only subfolder that does.

    Else what Triton's backend has left there, put together. Raises FileNotFoundError where there
    is none and ValueError where there are several.
    """
    if (version_folder / INDEX).is_file():
        return version_folder
    if not version_folder.is_dir():
        raise FileNotFoundError(f"{version_folder} is not a folder; a diffusers model is expected")
    found = sorted(path.parent for path in version_folder.glob(f"*/{INDEX}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(
            f"{version_folder} holds several model folders ({names}): keep one of them"
        )
    if found:
        return found[0]
    for config in sorted(version_folder.glob("*-pytorch_model/**/unet/config.json")):
        return _assemble(config.parent.parent)
    raise FileNotFoundError(
        f"{version_folder} holds no {INDEX}, nor does a folder in it: it must be, or hold, "
        "one model folder in diffusers' layout"
    )


def _assemble(parts: Path) -> Path:
    """A folder in diffusers' layout that points into ``parts``, until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="nerite-built-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    named = {name: list(kind) for name, kind in _PARTS.items() if (parts / name).is_dir()}
    for name in named:
        (folder / name).symlink_to((parts / name).absolute())
    saved = sorted(parts.glob("*/scheduler")) + sorted(parts.glob("scheduler"))
    if saved:
        (folder / "scheduler").symlink_to(saved[0].absolute())
    else:
        (folder / "scheduler").mkdir()
        _write(folder / "scheduler" / "scheduler_config.json", _SCHEDULER)
    family = "StableDiffusionXL" if "text_encoder_2" in named else "StableDiffusion"
    _write(folder / INDEX, {"_class_name": f"{family}Pipeline", **named})
    return folder


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
