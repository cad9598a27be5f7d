"""Model: one loaded version of a model. Checks requests, counts them, owns what runs them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nerite.cache.base import Cache, owner_of
from nerite.cache.caching import Caching
from nerite.contract import Contract
from nerite.core.call import Answer, Call, Deliver, Responses
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.home import Home
from nerite.core.request import Request
from nerite.core.stats import COUNTS_ONLY, FIRST_RESPONSE_MS, Recording, Stats
from nerite.instances.base import Instance, Pool
from nerite.placing import Placing, pool_of
from nerite.repository import config as configs
from nerite.repository import rules
from nerite.repository.config import ModelConfig
from nerite.repository.ensemble import check_steps, steps
from nerite.repository.repository import ModelEntry
from nerite.reshape import Reshape
from nerite.schedulers.ensemble import EnsembleScheduler
from nerite.schedulers.order import Order
from nerite.scheduling import scheduler_of
from nerite.warmup import warm_up_of

log = logging.getLogger(__name__)
_NO_TENSORS = (
    "model '%s' has neither inputs nor outputs: they stand in its config.pbtxt, or in the "
    "auto_complete_config of its model.py"
)


class Model:
    """A loaded version: `infer` is its one verb. Belongs to one loop."""

    def __init__(
        self,
        version: int,
        config: ModelConfig,
        pool: Pool,
        parts: Sequence[Model] = (),
        recording: Recording = COUNTS_ONLY,
        cache: Cache | None = None,
        state: str = "",
    ) -> None:
        """parts: of an ensemble, the model of each step. state: what tells this load of the
        version from others, for the cache's keys."""
        self.name = config.name
        self.version = version
        self.config = config
        self.contract = Contract(config)
        self.stats = Stats(recording, _first_response_ms(config))
        self.namespace = ""  # its repository, where models of several may have the same name
        self.load_seconds = 0.0
        self.labels: dict[str, list[str]] = {}  # of each output that has a label file
        self._on_answer: Callable[[Call, Answer], None] | None = None
        self.decoupled: bool = config.model_transaction_policy.decoupled
        if self.decoupled:
            self._on_answer = self.stats.count_answer
        self._pool = pool
        self._reshape = Reshape.of(config)
        self._order = Order() if config.dynamic_batching.preserve_ordering else None
        self._scheduler = scheduler_of(config, self._pool, self.stats.count_execution, parts)
        self._submit = self._scheduler.submit
        self.caching: Caching | None = None
        if cache is not None and config.response_cache.enable:
            owner = owner_of(self.name, version, state)
            self.caching = Caching(cache, owner, self.stats, self._submit)
            self._submit, self._on_answer = self.caching.submit, self.caching.answered
        self._open = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._parts = parts
        self._holders = 0
        self._unheld = asyncio.Event()
        self._unheld.set()
        for part in parts:
            part.hold()

    @classmethod
    async def load(
        cls,
        entry: ModelEntry,
        version: int,
        home: Home,
        *,
        placing: Placing,
        parts: Sequence[Model] = (),
        recording: Recording = COUNTS_ONLY,
        cache: Cache | None = None,
    ) -> Model:
        """Start the instances of one version; `home` is the server they may ask.

        Raises InferenceError when one does not load.
        """
        started = time.monotonic()
        if not placing.complete:
            rules.check(entry.config)  # all that it will be: what is wrong is not the model's file
        pool = pool_of(entry, version, home, placing)
        try:
            completed = await pool.start()
            if completed:
                config = configs.from_dict(completed[0])
            else:
                config = _ensemble(entry.config, parts)
            configs.normalize(config)
            rules.check(config)
            if not config.input and not config.output:
                log.warning(_NO_TENSORS, config.name)
            labels = {**_labels_of_parts(config, parts), **_labels(config, entry.folder)}
            warm = warm_up_of(config, entry.folder)
            if warm is not None:
                await pool.warm(warm)
        except BaseException:
            await pool.close()
            raise
        # An ensemble's answers are those of its parts, which its own files do not tell.
        files = () if parts or entry.overridden else entry.fingerprint
        state = repr((entry.namespace, files or started))
        model = cls(version, config, pool, parts, recording, cache, state)
        pool.changed = model.dispatch
        model.labels, model.namespace = labels, entry.namespace
        model.load_seconds = time.monotonic() - started
        return model

    @property
    def instances(self) -> Sequence[Instance]:
        return self._pool.instances

    @property
    def ready(self) -> bool:
        return self._pool.ready and all(part.ready for part in self._parts)

    @property
    def checks_ready(self) -> bool:
        """Whether its code has something to say of its readiness."""
        return any(instance.checks_ready for instance in self.instances)

    async def check_ready(self) -> bool:
        """Whether it is ready, and says so itself too if it can."""
        if not self.checks_ready:
            return self.ready
        said = await asyncio.gather(*(instance.check_ready() for instance in self.instances))
        return self.ready and all(said)

    @property
    def behind(self) -> frozenset[str]:
        """The names of the models that work for it, itself one of them."""
        return frozenset({self.name}.union(*(part.behind for part in self._parts)))

    @property
    def memory_bytes(self) -> int:
        """What the processes of its instances hold; 0 where that is not known."""
        return self._pool.memory_bytes

    @property
    def pending(self) -> int:
        """Requests that wait for an instance."""
        return self._scheduler.pending()

    def submit(self, request: Request, deliver: Deliver) -> Call:
        """Ask; answers are delivered, perhaps before this returns.

        Raises InferenceError for a bad request, and then delivers nothing.
        """
        batch_size = self.contract.check(request)
        if self._reshape is not None:
            request = self._reshape.request(request)
            deliver = self._reshape.delivering(deliver)
        if self._order is not None:
            deliver = self._order.place(deliver)
        call = Call(request, partial(self._deliver, deliver), batch_size)
        self._open += 1
        try:
            self._submit(call)
        except Exception as error:  # a call that nobody has would be waited for at close
            log.exception("model '%s' could not take a request", self.name)
            text = f"{request.label}the request could not be taken: {error}"
            if not call.fail(InferenceError(Status.INTERNAL, text)):
                raise
        return call

    def infer(self, request: Request) -> Responses:
        """The same for those who await the answers."""
        responses = Responses()
        return responses.watch(self.submit(request, responses.deliver))

    def asked_by(self, call: Call) -> list[tuple[Request, Call | None]]:
        """Of an ensemble: what its steps ask for `call`, without a Call while that must wait."""
        scheduler = self._scheduler
        return scheduler.asked_by(call) if isinstance(scheduler, EnsembleScheduler) else []

    def dispatch(self) -> None:
        """An instance came back or broke: look at the queue again."""
        self._scheduler.dispatch()

    def _deliver(self, deliver: Deliver, call: Call, answer: Answer) -> None:
        if self._on_answer is not None:
            self._on_answer(call, answer)
        trace = call.request.trace
        if trace is not None and not isinstance(trace, str):
            trace.answered(call, self.name, self.version, answer)
        if isinstance(answer, InferenceError) or answer.final:
            self.stats.count(call, answer)
            if log.isEnabledFor(logging.DEBUG):
                _tell(call, answer, self)
            self._open -= 1
            if self._closing and not self._open:
                self._idle.set()
        deliver(call, answer)

    def hold(self) -> None:
        """An ensemble asks this model: it takes calls until `release`, even while it closes."""
        self._holders += 1
        self._unheld.clear()

    def release(self) -> None:
        self._holders -= 1
        if not self._holders:
            self._unheld.set()

    async def close(self, timeout: float | None) -> None:
        """Refuse new calls, wait up to `timeout` seconds for the open ones, leave."""
        if self._open:
            text = "Model '%s' (version %d) has %d in-flight inferences"
            log.info(text, self.name, self.version, self._open)
        try:
            await asyncio.wait_for(self._drain(), timeout)
        except TimeoutError:
            log.warning("model '%s' still has %d open requests: cut off", self.name, self._open)
        if self.caching is not None:
            self.caching.forget()
        for part in self._parts:
            part.release()
        await self._pool.close()

    async def _drain(self) -> None:
        await self._unheld.wait()
        if self.caching is not None:
            await self.caching.settle()
        self._closing = True
        self._scheduler.close()
        if self._open:
            await self._idle.wait()


