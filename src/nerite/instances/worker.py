"""The child's half of a process instance: `python -m nerite.instances.worker FD`.

The main thread loads and executes, and whoever answers a call writes. Imports core and backends
only.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from functools import partial
from typing import Any, Callable, Mapping

from nerite.backends.base import Backend, ModelSpec, open_backend
from nerite.backends.states import with_states
from nerite.core.call import RESCHEDULED, Answer, Call
from nerite.core.errors import InferenceError, Status
from nerite.core.files import Filed, Span
from nerite.core.layout import Buffer, Packed
from nerite.core.request import Response
from nerite.instances import stream, wire
from nerite.instances.inbox import Inbox
from nerite.instances.questions import Questions

_PATIENCE_NS = 200_000  # how long a fast model's answers wait for each other
# Seconds that an answer is held back at most: whoever waits for it may be what it waits for.
_MOST_HELD = 300.0


class Outbox:
    """Writes answers to the socket from any thread, whole and in order.

    Nobody waits for the writer: who finds it busy leaves the entry with it. So an answer that a
    garbage collection gives, in the middle of another's write, cannot deadlock. While the main
    thread works through a message it holds answers back for a moment, to write several at once.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        # Answers, and messages that are whole already.
        self._entries: deque[wire.Entry | list[Buffer]] = deque()
        self._writing = threading.Lock()
        self._main = threading.get_ident()
        self.memory = stream.Memory(self.post)
        self._held_since = 0
        self.held = False

    def put(self, entry: wire.Entry) -> None:
        self._entries.append(entry)
        if self.held and threading.get_ident() == self._main:
            now = time.monotonic_ns()
            if not self._held_since:
                self._held_since = now
                return
            if now - self._held_since < _PATIENCE_NS:
                return
        self.flush()

    def put_done(self, batch: int, last: int, busy: int) -> None:
        """A batch is done; told with the answer to its last call where that still waits here."""
        try:
            entry = self._entries.pop()
        except IndexError:  # written
            self.put(wire.Entry(0, batch, 0, busy, wire.DONE))
            return
        if type(entry) is wire.Entry and entry[0] == last and entry[4] == wire.LAST:
            number, _, input_ns, infer_ns, flags, head, payload, start = entry
            flags |= wire.DONE
            entry = wire.entry(number, batch, input_ns, infer_ns, flags, head, payload, start)
            self._entries.append(entry)
        else:
            self._entries.append(entry)
            self.put(wire.Entry(0, batch, 0, busy, wire.DONE))
        # The next execution may take as long as this one.
        if self._held_since and time.monotonic_ns() + busy - self._held_since > _PATIENCE_NS:
            self.flush()

    def flush(self) -> None:
        self._held_since = 0
        while self._entries and self._writing.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._writing.release()

    def _write(self) -> None:
        """All that waits; answers in a row go as one message."""
        entries: list[wire.Entry] = []
        message: list[Buffer] | None = None
        while self._entries and message is None:
            one = self._entries.popleft()
            if isinstance(one, list):
                message = one
            else:
                entries.append(one)
        if entries:
            self._send(wire.encode_entries(wire.ANSWERS, entries, self.memory.lent))
        if message is not None:
            self._send(message)

    def post(self, message: list[Buffer]) -> None:
        """Write a message of another kind, after what waits."""
        self._entries.append(message)
        self.flush()

    def post_entries(self, kind: int, entries: list[wire.Entry]) -> None:
        self.post(wire.encode_entries(kind, entries, self.memory.lent))

    def _send(self, message: list[Buffer]) -> None:
        try:
            stream.send(self._sock, message)
        except OSError:
            self._entries.clear()  # the front process is gone, and the reader will see it


