"""The suites, in the order in which the matrix lists them."""

from conformance.suite import Suite
from conformance.suites.batching import BATCHER, OPTIONAL_INPUT, RESPONSE_CACHE
from conformance.suites.clients import CLIENTS
from conformance.suites.python_backend import BACKEND_PYTHON
from conformance.suites.sequences import (
    DYNA_SEQUENCE_BATCHER,
    SEQUENCE_BATCHER,
    SEQUENCE_CORRID_BATCHER,
)
from conformance.suites.streams import DECOUPLED, RESPONSE_STATISTICS, SIMPLE_ENSEMBLE

SUITES: tuple[Suite, ...] = (
    CLIENTS,
    BATCHER,
    SEQUENCE_BATCHER,
    DYNA_SEQUENCE_BATCHER,
    SEQUENCE_CORRID_BATCHER,
    SIMPLE_ENSEMBLE,
    DECOUPLED,
    BACKEND_PYTHON,
    OPTIONAL_INPUT,
    RESPONSE_CACHE,
    RESPONSE_STATISTICS,
)
