"""Pings both ways, idle connections, and their age."""

import asyncio

import pytest
from hyperframe.frame import PingFrame, RstStreamFrame

from nerite.frontends.http2 import Route, Rpc, Terms
from nerite.frontends.http2_pulse import Pulse, Wanted

from .conftest import on_both_loops
from .http2_client import Answer, ListenGrpc, data, message, tasked

CALM = 11
PING = PingFrame(0, b"anybody?")


@on_both_loops
async def test_too_many_pings(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).connect()  # which pings once
    client.send(*[PING] * 3)
    assert await client.end() == CALM
    assert client.farewells[-1].additional_data == b"too_many_pings"


@on_both_loops
async def test_answers_forgive_pings(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).connect()
    for stream in range(1, 20, 2):
        client.send(*[PING] * 2)
        await client.served(stream)


@on_both_loops
async def test_messages_of_a_stream_forgive_pings_too(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).connect()
    client.send(client.open(1, "/stream"))
    answer = client.answers[1] = Answer()
    for number in range(1, 11):
        client.send(*[PING] * 2, data(1, message(b"x")))
        await client.until(lambda number=number: len(answer.messages) == number)
    client.send(data(1, b"", "END_STREAM"))
    assert (await client.answer(1)).status == 0


@pytest.mark.parametrize(
    ("terms", "pings"),
    [
        (Terms(max_ping_strikes=0), 500),
        (Terms(permit_without_calls=True, min_ping_interval=0), 500),
        (Terms(max_ping_strikes=20), 20),
    ],
)
@on_both_loops
async def test_pings_that_are_allowed(listen_grpc: ListenGrpc, terms: Terms, pings: int) -> None:
    client = await (await listen_grpc(terms=terms)).connect()
    for _ in range(pings):
        client.send(PING)
    await client.until(lambda: len(client.pings) == pings + 1)
    await client.served(1)


@on_both_loops
async def test_a_client_that_does_not_answer_pings(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc(terms=Terms(keepalive_time=0.05, keepalive_timeout=0.2))
    client = await port.connect()
    client.polite = False
    client.send(client.open(1, "/stream"))
    assert await client.end() is None
    assert sum("ACK" not in ping.flags for ping in client.pings) == 1


@on_both_loops
async def test_a_client_that_answers_pings_stays(listen_grpc: ListenGrpc) -> None:
    terms = Terms(keepalive_time=0.05, keepalive_timeout=5, max_pings_without_data=0)
    client = await (await listen_grpc(terms=terms)).connect()
    client.send(client.open(1, "/stream"))
    await client.until(lambda: sum("ACK" not in ping.flags for ping in client.pings) == 5)
    await client.served(3)


def looks(terms: Terms, busy: bool, *times: float) -> list[Wanted]:
    pulse = Pulse(terms, 0.0)
    pulse.begun = True
    wanted = []
    for now in times:
        wanted.append(pulse.look(now, busy, closing=False))
        if wanted[-1] is Wanted.PING:
            pulse.heard()
    return wanted


def test_when_a_server_pings() -> None:
    ping, nothing = Wanted.PING, Wanted.NOTHING
    terms = Terms(keepalive_time=10, keepalive_timeout=5)
    times = (9, 10, 11, 20, 21, 32, 43)
    assert looks(terms, True, *times) == [nothing, ping, nothing, nothing, ping, nothing, nothing]
    assert looks(terms, False, *times) == [nothing] * 7
    freely = terms._replace(permit_without_calls=True, max_pings_without_data=0)
    assert looks(freely, False, *times) == [nothing, ping, nothing, nothing, ping, nothing, ping]


def test_when_a_connection_is_given_up() -> None:
    silent = Pulse(Terms(), 0.0)
    assert silent.look(119, False, closing=False) is Wanted.NOTHING
    assert silent.look(121, False, closing=False) is Wanted.ABORT
    old = Pulse(Terms(max_age=10, max_age_grace=5), 0.0)
    old.begun = True
    seen = [old.look(now, True, closing=False) for now in (9, 10, 14, 15)]
    assert seen == [Wanted.NOTHING, Wanted.LEAVE, Wanted.NOTHING, Wanted.ABORT]
    unread = Pulse(Terms(), 0.0)
    unread.begun = True
    seen = [unread.look(now, True, closing=True) for now in (100, 159, 160)]
    assert seen == [Wanted.NOTHING, Wanted.NOTHING, Wanted.ABORT]


@on_both_loops
async def test_an_old_connection_ends_with_its_rpcs(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc(terms=Terms(max_age=0.2))
    client = await port.connect()
    client.send(client.rpc(1, path="/wait"))
    await client.until(lambda: len(client.farewells) == 2)
    assert [one.last_stream_id for one in client.farewells] == [2**31 - 1, 1]
    client.send(client.rpc(3))
    assert (await client.answer(3)).reset == 7  # refused: another connection takes it
    port.waiting[0].respond([b"x"])
    assert (await client.answer(1)).messages == [b"x"]
    assert await client.end() == 0


@on_both_loops
async def test_the_grace_of_old_connections_ends(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc(terms=Terms(max_age=0.1, max_age_grace=0.2))
    client = await port.connect()
    client.send(client.rpc(1, path="/wait"))
    assert await client.end() == 0
    await port.wait(lambda: port.gone == port.waiting)


@on_both_loops
async def test_a_reset_lets_an_old_connection_end(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc(terms=Terms(max_age=0.1))).connect()
    client.send(client.rpc(1, path="/wait"))
    await client.until(lambda: len(client.farewells) == 2)
    client.send(RstStreamFrame(1, 8))
    assert await client.end() == 0


async def never(rpc: Rpc) -> None:
    await asyncio.Event().wait()


@on_both_loops
async def test_shutdown_waits_for_answers(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    client, idle, silent = await port.connect(), await port.connect(), await port.raw()
    client.send(client.rpc(1, path="/wait"))
    await port.wait(lambda: port.waiting)
    closing = asyncio.ensure_future(port.listener.close(20))
    assert await idle.end() == 0
    assert await silent.end() is None
    await client.until(lambda: client.farewells)
    client.send(client.rpc(3, b"on its way"))  # before it heard
    await client.until(lambda: len(client.farewells) == 2)
    assert [one.last_stream_id for one in client.farewells][0] == 2**31 - 1
    with pytest.raises(OSError):
        await port.raw()
    assert not closing.done()
    port.waiting[0].respond([b"x"])
    assert (await client.answer(1)).messages == [b"x"]
    assert await client.end() == 0
    await closing


@on_both_loops
async def test_shutdown_waits_no_longer_than_it_is_told(listen_grpc: ListenGrpc) -> None:
    """A second close is the shorter one, and repeats nothing."""
    port = await listen_grpc({"/never": Route(tasked(never), streams=True)})
    client = await port.connect()
    client.send(client.open(1, "/never"))
    await client.pong()
    closing = asyncio.ensure_future(port.listener.close(600))
    await client.until(lambda: len(client.farewells) == 2)
    await port.listener.close(0.05)
    await closing
    await client.end()
    assert [one.last_stream_id for one in client.farewells] == [2**31 - 1, 1]


@on_both_loops
async def test_shutdown_leaves_a_client_that_says_nothing(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    client = await port.connect()
    client.polite = False
    await port.listener.close(0.1)
    assert await client.end() == 0
    await port.wait(lambda: not port.listener.connections)
