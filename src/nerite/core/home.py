"""Home and Outside: the server a model runs in, as far as a model may see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nerite.core.call import Call, Deliver
from nerite.core.custom_metrics import CustomMetrics
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request
from nerite.core.turn import Turn


class Home(Protocol):
    """What an ensemble's steps and a model.py ask of other models. Belongs to the server's loop.

    All raise InferenceError with Triton's texts.
    """

    @property
    def custom_metrics(self) -> CustomMetrics:
        """The metrics that models have made."""
        ...

    @property
    def turn(self) -> Turn:
        """The turn of the loop, which all instances share."""
        ...

    def submit(self, request: Request, deliver: Deliver) -> Call:
        """Ask a model; answers are delivered, perhaps before this returns."""
        ...

    def endless(self, call: Call) -> bool:
        """Whether `call` waits for an instance that will not be free before `call` ends."""
        ...

    def decoupled(self, name: str, version: str = "") -> bool:
        """Whether a model gives any number of responses."""
        ...

    def model_ready(self, name: str, version: str = "") -> bool: ...

    async def check_ready(self, name: str, version: str = "") -> bool:
        """The same, where a model is asked itself if it has something to say."""
        ...

    async def load(
        self,
        name: str,
        config: str | None = None,
        files: Mapping[str, bytes] | None = None,
        *,
        inside: bool = False,
    ) -> None:
        """inside: a model's own code asks. Nobody else is waited for, and `files` may be code,
        whatever the server allows its clients."""
        ...

    async def unload(
        self, name: str, *, dependents: bool = False, inside: bool = False
    ) -> None: ...


class Outside(Protocol):
    """The same for the code of a model, from any of its threads; `order` waits."""

    def ask(self, request: Request, deliver: Deliver, *, decoupled: bool, attends: bool) -> Call:
        """Ask a model; answers are delivered in another thread, or in one that attends. Cancel the
        call to cancel it.

        decoupled: whether several answers are welcome. attends: `attend` follows, once they are
        waited for.
        """
        ...

    def attend(self, done: Callable[[], bool]) -> None:
        """Deliver answers in this thread, which waits for some: until `done`, or until another
        thread does it."""
        ...

    def order(self, what: str, arguments: Mapping[str, Any]) -> Any:
        """Have the server do something; what it says. Raises InferenceError."""
        ...

    def tell(self, what: str, arguments: Mapping[str, Any]) -> None:
        """The same without an answer, and without waiting."""
        ...


class Nowhere:
    """Outside where there is no server."""

    def ask(self, request: Request, deliver: Deliver, *, decoupled: bool, attends: bool) -> Call:
        raise self._error(f"asking model '{request.model}'")

    def attend(self, done: Callable[[], bool]) -> None:
        """Nothing was asked."""

    def order(self, what: str, arguments: Mapping[str, Any]) -> Any:
        raise self._error(f"'{what}'")

    def tell(self, what: str, arguments: Mapping[str, Any]) -> None:
        raise self._error(f"'{what}'")

    @staticmethod
    def _error(what: str) -> InferenceError:
        text = f"{what} needs a server, and this model runs without one"
        return InferenceError(Status.UNAVAILABLE, text)
