"""Opens an onnxruntime session as a model's config asks: options, providers, files.

The parameters are those that Triton's onnxruntime backend documents, under the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nerite.backends.base import ModelSpec
from nerite.backends.together import flag, number
from nerite.core.cores import usable_cores
from nerite.core.errors import InferenceError, Status, invalid

_FILE = "model.onnx"
# Beginnings of the names that onnxruntime itself gives to entries of a session's configuration.
_ENTRIES = ("session.", "optimization.", "ep.", "mlas.")
_SHRINKAGE = "memory.enable_memory_arena_shrinkage"

# Parameters of older configs and the CUDA provider's options, with the names of its numbers.
_CUDA = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
    "gpu_mem_limit": (),
    "do_copy_in_default_stream": (),
}
_TENSORRT = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
_PRECISIONS = {"FP32": "", "FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable"}
_PRECISIONS["INT8"] = "trt_int8_enable"


def open_session(spec: ModelSpec) -> Any:
    """The session of a model's file. Raises InferenceError."""
    file = _model_file(spec)
    import onnxruntime

    options = _options(spec, onnxruntime)
    providers = _providers(spec, onnxruntime)
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:
        raise onnx_error(error) from None


def run_options(spec: ModelSpec) -> Any:
    """What every run of the session is told; None for nothing."""
    if _SHRINKAGE not in spec.parameters:
        return None
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry(_SHRINKAGE, spec.parameters[_SHRINKAGE])
    return options


def onnx_error(error: Exception) -> InferenceError:
    """onnxruntime's exception in Triton's words."""
    text = str(error).strip()
    # "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid rank ..."
    parts = text.split(" : ", 3)
    if parts[0] == "[ONNXRuntimeError]" and len(parts) == 4:
        return InferenceError(Status.INTERNAL, f"onnx runtime error {parts[1]}: {parts[3]}")
    return InferenceError(Status.INTERNAL, f"onnx runtime error: {text}")


def _model_file(spec: ModelSpec) -> Path:
    file = spec.version_folder / (spec.config.get("default_model_filename") or _FILE)
    if file.is_dir():  # a large model and its external data
        file = file / _FILE
    if not file.is_file():
        text = f"unable to find '{file}' for model instance '{spec.instance}'"
        raise InferenceError(Status.UNAVAILABLE, text)
    return file


