"""The child's half of a process instance: `python -m nerite.instances.worker FD`.

Three threads' worth of work: one reads the socket and only hands over, the main one loads and
executes, and whoever answers a call writes. Imports core and backends only.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import traceback
import weakref
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

from nerite.backends.base import Backend, ModelSpec, open_backend
from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status
from nerite.instances import wire


class Outbox:
    """Writes messages to the socket from any thread, whole and in order.

    Nobody waits for the writer: who finds it busy leaves the message with it. So an answer that
    a garbage collection gives, in the middle of another's write, cannot deadlock.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._messages: deque[list[wire.Buffer]] = deque()
        self._writing = threading.Lock()

    def put(self, message: list[wire.Buffer]) -> None:
        self._messages.append(message)
        while self._messages and self._writing.acquire(blocking=False):
            try:
                while self._messages:
                    wire.send(self._sock, self._messages.popleft())
            except OSError:
                self._messages.clear()  # the front process is gone, and the reader will see it
            finally:
                self._writing.release()


class Worker:
    """One loaded backend and the calls that are open on it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._outbox = Outbox(sock)
        self._work: queue.SimpleQueue[wire.Message | None] = queue.SimpleQueue()
        self._calls: weakref.WeakValueDictionary[int, Call] = weakref.WeakValueDictionary()

    def run(self) -> int:
        reader = threading.Thread(target=self._read, name="wire-reader", daemon=True)
        reader.start()
        first = self._work.get()
        if first is None:
            return 0
        backend = self._load(first.fields)
        if backend is None:
            return 1
        while True:
            message = self._work.get()
            if message is None:
                break
            self._execute(backend, message)
        backend.unload()
        return 0

    def _load(self, fields: dict[str, Any]) -> Backend | None:
        values = dict(fields["spec"])
        values["folder"] = Path(values["folder"])
        try:
            backend = open_backend(fields["backend"])
            config = backend.load(ModelSpec(**values))
        except Exception as error:
            traceback.print_exc()
            status = error.status.name if isinstance(error, InferenceError) else "INTERNAL"
            text = "".join(traceback.format_exception_only(type(error), error)).strip()
            text = str(error) if isinstance(error, InferenceError) else text
            self._outbox.put(wire.encode("loaded", {"error": [status, text]}))
            return None
        self._outbox.put(wire.encode("loaded", {"config": config}))
        return backend

    def _execute(self, backend: Backend, message: wire.Message) -> None:
        calls = []
        offset = 0
        for fields in message.fields["calls"]:
            number = fields.pop("number")
            request, offset = wire.unpack_request(fields, message.payload, offset)
            call = Call(request, partial(self._answer, number))
            self._calls[number] = call
            calls.append(call)
        for number in message.fields["cancelled"]:
            self._cancel(number)
        try:
            backend.execute(calls)
        except Exception as error:
            traceback.print_exc()
            text = f"the backend failed: {type(error).__name__}: {error}"
            for call in calls:
                call.fail(InferenceError(Status.INTERNAL, text))
        self._outbox.put(wire.encode("done", {"batch": message.fields["batch"]}))

    def _answer(self, number: int, answer: Answer) -> None:
        try:
            fields, buffers = wire.pack_answer(answer)
        except (TypeError, ValueError) as error:
            text = f"the model's answer cannot be sent: {error}"
            fields, buffers = wire.pack_answer(InferenceError(Status.INTERNAL, text))
        fields["number"] = number
        self._outbox.put(wire.encode("respond", fields, buffers))

    def _cancel(self, number: int) -> None:
        call = self._calls.get(number)
        if call is not None:
            call.cancel()

    def _read(self) -> None:
        decoder = wire.Decoder()
        while True:
            count = self._sock.recv_into(decoder.buffer())
            if count == 0:
                # The front process is gone without a word: nobody wants what we still do.
                os._exit(0)
            for message in decoder.received(count):
                if message.kind == "cancel":
                    self._cancel(message.fields["number"])
                elif message.kind == "close":
                    self._work.put(None)
                else:
                    self._work.put(message)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front process decides when we stop
    code = Worker(socket.socket(fileno=int(sys.argv[1]))).run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a user's non-daemon threads must not keep an unloaded model's process alive.
    os._exit(code)


if __name__ == "__main__":
    main()
