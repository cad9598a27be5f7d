"""The seam between families and runtimes: a network is named tensors in, one tensor out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nerite.diffusion.job import Array


@dataclass(frozen=True, slots=True)
class Port:
    """An input of a network; a dimension is a number where fixed, else a name or None."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str | None, ...]


class Network(Protocol):
    """One part of a pipeline (text encoder, UNet, VAE decoder), loaded and ready."""

    inputs: Mapping[str, Port]

    def run(self, feeds: Mapping[str, Array]) -> Array:
        """The first output in float32; ``feeds`` are cast to the ports' dtypes."""
        ...


Loader = Callable[[str], Network]
"""Loads the network of a part by its folder's name, such as "unet"."""


def expect_inputs(network: Network, part: str, wanted: Mapping[str, str | None]) -> None:
    """Raises ValueError unless ``network`` has exactly the ``wanted`` inputs, free in their sizes.

    A wanted input has one letter per dimension, "?" for one that may be fixed; None accepts any
    shape.
    """
    if set(network.inputs) != set(wanted):
        raise ValueError(
            f"{part}/model.onnx has inputs {', '.join(network.inputs)}; expected are exactly "
            f"{', '.join(wanted)}"
        )
    for name, letters in wanted.items():
        shape = network.inputs[name].shape
        if letters is None:
            continue
        if len(shape) != len(letters):
            raise ValueError(f"{part}/model.onnx has {name} {shape}: {len(letters)}-d is expected")
        fixed = [size for size, letter in zip(shape, letters, strict=True) if letter != "?"]
        if any(isinstance(size, int) for size in fixed):
            raise ValueError(
                f"{part}/model.onnx was exported for {name} {shape} only: export it with dynamic "
                "batch, height and width"
            )
