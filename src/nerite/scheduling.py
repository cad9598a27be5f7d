"""A model's scheduling as its config words it, in the schedulers' own terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nerite.core.call import Call
from nerite.core.home import Home
from nerite.repository.config import ModelConfig
from nerite.schedulers.base import Pool, Scheduler
from nerite.schedulers.batch import ALONE, Batching, BatchScheduler
from nerite.schedulers.queue import Levels, QueuePolicy


def scheduler_of(
    config: ModelConfig, pool: Pool, on_execute: Callable[[list[Call]], None], home: Home
) -> Scheduler:
    """The scheduler that a config chooses; `home` is whom it may ask for other models."""
    return BatchScheduler(pool, on_execute, batching_of(config), levels_of(config))


def batching_of(config: ModelConfig) -> Batching:
    """Without dynamic_batching, or without a batch dimension, requests go alone."""
    if not config.HasField("dynamic_batching") or config.max_batch_size < 1:
        return ALONE
    dynamic = config.dynamic_batching
    return Batching(
        max_size=config.max_batch_size,
        preferred=tuple(dynamic.preferred_batch_size),
        delay_ns=dynamic.max_queue_delay_microseconds * 1000,
        ragged=frozenset(item.name for item in config.input if item.allow_ragged_batch),
    )


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
