"""The Python client of the images API: `Client` for scripts, `AsyncClient` for an event loop.

    from nerite import Client

    with Client("http://127.0.0.1:8000") as client:
        client.paint("a red house in the snow at night").save("house.png")

It speaks HTTP and imports nothing of the server. `docs/client.md` is its page.
"""

from nerite.client.asynchronous import AsyncClient
from nerite.client.blocking import Client
from nerite.client.errors import (
    ApiError,
    BadRequest,
    Conflict,
    ConnectionFailed,
    Forbidden,
    JobFailed,
    NeriteError,
    NotFound,
    ServerFault,
    TimedOut,
    TooManyRequests,
    Unauthorized,
    UnexpectedAnswer,
)
from nerite.client.job import Job
from nerite.client.model import Model
from nerite.client.picture import Picture, Preview, Progress
from nerite.client.settings import Settings

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadRequest",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Forbidden",
    "Job",
    "JobFailed",
    "Model",
    "NeriteError",
    "NotFound",
    "Picture",
    "Preview",
    "Progress",
    "ServerFault",
    "Settings",
    "TimedOut",
    "TooManyRequests",
    "Unauthorized",
    "UnexpectedAnswer",
]
