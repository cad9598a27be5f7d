"""config.pbtxt to ModelConfig, the protobuf message itself: read, complete, check, show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2

from nerite.backends.gpus import gpus, uses_gpu
from nerite.core.errors import invalid
from nerite.repository.problem import Breach
from nerite.repository.text import ConfigText

ModelConfig: TypeAlias = model_config_pb2.ModelConfig

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}

# What a backend's model file is called, to guess the backend where the config names none.
_BACKEND_BY_FILE = {
    "model.py": "python",
    "model_index.json": "diffusion",
    "model.onnx": "onnxruntime",
    "model.pt": "pytorch",
    "model.pt2": "pytorch",
    "model.pdmodel": "paddle",
    "model.plan": "tensorrt",
}
_DEFAULT_FILE = {
    "onnxruntime": "model.onnx",
    "python": "model.py",
    "pytorch": "model.pt",
    "tensorrt": "model.plan",
}
_PLATFORM = {
    "onnxruntime": "onnxruntime_onnx",
    "pytorch": "pytorch_libtorch",
    "tensorrt": "tensorrt_plan",
}
_BACKEND_BY_PLATFORM = {**{name: key for key, name in _PLATFORM.items()}, "torch_aoti": "pytorch"}
_TWO_ON_CPU = ("onnxruntime",)  # instances of a group that says no count, as Triton has it
_SEQUENCE_IDLE_US = 1_000_000


def read(path: Path) -> ModelConfig:
    """Parse a config.pbtxt; InferenceError with file, line, column and what was expected."""
    return ConfigText(path).parse()


def from_dict(config: Mapping[str, Any]) -> ModelConfig:
    """A ModelConfig from Triton's JSON form; InferenceError where it does not fit."""
    try:
        return json_format.ParseDict(dict(config), ModelConfig())
    except json_format.ParseError as error:
        raise invalid(f"model configuration: {error}") from None


def to_dict(message: Message, *, defaults: bool = True) -> dict[str, Any]:
    """Triton's JSON form: snake_case names, 64-bit integers as numbers.

    defaults: show fields that were not set, as `/config` does (messages and oneofs excepted).
    """
    shown: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            values = getattr(message, field.name)
            if len(values) or defaults:
                shown[field.name] = _repeated(field, values, defaults)
        elif field.has_presence:
            if message.HasField(field.name):
                shown[field.name] = _single(field, getattr(message, field.name), defaults)
        else:
            value = getattr(message, field.name)
            if defaults or value != field.default_value:
                shown[field.name] = _single(field, value, defaults)
    return shown


def _repeated(field: Any, values: Any, defaults: bool) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value_field = field.message_type.fields_by_name["value"]
        return {str(key): _single(value_field, values[key], defaults) for key in sorted(values)}
    return [_single(field, value, defaults) for value in values]


def _single(field: Any, value: Any, defaults: bool) -> Any:
    if field.message_type is not None:
        return to_dict(value, defaults=defaults)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if field.cpp_type in _INTEGERS:
        return int(value)
    return value


def is_ensemble(config: ModelConfig) -> bool:
    return bool(config.platform == "ensemble" or config.HasField("ensemble_scheduling"))


def complete(config: ModelConfig, name: str, folder: Path, versions: list[int]) -> None:
    """Fill in what the folder tells: the name, the backend, one instance on the CPU or GPU."""
    if not config.name:
        config.name = name
    if is_ensemble(config):  # its platform says it all, and it has no instances
        normalize(config)
        return
    if not config.backend and config.platform:
        config.backend = _backend_of(config)
    if not config.backend:
        config.backend = _guess_backend(folder, versions)
    if not config.platform:
        config.platform = _PLATFORM.get(config.backend, "")
    if not config.default_model_filename:
        config.default_model_filename = _DEFAULT_FILE.get(config.backend, "")
    _complete_instances(config)
    normalize(config)


