"""The instances that a model's config asks for, and where each of them runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nerite.backends.base import ModelSpec, backend_names, find_runtime
from nerite.core.errors import invalid
from nerite.core.home import Home
from nerite.instances.base import Instance
from nerite.instances.devices import devices
from nerite.instances.process import ProcessInstance
from nerite.repository import config as configs
from nerite.repository.repository import ModelEntry


@dataclass(frozen=True)
class Placing:
    """What a server's options say of all its instances.

    strict_gpu: refuse models for GPUs that this machine lacks. backend_directory: where
    Python-based backends are, a folder each with a model.py.
    """

    strict_gpu: bool = False
    backend_directory: Path = Path("/opt/tritonserver/backends")


def instances_of(entry: ModelEntry, version: int, home: Home, placing: Placing) -> list[Instance]:
    """The instances that the config's groups ask for, not yet started; an ensemble has none.

    Raises InferenceError: no such backend, no such GPU.
    """
    if configs.is_ensemble(entry.config):
        return []
    backend, runtime = _backend(entry, placing)
    config = configs.to_dict(entry.config)
    if runtime is not None:
        config["runtime"] = runtime.name
    instances: list[Instance] = []
    for group in config["instance_group"]:
        for index, device in enumerate(devices(entry.name, group, strict_gpu=placing.strict_gpu)):
            spec = ModelSpec(
                name=entry.name,
                version=version,
                folder=entry.folder.absolute(),
                instance=f"{group['name']}_{index}",
                device=device.kind,
                device_id=device.number,
                config=config,
                runtime=runtime,
            )
            instances.append(ProcessInstance(backend, spec, home))
    return instances


def _backend(entry: ModelEntry, placing: Placing) -> tuple[str, Path | None]:
    """The backend to open, and the model.py of the Python-based backend it is to run."""
    name = entry.config.backend
    if name in backend_names():
        return name, None
    try:
        return "python", find_runtime(name, entry.folder, placing.backend_directory)
    except FileNotFoundError as error:
        raise invalid(
            f"unable to find backend library for backend '{name}' of model '{entry.name}': {error}"
        ) from None
