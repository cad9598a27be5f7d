"""Every pipeline of diffusers that has no family of its own: whole requests, batched as they come.

diffusers' own loop runs in a thread that waits after each step, so that the engine sees steps,
tells progress and cancels between two of them, as with the other families.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.embeddings import Embeddings
from nerite.diffusion.folder import INDEX
from nerite.diffusion.job import InvalidParams, Key, Params, Work
from nerite.diffusion.limits import Limits
from nerite.diffusion.memory import Memory
from nerite.diffusion.runtimes.torch import TorchRuntime
from nerite.diffusion.settings import Settings
from nerite.diffusion.space import Space
from nerite.diffusion.weights import find_broken

_SIDE = 1024
# Members of Params, their names in a pipeline's call, and what they are where nobody asks.
_OPTIONAL = (
    ("negative_prompt", "negative_prompt", ""),
    ("clip_skip", "clip_skip", 0),
    ("image", "image", None),
    ("mask", "mask_image", None),
    ("strength", "strength", None),
)


class General:
    """See pipeline.Pipeline. ``name`` is the class that the folder's index names."""

    embeddings: Embeddings | None = None

    def __init__(self, folder: Path, name: str, settings: Settings) -> None:
        """Raises FileNotFoundError or ValueError for a folder that cannot be served."""
        self._pipe, self._space = _open(folder, name, settings)
        self._accepted = inspect.signature(type(self._pipe).__call__).parameters
        if "prompt" not in self._accepted:
            raise ValueError(f"{folder / INDEX}: {name} takes no prompt, so it cannot be served")
        self.limits = _limits(self._pipe, self._accepted)
        self.scheduler = type(self._pipe.scheduler).__name__
        self._rounds = itertools.count()

    def check(self, params: Params) -> None:
        self.limits.check(params)
        for field, name, usual in _OPTIONAL:
            given = getattr(params, field)
            asked = given is not None if usual is None else given != usual
            if asked and name not in self._accepted:
                text = f"{field} is not served: {type(self._pipe).__name__} knows no {name}"
                raise InvalidParams(field, text)
        if params.scheduler is not None:
            text = f"scheduler {params.scheduler!r} is not served: this model has only its own"
            raise InvalidParams("scheduler", text)

    def measure(self) -> Memory:
        return Memory()

    def start(self, requests: Sequence[Params]) -> list[RoundWork]:
        """Requests of equal settings make one round: one call of the pipeline."""
        alike: dict[Key, list[int]] = {}
        for index, params in enumerate(requests):
            alike.setdefault(_settings(params), []).append(index)
        works: dict[int, RoundWork] = {}
        for indexes in alike.values():
            chosen = [requests[index] for index in indexes]
            pipe = copy.copy(self._pipe)  # what a call notes on its pipeline is its own
            pipe.scheduler = copy.deepcopy(self._pipe.scheduler)
            turn = Round(pipe, self._arguments(chosen), next(self._rounds))
            first = 0
            for index, params in zip(indexes, chosen, strict=True):
                works[index] = RoundWork(params, turn, first)
                turn.works.add(id(works[index]))
                first += params.num_images
        return [works[index] for index in range(len(requests))]

    def _arguments(self, requests: Sequence[Params]) -> dict[str, Any]:
        """What the pipeline is called with; one prompt and one generator per image."""
        import torch

        one = requests[0]
        images = [params for params in requests for _ in range(params.num_images)]
        seeds = [params.seed + k for params in requests for k in range(params.num_images)]
        arguments: dict[str, Any] = {
            "prompt": [params.prompt for params in images],
            "num_inference_steps": one.steps,
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "output_type": "np",
            "guidance_scale": one.guidance_scale,
            "height": one.height,
            "width": one.width,
            # The size that was asked for, not one near it that the model saw more often.
            "use_resolution_binning": False,
        }
        if any(params.negative_prompt for params in requests):
            arguments["negative_prompt"] = [params.negative_prompt for params in images]
        if one.clip_skip:
            arguments["clip_skip"] = one.clip_skip
        if one.image is not None:
            arguments |= {"image": _pictures(images, "image"), "strength": one.chosen_strength}
        if one.mask is not None:
            arguments["mask_image"] = _pictures(images, "mask")
        return {name: value for name, value in arguments.items() if name in self._accepted}

    def step(self, works: Sequence[Work]) -> None:
        chosen = cast(Sequence[RoundWork], works)
        chosen[0].round.advance()
        for work in chosen:
            work.index = min(work.index + 1, work.steps)

    def decode(self, images: Sequence[tuple[Work, int]]) -> NDArray[np.uint8]:
        pairs = [(cast(RoundWork, work), k) for work, k in images]
        return np.stack([work.round.images[work.first + k] for work, k in pairs])

    def preview(self, work: Work, *, exact: bool) -> NDArray[np.uint8] | None:
        return None

    def drop(self, work: Work) -> None:
        turn = cast(RoundWork, work).round
        turn.works.discard(id(work))
        if not turn.works:
            turn.cancel()

    def trim(self) -> None:
        self._space.trim()


