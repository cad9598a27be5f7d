"""Configurations that contradict themselves, refused in Triton's words."""

import pytest
from google.protobuf import text_format

from nerite.core.errors import InferenceError
from nerite.repository import rules
from nerite.repository.config import ModelConfig

TENSORS = """
    input { name: "a" data_type: TYPE_FP32 dims: [ 2, 3 ] }
    output { name: "b" data_type: TYPE_FP32 dims: [ -1, 4 ] }
"""


def check(text: str) -> None:
    rules.check(text_format.Parse('name: "m" ' + text, ModelConfig()))


def of_input(text: str) -> str:
    return TENSORS.replace("[ 2, 3 ]", text, 1)


def of_output(text: str) -> str:
    return TENSORS.replace("[ -1, 4 ]", text, 1)


METRIC = TENSORS + "model_metrics { metric_control "
BATCHING = TENSORS + "max_batch_size: 4 dynamic_batching "
POLICY = "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 3 }"
BATCH_INPUT = TENSORS + "max_batch_size: 4 batch_input "
COUNT = "kind: BATCH_ELEMENT_COUNT target_name: 'c' data_type: TYPE_FP32"
SCATTER = TENSORS + "max_batch_size: 4 batch_output { source_input: 'a' "


@pytest.mark.parametrize(
    "text",
    [
        TENSORS,
        "",
        TENSORS + "backend: 'pytorch' platform: 'torch_aoti'",
        TENSORS + "backend: 'mine' platform: 'whatever'",
        "metric_tags { key: '2_Tags' value: 'any-value' }",
        of_input("[ 2, 3 ] reshape { shape: [ 6 ] }"),
        of_output("[ 2, -1, 4 ] reshape { shape: [ 1, 2, -1, 2, 2 ] }"),
        "max_batch_size: 2" + of_input("[ 1 ] reshape { shape: [] }"),
        BATCHING
        + "{ preferred_batch_size: [ 2, 4 ] priority_levels: 2 default_priority_level: 1 }",
        BATCH_INPUT + "{ source_input: 'a' " + COUNT + "}",
        SCATTER + "target_name: 'b' }",
    ],
)
def test_what_is_right(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "metric_tags { key: 'bad-key' value: 'x' }",
            "metric_tags key 'bad-key' cannot be in a label's name for m. A label's name takes "
            "A-Z, a-z, 0-9 and _.",
        ),
        ("input { data_type: TYPE_FP32 dims: 1 }", "model input must specify 'name' for m"),
        ("input { name: 'a' dims: 1 }", "model input 'a' must specify 'data_type' for m"),
        ("input { name: 'a' data_type: TYPE_FP32 }", "model input 'a' must specify 'dims' for m"),
        (of_input("[ 0 ]"), "model input 'a' dimension must be integer >= 1, or -1"),
        (of_output("[ -2 ]"), "model output 'b' dimension must be integer >= 1, or -1"),
        (TENSORS + TENSORS, "two inputs named 'a'"),
        (METRIC + "{} }", "metric control must specify 'metric_identifier'"),
        (METRIC + "{ metric_identifier {} } }", "must specify non-empty 'family'"),
        (METRIC + "{ metric_identifier { family: 'f' } } }", "must specify 'histogram_options'"),
        (
            METRIC + "{ metric_identifier { family: 'f' } histogram_options {} } }",
            "histogram options must specify non-empty 'buckets'",
        ),
        ("max_batch_size: -1", "'max_batch_size' must be non-negative value for m"),
        (of_input("[ 2 ] format: FORMAT_NCHW"), "model input NHWC/NCHW require 3 dims"),
        (of_input("[ 2 ] is_shape_tensor: true"), "only supported for TensorRT platform"),
        (of_input("[ 2 ] reshape { shape: [ 3 ] }"), "has different size for dims and reshape"),
        (of_input("[ 1 ] reshape { shape: [] }"), "cannot have empty reshape for non-batching"),
        (of_input("[ 2 ] reshape { shape: [ 0 ] }"), "reshape dimensions must be integer >= 1"),
        (of_output("[ -1 ] reshape { shape: [ 2 ] }"), "has different size for dims and reshape"),
        (
            of_output("[ -1, -1 ] reshape { shape: [ -1 ] }"),
            "has different number of variable-size dimensions for dims and reshape",
        ),
        (
            of_output("[ 2, -1 ] reshape { shape: [ -1, 2 ] }"),
            "'b' has different size for dims and reshape for m",
        ),
        (BATCHING + "{ preferred_batch_size: 0 }", "preferred size must be positive for m"),
        (BATCHING + "{ preferred_batch_size: 5 }", "preferred size must be <= max batch size"),
        (BATCHING + "{ priority_levels: 2 }", "default priority level must be in range [1, 2]"),
        (
            BATCHING + "{ priority_levels: 2 default_priority_level: 1 "
            "priority_queue_policy { key: 3 value {} } }",
            "priority queue policy must have priority level in range [1, 2] for m",
        ),
        (
            BATCHING + "{ priority_levels: 2 default_priority_level: 1 preserve_ordering: true }",
            "Only one priority level is allowed when 'preserve_ordering' is true for m",
        ),
        (
            BATCHING + "{ preserve_ordering: true " + POLICY + "}",
            "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true",
        ),
        (
            TENSORS + "response_cache { enable: true } sequence_batching {}",
            "Response Cache does not currently support model m with sequence batching scheduler",
        ),
        (
            BATCH_INPUT + "{" + COUNT + "}",
            "batch input kind 'BATCH_ELEMENT_COUNT' expects 1 source input, got 0 for m",
        ),
        (
            BATCH_INPUT + "{ source_input: 'a' data_type: TYPE_INT64 }",
            "batch input data type must be TYPE_INT32 or TYPE_FP32 for m",
        ),
        (
            BATCH_INPUT + "{ source_input: 'x' " + COUNT + "}",
            "unknown source input name 'x' for m",
        ),
        (SCATTER + "target_name: 'x' }", "unknown target output name 'x' for m"),
        (SCATTER + "target_name: ['b', 'b'] }", "target output name 'b' can only be specified"),
        (
            TENSORS + "instance_group { name: 'g' kind: KIND_CPU gpus: 1 }",
            "instance group g of model m has kind KIND_CPU but specifies one or more GPUs",
        ),
        (
            TENSORS + "instance_group { name: 'g' kind: KIND_GPU gpus: [ 0, -1 ] }",
            "instance group g of model m specifies invalid or unsupported gpu id -1. GPUs with at "
            "least the minimum required CUDA compute compatibility have numbers from 0 on",
        ),
        (
            TENSORS + "backend: 'onnxruntime' platform: 'onnxruntim'",
            "unexpected 'platform' and 'backend' pair, got:onnxruntim, onnxruntime",
        ),
        (TENSORS + "instance_group { profile: '1' }", "only supported for TensorRT models"),
    ],
)
def test_what_is_wrong(text: str, expected: str) -> None:
    with pytest.raises(InferenceError) as caught:
        check(text)
    assert expected in caught.value.message
