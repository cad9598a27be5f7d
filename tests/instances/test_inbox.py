"""A worker's inbox: how it waits for the next message, and when the front process leaves."""

import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from nerite.instances import inbox, lookout, stream, wire
from nerite.instances.inbox import Inbox


class _Leaving:
    """What a worker calls when nobody is left to hear."""

    def __init__(self) -> None:
        self.called = threading.Event()

    def __call__(self) -> NoReturn:
        self.called.set()
        threading.Event().wait()  # in a thread that nobody waits for
        raise AssertionError


@pytest.mark.parametrize("standby", [False, True])
def test_who_goes_with_something_unread_is_gone(standby: bool) -> None:
    """Its end of the socket is reset then, and not just closed."""
    ours, theirs = socket.socketpair()
    leave = _Leaving()
    reader = Inbox(ours, lambda message: False, leave, stream.Memory(lambda message: None))
    if standby:
        reader.lend()
        stream.send(theirs, wire.encode(wire.LOAD, {}))  # what it reads stands for: it reads
        assert reader.next().kind == wire.LOAD
    threading.Thread(target=reader.next, daemon=True).start()
    ours.send(b"never read")
    theirs.close()
    assert leave.called.wait(10)


def test_a_reader_that_fails_does_not_leave_a_worker_that_hears_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    ours, theirs = socket.socketpair()
    leave = _Leaving()

    def fail(message: wire.Message) -> bool:
        raise ValueError("it cannot be taken")

    worker = Inbox(ours, fail, leave, stream.Memory(lambda message: None))
    with theirs:
        worker.lend()
        stream.send(theirs, wire.encode(wire.REPLY, {}))
        assert leave.called.wait(10)
    assert "ValueError: it cannot be taken" in capfd.readouterr().err


def test_a_main_thread_at_work_hears_at_a_glance() -> None:
    ours, theirs = socket.socketpair()
    heard: list[int] = []
    held = threading.Event()

    def aside(message: wire.Message) -> bool:
        heard.append(message.kind)
        if message.kind == wire.CANCEL:
            held.set()
        return message.kind != wire.LOAD

    worker = Inbox(ours, aside, _Leaving(), stream.Memory(lambda message: None))
    with theirs:
        worker.glance()
        assert heard == []
        stream.send(theirs, [*wire.encode(wire.HOLD, {}), *wire.encode(wire.LOAD, {})])
        worker.glance()
        assert heard == [wire.HOLD, wire.LOAD]
        stream.send(theirs, wire.encode(wire.CANCEL, {}))
        worker.pause(held, 60)
        assert heard == [wire.HOLD, wire.LOAD, wire.CANCEL]
        worker.pause(threading.Event(), 0.01)  # not for ever
        assert worker.next().kind == wire.LOAD


