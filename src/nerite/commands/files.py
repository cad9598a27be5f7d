"""The files that pictures are written to: their names, and their origin inside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL.PngImagePlugin import PngInfo

from nerite.client import Picture
from nerite.commands.failing import CommandError

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def picture_path(file: Path | None, prompt: str, *suffixes: str) -> Path:
    """`file` with its suffix, checked before anybody waits for a picture.

    suffixes: those that will do. Without a file it is named after the prompt.
    """
    file = file or Path(_slug(prompt))
    file = file.with_name(file.name + suffixes[0]) if not file.suffix else file
    if file.suffix.lower() not in suffixes:
        wanted = " or ".join(suffixes)
        raise CommandError(f"cannot write {file}: the file's name must end in {wanted}.")
    if not file.parent.is_dir():
        raise CommandError(f"cannot write {file}: there is no folder {file.parent}.")
    if file.is_dir():
        raise CommandError(f"cannot write {file}: it is a folder.")
    return file


def numbered(file: Path, index: int, several: bool) -> Path:
    """`file`, or `file-1`, `file-2` ... of several pictures."""
    return file.with_stem(f"{file.stem}-{index + 1}") if several else file


def save(picture: Picture, path: Path, told: Mapping[str, Any]) -> None:
    """Write it; a PNG file records what is told of it: prompt, seed and settings."""
    try:
        if path.suffix.lower() == ".png":
            picture.image.save(path, pnginfo=_origin(told))
        else:
            picture.save(path)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}.") from error


def _origin(told: Mapping[str, Any]) -> PngInfo:
    settings = {name: value for name, value in told.items() if name not in ("prompt", "seed")}
    origin = PngInfo()
    origin.add_text("prompt", str(told.get("prompt", "")))
    if told.get("seed") is not None:
        origin.add_text("seed", str(told["seed"]))
    origin.add_text("settings", json.dumps(settings, sort_keys=True, default=str))
    origin.add_text("Software", f"nerite {version('nerite')}")
    return origin


def _slug(prompt: str) -> str:
    return "-".join(re.findall(r"\w+", prompt.lower()))[:60].strip("-") or "picture"
