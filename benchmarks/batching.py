"""What serving a real network costs: a ResNet-50 behind the server, in batches that come as such
and in batches that the server makes, against a bare onnxruntime loop on the same cores.

    python benchmarks/batching.py [--rounds 5] [--seconds 4]

Both are measured in turn, round after round, while the other rests; a row is the median of the
rounds' ratios. The clients share the cores with what they ask.
"""

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

import numpy as np
import tritonclient.http as triton
from resnet import IMAGE, save_resnet50
from serving import serve

_SIZES = (1, 2, 4, 8, 16)
_GOAL = 0.95
_CONFIG = """
max_batch_size: 16
dynamic_batching { preferred_batch_size: [ 16 ] max_queue_delay_microseconds: 2000 }
instance_group { count: 1 kind: KIND_CPU }
"""
# The bare loop, in a process of its own: "<size> <seconds>" in, images per second out.
_BARE = """
import sys, time
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print("ready", flush=True)
for line in sys.stdin:
    size, seconds = int(line.split()[0]), float(line.split()[1])
    images = np.random.default_rng(0).random((size, 3, 224, 224), np.float32)
    session.run(["scores"], {"image": images})
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        session.run(["scores"], {"image": images})
        count += size
    print(count / (time.perf_counter() - began), flush=True)
"""


class Bare:
    """A loop around session.run, with onnxruntime's own defaults."""

    def __init__(self, model: Path) -> None:
        command = [sys.executable, "-c", _BARE, str(model)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answers.readline().strip() == "ready"

    @property
    def _answers(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def images_per_second(self, size: int, seconds: float) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{size} {seconds}\n")
        self.process.stdin.flush()
        return float(self._answers.readline())


def served(port: int, size: int, clients: int, seconds: float) -> float:
    """Images per second of clients that each send `size` images at a time."""
    body, headers = _request(size)
    ended: list[float] = []
    stop = time.perf_counter() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < stop:
            connection.request("POST", "/v2/models/resnet50/infer", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                sys.exit(f"the server answered {answer.status}: {content[:300]!r}")
            ended.append(time.perf_counter())
        connection.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return size * len(ended) / (max(ended) - began)


def _request(size: int) -> tuple[bytes, dict[str, str]]:
    images = np.random.default_rng(0).random((size, *IMAGE), np.float32)
    tensor = triton.InferInput("image", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    output = triton.InferRequestedOutput("scores", binary_data=True)
    body, head = triton.InferenceServerClient.generate_request_body([tensor], outputs=[output])
    return bytes(body), {"Inference-Header-Content-Length": str(head)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    # What is asked, as rows: images in a request, clients, the bare loop's batch.
    rows = [(f"batches of {size}, 2 clients", size, 2, size) for size in _SIZES]
    rows.append(("single images, 32 clients, batched by the server", 1, 32, 16))
    ratios: dict[str, list[float]] = {name: [] for name, *_ in rows}
    speeds: dict[str, list[float]] = {name: [] for name, *_ in rows}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet50" / "1" / "model.onnx"
        save_resnet50(model)
        (model.parent.parent / "config.pbtxt").write_text(_CONFIG)
        bare = Bare(model)
        with serve(f"--model-repository={folder}") as server:
            served(server.port, 1, 2, 1.0)
            for _ in range(options.rounds):
                for name, size, clients, batch in rows:
                    alone = bare.images_per_second(batch, options.seconds)
                    speed = served(server.port, size, clients, options.seconds)
                    speeds[name].append(speed)
                    ratios[name].append(speed / alone)
        bare.process.kill()
        bare.process.communicate()
    print(f"{'ResNet-50, images per second of onnxruntime':<52}{'served':>8}  of a bare loop")
    for name, *_ in rows:
        ratio = statistics.median(ratios[name])
        verdict = "met" if ratio >= _GOAL else "MISSED"
        speed = statistics.median(speeds[name])
        print(f"{name:<52}{speed:8.1f}  {ratio:.3f}  goal >= {_GOAL}: {verdict}")


if __name__ == "__main__":
    main()
