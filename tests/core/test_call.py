"""A call ends exactly once, whoever answers, from whichever thread."""

import asyncio
import gc
import threading
import weakref

import numpy as np
import pytest

from nerite.core.call import RESCHEDULED, Answer, Call, Deliver, Responses
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response

REQUEST = Request("model", {})


def ask() -> tuple[Call, Responses]:
    responses = Responses()
    call = Call(REQUEST, responses.deliver)
    return call, responses.watch(call)


ONE = Response({"out": np.ones(1)})
PART = Response({"out": np.zeros(1)}, final=False)
LOST = InferenceError(Status.INTERNAL, "lost")


async def test_one_answer() -> None:
    call, responses = ask()
    assert call.send(ONE)
    assert await responses.one() is ONE
    assert call.ended


async def test_nothing_comes_after_the_end() -> None:
    call, responses = ask()
    assert call.send(ONE)
    assert not call.send(ONE)
    assert not call.send(PART)
    assert not call.fail(LOST)
    assert [answer async for answer in responses] == [ONE]


async def test_several_answers_then_an_error() -> None:
    call, responses = ask()
    call.send(PART)
    call.fail(LOST)
    assert await anext(responses) is PART
    with pytest.raises(InferenceError, match="lost"):
        await anext(responses)
    with pytest.raises(StopAsyncIteration):
        await anext(responses)


async def test_one_refuses_several() -> None:
    call, responses = ask()
    call.send(PART)
    call.send(ONE)
    with pytest.raises(InferenceError, match="expected one response, got 2"):
        await responses.one()


async def test_an_empty_final_response_only_ends() -> None:
    call, responses = ask()
    call.send(PART)
    call.send(Response())
    assert await responses.one() is PART


async def test_answers_from_many_threads_end_once() -> None:
    call, responses = ask()
    start = threading.Barrier(8)
    ends: list[bool] = []

    def answer() -> None:
        start.wait()
        ends.append(call.send(ONE))

    threads = [threading.Thread(target=answer) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert await responses.one() is ONE
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert sorted(ends) == [False] * 7 + [True]


async def test_a_dropped_call_fails_itself() -> None:
    call, responses = ask()
    del call
    gc.collect()
    with pytest.raises(InferenceError, match="dropped the request unanswered"):
        await responses.one()


async def test_closing_cancels() -> None:
    call, responses = ask()
    told: list[str] = []
    call.on_cancel(lambda: told.append("early"))
    responses.close()
    assert call.cancelled
    call.on_cancel(lambda: told.append("late"))
    responses.close()
    assert told == ["early", "late"]


async def test_a_cancelled_reader_cancels_the_call() -> None:
    call, responses = ask()
    reading = asyncio.ensure_future(responses.one())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert call.cancelled
    call.fail(LOST)


async def test_an_ended_call_cannot_be_cancelled() -> None:
    call, responses = ask()
    call.send(ONE)
    responses.close()
    assert not call.cancelled


def test_a_backend_may_have_its_request_executed_once_more() -> None:
    told: list[object] = []
    call = Call(REQUEST, lambda call, answer: told.append(answer))
    assert call.reschedule()
    assert told == [RESCHEDULED] and told[0] is RESCHEDULED
    assert not call.send(ONE)


def test_what_a_backend_rescheduled_goes_back_to_its_scheduler() -> None:
    told: list[object] = []
    back: list[Call] = []
    call = Call(REQUEST, lambda call, answer: told.append(answer))
    call.put_back()
    assert "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE" in str(told[0])
    call = Call(REQUEST, lambda call, answer: told.append(answer))
    call.again = back.append
    call.put_back()
    assert back == [call] and not call.ended
    assert call.send(ONE)


def test_answers_may_be_redirected() -> None:
    told: list[str] = []

    def through(deliver: Deliver) -> Deliver:
        def take(call: Call, answer: Answer) -> None:
            told.append("through")
            deliver(call, answer)

        return take

    call = Call(REQUEST, lambda call, answer: told.append("there"))
    call.redirect(through)
    call.send(ONE)
    assert told == ["through", "there"]


def test_a_call_that_has_ended_is_gone_with_the_last_who_holds_it() -> None:
    class Asker:
        def take(self, call: Call, answer: Answer) -> None:
            self.answer = answer

    asker = Asker()
    call = Call(REQUEST, asker.take)
    asker.cancel = call.cancel  # type: ignore[attr-defined]
    call.send(Response())
    gone = weakref.ref(call)
    gc.disable()
    try:
        del asker, call
        assert gone() is None
    finally:
        gc.enable()
