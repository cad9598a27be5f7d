"""What a config's sequence_batching must hold, in Triton's sentences; used by the rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc import model_config_pb2

from nerite.repository.config import ModelConfig
from nerite.repository.problem import Breach, Place

_Control = model_config_pb2.ModelSequenceBatching.Control
_BOOLEAN = (
    _Control.CONTROL_SEQUENCE_START,
    _Control.CONTROL_SEQUENCE_END,
    _Control.CONTROL_SEQUENCE_READY,
)
_VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")
_ANY_VALUE = "either 'int32_false_true', 'fp32_false_true' or 'bool_false_true'"
_ID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


def sequence_batching(config: ModelConfig) -> Iterator[Breach]:
    if not config.HasField("sequence_batching"):
        return
    batching, end = config.sequence_batching, f"for {config.name}"
    at: Place = ("sequence_batching",)
    yield from _names(config)
    yield from _controls(config)
    if batching.HasField("oldest"):
        for index, size in enumerate(batching.oldest.preferred_batch_size):
            here = (*at, "oldest", "preferred_batch_size", index)
            if size <= 0:
                yield Breach(
                    f"sequence batching preferred batch size must be positive {end}",
                    here,
                    "Remove it, or raise it.",
                )
            if size > config.max_batch_size:
                yield Breach(
                    f"sequence batching preferred batch size must be <= max batch size {end}",
                    here,
                    "Lower it, or raise 'max_batch_size'.",
                )
    candidates = batching.oldest.max_candidate_sequences
    if candidates < 0:
        text = "sequence batching 'max_candidate_sequences' must be non-negative"
        here = (*at, "oldest", "max_candidate_sequences")
        yield Breach(f"{text}, not {candidates} {end}", here, "Remove it, or raise it.")
    if not 0.0 <= batching.direct.minimum_slot_utilization <= 1.0:
        yield Breach(
            f"sequence batching minimum slot utilization must be in range (0.0, 1.0] {end}",
            (*at, "direct", "minimum_slot_utilization"),
        )
    yield from _states(config)


def _names(config: ModelConfig) -> Iterator[Breach]:
    seen = set()
    for index, tensor in enumerate(config.sequence_batching.control_input):
        at: Place = ("sequence_batching", "control_input", index, "name")
        if not tensor.name:
            yield Breach(
                f"sequence batching control tensor must have a name for {config.name}",
                at,
                "Add 'name', the input that the model reads it from.",
            )
        if tensor.name in seen:
            yield Breach(
                f"sequence batching control tensor '{tensor.name}' is specified for multiple "
                f"control kinds for {config.name}",
                at,
                "Give this one another name.",
            )
        seen.add(tensor.name)


def _controls(config: ModelConfig) -> Iterator[Breach]:
    seen = set()
    for index, tensor in enumerate(config.sequence_batching.control_input):
        for number, control in enumerate(tensor.control):
            at: Place = ("sequence_batching", "control_input", index, "control", number)
            kind = _Control.Kind.Name(control.kind)
            if control.kind in seen:
                yield Breach(
                    f"sequence batching specifies multiple {kind} tensors for {config.name}",
                    (*at, "kind"),
                    "Remove one of them.",
                )
            seen.add(control.kind)
            if control.kind in _BOOLEAN:
                yield from _boolean(control, f"for {kind} for {config.name}", at)
            else:
                yield from _correlation(config.name, control, kind, at)


def _boolean(control: Any, end: str, at: Place) -> Iterator[Breach]:
    given = [name for name in _VALUES if len(getattr(control, name))]
    if not given:
        yield Breach(
            f"sequence batching must specify {_ANY_VALUE} {end}",
            at,
            "Add the values for false and true, such as int32_false_true: [ 0, 1 ].",
        )
    if len(given) > 1:
        yield Breach(
            "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' "
            f"and 'bool_false_true' {end}",
            (*at, given[-1]),
            "Keep the one of the input's type.",
        )
    for name in given:
        if len(getattr(control, name)) != 2:
            yield Breach(
                f"sequence batching control '{name}' must have exactly 2 entries {end}",
                (*at, name),
                "They are the values for false and for true.",
            )


def _correlation(model: str, control: Any, kind: str, at: Place) -> Iterator[Breach]:
    given = [name for name in _VALUES if len(getattr(control, name))]
    if given:
        yield Breach(
            f"sequence batching must not specify {_ANY_VALUE} for {kind} for {model}",
            (*at, given[0]),
            f"Remove '{given[0]}'.",
        )
    if model_config_pb2.DataType.Name(control.data_type) not in _ID_TYPES:
        yield Breach(
            f"unexpected data type for control {kind} for {model}.",
            (*at, "data_type"),
            "Allowed data types are TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and "
            "TYPE_STRING",
        )


def _states(config: ModelConfig) -> Iterator[Breach]:
    end = f"for {config.name}"
    for index, state in enumerate(config.sequence_batching.state):
        at: Place = ("sequence_batching", "state", index)
        where = f"sequence batching state '{state.input_name or state.output_name}'"
        for field in ("input_name", "output_name"):
            if not getattr(state, field):
                yield Breach(f"{where} must specify '{field}' {end}", at, f"Add '{field}'.")
        if state.data_type == model_config_pb2.TYPE_INVALID:
            yield Breach(
                f"{where} must specify 'data_type' {end}",
                (*at, "data_type"),
                "Add 'data_type', such as TYPE_FP32.",
            )
        for number, dim in enumerate(state.dims):
            if dim == 0 or dim < -1:
                yield Breach(
                    f"{where} dimension must be integer >= 1, or -1 {end}",
                    (*at, "dims", number),
                    "Write -1 for a dimension of any size.",
                )
        if state.use_growable_memory and not state.use_same_buffer_for_input_output:
            yield Breach(
                "In order to 'use_growable_memory', you must also enable 'use_single_buffer' for "
                f"state input name '{state.input_name}'.",
                (*at, "use_growable_memory"),
                "Set use_same_buffer_for_input_output: true.",
            )
