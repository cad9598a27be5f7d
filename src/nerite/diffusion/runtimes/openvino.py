"""ONNX graphs on OpenVINO: the fastest runtime of a CPU that computes in bfloat16."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerite.diffusion.cores import usable_cores
from nerite.diffusion.network import Network, Port
from nerite.diffusion.runtimes.buckets import Buckets, Feeds, Run
from nerite.diffusion.runtimes.graph import (
    cast,
    find_output,
    lend_weights,
    size_of,
)
from nerite.diffusion.settings import Settings
from nerite.diffusion.space import Array, NumpySpace, Space, memory_available
from nerite.diffusion.weights import find_broken

_log = logging.getLogger(__name__)

PRECISIONS = {"auto": "f32", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_DEVICE = "CPU"
_VARIANTS = 8  # of a network, for single shapes
_KERNELS = 256  # kept of a network; OpenVINO's own 5000 are 300 MB of the painter's
_COPIES = 3  # of a graph's size on disk in half precision, that a variant takes
_SHARE = 0.25  # of the memory that is free, for all variants of a network


def is_there() -> bool:
    return importlib.util.find_spec("openvino") is not None


class OpenVinoRuntime:
    """Loads ``folder``/<part>/model.onnx; raises ValueError for what this processor cannot do.

    ``dtype`` is one of PRECISIONS, "auto" being float32. With ``fixed_rows`` the bytes of an
    output depend on nothing but its input.
    """

    space: Space

    def __init__(self, folder: Path, settings: Settings) -> None:
        if not is_there():
            raise ValueError(
                "runtime is 'openvino', which is not here: pip install 'nerite[openvino]'"
            )
        if settings.device != "cpu":
            raise ValueError(f"device is {settings.device!r}: openvino serves 'cpu'")
        import openvino

        self._folder = folder
        self._core = openvino.Core()
        self._steady = settings.fixed_rows is not None
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": settings.threads or usable_cores(),
            "INFERENCE_PRECISION_HINT": _precision(self._core, settings.dtype),
            "ENABLE_CPU_PINNING": False,  # the cores are not only ours
            "CPU_RUNTIME_CACHE_CAPACITY": _KERNELS,  # each shape that comes makes some
        }
        self.space = NumpySpace()

    def load(self, part: str) -> Network:
        path = self._folder / part / "model.onnx"
        return OpenVinoNetwork(path, self._core, self._settings, steady=self._steady)

    def has(self, part: str) -> bool:
        return (self._folder / part / "model.onnx").is_file()


class OpenVinoNetwork:
    """One graph, compiled for all shapes, and then for those that stay (see network.Network)."""

    traced = True

    def __init__(self, path: Path, core: Any, settings: Mapping[str, Any], *, steady: bool) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
        self._core = core
        self._settings = settings
        self._model = _unpacked(_read(core, path))
        self._run: Run = self._compile(self._model)
        self.inputs: Mapping[str, Port] = {
            port.name: port for port in map(_port, self._model.inputs)
        }
        self._outputs = [_name(output) for output in self._model.outputs]
        self._buckets = Buckets(
            self._specialise, NumpySpace(), most=_most(path, steady), at_once=steady
        )

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str] = ("",)) -> list[Array]:
        given = {name: cast(value, self.inputs[name].dtype) for name, value in feeds.items()}
        outputs = self._buckets.run(given)
        if outputs is None:
            outputs = self._run(given)
        named = dict(zip(self._outputs, outputs, strict=True))
        return [np.asarray(named[find_output(self._outputs, name)], np.float32) for name in wanted]

    def save_memory(self) -> bool:
        return False

    def check_output(self, name: str) -> None:
        find_output(self._outputs, name)

    def _specialise(self, feeds: Feeds) -> Run:
        """The graph for the shapes of ``feeds`` only: layouts and kernels are chosen for them."""
        model = self._model.clone()
        model.reshape({name: list(value.shape) for name, value in feeds.items()})
        return self._compile(model)

    def _compile(self, model: Any) -> Run:
        request = self._core.compile_model(model, _DEVICE, self._settings).create_infer_request()

        def run(feeds: Feeds) -> Sequence[Array]:
            # The request's own memory is written again at its next run.
            return [np.array(one) for one in request.infer(feeds, share_inputs=True).values()]

        return run


def _precision(core: Any, dtype: str) -> str:
    if dtype not in PRECISIONS:
        raise ValueError(f"dtype is {dtype!r}: it must be one of {', '.join(PRECISIONS)}")
    if dtype == "bfloat16" and not _has_bf16(core):
        _log.warning("this processor does not compute in bfloat16: it runs in float32")
        return "f32"
    return PRECISIONS[dtype]


def _has_bf16(core: Any) -> bool:
    return "BF16" in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")


def _most(path: Path, steady: bool) -> int:
    """How many variants of a graph."""
    if steady:
        return _VARIANTS  # the bytes may not depend on what else runs on the machine
    free = memory_available()
    return (
        _VARIANTS
        if free is None
        else min(_VARIANTS, int(free * _SHARE) // (_COPIES * size_of(path)))
    )


def _read(core: Any, path: Path) -> Any:
    try:
        return core.read_model(path)
    except Exception as error:
        failure = error
    with tempfile.TemporaryDirectory() as folder:
        try:
            return core.read_model(_gathered(path, Path(folder)))
        except Exception as error:
            first = (str(error) or str(failure)).strip().split("\n")[-1]
            why = find_broken(path.parents[1]) or first
            raise ValueError(f"{path} cannot be loaded: {why}") from error


def _unpacked(model: Any) -> Any:
    """With weights of half precision made float32 once, and not again for each variant."""
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    return model


def _gathered(path: Path, folder: Path) -> Path:
    """A graph with the weights that it has outside of its own folder, where OpenVINO looks not."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(folder / path.name)
    lent = lend_weights(options, path)
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    del lent
    return folder / path.name


def _port(entry: Any) -> Port:
    sides = entry.get_partial_shape()
    shape = tuple(side.get_length() if side.is_static else None for side in sides)
    return Port(_name(entry), entry.get_element_type().to_dtype(), shape)


def _name(entry: Any) -> str:
    return str(entry.get_any_name())
