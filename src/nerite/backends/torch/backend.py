"""TorchBackend: one PyTorch program that executes calls, several together where they batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerite.backends.base import Config, ModelSpec
from nerite.backends.ragged import Ragged
from nerite.backends.together import (
    answer,
    as_text,
    expect,
    flag,
    number,
    output_types,
    request_inputs,
)
from nerite.backends.torch.module import Module
from nerite.backends.torch.naming import positions, results
from nerite.backends.torch.program import Program, open_program
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.tensor import Tensor, numpy_dtype

_FILES = ("model.pt", "model.pt2")
_RUNTIME = "model.py"


class TorchBackend:
    """A TorchScript, torch.export or AOTInductor program on one device."""

    def load(self, spec: ModelSpec) -> Config:
        file = _model_file(spec)
        _check(spec, file)
        try:
            import torch
        except ImportError:
            text = f"model '{spec.name}' needs PyTorch: pip install 'nerite[torch]'"
            raise InferenceError(Status.UNSUPPORTED, text) from None
        if spec.device == "cuda" and not torch.cuda.is_available():
            raise InferenceError(
                Status.UNSUPPORTED,
                f"model '{spec.name}' is to run on a GPU, and this PyTorch sees none: install one "
                "for CUDA, or set KIND_CPU in its instance_group",
            )
        _set_options(spec.parameters, torch)
        self._torch = torch
        self._device = "cpu" if spec.device == "cpu" else f"cuda:{spec.device_id}"
        inference = flag(spec.parameters, "INFERENCE_MODE", True)
        self._mode = torch.inference_mode if inference else torch.no_grad
        self._clean = spec.device == "cuda" and flag(
            spec.parameters, "ENABLE_CACHE_CLEANING", False
        )
        self._program: Program
        if file.suffix == ".py":
            self._program = Module(file, torch.device(self._device), spec.parameters)
        else:
            self._program = open_program(file, spec.device, spec.device_id)
        self._places = self._program.places(request_inputs(spec.config))
        self._outputs = [one["name"] for one in spec.config["output"]]
        self._types = output_types(spec.config)
        self._results: dict[str, int] = {}
        self._ragged = Ragged.of(spec.config)
        return spec.config

    def execute(self, calls: list[Call]) -> None:
        answer(calls, self._outputs, self._compute, self._ragged)
        if self._clean:
            self._torch.cuda.empty_cache()

    def _compute(self, inputs: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
        values = {self._places[name]: self._enter(name, array) for name, array in inputs.items()}
        try:
            with self._mode():
                found = list(results(self._program.run(values)))
        except Exception as error:
            text = f"PyTorch execute failure: {error}"
            raise InferenceError(Status.INTERNAL, text) from None
        if not self._results:
            known = [names for names, _ in found]
            self._results = positions("output", list(self._types), known)
        return {
            name: expect(name, self._leave(name, found[self._results[name]][1]), self._types[name])
            for name in wanted
        }

    def _enter(self, name: str, array: Tensor) -> Any:
        """A tensor of the program's device, over the request's own memory where that is the CPU."""
        if array.dtype == object:
            return as_text(name, array).reshape(-1).tolist()
        if not array.flags.writeable:
            array = array.copy()  # a program may work in place
        if array.dtype == numpy_dtype("BF16"):
            tensor = self._torch.from_numpy(array.view(np.int16)).view(self._torch.bfloat16)
        else:
            tensor = self._torch.from_numpy(array)
        return tensor.to(self._device)

    def _leave(self, name: str, value: Any) -> Tensor:
        if isinstance(value, list):
            return np.array([item.encode() for item in value], dtype=object)
        if not isinstance(value, self._torch.Tensor):
            found = type(value).__name__
            raise invalid(f"output '{name}' must be of type Tensor or List[str], received {found}")
        if not value.dim():
            raise invalid(f"output '{name}' is a scalar which is not supported.")
        value = value.detach().cpu()
        if value.dtype == self._torch.bfloat16:
            bits: Tensor = value.contiguous().view(self._torch.int16).numpy()
            return bits.view(numpy_dtype("BF16"))
        array: Tensor = value.numpy()
        return array

    def unload(self) -> None:
        del self._program


def _model_file(spec: ModelSpec) -> Path:
    given = spec.config.get("default_model_filename")
    in_python = spec.config.get("runtime") == _RUNTIME
    names: tuple[str, ...] = (_RUNTIME, *_FILES) if in_python else _FILES
    if given and given != _FILES[0]:  # which every config without a name of its own has
        names = (given,)
    for name in names:
        if (spec.version_folder / name).is_file():
            return spec.version_folder / name
    text = f"unable to find '{spec.version_folder / names[0]}' for model instance '{spec.instance}'"
    raise InferenceError(Status.UNAVAILABLE, text)


def _check(spec: ModelSpec, file: Path) -> None:
    for kind in ("input", "output"):
        if not spec.config.get(kind):
            raise invalid(
                f"must specify at least one {kind} for model '{spec.name}': '{file.name}' does not "
                "tell the types and shapes of its tensors, so config.pbtxt must"
            )


def _set_options(parameters: Mapping[str, str], torch: Any) -> None:
    """What holds for the whole process, which is this instance's alone."""
    for names, setter in (
        (("INTRA_OP_THREAD_COUNT", "NUM_THREADS"), torch.set_num_threads),
        (("INTER_OP_THREAD_COUNT", "NUM_INTEROP_THREADS"), torch.set_num_interop_threads),
    ):
        for name in names:
            count = number(parameters, name, 0)
            if count > 0:
                setter(count)
    torch.backends.cudnn.enabled = not flag(parameters, "DISABLE_CUDNN", False)
    if flag(parameters, "DISABLE_OPTIMIZED_EXECUTION", False):
        torch._C._set_graph_executor_optimize(False)
    for name, switch in (
        ("ENABLE_JIT_EXECUTOR", torch._C._jit_set_profiling_executor),
        ("ENABLE_JIT_PROFILING", torch._C._jit_set_profiling_mode),
        ("ENABLE_TENSOR_FUSER", torch._C._jit_set_texpr_fuser_enabled),
    ):
        if name in parameters:
            switch(flag(parameters, name, True))