def _tell(call: Call, answer: Answer, model: Model) -> None:
    """One line for a finished request, with its id."""
    said = answer.message if isinstance(answer, InferenceError) else "success"
    label = call.request.label.strip()
    total = (call.ended_ns - call.received_ns) / 1e6
    fields = {
        "request_id": call.request.id,
        "model": model.name,
        "version": model.version,
        "duration_ms": round(total, 3),
        "queue_ms": round(max(0, call.taken_ns - call.received_ns) / 1e6, 3),
        "infer_ms": round(call.infer_ns / 1e6, 3),
    }
    log.debug(
        "%s model '%s' version %d: %.3f ms (queue %.3f, infer %.3f): %s",
        *(label, model.name, model.version),
        *(total, fields["queue_ms"], fields["infer_ms"], said),
        extra={"fields": fields},
    )


def _first_response_ms(config: ModelConfig) -> tuple[float, ...]:
    """The bounds of the first-response histogram; a model's config may name its own."""
    family = "nv_inference_first_response_histogram_ms"
    for control in config.model_metrics.metric_control:
        if control.metric_identifier.family == family:
            return tuple(control.histogram_options.buckets)
        log.warning(
            "model '%s': Metric family '%s' in 'metric_identifier' is not a customizable metric in "
            "Triton core. There is one: %s",
            *(config.name, control.metric_identifier.family, family),
        )
    return FIRST_RESPONSE_MS


def _ensemble(config: ModelConfig, parts: Sequence[Model]) -> ModelConfig:
    """The completed config of an ensemble. Raises InferenceError where its parts do not fit."""
    completed = ModelConfig()
    completed.CopyFrom(config)
    decoupled = check_steps(config, [part.config for part in parts])
    completed.model_transaction_policy.decoupled = decoupled
    return completed


def _labels_of_parts(config: ModelConfig, parts: Sequence[Model]) -> dict[str, list[str]]:
    """The labels of an ensemble's outputs: of the step that writes each."""
    outputs = {item.name for item in config.output}
    return {
        tensor: part.labels[name]
        for step, part in zip(steps(config), parts, strict=True)
        for name, tensor in step.output_map.items()
        if tensor in outputs and name in part.labels
    }


def _labels(config: ModelConfig, folder: Path) -> dict[str, list[str]]:
    """The lines of each output's label file. Raises InferenceError when one cannot be read, or lies
    outside the model's folder."""
    labels = {}
    for output in config.output:
        if not output.label_filename:
            continue
        file = folder / output.label_filename
        if not file.resolve().is_relative_to(folder.resolve()):
            raise InferenceError(
                Status.UNSUPPORTED,
                f"label file path '{file}' for output '{output.name}' in model '{config.name}' is "
                "outside model directory",
            )
        try:
            labels[output.name] = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise invalid(f"label file of output '{output.name}': {error}") from None
    return labels


def not_ready(model: str, version: int) -> InferenceError:
    text = f"Request for unknown model: '{model}' version {version} is not at ready state"
    return InferenceError(Status.UNAVAILABLE, text)