class Worker:
    """One loaded backend and the calls that are open on it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._outbox = Outbox(sock)
        self._heads = wire.Heads(self._outbox.memory.borrowed.files)
        self._calls: dict[int, Call] = {}  # of the batch that is executed
        # Those that it left open, for as long as the backend holds them.
        self._left: weakref.WeakValueDictionary[int, Call] = weakref.WeakValueDictionary()
        # The calls whose answers have to wait, until the event is set.
        self._held: dict[int, threading.Event] = {}
        self._model = ""
        # Nobody wants what we still do when the front process is gone.
        gone = partial(os._exit, 0)
        self._inbox = Inbox(sock, self._aside, gone, self._outbox.memory)
        self._questions = Questions(self._heads, self._outbox, self._inbox)
        self._check: Callable[[], bool] | None = None

    def run(self) -> int:
        backend = self._load(self._inbox.next().fields)
        if backend is None:
            return 1
        while True:
            message = self._inbox.next()
            if message.kind == wire.CLOSE:
                backend.unload()
                return 0
            self._outbox.held = True
            self._execute(backend, message.entries)
            self._outbox.held = False
            self._outbox.flush()

    def _load(self, fields: dict[str, Any]) -> Backend | None:
        spec = ModelSpec.from_json(fields["spec"], self._questions)
        self._model = spec.name
        try:
            backend = with_states(open_backend(fields["backend"]), spec.config)
            config = backend.load(spec)
            policy = config.get("model_transaction_policy", {})
            self._questions.decoupled = bool(policy.get("decoupled"))
            self._check = getattr(backend, "check_ready", None)
            self._loaded({"config": config, "checks_ready": self._check is not None})
        except InferenceError as error:
            self._loaded({"error": [error.status.name, error.message]})
            return None
        except Exception as error:
            traceback.print_exc()
            text = "".join(traceback.format_exception_only(type(error), error)).strip()
            self._loaded({"error": [Status.INTERNAL.name, text]})
            return None
        return backend

    def _check_ready(self) -> None:
        """In a thread of its own, for the model may be busy, and take its time."""
        assert self._check is not None
        try:
            said: dict[str, Any] = {"ready": self._check()}
        except Exception as error:
            said = {"error": str(error)}
        self._outbox.post(wire.encode(wire.READY, said))

    def _loaded(self, fields: dict[str, Any]) -> None:
        self._outbox.post(wire.encode(wire.LOADED, fields))

    def _execute(self, backend: Backend, entries: list[wire.Entry]) -> None:
        calls: list[Call] = []
        start = time.monotonic_ns()
        for entry in entries:
            call = self._call(entry)
            if not call.ended:
                calls.append(call)
            if entry[4] & wire.LAST:
                self._execute_batch(backend, calls, entry[1], start)
                calls = []
                start = time.monotonic_ns()

    def _call(self, entry: wire.Entry) -> Call:
        request = self._heads.request(self._model, entry)
        number = entry[0]
        call = self._calls[number] = Call(request, partial(self._answer, number))
        if entry[4] & wire.CANCELLED:
            call.cancel()
        inputs = request[1]
        if type(inputs) is Packed and type(inputs.data) is Filed:
            try:
                inputs.read()
            except InferenceError as error:
                call.fail(error)
        return call

    def _execute_batch(self, backend: Backend, calls: list[Call], batch: int, begun: int) -> None:
        start = time.monotonic_ns()
        for call in calls:
            call.taken_ns = begun
            call.input_ns = start - begun
        self._questions.begin(batch)
        try:
            if calls:  # those whose tensors cannot be read have ended
                backend.execute(calls)
        except Exception as error:
            traceback.print_exc()
            text = f"the backend failed: {type(error).__name__}: {error}"
            for call in calls:
                call.fail(InferenceError(Status.INTERNAL, text))
        last = 0
        for last, call in self._calls.items():
            if not call.ended:
                self._left[last] = call
        self._calls.clear()
        self._outbox.put_done(batch, last, time.monotonic_ns() - start)

    def _answer(self, number: int, call: Call, answer: Answer) -> None:
        infer_ns = call.infer_ns or time.monotonic_ns() - call.taken_ns - call.input_ns
        if call.infer_ns:
            call.infer_ns = 0  # a mark is of one answer
        places = call.request.places
        try:
            if places and isinstance(answer, Response):
                answer = self._write(answer, places)
            head, payload = self._heads.of_answer(answer)
        except (TypeError, ValueError) as error:
            text = f"the model's answer cannot be sent: {error}"
            head, payload = self._heads.of_answer(InferenceError(Status.INTERNAL, text))
        final = wire.LAST if not isinstance(answer, Response) or answer.final else 0
        if answer is RESCHEDULED:
            final |= wire.AGAIN
        if self._held:
            self._wait(number, bool(final))
        start = call.taken_ns
        self._outbox.put(
            wire.entry(number, 0, call.input_ns, infer_ns, final, head, payload, start)
        )
        if not final:
            self._outbox.flush()  # the next may take its time
            self._inbox.glance()

    def _write(self, answer: Response, places: Mapping[str, Span]) -> Response:
        """The same answer, its outputs written where they are wanted, if they can be."""
        try:
            written = self._heads.written(answer.outputs, places) if answer.outputs else None
        except OSError:
            return answer
        return answer if written is None else answer._replace(outputs=written)

    def _wait(self, number: int, final: bool) -> None:
        """Hold an answer back while who gets it has no room for more."""
        event = self._held.get(number)
        if final:
            self._pace(number, False)
        elif event is not None:
            self._inbox.pause(event, _MOST_HELD)

    def _pace(self, number: int, held: bool) -> None:
        call = self._calls.get(number) or self._left.get(number)
        if held and call is not None:
            self._held[number] = threading.Event()
        if not held or call is None or call.ended:  # meanwhile; nobody else would let it go
            event = self._held.pop(number, None)
            if event is not None:
                event.set()

    def _aside(self, message: wire.Message) -> bool:
        """Take what does not wait for the main thread, in the one that reads."""
        if message.kind == wire.CANCEL:
            number = message.fields["number"]
            call = self._calls.get(number) or self._left.get(number)
            if call is not None:
                call.cancel()
            self._pace(number, False)
        elif message.kind == wire.HOLD:
            self._pace(**message.fields)
        elif message.kind == wire.ANSWERS:
            self._questions.answered(message.entries)
        elif message.kind == wire.REPLY:
            self._questions.replied(message.fields)
        elif message.kind == wire.READY:
            threading.Thread(target=self._check_ready, daemon=True).start()
        else:
            return False
        return True


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front process decides when we stop
    number = int(sys.argv.pop())  # the rest of the arguments, which are none, are the model's
    code = Worker(socket.socket(fileno=number)).run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a user's non-daemon threads must not keep an unloaded model's process alive.
    os._exit(code)


if __name__ == "__main__":
    main()
