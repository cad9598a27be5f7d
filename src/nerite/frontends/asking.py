"""How the HTTP doors put a request to the server: traced if it is its turn, cancelled when the
client leaves."""

from __future__ import annotations

from nerite.core.call import Deliver
from nerite.core.request import Request
from nerite.frontends.http1 import Exchange
from nerite.server import Server


def ask(server: Server, exchange: Exchange, request: Request, deliver: Deliver) -> None:
    """Submit; answers are delivered, perhaps before this returns. Raises InferenceError."""
    if server.tracer.active:
        headers, begun = exchange.head.headers, exchange.begun_ns
        request, deliver = server.tracer.follow(request, deliver, "HTTP", headers, begun)
    call = server.submit(request, deliver)
    if exchange.open:
        exchange.on_disconnect = call.cancel
