"""InferenceRequest: one question to a model, in Triton's in-process form."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nerite.core.request import Parameter, Request
from tritonserver._api._errors import InvalidArgumentError
from tritonserver._api._memorybuffer import DeviceOrMemoryType, parse_memory_type
from tritonserver._api._tensor import Tensor

if TYPE_CHECKING:
    from tritonserver._api._model import Model

_START, _END = 1, 2


@dataclass
class InferenceRequest:
    """A request, made by `Model.create_request` or by the arguments of `Model.infer`.

    inputs: by name, a Tensor or whatever `Tensor.from_object` takes. flags: 1 starts a sequence,
    2 ends it, correlation_id says which. timeout: microseconds. output_memory_type: where the
    outputs shall be; where they come from by default. response_queue: gets every answer too, a
    queue.SimpleQueue for `infer` and an asyncio.Queue for `async_infer`.
    """

    model: Model
    request_id: str | None = None
    flags: int = 0
    correlation_id: int | str | None = None
    priority: int = 0
    timeout: int = 0
    inputs: dict[str, Tensor | Any] = field(default_factory=dict)
    parameters: dict[str, str | int | bool | float] = field(default_factory=dict)
    output_memory_type: DeviceOrMemoryType | None = None
    response_queue: queue.SimpleQueue[Any] | asyncio.Queue[Any] | None = None

    def to_request(self) -> Request:
        """As nerite's models take it. Raises InvalidArgumentError for what cannot be one."""
        if self.output_memory_type is not None:
            parse_memory_type(self.output_memory_type)
        inputs = {
            name: (value if isinstance(value, Tensor) else Tensor.from_object(value)).to_array()
            for name, value in self.inputs.items()
        }
        version = self.model.version
        return Request(
            self.model.name,
            inputs,
            str(version) if version > 0 else "",
            self.request_id or "",
            parameters=_checked(self.parameters),
            priority=self.priority,
            timeout_us=self.timeout,
            sequence_id=self.correlation_id or 0,
            sequence_start=bool(self.flags & _START),
            sequence_end=bool(self.flags & _END),
        )


def _checked(parameters: Mapping[str, Any]) -> dict[str, Parameter]:
    for name, value in parameters.items():
        if type(value) not in (str, int, float, bool):
            raise InvalidArgumentError(
                f"Unsupported Value. Can't convert {type(value)} to Request Parameter "
                f"'{name}': it must be a str, an int, a float or a bool"
            )
    return dict(parameters)
