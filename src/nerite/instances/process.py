"""The front process's half of a worker: spawns it, hands calls over, notices when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from collections import deque
from dataclasses import asdict
from functools import partial
from typing import Any

from nerite.backends.base import Config, ModelSpec
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status
from nerite.instances import wire

log = logging.getLogger(__name__)

_LAST_LINES = 20  # of a worker's output, kept for the error that tells of its death
_BACKOFF = (0.1, 0.5, 2.0, 10.0, 30.0)  # seconds before each restart in a row
_EXIT_SECONDS = 10.0  # a worker gets to finalize its model before it is killed


class ProcessInstance:
    """A backend in a child process. Belongs to one loop."""

    def __init__(self, backend: str, spec: ModelSpec) -> None:
        self._backend = backend
        self._spec = spec
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._batches: dict[int, asyncio.Future[None]] = {}
        self._loaded: asyncio.Future[Config] | None = None
        self._link: _Link | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._watch: asyncio.Task[None] | None = None
        self._closing = False
        self.ready = False

    async def start(self) -> Config:
        config = await self._spawn()
        self._watch = asyncio.get_running_loop().create_task(self._keep_alive())
        return config

    async def execute(self, calls: list[Call]) -> None:
        if not self.ready or self._link is None:
            for call in calls:
                call.fail(self._gone("is being restarted"))
            return
        batch = next(self._numbers)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._batches[batch] = done
        self._link.send(self._execute_message(batch, calls))
        await done

    def _execute_message(self, batch: int, calls: list[Call]) -> list[wire.Buffer]:
        entries, buffers, cancelled = [], [], []
        for call in calls:
            number = next(self._numbers)
            fields, data = wire.pack_request(call.request)
            entries.append({"number": number, **fields})
            buffers.extend(data)
            self._calls[number] = call
            if call.cancelled:
                cancelled.append(number)
            else:
                call.on_cancel(partial(self._cancel, number))
        fields = {"batch": batch, "calls": entries, "cancelled": cancelled}
        return wire.encode("execute", fields, buffers)

    def _cancel(self, number: int) -> None:
        if number in self._calls and self._link is not None:
            self._link.send(wire.encode("cancel", {"number": number}))

    async def close(self) -> None:
        """Let the worker finalize its model and leave; kill it when it does not."""
        self._closing = True
        self.ready = False
        if self._link is not None:
            self._link.send(wire.encode("close", {}))
        if self._process is not None and self._process.returncode is None:
            try:
                await asyncio.wait_for(self._process.wait(), _EXIT_SECONDS)
            except TimeoutError:
                _kill(self._process)
        if self._watch is not None:
            await self._watch

    async def _spawn(self) -> Config:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "nerite.instances.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the front process alone
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._lines.clear()
        self._loaded = loop.create_future()
        self._link = _Link(loop, ours, self._take)
        spec = {**asdict(self._spec), "folder": str(self._spec.folder)}
        self._link.send(wire.encode("load", {"backend": self._backend, "spec": spec}))
        reading = loop.create_task(self._read_output(self._process))
        self._link.closed.add_done_callback(lambda _: self._lost())
        try:
            config = await self._loaded
        except BaseException:
            _kill(self._process)
            await reading
            raise
        self.ready = True
        return config

    def _take(self, message: wire.Message) -> None:
        """A message from the worker, on the loop."""
        fields = message.fields
        if message.kind == "respond":
            call = self._calls.get(fields["number"])
            if call is None:
                return
            answer = wire.unpack_answer(message)
            if isinstance(answer, InferenceError):
                del self._calls[fields["number"]]
                call.fail(answer)
            else:
                if answer.final:
                    del self._calls[fields["number"]]
                call.send(answer)
        elif message.kind == "done":
            done = self._batches.pop(fields["batch"])
            if not done.done():
                done.set_result(None)
        elif self._loaded is not None and not self._loaded.done():
            if "error" in fields:
                status, text = fields["error"]
                self._loaded.set_exception(InferenceError(Status[status], text))
            else:
                self._loaded.set_result(fields["config"])

    def _lost(self) -> None:
        """The worker's socket closed: whatever is open here will never be answered."""
        self.ready = False
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(self._gone("died while loading the model"))
        calls, self._calls = self._calls, {}
        batches, self._batches = self._batches, {}
        for call in calls.values():
            call.fail(self._gone("died"))
        for done in batches.values():
            if not done.done():
                done.set_result(None)

    def _gone(self, what: str) -> InferenceError:
        tail = "".join(f"\n  {line}" for line in self._lines)
        said = f". Its last lines:{tail}" if tail and what != "is being restarted" else ""
        text = f"the worker process of model instance '{self._spec.instance}' {what}{said}"
        return InferenceError(Status.UNAVAILABLE, text)

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        """What the model prints goes to the server's log, line by line, under its name."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line longer than the reader's limit; the rest follows
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._lines.append(text)
            log.info("[%s] %s", self._spec.instance, text)

    async def _keep_alive(self) -> None:
        """Restart the worker whenever it dies, later each time in a row."""
        failures = 0
        while True:
            assert self._process is not None
            code = await self._process.wait()
            if self._closing:
                return
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            wait = _BACKOFF[min(failures, len(_BACKOFF) - 1)]
            name = self._spec.instance
            log.error("worker of '%s' died (%s); restarting in %.1f s", name, how, wait)
            await asyncio.sleep(wait)
            if self._closing:
                return
            try:
                await self._spawn()
                failures = 0
            except InferenceError as error:
                failures += 1
                log.error("worker of '%s' does not come back: %s", name, error)


class _Link:
    """Our end of the socket: never blocks the loop, and reads only to hand over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, take: Any) -> None:
        self._loop = loop
        self._sock = sock
        self._take = take
        self._decoder = wire.Decoder()
        self._unsent: list[memoryview] = []
        self.closed: asyncio.Future[None] = loop.create_future()
        sock.setblocking(False)
        loop.add_reader(sock, self._readable)

    def send(self, message: list[wire.Buffer]) -> None:
        if self.closed.done():
            return
        waiting = bool(self._unsent)
        self._unsent.extend(memoryview(part) for part in message if len(part))
        if not waiting:
            self._write()
            if self._unsent:
                self._loop.add_writer(self._sock, self._writable)

    def _writable(self) -> None:
        self._write()
        if not self._unsent and not self.closed.done():
            self._loop.remove_writer(self._sock)

    def _write(self) -> None:
        try:
            self._unsent = wire.send_some(self._sock, self._unsent)
        except OSError:
            self._unsent = []
            self._close()

    def _readable(self) -> None:
        try:
            count = self._sock.recv_into(self._decoder.buffer())
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if count == 0:
            self._close()
            return
        for message in self._decoder.received(count):
            self._take(message)

    def _close(self) -> None:
        if self.closed.done():
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self.closed.set_result(None)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
