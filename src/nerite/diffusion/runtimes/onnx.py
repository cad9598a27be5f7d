"""Networks on onnxruntime: numpy in and out, no torch; the painter's runtime."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerite.diffusion.cores import usable_cores
from nerite.diffusion.network import Network, Port
from nerite.diffusion.runtimes.graph import cast, find_output, lend_weights
from nerite.diffusion.settings import Settings
from nerite.diffusion.space import Array, NumpySpace, Space
from nerite.diffusion.weights import find_broken

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

    ``device`` is "cpu", "cuda" or "cuda:1"; ``dtype`` must be "auto" or "float32", as a graph has
    its own. ``threads`` None means every core that this process may use.
    """

    space: Space

    def __init__(self, folder: Path, settings: Settings) -> None:
        if settings.dtype not in ("auto", "float32"):
            raise ValueError(
                f"dtype is {settings.dtype!r}: onnxruntime computes a graph in its own; "
                "pip install openvino, or 'nerite[diffusion]' where the folder has weights"
            )
        self._folder = folder
        self._providers = _choose_providers(settings.device)
        self._threads = settings.threads or usable_cores()
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
        given = {name: cast(value, self.inputs[name].dtype) for name, value in feeds.items()}
        outputs = self._session.run([find_output(self._outputs, name) for name in wanted], given)
        return [np.asarray(output, np.float32) for output in outputs]

    def save_memory(self) -> bool:
        return False

    def check_output(self, name: str) -> None:
        find_output(self._outputs, name)


def _open_session(path: Path, providers: list[Provider], threads: int) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(path, _session_options(threads), providers=providers)
    except Exception as error:  # onnxruntime's own types share no base but this one
        failure = error
    options = _session_options(threads)
    with contextlib.suppress(Exception):
        lent = lend_weights(options, path)
        if lent:
            return onnxruntime.InferenceSession(path, options, providers=providers)
    why = find_broken(path.parents[1]) or failure
    raise ValueError(f"{path} cannot be loaded: {why}") from failure


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
