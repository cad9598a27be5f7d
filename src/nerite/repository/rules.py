"""What a completed ModelConfig must hold before its model is served, in Triton's sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tritonclient.grpc import model_config_pb2

from nerite.core.errors import invalid
from nerite.repository.config import ModelConfig, check_platform
from nerite.repository.sequence_rules import sequence_batching

_INPUT_KINDS = model_config_pb2.BatchInput.Kind
_OUTPUT_KINDS = model_config_pb2.BatchOutput.Kind
_BATCH_TYPES = (model_config_pb2.TYPE_INT32, model_config_pb2.TYPE_FP32)


def check(config: ModelConfig) -> None:
    """Raises InferenceError that names the model, the field and the value."""
    check_platform(config)
    if config.max_batch_size < 0:
        raise invalid(
            f"'max_batch_size' must be non-negative value for {config.name}, "
            f"not {config.max_batch_size}"
        )
    for rule in _RULES:
        for problem in rule(config):
            raise invalid(f"{problem} for {config.name}")


def _dynamic_batching(config: ModelConfig) -> Iterator[str]:
    if not config.HasField("dynamic_batching"):
        return
    batching = config.dynamic_batching
    for size in batching.preferred_batch_size:
        if size <= 0:
            yield "dynamic batching preferred size must be positive"
        if size > config.max_batch_size:
            yield "dynamic batching preferred size must be <= max batch size"
    levels = batching.priority_levels
    if levels:
        if not 1 <= batching.default_priority_level <= levels:
            yield f"default priority level must be in range [1, {levels}]"
        if any(not 1 <= level <= levels for level in batching.priority_queue_policy):
            yield f"priority queue policy must have priority level in range [1, {levels}]"
    if batching.preserve_ordering:
        if levels > 1:
            yield "Only one priority level is allowed when 'preserve_ordering' is true"
        policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
        if any(one.default_timeout_microseconds and one.timeout_action for one in policies):
            yield (
                "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true"
            )


def _metrics(config: ModelConfig) -> Iterator[str]:
    for control in config.model_metrics.metric_control:
        if not control.HasField("metric_identifier"):
            yield "metric control must specify 'metric_identifier'"
        if not control.metric_identifier.family:
            yield "metric identifier must specify non-empty 'family'"
        if not control.HasField("histogram_options"):
            yield "metric control must specify 'histogram_options'"
        if not control.histogram_options.buckets:
            yield "histogram options must specify non-empty 'buckets'"


def _metric_tags(config: ModelConfig) -> Iterator[str]:
    """One label that Prometheus does not take costs it the metrics of all models."""
    for key in config.metric_tags:
        if not re.fullmatch("[A-Za-z0-9_]+", key):
            takes = "which takes A-Z, a-z, 0-9 and _"
            yield f"metric_tags key '{key}' cannot be in a label's name, {takes}"


def _response_cache(config: ModelConfig) -> Iterator[str]:
    if not config.response_cache.enable:
        return
    text = f"Response Cache does not currently support model {config.name} with "
    remedy = ". Please disable the response cache."
    if config.HasField("sequence_batching"):
        raise invalid(f"{text}sequence batching scheduler{remedy}")
    if config.model_transaction_policy.decoupled:
        raise invalid(f"{text}'decoupled' transaction policy{remedy}")
    yield from ()


def _tensors(config: ModelConfig) -> Iterator[str]:
    for kind, tensors in (("input", config.input), ("output", config.output)):
        names = set()
        for tensor in tensors:
            yield from _tensor(config, f"model {kind} ", tensor)
            if tensor.name in names:
                raise invalid(f"model '{config.name}' has two {kind}s named '{tensor.name}'")
            names.add(tensor.name)
    for tensor in config.input:
        if tensor.format != tensor.FORMAT_NONE and len(tensor.dims) != 3:
            yield "model input NHWC/NCHW require 3 dims"


def _tensor(config: ModelConfig, where: str, tensor: Any) -> Iterator[str]:
    if not tensor.name:
        yield f"{where}must specify 'name'"
    where += f"'{tensor.name}' "
    if tensor.data_type == model_config_pb2.TYPE_INVALID:
        yield f"{where}must specify 'data_type'"
    if not tensor.dims:
        yield f"{where}must specify 'dims'"
    wildcard = "must be integer >= 1, or -1 to indicate a variable-size dimension"
    if any(dim < 1 and dim != -1 for dim in tensor.dims):
        yield f"{where}dimension {wildcard}"
    if tensor.HasField("reshape"):
        yield from _reshape(config, where, tensor, wildcard)
    if config.platform != "tensorrt_plan":
        if tensor.is_shape_tensor:
            yield "shape tensors are only supported for TensorRT platform"
        if tensor.is_non_linear_format_io:
            yield "Non-linear IO format is only supported for the TensorRT platform"


def _reshape(config: ModelConfig, where: str, tensor: Any, wildcard: str) -> Iterator[str]:
    shape, dims = tensor.reshape.shape, tensor.dims
    if not shape and not config.max_batch_size:
        yield (
            f"{where}cannot have empty reshape for non-batching model as scalar tensors are not "
            "supported"
        )
    if any(dim < 1 and dim != -1 for dim in shape):
        yield f"{where}reshape dimensions {wildcard}"
    if (-1 in dims) != (-1 in shape):
        yield f"{where}has different size for dims and reshape"
    counts, wanted = _counts(dims), _counts(shape)
    if len(counts) != len(wanted):
        yield f"{where}has different number of variable-size dimensions for dims and reshape"
    if counts != wanted:
        yield f"{where}has different size for dims and reshape"


def _counts(dims: Iterable[int]) -> list[int]:
    """The elements before, between and after the dimensions of any size."""
    counts = [1]
    for dim in dims:
        if dim == -1:
            counts.append(1)
        else:
            counts[-1] *= dim
    return counts


def _batch_tensors(config: ModelConfig) -> Iterator[str]:
    """What is made of a whole batch, and what is shared out among it."""
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    for kinds, what, entries in (
        (_INPUT_KINDS, "batch input", config.batch_input),
        (_OUTPUT_KINDS, "batch output", config.batch_output),
    ):
        for entry in entries:
            sources = entry.source_input
            if len(sources) != 1:
                kind = kinds.Name(entry.kind)
                yield f"{what} kind '{kind}' expects 1 source input, got {len(sources)}"
            for name in sources:
                if name not in inputs:
                    yield f"unknown source input name '{name}'"
    if any(entry.data_type not in _BATCH_TYPES for entry in config.batch_input):
        yield "batch input data type must be TYPE_INT32 or TYPE_FP32"
    for entry in config.batch_output:
        for name in entry.target_name:
            if name not in outputs:
                yield f"unknown target output name '{name}'"
            if list(entry.target_name).count(name) > 1:
                yield f"target output name '{name}' can only be specified once"


def _instance_groups(config: ModelConfig) -> Iterator[str]:
    for group in config.instance_group:
        where = f"instance group {group.name} of model {config.name} "
        if any(number < 0 for number in group.gpus):
            wrong = next(number for number in group.gpus if number < 0)
            raise invalid(
                f"{where}specifies invalid or unsupported gpu id {wrong}. GPUs with at least the "
                "minimum required CUDA compute compatibility have numbers from 0 on"
            )
        if group.gpus and group.kind in (group.KIND_CPU, group.KIND_MODEL):
            kind = model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind)
            raise invalid(f"{where}has kind {kind} but specifies one or more GPUs")
        if group.profile and config.platform != "tensorrt_plan":
            raise invalid(
                f"{where}and platform {config.platform}specifies profile field which is only "
                "supported for TensorRT models"
            )
    yield from ()


_RULES: tuple[Callable[[ModelConfig], Iterator[str]], ...] = (
    _dynamic_batching,
    _metrics,
    _metric_tags,
    sequence_batching,
    _response_cache,
    _tensors,
    _batch_tensors,
    _instance_groups,
)
