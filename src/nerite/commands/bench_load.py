"""The load of `nerite bench`: requests in turns or by chance, each timed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerite.client import AsyncClient, NeriteError, Picture, Preview


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked for: `batch` pictures a request, of the prompts in turns.

    previews: how many are streamed; None asks without a stream. save: write each picture.
    """

    prompts: Sequence[str]
    settings: Mapping[str, Any]
    batch: int
    previews: int | None
    save: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was due and done, in seconds of the performance counter."""

    client: int
    due: float
    done: float
    first_preview: float | None = None
    error: NeriteError | None = None

    @property
    def latency(self) -> float:
        return self.done - self.due

    @property
    def wait_for_preview(self) -> float | None:
        return None if self.first_preview is None else self.first_preview - self.due


class Load:
    """`samples` are those of the requests that are done, in the order of their ends."""

    def __init__(self, client: AsyncClient, wishes: Wishes) -> None:
        self._client = client
        self._wishes = wishes
        self._numbers = itertools.count()
        self.samples: list[Sample] = []

    async def warm_up(self) -> None:
        """One request that is not counted. Raises NeriteError."""
        await self._client.pictures(self._wishes.prompts[0], **self._settings(0))

    async def in_turns(self, clients: int, requests: int) -> None:
        """Each client asks, waits for its pictures, and asks again."""

        async def one(client: int) -> None:
            for request in range(requests):
                await self._ask(client, request, time.perf_counter())

        await asyncio.gather(*(one(client) for client in range(clients)))

    async def at_rate(
        self, rate: float, clients: int, requests: int, chance: random.Random
    ) -> None:
        """Arrivals that do not wait for each other: exponential gaps, `rate` a second.

        A request's time begins when it is due, so that a late start is not hidden.
        """
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for request, client in itertools.product(range(requests), range(clients)):
                due += chance.expovariate(rate)
                await asyncio.sleep(due - time.perf_counter())
                group.create_task(self._ask(client, request, due))

    async def _ask(self, client: int, request: int, due: float) -> None:
        number = next(self._numbers)
        prompt = self._wishes.prompts[number % len(self._wishes.prompts)]
        settings = self._settings(number)
        first_preview, error, painted = None, None, []
        try:
            if self._wishes.previews is None:
                painted = await self._client.pictures(prompt, self._wishes.batch, **settings)
            else:
                first_preview, painted = await self._streamed(prompt, settings)
        except NeriteError as fault:
            error = fault
        done = time.perf_counter()
        self.samples.append(Sample(client, due, done, first_preview, error))
        if self._wishes.save:
            await asyncio.to_thread(_save, painted, f"client_{client}_generated_image_{request}")

    async def _streamed(
        self, prompt: str, settings: dict[str, Any]
    ) -> tuple[float | None, list[Picture]]:
        first, painted = None, []
        events = self._client.stream(
            prompt, previews=self._wishes.previews or 0, n=self._wishes.batch, **settings
        )
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Preview) and first is None:
                    first = time.perf_counter()
                elif isinstance(event, Picture):
                    painted.append(event)
        return first, painted

    def _settings(self, number: int) -> dict[str, Any]:
        """Of the request of that number: a seed is where the seeds of all begin."""
        settings = dict(self._wishes.settings)
        if "seed" in settings:
            settings["seed"] += number * self._wishes.batch
        return settings


def _save(painted: Sequence[Picture], stem: str) -> None:
    for index, picture in enumerate(painted):
        picture.save(Path(f"{stem}_{index}.jpg" if index else f"{stem}.jpg"))
