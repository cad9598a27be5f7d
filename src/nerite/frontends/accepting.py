"""Accepting: how every port takes connections, whatever it speaks."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

_HANDSHAKE = 10.0  # seconds for TLS
_BACKLOG = 2048


async def accept(
    sock: socket.socket, connection: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext | None
) -> asyncio.Server:
    """Serve each connection to a listening socket with a `connection` of its own."""
    # Accepted sockets inherit it, and asyncio sets it for those alone that name their protocol.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return await asyncio.get_running_loop().create_server(
        connection,
        sock=sock,
        ssl=tls,
        ssl_handshake_timeout=_HANDSHAKE if tls else None,
        backlog=_BACKLOG,
    )
