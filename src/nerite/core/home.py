"""Home: the server a model runs in, as far as a model may see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from nerite.core.call import Call, Deliver
from nerite.core.request import Request


class Home(Protocol):
    """What an ensemble's steps and a model.py ask of other models. Belongs to the server's loop.

    All raise InferenceError with Triton's texts.
    """

    def submit(self, request: Request, deliver: Deliver) -> Call:
        """Ask a model; answers are delivered, perhaps before this returns."""
        ...

    def model_ready(self, name: str, version: str = "") -> bool: ...

    async def load(
        self, name: str, config: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None: ...

    async def unload(self, name: str) -> None: ...