def _options(spec: ModelSpec, onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    _set_threads(spec, onnxruntime, options)
    _set_level(spec, onnxruntime, options)
    for name, attribute in (
        ("enable_mem_arena", "enable_cpu_mem_arena"),
        ("enable_mem_pattern", "enable_mem_pattern"),
    ):
        if name in spec.parameters:
            setattr(options, attribute, flag(spec.parameters, name, True))
    for name, value in spec.parameters.items():
        if name.startswith(_ENTRIES):
            options.add_session_config_entry(name, value)
    for library in spec.config.get("model_operations", {}).get("op_library_filename", ()):
        try:
            options.register_custom_ops_library(str(spec.folder / library))
        except Exception as error:
            raise invalid(f"model_operations: cannot load '{library}': {error}") from None
    return options


def _set_threads(spec: ModelSpec, onnxruntime: Any, options: Any) -> None:
    mode = number(spec.parameters, "execution_mode", 0)
    if mode not in (0, 1):
        raise invalid(
            "Invalid configuration value provided. Expected values for  execution_mode are 0 or 1 "
            f"but got {mode} ."
        )
    if mode == 1:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    # A pool that Triton shares among its sessions is here the only session's in its process.
    shared = flag(spec.settings, "enable-global-threadpool", False)
    counts = spec.settings if shared else spec.parameters
    for name, attribute in (
        ("intra_op_thread_count", "intra_op_num_threads"),
        ("inter_op_thread_count", "inter_op_num_threads"),
    ):
        count = number(counts, name, 0)
        if count > 0:
            setattr(options, attribute, count)
    if spec.device == "cpu" and not options.intra_op_num_threads:
        options.intra_op_num_threads = usable_cores()
    if _instances(spec) > 1 and "session.intra_op.allow_spinning" not in spec.parameters:
        # Each instance has its own threads; waiting in a loop they would take the others' cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")


def _instances(spec: ModelSpec) -> int:
    return sum(group.get("count", 1) for group in spec.config.get("instance_group", ()))


def _set_level(spec: ModelSpec, onnxruntime: Any, options: Any) -> None:
    level = spec.config.get("optimization", {}).get("graph", {}).get("level", 0)
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = {
        -1: levels.ORT_ENABLE_BASIC,
        1: levels.ORT_ENABLE_EXTENDED,
        2: levels.ORT_DISABLE_ALL,
    }.get(level, levels.ORT_ENABLE_ALL)


def _providers(spec: ModelSpec, onnxruntime: Any) -> list[Any]:
    """The execution providers in the order of preference, each with its options."""
    present = onnxruntime.get_available_providers()
    asked = spec.config.get("optimization", {}).get("execution_accelerators", {})
    providers = []
    if spec.device == "cuda":
        providers += _gpu_providers(spec, asked.get("gpu_execution_accelerator", ()), present)
    for accelerator in asked.get("cpu_execution_accelerator", ()):
        if accelerator["name"] != "openvino":
            raise _unknown(accelerator["name"])
        _need(spec, present, "OpenVINOExecutionProvider", "onnxruntime-openvino", "openvino")
        options = {"device_type": "CPU", **accelerator.get("parameters", {})}
        providers.append(("OpenVINOExecutionProvider", options))
    return [*providers, "CPUExecutionProvider"]


def _gpu_providers(
    spec: ModelSpec, accelerators: list[Mapping[str, Any]], present: list[str]
) -> list[tuple[str, dict[str, Any]]]:
    device = {"device_id": spec.device_id}
    cuda = {**_cuda_options(spec.parameters), **device}
    providers: list[tuple[str, dict[str, Any]]] = []
    for accelerator in accelerators:
        name, parameters = accelerator["name"], accelerator.get("parameters", {})
        if name == "tensorrt":
            _need(spec, present, "TensorrtExecutionProvider", "onnxruntime-gpu", name)
            options = {**_tensorrt_options(parameters), **device}
            providers.append(("TensorrtExecutionProvider", options))
        elif name == "cuda":
            cuda = {**cuda, **parameters, **device}
        else:
            raise _unknown(name)
    if "CUDAExecutionProvider" not in present:
        raise InferenceError(
            Status.UNSUPPORTED,
            f"model '{spec.name}' is to run on a GPU, and this onnxruntime cannot: install "
            "onnxruntime-gpu, or set KIND_CPU in its instance_group",
        )
    return [*providers, ("CUDAExecutionProvider", cuda)]


def _need(spec: ModelSpec, present: list[str], provider: str, package: str, name: str) -> None:
    if provider not in present:
        raise InferenceError(
            Status.UNSUPPORTED,
            f"model '{spec.name}' asks for the execution accelerator '{name}', and this "
            f"onnxruntime has only {', '.join(present)}: install {package}, or remove it from "
            "optimization.execution_accelerators",
        )


def _unknown(name: str) -> InferenceError:
    return invalid(f"unknown Execution Accelerator '{name}' is requested")


def _cuda_options(parameters: Mapping[str, str]) -> dict[str, str]:
    options = {}
    for name, choices in _CUDA.items():
        text = parameters.get(name)
        if text is None:
            continue
        if choices:
            choice = number(parameters, name, 0)
            if not 0 <= choice < len(choices):
                raise invalid(f"unsupported {name} value '{choice}' is requested")
            text = choices[choice]
        options[name] = text
    return options


def _tensorrt_options(parameters: Mapping[str, str]) -> dict[str, str]:
    options = {}
    for name, value in parameters.items():
        if name == "precision_mode":
            if value not in _PRECISIONS:
                raise invalid(f"unsupported precision mode '{value}' is requested")
            if _PRECISIONS[value]:
                options[_PRECISIONS[value]] = "1"
        elif name in _TENSORRT or name.startswith("trt_"):
            options[_TENSORRT.get(name, name)] = value
        else:
            raise invalid(
                f"unknown parameter '{name}' is provided for TensorRT Execution Accelerator"
            )
    return options