class _Counting:
    """A socket that counts how often somebody sleeps for it, and looks into it in vain."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._arrivals = select.poll()
        self._arrivals.register(sock, select.POLLIN)
        self.slept = self.vain = 0
        self.fileno = sock.fileno
        self.when_asleep: Callable[[], None] = lambda: None

    def poll(self, timeout: float | None = None) -> Any:
        self.slept += 1
        self.when_asleep()
        return self._arrivals.poll(timeout)

    def recvmsg_into(self, buffers: Any, size: int, flags: int) -> Any:
        try:
            return self._sock.recvmsg_into(buffers, size, flags)
        except BlockingIOError:
            self.vain += 1
            raise


@pytest.mark.skipif(not lookout.SEVERAL_CORES, reason="on one core it does not look")
def test_a_quick_worker_looks_before_it_sleeps_and_seldom_where_that_is_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()
    counted = _Counting(ours)
    memory = stream.Memory(lambda message: None)
    worker = Inbox(counted, lambda message: False, _Leaving(), memory)  # type: ignore[arg-type]
    worker._arrivals = counted  # type: ignore[assignment]

    def send() -> None:
        stream.send(theirs, wire.encode(wire.LOAD, {}))

    def take() -> None:
        assert worker.next().kind == wire.LOAD

    with theirs:
        send()
        take()
        monkeypatch.setattr(inbox, "_QUICK_NS", 10 * 10**9)
        monkeypatch.setattr(lookout, "WATCH_NS", 30 * 10**9)
        counted.slept = 0
        sending = threading.Timer(0.05, send)
        sending.start()
        take()
        sending.join()
        assert counted.vain > 0
        assert counted.slept == 0
        # From here on what it waits for comes once it sleeps.
        counted.when_asleep = send
        monkeypatch.setattr(lookout, "WATCH_NS", 5_000_000)
        looks = 0
        for _ in range(40):
            counted.vain = 0
            take()
            looks += counted.vain > 0
        assert looks == 5  # with 1, 3, 7, 15 and 31 times between them
        monkeypatch.setattr(inbox, "_QUICK_NS", 0)
        monkeypatch.setattr(lookout, "_MOST_SPARED", 0)
        counted.slept = counted.vain = 0
        for _ in range(40):
            take()
        assert (counted.vain, counted.slept) == (0, 40)


class _Aside:
    """Takes replies aside, and knows which thread has read each."""

    def __init__(self) -> None:
        self.readers: list[int] = []
        self.came = threading.Condition()

    def __call__(self, message: wire.Message) -> bool:
        if message.kind != wire.REPLY:
            return False
        with self.came:
            self.readers.append(threading.get_ident())
            self.came.notify_all()
        return True

    def wait(self, count: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: len(self.readers) >= count, 10)


def test_a_main_thread_that_waits_for_an_answer_reads_it_itself() -> None:
    ours, theirs = socket.socketpair()
    aside = _Aside()
    worker = Inbox(ours, aside, _Leaving(), stream.Memory(lambda message: None))
    with theirs:
        # Work that comes first is kept, to be done once this is.
        message = [*wire.encode(wire.LOAD, {}), *wire.encode(wire.REPLY, {})]
        sending = threading.Timer(0.05, stream.send, (theirs, message))
        sending.start()
        worker.attend(lambda: bool(aside.readers))
        assert aside.readers == [threading.get_ident()]
        assert worker.next().kind == wire.LOAD
        sending.join()


def test_what_another_thread_asks_is_answered_while_the_main_thread_works() -> None:
    ours, theirs = socket.socketpair()
    aside = _Aside()
    worker = Inbox(ours, aside, _Leaving(), stream.Memory(lambda message: None))
    asking = threading.Thread(target=worker.attend, args=(lambda: False,))
    with theirs:
        asking.start()
        asking.join(10)
        assert not asking.is_alive()  # it waits elsewhere; who stands by reads
        stream.send(theirs, wire.encode(wire.REPLY, {}))
        aside.wait(1)
        assert threading.get_ident() not in aside.readers


def test_who_asks_while_the_main_thread_reads_is_answered_when_that_works_again() -> None:
    ours, theirs = socket.socketpair()
    aside = _Aside()
    worker = Inbox(ours, aside, _Leaving(), stream.Memory(lambda message: None))
    main = threading.get_ident()

    def ask() -> None:
        while not worker._reading:
            time.sleep(0.001)
        worker.lend()
        stream.send(theirs, wire.encode(wire.REPLY, {}))

    with theirs:
        asking = threading.Thread(target=ask)
        asking.start()
        worker.attend(lambda: bool(aside.readers))
        asking.join(10)
        stream.send(theirs, wire.encode(wire.REPLY, {}))
        aside.wait(2)
        assert aside.readers[0] == main
        assert aside.readers[1] != main


def test_who_stands_in_goes_on_while_the_main_thread_waits_for_what_it_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even if that was quick so far, and further work comes first."""
    ours, theirs = socket.socketpair()
    aside = _Aside()
    worker = Inbox(ours, aside, _Leaving(), stream.Memory(lambda message: None))
    with theirs:
        stream.send(theirs, wire.encode(wire.REPLY, {}))
        aside.wait(1)  # nobody has read it for a while: the other thread stands in
        worker._quick = 10**6
        worker.attend(lambda: False)
        monkeypatch.setattr(inbox, "_LOOK", 60.0)
        stream.send(theirs, wire.encode_entries(wire.CALLS, [wire.Entry(1)]))
        stream.send(theirs, wire.encode(wire.REPLY, {}))
        aside.wait(2)
        assert worker.next().kind == wire.CALLS
