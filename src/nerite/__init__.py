"""nerite: a model server that speaks Triton's language, pip-installed.

In process, without sockets:

    async with Server("models") as server:
        response = await server.infer(Request("add_sub", {"INPUT0": a, "INPUT1": b})).one()

    with SyncServer("models") as server:
        response = server.infer(Request("add_sub", {"INPUT0": a, "INPUT1": b})).one()

Over the network, as a client of a server:

    with Client("http://127.0.0.1:8000") as client:
        client.paint("a red house in the snow at night").save("house.png")

Names are imported when they are used, so that a worker process stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerite.client import AsyncClient, Client
    from nerite.core.errors import InferenceError, Status
    from nerite.core.request import Request, Response
    from nerite.local import LocalModel
    from nerite.server import ControlMode, Policy, Server
    from nerite.sync import SyncServer

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "nerite.client",
    "Client": "nerite.client",
    "ControlMode": "nerite.server",
    "InferenceError": "nerite.core.errors",
    "LocalModel": "nerite.local",
    "Policy": "nerite.server",
    "Request": "nerite.core.request",
    "Response": "nerite.core.request",
    "Server": "nerite.server",
    "Status": "nerite.core.errors",
    "SyncServer": "nerite.sync",
}

__all__ = [
    "AsyncClient",
    "Client",
    "ControlMode",
    "InferenceError",
    "LocalModel",
    "Policy",
    "Request",
    "Response",
    "Server",
    "Status",
    "SyncServer",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nerite' has no attribute '{name}'")
