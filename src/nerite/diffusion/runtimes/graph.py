"""What the runtimes of ONNX graphs share: names of outputs, inputs' types, where weights lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.space import Array


def find_output(outputs: Sequence[str], name: str) -> str:
    """The graph's name for a wanted output; optimum's exports count layers from the first."""
    layers = sum(one.startswith("hidden_states.") for one in outputs)
    kind, _, number = name.partition(".")
    known = {"": list(outputs[:1]), "pooled": ["text_embeds", "pooler_output"]}
    wishes = known.get(name, [name])
    if number and kind == "hidden_states":
        wishes = [f"hidden_states.{layers + int(number)}"]
    for wish in wishes:
        if wish in outputs:
            return wish
    if number:
        raise ValueError("clip_skip is not served: this export gives only its last layer")
    raise ValueError(f"a graph gives {', '.join(outputs)}, and no {name!r}")


def cast(value: Array, dtype: np.dtype[np.generic]) -> Array:
    # A graph with whole timesteps gets the nearest one, where plain casting would cut.
    if np.issubdtype(dtype, np.integer) and np.issubdtype(value.dtype, np.floating):
        value = np.rint(value)
    return np.ascontiguousarray(value, dtype)


def lend_weights(options: Any, path: Path) -> list[NDArray[np.uint8]]:
    """Let the graph at ``path`` point into the safetensors files of its sibling folders.

    onnxruntime reads nothing outside a graph's own folder, but the graphs of a VAE's two halves
    may share the one file of ``vae/``. ``options`` are a session's. Files are mapped, not read,
    and the mappings returned must live until the session does; [] where there is nothing to lend.
    """
    files = [file for file in path.parent.glob("*") if file.is_file() and file != path]
    files += [file for file in path.parent.glob("../*/*.safetensors") if file not in files]
    files = [file for file in files if file.stat().st_size]
    if not files or not hasattr(options, "add_external_initializers_from_files_in_memory"):
        return []
    names = [os.path.relpath(file, path.parent).replace(os.sep, "/") for file in files]
    buffers: list[NDArray[np.uint8]] = [np.memmap(file, np.uint8, mode="r") for file in files]
    sizes = [buffer.size for buffer in buffers]
    options.add_external_initializers_from_files_in_memory(names, buffers, sizes)
    return buffers


def size_of(path: Path) -> int:
    """Bytes of a graph with its weights, as far as they lie in its own folder."""
    return sum(file.stat().st_size for file in path.parent.glob("*") if file.is_file())
