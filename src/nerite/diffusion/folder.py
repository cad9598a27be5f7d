"""A model folder in diffusers' layout: its JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INDEX = "model_index.json"


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
