"""The instances that a model's config asks for, and where each of them runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerite.backends.base import ModelSpec, backend_names, find_runtime
from nerite.core.errors import invalid
from nerite.core.home import Home
from nerite.instances.base import Instance, Pool
from nerite.instances.devices import Device, devices
from nerite.instances.environment import PARAMETER
from nerite.instances.host_policy import Cores
from nerite.instances.process import ProcessInstance
from nerite.instances.rate_limiter import GLOBAL, Need, RateLimiter, Resource
from nerite.instances.thread import ThreadInstance
from nerite.repository import config as configs
from nerite.repository.repository import ModelEntry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placing:
    """What a server's options say of all its instances.

    strict_gpu: refuse models for GPUs that this machine lacks. backend_directory: where
    Python-based backends are, a folder each with a model.py. limiter: whom they all share
    resources under, if anybody. settings: of each backend by its name, and under "" of all.
    complete: whether backends fill in what configs leave out. worker_timeout: seconds that a
    request may get no answer before its process is taken for stuck; 0 for ever.
    """

    strict_gpu: bool = False
    backend_directory: Path = Path("/opt/tritonserver/backends")
    limiter: RateLimiter | None = None
    policies: Mapping[str, Cores] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    complete: bool = True
    worker_timeout: float = 0.0

    def settings_of(self, backend: str) -> dict[str, str]:
        return {**self.settings.get("", {}), **self.settings.get(backend, {})}


def pool_of(entry: ModelEntry, version: int, home: Home, placing: Placing) -> Pool:
    """The instances that the config's groups ask for, not yet started; an ensemble has none.

    Raises InferenceError: no such backend, no such GPU, not enough of a resource.
    """
    if configs.is_ensemble(entry.config):
        return Pool(home.turn, [])
    backend, runtime = _backend(entry, placing)
    config = configs.to_dict(entry.config)
    if runtime is not None:
        config["runtime"] = runtime.name
    instances: list[Instance] = []
    passive: list[Instance] = []
    needs: list[Need] = []
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
                settings=placing.settings_of(entry.config.backend),
                complete=placing.complete,
            )
            instance = _instance(backend, spec, home, placing, group, device)
            if group.get("passive"):
                passive.append(instance)
            else:
                instances.append(instance)
                needs.append(_need(group, device))
    if placing.limiter is not None:
        return placing.limiter.pool(home.turn, instances, needs, passive)
    return Pool(home.turn, instances, passive)


def _instance(
    backend: str,
    spec: ModelSpec,
    home: Home,
    placing: Placing,
    group: Mapping[str, Any],
    device: Device,
) -> Instance:
    """In a process of its own, unless its config's PLACEMENT wants the server's."""
    place = spec.parameters.get("PLACEMENT", "process")
    if place not in ("process", "thread"):
        raise invalid(f"PLACEMENT of model '{spec.name}' is '{place}': say 'process' or 'thread'")
    if not spec.in_server:
        cores = placing.policies.get(group["host_policy"] or device.policy)
        return ProcessInstance(backend, spec, home, cores, placing.worker_timeout)
    if PARAMETER in spec.parameters:
        raise invalid(
            f"model '{spec.name}' cannot have both PLACEMENT 'thread', which is the server's own "
            f"interpreter, and an {PARAMETER}"
        )
    return ThreadInstance(backend, spec, home)


def _need(group: Mapping[str, Any], device: Device) -> Need:
    limits = group.get("rate_limiter", {})
    resources: dict[Resource, int] = {}
    for one in limits.get("resources", ()):
        where = GLOBAL if one["global"] else device.number
        resources[where, one["name"]] = one["count"]
    return Need(resources, limits.get("priority", 1))


def _backend(entry: ModelEntry, placing: Placing) -> tuple[str, Path | None]:
    """The backend to open, and the model.py of the Python-based backend it is to run."""
    name = entry.config.backend
    _check_runtime(entry, placing)
    if name in backend_names():
        own = placing.backend_directory / name / "model.py"
        if name == "python" or not own.is_file():
            return name, None
        log.info(
            "backend '%s' of model '%s' is '%s', which takes precedence over the one of nerite",
            name, entry.name, own,
        )  # fmt: skip
        return "python", own.absolute()
    try:
        return "python", find_runtime(name, entry.folder, placing.backend_directory)
    except FileNotFoundError as error:
        raise invalid(
            f"unable to find backend library for backend '{name}', try specifying runtime on the "
            f"model configuration. Model '{entry.name}' has none: {error}"
        ) from None


def _check_runtime(entry: ModelEntry, placing: Placing) -> None:
    """`runtime` may ask for the one in Python, or name the library that Triton would load."""
    wanted, backend = entry.config.runtime, entry.config.backend
    if wanted in ("", "model.py", f"libtriton_{backend}.so"):
        return
    if ".." in Path(wanted).parts or Path(wanted).is_absolute():
        raise invalid(
            f"backend library name '{wanted}' escapes backend directory "
            f"'{placing.backend_directory / backend}', for model '{entry.name}', check model "
            "config runtime field"
        )
    raise invalid(
        f"unable to find backend library '{wanted}' for model '{entry.name}': libraries are not "
        "loaded here. Remove 'runtime', or say \"model.py\" for a runtime in Python."
    )
