"""What previews cost: the time of a denoising step while 32 clients stream them, and without.

    python benchmarks/previews.py [--clients N] [--pictures N] [--rounds N] [--steps N]
                                  [--model-repository FOLDER]

The ways of asking take turns, so that whatever else the machine does hits all of them. A step's
time is that of one more client, which asks for progress and reads when its steps are told.
"""

import argparse
import asyncio
import datetime
import os
import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from serving import Running, serve

PROMPT = "a red house in the snow at night"
GOAL = 5.0  # percent
WAYS: dict[str, dict[str, Any]] = {
    "no stream": {},
    "progress": {"stream": True, "progress": True},
    "3 partial images": {"stream": True, "partial_images": 3},
    "a preview after each step": {"stream": True, "previews": 50},
}


@dataclass
class Seen:
    """Of one way of asking, a value for each round."""

    step_ms: list[float] = field(default_factory=list)
    images: list[float] = field(default_factory=list)
    events: int = 0
    front: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=2, help="of each client in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--model-repository")
    options = parser.parse_args()
    more = ("--model-repository", options.model_repository) if options.model_repository else ()
    _print_machine()
    seen = {way: Seen() for way in WAYS}
    with serve(*more) as server:
        asyncio.run(_round(server, {"steps": options.steps}, 4, 1, Seen()))
        for _ in range(options.rounds):
            for way, wish in WAYS.items():
                asked = {"steps": options.steps, **wish}
                asyncio.run(_round(server, asked, options.clients, options.pictures, seen[way]))
    print(f"{options.clients} clients, {options.steps} steps, {options.rounds} rounds, ", end="")
    print(f"load after {os.getloadavg()[0]:.1f}\n")
    _print_table(seen)


async def _round(
    server: Running, wish: Mapping[str, Any], clients: int, pictures: int, seen: Seen
) -> None:
    """Each client paints its pictures one after the other, while the probe watches steps."""
    seconds: list[float] = []
    cpu, began = _front_seconds(server), time.perf_counter()
    probe = asyncio.create_task(_probe(server.port, wish["steps"], seconds))
    asked = [_client(server.port, wish, pictures) for _ in range(clients)]
    events = await asyncio.gather(*asked)
    took = time.perf_counter() - began
    probe.cancel()
    await asyncio.wait([probe])
    seen.step_ms.append(1000 * statistics.median(seconds))
    seen.images.append(pictures * clients / took)
    seen.front.append(100 * (_front_seconds(server) - cpu) / took)
    seen.events += sum(events)


def _front_seconds(server: Running) -> float:
    times = server.process.cpu_times()
    return float(times.user + times.system)


async def _client(port: int, wish: Mapping[str, Any], pictures: int) -> int:
    """Reads and counts what comes, which costs next to nothing."""
    events = 0
    for _ in range(pictures):
        reader, writer = await _ask(port, wish)
        while piece := await reader.read(1 << 18):
            events += piece.count(b"event: ")
        writer.close()
    return events


async def _probe(port: int, steps: int, seconds: list[float]) -> None:
    """Seconds of a step, one value for each picture."""
    wish = {"steps": steps, "stream": True, "progress": True}
    while True:
        reader, writer = await _ask(port, wish)
        told: list[tuple[int, float]] = []
        while line := await reader.readline():
            if line.startswith(b"data: ") and b".progress" in line:
                step = orjson.loads(line[6:])["step"]
                if step:
                    told.append((step, time.perf_counter()))
        writer.close()
        (first, early), (last, late) = told[0], told[-1]
        if last > first:
            seconds.append((late - early) / (last - first))


async def _ask(
    port: int, wish: Mapping[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    body = orjson.dumps({"prompt": PROMPT, **wish})
    head = "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    status = await reader.readline()
    if b" 200 " not in status:
        raise SystemExit(f"the server said {status!r}: {await reader.read()!r}")
    return reader, writer


def _print_machine() -> None:
    day = datetime.date.today().isoformat()
    load = os.getloadavg()[0]
    print(f"{day}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"load before {load:.1f}")


def _print_table(seen: Mapping[str, Seen]) -> None:
    base = seen["no stream"]
    print("| | step, ms | against no stream | images/s | events | server process, % of a core |")
    print("|---|---|---|---|---|---|")
    for way, one in seen.items():
        # Pairs of the same round: the machine drifts from one round to the next.
        rises = [100 * (a / b - 1) for a, b in zip(one.step_ms, base.step_ms, strict=True)]
        rise = statistics.median(rises)
        shown = "" if one is base else f"{rise:+.1f} % ({min(rises):+.1f} to {max(rises):+.1f})"
        print(
            f"| {way} | {statistics.median(one.step_ms):.1f} | {shown} | "
            f"{statistics.median(one.images):.2f} | {one.events} | "
            f"{statistics.median(one.front):.0f} |"
        )
    partial = seen["3 partial images"].step_ms
    rise = statistics.median(
        [100 * (a / b - 1) for a, b in zip(partial, base.step_ms, strict=True)]
    )
    print(f"\ngoal < {GOAL:g} %: {'met' if rise < GOAL else 'MISSED'} with 3 partial images")


if __name__ == "__main__":
    main()