@dataclass(slots=True, eq=False)
class RoundWork:
    """A request's part of a round: its images from ``first`` on (see job.Work)."""

    params: Params
    round: Round
    first: int
    index: int = 0
    wants_clean: bool = False
    deadline: float | None = None

    @property
    def rows(self) -> int:
        return self.params.num_images

    @property
    def steps(self) -> int:
        return self.params.steps

    @property
    def done(self) -> bool:
        return self.round.finished

    @property
    def key(self) -> Key:
        return (self.round.number,)


class _Cancelled(Exception):
    """Thrown into a pipeline's callback to leave its loop."""


class Round:
    """One call of a pipeline, in a thread of its own that goes on when it is told to."""

    def __init__(self, pipe: Any, arguments: dict[str, Any], number: int) -> None:
        self._pipe = pipe
        self._arguments = arguments
        self._go, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._cancelled = False
        self._error: BaseException | None = None
        self.number = number
        self.works: set[int] = set()
        self.finished = False
        self.images: NDArray[np.uint8] = np.zeros((0, 0, 0, 3), np.uint8)

    def advance(self) -> None:
        """Until after the next step, or after the last to the end; raises what the call raises."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="diffusion-round", daemon=True)
            self._thread.start()
        self._go.release()
        self._rests.acquire()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Leave the call; returns when its thread has."""
        if self._thread is None or self.finished or self._error is not None:
            return
        self._cancelled = True
        self._go.release()
        self._thread.join()

    def _run(self) -> None:
        import torch

        self._go.acquire()
        accepted = inspect.signature(type(self._pipe).__call__).parameters
        if "callback_on_step_end" in accepted:
            self._arguments["callback_on_step_end"] = lambda pipe, step, *_: self._rest(step)
        elif "callback" in accepted:  # as older pipelines have it
            self._arguments["callback"] = lambda step, *_: self._rest(step)
        try:
            self._pipe.set_progress_bar_config(disable=True)
            with torch.inference_mode():
                images = np.asarray(self._pipe(**self._arguments).images)
            self.images = (images * 255).round().clip(0, 255).astype(np.uint8)
            self.finished = True
        except BaseException as error:
            self._error = error
        self._rests.release()

    def _rest(self, step: int) -> dict[str, Any]:
        steps = getattr(self._pipe, "num_timesteps", 0) or self._arguments["num_inference_steps"]
        if step + 1 < int(steps):
            self._rests.release()
            self._go.acquire()
        if self._cancelled:
            raise _Cancelled
        return {}


def _open(folder: Path, name: str, settings: Settings) -> tuple[Any, Space]:
    try:
        import diffusers
    except ImportError:
        raise ValueError(
            f"{folder / INDEX} names the pipeline {name!r}, which needs torch and diffusers: "
            "pip install 'nerite[diffusion]'"
        ) from None
    kind: Any = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ValueError(
            f"{folder / INDEX} names the pipeline {name!r}, which diffusers "
            f"{diffusers.__version__} does not have"
        )
    runtime = TorchRuntime(folder, replace(settings, compile="off"))
    try:
        pipe = cast(Any, kind).from_pretrained(folder, **runtime.options(folder)).to(runtime.device)
    except Exception as error:  # many types, for files missing, cut off or of another model
        why = find_broken(folder) or str(error).strip().split("\n")[0]
        raise ValueError(f"{folder} cannot be loaded: {why}") from error
    return pipe, runtime.space


def _limits(pipe: Any, accepted: Mapping[str, inspect.Parameter]) -> Limits:
    sized = "height" in accepted
    factor = int(getattr(pipe, "vae_scale_factor", 8) or 8)
    side = int(getattr(pipe, "default_sample_size", 0) or _SIDE // factor) * factor
    most = max(2 * side, 2048) if sized else side
    multiple = 2 * factor if sized else 1
    limits = Limits(
        width=side, height=side, min_size=64 if sized else side, max_size=most,
        size_multiple=multiple,
    )  # fmt: skip
    usual: dict[str, Any] = {}
    for field, name in (("steps", "num_inference_steps"), ("guidance_scale", "guidance_scale")):
        if name in accepted and isinstance(accepted[name].default, int | float):
            usual[field] = accepted[name].default
    return replace(limits, **usual)


def _settings(params: Params) -> Key:
    """What one call has in common; pictures are compared by nothing but being the same array."""
    return (
        params.steps, params.guidance_scale, params.width, params.height, params.clip_skip,
        params.strength, id(params.image), id(params.mask), bool(params.negative_prompt),
    )  # fmt: skip


def _pictures(images: Sequence[Params], field: str) -> list[Any]:
    from PIL import Image

    size = (images[0].width, images[0].height)
    return [Image.fromarray(getattr(params, field)).resize(size) for params in images]
