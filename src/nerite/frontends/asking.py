"""How the doors put a request to a model: traced if it is its turn, cancelled when the client
leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from nerite.core.call import Call, Deliver
from nerite.core.request import Request
from nerite.model import Model
from nerite.tracing.tracer import Tracer


class Asker(Protocol):
    """One question in a protocol: an Exchange of HTTP, an Rpc of gRPC."""

    begun_ns: int
    on_disconnect: Callable[[], object] | None

    @property
    def head(self) -> Any:
        """Has `headers`, texts by name."""
        ...

    @property
    def open(self) -> bool:
        """Whether an answer would still reach the client."""
        ...


def ask(
    model: Model, tracer: Tracer, asker: Asker, request: Request, deliver: Deliver, door: str
) -> Call:
    """Submit; answers are delivered, perhaps before this returns. door: as traces name it.

    Raises InferenceError.
    """
    if tracer.active:
        headers, begun = asker.head.headers, asker.begun_ns
        request, deliver = tracer.follow(request, deliver, door, headers, begun)
    call = model.submit(request, deliver)
    if asker.open:
        asker.on_disconnect = call.cancel
    return call
