"""The diffusion backend: Request to Params, the engine's events to answers.

The only file that knows both worlds. The engine paints in its own thread; answers are put
together in another, so that encoding a PNG never holds a denoising step.
"""

from __future__ import annotations

import base64
import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic_ns
from typing import Any

import numpy as np
from PIL import Image

from nerite.backends.base import Config, ModelSpec
from nerite.backends.diffusion_capabilities import with_capabilities
from nerite.backends.diffusion_config import (
    PICTURES,
    SEED,
    complete,
    find_roles,
    fixed_rows,
    max_waiting,
    read_defaults,
    read_number,
    unfilled,
)
from nerite.backends.diffusion_metrics import PromptMetrics
from nerite.backends.diffusion_safety import FLAGGED, Safety, safety_mode
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor
from nerite.diffusion import (
    Aborted,
    Engine,
    EngineClosed,
    InvalidParams,
    Overdue,
    Painted,
    Params,
    Progress,
    Ticket,
    Watch,
    find_model_folder,
    open_pipeline,
    read_picture,
)

_MAX_RUNNING = 16
_SEEDS = 1 << 32  # a seed's low 32 bits are all that count
_PREVIEW_FORMATS = ("raw", "jpeg")


class DiffusionBackend:
    """One engine for one model folder."""

    def __init__(self) -> None:
        self._answers = ThreadPoolExecutor(1, thread_name_prefix="diffusion-answers")

    def load(self, spec: ModelSpec) -> Config:
        try:
            # What is wrong with it is told of the files themselves, not of links to them.
            folder = find_model_folder(spec.version_folder.resolve())
        except FileNotFoundError as error:
            version = spec.parameters.get("version", "")
            raise invalid(f"{error}{unfilled(spec.folder, version)}") from None
        device = "cpu" if spec.device == "cpu" else f"{spec.device}:{spec.device_id}"
        pipeline = open_pipeline(
            folder,
            device=device,
            threads=read_number(spec.parameters, "intra_op_thread_count", int),
            runtime=spec.parameters.get("runtime", "auto"),
            dtype=spec.parameters.get("dtype", "auto"),
            fixed_rows=fixed_rows(spec.parameters),
            compile=spec.parameters.get("compile", "auto"),
            vae_tiling=spec.parameters.get("vae_tiling", "auto"),
        )
        mode = safety_mode(spec.parameters)
        self._safety = None if mode == "off" else Safety(mode, folder)
        self._limits = pipeline.limits
        self.metrics = PromptMetrics(spec, pipeline.embeddings)
        images = read_number(spec.parameters, "max_running_images", int) or _MAX_RUNNING
        config = complete(spec.config)
        self._roles = find_roles(config)
        self._batches = config.get("max_batch_size", 0) > 0
        self._defaults = read_defaults(spec.parameters, pipeline.limits)
        try:
            pipeline.check(Params("", **{"seed": 0, **self._defaults}))
        except InvalidParams as error:
            if error.field not in PICTURES:  # which no config can give
                text = f"model '{spec.name}': the config's parameters give {error}"
                raise InferenceError(Status.INVALID_ARG, text) from None
        self._engine = Engine(
            pipeline,
            max_running_images=images,
            max_waiting=max_waiting(config),
            memory=pipeline.measure(),
        )
        self._engine.start()
        return with_capabilities(config, pipeline, self._roles, self._defaults)

    def execute(self, calls: list[Call]) -> None:
        for call in calls:
            try:
                params = self._params(call.request)
                _Painting(call, params, self).start(self._engine, _watched(call.request))
            except InvalidParams as error:
                call.fail(invalid(f"{call.request.label}{error}"))
            except EngineClosed as error:
                call.fail(InferenceError(Status.UNAVAILABLE, str(error)))
            except InferenceError as error:
                call.fail(error)
        self._engine.wait_for_room()

    def unload(self) -> None:
        self._engine.close()
        self._answers.shutdown()

    def _params(self, request: Request) -> list[Params]:
        """One Params per item of the request's batch."""
        values = {}
        for name, tensor in request.inputs.items():
            if name in PICTURES:
                values[name] = self._pictures(name, tensor)
            else:
                field = "prompt" if name == self._roles.prompt else name
                values[field] = _column(request, name, tensor)
        for name in ("width", "height", "num_images"):
            if len(set(values.get(name, []))) > 1:
                raise invalid(
                    f"{request.label}input '{name}' differs within the request's batch "
                    f"({values[name]}): the pictures of one request share one size"
                )
        return [
            Params(**self._with_defaults({name: column[item] for name, column in values.items()}))
            for item in range(len(values["prompt"]))
        ]

    def _pictures(self, name: str, tensor: Tensor) -> list[Any]:
        """Pixels for each item of the batch; None for an empty text."""
        if tensor.dtype.kind != "O":
            return list(tensor) if self._batches else [tensor]
        files = [
            value if isinstance(value, bytes) else str(value).encode() for value in tensor.flat
        ]
        return [read_picture(name, file) if file else None for file in files]

    def _with_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        values = {"seed": secrets.randbelow(_SEEDS), **self._defaults}
        if given.get("image") is not None:
            values |= self._limits.fit(given["image"].shape[1], given["image"].shape[0])
        values |= given
        values["scheduler"] = values.get("scheduler") or None
        return values

    def finish(self, work: Callable[[], None]) -> None:
        """Run `work` outside the engine's thread."""
        self._answers.submit(work)

    def progress(self, request: Request, told: Progress) -> Response:
        """How far a request is, as an answer before its last."""
        outputs: dict[str, Tensor] = {
            "step": np.array([told.step], np.int32),
            "steps": np.array([told.steps], np.int32),
            "queue_position": np.array([told.queue_position], np.int32),
            "eta_seconds": np.array([told.eta_seconds], np.float32),
        }
        # What might be blanked at the end is not shown on the way either.
        if told.preview is not None and not (self._safety and self._safety.blanks):
            outputs["preview"] = told.preview
            if request.parameters.get("preview_format") == "jpeg" or self._roles.image_is_text:
                file = base64.b64encode(_encoded(told.preview, "jpeg"))
                outputs["preview"] = np.array([file], object)
        if self._batches:
            outputs = {name: tensor[None] for name, tensor in outputs.items()}
        return Response(outputs, final=False)

    def response(self, request: Request, painted: Sequence[Painted]) -> Response:
        """The pictures of a whole request, in the shape the config and the request ask for."""
        flags: list[Tensor] | None = None
        if self._safety is not None:
            painted, flags = self._safety.look(painted)
        several = "num_images" in request.inputs
        pictures = [one.images if several else one.images[0] for one in painted]
        images = np.stack(pictures) if self._batches else pictures[0]
        if self._roles.image_is_text:
            images = _as_text(images)
        seeds = np.array([[one.seed] for one in painted], np.int64)
        outputs = {self._roles.image: images, SEED: seeds if self._batches else seeds[0]}
        if flags is not None:
            outputs[FLAGGED] = np.stack(flags) if self._batches else flags[0]
        wanted = request.outputs or tuple(outputs)
        return Response({name: outputs[name] for name in wanted if name in outputs})


