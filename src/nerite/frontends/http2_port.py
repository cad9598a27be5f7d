"""What an HTTP/2 connection knows of the port that it came through."""

from __future__ import annotations

from typing import Any, Protocol

from nerite.frontends.http2_head import Head
from nerite.frontends.http2_pulse import Terms


class Port(Protocol):
    """What the connections of one port share.

    now: of the loop's clock, as of the last look at it. limit: bytes of a message. compression: of
    answers to those who read it, "" for none.
    """

    terms: Terms
    now: float
    limit: int
    compression: str

    def prepare(self, head: Head) -> None:
        """Find a new head's route, or why it is refused."""
        ...

    def room(self, length: int) -> memoryview:
        """Memory for a message. Raises MemoryError."""
        ...

    def admit(self, connection: Any) -> None:
        """A connection is made."""
        ...

    def forget(self, connection: Any) -> None:
        """It is lost."""
        ...
