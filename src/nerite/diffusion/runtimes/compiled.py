"""torch.compile: a network's kernels fused for one shape, on CUDA recorded as one graph.

Compiling takes from seconds to minutes, so it is done by Buckets while the network itself
serves. What it leaves on disk makes the next start's compiling a matter of seconds, and that
start begins with the shapes of the last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nerite.diffusion.runtimes.buckets import Feeds, Run

LEVELS = ("auto", "off", "on", "max")
"""Of a config's ``compile``: "max" also tries out kernels, which takes long the first time."""

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # Graphs are ours: inductor's belong to the thread that compiled, and it is not the engine's.
    "on": {"triton.cudagraphs": False, "shape_padding": True},
    "max": {"triton.cudagraphs": False, "shape_padding": True, "max_autotune": True},
}
_SHAPES = 64  # compiled ones of a function, before torch takes that for a mistake
_WARM_UP = 3  # runs, in which kernels are loaded and memory is taken


def level(wanted: str, device: Any) -> str:
    """ "off", "on" or "max"; raises ValueError for a level that is not known."""
    if wanted not in LEVELS:
        raise ValueError(f"compile is {wanted!r}: it must be one of {', '.join(LEVELS)}")
    if wanted == "auto":  # on a CPU graphs are faster, and compiling takes the cores that serve
        return "on" if device.type == "cuda" else "off"
    return wanted


def prepare(cache: Path | None = None) -> None:
    """Once, before anything is compiled: where the results are kept, and how many there may be."""
    import torch._dynamo

    folder = cache or cache_folder() / "inductor"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    torch._dynamo.config.recompile_limit = max(_SHAPES, torch._dynamo.config.recompile_limit)


def compiler(
    forward: Callable[[Feeds], Sequence[Any]], device: Any, how: str, backend: str = "inductor"
) -> Callable[[Feeds], Run]:
    """What makes a variant of ``forward`` for the shapes of given feeds (see Buckets)."""

    def make(feeds: Feeds) -> Run:
        import torch

        options = {"options": dict(_OPTIONS[how])} if backend == "inductor" else {}
        fast: Run = torch.compile(forward, backend=backend, dynamic=False, **options)
        copies = {name: value.clone() for name, value in feeds.items()}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of compilers, to whoever wrote the network
            fast(copies)
        if device.type != "cuda":
            return fast
        torch.cuda.synchronize(device)
        return Graph(fast)

    return make


class Shapes:
    """Shapes that were compiled, in a file beside the compiled kernels (see Buckets)."""

    def __init__(self, what: str, device: Any) -> None:
        """``what`` names network, type and level: everything that kernels depend on."""
        digest = hashlib.sha256(what.encode()).hexdigest()[:32]
        self._file = cache_folder() / "shapes" / f"{digest}.json"
        self._device = device

    def known(self) -> list[Feeds]:
        import torch

        try:
            return [
                {
                    name: torch.zeros(sides, dtype=getattr(torch, dtype), device=self._device)
                    for name, (sides, dtype) in shape.items()
                }
                for shape in reversed(self._read())
            ]
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return []  # another version's, or a broken file

    def add(self, feeds: Feeds) -> None:
        shape = {
            name: [list(value.shape), str(value.dtype).removeprefix("torch.")]
            for name, value in feeds.items()
        }
        kept = [one for one in self._read() if one != shape][1 - _SHAPES :]
        with contextlib.suppress(OSError):  # a cache that cannot be written is none
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps([*kept, shape]))

    def _read(self) -> list[dict[str, Any]]:
        try:
            found = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return []
        return found if isinstance(found, list) else []


class Graph:
    """A function's kernels for one shape, recorded at its first run and played from then on."""

    def __init__(self, run: Callable[[Feeds], Sequence[Any]]) -> None:
        self._run = run
        self._graph: Any = None
        self._inputs: dict[str, Any] = {}
        self._outputs: Sequence[Any] = ()

    def __call__(self, feeds: Feeds) -> Sequence[Any]:
        if self._graph is None:
            self._record(feeds)
        for name, value in feeds.items():
            self._inputs[name].copy_(value)
        self._graph.replay()
        # The graph's own memory is written again when it is next played.
        return [output.clone() for output in self._outputs]

    def _record(self, feeds: Feeds) -> None:
        """In the thread that runs it, so that nothing else is on the device meanwhile."""
        import torch

        self._inputs = {name: value.clone() for name, value in feeds.items()}
        device = next(iter(feeds.values())).device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._run(self._inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._outputs = list(self._run(self._inputs))
        self._graph = graph


def cache_folder() -> Path:
    """The user's, for what nerite can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nerite"
