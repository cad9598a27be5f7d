"""ThreadInstance: a backend in the server's own process, for models that want no boundary.

What crashes or hogs the interpreter's lock there, does so to the whole server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import itertools
import logging
import os
import queue
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from nerite.backends.base import Backend, Config, ModelSpec, open_backend
from nerite.backends.states import with_states
from nerite.core.call import RESCHEDULED, Answer, Call, Deliver
from nerite.core.errors import InferenceError, Status
from nerite.core.home import Home
from nerite.core.request import Request
from nerite.core.tensor import datatype_of
from nerite.instances.asked import Asked
from nerite.instances.base import WarmUp
from nerite.instances.declared import Declared
from nerite.instances.memory import resident
from nerite.instances.questions import check_process

log = logging.getLogger(__name__)

_READY_SECONDS = 5.0  # what Triton gives a model's is_ready


class ThreadInstance:
    """One backend and the thread that it loads and executes in. Belongs to one loop."""

    def __init__(self, backend: str, spec: ModelSpec, home: Home) -> None:
        self.ready = False
        self.broken: InferenceError | None = None
        self.in_flight = 0
        self.capacity = 1
        self.checks_ready = False
        self._name = backend
        self._spec = spec
        self._home = home
        self._backend: Backend | None = None
        self._held: dict[int, Call] = {}
        self._batches: dict[int, Sequence[Call]] = {}
        self._numbers = itertools.count(1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=spec.instance)

    @property
    def memory_bytes(self) -> int:
        return 0  # it has no process of its own

    @property
    def waiting(self) -> list[Call]:
        return self._outside.asked.waiting(self._batches)

    def holds(self, call: Call) -> bool:
        return any(one is call for one in self._held.values())

    async def start(self, changed: Callable[[], None]) -> Config:
        self._loop = asyncio.get_running_loop()
        self._outside = _Link(self._home, self._spec.instance)
        spec = replace(self._spec, outside=self._outside)
        config = await self._loop.run_in_executor(self._thread, self._load, spec)
        self._declared = Declared(spec, config)
        self.checks_ready = getattr(self._backend, "check_ready", None) is not None
        self.ready = True
        return config

    def _load(self, spec: ModelSpec) -> Config:
        backend = with_states(open_backend(self._name), spec.config)
        try:
            config = backend.load(spec)
        except InferenceError:
            raise
        except Exception as error:
            log.exception("'%s' does not load", spec.instance)
            text = f"{type(error).__name__}: {error}"
            raise InferenceError(Status.INTERNAL, text) from None
        self._backend = backend
        return config

    def execute(self, calls: list[Call], done: Callable[[], None]) -> None:
        self.in_flight += 1
        batch = next(self._numbers)
        self._batches[batch] = calls
        inner = []
        for call in calls:
            number = next(self._numbers)
            self._held[number] = call
            one = Call(call.request, partial(self._answer, number))
            call.on_cancel(one.cancel)
            inner.append(one)
        self._thread.submit(self._execute, batch, inner, done)

    def _execute(self, batch: int, calls: list[Call], done: Callable[[], None]) -> None:
        self._outside.batch = batch
        now = time.monotonic_ns()
        for call in calls:
            call.taken_ns = now
        assert self._backend is not None
        try:
            self._backend.execute(calls)
        except Exception as error:
            log.exception("'%s' failed", self._spec.instance)
            text = f"the backend failed: {type(error).__name__}: {error}"
            for call in calls:
                call.fail(InferenceError(Status.INTERNAL, text))
        self._later(self._done, batch, done)

    def _answer(self, number: int, call: Call, answer: Answer) -> None:
        """In the model's thread, or one that it has started."""
        infer_ns = call.infer_ns or time.monotonic_ns() - call.taken_ns
        call.infer_ns = 0  # a mark is of one answer
        self._later(self._deliver, number, call.taken_ns, infer_ns, answer)

    def _deliver(self, number: int, taken_ns: int, infer_ns: int, answer: Answer) -> None:
        final = isinstance(answer, InferenceError) or answer.final
        call = self._held.pop(number, None) if final else self._held.get(number)
        if call is None:
            return
        call.taken_ns, call.infer_ns = taken_ns, infer_ns
        if answer is RESCHEDULED:
            call.put_back()
        elif isinstance(answer, InferenceError):
            call.fail(answer)
        else:
            self._declared.look((name, datatype_of(one)) for name, one in answer.outputs.items())
            call.send(answer)

    def _done(self, batch: int, done: Callable[[], None]) -> None:
        self.in_flight -= 1
        del self._batches[batch]
        done()

    def _later(self, what: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what, *arguments)

    async def warm(self, up: WarmUp) -> None:
        await up(self)

    async def check_ready(self) -> bool:
        check = getattr(self._backend, "check_ready", None)
        if check is None:
            return self.ready
        try:
            return bool(await asyncio.wait_for(asyncio.to_thread(check), _READY_SECONDS))
        except Exception as error:
            log.error("is_ready of '%s': %s", self._spec.instance, error or "takes too long")
            return False

    async def close(self) -> None:
        """Let the model finalize, drop it, and say how much memory that gave back."""
        self.ready = False
        before = resident(os.getpid())
        if self._backend is not None:
            await self._loop.run_in_executor(self._thread, self._unload)
            self._outside.asked.close()
        await asyncio.to_thread(self._thread.shutdown)
        freed = before - await asyncio.to_thread(_tidy)
        log.info("unloading '%s' freed %d MB of the server's memory", self._spec.instance,
                 max(0, freed) >> 20)  # fmt: skip

    def _unload(self) -> None:
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.unload()


class _Link:
    """Outside, without a boundary: what the model's threads ask is done on the loop."""

    def __init__(self, home: Home, instance: str) -> None:
        self.asked = Asked(home, self._answered, self._replied)
        self.batch = 0
        self._instance = instance
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._replies: dict[int, queue.SimpleQueue[Any]] = {}

    def ask(self, request: Request, deliver: Deliver, *, decoupled: bool, attends: bool) -> Call:
        check_process(self._process)
        number = next(self._numbers)
        call = self._calls[number] = Call(request, deliver)
        call.on_cancel(lambda: self._on_loop(self.asked.cancel, number))
        self._on_loop(self.asked.ask, number, self.batch, request, decoupled, ())
        return call

    def attend(self, done: Callable[[], bool]) -> None:
        """The loop delivers."""

    def order(self, what: str, arguments: Mapping[str, Any]) -> Any:
        check_process(self._process)
        number = next(self._numbers)
        replies = self._replies[number] = queue.SimpleQueue()
        self._on_loop(self.asked.order, number, what, arguments)
        reply = replies.get()
        if isinstance(reply, InferenceError):
            raise reply
        return reply

    def tell(self, what: str, arguments: Mapping[str, Any]) -> None:
        if os.getpid() == self._process:
            self._on_loop(self.asked.order, 0, what, arguments)

    def _on_loop(self, what: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what, *arguments)

    def _answered(self, number: int, answer: Answer) -> None:
        final = isinstance(answer, InferenceError) or answer.final
        call = self._calls.pop(number, None) if final else self._calls.get(number)
        if call is None:
            return
        if isinstance(answer, InferenceError):
            call.fail(answer)
        else:
            call.send(answer)

    def _replied(self, number: int, result: Any) -> None:
        self._replies.pop(number).put(result)


def _tidy() -> int:
    """Give back what the model has left; the bytes that are held then."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such thing
        ctypes.CDLL(None).malloc_trim(0)
    return resident(os.getpid())
