"""Answers in the order of their requests, whichever is executed first (preserve_ordering)."""

from __future__ import annotations

from collections import deque

from nerite.core.call import Answer, Call, Deliver
from nerite.core.errors import InferenceError


class _Place:
    __slots__ = ("answers", "deliver", "done")

    def __init__(self, deliver: Deliver) -> None:
        self.deliver = deliver
        self.answers: deque[tuple[Call, Answer]] = deque()
        self.done = False


class Order:
    """Holds answers back until those before them are given. Belongs to the server's loop."""

    def __init__(self) -> None:
        self._places: deque[_Place] = deque()

    def place(self, deliver: Deliver) -> Deliver:
        """What to deliver the next request's answers to."""
        place = _Place(deliver)
        self._places.append(place)

        def take(call: Call, answer: Answer) -> None:
            place.answers.append((call, answer))
            place.done = isinstance(answer, InferenceError) or answer.final
            self._release()

        return take

    def _release(self) -> None:
        while self._places:
            place = self._places[0]
            while place.answers:
                place.deliver(*place.answers.popleft())
            if not place.done:
                return
            if self._places and self._places[0] is place:  # a delivery may release as well
                self._places.popleft()
