"""`nerite run-model`: a model.py on inputs from the command line, without a server."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerite.core.errors import InferenceError, invalid
from nerite.core.tensor import Tensor, datatype_of, numpy_dtype
from nerite.local import LocalModel
from nerite.repository.config import ModelConfig, datatype


def run(path: Path, inputs: Sequence[str], save: Path | None) -> int:
    """The exit status: 0 when the model has answered.

    inputs: NAME=VALUE, where VALUE is a .npy file, another file (its bytes), or JSON.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the model has to say
    try:
        with LocalModel(path) as model:
            tensors = dict(_read(model.config, text) for text in inputs)
            for number, response in enumerate(model.stream(tensors)):
                if response.error is not None:
                    raise response.error
                for name, tensor in response.outputs.items():
                    _show(name, tensor)
                    if save is not None:
                        _save(save, f"{name}.{number}" if number else name, tensor)
                if response.parameters:
                    print(f"parameters: {json.dumps(dict(response.parameters))}")
    except InferenceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _read(config: ModelConfig, text: str) -> tuple[str, Tensor]:
    name, equals, value = text.partition("=")
    entry = next((one for one in config.input if one.name == name), None)
    if entry is None or not equals:
        known = ", ".join(one.name for one in config.input)
        raise invalid(f"--input {text}: say NAME=VALUE, where NAME is one of {known}")
    kind = datatype(entry.data_type)
    try:
        array = _array(value, kind)
    except json.JSONDecodeError as error:
        raise invalid(f"--input {text}: '{value}' is neither a file nor JSON: {error}") from None
    except (ValueError, OverflowError, TypeError) as error:
        raise invalid(f"--input {text}: '{value}' is not {kind}: {error}") from None
    rank = len(entry.dims) + (config.max_batch_size > 0)
    if array.ndim < rank:  # one item of a batch, or one number
        array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return name, array


def _array(value: str, kind: str) -> Tensor:
    dtype = numpy_dtype(kind)
    is_file = os.path.isfile(value)  # which a pathlib.Path does not say of a long text
    if is_file and value.endswith(".npy"):
        loaded: Tensor = np.load(value, allow_pickle=False)
        return loaded if loaded.dtype.kind in "SU" else loaded.astype(dtype, copy=False)
    if is_file:
        content = Path(value).read_bytes()
        return np.array(content, object) if kind == "BYTES" else np.frombuffer(content, dtype)
    if kind == "BYTES":
        texts = np.array(_list(value), object)
        encoded: Tensor = np.vectorize(lambda one: str(one).encode(), otypes=[object])(texts)
        return encoded
    return np.array(json.loads(value), dtype)


def _list(value: str) -> Any:
    """A JSON list, or the text itself."""
    with contextlib.suppress(ValueError):
        parsed = json.loads(value)
        if isinstance(parsed, list):
            return parsed
    return value


def _show(name: str, tensor: Tensor) -> None:
    kind = datatype_of(tensor)
    shown = tensor if kind != "BYTES" else np.vectorize(_text, otypes=[object])(tensor)
    print(f"{name} {kind} {list(tensor.shape)}")
    print(np.array2string(np.asarray(shown), threshold=100))


def _text(item: Any) -> str:
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)


def _save(folder: Path, name: str, tensor: Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if datatype_of(tensor) == "BYTES":
        tensor = tensor.astype(np.bytes_)
    np.save(folder / f"{name}.npy", tensor, allow_pickle=False)
