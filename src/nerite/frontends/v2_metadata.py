"""What KServe v2 tells of the server and its models, the same through HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nerite.contract import TensorSpec
from nerite.model import Model
from nerite.server import Server

# Triton's, in its order.
_EXTENSIONS = [
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
]


def server_metadata(server: Server, version: str) -> dict[str, Any]:
    return {"name": server.name, "version": version, "extensions": _EXTENSIONS}


def model_metadata(server: Server, model: Model) -> dict[str, Any]:
    """The JSON form of KServe's ModelMetadataResponse; shapes have the batch dimension as -1."""
    versions = [str(other.version) for other in server.models if other.name == model.name]
    return {
        "name": model.name,
        "versions": versions,
        "platform": model.config.platform or model.config.backend,
        "inputs": _tensors(model.contract.inputs.values()),
        "outputs": _tensors(model.contract.outputs.values()),
    }


def _tensors(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs
    ]
