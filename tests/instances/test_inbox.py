"""A worker's inbox when the front process goes without a word."""

import socket
import threading
from typing import NoReturn

import pytest

from nerite.instances import stream, wire
from nerite.instances.inbox import Inbox


@pytest.mark.parametrize("standby", [False, True])
def test_who_goes_with_something_unread_is_gone(standby: bool) -> None:
    """Its end of the socket is reset then, and not just closed."""
    ours, theirs = socket.socketpair()
    gone = threading.Event()

    def leave() -> NoReturn:
        gone.set()
        threading.Event().wait()  # in a thread that nobody waits for
        raise AssertionError

    inbox = Inbox(ours, lambda message: False, leave, stream.Memory(lambda message: None))
    if standby:
        inbox.lend()
        stream.send(theirs, wire.encode(wire.LOAD, {}))  # what it reads stands for: it reads
        assert inbox.next().kind == wire.LOAD
    threading.Thread(target=inbox.next, daemon=True).start()
    ours.send(b"never read")
    theirs.close()
    assert gone.wait(10)
