"""Pictures in a row while clients leave when they like: answered once, and memory stays flat.

    python benchmarks/soak_images.py [--images N] [--report FILE]

The painter's, small and of few steps, of all kinds: plain, over streams with progress and
previews, several at a time, from pictures, of many sizes. A part of the clients hangs up while it
waits. The worker's memory is noted as pictures go by; it may grow by 5 % after the first quarter.
With --report what was seen is written every hundred pictures, and a run that finds the file of one
that was broken off goes on with its count. The exit status says whether all was well.
"""

import argparse
import base64
import collections
import io
import json
import random
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from serving import Running, serve

from nerite.painter import REPOSITORY

PATIENCE = 300.0  # seconds after which a request counts as unanswered
LEAVE = 0.2  # of the clients
GROWTH = 1.05
EVERY = 100  # pictures from one look at the memory to the next


@dataclass
class Seen:
    """What became of the pictures, and the worker's MB as they went by."""

    images: int = 0
    left: int = 0
    wrong: collections.Counter[str] = field(default_factory=collections.Counter)
    megabytes: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Soak:
    """Clients that take wishes from one source until it is dry."""

    def __init__(self, server: Running, seen: Seen, most: int, report: Path | None) -> None:
        self._server = server
        self._seen = seen
        self._most = most
        self._report = report
        self._lock = threading.Lock()
        self._asked = seen.images + seen.left
        self._began = time.monotonic() - seen.seconds
        self.asked = self.answered = 0  # of this run's requests

    def client(self) -> None:
        """Ask until as many pictures as wanted are there."""
        while (asked := self._next()) is not None:
            chance = random.Random(asked)
            wish, several = _wish(chance)
            streams, leaves = chance.random() < 0.4, chance.random() < LEAVE
            try:
                self._ask(wish, several, streams=streams, leaves=leaves, chance=chance)
            except (OSError, ValueError, KeyError, AssertionError) as error:
                self._note(wrong=f"{type(error).__name__}: {error}"[:120])

    def _next(self) -> int | None:
        with self._lock:
            if self._seen.images >= self._most:
                return None
            self._asked += 1
            self.asked += 1
            return self._asked

    def _ask(
        self,
        wish: dict[str, Any],
        several: int,
        *,
        streams: bool,
        leaves: bool,
        chance: random.Random,
    ) -> None:
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=PATIENCE)
        path = "generate_stream" if streams else "generate"
        if streams:
            wish = wish | {"progress": True, "previews": 2}
            wish["preview_decoder"] = chance.choice(["vae", "sketch"])
        connection.request("POST", f"/v2/models/painter/{path}", json.dumps(wish))
        if leaves:
            time.sleep(chance.random() * 2)
            connection.close()
            self._note(left=1)
            return
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise ValueError(content[:100].decode(errors="replace"))
        events = [content]
        if streams:
            events = [line[6:] for line in content.split(b"\n") if line.startswith(b"data: ")]
        documents = [json.loads(event) for event in events]
        pictures = [one for one in documents if "generated_image" in one]
        if len(pictures) != 1 or documents[-1] is not pictures[0]:
            raise ValueError(f"{len(pictures)} answers with pictures of {len(documents)}")
        pixels = pictures[0]["generated_image"]
        if len(pixels) != several * wish["width"] * wish["height"] * 3:
            raise ValueError(f"a picture of {len(pixels)} numbers")
        self._note(images=several)

    def _note(self, *, images: int = 0, left: int = 0, wrong: str = "") -> None:
        with self._lock:
            seen, before = self._seen, self._seen.images
            seen.images += images
            self.answered += bool(images)
            seen.left += left
            if wrong:
                seen.wrong[wrong] += 1
            seen.seconds = time.monotonic() - self._began
            if seen.images // EVERY == before // EVERY:
                return
            seen.megabytes.append(worker_megabytes(self._server))
            print(
                f"{seen.images:6} pictures, {seen.left:5} left, {seen.megabytes[-1]:7.1f} MB, "
                f"{seen.seconds:6.0f} s, {sum(seen.wrong.values())} wrong",
                flush=True,
            )
            if self._report is not None:
                self._report.write_text(json.dumps(asdict(seen)))


