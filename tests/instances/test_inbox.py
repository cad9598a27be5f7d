"""Who reads a worker's socket: its main thread while that is quick, else another."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import pytest

from nerite.core.request import Request
from nerite.instances import stream, wire
from nerite.instances.inbox import Inbox

CALL = wire.encode_entries(wire.CALLS, [wire.Entry(1, 1, head=b"{}")])
CANCEL = wire.encode(wire.CANCEL, {"number": 1})


class Desk:
    """An inbox whose main thread is this one, and what it was told aside, in which thread."""

    def __init__(self) -> None:
        self.far, self.near = socket.socketpair()
        self.asides: list[str] = []
        self.told = threading.Event()
        self.gone = threading.Event()
        self.inbox = Inbox(self.near, self._aside, self._leave, stream.Memory(print))

    def _aside(self, message: wire.Message) -> bool:
        if message.kind != wire.CANCEL:
            return False
        self.asides.append(threading.current_thread().name)
        self.told.set()
        return True

    def _leave(self) -> NoReturn:
        self.gone.set()
        threading.Event().wait()  # as a process that is no more
        raise AssertionError

    def close(self) -> None:
        # The thread that stands by reads only while the main one does not, and so sees the end.
        self.inbox.lend()
        self.far.close()
        assert self.gone.wait(10)
        self.near.close()

    def send(self, *messages: list[wire.Buffer]) -> None:
        for message in messages:
            stream.send(self.far, message)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


def test_the_main_thread_reads_what_comes_while_it_waits(desk: Desk) -> None:
    desk.send(CANCEL, CALL)
    assert desk.inbox.next().kind == wire.CALLS
    assert desk.asides == [threading.current_thread().name]


def test_a_cancellation_gets_through_while_an_execution_takes_long(desk: Desk) -> None:
    desk.send(CALL)
    desk.inbox.next()
    desk.send(CANCEL)
    assert desk.told.wait(10)
    assert desk.asides == ["wire-reader"]
    desk.send(CALL)
    assert desk.inbox.next().kind == wire.CALLS


def test_answers_get_through_at_once_where_a_model_asks(desk: Desk) -> None:
    desk.send(CALL)
    desk.inbox.next()
    desk.inbox.lend()
    desk.send(CANCEL)
    assert desk.told.wait(10)
    for _ in range(300):  # however quick it is
        desk.send(CALL)
        assert desk.inbox.next().kind == wire.CALLS
    desk.told.clear()
    desk.send(CANCEL, CALL)
    desk.inbox.next()
    assert desk.asides == ["wire-reader"] * 2


def test_a_model_that_is_quick_again_reads_for_itself_again(desk: Desk) -> None:
    desk.send(CALL)
    desk.inbox.next()
    desk.send(CANCEL)
    assert desk.told.wait(10)
    for _ in range(300):
        desk.send(CALL)
        assert desk.inbox.next().kind == wire.CALLS
    desk.send(CANCEL, CALL)
    desk.inbox.next()
    assert desk.asides == ["wire-reader", threading.current_thread().name]


def test_nothing_is_lost_or_out_of_order_between_the_two() -> None:
    desk = Desk()
    heads = wire.Heads()
    count = 2000

    def send() -> None:
        for number in range(1, count + 1):
            head, payload = heads.of_request(Request("m", {}, id=str(number)))
            entry = wire.Entry(number, 1, head=head, payload=payload)
            stream.send(desk.far, wire.encode_entries(wire.CALLS, [entry]))

    sender = threading.Thread(target=send)
    sender.start()
    found: list[int] = []
    while len(found) < count:
        found += [entry.number for entry in desk.inbox.next().entries]
        if len(found) % 500 == 3:
            time.sleep(0.15)  # long enough for the other to stand in
    sender.join()
    assert found == list(range(1, count + 1))
    desk.close()
