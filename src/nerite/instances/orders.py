"""Orders: what a model may have the server do: load and unload models, keep metrics."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from nerite.core.errors import InferenceError, invalid
from nerite.core.home import Home


class Orders:
    """Those of one instance, with the metrics it holds. Belongs to the server's loop."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._metrics = home.custom_metrics
        self._held: set[int] = set()
        self._handlers: dict[str, Callable[..., Any]] = {
            "load_model": self._load_model,
            "unload_model": self._unload_model,
            "is_model_ready": self._is_model_ready,
            "metric_family": self._family,
            "metric": self._metric,
            "metric_increment": self._metrics.increment,
            "metric_set": self._metrics.set,
            "metric_observe": self._metrics.observe,
            "metric_value": self._metrics.value,
            "metric_drop": self._drop,
        }

    def take(self, what: str, arguments: Mapping[str, Any]) -> Any:
        """The result, or a coroutine that has it. Raises InferenceError."""
        handler = self._handlers.get(what)
        if handler is None:
            raise invalid(f"no such order: '{what}'")
        return handler(**arguments)

    def close(self) -> None:
        self._metrics.drop(self._held)
        self._held = set()

    async def _load_model(self, name: str, config: str, files: Mapping[str, str]) -> None:
        contents = {
            path.removeprefix("file:"): base64.b64decode(content) for path, content in files.items()
        }
        # A model's code runs here already: what it loads is not more dangerous than itself.
        await self._home.load(name, config or None, contents or None, inside=True)

    async def _unload_model(self, name: str, dependents: bool) -> None:
        await self._home.unload(name, dependents=dependents, inside=True)

    async def _is_model_ready(self, name: str, version: str) -> bool:
        try:
            return await self._home.check_ready(name, version)
        except InferenceError:
            return False

    def _family(self, name: str, text: str, kind: str) -> int:
        return self._hold(self._metrics.family(name, text, kind))

    def _metric(self, family: int, labels: Mapping[str, str], bounds: list[float]) -> int:
        return self._hold(self._metrics.metric(family, labels, bounds))

    def _drop(self, numbers: list[int]) -> None:
        self._held.difference_update(numbers)
        self._metrics.drop(numbers)

    def _hold(self, number: int) -> int:
        self._held.add(number)
        return number
