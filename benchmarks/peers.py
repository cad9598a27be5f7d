"""Whom our server is measured with: diffusers alone, batches by hand, a server like its example."""

import contextlib
import copy
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from serving import free_ports

from nerite.diffusion.runtimes.choice import open_runtime
from nerite.diffusion.settings import Settings

PROMPT = "a red house in the snow at night"
GUIDANCE = 4.0


@dataclass(frozen=True, slots=True)
class Wish:
    seed: int
    steps: int
    width: int
    height: int

    @property
    def work(self) -> int:
        return self.steps * self.width * self.height


@dataclass(frozen=True)
class Peer:
    """Something that paints; `processes` are those whose time it takes."""

    name: str
    paint: Callable[[Wish], Any]
    processes: Sequence[psutil.Process]

    def cpu_seconds(self) -> float:
        """Of its processes and theirs, until now."""
        total = 0.0
        for process in self.processes:
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = one.cpu_times()
                    total += times.user + times.system
        return total


def post(port: int, path: str, document: dict[str, Any]) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=3600)
    connection.request("POST", path, json.dumps(document))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"a picture failed: {content[:300].decode(errors='replace')}")
    return content


@contextlib.contextmanager
def example(options: Any, threads: int | None) -> Iterator[Peer]:
    """The other server, in a process of its own, with so many of torch's threads."""
    (port,) = free_ports(1)
    script = str(Path(__file__).with_name("diffusion.py"))
    command = [sys.executable, script, *sys.argv[1:], "--model", options.model]
    if threads:
        command += ["--threads", str(threads)]
    server = subprocess.Popen([*command, "--example-server", str(port)])
    side = options.size
    try:
        while True:
            try:
                post(port, "/", vars_of(Wish(0, 2, side, side)))
                break
            except OSError:
                if server.poll() is not None:
                    sys.exit("the example server did not start")
                time.sleep(0.2)
        name = "like example" + (f", {threads} thread" if threads else "")
        yield Peer(
            name,
            lambda wish: post(port, "/", vars_of(wish)),
            [psutil.Process(server.pid)],
        )
    finally:
        server.terminate()
        server.wait()


def vars_of(wish: Wish) -> dict[str, Any]:
    return {name: getattr(wish, name) for name in Wish.__dataclass_fields__}


def serve_example(options: Any) -> None:
    """As diffusers' examples serve: a thread per request, shared networks, own scheduler each."""
    pipeline = open_diffusers(options)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if options.threads:  # torch counts per thread of the caller
                torch.set_num_threads(options.threads)
            wish = Wish(**json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            own = copy.copy(pipeline)
            own.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
            pixels = paint(own, [wish])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(pixels)

        def log_message(self, *arguments: Any) -> None: ...

    ThreadingHTTPServer(("127.0.0.1", options.example_server), Handler).serve_forever()


def paint(pipeline: Any, wishes: Sequence[Wish]) -> bytes:
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


def teraflops(pipeline: Any, wish: Wish) -> float:
    """Operations of one picture, 10¹²: of matrix products, convolutions and attention, counted in
    two short runs of diffusers' pipeline. A step more takes as much as the last did."""
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for steps in (2, 3):
        with FlopCounterMode(display=False) as counter:
            paint(pipeline, [replace(wish, steps=steps)])
        counts.append(counter.get_total_flops())
    return float(counts[0] + (wish.steps - 2) * (counts[1] - counts[0])) / 1e12


def open_diffusers(options: Any) -> Any:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    if options.threads:
        torch.set_num_threads(options.threads)
    # What its users get: float32 on a CPU, as its example has it; bfloat16 on a GPU.
    chosen = "float32" if options.device == "cpu" else "bfloat16"
    dtype = getattr(torch, chosen if options.peer_dtype == "auto" else options.peer_dtype)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(options.model, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(options.device)


class ByHand:
    """A loop over our runtime's networks with diffusers' scheduler: what batching can give.

    Stable Diffusion 1.x and 2.x only. Rows are packed once, nothing joins and nothing leaves.
    """

    def __init__(self, options: Any) -> None:
        folder = Path(options.model)
        settings = Settings(
            device=options.device, dtype=options.dtype, runtime=options.runtime, threads=None
        )
        self._runtime = open_runtime(folder, settings)
        self._diffusers = open_diffusers(options)
        self._parts = {name: self._runtime.load(name) for name in ("text_encoder", "unet")}
        self._decoder = self._runtime.load("vae_decoder")

    def paint(self, wishes: Sequence[Wish]) -> None:
        put, take = self._runtime.space.put, self._runtime.space.take
        pipe = self._diffusers
        scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
        scheduler.set_timesteps(wishes[0].steps)
        words = pipe.tokenizer(["", PROMPT], padding="max_length", return_tensors="np")
        ids = put(words.input_ids.astype(np.int64))
        encoded = take(self._parts["text_encoder"].run({"input_ids": ids})[0])
        context = put(np.repeat(encoded, len(wishes), axis=0))
        scale = pipe.vae_scale_factor
        channels = pipe.vae.config.latent_channels
        shape = (1, channels, wishes[0].height // scale, wishes[0].width // scale)
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(wish.seed))
                 for wish in wishes]  # fmt: skip
        latents = torch.cat(drawn) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            rows = scheduler.scale_model_input(torch.cat([latents] * 2), timestep).numpy()
            feeds = {
                "sample": put(rows),
                "timestep": put(np.full(len(rows), float(timestep), np.float32)),
                "encoder_hidden_states": context,
            }
            empty, full = np.split(take(self._parts["unet"].run(feeds)[0]), 2)
            guided = torch.from_numpy(empty + GUIDANCE * (full - empty))
            latents = scheduler.step(guided, timestep, latents, return_dict=False)[0]
        raw = put((latents / pipe.vae.config.scaling_factor).numpy())
        name = next(iter(self._decoder.inputs))
        pixels = take(self._decoder.run({name: raw})[0])
        (pixels.clip(-1, 1) * 127.5 + 127.5).round().astype(np.uint8).tobytes()
