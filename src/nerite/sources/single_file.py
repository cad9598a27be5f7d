"""A single-file checkpoint becomes a folder of diffusers; diffusers itself renames the weights."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any, cast

from nerite.sources.ldm import Checkpoint
from nerite.sources.tokenizer import write_tokenizer
from nerite.sources.weights import SourceError, read_weights


def convert(file: Path, target: Path, tokenizer: Path | None) -> None:
    """Write the checkpoint ``file`` to the folder ``target``, in the type of its numbers.

    Nothing is fetched: what a checkpoint does not say is told by its shapes. Raises SourceError.
    """
    weights = read_weights(file)
    checkpoint = Checkpoint(file, weights.shapes)
    with tempfile.TemporaryDirectory() as temporary:
        told = Path(temporary)
        for name, config in checkpoint.configs().items():
            (told / name).parent.mkdir(parents=True, exist_ok=True)
            (told / name).write_text(json.dumps(config, indent=2), encoding="utf-8")
        write_tokenizer(told / "tokenizer", tokenizer, checkpoint.vocabulary)
        if checkpoint.xl:
            write_tokenizer(told / "tokenizer_2", tokenizer, checkpoint.vocabulary, pad="!")
        _load(file, told, weights.dtype).save_pretrained(target, safe_serialization=True)


def _load(file: Path, told: Path, dtype: str) -> Any:
    try:
        import diffusers
        import torch
        import transformers
    except ImportError:
        raise SourceError(
            "a single file is converted by diffusers: pip install 'nerite[diffusion]'"
        ) from None
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    index = json.loads((told / "model_index.json").read_text(encoding="utf-8"))
    kind = cast(Any, getattr(diffusers, index["_class_name"]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind.from_single_file(
                str(file),
                config=str(told),
                local_files_only=True,
                torch_dtype=getattr(torch, dtype, torch.float32),
            )
    except Exception as error:  # many types, for tensors missing or of another shape
        first = str(error).strip().split("\n")[0]
        raise SourceError(f"{file} cannot be converted: {first}") from error
