"""Request and Response: what is asked of a model and what it says. They know no protocol.

Tuples, because one of each is made for every inference: a frozen dataclass takes thrice as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, Tuple, Union

from nerite.core.errors import InferenceError
from nerite.core.files import Span
from nerite.core.tensor import Tensor

Parameter = Union[bool, int, float, str]  # noqa: UP007  evaluated, and workers may run on 3.8

NO_PARAMETERS: Mapping[str, Parameter] = MappingProxyType({})
NO_PLACES: Mapping[str, Span] = MappingProxyType({})


class Trace(Protocol):
    """Takes note of what happens to a request that was chosen to be traced."""

    @property
    def context(self) -> str:
        """What continues it elsewhere: W3C's headers as JSON, "" where nothing can."""
        ...

    def answered(self, call: Any, model: str, version: int, answer: Any) -> None:
        """A model has answered `call`, for the last time or not."""
        ...

    def child(self, request: Any) -> Any:
        """The same request to another model, asked on behalf of the traced one."""
        ...

    def part(self, request: Any) -> Any:
        """The same where the traced one is nothing but what it asks others: an ensemble."""
        ...


class Request(NamedTuple):
    """One question to one model.

    inputs: named arrays, the batch dimension first where the model has one.
    outputs: the names wanted, in the order wanted; empty means all of the model's.
    version: "" means the newest ready version. timeout_us: 0 means none. trace: None for all
    but the few requests that are traced; in a worker it is what continues it. slot: where the
    request's sequence sits on its instance; -1 for a row that only fills a batch up. places: where
    whoever answers may write outputs, instead of sending them.
    """

    model: str
    inputs: Mapping[str, Tensor]
    version: str = ""
    id: str = ""
    outputs: Tuple[str, ...] = ()  # noqa: UP006  evaluated, and workers may run on 3.8
    parameters: Mapping[str, Parameter] = NO_PARAMETERS
    priority: int = 0
    timeout_us: int = 0
    sequence_id: Union[int, str] = 0  # noqa: UP007  the same
    sequence_start: bool = False
    sequence_end: bool = False
    slot: int = 0
    trace: Union[Trace, str, None] = None  # noqa: UP007  the same
    places: Mapping[str, Span] = NO_PLACES

    @property
    def label(self) -> str:
        """How Triton names a request at the head of an error."""
        return f"[request id: {self.id or '<id_unknown>'}] "


class Response(NamedTuple):
    """One answer. The last of a call is `final` and may be empty (Triton's rule).

    error: in place of outputs, of an answer after which others follow; a last answer that is an
    error is the InferenceError itself.
    """

    outputs: Mapping[str, Tensor] = MappingProxyType({})
    parameters: Mapping[str, Parameter] = NO_PARAMETERS
    final: bool = True
    error: Union[InferenceError, None] = None  # noqa: UP007  evaluated, and workers run on 3.8
