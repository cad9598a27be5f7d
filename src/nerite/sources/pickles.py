"""Pickled weights become safetensors: read by torch's restricted reader, once, when imported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerite.sources.weights import SourceError


def to_safetensors(file: Path, target: Path) -> None:
    """Write the tensors of a pickled state dict to the safetensors file ``target``.

    Tensors are all that is read; what else a pickle holds is refused. Raises SourceError.
    """
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError:
        raise SourceError(f"{file} is read by torch: pip install 'nerite[diffusion]'") from None
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # many types, for a file cut off or one that holds code
        first = str(error).strip().split("\n")[0]
        raise SourceError(f"{file} holds more than tensors, or is broken: {first}") from None
    state: dict[str, Any] = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    tensors = {
        name: value.clone().contiguous()  # two names of one memory are two in the new file
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise SourceError(f"{file} holds no tensors by name")
    save_file(tensors, target, metadata={"format": "pt"})


def convert_part(folder: Path, names: Sequence[str], target: Path) -> None:
    """Those pickles of one part, and their index where there are several, in ``target``."""
    for name in names:
        to_safetensors(folder / name, target / Path(name).with_name(safe_name(name)))
    part = Path(names[0]).parent
    for index in (folder / part).glob("*.bin.index.json"):
        listed = json.loads(index.read_text(encoding="utf-8"))
        places = {tensor: safe_name(file) for tensor, file in listed["weight_map"].items()}
        text = json.dumps({**listed, "weight_map": places}, indent=2)
        renamed = safe_name(index.name.removesuffix(".index.json"))
        (target / part / f"{renamed}.index.json").write_text(text, encoding="utf-8")


def safe_name(name: str) -> str:
    """What a file of pickled weights is called as safetensors."""
    stem = Path(name).stem
    if stem.startswith("pytorch_model"):
        stem = stem.removeprefix("pytorch_")
    return f"{stem}.safetensors"