def _backend_of(config: ModelConfig) -> str:
    """What a platform names; one that is not Triton's may be a backend, unless the file is not."""
    named = _BACKEND_BY_PLATFORM.get(config.platform)
    if named is None and config.platform not in _PLATFORM:
        file = _BACKEND_BY_FILE.get(config.default_model_filename, "")
        named = file if file in _PLATFORM else None
    return named or config.platform


def platform(config: ModelConfig) -> Iterator[Breach]:
    """What is wrong where the platform is another backend's."""
    if config.backend not in _PLATFORM or config.platform == config.backend:
        return
    if _BACKEND_BY_PLATFORM.get(config.platform) != config.backend:
        yield Breach(
            f"unexpected 'platform' and 'backend' pair, got:{config.platform}, {config.backend}.",
            ("platform",),
            f"Remove 'platform', or say \"{_PLATFORM[config.backend]}\".",
        )


def _place(backend: str, group: Any, present: list[int]) -> None:
    """On the GPUs there are, where no kind is given: all, or those that the group names."""
    if group.kind == group.KIND_AUTO and not present:
        group.kind = group.KIND_CPU
        del group.gpus[:]
    elif group.kind == group.KIND_AUTO and not group.gpus:
        group.kind = group.KIND_GPU if uses_gpu(backend) else group.KIND_CPU
    elif group.kind == group.KIND_AUTO and set(group.gpus) <= set(present):
        group.kind = group.KIND_GPU
    if group.kind == group.KIND_GPU and not group.gpus:
        group.gpus.extend(present)


def _complete_instances(config: ModelConfig) -> None:
    present = gpus()
    if not config.instance_group:
        config.instance_group.add(name=config.name)
    for index, group in enumerate(config.instance_group):
        if not group.name:
            group.name = f"{config.name}_{index}"
        _place(config.backend, group, present)
        if group.count < 1:
            two = group.kind == group.KIND_CPU and config.backend in _TWO_ON_CPU
            group.count = 2 if two else 1


def normalize(config: ModelConfig) -> None:
    """Write Triton's defaults where they are not those of protobuf, as `/config` shows them."""
    if not config.version_policy.WhichOneof("policy_choice"):
        config.version_policy.latest.num_versions = 1
    if config.HasField("dynamic_batching"):
        _prefer_largest(config, config.dynamic_batching)
    if config.HasField("sequence_batching"):
        sequence = config.sequence_batching
        if not sequence.max_sequence_idle_microseconds:
            sequence.max_sequence_idle_microseconds = _SEQUENCE_IDLE_US
        if sequence.HasField("oldest"):
            _prefer_largest(config, sequence.oldest)
    if not config.HasField("ensemble_scheduling"):
        for memory in ("input_pinned_memory", "output_pinned_memory"):
            if not config.optimization.HasField(memory):
                getattr(config.optimization, memory).enable = True


def _prefer_largest(config: ModelConfig, batching: Any) -> None:
    if not batching.preferred_batch_size and config.max_batch_size > 0:
        batching.preferred_batch_size.append(config.max_batch_size)


def _guess_backend(folder: Path, versions: list[int]) -> str:
    for version in versions:
        for file, backend in _BACKEND_BY_FILE.items():
            version_folder = folder / str(version)
            if (version_folder / file).exists() or any(version_folder.glob(f"*/{file}")):
                return backend
    stem, _, suffix = folder.name.rpartition(".")
    if stem and suffix:
        return suffix
    known = ", ".join(_BACKEND_BY_FILE)
    raise invalid(
        f"Invalid model name: Could not determine backend for model '{folder.name}' with no "
        "backend in model configuration. Expected model name of the form 'model.<backend_name>'. "
        f"Or name a backend in {folder / 'config.pbtxt'} (for instance "
        f'backend: "python"), or put one of {known} into the version folder.'
    )


def datatype(data_type: int) -> str:
    """The protocol's name of a config data type: TYPE_FP32 is "FP32", TYPE_STRING is "BYTES"."""
    name = model_config_pb2.DataType.Name(data_type).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name
