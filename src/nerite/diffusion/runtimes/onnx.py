"""Networks on onnxruntime: numpy in and out, no torch; the painter's runtime."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerite.diffusion.network import Network, Port
from nerite.diffusion.space import Array, NumpySpace, Space

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
Provider = tuple[str, dict[str, str]]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime:
    """Loads ``folder``/<part>/model.onnx; raises ValueError for a device that is not there.

    ``device`` is "cpu", "cuda" or "cuda:1"; ``threads`` None means every core that this process
    may use.
    """

    space: Space

    def __init__(self, folder: Path, *, device: str, threads: int | None) -> None:
        self._folder = folder
        self._providers = _choose_providers(device)
        self._threads = threads or _usable_cores()
        self.space = NumpySpace()

    def load(self, part: str) -> Network:
        return OnnxNetwork(self._folder / part / "model.onnx", self._providers, self._threads)

    def has(self, part: str) -> bool:
        return (self._folder / part / "model.onnx").is_file()


class OnnxNetwork:
    """One graph in an onnxruntime session (see network.Network)."""

    traced = True

    def __init__(self, path: Path, providers: list[Provider], threads: int) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
        self._session = _open_session(path, providers, threads)
        # Where CUDA's libraries do not load, onnxruntime falls back to the CPU and says nothing.
        if providers[0][0] not in self._session.get_providers():
            raise ValueError(f"{providers[0][0]} is there, but its libraries cannot be loaded")
        ports = [_port(entry) for entry in self._session.get_inputs()]
        self.inputs: Mapping[str, Port] = {port.name: port for port in ports}
        self._outputs: list[str] = [entry.name for entry in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str] = ("",)) -> list[Array]:
        cast = {name: _cast(value, self.inputs[name].dtype) for name, value in feeds.items()}
        outputs = self._session.run([self._find(name) for name in wanted], cast)
        return [np.asarray(output, np.float32) for output in outputs]

    def check_output(self, name: str) -> None:
        self._find(name)

    def _find(self, name: str) -> str:
        """The graph's name for a wanted output; optimum's exports count layers from the first."""
        layers = sum(one.startswith("hidden_states.") for one in self._outputs)
        kind, _, number = name.partition(".")
        known = {"": self._outputs[:1], "pooled": ["text_embeds", "pooler_output"]}
        wishes = known.get(name, [name])
        if number and kind == "hidden_states":
            wishes = [f"hidden_states.{layers + int(number)}"]
        for wish in wishes:
            if wish in self._outputs:
                return wish
        if number:
            raise ValueError("clip_skip is not served: this export gives only its last layer")
        raise ValueError(f"a graph gives {', '.join(self._outputs)}, and no {name!r}")


def _open_session(path: Path, providers: list[Provider], threads: int) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(path, _session_options(threads), providers=providers)
    except Exception as error:  # onnxruntime's own types share no base but this one
        failure = error
    options = _session_options(threads)
    lent = _lend_weights(options, path)
    if lent:
        with contextlib.suppress(Exception):
            return onnxruntime.InferenceSession(path, options, providers=providers)
    raise ValueError(f"{path} cannot be loaded: {failure}") from failure


def _lend_weights(options: Any, path: Path) -> list[Array]:
    """Let the graph at ``path`` point into the safetensors files of its sibling folders.

    onnxruntime reads nothing outside a graph's own folder, but the graphs of a VAE's two halves
    may share the one file of ``vae/``. Files are mapped, not read, and the mappings returned must
    live until the session does; [] where there is nothing to lend.
    """
    files = [file for file in path.parent.glob("*") if file.is_file() and file != path]
    files += [file for file in path.parent.glob("../*/*.safetensors") if file not in files]
    files = [file for file in files if file.stat().st_size]
    if not files or not hasattr(options, "add_external_initializers_from_files_in_memory"):
        return []
    names = [os.path.relpath(file, path.parent).replace(os.sep, "/") for file in files]
    buffers: list[Array] = [np.memmap(file, np.uint8, mode="r") for file in files]
    sizes = [buffer.size for buffer in buffers]
    options.add_external_initializers_from_files_in_memory(names, buffers, sizes)
    return buffers


def _session_options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Errors reach the caller as exceptions; the same text on stderr would only confuse.
    options.log_severity_level = 4
    # Waiting threads would burn their cores between two steps, and those are not only ours.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A pattern is kept for every batch shape ever seen, and those change at each step.
    options.enable_mem_pattern = False
    return options


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _choose_providers(device: str) -> list[Provider]:
    import onnxruntime

    kind, _, number = device.partition(":")
    if kind not in _PROVIDERS or (number and not number.isdigit()):
        raise ValueError(f"device is {device!r}: onnxruntime serves 'cpu', 'cuda' or 'cuda:N'")
    provider = _PROVIDERS[kind]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise ValueError(
            f"device is {device!r}, but this onnxruntime has no {provider} (it has "
            f"{', '.join(available)}): install onnxruntime-gpu, or choose 'cpu'"
        )
    return [(provider, {"device_id": number} if number else {})]


def _port(entry: Any) -> Port:
    if entry.type not in _DTYPES:
        raise ValueError(f"input {entry.name!r} has type {entry.type}, which cannot be served")
    return Port(entry.name, np.dtype(_DTYPES[entry.type]), tuple(entry.shape))


def _cast(value: Array, dtype: np.dtype[np.generic]) -> Array:
    # A graph with whole timesteps gets the nearest one, where plain casting would cut.
    if np.issubdtype(dtype, np.integer) and np.issubdtype(value.dtype, np.floating):
        value = np.rint(value)
    return np.ascontiguousarray(value, dtype)
