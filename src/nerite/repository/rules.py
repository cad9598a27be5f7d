"""What a completed ModelConfig must hold before its model is served, in Triton's sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tritonclient.grpc import model_config_pb2

from nerite.core.errors import invalid
from nerite.repository.config import ModelConfig, platform
from nerite.repository.problem import Breach, Place, nearest
from nerite.repository.sequence_rules import sequence_batching

_INPUT_KINDS = model_config_pb2.BatchInput.Kind
_OUTPUT_KINDS = model_config_pb2.BatchOutput.Kind
_BATCH_TYPES = (model_config_pb2.TYPE_INT32, model_config_pb2.TYPE_FP32)
_WILDCARD = "must be integer >= 1, or -1 to indicate a variable-size dimension"
_SAME_SIZE = "'reshape' only arranges the same elements anew: let the two have as many."


def check(config: ModelConfig) -> None:
    """Raises InferenceError that names the model, the field and the value: of the first breach."""
    for breach in breaches(config):
        raise invalid(str(breach))


def breaches(config: ModelConfig) -> Iterator[Breach]:
    for rule in _RULES:
        yield from rule(config)


def _max_batch_size(config: ModelConfig) -> Iterator[Breach]:
    if config.max_batch_size < 0:
        yield Breach(
            f"'max_batch_size' must be non-negative value for {config.name}, "
            f"not {config.max_batch_size}",
            ("max_batch_size",),
            "Say 0 for a model without batches.",
        )


def _dynamic_batching(config: ModelConfig) -> Iterator[Breach]:
    if not config.HasField("dynamic_batching"):
        return
    batching, end = config.dynamic_batching, f"for {config.name}"
    at: Place = ("dynamic_batching",)
    for index, size in enumerate(batching.preferred_batch_size):
        here = (*at, "preferred_batch_size", index)
        if size <= 0:
            text = f"dynamic batching preferred size must be positive {end}"
            yield Breach(text, here, "Remove it, or raise it.")
        if size > config.max_batch_size:
            text = f"dynamic batching preferred size must be <= max batch size {end}"
            remedy = "Lower it, or raise 'max_batch_size'."
            yield Breach(text, here, remedy)
    levels = batching.priority_levels
    if levels:
        if not 1 <= batching.default_priority_level <= levels:
            text = f"default priority level must be in range [1, {levels}] {end}"
            yield Breach(text, (*at, "default_priority_level"), "Set 'default_priority_level'.")
        for level in batching.priority_queue_policy:
            if not 1 <= level <= levels:
                text = f"priority queue policy must have priority level in range [1, {levels}]"
                here = (*at, "priority_queue_policy", str(level))
                yield Breach(f"{text} {end}", here, "Mend its key, or raise 'priority_levels'.")
    if batching.preserve_ordering:
        yield from _ordering(batching, end)


def _ordering(batching: Any, end: str) -> Iterator[Breach]:
    at: Place = ("dynamic_batching", "preserve_ordering")
    remedy = "Remove 'preserve_ordering', or what it does not go with."
    if batching.priority_levels > 1:
        text = "Only one priority level is allowed when 'preserve_ordering' is true"
        yield Breach(f"{text} {end}", at, remedy)
    policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
    if any(one.default_timeout_microseconds and one.timeout_action for one in policies):
        text = "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true"
        yield Breach(f"{text} {end}", at, remedy)


def _metrics(config: ModelConfig) -> Iterator[Breach]:
    for index, control in enumerate(config.model_metrics.metric_control):
        at: Place = ("model_metrics", "metric_control", index)
        end = f"for {config.name}"
        if not control.HasField("metric_identifier"):
            yield Breach(f"metric control must specify 'metric_identifier' {end}", at)
        elif not control.metric_identifier.family:
            here = (*at, "metric_identifier")
            yield Breach(f"metric identifier must specify non-empty 'family' {end}", here)
        if not control.HasField("histogram_options"):
            yield Breach(f"metric control must specify 'histogram_options' {end}", at)
        elif not control.histogram_options.buckets:
            here = (*at, "histogram_options")
            yield Breach(f"histogram options must specify non-empty 'buckets' {end}", here)


def _metric_tags(config: ModelConfig) -> Iterator[Breach]:
    """One label that Prometheus does not take costs it the metrics of all models."""
    for key in config.metric_tags:
        if not re.fullmatch("[A-Za-z0-9_]+", key):
            text = f"metric_tags key '{key}' cannot be in a label's name for {config.name}"
            yield Breach(text, ("metric_tags", key), "A label's name takes A-Z, a-z, 0-9 and _.")


def _response_cache(config: ModelConfig) -> Iterator[Breach]:
    if not config.response_cache.enable:
        return
    text = f"Response Cache does not currently support model {config.name} with "
    remedy = "Please disable the response cache."
    at: Place = ("response_cache", "enable")
    if config.HasField("sequence_batching"):
        yield Breach(f"{text}sequence batching scheduler.", at, remedy)
    if config.model_transaction_policy.decoupled:
        yield Breach(f"{text}'decoupled' transaction policy.", at, remedy)


def _tensors(config: ModelConfig) -> Iterator[Breach]:
    for kind, tensors in (("input", config.input), ("output", config.output)):
        names = set()
        for index, tensor in enumerate(tensors):
            at: Place = (kind, index)
            yield from _tensor(config, f"model {kind} ", tensor, at)
            if tensor.name in names:
                text = f"model '{config.name}' has two {kind}s named '{tensor.name}'"
                yield Breach(text, (*at, "name"), "Give this one another name, or remove it.")
            names.add(tensor.name)
    for index, tensor in enumerate(config.input):
        if tensor.format != tensor.FORMAT_NONE and len(tensor.dims) != 3:
            text = f"model input NHWC/NCHW require 3 dims for {config.name}"
            yield Breach(text, ("input", index, "dims"), "Mend 'dims', or remove 'format'.")


def _tensor(config: ModelConfig, where: str, tensor: Any, at: Place) -> Iterator[Breach]:
    end = f"for {config.name}"
    if not tensor.name:
        yield Breach(f"{where}must specify 'name' {end}", (*at, "name"), "Add 'name'.")
    where += f"'{tensor.name}' "
    if tensor.data_type == model_config_pb2.TYPE_INVALID:
        remedy = "Add 'data_type', such as TYPE_FP32."
        yield Breach(f"{where}must specify 'data_type' {end}", (*at, "data_type"), remedy)
    if not tensor.dims:
        remedy = "Add 'dims', such as [ -1 ] for one dimension of any size."
        yield Breach(f"{where}must specify 'dims' {end}", (*at, "dims"), remedy)
    yield from _dims(f"{where}dimension {_WILDCARD} {end}", tensor.dims, (*at, "dims"))
    if tensor.HasField("reshape"):
        yield from _reshape(config, where, tensor, (*at, "reshape"))
    if config.platform != "tensorrt_plan":
        if tensor.is_shape_tensor:
            text = f"shape tensors are only supported for TensorRT platform {end}"
            yield Breach(text, (*at, "is_shape_tensor"), "Remove it.")
        if tensor.is_non_linear_format_io:
            text = f"Non-linear IO format is only supported for the TensorRT platform {end}"
            yield Breach(text, (*at, "is_non_linear_format_io"), "Remove it.")


def _dims(text: str, dims: Iterable[int], at: Place) -> Iterator[Breach]:
    for index, dim in enumerate(dims):
        if dim < 1 and dim != -1:
            yield Breach(text, (*at, index), "Write -1 for a dimension of any size.")


def _reshape(config: ModelConfig, where: str, tensor: Any, at: Place) -> Iterator[Breach]:
    shape, dims, end = tensor.reshape.shape, tensor.dims, f"for {config.name}"
    if not shape and not config.max_batch_size:
        yield Breach(
            f"{where}cannot have empty reshape for non-batching model as scalar tensors are not "
            f"supported {end}",
            at,
            "Say shape: [ 1 ].",
        )
    yield from _dims(f"{where}reshape dimensions {_WILDCARD} {end}", shape, (*at, "shape"))
    counts, wanted = _counts(dims), _counts(shape)
    if (-1 in dims) == (-1 in shape) and len(counts) != len(wanted):
        text = f"{where}has different number of variable-size dimensions for dims and reshape {end}"
        yield Breach(text, at, "Let the two have as many -1.")
    elif counts != wanted:
        yield Breach(f"{where}has different size for dims and reshape {end}", at, _SAME_SIZE)


def _counts(dims: Iterable[int]) -> list[int]:
    """The elements before, between and after the dimensions of any size."""
    counts = [1]
    for dim in dims:
        if dim == -1:
            counts.append(1)
        else:
            counts[-1] *= dim
    return counts


def _batch_tensors(config: ModelConfig) -> Iterator[Breach]:
    """What is made of a whole batch, and what is shared out among it."""
    inputs = [tensor.name for tensor in config.input]
    end = f"for {config.name}"
    for kinds, what, field in (
        (_INPUT_KINDS, "batch input", "batch_input"),
        (_OUTPUT_KINDS, "batch output", "batch_output"),
    ):
        for index, entry in enumerate(getattr(config, field)):
            at: Place = (field, index, "source_input")
            sources = entry.source_input
            if len(sources) != 1:
                text = f"{what} kind '{kinds.Name(entry.kind)}' expects 1 source input"
                yield Breach(f"{text}, got {len(sources)} {end}", at)
            for number, name in enumerate(sources):
                if name not in inputs:
                    text = f"unknown source input name '{name}' {end}"
                    yield Breach(text, (*at, number), nearest(name, inputs))
    for index, entry in enumerate(config.batch_input):
        if entry.data_type not in _BATCH_TYPES:
            text = f"batch input data type must be TYPE_INT32 or TYPE_FP32 {end}"
            yield Breach(text, ("batch_input", index, "data_type"))
    yield from _targets(config, end)


def _targets(config: ModelConfig, end: str) -> Iterator[Breach]:
    outputs = [tensor.name for tensor in config.output]
    for index, entry in enumerate(config.batch_output):
        seen = set()
        for number, name in enumerate(entry.target_name):
            at: Place = ("batch_output", index, "target_name", number)
            if name not in outputs:
                text = f"unknown target output name '{name}' {end}"
                yield Breach(text, at, nearest(name, outputs))
            if name in seen:
                text = f"target output name '{name}' can only be specified once {end}"
                yield Breach(text, at, "Remove one of them.")
            seen.add(name)


def _instance_groups(config: ModelConfig) -> Iterator[Breach]:
    for index, group in enumerate(config.instance_group):
        at: Place = ("instance_group", index)
        where = f"instance group {group.name} of model {config.name} "
        for number, gpu in enumerate(group.gpus):
            if gpu < 0:
                yield Breach(
                    f"{where}specifies invalid or unsupported gpu id {gpu}.",
                    (*at, "gpus", number),
                    "GPUs with at least the minimum required CUDA compute compatibility have "
                    "numbers from 0 on",
                )
        if group.gpus and group.kind in (group.KIND_CPU, group.KIND_MODEL):
            kind = model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind)
            text = f"{where}has kind {kind} but specifies one or more GPUs"
            yield Breach(text, (*at, "gpus"), "Remove 'gpus', or say KIND_GPU.")
        if group.profile and config.platform != "tensorrt_plan":
            yield Breach(
                f"{where}and platform {config.platform}specifies profile field which is only "
                "supported for TensorRT models",
                (*at, "profile"),
                "Remove 'profile'.",
            )


_RULES: tuple[Callable[[ModelConfig], Iterator[Breach]], ...] = (
    platform,
    _max_batch_size,
    _dynamic_batching,
    _metrics,
    _metric_tags,
    sequence_batching,
    _response_cache,
    _tensors,
    _batch_tensors,
    _instance_groups,
)
