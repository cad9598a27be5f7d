"""The painter at an HTTP client, against diffusers' own pipeline on torch with the same weights.

`python benchmarks/paint.py [--runs N] [--steps N]`: the two take turns, so that whatever else the
machine does hits both, and the ratio is what to look at.
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable

import diffusers
import numpy as np
import numpy.typing as npt
import torch
import transformers
from serving import line, serve

from nerite import Client
from nerite.painter import REPOSITORY

Paint = Callable[[int], npt.NDArray[np.uint8]]
PROMPT = "a red house in the snow at night"
GUIDANCE = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.steps} steps")
    peer = _diffusers(options.steps)
    with serve() as server:
        client = Client(f"http://127.0.0.1:{server.port}")

        def ours(seed: int) -> npt.NDArray[np.uint8]:
            return np.asarray(
                client.paint(PROMPT, seed=seed, steps=options.steps, guidance_scale=GUIDANCE)
            )

        _choose_threads(peer)
        difference = np.abs(ours(0).astype(int) - peer(0).astype(int)).max()
        times = _alternate(ours, peer, options.runs)
    line("nerite, HTTP client, onnxruntime", times[0], "s", 0.8)
    line(f"diffusers, in process, torch ({torch.get_num_threads()} threads)", times[1], "s")
    ratios = [theirs / mine for mine, theirs in zip(*times, strict=True)]
    print(f"diffusers / nerite: {statistics.median(ratios):.2f} (from {min(ratios):.2f})")
    print(f"largest difference of a pixel: {difference} of 255")


def _alternate(ours: Paint, peer: Paint, runs: int) -> tuple[list[float], list[float]]:
    mine: list[float] = []
    theirs: list[float] = []
    for seed in range(1, runs + 1):
        for painter, times in ((ours, mine), (peer, theirs)):
            began = time.perf_counter()
            painter(seed)
            times.append(time.perf_counter() - began)
    return mine, theirs


def _choose_threads(peer: Paint) -> None:
    """Where other work keeps a core busy, torch is faster with fewer threads: it gets its best."""
    seconds = {}
    for threads in {1, os.cpu_count() or 1}:
        torch.set_num_threads(threads)
        peer(0)
        began = time.perf_counter()
        peer(0)
        seconds[threads] = time.perf_counter() - began
    torch.set_num_threads(min(seconds, key=lambda threads: seconds[threads]))


def _diffusers(steps: int) -> Paint:
    folder = next(REPOSITORY.rglob("model_index.json")).parent
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # a new name for torch_dtype
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
            folder, torch_dtype=torch.float32
        )
    pipeline.set_progress_bar_config(disable=True)

    def paint_with_torch(seed: int) -> npt.NDArray[np.uint8]:
        output = pipeline(
            PROMPT,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        )
        pixels: npt.NDArray[np.uint8] = (output.images[0] * 255).round().astype(np.uint8)
        return pixels

    return paint_with_torch


if __name__ == "__main__":
    main()
