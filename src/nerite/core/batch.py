"""Several requests as one: stack their inputs, split the outputs back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request
from nerite.core.tensor import Tensor


def stack(requests: Sequence[Request]) -> dict[str, Tensor]:
    """The inputs of all, joined along the batch dimension; of one request, its own.

    The requests must have the same inputs, equal in shape but for the first dimension.
    """
    if len(requests) == 1:
        return dict(requests[0].inputs)
    names = requests[0].inputs
    return {name: np.concatenate([one.inputs[name] for one in requests]) for name in names}


def sizes(requests: Sequence[Request]) -> list[int]:
    """The batch items of each request."""
    return [next(iter(one.inputs.values())).shape[0] for one in requests]


def split(outputs: Mapping[str, Tensor], counts: Sequence[int]) -> list[dict[str, Tensor]]:
    """Each request's rows of the outputs, as views. Raises InferenceError when they are not as
    many as went in."""
    total = sum(counts)
    for name, tensor in outputs.items():
        found = tensor.shape[0] if tensor.ndim else 0
        if found != total:
            raise InferenceError(
                Status.INTERNAL,
                f"output '{name}' has {found} batch items where {total} went into the model",
            )
    parts: list[dict[str, Tensor]] = []
    start = 0
    for count in counts:
        parts.append({name: tensor[start : start + count] for name, tensor in outputs.items()})
        start += count
    return parts
