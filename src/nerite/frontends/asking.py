"""How the HTTP doors put a request to a model: traced if it is its turn, cancelled when the client
leaves."""

from __future__ import annotations

from nerite.core.call import Deliver
from nerite.core.request import Request
from nerite.frontends.http1 import Exchange
from nerite.model import Model
from nerite.tracing.tracer import Tracer


def ask(
    model: Model, tracer: Tracer, exchange: Exchange, request: Request, deliver: Deliver
) -> None:
    """Submit; answers are delivered, perhaps before this returns. Raises InferenceError."""
    if tracer.active:
        headers, begun = exchange.head.headers, exchange.begun_ns
        request, deliver = tracer.follow(request, deliver, "HTTP", headers, begun)
    call = model.submit(request, deliver)
    if exchange.open:
        exchange.on_disconnect = call.cancel
