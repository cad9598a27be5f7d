"""What every port does for its connections."""

import asyncio
import socket

from nerite.frontends.accepting import accept

from .conftest import Listen, on_both_loops


@on_both_loops
async def test_answers_do_not_wait_for_more_to_send(listen: Listen) -> None:
    accepted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(transport.get_extra_info("socket"))

    listening = socket.create_server(("127.0.0.1", 0))
    async with await accept(listening, Connection, None):
        _, writer = await asyncio.open_connection(*listening.getsockname())
        assert (await accepted).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()
