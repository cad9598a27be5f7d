"""Compressed requests and answers of a door, with the long work in threads: zlib lets go of the
interpreter, and the loop has other clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from nerite.frontends.answers import answer_error
from nerite.frontends.compression import compress, decompress
from nerite.frontends.http1 import Body, Exchange

# A body may grow a thousandfold; up to these sizes a thread costs more than the work.
_SMALL_REQUEST = 1 << 12
_SMALL_ANSWER = 1 << 16


def unpack(exchange: Exchange, limit: int, go_on: Callable[[Exchange], None]) -> None:
    """Take the Content-Encoding off the body, now or in a thread, and go on.

    Raises InferenceError, or answers with one.
    """
    if len(exchange.body) <= _SMALL_REQUEST:
        exchange.body = decompress(exchange.head, exchange.body, limit)
        go_on(exchange)
        return

    def done(work: asyncio.Future[Body]) -> None:
        try:
            exchange.body = work.result()
            if exchange.open:
                go_on(exchange)
        except Exception as error:
            answer_error(exchange, error)
        finally:
            del work  # its error holds this frame, and the body that of the thread

    loop = asyncio.get_running_loop()
    arguments = (exchange.head, exchange.body, limit)
    loop.run_in_executor(None, decompress, *arguments).add_done_callback(done)


def respond(exchange: Exchange, headers: bytes, parts: Sequence[Body]) -> None:
    """Answer 200, compressed as the client likes best."""
    if sum(map(len, parts)) <= _SMALL_ANSWER:
        encoding, packed = compress(exchange.head, parts)
        exchange.respond(200, headers + encoding, packed)
        return

    def done(work: asyncio.Future[tuple[bytes, Sequence[Body]]]) -> None:
        try:
            encoding, packed = work.result()
        except Exception as error:
            answer_error(exchange, error)
        else:
            exchange.respond(200, headers + encoding, packed)

    # The parts may be views of memory that is used again once this returns.
    whole = [b"".join(parts)]
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, compress, exchange.head, whole).add_done_callback(done)
