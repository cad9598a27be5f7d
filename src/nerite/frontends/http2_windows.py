"""What a client may send: windows that it uses up and is given back (RFC 9113, section 5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nerite.frontends import http2_frames as h2

if TYPE_CHECKING:
    from nerite.frontends.http2_rpc import Rpc

WINDOW = 1 << 22  # bytes of a stream that may be underway
ALL_WINDOW = 1 << 24  # of all together


class Windows:
    """Of one connection. Given back once that is worth a frame."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._taken = 0  # bytes of the connection's that were not given back

    def open(self) -> None:
        """Behind the first settings."""
        self._transport.write(h2.window_update(0, ALL_WINDOW - h2.DEFAULT_WINDOW))

    def take(self, size: int, rpc: Rpc | None) -> None:
        """So many bytes have come, of this stream if it is open."""
        self._taken += size
        if self._taken >= ALL_WINDOW // 2:
            self._transport.write(h2.window_update(0, self._taken))
            self._taken = 0
        if rpc is not None:
            rpc.taken += size
            if not rpc.behind:  # else once it has read its messages
                self.give_back(rpc)

    def give_back(self, rpc: Rpc) -> None:
        if rpc.taken >= WINDOW // 2 and rpc.open and not rpc.received:
            self._transport.write(h2.window_update(rpc.out.number, rpc.taken))
            rpc.taken = 0
