"""`nerite bench`: how many pictures a server paints, and how long each takes.

Its two first lines, its options and the files it writes are those of the client of NVIDIA's
Stable Diffusion tutorial, so that scripts around that one go on working.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import time
from pathlib import Path

from nerite.client import AsyncClient
from nerite.commands.arguments import painting
from nerite.commands.bench_load import Load, Sample, Wishes
from nerite.commands.bench_report import Report
from nerite.commands.failing import CommandError, status_of
from nerite.commands.histogram import draw
from nerite.commands.terminal import Waiting

PROMPT = "a red house in the snow at night"
_MOST_IN_A_REQUEST = 10
_SMI = ("nvidia-smi", "dmon", "-f", "nvidia_smi_output.txt")
_SMI_SECONDS = 5.0  # before and after, as the tutorial's client has it


def run(options: argparse.Namespace) -> int:
    """Measure and tell; the exit status, which is 1 when a request failed."""
    return status_of("bench", lambda: _bench(options))


def _bench(options: argparse.Namespace) -> int:
    wishes = _wishes(options)
    if options.histogram is not None and options.histogram.suffix.lower() != ".png":
        raise CommandError(f"cannot draw {options.histogram}: its name must end in .png.")
    watcher = _watch() if options.launch_nvidia_smi else None
    try:
        report = asyncio.run(_measure(options, wishes))
    finally:
        if watcher is not None:
            time.sleep(_SMI_SECONDS)
            watcher.kill()
            watcher.wait()
    if options.format == "json":
        print(json.dumps(report.document(), indent=2))
    else:
        print("\n".join(report.lines()))
    if options.histogram is not None:
        _draw(report, options.histogram)
    return 1 if report.failures else 0


def _wishes(options: argparse.Namespace) -> Wishes:
    if options.static_batch_size > _MOST_IN_A_REQUEST:
        raise CommandError(
            f"--static-batch-size is {options.static_batch_size}: a request of the images API"
            f" may ask for {_MOST_IN_A_REQUEST} pictures at most."
        )
    prompts = [options.prompt or PROMPT]
    if options.prompts is not None:
        lines = options.prompts.read_text(encoding="utf-8").splitlines()
        prompts = [line.strip() for line in lines if line.strip()]
        if not prompts:
            raise CommandError(f"{options.prompts} holds no prompt; it has one in each line.")
    settings = painting(options)
    if options.save_image:
        settings["output_format"] = "jpeg"
    return Wishes(
        prompts,
        settings,
        batch=options.static_batch_size,
        previews=options.previews,
        save=options.save_image,
    )


async def _measure(options: argparse.Namespace, wishes: Wishes) -> Report:
    client = AsyncClient(options.url, api_key=options.api_key, timeout=options.timeout, retries=0)
    async with client:
        load = Load(client, wishes)
        for _ in range(options.warm_up):
            await load.warm_up()
        with Waiting("measuring") as waiting:
            watching = asyncio.create_task(_show(load, waiting, options))
            began = time.perf_counter()
            if options.rate is None:
                await load.in_turns(options.clients, options.requests)
            else:
                chance = random.Random(options.seed or 0)
                await load.at_rate(options.rate, options.clients, options.requests, chance)
            seconds = time.perf_counter() - began
            watching.cancel()
    _raise_if_all_failed(load.samples)
    return Report(load.samples, seconds, wishes.batch, options.rate)


def _raise_if_all_failed(samples: list[Sample]) -> None:
    """A server that is not there, or refuses each request, is a sentence and not a table."""
    errors = [sample.error for sample in samples]
    if errors and errors[0] is not None and all(errors):
        raise errors[0]


async def _show(load: Load, waiting: Waiting, options: argparse.Namespace) -> None:
    total = options.clients * options.requests
    while True:
        done = len(load.samples)
        waiting.bar(f"{done} of {total} requests", done / total)
        await asyncio.sleep(0.1)


def _watch() -> subprocess.Popen[bytes]:
    try:
        watcher = subprocess.Popen(_SMI)
    except FileNotFoundError as error:
        text = "there is no nvidia-smi on this machine; leave out --launch-nvidia-smi."
        raise CommandError(text) from error
    time.sleep(_SMI_SECONDS)
    return watcher


def _draw(report: Report, file: Path) -> None:
    latencies = report.latencies
    if len(latencies) < 2:
        raise CommandError("a distribution needs two requests at least: raise --requests.")
    draw(latencies, report.quantiles(latencies), file)
