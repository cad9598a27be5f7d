"""What the routes of the Images API share: models, painter, threads, and room for so many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nerite.frontends.images.encoding import Threads
from nerite.frontends.images.errors import ApiError, bad
from nerite.frontends.images.models import Models, Names
from nerite.frontends.images.painting import Painter
from nerite.frontends.images.store import Store
from nerite.frontends.intake import Forwarding
from nerite.server import Server


@dataclass(frozen=True)
class Wishes:
    """What the operator says of this API.

    public_url: how clients reach the server, where that is not what they say in Host.
    response_format: of requests that name none; auto is what OpenAI's model of that name gives.
    room: pictures that may wait or be painted at once, 0 for any number.
    """

    names: Names = field(default_factory=Names)
    public_url: str = ""
    response_format: str = "auto"
    room: int = 256
    forward: Forwarding = field(default_factory=Forwarding)

    def wants_urls(self, model: str | None, response_format: str | None) -> bool:
        """Whether pictures are answered as URLs; `model` as the client called it."""
        usual = "url" if model in ("dall-e-2", "dall-e-3") else "b64_json"
        if self.response_format != "auto":
            usual = self.response_format
        return (response_format or usual) == "url"


class Room:
    """So many pictures at once; who comes later is told to come again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Raises ApiError."""
        if self._limit and count > self._limit:
            text = f"{count} pictures are asked for: this server takes {self._limit} at a time"
            raise bad(text, "n")
        if self._limit and self._taken + count > self._limit:
            text = f"{self._taken} pictures are asked for already, of {self._limit} at a time"
            raise ApiError(429, text, code="queue_full", retry_after=2)
        self._taken += count
        try:
            yield
        finally:
            self._taken -= count


class Service:
    """Belongs to the server's loop, but may be made in any thread."""

    def __init__(self, server: Server, wishes: Wishes, store: Store | None = None) -> None:
        self.wishes = wishes
        self.store = store or Store()
        self.threads = Threads()
        self.models = Models(server, wishes.names)
        self.painter = Painter(server, self.threads, wishes.forward)
        self.room = Room(wishes.room)
