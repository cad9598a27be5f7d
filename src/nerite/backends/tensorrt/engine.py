"""A TensorRT plan: what its tensors are, and one execution context that runs it.

Memory on the GPU is PyTorch's, which TensorRT is handed the addresses of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.tensor import Tensor, numpy_dtype

# The names of tensorrt.DataType, in the protocol's and in PyTorch's words.
_TYPES = {
    "FLOAT": ("FP32", "float32"),
    "HALF": ("FP16", "float16"),
    "BF16": ("BF16", "bfloat16"),
    "INT8": ("INT8", "int8"),
    "INT32": ("INT32", "int32"),
    "INT64": ("INT64", "int64"),
    "UINT8": ("UINT8", "uint8"),
    "BOOL": ("BOOL", "bool"),
}


@dataclass(frozen=True)
class Declared:
    """One tensor of a plan. shape: free dimensions are -1. values: it is read on the CPU, as the
    shape of another."""

    name: str
    datatype: str
    torch_type: str
    shape: tuple[int, ...]
    is_input: bool
    values: bool


@dataclass(frozen=True)
class Profile:
    """The least and the largest shape of each input that a plan was built for."""

    number: int
    least: Mapping[str, tuple[int, ...]]
    most: Mapping[str, tuple[int, ...]]

    def holds(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        return all(
            len(shape) == len(self.least[name])
            and all(
                low <= dim <= high
                for low, dim, high in zip(self.least[name], shape, self.most[name], strict=True)
            )
            for name, shape in shapes.items()
        )


class Engine:
    """A plan on one GPU. Not for several threads at once."""

    def __init__(self, file: Path, device: str, profiles: Sequence[int] = ()) -> None:
        """device: PyTorch's name of it. profiles: those to use, all when empty.

        Raises InferenceError for a file that this TensorRT does not take, ImportError without
        TensorRT or PyTorch.
        """
        import tensorrt
        import torch

        self._torch = torch
        self._trt = tensorrt
        self._device = torch.device(device)
        self._log = _logger(tensorrt)
        tensorrt.init_libnvinfer_plugins(self._log, "")
        self._runtime = tensorrt.Runtime(self._log)
        with self._on_device():
            self._engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
            if self._engine is None:
                text = f"unable to load plan '{file}': {self._log.last or 'no reason was given'}"
                raise InferenceError(Status.INTERNAL, text)
            self._context = self._engine.create_execution_context()
            self._stream = torch.cuda.Stream(self._device)
        self.tensors = self._read_tensors()
        self.profiles = self._read_profiles(profiles)
        self._profile = -1

    def _on_device(self) -> Any:
        return self._torch.cuda.device(self._device)

    def _read_tensors(self) -> dict[str, Declared]:
        engine, found = self._engine, {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            kind = engine.get_tensor_dtype(name).name
            if kind not in _TYPES:
                text = f"tensor '{name}' is {kind}, which no client can send or get"
                raise InferenceError(Status.UNSUPPORTED, text)
            found[name] = Declared(
                name,
                *_TYPES[kind],
                tuple(engine.get_tensor_shape(name)),
                engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT,
                engine.is_shape_inference_io(name),
            )
        return found

    def _read_profiles(self, wanted: Sequence[int]) -> list[Profile]:
        count = self._engine.num_optimization_profiles
        for number in wanted:
            if not 0 <= number < count:
                raise invalid(f"the plan has no optimization profile {number}: it has {count}")
        inputs = [one.name for one in self.tensors.values() if one.is_input and not one.values]
        profiles = []
        for number in wanted or range(count):
            shapes = {name: self._engine.get_tensor_profile_shape(name, number) for name in inputs}
            least = {name: tuple(three[0]) for name, three in shapes.items()}
            most = {name: tuple(three[2]) for name, three in shapes.items()}
            profiles.append(Profile(number, least, most))
        return profiles

    def run(self, inputs: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
        """Compute. Raises InferenceError: shapes that no profile holds, a failed execution."""
        with self._on_device(), self._torch.cuda.stream(self._stream):
            self._choose_profile({name: array.shape for name, array in inputs.items()})
            kept = [self._bind_input(name, array) for name, array in inputs.items()]
            missing = self._context.infer_shapes()
            if missing:
                raise invalid(f"the shapes of {', '.join(missing)} are not known")
            outputs = {
                one.name: self._bind_output(one)
                for one in self.tensors.values()
                if not one.is_input
            }
            done = self._context.execute_async_v3(self._stream.cuda_stream)
            found = {name: self._to_cpu(outputs[name]) for name in wanted} if done else {}
            self._stream.synchronize()
        kept.clear()  # the GPU has read them
        if not done:
            text = f"TensorRT execute failure: {self._log.last or 'no reason was given'}"
            raise InferenceError(Status.INTERNAL, text)
        return {name: _array(tensor, self._torch) for name, tensor in found.items()}

    def _choose_profile(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        held = {name: shape for name, shape in shapes.items() if not self.tensors[name].values}
        for profile in self.profiles:
            if profile.holds(held):
                break
        else:
            told = ", ".join(f"'{name}' {list(shape)}" for name, shape in held.items())
            built = "; ".join(
                f"'{name}' {list(low)} to {list(profile.most[name])}"
                for profile in self.profiles
                for name, low in profile.least.items()
            )
            raise invalid(f"no optimization profile of the plan holds {told}; it has {built}")
        if profile.number != self._profile:
            self._context.set_optimization_profile_async(profile.number, self._stream.cuda_stream)
            self._profile = profile.number

    def _bind_input(self, name: str, array: Tensor) -> Any:
        """Give an input's shape and address; what must live until the execution is over."""
        declared = self.tensors[name]
        if not self._context.set_input_shape(name, array.shape):
            raise invalid(f"the plan does not take shape {list(array.shape)} for input '{name}'")
        array = np.ascontiguousarray(array)
        if declared.values:
            self._context.set_tensor_address(name, array.ctypes.data)
            return array
        bits = array.view(np.int16) if declared.datatype == "BF16" else array
        tensor = self._torch.from_numpy(bits if bits.flags.writeable else bits.copy())
        if declared.datatype == "BF16":
            tensor = tensor.view(self._torch.bfloat16)
        tensor = tensor.to(self._device)
        self._context.set_tensor_address(name, tensor.data_ptr())
        return tensor

    def _bind_output(self, declared: Declared) -> Any:
        shape = tuple(self._context.get_tensor_shape(declared.name))
        if -1 in shape:
            text = f"the shape of output '{declared.name}' depends on the data, not on the inputs'"
            raise InferenceError(Status.UNSUPPORTED, text)
        kind = getattr(self._torch, declared.torch_type)
        place = "cpu" if declared.values else self._device
        tensor = self._torch.empty(shape, dtype=kind, device=place)
        self._context.set_tensor_address(declared.name, tensor.data_ptr())
        return tensor

    def _to_cpu(self, tensor: Any) -> Any:
        return tensor.to("cpu")  # on the same stream, so after the execution


def _array(tensor: Any, torch: Any) -> Tensor:
    if tensor.dtype == torch.bfloat16:
        bits: Tensor = tensor.view(torch.int16).numpy()
        return bits.view(numpy_dtype("BF16"))
    array: Tensor = tensor.numpy()
    return array


def _logger(tensorrt: Any) -> Any:
    levels = tensorrt.ILogger.Severity
    failures = (levels.INTERNAL_ERROR, levels.ERROR)

    class Log(tensorrt.ILogger):  # type: ignore[misc]  # it exists only where TensorRT does
        """Keeps TensorRT's last complaint: its calls return no reason."""

        def __init__(self) -> None:
            super().__init__()
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in failures:
                self.last = message
                print(f"TensorRT: {message}", flush=True)

    return Log()
