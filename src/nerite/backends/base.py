"""Backend: code that executes Calls for one loaded model copy, and the table of their names."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Mapping, Protocol, cast

from nerite.core.call import Call
from nerite.core.home import Nowhere, Outside

# Triton's model configuration in its JSON form: snake_case names, numbers as numbers.
Config = Mapping[str, Any]

# Begins a line of a worker's output that is a message for the log: its level and text in JSON.
LOGGED = "\x1e"


@dataclass(frozen=True)
class ModelSpec:
    """All that a backend is told of the copy it is to load.

    folder: the model's folder, the parent of its version folders.
    device: "cpu" or "cuda"; device_id: which of those. runtime: of a Python-based backend, its
    model.py, which reads what is in the model's folder. settings: of the backend, by the names
    that Triton's --backend-config has. complete: whether to fill in what the config leaves out.
    outside: the server, for its questions. in_worker: whether it is loaded in a process of its own,
    whose output the server reads.
    """

    name: str
    version: int
    folder: Path
    instance: str
    device: str
    device_id: int
    config: Config
    runtime: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    outside: Outside = Nowhere()
    in_worker: bool = False

    def to_json(self) -> dict[str, Any]:
        """What a worker needs to make the same spec."""
        names = ("name", "version", "instance", "device", "device_id", "config", "complete")
        fields = {name: getattr(self, name) for name in names}
        paths = {"folder": str(self.folder), "runtime": str(self.runtime or "")}
        return {**fields, **paths, "settings": dict(self.settings)}

    @classmethod
    def from_json(cls, fields: dict[str, Any], outside: Outside) -> ModelSpec:
        """The spec in a worker."""
        runtime = Path(fields["runtime"]) if fields["runtime"] else None
        paths = {"folder": Path(fields["folder"]), "runtime": runtime}
        return cls(**{**fields, **paths}, outside=outside, in_worker=True)

    @property
    def in_server(self) -> bool:
        """Whether it runs in the server's own process, as its config wishes (PLACEMENT)."""
        return self.parameters.get("PLACEMENT") == "thread"

    @property
    def version_folder(self) -> Path:
        return self.folder / str(self.version)

    @property
    def code(self) -> str:
        """Its Python file as errors name it to clients: from the repository's folder on."""
        if self.runtime is not None:
            return f"{self.config.get('backend')}/{self.runtime.name}"
        return f"{self.name}/{self.version}/{self.config.get('default_model_filename') or _RUNTIME}"

    @property
    def parameters(self) -> dict[str, str]:
        """The config's `parameters`, without those set to an empty string."""
        entries = self.config.get("parameters", {})
        values = {name: entry.get("string_value", "") for name, entry in entries.items()}
        return {name: value for name, value in values.items() if value != ""}


class Backend(Protocol):
    """Answers come by `call.send` and `call.fail`, now or later, from any thread."""

    def load(self, spec: ModelSpec) -> Config:
        """Load the model; the config with what the backend could complete."""
        ...

    def execute(self, calls: list[Call]) -> None:
        """Start on these calls; returns when more can be taken."""
        ...

    def unload(self) -> None: ...


_BACKENDS = {
    "diffusion": "nerite.backends.diffusion:DiffusionBackend",
    "fastdeploy": "nerite.backends.fastdeploy:FastDeployBackend",
    "onnxruntime": "nerite.backends.onnx.backend:OnnxBackend",
    "paddle": "nerite.backends.paddle:PaddleBackend",
    "python": "nerite.backends.python.user_model:PythonBackend",
    "pytorch": "nerite.backends.torch.backend:TorchBackend",
    "tensorrt": "nerite.backends.tensorrt.backend:TensorRTBackend",
}
# Python-based backends that come with nerite, a folder each with a model.py.
_LIBRARY = Path(__file__).parent / "library"
_RUNTIME = "model.py"
_GROUP = "nerite.backends"  # third parties' backends, as entry points


def backend_names() -> list[str]:
    return sorted({*_BACKENDS, *(entry.name for entry in entry_points(group=_GROUP))})


def open_backend(name: str) -> Backend:
    """A fresh backend object by its Triton name; KeyError when there is none."""
    target = _BACKENDS.get(name)
    if target is not None:
        module, attribute = target.split(":")
        return cast(Backend, getattr(importlib.import_module(module), attribute)())
    for entry in entry_points(group=_GROUP):
        if entry.name == name:
            return cast(Backend, entry.load()())
    raise KeyError(name)


def find_runtime(name: str, folder: Path, directory: Path) -> Path:
    """The model.py of a Python-based backend: a model's own, in its `folder`, or that of the
    backends' `directory`, or one that comes with nerite.

    Raises FileNotFoundError, which names where it was looked for.
    """
    places = [folder / _RUNTIME]
    if Path(name).name == name:
        places += [directory / name / _RUNTIME, _LIBRARY / name / _RUNTIME]
    for file in places:
        if file.is_file():
            return file.absolute()
    known = ", ".join(backend_names())
    searched = ", ".join(f"'{file}'" for file in places)
    raise FileNotFoundError(f"there are {known}, and of those in Python searched: {searched}")
