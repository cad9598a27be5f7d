"""Pictures per second under load: our server, diffusers alone, a server like diffusers' example.

`python benchmarks/diffusion.py [--model FOLDER | --random sd|sdxl|sd3] [--device cuda] ...`: all
three paint the same requests with the same weights, one after the other in one run, so the ratios
are what to look at. Without options: the painter on the CPU.
"""

import argparse
import contextlib
import copy
import json
import os
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import architectures
import torch
from serving import free_ports, serve

from nerite.painter import REPOSITORY

PROMPT = "a red house in the snow at night"
GUIDANCE = 4.0


@dataclass(frozen=True, slots=True)
class Wish:
    seed: int
    steps: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds of each picture from its asking, and of all from the first asking to the end."""

    latencies: list[float]
    seconds: float

    def __str__(self) -> str:
        ordered = sorted(self.latencies)
        p50, p99 = (
            statistics.median(ordered),
            ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        )
        return f"{self.rate:7.2f} images/s   p50 {p50:7.2f} s   p99 {p99:7.2f} s"

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


Paint = Callable[[Wish], None]


def main() -> None:
    options = _options()
    if options.example_server:
        _serve_example(options)
        return
    if options.random:
        folder = architectures.make(options.random, Path(tempfile.mkdtemp()) / options.random)
        options.model = str(folder)
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.device}, {options.dtype}"
    )
    size = options.size or 128
    equal = [Wish(seed, options.steps, size, size) for seed in range(options.images)]
    rates = _alone(options, equal)
    workloads = {"equal": equal}
    if not options.equal:
        workloads["mixed steps and sizes"] = _mixed(options, size)
    for name, wishes in workloads.items():
        print(f"\n{name}: {len(wishes)} images")
        _compare(options, wishes, rates)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(REPOSITORY / "painter" / "1"), help="its folder")
    parser.add_argument(
        "--random", choices=architectures.KINDS, help="of real size, random weights"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, help="pixels a side; the painter's 128 by default")
    parser.add_argument("--users", default="1,4,8,16")
    parser.add_argument("--batch", type=int, default=8, help="of diffusers by hand")
    parser.add_argument("--equal", action="store_true", help="no mixed steps and sizes")
    parser.add_argument("--threads", type=int, help="torch's, in the peers")
    parser.add_argument("--example-server", type=int, metavar="PORT", help=argparse.SUPPRESS)
    return parser.parse_args()


def _mixed(options: Any, size: int) -> list[Wish]:
    """10 to 50 steps, and sizes from three quarters of the usual on; the same in every run."""
    chance = random.Random(0)
    sizes = [size, size, size * 3 // 4, size * 5 // 4]
    least, most = options.steps // 2, options.steps * 5 // 2
    return [
        Wish(seed, chance.randint(least, most), chance.choice(sizes), chance.choice(sizes))
        for seed in range(options.images)
    ]


def _compare(options: Any, wishes: Sequence[Wish], alone: dict[str, float]) -> None:
    """Both servers, closed loops of so many users and then arrivals by chance."""
    users = [int(count) for count in options.users.split(",")]
    with _ours(options) as (mine, preview), _example(options) as theirs:
        for count in users:
            results = [_closed_loop(paint, wishes, count) for paint in (mine, theirs)]
            _report(f"{count} users", results, alone)
        pace = 0.8 * _closed_loop(mine, wishes, max(users)).rate
        results = [_arrivals(paint, wishes, pace) for paint in (mine, theirs)]
        _report(f"Poisson, {pace:.2f}/s", results, alone)
        print(f"first preview after {preview(wishes[0]):.2f} s, one user")


def _report(what: str, results: Sequence[Result], alone: dict[str, float]) -> None:
    mine, theirs = results
    print(f"{what:<18} nerite        {mine}")
    print(f"{'':<18} like example  {theirs}")
    tails = [max(result.latencies) for result in results]
    ratios = [f"x {mine.rate / rate:.2f} {name}" for name, rate in alone.items()]
    print(
        f"{'':<18} x {mine.rate / theirs.rate:.2f} the example, tail x {tails[0] / tails[1]:.2f}; "
        f"{', '.join(ratios)}"
    )


def _closed_loop(paint: Paint, wishes: Sequence[Wish], users: int) -> Result:
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
            paint(wish)
            latencies.append(time.perf_counter() - began)

    return _together([user] * users, latencies)


def _arrivals(paint: Paint, wishes: Sequence[Wish], rate: float) -> Result:
    """Requests come by chance, so many a second, whoever is still waiting."""
    chance, latencies = random.Random(1), list[float]()
    when, askers = 0.0, []
    for wish in wishes:
        when += chance.expovariate(rate)

        def ask(wish: Wish = wish, when: float = when) -> None:
            time.sleep(when)
            began = time.perf_counter()
            paint(wish)
            latencies.append(time.perf_counter() - began)

        askers.append(ask)
    return _together(askers, latencies)


def _together(works: Sequence[Callable[[], None]], latencies: list[float]) -> Result:
    threads = [threading.Thread(target=work) for work in works]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Result(latencies, time.perf_counter() - began)


@contextlib.contextmanager
def _ours(options: Any) -> Iterator[tuple[Paint, Callable[[Wish], float]]]:
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

            def paint(wish: Wish) -> None:
                _post(server.port, "/v2/models/model/generate", _document(wish))

            def preview(wish: Wish) -> float:
                further = {"progress": True, "previews": 1, "preview_format": "jpeg"}
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

            paint(Wish(0, 2, *_side(options)))
            yield paint, preview


def _side(options: Any) -> tuple[int, int]:
    return (options.size or 128,) * 2


def _document(wish: Wish) -> dict[str, Any]:
    return {
        "prompt": PROMPT, "seed": wish.seed, "steps": wish.steps, "width": wish.width,
        "height": wish.height, "guidance_scale": GUIDANCE,
    }  # fmt: skip


def _post(port: int, path: str, document: dict[str, Any]) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=3600)
    connection.request("POST", path, json.dumps(document))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"a picture failed: {text[:300].decode(errors='replace')}")


@contextlib.contextmanager
def _example(options: Any) -> Iterator[Paint]:
    """The other server, in a process of its own."""
    (port,) = free_ports(1)
    command = [sys.executable, __file__, *sys.argv[1:], "--model", options.model]
    server = subprocess.Popen([*command, "--example-server", str(port)])
    try:
        while True:
            try:
                _post(port, "/", {**_document(Wish(0, 2, *_side(options)))})
                break
            except OSError:
                if server.poll() is not None:
                    sys.exit("the example server did not start")
                time.sleep(0.2)
        yield lambda wish: _post(port, "/", _document(wish))
    finally:
        server.terminate()
        server.wait()


def _serve_example(options: Any) -> None:
    """As diffusers' examples serve: a thread per request, shared networks, own scheduler each."""
    pipeline = _diffusers(options)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            own = copy.copy(pipeline)
            own.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
            pixels = _paint(own, [Wish(**{key: wish[key] for key in Wish.__dataclass_fields__})])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(pixels)

        def log_message(self, *arguments: Any) -> None: ...

    ThreadingHTTPServer(("127.0.0.1", options.example_server), Handler).serve_forever()


