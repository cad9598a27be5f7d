"""The control tensors of a sequence's requests: Triton's START, END, READY and CORRID.

The model has them as inputs, and the scheduler gives them; clients do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from nerite.core.errors import InferenceError, invalid
from nerite.core.request import Request
from nerite.core.tensor import Tensor, numpy_dtype

_ID_BITS = (1 << 64) - 1


class Control(NamedTuple):
    """One control that is either false or true: the input's name and its two tensors."""

    name: str
    false: Tensor
    true: Tensor


class Correlation(NamedTuple):
    """The input that is told the correlation ID. datatype: an integer one, or BYTES."""

    name: str
    datatype: str


class Controls:
    """The control tensors that one model asks for. shape: of each, [1] or [1, 1]."""

    def __init__(
        self,
        shape: tuple[int, ...] = (1,),
        start: Control | None = None,
        end: Control | None = None,
        ready: Control | None = None,
        correlation: Correlation | None = None,
    ) -> None:
        self._shape = shape
        self._correlation = correlation
        self._by_flags = {
            (is_start, is_end): _tensors((start, is_start), (end, is_end), (ready, True))
            for is_start in (False, True)
            for is_end in (False, True)
        }
        self._idle = _tensors((start, False), (end, False), (ready, False))

    @property
    def by_text(self) -> bool:
        """Whether the model wants its correlation IDs to be strings."""
        return self._correlation is not None and self._correlation.datatype == "BYTES"

    def check(self, request: Request) -> None:
        """Raises InferenceError when the correlation ID is not of the model's kind."""
        if self._correlation is None or self.by_text == isinstance(request.sequence_id, str):
            return
        raise self._mismatch(request, self._correlation)

    @staticmethod
    def _mismatch(request: Request, wanted: Correlation) -> InferenceError:
        found = "BYTES" if isinstance(request.sequence_id, str) else "UINT64"
        return invalid(
            f"{request.label}sequence batching control '{wanted.name}' data-type is '{found}', "
            f"but model '{request.model}' expects '{wanted.datatype}'"
        )

    def of(self, request: Request) -> dict[str, Tensor]:
        """Those of a request that is to be executed."""
        return self._with_id(
            self._by_flags[request.sequence_start, request.sequence_end], request.sequence_id
        )

    def idle(self) -> dict[str, Tensor]:
        """Those of a row that only fills a batch up."""
        return self._with_id(self._idle, "" if self.by_text else 0)

    def _with_id(self, tensors: Mapping[str, Tensor], id: int | str) -> dict[str, Tensor]:
        if self._correlation is None:
            return dict(tensors)
        name, datatype = self._correlation
        if isinstance(id, str):
            told = np.full(self._shape, id.encode(), object)
        else:
            told = np.full(self._shape, id & _ID_BITS, np.uint64).astype(numpy_dtype(datatype))
        return {**tensors, name: told}


def _tensors(*controls: tuple[Control | None, bool]) -> dict[str, Tensor]:
    return {
        control.name: control.true if value else control.false
        for control, value in controls
        if control is not None
    }
