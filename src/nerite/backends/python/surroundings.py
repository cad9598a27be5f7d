"""What a model.py stands in: which model it is, and the server around it.

A worker process holds one model, so there is one answer for all of its threads. In the server's
own process each model's threads have their own; a thread that a model starts itself sees the
model that was loaded last.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import List, NamedTuple, Optional

from nerite.backends.base import ModelSpec
from nerite.backends.python.errors import TritonModelException


class Surroundings(NamedTuple):
    """serving: it is loaded, so that other models may be asked."""

    spec: ModelSpec
    serving: bool


_here: ContextVar[Optional[Surroundings]] = ContextVar("nerite_model", default=None)  # noqa: UP045
_last: List[Surroundings] = []  # noqa: UP006  evaluated, and workers may run on 3.8


def here() -> Surroundings:
    """Raises TritonModelException where no model is loaded."""
    found = _here.get()
    if found is not None:
        return found
    if not _last:
        raise TritonModelException("this needs a model around it: call it within a model.py")
    return _last[0]


def settle(spec: ModelSpec, *, serving: bool) -> None:
    """What this thread runs from now on is the code of that model."""
    surroundings = Surroundings(spec, serving)
    _here.set(surroundings)
    _last[:] = [surroundings]


def in_worker() -> bool:
    """Whether the model runs in a process of its own, whose output the server reads."""
    return not _last or here().spec.in_worker


def instance() -> str:
    """The name of the model's instance."""
    return here().spec.instance
