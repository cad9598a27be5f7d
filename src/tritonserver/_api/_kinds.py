"""The choices of Triton's C API, with its numbers."""

from __future__ import annotations

from enum import Enum, IntEnum


class _Kind(IntEnum):
    __str__ = Enum.__str__  # DataType.FP32, and not its number


class DataType(_Kind):
    """What a tensor's elements are."""

    INVALID = 0
    BOOL = 1
    UINT8 = 2
    UINT16 = 3
    UINT32 = 4
    UINT64 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9
    FP16 = 10
    FP32 = 11
    FP64 = 12
    BYTES = 13
    BF16 = 14


class MemoryType(_Kind):
    """Where a tensor's bytes are."""

    CPU = 0
    CPU_PINNED = 1
    GPU = 2


class InstanceGroupKind(_Kind):
    AUTO = 0
    CPU = 1
    GPU = 2
    MODEL = 3


class LogFormat(_Kind):
    DEFAULT = 0
    ISO8601 = 1


class MetricFormat(_Kind):
    PROMETHEUS = 0


class MetricKind(_Kind):
    COUNTER = 0
    GAUGE = 1


class ModelControlMode(_Kind):
    """Who decides what is loaded: start-up, `poll_model_repository`, or `load` and `unload`."""

    NONE = 0
    POLL = 1
    EXPLICIT = 2


class RateLimitMode(_Kind):
    OFF = 0
    EXEC_COUNT = 1


class ModelBatchFlag(_Kind):
    """FIRST_DIM: the first dimension of the model's tensors is the batch."""

    UNKNOWN = 1
    FIRST_DIM = 2


class ModelTxnPropertyFlag(_Kind):
    """DECOUPLED: a request may have no answer, one or many."""

    ONE_TO_ONE = 1
    DECOUPLED = 2
