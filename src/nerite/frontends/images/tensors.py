"""From an order to a model's inputs, and from its outputs to pixels."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nerite.contract import TensorSpec
from nerite.core.errors import InferenceError, Status
from nerite.core.tensor import Tensor, numpy_dtype
from nerite.frontends.images.encoding import png
from nerite.frontends.images.errors import bad
from nerite.frontends.images.models import ImageModel
from nerite.frontends.images.orders import Order
from nerite.frontends.images.uploads import Upload

Pixels = NDArray[np.uint8]


def inputs_of(order: Order, first: int, count: int) -> dict[str, Tensor]:
    """The tensors that ask for `count` pictures from the order's `first` on. Raises ApiError.

    Blocks where there are pictures to be written.
    """
    model = order.model
    width, height = order.size or (None, None)
    values: dict[str, Any] = {
        "prompt": order.prompt,
        "negative_prompt": order.negative_prompt,
        "seed": None if order.seed is None else order.seed + first,
        "steps": order.steps,
        "guidance_scale": order.guidance_scale,
        "width": width,
        "height": height,
        "scheduler": order.scheduler,
        "strength": order.strength,
        "num_images": count if count > 1 else None,
    }
    tensors: dict[str, Tensor] = {}
    for name, value in values.items():
        spec = model.inputs[model.prompt] if name == "prompt" else model.input(name)
        if value is not None and spec is not None:
            tensors[spec.name] = _scalar(spec, value)
    uploads = order.uploads_of(first)
    if uploads:
        tensors |= _pictures(model, uploads)
    return tensors


def _scalar(spec: TensorSpec, value: Any) -> Tensor:
    shape = [1 if side == -1 else side for side in spec.shape]
    if spec.datatype == "BYTES":
        array = np.empty(shape, object)
        # One by one: numpy's own texts, which it would make of it, lose the zeros at their end.
        array.fill(value if isinstance(value, bytes) else str(value).encode())
        return array
    try:
        return np.full(shape, value, numpy_dtype(spec.datatype))
    except (OverflowError, ValueError):
        text = f"'{spec.name}' is {value}: it does not fit the model's {spec.datatype}"
        raise bad(text, spec.name) from None


def _pictures(model: ImageModel, uploads: Sequence[Upload]) -> dict[str, Tensor]:
    """The pictures to paint over and the mask, in the form the model declares."""
    tensors: dict[str, Tensor] = {}
    for name, pixels in (("image", uploads[0].pixels), ("mask", uploads[0].mask)):
        spec = model.input(name)
        if pixels is None or spec is None:
            continue
        if spec.datatype != "BYTES":
            tensors[name] = _array(spec, pixels)
        elif name == "mask":
            tensors[name] = _scalar(spec, png(pixels))
        elif model.takes_several:
            files = np.array([upload.file for upload in uploads], object)
            tensors[name] = files.reshape([1] * (len(spec.shape) - 1) + [-1])
        else:
            tensors[name] = _scalar(spec, uploads[0].file)
    return tensors


def _array(spec: TensorSpec, pixels: Pixels) -> Tensor:
    array: Tensor = pixels
    if spec.datatype.startswith("FP"):
        array = pixels.astype(numpy_dtype(spec.datatype)) / numpy_dtype(spec.datatype).type(255)
    while array.ndim < len(spec.shape):
        array = array[None]
    return array


def pictures_of(model: ImageModel, outputs: Mapping[str, Tensor]) -> list[Pixels]:
    """The pictures of an answer, uint8 [h, w, 3 or 4]. Blocks where they come as files.

    Raises InferenceError for what is no picture.
    """
    tensor = outputs.get(model.picture.name)
    if tensor is None:
        return []
    if tensor.dtype.kind == "O":
        return [_decoded(one) for one in tensor.reshape(-1)]
    if tensor.ndim < 3 or tensor.shape[-1] not in (3, 4) or not tensor.size:
        raise _strange(model, f"{tensor.dtype} {list(tensor.shape)}")
    return list(_pixels(tensor).reshape(-1, *tensor.shape[-3:]))


def _pixels(tensor: Tensor) -> Pixels:
    """Floats are from 0 to 1, or to 255 where one is above 1."""
    if tensor.dtype == np.uint8:
        return tensor
    values = np.nan_to_num(tensor.astype(np.float32))
    if values.max() <= 1.0:
        values = values * np.float32(255)
    return values.round().clip(0, 255).astype(np.uint8)


def _decoded(value: Any) -> Pixels:
    data = value if isinstance(value, bytes) else str(value).encode()
    try:
        if not data.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF")):
            data = base64.b64decode(data.rpartition(b"base64,")[2])
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
            mode = "RGBA" if "A" in opened.getbands() else "RGB"
            return np.array(opened.convert(mode))
    except Exception as error:
        text = f"the model's answer is no picture: {type(error).__name__}"
        raise InferenceError(Status.INTERNAL, text) from None


def _strange(model: ImageModel, found: str) -> InferenceError:
    text = (
        f"model '{model.name}' answered {found} for '{model.picture.name}': [h, w, 3] is a picture"
    )
    return InferenceError(Status.INTERNAL, text)


def flags_of(outputs: Mapping[str, Tensor]) -> list[bool]:
    """What a safety checker says of each picture; [] where none looked."""
    tensor = outputs.get("flagged")
    return [] if tensor is None or tensor.dtype.kind != "b" else tensor.reshape(-1).tolist()


def number(outputs: Mapping[str, Tensor], name: str) -> int | float | None:
    """The one number of an output; None where there is none."""
    tensor = outputs.get(name)
    if tensor is None or tensor.size != 1 or tensor.dtype.kind not in "iuf":
        return None
    found: int | float = tensor.reshape(-1)[0].item()
    return found
