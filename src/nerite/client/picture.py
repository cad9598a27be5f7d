"""What painting gives: the picture, previews of it, and how far it has come."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from nerite.client.errors import UnexpectedAnswer


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call has come: `step` of `steps`.

    queue_position: 0 once it runs. eta_seconds: until the pictures are there. None where the
    server does not say.
    """

    step: int
    steps: int
    queue_position: int | None = None
    eta_seconds: float | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """A guess of the picture amid its painting; `index` says of which of several."""

    data: bytes = field(repr=False)
    number: int
    index: int = 0

    @property
    def image(self) -> Image.Image:
        return _decode(self.data)


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture: `data` is the file as the server made it, `image` its pixels.

    settings: the prompt, the model and what else is known of how it was painted, the seed too.
    """

    data: bytes = field(repr=False)
    settings: Mapping[str, Any]
    seed: int | None = None
    index: int = 0

    @property
    def image(self) -> Image.Image:
        """Decoded anew at each call; `info` has the settings, with the seed among them."""
        image = _decode(self.data)
        image.info.update(self.settings)
        return image

    def save(self, file: str | Path) -> None:
        """Write the server's bytes to a file, whatever its name ends in."""
        Path(file).write_bytes(self.data)


def pictures(answer: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Picture]:
    """Those of an ImagesResponse, with what it says of them added to `settings`."""
    try:
        return [picture(item, answer, settings, index) for index, item in enumerate(answer["data"])]
    except (KeyError, TypeError) as error:
        raise UnexpectedAnswer("the server's answer holds no pictures.") from error


_TOLD = ("model", "steps", "guidance_scale", "scheduler", "size")


def picture(
    item: Mapping[str, Any], answer: Mapping[str, Any], settings: Mapping[str, Any], index: int
) -> Picture:
    """One of an answer's; the server's word on a setting counts more than the client's."""
    known = dict(settings)
    for source in (answer, item):
        known |= {name: source[name] for name in _TOLD if source.get(name) is not None}
    seed = item.get("seed")
    if seed is not None:
        known["seed"] = seed
    return Picture(decoded(item["b64_json"]), known, seed, index)


def decoded(text: str) -> bytes:
    """The bytes that base64 stands for."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise UnexpectedAnswer("a picture of the server's answer is not base64.") from error


def _decode(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except OSError as error:
        raise UnexpectedAnswer("a picture of the server's answer cannot be read.") from error
    return image
