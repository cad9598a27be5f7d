"""One ModelStreamInfer: many requests in, their answers out of one stream.

Answers of models that are not decoupled come in the order of their requests, those of decoupled
ones as they come. An error is told in the stream, which lives on, unless the client asked for a
status by the metadata `triton_grpc_error: true`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from nerite.core.call import Answer, Call, Deliver
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.core.text import sayable
from nerite.frontends import v2_proto
from nerite.frontends.http1 import Body
from nerite.frontends.intake import Forwarding
from nerite.frontends.regions import Regions
from nerite.frontends.v2_response import Target, placed, target_of
from nerite.frontends.v2_service import read
from nerite.server import Server
from nerite.tracing.tracer import Carrier

_EMPTY_FINAL = "triton_enable_empty_final_response"

# Answers that wait for a client above which its further requests are not read: so many, and so
# many bytes, where those of open requests count for as much as the longest so far.
_UNREAD = 1000
_UNREAD_BYTES = 1 << 26
_UNKNOWN = 1 << 20  # bytes of an answer before the first has come

log = logging.getLogger(__name__)


Told = tuple[bytes, InferenceError | None]


class _Turn:
    """One request's place in the stream, and what it says before its turn has come."""

    __slots__ = ("call", "done", "messages", "request", "target", "wants_empty")

    def __init__(self, request: Request, wants_empty: bool) -> None:
        self.request = request
        self.target: Target | None = None
        self.wants_empty = wants_empty
        self.messages: list[Told] = []
        self.done = False
        self.call: Call | None = None


class InferStream:
    """Belongs to the server's loop; iterate `answers` to the end, or close it."""

    def __init__(
        self,
        server: Server,
        regions: Regions,
        requests: AsyncIterator[Body],
        headers: Carrier,
        forward: Forwarding,
    ) -> None:
        """requests: messages as bytes. headers: what the stream was opened with."""
        self._forward = forward
        self._server = server
        self._regions = regions
        self._requests = requests
        self._headers = headers
        self._ready: deque[Told] = deque()
        self._waiting = 0  # bytes that are ready, or will be when their turn has come
        self._longest = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._turns: deque[_Turn] = deque()  # of models that keep the order
        self._open: set[_Turn] = set()
        self._all_read = False

    async def answers(self) -> AsyncGenerator[Told, None]:
        """The stream's messages as bytes, each with the error it tells of, if any."""
        reading = self._loop.create_task(self._read())
        try:
            while True:
                while self._ready:
                    told = self._ready.popleft()
                    yield told
                    self._waiting -= len(told[0])
                    self._room.set()
                if self._all_read and not self._open:
                    return
                self._news.clear()
                await self._news.wait()
        finally:
            reading.cancel()
            if not self._all_read or self._open:
                log.debug("Cancellation notification received for ModelStreamInfer")
            for turn in list(self._open):
                if turn.call is not None:
                    turn.call.cancel()

    async def _read(self) -> None:
        try:
            async for data in self._requests:
                try:
                    self._begin(read(pb.ModelInferRequest, data))
                except InferenceError as error:  # it is no message
                    self._take(_Turn(Request("", {}), False), False, error)
                while self._is_full():
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._all_read = True
            self._news.set()

    def _is_full(self) -> bool:
        """Whether the client has to read before it is read. A decoupled model's open requests do
        not count: one that goes on for ever may be waiting for another."""
        expected = len(self._turns) * (self._longest or _UNKNOWN)
        return len(self._ready) > _UNREAD or self._waiting + expected > _UNREAD_BYTES

    def _begin(self, message: Any) -> None:
        wants_empty = _EMPTY_FINAL in message.parameters and (
            message.parameters[_EMPTY_FINAL].bool_param
        )
        turn = _Turn(Request(message.model_name, {}, id=message.id), wants_empty)
        ordered = True  # an unknown model, too
        try:
            model = self._server.find(message.model_name, message.model_version)
            ordered = not model.decoupled
            turn.request, form = v2_proto.decode(message, self._regions)
            turn.request = self._forward(turn.request, self._headers.items())
            turn.target = target_of(model, form, self._regions)
            turn.request = placed(turn.request, turn.target)
        except Exception as error:
            if ordered:
                self._turns.append(turn)
            self._take(turn, ordered, _told(error))
            return
        self._open.add(turn)
        if ordered:
            self._turns.append(turn)
        request = turn.request
        deliver: Deliver = partial(self._deliver, turn, ordered)
        if self._server.tracer.active:
            request, deliver = self._server.tracer.follow(request, deliver, "GRPC", self._headers)
        try:
            call = self._server.submit(request, deliver)
        except Exception as error:
            self._take(turn, ordered, _told(error))
        else:
            turn.call = call

    def _deliver(self, turn: _Turn, ordered: bool, call: Call, answer: Answer) -> None:
        """From any thread: a call that nobody holds any more fails where it is collected."""
        self._loop.call_soon_threadsafe(self._take, turn, ordered, answer)

    def _take(self, turn: _Turn, ordered: bool, answer: Answer) -> None:
        if isinstance(answer, InferenceError):
            self._say(turn, _error(turn, answer))
            turn.done = True
        else:
            turn.done = answer.final
            if answer.error is not None:
                self._say(turn, _error(turn, answer.error, final=False))
            elif answer.outputs or not answer.final or turn.wants_empty:
                self._say(turn, _reply(turn, answer))
        if turn.done:
            self._open.discard(turn)
            self._room.set()
        if ordered:
            self._release()
        else:
            self._ready.extend(turn.messages)
            turn.messages = []
        self._news.set()

    def _say(self, turn: _Turn, told: Told) -> None:
        turn.messages.append(told)
        self._waiting += len(told[0])
        self._longest = max(self._longest, len(told[0]))

    def _release(self) -> None:
        """Let out what waits, up to the first request that is not answered yet."""
        while self._turns:
            turn = self._turns[0]
            self._ready.extend(turn.messages)
            turn.messages = []
            if not turn.done:
                return
            self._turns.popleft()


def _reply(turn: _Turn, answer: Response) -> Told:
    assert turn.target is not None
    try:
        message = v2_proto.encode(turn.request, answer, turn.target)
        message.parameters["triton_final_response"].bool_param = answer.final
        return pb.ModelStreamInferResponse(infer_response=message).SerializeToString(), None
    except Exception as error:
        return _error(turn, _told(error))


def _told(error: Exception) -> InferenceError:
    """What a client is told: of a fault of ours only that there was one."""
    if isinstance(error, InferenceError):
        return error
    log.error("a request of a stream failed", exc_info=error)
    return InferenceError(Status.INTERNAL, "internal error; the server's log says more")


def _error(turn: _Turn, error: InferenceError, *, final: bool = True) -> Told:
    message = pb.ModelInferResponse(model_name=turn.request.model, id=turn.request.id)
    message.parameters["triton_final_response"].bool_param = final
    reply = pb.ModelStreamInferResponse(
        error_message=sayable(error.message), infer_response=message
    )
    return reply.SerializeToString(), error


def wants_status(metadata: Any) -> bool:
    """Whether the client wants an error as the stream's status (`triton_grpc_error: true`)."""
    return any(key == "triton_grpc_error" and value == "true" for key, value in metadata or ())
