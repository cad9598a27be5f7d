"""What a config's sequence_batching must hold, in Triton's sentences; used by the rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc import model_config_pb2

from nerite.core.errors import invalid
from nerite.repository.config import ModelConfig

_Control = model_config_pb2.ModelSequenceBatching.Control
_BOOLEAN = (
    _Control.CONTROL_SEQUENCE_START,
    _Control.CONTROL_SEQUENCE_END,
    _Control.CONTROL_SEQUENCE_READY,
)
_VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")
_ANY_VALUE = "either 'int32_false_true', 'fp32_false_true' or 'bool_false_true'"
_ID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


def sequence_batching(config: ModelConfig) -> Iterator[str]:
    """The problems, as the beginnings of sentences that end with the model's name."""
    if not config.HasField("sequence_batching"):
        return
    batching = config.sequence_batching
    yield from _names(batching)
    yield from _controls(config)
    if batching.HasField("oldest"):
        for size in batching.oldest.preferred_batch_size:
            if size <= 0:
                yield "sequence batching preferred batch size must be positive"
            if size > config.max_batch_size:
                yield "sequence batching preferred batch size must be <= max batch size"
    candidates = batching.oldest.max_candidate_sequences
    if candidates < 0:
        yield (
            f"sequence batching 'max_candidate_sequences' must be non-negative, not {candidates}"
        )
    if not 0.0 <= batching.direct.minimum_slot_utilization <= 1.0:
        yield "sequence batching minimum slot utilization must be in range (0.0, 1.0]"
    yield from _states(config)


def _names(batching: Any) -> Iterator[str]:
    seen = set()
    for tensor in batching.control_input:
        if not tensor.name:
            yield "sequence batching control tensor must have a name"
        if tensor.name in seen:
            yield (
                f"sequence batching control tensor '{tensor.name}' is specified for multiple "
                "control kinds"
            )
        seen.add(tensor.name)


def _controls(config: ModelConfig) -> Iterator[str]:
    seen = set()
    for tensor in config.sequence_batching.control_input:
        for control in tensor.control:
            kind = _Control.Kind.Name(control.kind)
            if control.kind in seen:
                yield f"sequence batching specifies multiple {kind} tensors"
            seen.add(control.kind)
            if control.kind in _BOOLEAN:
                yield from _boolean(control, kind)
            else:
                yield from _correlation(config, control, kind)


def _boolean(control: Any, kind: str) -> Iterator[str]:
    given = [name for name in _VALUES if len(getattr(control, name))]
    if not given:
        yield f"sequence batching must specify {_ANY_VALUE} for {kind}"
    if len(given) > 1:
        yield (
            "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' "
            f"and 'bool_false_true' for {kind}"
        )
    for name in given:
        if len(getattr(control, name)) != 2:
            yield f"sequence batching control '{name}' must have exactly 2 entries for {kind}"


def _correlation(config: ModelConfig, control: Any, kind: str) -> Iterator[str]:
    if any(len(getattr(control, name)) for name in _VALUES):
        yield f"sequence batching must not specify {_ANY_VALUE} for {kind}"
    if model_config_pb2.DataType.Name(control.data_type) not in _ID_TYPES:
        raise invalid(
            f"unexpected data type for control {kind} for {config.name}. Allowed data types are "
            "TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
        )


def _states(config: ModelConfig) -> Iterator[str]:
    for state in config.sequence_batching.state:
        where = f"sequence batching state '{state.input_name or state.output_name}'"
        for field in ("input_name", "output_name"):
            if not getattr(state, field):
                yield f"{where} must specify '{field}'"
        if state.data_type == model_config_pb2.TYPE_INVALID:
            yield f"{where} must specify 'data_type'"
        if any(dim == 0 or dim < -1 for dim in state.dims):
            yield f"{where} dimension must be integer >= 1, or -1"
        if state.use_growable_memory and not state.use_same_buffer_for_input_output:
            raise invalid(
                "In order to 'use_growable_memory', you must also enable 'use_single_buffer' for "
                f"state input name '{state.input_name}'."
            )
