"""What may be said beside the prompt, and the request it makes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from PIL import Image

ImageSource: TypeAlias = "Image.Image | bytes | str | Path"

_OWN = ("size", "image", "mask", "timeout")  # not sent as they are

_UNTOLD = frozenset(
    ("images", "mask", "n", "stream", "partial_images", "previews", "progress")
    + ("response_format", "output_format", "output_compression")
)


class Settings(TypedDict, total=False):
    """Keyword arguments of every call that paints. What is not said, the server decides.

    - `model`: its name; the server's default image model without it
    - `negative_prompt`: what to keep away from
    - `seed`: a whole number; the same one paints the same picture again. Of several pictures
      the k-th is painted with seed + k
    - `steps`: of denoising; `guidance_scale`: how closely to follow the prompt
    - `scheduler`: the sampler, as "ddim" or "euler"
    - `size`: "128x192" or (128, 192), width first, in pixels
    - `image`: a picture to start from (Pillow image, file, or the bytes of one), or several
    - `mask`: paint anew where it is transparent, or white where nothing is, and keep the rest.
      A Pillow image, file or bytes, as large as `image`
    - `strength`: from 0 to 1, how much of `image` may change
    - `output_format`: of the file that travels; `output_compression`: 0 to 100, of JPEG and WebP
    - `timeout`: seconds for the whole call, None for no limit; the client's own without it
    """

    model: str
    negative_prompt: str
    seed: int
    steps: int
    guidance_scale: float
    scheduler: str
    size: str | tuple[int, int]
    image: ImageSource | Sequence[ImageSource]
    mask: ImageSource
    strength: float
    output_format: Literal["png", "jpeg", "webp"]
    output_compression: int
    timeout: float | None


def body_of(prompt: str, settings: Settings, more: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON body of a request; `more` is what only one kind of call says.

    Raises TypeError for a setting that there is not, OSError for a file that cannot be read.
    """
    unknown = sorted(settings.keys() - Settings.__annotations__.keys())
    if unknown:
        known = ", ".join(Settings.__annotations__)
        raise TypeError(f"there is no setting {unknown[0]!r}; there are {known}")
    plain = {name: value for name, value in settings.items() if name not in _OWN}
    body: dict[str, Any] = {"prompt": prompt, **plain, **more}
    if (size := settings.get("size")) is not None:
        body["size"] = size if isinstance(size, str) else f"{size[0]}x{size[1]}"
    if (image := settings.get("image")) is not None:
        body["images"] = [{"image_url": _data_url(one)} for one in _listed(image)]
    if (mask := settings.get("mask")) is not None:
        body["mask"] = {"image_url": _data_url(mask)}
    return {name: value for name, value in body.items() if value is not None}


def door_of(body: Mapping[str, Any]) -> str:
    """The path that a request goes to."""
    edits = "images" in body or "mask" in body
    return f"/v1/images/{'edits' if edits else 'generations'}"


def told_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request is worth keeping beside the picture it made."""
    return {name: value for name, value in body.items() if name not in _UNTOLD}


def _listed(image: ImageSource | Sequence[ImageSource]) -> Sequence[ImageSource]:
    return [image] if isinstance(image, (Image.Image, bytes, str, Path)) else image


def _data_url(source: ImageSource) -> str:
    if isinstance(source, Image.Image):
        buffer = io.BytesIO()
        source.save(buffer, "PNG")
        data = buffer.getvalue()
    else:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    return f"data:{_kind(data)};base64,{base64.b64encode(data).decode()}"


def _kind(data: bytes) -> str:
    """By its first bytes; what is none of these the server refuses with a reason."""
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    return "image/webp" if data[:4] == b"RIFF" else "image/png"