class _Painting:
    """One call in the engine: a ticket per batch item, one answer when all are painted."""

    def __init__(self, call: Call, params: Sequence[Params], backend: DiffusionBackend) -> None:
        self._call = call
        self._params = params
        self._backend = backend
        self._tickets: list[Ticket] = []
        self._painted: dict[int, Painted] = {}

    def start(self, engine: Engine, watched: tuple[int, bool] | None) -> None:
        """Raises what Engine.add raises, with nothing left in the engine.

        ``watched`` tells how often a preview is wanted and whether by the decoder; the progress
        told is that of the request's first picture.
        """
        self._engine = engine
        watch = None if watched is None else Watch(self._progress, *watched)
        timeout = self._timeout()
        try:
            for item, params in enumerate(self._params):
                ticket = engine.add(
                    params,
                    partial(self._event, item),
                    watch=None if item else watch,
                    timeout=timeout,
                )
                self._tickets.append(ticket)
        except Exception:
            self._abort()
            raise
        self._call.on_cancel(self._abort)

    def _timeout(self) -> float | None:
        """Seconds that are left of those the request was given."""
        given = self._call.request.timeout_us
        if not given:
            return None
        return given / 1e6 - (monotonic_ns() - self._call.received_ns) / 1e9

    def _progress(self, told: Progress) -> None:
        self._backend.finish(partial(self._tell, told))

    def _tell(self, told: Progress) -> None:
        self._call.send(self._backend.progress(self._call.request, told))

    def _abort(self) -> None:
        for ticket in self._tickets:
            self._engine.abort(ticket)

    def _event(self, item: int, event: Painted | BaseException) -> None:
        self._backend.finish(self._backend.metrics.tell)
        if isinstance(event, Painted):
            self._painted[item] = event
            if len(self._painted) == len(self._params):
                self._backend.finish(self._answer)
            return
        self._abort()  # one picture of the request is lost, so the others are not wanted either
        if isinstance(event, Aborted):
            error = InferenceError(Status.CANCELLED, f"{self._call.request.label}cancelled")
        elif isinstance(event, Overdue):
            text = f"{self._call.request.label}Request timeout expired"
            error = InferenceError(Status.UNAVAILABLE, text)
        elif isinstance(event, EngineClosed):
            error = InferenceError(Status.UNAVAILABLE, str(event))
        else:
            error = InferenceError(Status.INTERNAL, f"painting failed: {event}")
        self._call.fail(error)

    def _answer(self) -> None:
        painted = [self._painted[item] for item in range(len(self._params))]
        try:
            self._call.send(self._backend.response(self._call.request, painted))
        except Exception as error:
            text = f"the picture could not be answered: {type(error).__name__}: {error}"
            self._call.fail(InferenceError(Status.INTERNAL, text))


def _watched(request: Request) -> tuple[int, bool] | None:
    """Every how many steps a preview is wanted, and whether by the decoder; None for silence."""
    asked = request.parameters
    every = asked.get("previews", 0)
    if not isinstance(every, int) or isinstance(every, bool) or every < 0:
        raise invalid(f"{request.label}parameter 'previews' is {every}: every how many steps, or 0")
    if asked.get("preview_format", "raw") not in _PREVIEW_FORMATS:
        raise invalid(f"{request.label}parameter 'preview_format' must be 'raw' or 'jpeg'")
    if asked.get("progress") not in (True, "true", 1):
        return None
    return every, asked.get("preview_decoder") == "vae"


def _column(request: Request, name: str, tensor: Tensor) -> list[Any]:
    """A tensor's values as Python's own, text decoded. Raises InferenceError."""
    values = tensor.reshape(-1).tolist()
    if tensor.dtype.kind != "O":
        return values
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    except UnicodeDecodeError as error:
        raise invalid(
            f"{request.label}input '{name}' is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from None


def _as_text(images: Tensor) -> Tensor:
    """Pictures [..., h, w, 3] as base64 PNG texts [..., 1], BYTES."""
    flat = images.reshape(-1, *images.shape[-3:])
    texts = np.empty(len(flat), object)
    texts[:] = [base64.b64encode(_encoded(image, "png")) for image in flat]
    return texts.reshape(*images.shape[:-3], 1) if images.ndim > 3 else texts


def _encoded(image: Tensor, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()
