"""How fast each runtime and type paints here, without a server: what `auto` takes is chosen by it.

    python benchmarks/runtimes.py [RUNTIME:DTYPE ...] [--model FOLDER] [--rounds N]

In turn, one picture alone and eight together; pictures per second by the clock and by the CPU's
time (two cores), the best of the rounds, and how far the pictures are from those of the first.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion import Engine, Painted, Params, Pipeline, open_pipeline
from nerite.painter import REPOSITORY

ALL = (
    "onnxruntime:float32",
    "openvino:float32",
    "openvino:bfloat16",
    "torch:float32",
    "torch:bfloat16",
)
PROMPTS = (
    "a red house in the snow at night",
    "a lighthouse by the sea",
    "a green forest with a lake",
    "a sailboat",
    "a mountain under stars",
    "a hot air balloon",
    "a red barn",
    "a city at sunset",
)


def paint(pipeline: Pipeline, count: int, steps: int) -> NDArray[np.uint8]:
    engine, painted = Engine(pipeline, max_running_images=16), dict[int, Painted]()
    for index in range(count):
        prompt = PROMPTS[index % len(PROMPTS)]
        params = Params(prompt, seed=index, steps=steps, width=128, height=128, guidance_scale=4.0)

        def take(event: Painted | BaseException, index: int = index) -> None:
            assert isinstance(event, Painted), event
            painted[index] = event

        engine.add(params, take)
    while engine.step():
        pass
    return np.concatenate([painted[index].images for index in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chosen", nargs="*", default=ALL)
    parser.add_argument("--model", type=Path, default=REPOSITORY / "painter" / "1")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    pipelines = {}
    for name in options.chosen:
        runtime, dtype = name.split(":")
        pipelines[name] = open_pipeline(options.model, runtime=runtime, dtype=dtype)
    best: dict[tuple[str, int], tuple[float, float]] = {}
    pictures: dict[str, NDArray[np.uint8]] = {}
    for _ in range(options.rounds):
        for name, pipeline in pipelines.items():
            for count in (1, 8):
                began, cpu = time.perf_counter(), time.process_time()
                pictures[name] = paint(pipeline, count, options.steps)
                now = time.perf_counter() - began, time.process_time() - cpu
                clock, used = best.get((name, count), now)
                best[name, count] = min(clock, now[0]), min(used, now[1])
    first = pictures[options.chosen[0]].astype(int)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in pipelines:
        away = np.abs(pictures[name].astype(int) - first)
        rates = []
        for count in (1, 8):
            clock, used = best[name, count]
            rates.append(f"{count}: {count / clock:6.2f}/s, CPU {2 * count / used:6.2f}/s")
        print(f"{name:<22} {'   '.join(rates)}   away {away.mean():.2f}, at most {away.max()}")


if __name__ == "__main__":
    main()
