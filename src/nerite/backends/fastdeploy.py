"""The fastdeploy backend: FastDeploy's model repositories, Paddle or ONNX by the file they hold.

Its accelerators choose among the engines that FastDeploy was built with; here the file chooses,
and what the config asks for beyond that is left out and said.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nerite.backends.base import Backend, Config, ModelSpec
from nerite.backends.onnx.backend import OnnxBackend
from nerite.backends.paddle import FILES, PaddleBackend
from nerite.core.call import Call

_OF_TENSORRT = ("tensorrt", "min_shape", "max_shape", "opt_shape")


class FastDeployBackend:
    """An ONNX session or a Paddle predictor."""

    def load(self, spec: ModelSpec) -> Config:
        paddle = any((spec.version_folder / name).is_file() for name in FILES)
        self._engine: Backend = PaddleBackend() if paddle else OnnxBackend()
        engine = "paddle" if paddle else "onnxruntime"
        config, left_out = _translated(spec.config, engine)
        for name in left_out:
            print(
                f"the accelerator '{name}' is left out: {engine} runs this model", file=sys.stderr
            )
        completed = self._engine.load(replace(spec, config=config))
        return {**completed, **{key: spec.config[key] for key in _OURS if key in spec.config}}

    def execute(self, calls: list[Call]) -> None:
        self._engine.execute(calls)

    def unload(self) -> None:
        self._engine.unload()


_OURS = ("optimization", "parameters")  # what `_translated` rewrites, shown as it was written


def _translated(config: Config, engine: str) -> tuple[dict[str, Any], list[str]]:
    """The config as its engine reads it, and the names of the accelerators that are left out."""
    optimization = dict(config.get("optimization", {}))
    asked = optimization.pop("execution_accelerators", {})
    parameters = dict(config.get("parameters", {}))
    kept: dict[str, list[Mapping[str, Any]]] = {}
    left_out = []
    for accelerator in asked.get("cpu_execution_accelerator", ()):
        threads = accelerator.get("parameters", {}).get("cpu_threads")
        if threads and engine == "paddle":
            entry = {"name": "", "parameters": {"cpu_threads": threads}}
            kept.setdefault("cpu_execution_accelerator", []).append(entry)
        elif threads:
            parameters.setdefault("intra_op_thread_count", {"string_value": threads})
        if accelerator["name"] != engine:
            left_out.append(accelerator["name"])
    for accelerator in asked.get("gpu_execution_accelerator", ()):
        if engine == "paddle" and accelerator["name"] in _OF_TENSORRT:
            kept.setdefault("gpu_execution_accelerator", []).append(accelerator)
        elif accelerator["name"] != engine:
            left_out.append(accelerator["name"])
    if kept:
        optimization["execution_accelerators"] = kept
    return {**config, "optimization": optimization, "parameters": parameters}, left_out