def _wish(chance: random.Random) -> tuple[dict[str, Any], int]:
    """A request, and how many pictures it is for."""
    several = chance.choice([1, 1, 1, 2])
    wish = {
        "prompt": f"a {chance.choice(['red', 'blue'])} house number {chance.randrange(10**6)}",
        "seed": chance.randrange(1 << 31),
        "steps": chance.randint(1, 6),
        "width": chance.choice([64, 64, 96]),
        "height": chance.choice([64, 64, 128]),
        "guidance_scale": chance.choice([1.0, 4.0]),
        "num_images": several,
        "scheduler": chance.choice(["euler", "ddim", "dpm++_2m", "euler_a", "unipc"]),
    }
    if chance.random() < 0.2:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (chance.randrange(256), 90, 200)).save(buffer, "png")
        wish |= {"image": base64.b64encode(buffer.getvalue()).decode(), "strength": 0.9}
        wish["steps"] = chance.randint(4, 6)
    return wish, several


def worker_megabytes(server: Running) -> float:
    """Of the process that paints: the largest one below the server."""
    sizes: list[float] = []
    for process in server.process.children(recursive=True):
        try:
            sizes.append(process.memory_info().rss / 1e6)
        except psutil.Error:
            continue
    return max(sizes)


def settled(server: Running, seconds: float = 60.0) -> tuple[int, int]:
    """(answered, failed) requests by the server's count, once nothing is open any more."""
    before: tuple[int, int] | None = None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/v2/models/painter/stats")
        told = json.loads(connection.getresponse().read())["model_stats"][0]["inference_stats"]
        connection.close()
        now = int(told["success"]["count"]), int(told["fail"]["count"])
        if now == before:
            return now
        before = now
        time.sleep(3)
    raise TimeoutError("the server did not come to rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--report", type=Path, help="a file for what was seen; goes on from it")
    options = parser.parse_args()
    seen = Seen()
    if options.report is not None and options.report.is_file():
        seen = Seen(**json.loads(options.report.read_text()))
        seen.wrong, seen.megabytes = collections.Counter(seen.wrong), []
    with tempfile.TemporaryDirectory() as repository:
        model = Path(repository) / "painter"
        model.mkdir()
        (model / "1").symlink_to((REPOSITORY / "painter" / "1").resolve())
        (model / "config.pbtxt").write_text(
            'backend: "diffusion"\ninstance_group [ { kind: KIND_CPU count: 1 } ]\n'
            f'parameters {{ key: "dtype" value {{ string_value: "{options.dtype}" }} }}\n'
        )
        with serve(f"--model-repository={repository}") as server:
            soak = Soak(server, seen, options.images, options.report)
            clients = [threading.Thread(target=soak.client) for _ in range(options.users)]
            for thread in clients:
                thread.start()
            for thread in clients:
                thread.join()
            answered, failed = settled(server)
    print(
        f"of {soak.asked} requests {soak.answered} were answered to clients that stayed; "
        f"the server counts {answered} answered and {failed} given up"
    )
    if not (soak.answered <= answered and answered + failed <= soak.asked):
        seen.wrong["the server counts otherwise"] += 1
    _report(seen)


def _report(seen: Seen) -> None:
    quarter = seen.megabytes[len(seen.megabytes) // 4 :] or [0.0]
    growth = quarter[-1] / max(quarter[0], 1e-9)
    print(
        f"{seen.images} pictures in {seen.seconds:.0f} s; {seen.left} clients left; "
        f"worker {quarter[0]:.1f} MB after a quarter, {quarter[-1]:.1f} MB at the end "
        f"(x {growth:.3f}, at most {max(quarter):.1f})"
    )
    for text, count in seen.wrong.most_common(5):
        print(f"  {count} x {text}")
    good = not seen.wrong and growth <= GROWTH
    sys.exit(0 if good else "a request was not answered as it should, or memory grew")


if __name__ == "__main__":
    main()
