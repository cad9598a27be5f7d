"""Files of weights by their names: variants, and pickles; why a model cannot be had."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from nerite.diffusion import weights
from nerite.diffusion.weights import Weights

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


class SourceError(Exception):
    """A model that cannot be had from there; the message says what is wrong and what helps."""


def read_weights(file: Path) -> Weights:
    """See diffusion.weights. Raises SourceError for what is cut off or something else."""
    try:
        return weights.read_weights(file)
    except ValueError as error:
        raise SourceError(str(error)) from None


def variant_of(name: str) -> str:
    """ "fp16" of model.fp16-00001-of-00002.safetensors, "" of model.safetensors."""
    stem = re.sub(r"-\d+-of-\d+", "", Path(name).name)
    parts = stem.removesuffix(".json").removesuffix(".index").split(".")
    return ".".join(part for part in parts[1:] if part not in ("safetensors", "index", "bin"))


def choose_variant(names: Iterable[str], wanted: str) -> str | None:
    """Of weights files, the variant to take: the wanted one, else the full one, else fp16."""
    there = {variant_of(name) for name in names}
    return next((one for one in (wanted, "", "fp16") if one in there), min(there, default=None))


def is_pickle(name: str) -> bool:
    """Whether a file's name is one of weights that are run while they are read."""
    return name.endswith(PICKLES) and not Path(name).name.startswith("openvino")


def refused(file: str) -> str:
    """Why a pickle is not read, and what to do."""
    return (
        f"{file} is a pickle, which may run code while it is read: look for the model's "
        "safetensors, or trust its writer and say --allow-pickle, which converts it"
    )
