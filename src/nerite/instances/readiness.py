"""Readiness: what the model in a worker says when it is asked whether it is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from nerite.instances import wire
from nerite.instances.link import Link

log = logging.getLogger(__name__)

_SECONDS = 5.0  # what Triton gives a model's is_ready


class Readiness:
    """Of one instance. Whoever asks while the model is thinking gets the same answer."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._asked: asyncio.Future[bool] | None = None

    async def ask(self, link: Link) -> bool:
        """False when it raises, or takes too long."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            link.send(wire.encode(wire.READY, {}))
        try:
            return await asyncio.wait_for(asyncio.shield(self._asked), _SECONDS)
        except TimeoutError:
            log.warning("'%s' does not say whether it is ready", self._instance)
            return False

    def told(self, fields: Mapping[str, Any]) -> None:
        """It has answered; nothing where it never will."""
        if "error" in fields:
            log.error("is_ready of '%s': %s", self._instance, fields["error"])
        if self._asked is not None:
            self._asked.set_result(fields.get("ready", False))
            self._asked = None
