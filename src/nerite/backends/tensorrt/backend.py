"""TensorRTBackend: a plan that executes calls, several together where it batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nerite.backends.base import Config, ModelSpec
from nerite.backends.ragged import Ragged
from nerite.backends.tensorrt.engine import Declared, Engine
from nerite.backends.together import answer, number, request_inputs
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.tensor import Tensor

_FILE = "model.plan"
_BATCH = 4  # Triton's max_batch_size for an engine whose first dimensions are free


class TensorRTBackend:
    """One plan on one GPU; its config completed from the engine."""

    def load(self, spec: ModelSpec) -> Config:
        file = _plan_file(spec)
        if spec.device != "cuda":
            raise InferenceError(
                Status.UNSUPPORTED,
                f"model '{spec.name}' is a TensorRT plan, which runs on NVIDIA GPUs only: give it "
                "an instance_group of KIND_GPU on a machine that has one",
            )
        try:
            self._engine = Engine(file, f"cuda:{spec.device_id}", _profiles(spec))
        except ImportError as error:
            raise InferenceError(
                Status.UNSUPPORTED,
                f"model '{spec.name}' needs TensorRT and PyTorch: pip install 'nerite[tensorrt]' "
                f"({error})",
            ) from None
        config: Config = spec.config
        if spec.complete:
            batch = number(spec.settings, "default-max-batch-size", _BATCH)
            config = _complete(config, self._engine, batch)
        _check(config, self._engine)
        self._outputs = [output["name"] for output in config["output"]]
        self._ragged = Ragged.of(config)
        return config

    def execute(self, calls: list[Call]) -> None:
        answer(calls, self._outputs, self._compute, self._ragged)

    def _compute(self, inputs: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
        try:
            return self._engine.run(inputs, wanted)
        except InferenceError:
            raise
        except Exception as error:
            text = f"TensorRT execute failure: {error}"
            raise InferenceError(Status.INTERNAL, text) from None

    def unload(self) -> None:
        del self._engine


def _plan_file(spec: ModelSpec) -> Path:
    file = spec.version_folder / (spec.config.get("default_model_filename") or _FILE)
    if not file.is_file():
        text = f"unable to find '{file}' for model instance '{spec.instance}'"
        raise InferenceError(Status.UNAVAILABLE, text)
    return file


def _profiles(spec: ModelSpec) -> list[int]:
    """The optimization profiles that the instance's group names."""
    name = spec.instance.rpartition("_")[0]
    for group in spec.config.get("instance_group", ()):
        if group.get("name") == name:
            texts = group.get("profile", ())
            if all(text.isdigit() for text in texts):
                return [int(text) for text in texts]
            raise invalid(f"instance group '{name}' names profiles {texts}: they must be numbers")
    return []


def _complete(config: Config, engine: Engine, batch: int) -> dict[str, Any]:
    """Fill in from the engine what the config leaves out.

    batch: max_batch_size where its first dimensions are free and its profiles allow it.
    """
    completed = dict(config)
    tensors = [one for one in engine.tensors.values() if not one.values]
    if completed.get("input") and completed.get("output"):
        return completed
    free = all(one.shape and one.shape[0] == -1 for one in tensors)
    if free and not completed.get("max_batch_size"):
        most = min(dims[0] for profile in engine.profiles for dims in profile.most.values())
        completed["max_batch_size"] = min(batch, most)
        others = ("sequence_batching", "dynamic_batching", "ensemble_scheduling")
        if completed["max_batch_size"] > 1 and not any(name in completed for name in others):
            completed["dynamic_batching"] = {}
    batched = completed.get("max_batch_size", 0) > 0
    if batched and not free:
        raise invalid(
            f"autofill failed for model '{config.get('name', '')}': model does not support "
            "batching while non-zero max_batch_size is specified. Set max_batch_size: 0, or build "
            "the engine with a first dimension of any size"
        )
    for kind, inputs in (("input", True), ("output", False)):
        if not completed.get(kind):
            wanted = [one for one in engine.tensors.values() if one.is_input == inputs]
            completed[kind] = [_describe(one, batched) for one in wanted]
    return completed


def _describe(tensor: Declared, batched: bool) -> dict[str, Any]:
    dims = list(tensor.shape[1:] if batched and not tensor.values else tensor.shape)
    described: dict[str, Any] = {
        "name": tensor.name,
        "data_type": f"TYPE_{tensor.datatype}",
        "dims": dims or [1],
    }
    if tensor.values:
        described["is_shape_tensor"] = True
    return described


def _check(config: Config, engine: Engine) -> None:
    """The config's tensors must be the engine's. Raises InferenceError."""
    given = request_inputs(config)
    inputs = [one.name for one in engine.tensors.values() if one.is_input]
    if sorted(given) != sorted(inputs):
        raise invalid(
            f"unable to load model '{config.get('name', '')}', configuration expects "
            f"{len(given)} inputs ({', '.join(given)}), model provides {len(inputs)} "
            f"({', '.join(inputs)})"
        )
    for kind in ("input", "output"):
        for entry in config[kind]:
            found = engine.tensors.get(entry["name"])
            if found is None or found.is_input != (kind == "input"):
                raise invalid(f"the plan has no {kind} '{entry['name']}'")
            if f"TYPE_{found.datatype}" != entry["data_type"]:
                raise invalid(
                    f"unexpected datatype {entry['data_type']} for inference {kind} "
                    f"'{entry['name']}', expecting TYPE_{found.datatype}"
                )
