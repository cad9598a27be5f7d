"""The seam between families and runtimes: a network is named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nerite.diffusion.space import Array, Space


@dataclass(frozen=True, slots=True)
class Port:
    """An input of a network; a dimension is a number where fixed, else a name or None."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str | None, ...]


class Network(Protocol):
    """One part of a pipeline (text encoder, UNet, VAE decoder), loaded and ready."""

    inputs: Mapping[str, Port]
    traced: bool
    """Whether it is a graph, which may hold sizes that it was traced with."""

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str] = ("",)) -> list[Array]:
        """The ``wanted`` outputs in float32; ``feeds`` are cast to what the network computes in.

        "" is the first output. A text encoder also has "pooled", "hidden_states.-2" for what its
        last layer but one leaves, and "normed.-2" for the same through its final norm.
        """
        ...

    def save_memory(self) -> bool:
        """Take less memory from now on, if slower; whether that is another way than before."""
        ...

    def check_output(self, name: str) -> None:
        """Raises ValueError where there is no such output."""
        ...


class Runtime(Protocol):
    """Where the parts of a model folder run; one file of ``runtimes/`` each."""

    space: Space

    def load(self, part: str) -> Network:
        """The network of a part by its folder's name, such as "unet".

        Raises FileNotFoundError or ValueError, in a sentence that says what is wrong.
        """
        ...

    def has(self, part: str) -> bool:
        """Whether the folder holds that part in this runtime's form."""
        ...


def expect_inputs(network: Network, part: str, wanted: Mapping[str, str | None]) -> None:
    """Raises ValueError unless ``network`` has exactly the ``wanted`` inputs, free in their sizes.

    A wanted input has one letter per dimension, "?" for one that may be fixed; None accepts any
    shape. One whose name begins with "?" may be missing.
    """
    names = {name.removeprefix("?"): letters for name, letters in wanted.items()}
    needed = {name for name in wanted if not name.startswith("?")}
    if not needed <= set(network.inputs) <= set(names):
        raise ValueError(
            f"{part}/model.onnx has inputs {', '.join(network.inputs)}; expected are exactly "
            f"{', '.join(name for name in wanted if name in needed)}"
        )
    for name, port in network.inputs.items():
        letters, shape = names[name], port.shape
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
