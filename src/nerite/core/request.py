"""Request and Response: what is asked of a model and what it says. They know no protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

from nerite.core.tensor import Tensor

Parameter = Union[bool, int, float, str]  # noqa: UP007  evaluated, and workers may run on 3.8


@dataclass(frozen=True)
class Request:
    """One question to one model.

    inputs: named arrays, the batch dimension first where the model has one.
    outputs: the names wanted, in the order wanted; empty means all of the model's.
    version: "" means the newest ready version. timeout_us: 0 means none.
    """

    model: str
    inputs: Mapping[str, Tensor]
    version: str = ""
    id: str = ""
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    priority: int = 0
    timeout_us: int = 0
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False

    @property
    def label(self) -> str:
        """How Triton names a request at the head of an error."""
        return f"[request id: {self.id or '<id_unknown>'}] "


@dataclass(frozen=True)
class Response:
    """One answer. The last of a call is `final` and may be empty (Triton's rule)."""

    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    final: bool = True
