"""What both protocols may ask of an output: its place in shared memory, its best classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nerite.core.errors import invalid
from nerite.core.files import Filed
from nerite.core.layout import Cut, Packed
from nerite.core.tensor import Tensor, datatype_of, to_bytes
from nerite.frontends.regions import Region

_MOST_ELEMENTS = 1_000_000


class Place(NamedTuple):
    """Where in shared memory an output goes: `size` bytes from `offset` of a region."""

    region: Region
    offset: int
    size: int

    def put(self, name: str, tensor: Tensor) -> int:
        """Write a tensor; its bytes. Raises InferenceError when there is no room for it."""
        data = to_bytes(tensor)
        if len(data) > self.size:
            raise invalid(
                f"shared memory size specified with the request for output '{name}' ({self.size} "
                f"bytes) should be at least {len(data)} bytes to hold the results"
            )
        self.region.write(self.offset, data)
        return len(data)


def written(outputs: Mapping[str, Tensor], name: str) -> Cut | None:
    """What is known of an output that was written to its place by who computed it."""
    if type(outputs) is Packed and type(outputs.data) is Filed:
        return outputs.layout.cuts[name]
    return None


def classify(tensor: Tensor, count: int, labels: Sequence[str], *, batched: bool) -> Tensor:
    """The `count` largest elements as BYTES "value:index[:label]", largest first.

    Per batch item where `batched`. Shape [min(count, n)], with the batch in front.
    Raises InferenceError for types without an order.
    """
    datatype = datatype_of(tensor)
    if datatype in ("BYTES", "FP16", "BF16", "BOOL"):
        raise invalid(f"class result not available for output due to unsupported type '{datatype}'")
    rows = tensor.reshape(tensor.shape[0], -1) if batched else tensor.reshape(1, -1)
    if rows.shape[1] > _MOST_ELEMENTS:
        raise invalid("classification output tensor too large")
    found = [_best(row, count, labels) for row in rows]
    classes = np.empty((len(found), len(found[0]) if found else 0), dtype=object)
    for index, texts in enumerate(found):
        classes[index, :] = texts
    return classes if batched else classes[0]


def _best(row: Tensor, count: int, labels: Sequence[str]) -> list[bytes]:
    order = np.argsort(row, kind="stable")[::-1][:count]
    texts = []
    for index in order.tolist():
        text = f"{_number(row[index])}:{index}"
        if index < len(labels):
            text += f":{labels[index]}"
        texts.append(text.encode())
    return texts


def _number(value: Any) -> str:
    """As C++ writes it: six digits behind the point of a float."""
    return f"{value:f}" if isinstance(value, np.floating) else str(int(value))
