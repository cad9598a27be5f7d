"""What a diffusion model can do, in its completed config: the front process knows no pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nerite.backends.base import Config
from nerite.backends.diffusion_config import Roles
from nerite.diffusion import KNOWN_SCHEDULERS, InvalidParams, Params, Pipeline

_PARAMETER = "capabilities"


def with_capabilities(
    config: Config, pipeline: Pipeline, roles: Roles, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The config with a parameter that holds them as JSON."""
    text = json.dumps(_capabilities(pipeline, roles, defaults))
    parameters = {**config.get("parameters", {}), _PARAMETER: {"string_value": text}}
    return {**config, "parameters": parameters}


def _capabilities(pipeline: Pipeline, roles: Roles, defaults: Mapping[str, Any]) -> dict[str, Any]:
    usual = Params("", **defaults)
    limits = pipeline.limits
    picture = np.zeros((usual.height, usual.width, 3), np.uint8)
    masked = replace(usual, image=picture, mask=picture[:, :, 0])
    schedulers = [
        name
        for name in KNOWN_SCHEDULERS
        if not name.endswith("Scheduler")  # their short names are there too
        and any(_takes(pipeline, replace(base, scheduler=name)) for base in (usual, masked))
    ]
    return {
        "prompt": roles.prompt,
        "picture": roles.image,
        "size": [usual.width, usual.height],
        "sizes": {
            "multiple": limits.size_multiple,
            "min": limits.min_size,
            "max": limits.max_size,
        },
        "steps": usual.steps,
        "max_steps": limits.max_steps,
        "guidance_scale": usual.guidance_scale,
        "scheduler": usual.scheduler or pipeline.scheduler,
        "schedulers": schedulers,
        "edits": _takes(pipeline, replace(usual, image=picture)) or _takes(pipeline, masked),
        "masks": _takes(pipeline, masked),
    }


def _takes(pipeline: Pipeline, params: Params) -> bool:
    try:
        pipeline.check(params)
    except InvalidParams:
        return False
    return True
