"""The paddle backend: a predictor of Paddle Inference over model.pdmodel and model.pdiparams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerite.backends.base import Config, ModelSpec
from nerite.backends.ragged import Ragged
from nerite.backends.together import answer, expect, flag, number, output_types, request_inputs
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.tensor import Tensor

FILES = ("model.pdmodel", "model.json")  # Paddle 2's programs, and Paddle 3's
_WEIGHTS = "model.pdiparams"
_PRECISIONS = {"trt_fp32": "Float32", "trt_fp16": "Half", "trt_int8": "Int8"}
_SHAPES = ("min_shape", "max_shape", "opt_shape")


class PaddleBackend:
    """One predictor on one device."""

    def load(self, spec: ModelSpec) -> Config:
        file = _model_file(spec)
        _check(spec.config, file)
        try:
            from paddle import inference
        except ImportError:
            text = f"model '{spec.name}' needs PaddlePaddle: pip install 'nerite[paddle]'"
            raise InferenceError(Status.UNSUPPORTED, text) from None
        try:
            self._predictor = inference.create_predictor(_options(spec, file, inference))
        except InferenceError:
            raise
        except Exception as error:
            text = f"failed to load model '{file}': {error}"
            raise InferenceError(Status.INTERNAL, text) from None
        config = spec.config
        self._outputs = [one["name"] for one in config["output"]]
        self._types = output_types(config)
        _check_names("input", request_inputs(config), self._predictor.get_input_names())
        _check_names("output", self._types, self._predictor.get_output_names())
        self._ragged = Ragged.of(config)
        return config

    def execute(self, calls: list[Call]) -> None:
        answer(calls, self._outputs, self._compute, self._ragged)

    def _compute(self, inputs: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
        try:
            for name, array in inputs.items():
                handle = self._predictor.get_input_handle(name)
                handle.copy_from_cpu(np.ascontiguousarray(array))
            self._predictor.run()
            found = {name: self._predictor.get_output_handle(name).copy_to_cpu() for name in wanted}
        except Exception as error:
            text = f"Paddle execute failure: {error}"
            raise InferenceError(Status.INTERNAL, text) from None
        return {name: expect(name, array, self._types[name]) for name, array in found.items()}

    def unload(self) -> None:
        del self._predictor


def _model_file(spec: ModelSpec) -> Path:
    given = spec.config.get("default_model_filename")
    names = (given,) if given else FILES
    for name in names:
        if (spec.version_folder / name).is_file():
            return spec.version_folder / name
    text = f"unable to find '{spec.version_folder / names[0]}' for model '{spec.name}'"
    raise InferenceError(Status.NOT_FOUND, text)


def _check(config: Config, file: Path) -> None:
    for kind in ("input", "output"):
        if not config.get(kind):
            raise invalid(
                f"must specify at least one {kind} for model '{config.get('name', '')}': Paddle "
                f"does not tell the types of the tensors of '{file.name}', so config.pbtxt must"
            )


def _check_names(kind: str, given: Iterable[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            text = f"unexpected inference {kind} '{name}', allowed {kind}s are: {', '.join(known)}"
            raise invalid(text)


def _options(spec: ModelSpec, file: Path, inference: Any) -> Any:
    weights = file.with_name(_WEIGHTS)
    options = inference.Config(str(file), str(weights) if weights.is_file() else "")
    options.disable_glog_info()
    options.enable_memory_optim()
    asked = spec.config.get("optimization", {}).get("execution_accelerators", {})
    if spec.device == "cpu":
        options.disable_gpu()
        _set_cpu(options, asked.get("cpu_execution_accelerator", ()))
    else:
        _set_gpu(spec, options, inference, asked.get("gpu_execution_accelerator", ()))
    return options


def _set_cpu(options: Any, accelerators: Iterable[Mapping[str, Any]]) -> None:
    for accelerator in accelerators:
        name, parameters = accelerator["name"], accelerator.get("parameters", {})
        threads = number(parameters, "cpu_threads", 0)
        if threads > 0:
            options.set_cpu_math_library_num_threads(threads)
        if name == "mkldnn":
            options.enable_onednn()
            options.set_onednn_cache_capacity(number(parameters, "capacity", 10))
        elif name == "ort":
            options.enable_onnxruntime()
            options.enable_ort_optimization()
        elif name:
            raise invalid(
                f"unknown cpu_execution_accelerator name '{name}' is provided. Available choices "
                "are [mkldnn, ort]"
            )


def _set_gpu(
    spec: ModelSpec, options: Any, inference: Any, accelerators: Iterable[Mapping[str, Any]]
) -> None:
    import paddle

    if not paddle.is_compiled_with_cuda():
        raise InferenceError(
            Status.UNSUPPORTED,
            f"model '{spec.name}' is to run on a GPU, and this PaddlePaddle cannot: install "
            "paddlepaddle-gpu, or set KIND_CPU in its instance_group",
        )
    options.enable_use_gpu(100, spec.device_id)
    shapes: dict[str, dict[str, list[int]]] = {}
    for accelerator in accelerators:
        name, parameters = accelerator["name"], accelerator.get("parameters", {})
        if name == "tensorrt":
            _set_tensorrt(options, inference, parameters)
        elif name in _SHAPES:
            shapes[name] = {key: [*map(int, text.split())] for key, text in parameters.items()}
        else:
            raise invalid(
                f"unknown name '{name}' is provided for GPU execution accelerator Available "
                f"choices are [tensorrt, {', '.join(_SHAPES)}]"
            )
    if shapes:
        options.set_trt_dynamic_shape_info(*(shapes.get(name, {}) for name in _SHAPES))


def _set_tensorrt(options: Any, inference: Any, parameters: Mapping[str, str]) -> None:
    precision = parameters.get("precision", "trt_fp32").lower()
    if precision not in _PRECISIONS:
        raise invalid(
            f"unknown precision type '{precision}' is provided. Available choices are "
            f"[{', '.join(_PRECISIONS)}]"
        )
    options.enable_tensorrt_engine(
        workspace_size=number(parameters, "workspace_size", 1 << 30),
        max_batch_size=number(parameters, "max_batch_size", 1),
        min_subgraph_size=number(parameters, "min_graph_size", 3),
        precision_mode=getattr(inference.PrecisionType, _PRECISIONS[precision]),
        use_static=False,
        use_calib_mode=False,
    )
    if flag(parameters, "enable_tensorrt_oss", False):
        options.enable_tensorrt_varseqlen()
