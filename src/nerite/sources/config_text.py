"""The config.pbtxt of a diffusion model that was brought in."""

from __future__ import annotations

import re


def config_text(name: str, *, gpu: bool) -> str:
    """For a machine with GPUs or without; a request's defaults are left to the model."""
    group = "instance_group [ { kind: KIND_GPU } ]"
    if not gpu:
        group = f"# On a machine with a GPU: {group}"
    return f'name: "{name}"\nbackend: "diffusion"\n{group}\n'


def model_name(source: str) -> str:
    """A name for a model of that source: the last part of it, without what no path may hold."""
    last = source.partition("@")[0].rstrip("/").rpartition("/")[2]
    last = last.removesuffix(".safetensors")
    return re.sub(r"[^\w.-]+", "_", last).strip("._-") or "model"
