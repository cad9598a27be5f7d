"""A model's scheduling as its config words it, in the schedulers' own terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from tritonclient.grpc import model_config_pb2

from nerite.core.call import Call, Deliver
from nerite.core.request import Request
from nerite.repository.config import ModelConfig, datatype
from nerite.schedulers.base import Pool, Scheduler
from nerite.schedulers.batch import ALONE, Batching, BatchScheduler
from nerite.schedulers.controls import Control, Controls, Correlation
from nerite.schedulers.direct import Direct
from nerite.schedulers.ensemble import EnsembleScheduler, Graph
from nerite.schedulers.oldest import Oldest
from nerite.schedulers.plan import Step
from nerite.schedulers.queue import Levels, QueuePolicy
from nerite.schedulers.sequence import SequenceScheduler, Sequencing


class Part(Protocol):
    """A loaded model as an ensemble sees it."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def behind(self) -> frozenset[str]:
        """The names of the models that work for it, itself one of them."""
        ...

    def submit(self, request: Request, deliver: Deliver) -> Call: ...


def scheduler_of(
    config: ModelConfig,
    pool: Pool,
    on_execute: Callable[[list[Call]], None],
    parts: Sequence[Part] = (),
) -> Scheduler:
    """The scheduler that a config chooses. parts: of an ensemble, the model of each step."""
    if config.HasField("ensemble_scheduling"):
        return EnsembleScheduler(graph_of(config, parts))
    if config.HasField("sequence_batching"):
        return SequenceScheduler(pool, on_execute, sequencing_of(config))
    return BatchScheduler(pool, on_execute, batching_of(config), levels_of(config))


def graph_of(config: ModelConfig, parts: Sequence[Part]) -> Graph:
    """An ensemble's graph over the models of its steps."""
    return Graph(
        name=config.name,
        steps=tuple(
            _step(step, part, [one for at, one in enumerate(parts) if at != index])
            for index, (step, part) in enumerate(
                zip(config.ensemble_scheduling.step, parts, strict=True)
            )
        ),
        inputs=tuple(item.name for item in config.input),
        outputs={
            item.name: tuple(item.reshape.shape if item.HasField("reshape") else item.dims)
            for item in config.output
        },
        batches=config.max_batch_size > 0,
        decoupled=config.model_transaction_policy.decoupled,
        max_inflight=config.ensemble_scheduling.max_inflight_requests,
    )


def _step(step: Any, part: Part, others: Sequence[Part]) -> Step:
    decoupled = part.config.model_transaction_policy.decoupled
    # A model that waits for a step which it is to execute itself would wait for ever.
    alone = part.behind.isdisjoint(name for one in others for name in one.behind)
    return Step(
        submit=part.submit,
        model=step.model_name,
        version=str(step.model_version) if step.model_version > 0 else "",
        inputs=dict(step.input_map),
        outputs=dict(step.output_map),
        dims={item.name: tuple(item.dims) for item in part.config.input},
        batches=part.config.max_batch_size > 0,
        decoupled=decoupled,
        holds=decoupled and alone,
    )


def batching_of(config: ModelConfig) -> Batching:
    """Without dynamic_batching, or without a batch dimension, requests go alone."""
    if not config.HasField("dynamic_batching") or config.max_batch_size < 1:
        return ALONE
    dynamic = config.dynamic_batching
    return _alike(config)._replace(
        max_size=config.max_batch_size,
        preferred=tuple(dynamic.preferred_batch_size),
        delay_ns=dynamic.max_queue_delay_microseconds * 1000,
    )


def _alike(config: ModelConfig) -> Batching:
    """What must be equal for requests to go together."""
    return Batching(
        equal_shape=tuple(
            item.name
            for item in config.input
            if item.is_shape_tensor or (-1 in item.dims and not item.allow_ragged_batch)
        ),
        equal_content=tuple(item.name for item in config.input if item.is_shape_tensor),
        optional=any(item.optional for item in config.input),
    )


def sequencing_of(config: ModelConfig) -> Sequencing:
    sequence = config.sequence_batching
    slots = max(1, config.max_batch_size)
    if sequence.HasField("oldest"):
        slots = sequence.oldest.max_candidate_sequences or slots
    return Sequencing(
        slots=slots,
        idle_ns=sequence.max_sequence_idle_microseconds * 1000,
        strategy=_strategy(config),
        controls=_controls(config),
        iterative=sequence.iterative_sequence,
    )


def _strategy(config: ModelConfig) -> Direct | Oldest:
    sequence = config.sequence_batching
    if not sequence.HasField("oldest"):
        return Direct(
            delay_ns=sequence.direct.max_queue_delay_microseconds * 1000,
            utilization=sequence.direct.minimum_slot_utilization,
            alike=_alike(config),
        )
    oldest = sequence.oldest
    batching = _alike(config)._replace(
        max_size=max(1, config.max_batch_size),
        preferred=tuple(oldest.preferred_batch_size),
        delay_ns=oldest.max_queue_delay_microseconds * 1000,
    )
    return Oldest(batching, oldest.preserve_ordering)


_BOOLEAN = {
    "start": model_config_pb2.ModelSequenceBatching.Control.CONTROL_SEQUENCE_START,
    "end": model_config_pb2.ModelSequenceBatching.Control.CONTROL_SEQUENCE_END,
    "ready": model_config_pb2.ModelSequenceBatching.Control.CONTROL_SEQUENCE_READY,
}


def _controls(config: ModelConfig) -> Controls:
    shape = (1, 1) if config.max_batch_size else (1,)
    by_kind = {
        control.kind: (tensor.name, control)
        for tensor in config.sequence_batching.control_input
        for control in tensor.control
    }
    named = {word: _control(by_kind[kind], shape) for word, kind in _BOOLEAN.items()
             if kind in by_kind}  # fmt: skip
    correlation = None
    kind = model_config_pb2.ModelSequenceBatching.Control.CONTROL_SEQUENCE_CORRID
    if kind in by_kind:
        name, control = by_kind[kind]
        correlation = Correlation(name, datatype(control.data_type))
    return Controls(shape, correlation=correlation, **named)


def _control(found: tuple[str, Any], shape: tuple[int, ...]) -> Control:
    name, control = found
    values, dtype = next(
        (values, dtype)
        for values, dtype in (
            (control.int32_false_true, np.int32),
            (control.fp32_false_true, np.float32),
            (control.bool_false_true, np.bool_),
        )
        if len(values)
    )
    false, true = (np.full(shape, value, dtype) for value in values)
    return Control(name, false, true)


def levels_of(config: ModelConfig) -> Levels:
    dynamic = config.dynamic_batching
    return Levels(
        number=dynamic.priority_levels,
        default=dynamic.default_priority_level,
        policy=_policy(dynamic.default_queue_policy),
        policies={
            number: _policy(policy) for number, policy in dynamic.priority_queue_policy.items()
        },
    )


def _policy(policy: Any) -> QueuePolicy:
    return QueuePolicy(
        max_size=policy.max_queue_size,
        timeout_ns=policy.default_timeout_microseconds * 1000,
        override=policy.allow_timeout_override,
        delay=policy.timeout_action == policy.DELAY,
    )
