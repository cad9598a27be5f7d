"""The suites, in the order in which the matrix lists them."""

from conformance.suite import Suite
from conformance.suites.batching import BATCHER, OPTIONAL_INPUT, RESPONSE_CACHE
from conformance.suites.clients import CLIENTS
from conformance.suites.grpc import GRPC
from conformance.suites.http import HTTP
from conformance.suites.infer import (
    INFER,
    INPUT_VALIDATION,
    PARAMETERS,
    SERVER_STATUS,
    SHARED_MEMORY,
)
from conformance.suites.lifecycle import LIFECYCLE
from conformance.suites.limits import BATCH_INPUT, RATE_LIMITER, WARMUP
from conformance.suites.model_config import MODEL_CONFIG
from conformance.suites.namespacing import MODEL_NAMESPACING
from conformance.suites.observing import LOGGING, METRICS, TRACE
from conformance.suites.python_backend import BACKEND_PYTHON
from conformance.suites.sequences import (
    DYNA_SEQUENCE_BATCHER,
    IMPLICIT_SEQUENCES,
    IMPLICIT_STATE,
    ITERATIVE_SEQUENCE,
    SEQUENCE_BATCHER,
    SEQUENCE_CORRID_BATCHER,
)
from conformance.suites.streams import DECOUPLED, RESPONSE_STATISTICS, SIMPLE_ENSEMBLE
from conformance.suites.timeouts import CLIENT_TIMEOUT, REQUEST_CANCELLATION

SUITES: tuple[Suite, ...] = (
    CLIENTS,
    HTTP,
    GRPC,
    INFER,
    SHARED_MEMORY,
    INPUT_VALIDATION,
    PARAMETERS,
    SERVER_STATUS,
    LIFECYCLE,
    MODEL_NAMESPACING,
    MODEL_CONFIG,
    METRICS,
    TRACE,
    LOGGING,
    CLIENT_TIMEOUT,
    REQUEST_CANCELLATION,
    BATCHER,
    BATCH_INPUT,
    RATE_LIMITER,
    WARMUP,
    SEQUENCE_BATCHER,
    DYNA_SEQUENCE_BATCHER,
    SEQUENCE_CORRID_BATCHER,
    IMPLICIT_STATE,
    IMPLICIT_SEQUENCES,
    ITERATIVE_SEQUENCE,
    SIMPLE_ENSEMBLE,
    DECOUPLED,
    BACKEND_PYTHON,
    OPTIONAL_INPUT,
    RESPONSE_CACHE,
    RESPONSE_STATISTICS,
)
