"""Whether a connection is alive, and whether its client behaves: grpc's keepalive, its limits on
pings and on age, and one on frames that cost us and do nothing."""

from __future__ import annotations

import math
import time
from enum import Enum
from typing import NamedTuple

from nerite.frontends.http2_frames import Code, ConnectionFault

_LINGER = 60.0  # seconds for a client to read the last that was written to it
_PATIENCE = 10_000  # such frames without a message between them
_IDLE_INTERVAL = 7200.0  # seconds between pings of a client that asks nothing, as grpc has it


class Terms(NamedTuple):
    """Seconds and counts, with grpc's meanings: see Triton's flags of these names.

    0 means without end for ages, and any number for counts. Not Triton's are handshake: seconds
    until the preface must have come; connections: at once; inflated: bytes that a compressed
    message may become.
    """

    keepalive_time: float = 7200.0
    keepalive_timeout: float = 20.0
    permit_without_calls: bool = False
    max_pings_without_data: int = 2
    min_ping_interval: float = 300.0
    max_ping_strikes: int = 2
    max_age: float = 0.0
    max_age_grace: float = 0.0
    handshake: float = 120.0
    connections: int = 0
    inflated: int = 1 << 26

    @property
    def interval(self) -> float:
        """Seconds between two looks that are often enough for all of them."""
        alive = (self.keepalive_time, self.keepalive_timeout, self.handshake)
        spans = (*alive, self.max_age, self.max_age_grace)
        return max(0.02, min(1.0, *(span / 4 for span in spans if span)))


class Wanted(Enum):
    """What a look at the clock may ask for."""

    NOTHING = 0
    PING = 1
    LEAVE = 2
    ABORT = 3


class Pulse:
    """Of one connection."""

    def __init__(self, terms: Terms, now: float) -> None:
        self._terms = terms
        self.begun = False  # the preface has come
        self._born = self._heard_at = now
        self._heard = False  # since the last look
        self._asked_at = self._left_at = self._closed_at = math.inf
        self._pings = 0  # of ours, since data was sent
        self._strikes = self._bothered = 0
        self._pinged_at = -math.inf

    def heard(self) -> None:
        """Bytes have come."""
        self._heard = True

    def sent(self) -> None:
        """An answer has gone."""
        self._pings = self._strikes = self._bothered = 0
        self._pinged_at = -math.inf

    def calm(self) -> None:
        """A message has come: the client does something."""
        self._bothered = 0

    def bother(self) -> None:
        """A frame that does nothing has come. Raises ConnectionFault when it is one too many."""
        self._bothered += 1
        if self._bothered > _PATIENCE:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that do nothing")

    def pinged(self, busy: bool) -> None:
        """The client asks whether we live. Raises ConnectionFault when it does too often."""
        self.bother()
        terms = self._terms
        now = time.monotonic()
        often = terms.min_ping_interval if busy or terms.permit_without_calls else _IDLE_INTERVAL
        if now - self._pinged_at < often:
            self._strikes += 1
        self._pinged_at = now
        if 0 < terms.max_ping_strikes < self._strikes:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too_many_pings")

    def look(self, now: float, busy: bool, closing: bool) -> Wanted:
        """busy: there are RPCs. closing: nothing is read or written any more."""
        terms = self._terms
        if closing:
            self._closed_at = min(now, self._closed_at)
            return Wanted.ABORT if now - self._closed_at >= _LINGER else Wanted.NOTHING
        if self._heard:
            self._heard, self._heard_at, self._asked_at = False, now, math.inf
        if not self.begun:
            return Wanted.ABORT if now - self._born >= terms.handshake else Wanted.NOTHING
        if now - self._asked_at >= terms.keepalive_timeout:
            return Wanted.ABORT
        if terms.max_age_grace and now - self._left_at >= terms.max_age_grace:
            return Wanted.ABORT
        if terms.max_age and self._left_at == math.inf and now - self._born >= terms.max_age:
            self._left_at = now
            return Wanted.LEAVE
        if self._asked_at == math.inf and now - self._heard_at >= terms.keepalive_time:
            free = not terms.max_pings_without_data or self._pings < terms.max_pings_without_data
            if free and (busy or terms.permit_without_calls):
                self._asked_at = now
                self._pings += 1
                return Wanted.PING
        return Wanted.NOTHING
