"""Pictures per second under load: our server, diffusers alone, a server like diffusers' example.

`python benchmarks/diffusion.py [--model FOLDER | --random sd|sdxl|sd3] [--device cuda] ...`: all
paint the same requests with the same weights, in turn in one run, so the ratios are what to look
at. Without options: the painter on the CPU. On a machine that others use too, the CPU seconds a
picture took say more than the clock.
"""

import argparse
import contextlib
import json
import os
import queue
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import architectures
import peers
import psutil
from peers import Peer, Wish
from serving import serve

from nerite.painter import REPOSITORY


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds of each picture from its asking, of all of them, and of the CPU."""

    latencies: list[float]
    seconds: float
    cpu: float
    work: int

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, part: int) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, len(ordered) * part // 100)]

    def __str__(self) -> str:
        return (
            f"{self.rate:7.2f} images/s   p50 {self.percentile(50):7.2f} s   "
            f"p99 {self.percentile(99):7.2f} s   CPU {self.cpu / len(self.latencies):6.2f} s each"
        )


Paints = Callable[[Peer], Result]


def main() -> None:
    options = _options()
    if options.example_server:
        peers.serve_example(options)
        return
    if options.random:
        folder = architectures.make(options.random, Path(tempfile.mkdtemp()) / options.random)
        options.model = str(folder)
    load, what = os.getloadavg()[0], f"{options.runtime}, {options.dtype}"
    print(f"{os.cpu_count()} cores, load {load:.1f}, {options.device}, {what}", flush=True)
    equal = [Wish(seed, options.steps, options.size, options.size) for seed in range(1000)]
    alone = _alone(options, equal)
    with contextlib.ExitStack() as stack:
        mine, preview = stack.enter_context(_ours(options))
        others = [stack.enter_context(peers.example(options, None))]
        if options.device == "cpu":
            others.append(stack.enter_context(peers.example(options, 1)))
        most = max(map(int, options.users.split(",")))
        for _ in range(2):  # what is made for shapes that stay is there before the measuring
            _closed_loop(mine, equal[:most], most)
        steady = _compare(options, [mine, *others], equal, alone)
        print(f"first preview after {preview(equal[0]):.2f} s, one user", flush=True)
        if not options.equal:
            print("\nmixed steps and sizes")
            mixed = _compare(options, [mine, *others], _mixed(options), {})
            print(f"x {mixed / steady:.2f} of the equal case, counted in steps of pixels")


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(REPOSITORY / "painter" / "1"), help="its folder")
    parser.add_argument(
        "--random", choices=architectures.KINDS, help="of real size, random weights"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="ours")
    parser.add_argument("--peer-dtype", default="auto", help="diffusers': float32 on a CPU")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--images", type=int, default=4, help="of each user")
    parser.add_argument("--rounds", type=int, default=1, help="of which the median counts")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--users", default="1,4,8,16")
    parser.add_argument("--batch", type=int, default=8, help="of diffusers by hand")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, to compare with")
    parser.add_argument("--equal", action="store_true", help="no mixed steps and sizes")
    parser.add_argument("--no-poisson", action="store_true", help="closed loops only")
    parser.add_argument("--threads", type=int, help="torch's, in the peers")
    parser.add_argument("--example-server", type=int, metavar="PORT", help=argparse.SUPPRESS)
    return parser.parse_args()


def _mixed(options: Any) -> list[Wish]:
    """10 to 50 steps, and sizes from three quarters of the usual on; the same in every run."""
    chance, size = random.Random(0), options.size
    sizes = [size, size, size * 3 // 4, size * 5 // 4]
    least, most = options.steps // 2, options.steps * 5 // 2
    return [
        Wish(seed, chance.randint(least, most), chance.choice(sizes), chance.choice(sizes))
        for seed in range(1000)
    ]


def _alone(options: Any, wishes: Sequence[Wish]) -> dict[str, float]:
    """images/s without a server: diffusers one at a time and in batches, our runtime in batches."""
    pipeline = peers.open_diffusers(options)
    options.teraflops = peers.teraflops(pipeline, wishes[0])
    print(f"a picture is {options.teraflops:.3g} TFLOP of the networks' work", flush=True)
    ways: dict[str, tuple[int, Callable[[Sequence[Wish]], Any]]] = {
        "diffusers, one at a time": (1, lambda few: peers.paint(pipeline, few)),
        f"diffusers, {options.batch} by hand": (
            options.batch,
            lambda few: peers.paint(pipeline, few),
        ),
    }
    if options.random in (None, "sd"):
        by_hand = peers.ByHand(options)
        ways[f"same runtime, {options.batch} by hand"] = options.batch, by_hand.paint
    rates: dict[str, list[float]] = {name: [] for name in ways}
    me, cpu = psutil.Process(), dict.fromkeys(ways, 0.0)
    for batch, work in ways.values():
        work(wishes[:batch])
    for _ in range(max(3, options.rounds)):
        for name, (batch, work) in ways.items():
            before, began = sum(me.cpu_times()[:2]), time.perf_counter()
            work(wishes[:batch])
            rates[name].append(batch / (time.perf_counter() - began))
            cpu[name] = (sum(me.cpu_times()[:2]) - before) / batch
    for name, found in rates.items():
        print(
            f"{name:<28} {statistics.median(found):7.2f} images/s   CPU {cpu[name]:6.2f} s each",
            flush=True,
        )
    return {name: statistics.median(found) for name, found in rates.items()}


def _compare(
    options: Any, all_peers: Sequence[Peer], wishes: Sequence[Wish], alone: dict[str, float]
) -> float:
    """Closed loops of so many users, then arrivals by chance; our steps of pixels per second."""
    speed = 0.0
    users = [int(count) for count in options.users.split(",")]
    for count in users:
        few = wishes[: count * options.images]
        results = _in_turn(options, all_peers, lambda peer: _closed_loop(peer, few, count))  # noqa: B023
        _report(f"{count} users", all_peers, results, alone)
        speed = results[0].work / results[0].seconds
        if alone:  # the pictures that were counted
            achieved = results[0].rate * options.teraflops
            share = f", {100 * achieved / options.peak:.0f} % of the peak" if options.peak else ""
            print(f"{'':<16} nerite: {achieved:.3g} TFLOP/s{share}", flush=True)
    if options.no_poisson:
        return speed
    few = wishes[: max(users) * options.images]
    pace = 0.8 * results[0].rate
    results = _in_turn(options, all_peers, lambda peer: _arrivals(peer, few, pace))
    _report(f"Poisson, {pace:.2f}/s", all_peers, results, alone)
    return speed


def _in_turn(options: Any, all_peers: Sequence[Peer], work: Paints) -> list[Result]:
    """Each peer's median of the rounds."""
    rounds = [[work(peer) for peer in all_peers] for _ in range(options.rounds)]
    columns = zip(*rounds, strict=True)
    return [sorted(column, key=lambda result: result.rate)[len(column) // 2] for column in columns]


def _report(
    what: str, all_peers: Sequence[Peer], results: Sequence[Result], alone: dict[str, float]
) -> None:
    mine = results[0]
    for index, (peer, result) in enumerate(zip(all_peers, results, strict=True)):
        print(f"{'' if index else what:<16} {peer.name:<24} {result}")
    for peer, result in zip(all_peers[1:], results[1:], strict=True):
        tail = mine.percentile(99) / result.percentile(99)
        cpu = result.cpu / max(mine.cpu, 1e-9)
        ratio = mine.rate / result.rate
        print(f"{'':<16} x {ratio:.2f} {peer.name} (CPU x {cpu:.2f}), p99 x {tail:.2f}")
    ratios = [f"x {mine.rate / rate:.2f} {name}" for name, rate in alone.items()]
    if ratios:
        print(f"{'':<16} {'; '.join(ratios)}")
    print(end="", flush=True)


def _closed_loop(peer: Peer, wishes: Sequence[Wish], users: int) -> Result:
    """Every user asks for the next as soon as the last is there."""
    waiting: queue.SimpleQueue[Wish] = queue.SimpleQueue()
    for wish in wishes:
        waiting.put(wish)
    latencies: list[float] = []

    def user() -> None:
        while True:
            try:
                wish = waiting.get_nowait()
            except queue.Empty:
                return
            began = time.perf_counter()
            peer.paint(wish)
            latencies.append(time.perf_counter() - began)

    return _together(peer, [user] * users, latencies, wishes)


def _arrivals(peer: Peer, wishes: Sequence[Wish], rate: float) -> Result:
    """Requests come by chance, so many a second, whoever is still waiting."""
    chance, latencies = random.Random(1), list[float]()
    when, askers = 0.0, []
    for wish in wishes:
        when += chance.expovariate(rate)

        def ask(wish: Wish = wish, when: float = when) -> None:
            time.sleep(when)
            began = time.perf_counter()
            peer.paint(wish)
            latencies.append(time.perf_counter() - began)

        askers.append(ask)
    return _together(peer, askers, latencies, wishes)


def _together(
    peer: Peer,
    works: Sequence[Callable[[], None]],
    latencies: list[float],
    wishes: Sequence[Wish],
) -> Result:
    threads = [threading.Thread(target=work) for work in works]
    cpu, began = peer.cpu_seconds(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, work = time.perf_counter() - began, sum(wish.work for wish in wishes)
    return Result(latencies, seconds, peer.cpu_seconds() - cpu, work)


@contextlib.contextmanager
def _ours(options: Any) -> Iterator[tuple[Peer, Callable[[Wish], float]]]:
    """Our server; what paints with it, and what measures the time to the first preview."""
    kind = "KIND_CPU" if options.device == "cpu" else "KIND_GPU"
    parameters = {"dtype": options.dtype, "runtime": options.runtime}
    entries = "".join(
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'
        for key, value in parameters.items()
    )
    with tempfile.TemporaryDirectory() as repository:
        model = Path(repository) / "model"
        model.mkdir()
        (model / "1").symlink_to(Path(options.model).resolve())
        (model / "config.pbtxt").write_text(
            f'backend: "diffusion"\ninstance_group [ {{ kind: {kind} count: 1 }} ]\n{entries}'
        )
        with serve(f"--model-repository={repository}") as server:

            def ask(wish: Wish) -> None:
                peers.post(server.port, "/v2/models/model/infer", _tensors(wish))

            def preview(wish: Wish) -> float:
                further = {"progress": True, "previews": 1}
                began = time.perf_counter()
                connection = HTTPConnection("127.0.0.1", server.port, timeout=3600)
                body = json.dumps(_document(wish) | further)
                connection.request("POST", "/v2/models/model/generate_stream", body)
                answer = connection.getresponse()
                while b'"preview"' not in answer.readline():
                    pass
                seconds = time.perf_counter() - began
                connection.close()
                return seconds

            ask(Wish(0, options.steps, options.size, options.size))
            yield Peer("nerite", ask, [server.process]), preview


def _document(wish: Wish) -> dict[str, Any]:
    words = {"prompt": peers.PROMPT, "guidance_scale": peers.GUIDANCE}
    return peers.vars_of(wish) | words


def _tensors(wish: Wish) -> dict[str, Any]:
    """The same for `infer`, which answers with bytes as the example server does."""
    kinds = {"prompt": "BYTES", "guidance_scale": "FP32", "seed": "INT64"}
    inputs = [
        {"name": name, "datatype": kinds.get(name, "INT32"), "shape": [1], "data": [value]}
        for name, value in _document(wish).items()
    ]
    return {"inputs": inputs, "parameters": {"binary_data_output": True}}


if __name__ == "__main__":
    main()
