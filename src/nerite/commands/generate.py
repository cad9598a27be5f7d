"""`nerite generate`: paints through a running server, and shows how far the pictures have come."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nerite.client import AsyncClient, Picture, Progress
from nerite.commands.arguments import painting
from nerite.commands.failing import CommandError, status_of
from nerite.commands.files import FORMATS, numbered, picture_path, save
from nerite.commands.terminal import Waiting

_MOST_IN_A_REQUEST = 10
_PREVIEWS = 10


def run(options: argparse.Namespace) -> int:
    """Paint what the options say; a line for each picture; the exit status."""
    return status_of("generate", lambda: asyncio.run(_generate(options)))


async def _generate(options: argparse.Namespace) -> None:
    file = picture_path(options.output, options.prompt, *FORMATS)
    if options.previews is not None and not options.previews.is_dir():
        raise CommandError(f"cannot keep previews: there is no folder {options.previews}.")
    async with AsyncClient(options.url, api_key=options.api_key, timeout=options.timeout) as client:
        with Waiting("painting") as waiting:
            await _Painting(client, options, file, waiting).run()


class _Painting:
    """All pictures of one command; they are asked for at once and come as they are done."""

    def __init__(
        self, client: AsyncClient, options: argparse.Namespace, file: Path, waiting: Waiting
    ) -> None:
        self._client = client
        self._options = options
        self._file = file
        self._waiting = waiting
        self._shares: dict[int, float] = {}
        self._began = time.perf_counter()

    async def run(self) -> None:
        settings = painting(self._options)
        settings["output_format"] = FORMATS[self._file.suffix.lower()]
        async with asyncio.TaskGroup() as group:
            for first in range(0, self._options.n, _MOST_IN_A_REQUEST):
                group.create_task(self._request(settings, first))

    async def _request(self, settings: Mapping[str, Any], first: int) -> None:
        """The pictures from `first` on, as many as one request may ask for."""
        settings = dict(settings)
        if settings.get("seed") is not None:
            settings["seed"] += first
        n = min(self._options.n - first, _MOST_IN_A_REQUEST)
        previews = _PREVIEWS if self._options.previews else 0
        async with self._client.stream(
            self._options.prompt, previews=previews, progress=True, n=n, **settings
        ) as events:
            async for event in events:
                index = first + event.index
                if isinstance(event, Progress):
                    self._show(index, event)
                elif isinstance(event, Picture):
                    await self._keep(index, event)
                elif self._options.previews:
                    name = numbered(self._file, index, self._options.n > 1).stem
                    path = self._options.previews / f"{name}-preview-{event.number:02d}.png"
                    await asyncio.to_thread(event.image.save, path)

    def _show(self, index: int, progress: Progress) -> None:
        if progress.queue_position:
            self._waiting.say(f"waiting, {progress.queue_position} before this one")
            return
        self._shares[index] = progress.step / max(progress.steps, 1)
        text = f"step {progress.step}/{progress.steps}"
        if self._options.n > 1:
            done = sum(share == 1 for share in self._shares.values())
            text = f"{done} of {self._options.n} painted"
        if progress.eta_seconds is not None:
            text += f", {progress.eta_seconds:.0f} s left"
        self._waiting.bar(text, sum(self._shares.values()) / self._options.n)

    async def _keep(self, index: int, picture: Picture) -> None:
        path = numbered(self._file, index, self._options.n > 1)
        await asyncio.to_thread(save, picture, path, picture.settings)
        seconds = time.perf_counter() - self._began
        self._waiting.print(f"{path}  seed {picture.seed}  {seconds:.2f} s")
