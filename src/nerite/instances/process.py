"""The front process's half of a worker: spawns it, hands calls over, notices when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from nerite.backends.base import Config, ModelSpec
from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status
from nerite.core.home import Home
from nerite.instances import host_policy, wire
from nerite.instances.asked import Asked
from nerite.instances.base import WarmUp
from nerite.instances.deadline import EXECUTION, Deadline
from nerite.instances.declared import Declared
from nerite.instances.environment import spawn
from nerite.instances.link import Link
from nerite.instances.memory import resident
from nerite.instances.output import Output, ending
from nerite.instances.readiness import Readiness

log = logging.getLogger(__name__)

_BACKOFF = (0.1, 0.5, 2.0, 10.0, 30.0)  # seconds before each restart in a row
_LAST_WORDS_SECONDS = 1.0
_EXIT_SECONDS = 10.0  # a worker gets to finalize its model before it is killed

# A model that answers faster than a message travels is handed several executions at once, as many
# as it does in two milliseconds; a slower one gets the next when it is done.
_FAST_NS = 250_000
_AHEAD_NS = 2_000_000
_MOST_AHEAD = 64


class ProcessInstance:
    """A backend in a child process. Belongs to one loop."""

    def __init__(
        self,
        backend: str,
        spec: ModelSpec,
        home: Home,
        cores: host_policy.Cores | None = None,
        timeout: float = 0.0,
    ) -> None:
        """cores: where the worker may run; None for anywhere. timeout: seconds that a request may
        get no answer before the process is taken for stuck, and another one started; 0 for ever."""
        self.ready = False
        self.broken: InferenceError | None = None
        self.in_flight = 0
        self.capacity = 1
        self.checks_ready = False
        self._readiness = Readiness(spec.instance)
        self._backend = backend
        self._spec = spec
        self._home = home
        self._turn = home.turn
        self._cores = cores
        self._numbers = itertools.count(1)
        self._told = self._cancelled  # bound once
        self._calls: dict[int, Call] = {}
        self._batches: dict[int, tuple[Callable[[], None], list[Call]]] = {}
        self._decoupled = False
        self._entries: list[wire.Entry] = []
        self._unsent = 0  # executions in them
        self._awaited = False  # the end of this turn
        self._heads = wire.Heads()  # of the link
        self._busy_ns = 0.0
        self._changed: Callable[[], None] = lambda: None
        self._loaded: asyncio.Future[Config] | None = None
        self._link: Link | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._output = Output(spec.instance)
        self._watch: asyncio.Task[None] | None = None
        self._losing: asyncio.Task[None] | None = None
        self._closing = False
        self._deadline = Deadline(timeout, self._stuck) if timeout else None
        self._end = ""
        self._warm: WarmUp | None = None

    @property
    def memory_bytes(self) -> int:
        return resident(self._process.pid) if self._process is not None else 0

    async def start(self, changed: Callable[[], None]) -> Config:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        config = await self._spawn()
        self._serve()
        self._watch = self._loop.create_task(self._keep_alive())
        return config

    async def warm(self, up: WarmUp) -> None:
        self._warm = up
        await up(self)

    def _serve(self) -> None:
        assert self._link is not None
        self.ready = not self._link.closed.done()  # it may have died as soon as it was there
        self.broken = None

    def execute(self, calls: list[Call], done: Callable[[], None]) -> None:
        batch = 0
        left = len(calls)
        for call in calls:
            # First of all: what raises here leaves nothing behind that never ends.
            head, payload = self._heads.of_request(call.request)
            number = next(self._numbers)
            batch = batch or number  # an execution has the number of its first call
            left -= 1
            self._calls[number] = call
            call.holder = self._told
            if self._decoupled:
                call.hold = partial(self._hold, number)
            flags = 0 if left else wire.LAST
            if call.cancelled:
                flags |= wire.CANCELLED
            self._entries.append(wire.entry(number, batch, 0, 0, flags, head, payload, 0))
        self._batches[batch] = done, calls
        self.in_flight += 1
        self._unsent += 1
        # A worker with nothing to do begins at once; else, what comes in the same turn of the loop
        # goes into the same message.
        if self.in_flight == 1 and not self._turn.begun:
            self._flush()
            self._expect()
        elif not self._awaited:
            self._awaited = True
            self._turn.add(self._end_turn)
        if self._deadline is not None:
            self._deadline.expect()

    def _end_turn(self) -> None:
        self._awaited = False
        self._flush_when_due()
        self._expect()

    def _flush_when_due(self) -> None:
        """Send what waits once it is as much as the worker still has.

        A message costs either end as much as a quick execution. The worker does not go without:
        it has half of all, and the rest is on its way when that is done.
        """
        if self.in_flight <= 2 * self._unsent:
            self._flush()

    def _expect(self) -> None:
        """All is sent, and who asked for it waits: a quick worker's answer is next."""
        if self.capacity > 1 and not self._unsent and self._link is not None:
            self._link.watch()

    def _flush(self) -> None:
        if self._entries and self._link is not None:
            entries, self._entries, self._unsent = self._entries, [], 0
            self._link.send_entries(wire.CALLS, entries)

    def _cancelled(self, call: Call) -> None:
        """Tell the worker that a call which it has is cancelled."""
        for number, one in self._calls.items():
            if one is call:
                self._say(wire.CANCEL, number=number)
                return

    def _hold(self, number: int, held: bool) -> None:
        if number in self._calls:
            self._say(wire.HOLD, number=number, held=held)
            if self._deadline is not None:
                self._deadline.hold(number, held)

    def _say(self, kind: int, **fields: Any) -> None:
        """Write a rare message, after the calls that wait."""
        if self._link is not None:
            self._flush()
            self._link.send(wire.encode(kind, fields))

    async def close(self) -> None:
        """Let the worker finalize its model and leave; kill it when it does not."""
        self._closing = True
        self.ready = False
        self._say(wire.CLOSE)
        if self._process is not None and self._process.returncode is None:
            try:
                await asyncio.wait_for(self._process.wait(), _EXIT_SECONDS)
            except TimeoutError:
                self._kill("did not leave, and was killed")
        if self._losing is not None:
            await self._losing
        if self._watch is not None:
            await self._watch

    async def _spawn(self) -> Config:
        self._process, ours = await spawn(self._spec)
        self._end = ""
        self._loaded = self._loop.create_future()
        self._link = Link(self._loop, ours, self._take, self._turn)
        self._heads = wire.Heads(self._link.files)
        self._asked = Asked(self._home, self._answered, self._replied)
        self._asks = False
        spec = self._spec.to_json()
        self._link.send(wire.encode(wire.LOAD, {"backend": self._backend, "spec": spec}))
        assert self._process.stdout is not None
        reading = self._loop.create_task(self._output.read(self._process.stdout))
        self._losing = self._loop.create_task(self._lose(self._link, reading))
        try:
            if self._cores is not None:  # before the worker has started a thread
                host_policy.bind(self._process.pid, self._cores, self._spec.instance)
            config = await self._loaded
        except BaseException:
            self._loaded.cancel()
            self._kill("did not load its model, and was killed")
            await asyncio.wait((reading,), timeout=_LAST_WORDS_SECONDS)
            raise
        self._heads.look = Declared(self._spec, config).look
        policy = config.get("model_transaction_policy", {})
        self._decoupled = bool(policy.get("decoupled"))
        return config

    def _take(self, message: wire.Message) -> None:
        """A message from the worker, on the loop."""
        if message.kind == wire.ANSWERS:
            # What comes next is sent before the answers are written: the worker need not wait.
            for entry in message.entries:
                if entry[4] & wire.DONE:
                    self._done(entry)
            self._flush_when_due()
            for entry in message.entries:
                if entry[0]:
                    self._answer(entry)
        elif message.kind == wire.QUESTIONS:
            for entry in message.entries:
                self._question(entry)
        elif message.kind == wire.ORDER:
            self._asked.order(**message.fields)
        elif message.kind == wire.READY:
            self._readiness.told(message.fields)
        elif message.kind == wire.CANCEL:
            self._asked.cancel(message.fields["number"])
        elif self._loaded is not None and not self._loaded.done():
            if "error" in message.fields:
                status, text = message.fields["error"]
                self._loaded.set_exception(InferenceError(Status[status], text))
            else:
                self.checks_ready = message.fields["checks_ready"]
                self._loaded.set_result(message.fields["config"])

    async def check_ready(self) -> bool:
        if not self.checks_ready or not self.ready or self._link is None:
            return self.ready
        return await self._readiness.ask(self._link)

    def _done(self, entry: wire.Entry) -> None:
        self.in_flight -= 1
        self._busy_ns += (0.1 if self._busy_ns else 1.0) * (entry[3] - self._busy_ns)
        if self._busy_ns < _FAST_NS and not self._asks:
            ahead = 1 + int(_AHEAD_NS / (self._busy_ns or 1.0))
            self.capacity = ahead if ahead < _MOST_AHEAD else _MOST_AHEAD
        else:
            self.capacity = 1
        done, calls = self._batches.pop(entry[1])
        if self._deadline is not None:
            (self._deadline.begin if self._batches else self._deadline.end)(EXECUTION)
            for number in range(entry[1], entry[1] + len(calls)):
                if number in self._calls:
                    self._deadline.begin(number)
        if self._decoupled and self._asks:
            self._asked.executed(entry.batch, calls)
        done()

    def _stuck(self, seconds: float) -> None:
        self._kill(f"worked longer than {seconds:g} s (--worker-timeout), and was killed")

    def _question(self, entry: wire.Entry) -> None:
        if not self._asks:
            self._asks = True
            self.capacity = 1  # what is handed ahead would wait for this one, and for what it asks
        _, parents = self._batches.get(entry.batch, (None, None))
        question = self._heads.request("", entry)
        many = bool(entry.flags & wire.MANY)
        self._asked.ask(entry.number, entry.batch, question, many, parents)

    def _answered(self, number: int, answer: Answer) -> None:
        """Another model has answered the worker's question."""
        if self._link is not None:
            final = isinstance(answer, InferenceError) or answer.final
            head, payload = self._heads.of_answer(answer)
            flags = wire.LAST if final else 0
            entry = wire.Entry(number, flags=flags, head=head, payload=payload)
            self._link.send_entries(wire.ANSWERS, [entry])

    def _replied(self, number: int, result: Any) -> None:
        """An order of the worker is done."""
        said: dict[str, Any] = {"result": result}
        if isinstance(result, InferenceError):
            said = {"error": [result.status.name, result.message]}
        self._say(wire.REPLY, number=number, **said)

    @property
    def waiting(self) -> list[Call]:
        return self._asked.waiting(self._batches) if self._asks else []

    def holds(self, call: Call) -> bool:
        return any(one is call for one in self._calls.values())

    def _answer(self, entry: wire.Entry) -> None:
        number, _, input_ns, infer_ns, flags, _, _, start_ns = entry
        call = self._calls.pop(number, None) if flags & wire.LAST else self._calls.get(number)
        if call is None:
            return
        if self._deadline is not None:
            (self._deadline.end if flags & wire.LAST else self._deadline.alive)(number)
        call.taken_ns, call.input_ns, call.infer_ns = start_ns, input_ns, infer_ns
        if flags & wire.AGAIN:
            call.put_back()
            return
        answer = self._heads.answer(entry)
        if isinstance(answer, InferenceError):
            call.fail(answer)
        else:
            call.send(answer)

    async def _lose(self, link: Link, reading: asyncio.Task[None]) -> None:
        """Once the worker is gone, or its socket, whatever is open will never be answered."""
        assert self._process is not None
        dying = self._loop.create_task(self._process.wait())
        await asyncio.wait((link.closed, dying), return_when=asyncio.FIRST_COMPLETED)
        link.end()  # what it has forked may live on, and hold the socket
        self.ready = False
        # How it died, and its last words, come by other ways, and belong into the error.
        await asyncio.wait((reading, dying), timeout=_LAST_WORDS_SECONDS)
        self._end = self._end or f"died{ending(self._process.returncode)}"
        self._asked.close()
        self._readiness.told({})
        self.in_flight = 0
        self._entries, self._unsent = [], 0
        batches, self._batches = self._batches, {}
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(self._gone(f"{self._end} while loading the model"))
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.fail(self._gone(self._end))
        if self._deadline is not None:
            self._deadline.clear()
        for done, _ in batches.values():  # who waits for resources that it held
            done()
        self._changed()

    def _gone(self, what: str) -> InferenceError:
        # The first sentence is Triton's.
        name = self._spec.instance
        text = f"Stub process '{name}' is not healthy. Its worker process {what}{self._output.tail}"
        return InferenceError(Status.UNAVAILABLE, text)

    async def _keep_alive(self) -> None:
        """Restart the worker whenever it dies, later each time in a row."""
        failures = 0
        while True:
            assert self._process is not None
            await self._process.wait()
            if self._losing is not None:
                await self._losing
            if self._closing:
                return
            wait = _BACKOFF[min(failures, len(_BACKOFF) - 1)]
            name = self._spec.instance
            log.error("worker of '%s' %s; restarting in %.1f s", name, self._end, wait)
            await asyncio.sleep(wait)
            if self._closing:
                return
            try:
                await self._spawn()
                if self._warm is not None:
                    await self._warm(self)
                self._serve()
                failures = 0
                log.info("worker of '%s' is back", name)
            except InferenceError as error:
                failures += 1
                self.broken = error
                self._kill("loaded and did not warm up, and was killed")
                log.error("worker of '%s' does not come back: %s", name, error)
            self._changed()

    def _kill(self, why: str) -> None:
        """why: what is said of its end, where it has not ended by itself."""
        self._end = self._end or why
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
