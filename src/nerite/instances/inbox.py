"""Inbox: what comes to a worker, read by its main thread itself while that is quick.

To hand every message from one thread to another costs more than a quick model takes to answer.
So the main thread reads, also while it waits for what its model has asked others. Another stands
by: it reads in its place while an execution takes long, or where other threads of the model ask,
so that cancellations and answers get through.

The main thread of a quick one looks into its socket for a while before it sleeps there.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from nerite.instances import stream, wire
from nerite.instances.lookout import Lookout

_LOOK = 0.05  # seconds between two looks at a main thread that executes
_QUICK_NS = 1_000_000
_QUICK_RUN = 100  # quick executions in a row after which the main thread reads again


class Inbox:
    """`aside` is shown each message first, in whatever thread reads; what it does not take is work.

    `gone` is called when the front process has left without a word, or when nobody can read what
    it says, and does not return.
    """

    def __init__(
        self,
        sock: socket.socket,
        aside: Callable[[wire.Message], bool],
        gone: Callable[[], NoReturn],
        memory: stream.Memory,
    ) -> None:
        self._sock = sock
        self._arrivals = select.poll()
        self._arrivals.register(sock, select.POLLIN)
        self._aside = aside
        self._gone = gone
        self._decoder = stream.Decoder(memory.borrowed)
        self._memory = memory
        self._work: queue.SimpleQueue[wire.Message] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._reading = False  # the main thread is waiting in the socket
        self._standby = False  # the other thread reads
        self._elsewhere = False  # the main thread waits for what that reads, not for work
        self._main = threading.get_ident()
        self._asks = False  # threads that do not read wait for answers
        self._turn = self._turn_ns = self._quick = 0
        self._asleep = False
        self._lookout = Lookout()
        self._wake = threading.Event()
        threading.Thread(target=self._stay, name="wire-reader", daemon=True).start()

    def next(self) -> wire.Message:
        """The next work, for the main thread, which has done what it got before."""
        self._elsewhere = False
        busy = time.monotonic_ns() - self._turn_ns
        self._quick = self._quick + 1 if busy < _QUICK_NS else 0
        message = self._wait()
        self._turn_ns = time.monotonic_ns()
        self._go_on()
        return message

    def attend(self, done: Callable[[], bool], seconds: float | None = None) -> None:
        """In the main thread, whose model waits until `done`: read, unless another stands in.

        seconds: to look at `done` again after, where nothing comes."""
        if threading.get_ident() != self._main:
            self.lend()
            return
        while not done():
            with self._lock:
                self._reading = not self._standby
                self._elsewhere = self._standby
            if not self._reading:
                return
            self._distribute(self._receive(seconds))
            self._reading = False
        self._go_on()

    def glance(self) -> None:
        """Between two answers of one execution: read what is there, if this is the main thread and
        no other stands in. It may say that the next has to wait, or is not wanted."""
        if threading.get_ident() != self._main:
            return
        with self._lock:
            self._reading = not self._standby
        if self._reading:
            with contextlib.suppress(BlockingIOError):
                self._distribute(self._arrived())
            self._reading = False
            self._go_on()

    def pause(self, event: threading.Event, seconds: float) -> None:
        """Wait so long for an event that what comes sets; the main thread reads that itself."""
        end = time.monotonic() + seconds
        if threading.get_ident() == self._main:
            self.attend(lambda: event.is_set() or time.monotonic() >= end, seconds)
        event.wait(max(0.0, end - time.monotonic()))

    def _go_on(self) -> None:
        """The main thread has read what it waited for, and works."""
        self._turn += 1
        if self._asks and not self._standby:
            self._stand_by()
        elif self._asleep:
            self._asleep = False
            self._wake.set()

    def _wait(self) -> wire.Message:
        while True:
            with self._lock:
                self._reading = not self._standby
            if not self._reading:
                return self._work.get()
            if self._work.empty():
                self._distribute(self._look() or self._receive())
            self._reading = False
            if not self._work.empty():
                return self._work.get()

    def _look(self) -> list[wire.Message]:
        """What comes while it is worth not to sleep."""
        lookout = self._lookout
        if not (self._quick and lookout.begin()):
            return []
        while time.monotonic_ns() < lookout.until:
            try:
                messages = self._arrived()
            except BlockingIOError:
                os.sched_yield()  # to whoever else wants this core
                continue
            lookout.found()
            return messages
        lookout.give_up()
        return []

    def lend(self) -> None:
        """The model has asked something, and who waits for the answer does not read."""
        self._asks = True
        if not self._standby:
            self._stand_by()

    def _stand_by(self) -> None:
        with self._lock:
            self._standby = not self._reading
        self._wake.set()

    def _receive(self, seconds: float | None = None) -> list[wire.Message]:
        """What comes next, or nothing in so many seconds. Who sleeps in recvmsg instead is woken
        for nothing whenever the front process takes what it was sent."""
        while self._arrivals.poll(None if seconds is None else seconds * 1000):
            with contextlib.suppress(BlockingIOError):
                return self._arrived()
        return []

    def _arrived(self) -> list[wire.Message]:
        """What is there. Raises BlockingIOError when nothing is."""
        try:
            messages = self._decoder.receive(self._sock, socket.MSG_DONTWAIT)
        except ConnectionError:  # its end was closed over something that it had not read
            messages = None
        if messages is None:
            self._gone()
        return messages

    def _distribute(self, messages: list[wire.Message]) -> None:
        for message in messages:
            if message.kind >= wire.REGION and self._memory.take(message):
                continue
            if not self._aside(message):
                self._work.put(message)

    def _stay(self) -> None:
        try:
            self._watch()
        except Exception:  # a worker that reads no more would never be missed
            traceback.print_exc()
            self._gone()

    def _watch(self) -> None:
        seen = -1
        while True:
            if self._standby:
                self._stand_in()
                seen = -1
            if self._reading:
                self._asleep = True
                if self._reading:  # else it works by now, and does not know that we sleep
                    self._wake.wait()
                self._asleep = False
                self._wake.clear()
                seen = -1
            # Not to sleep at once when it waits again: it would have to wake us for every call.
            if not self._standby and not self._wake.wait(_LOOK):
                with self._lock:
                    self._standby = self._turn == seen and not self._reading
                    seen = self._turn
            self._wake.clear()

    def _stand_in(self) -> None:
        """Read, until the main thread has been quick for a while."""
        while True:
            messages = self._receive()
            quick = self._quick >= _QUICK_RUN and not self._asks
            # Given back together with one piece of work, which it will come back from to read.
            if quick and len(messages) == 1 and messages[0].kind == wire.CALLS:
                with self._lock:
                    self._standby = self._elsewhere
            self._distribute(messages)
            if not self._standby:
                return
