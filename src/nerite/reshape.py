"""Reshape: a model that sees its tensors in another shape than its clients (config `reshape`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nerite.core.call import Answer, Call, Deliver
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor
from nerite.repository.config import ModelConfig


class _Change:
    """From one shape to another; a -1 of the second is what the -1 of the first turned out to be.

    batched: both come after a batch dimension, which stays.
    """

    def __init__(self, before: Sequence[int], after: Sequence[int], batched: bool) -> None:
        first = int(batched)
        self._free = [place for place, dim in enumerate(before, first) if dim == -1]
        self._rank = first + len(before)
        self._after = list(after)
        self._batched = batched

    def __call__(self, tensor: Tensor) -> Tensor:
        """A view. Raises ValueError for a tensor that is not of the first shape."""
        if tensor.ndim != self._rank:
            raise ValueError(f"shape {list(tensor.shape)} has not {self._rank} dimensions")
        free = iter([tensor.shape[place] for place in self._free])
        shape = [next(free) if dim == -1 else dim for dim in self._after]
        return tensor.reshape(([tensor.shape[0]] if self._batched else []) + shape)


class Reshape:
    """Of one model that has such tensors."""

    def __init__(self, inputs: dict[str, _Change], outputs: dict[str, _Change]) -> None:
        self._inputs = inputs
        self._outputs = outputs

    @classmethod
    def of(cls, config: ModelConfig) -> Reshape | None:
        """None for a model without."""
        batched = config.max_batch_size > 0

        def changes(tensors: Any, *, inward: bool) -> dict[str, _Change]:
            shapes = {
                tensor.name: (tensor.dims, tensor.reshape.shape)
                for tensor in tensors
                if tensor.HasField("reshape")
            }
            return {
                name: _Change(*(shape if inward else shape[::-1]), batched)
                for name, shape in shapes.items()
            }

        inputs = changes(config.input, inward=True)
        outputs = changes(config.output, inward=False)
        return cls(inputs, outputs) if inputs or outputs else None

    def request(self, request: Request) -> Request:
        """As the model sees it; its inputs have passed the contract."""
        if not self._inputs:
            return request
        return request._replace(inputs=_apply(self._inputs, request.inputs))

    def delivering(self, deliver: Deliver) -> Deliver:
        """`deliver`, told of the answers as clients see them."""

        ended = False

        def take(call: Call, answer: Answer) -> None:
            nonlocal ended
            if not ended:
                answer = self._answer(answer)
                ended = isinstance(answer, InferenceError)
                deliver(call, answer)

        return take if self._outputs else deliver

    def _answer(self, answer: Answer) -> Answer:
        if not isinstance(answer, Response) or not answer.outputs:
            return answer
        try:
            return answer._replace(outputs=_apply(self._outputs, answer.outputs))
        except ValueError as error:
            text = f"the model's output does not fit its reshape: {error}"
            return InferenceError(Status.INTERNAL, text)


def _apply(changes: dict[str, _Change], tensors: Any) -> dict[str, Tensor]:
    shaped = dict(tensors)
    for name, change in changes.items():
        if name in shaped:
            shaped[name] = change(shaped[name])
    return shaped
