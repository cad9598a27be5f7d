"""What a sequence_batching may say, and what is refused in Triton's words."""

import pytest
from google.protobuf import text_format

from nerite.core.errors import InferenceError
from nerite.core.request import Request
from nerite.repository import rules
from nerite.repository.config import ModelConfig
from nerite.schedulers.direct import Direct
from nerite.schedulers.oldest import Oldest
from nerite.schedulers.sequence import Sequencing
from nerite.scheduling import sequencing_of

MODEL = """
    name: "m" max_batch_size: 4
    input { name: "a" data_type: TYPE_FP32 dims: [ -1 ] }
    input { name: "r" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }
    output { name: "b" data_type: TYPE_FP32 dims: [ 4 ] }
    sequence_batching { max_sequence_idle_microseconds: 7 %s }
"""


def checked(text: str) -> Sequencing:
    config = text_format.Parse(MODEL % text, ModelConfig())
    rules.check(config)
    return sequencing_of(config)


def control(kind: str, values: str, name: str = "C") -> str:
    return (
        f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{kind} {values} }} }}'
    )


def test_direct() -> None:
    found = checked("direct { max_queue_delay_microseconds: 3 minimum_slot_utilization: 0.5 }")
    assert (found.slots, found.idle_ns, found.iterative) == (4, 7000, False)
    assert isinstance(found.strategy, Direct)
    assert (found.strategy.delay_ns, found.strategy.utilization) == (3000, 0.5)
    assert found.strategy.alike.equal_shape == ("a",)
    assert isinstance(checked("iterative_sequence: true").strategy, Direct)


def test_oldest() -> None:
    found = checked(
        "oldest { max_candidate_sequences: 9 preferred_batch_size: 2 preserve_ordering: true"
        " max_queue_delay_microseconds: 3 }"
    )
    assert found.slots == 9
    assert isinstance(found.strategy, Oldest) and found.strategy.preserve_ordering
    batching = found.strategy.batching
    assert (batching.max_size, batching.preferred, batching.delay_ns) == (4, (2,), 3000)
    assert checked("oldest {}").slots == 4


def test_controls() -> None:
    controls = checked(
        control("START", "fp32_false_true: [ 0.5, 2 ]", "S")
        + control("END", "bool_false_true: [ true, false ]", "E")
        + control("READY", "int32_false_true: [ 7, 8 ]", "R")
        + control("CORRID", "data_type: TYPE_INT64", "I")
    ).controls
    found = controls.of(Request("m", {}, sequence_id=5, sequence_start=True))
    assert {name: (one.dtype.name, one.tolist()) for name, one in found.items()} == {
        "S": ("float32", [[2.0]]),
        "E": ("bool", [[True]]),
        "R": ("int32", [[8]]),
        "I": ("int64", [[5]]),
    }
    assert controls.idle()["R"].tolist() == [[7]]


TWO = "int32_false_true: [ 0, 1 ]"
ANY = "either 'int32_false_true', 'fp32_false_true' or 'bool_false_true'"
START, CORRID = "CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_CORRID"
STATE = 'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ 1 ] %s }'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (control("START", TWO, ""), "sequence batching control tensor must have a name for m"),
        (
            control("START", TWO) + control("END", TWO),
            "sequence batching control tensor 'C' is specified for multiple control kinds for m",
        ),
        (
            control("START", TWO) + control("START", TWO, "D"),
            f"sequence batching specifies multiple {START} tensors for m",
        ),
        (control("START", ""), f"sequence batching must specify {ANY} for {START} for m"),
        (
            control("START", TWO + " fp32_false_true: [ 0, 1 ]"),
            "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' "
            f"and 'bool_false_true' for {START} for m",
        ),
        (
            control("START", "fp32_false_true: [ 0 ]"),
            f"sequence batching control 'fp32_false_true' must have exactly 2 entries for {START} "
            "for m",
        ),
        (
            control("CORRID", "data_type: TYPE_INT64 " + TWO),
            f"sequence batching must not specify {ANY} for {CORRID} for m",
        ),
        (
            control("CORRID", "data_type: TYPE_FP32"),
            f"unexpected data type for control {CORRID} for m. Allowed data types are TYPE_UINT64, "
            "TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
        ),
        (
            "oldest { preferred_batch_size: 0 }",
            "sequence batching preferred batch size must be positive for m",
        ),
        (
            "oldest { preferred_batch_size: 5 }",
            "sequence batching preferred batch size must be <= max batch size for m",
        ),
        (
            "oldest { max_candidate_sequences: -1 }",
            "sequence batching 'max_candidate_sequences' must be non-negative, not -1 for m",
        ),
        (
            "direct { minimum_slot_utilization: 1.5 }",
            "sequence batching minimum slot utilization must be in range (0.0, 1.0] for m",
        ),
        (STATE.replace("TYPE_FP32", "TYPE_INVALID") % "", "must specify 'data_type' for m"),
        (STATE.replace('"o"', '""') % "", "state 'i' must specify 'output_name' for m"),
        (STATE.replace("[ 1 ]", "[ 0 ]") % "", "dimension must be integer >= 1, or -1 for m"),
        (STATE % "use_growable_memory: true", "In order to 'use_growable_memory', you must also"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InferenceError) as refused:
        checked(text)
    assert expected in refused.value.message
