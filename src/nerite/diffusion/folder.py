"""A model folder in diffusers' layout: its JSON files, and where in a version folder it lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INDEX = "model_index.json"


def find_model_folder(version_folder: Path) -> Path:
    """``version_folder`` itself where it holds model_index.json, else its only subfolder that does.

    Raises FileNotFoundError where there is none and ValueError where there are several.
    """
    if (version_folder / INDEX).is_file():
        return version_folder
    if not version_folder.is_dir():
        raise FileNotFoundError(f"{version_folder} is not a folder; a diffusers model is expected")
    found = sorted(path.parent for path in version_folder.glob(f"*/{INDEX}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise FileNotFoundError(
            f"{version_folder} holds no {INDEX}, nor does a folder in it: it must be, or hold, "
            "one model folder in diffusers' layout"
        )
    names = ", ".join(path.name for path in found)
    raise ValueError(f"{version_folder} holds several model folders ({names}): keep one of them")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; FileNotFoundError or ValueError say what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def read_json_if_there(path: Path) -> dict[str, Any]:
    """As ``read_json``, but {} where there is no such file."""
    return read_json(path) if path.is_file() else {}