def _alone(options: Any, wishes: Sequence[Wish]) -> dict[str, float]:
    """images/s of diffusers in this process: one at a time, and batched by hand."""
    pipeline, rates = _diffusers(options), {}
    _paint(pipeline, wishes[:1])
    for name, batch in (("one at a time", 1), (f"batches of {options.batch}", options.batch)):
        began, few = time.perf_counter(), wishes[: max(4, batch)]
        for start in range(0, len(few), batch):
            _paint(pipeline, few[start : start + batch])
        rates[name] = len(few) / (time.perf_counter() - began)
        print(f"{'diffusers, ' + name:<32} {rates[name]:7.2f} images/s")
    return rates


def _paint(pipeline: Any, wishes: Sequence[Wish]) -> bytes:
    output = pipeline(
        [PROMPT] * len(wishes),
        num_inference_steps=wishes[0].steps,
        width=wishes[0].width,
        height=wishes[0].height,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator().manual_seed(wish.seed) for wish in wishes],
        output_type="np",
    )
    pixels: bytes = (output.images * 255).round().astype("uint8").tobytes()
    return pixels


def _diffusers(options: Any) -> Any:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    if options.threads:
        torch.set_num_threads(options.threads)
    chosen = {"auto": "float32" if options.device == "cpu" else "bfloat16"}
    dtype = getattr(torch, chosen.get(options.dtype, options.dtype))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(options.model, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(options.device)


if __name__ == "__main__":
    main()
