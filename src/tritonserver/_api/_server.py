"""Server: a nerite server in this process, under the names of Triton's Python API."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import nerite
from nerite.core.errors import InferenceError, Status
from nerite.frontends.machine import Machine
from nerite.frontends.metrics import Metrics, MetricsConfig
from nerite.frontends.v2_metadata import server_metadata
from nerite.repository.repository import Repository
from nerite.server import Server as Core
from nerite.sync import SyncServer
from nerite.telemetry import Log
from nerite.versions import ModelState
from tritonserver._api._errors import (
    InternalError,
    InvalidArgumentError,
    TritonError,
    UnavailableError,
    UnsupportedError,
    raising,
)
from tritonserver._api._kinds import MetricFormat, ModelControlMode
from tritonserver._api._metrics import own_metrics
from tritonserver._api._model import Model
from tritonserver._api._options import Options

T = TypeVar("T")


class ModelDictionary(dict[Any, Model]):
    """Models by (name, version), -1 for one without a loaded version; `models["name"]` works."""

    def __init__(self, server: Server, models: Iterable[Model]) -> None:
        super().__init__({(model.name, model.version): model for model in models})
        self._server = server

    def __missing__(self, key: Any) -> Model:
        if any(name == key for name, _ in self):
            return Model(self._server, key)
        raise KeyError(f"Unknown Model: {key}")


class Server:
    """The models of a repository, served to this process. All methods block and may be called
    from any thread; a server that is dropped without `stop` stops by itself."""

    def __init__(self, options: Options | None = None, **kwargs: Any) -> None:
        """options, or its fields as arguments."""
        self.options = options or Options(**kwargs)
        self._sync: SyncServer | None = None
        self._metrics: _Metrics | None = None
        self._stop: weakref.finalize[..., Server] | None = None

    def start(
        self,
        wait_until_ready: bool = False,
        polling_interval: float = 0.1,
        timeout: float | None = None,
    ) -> Server:
        """Load what start-up loads. timeout: seconds to wait until ready; None waits for ever.

        Raises InvalidArgumentError for bad options, InternalError when a model or the repository
        does not load and `exit_on_error` is set, UnavailableError when it is not ready in time.
        """
        if self._sync is not None:
            raise InvalidArgumentError("Server already started")
        options = self.options
        options.check()
        log = options.open_log()
        try:
            sync = options.server(log)
            sync.start()
        except (InferenceError, TritonError) as error:
            _close_log(log)
            if isinstance(error, InferenceError):
                raise InternalError(error.message) from None
            raise
        self._sync = sync
        self._stop = weakref.finalize(self, _stop, sync, log, options.exit_timeout)
        self._metrics = _Metrics(sync.server, options) if options.metrics else None
        self._check_loaded()
        self._wait_until_ready(wait_until_ready, polling_interval, timeout)
        return self

    def _check_loaded(self) -> None:
        failed = self.ask(lambda core: core.failed)
        if failed and self.options.exit_on_error:
            self.stop()
            reasons = "".join(f"\n  {state.name}: {state.reason}" for state in failed)
            raise InternalError(f"failed to load all models{reasons}")

    def _wait_until_ready(self, wait: bool, interval: float, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while wait and not self.ready():
            if deadline is not None and time.monotonic() >= deadline:
                raise UnavailableError("Timeout before ready")
            time.sleep(interval)

    def stop(self) -> None:
        """Let open requests finish for up to `exit_timeout` seconds, then end all."""
        self._running()
        assert self._stop is not None
        self._stop()
        self._sync = self._stop = self._metrics = None

    def _running(self) -> SyncServer:
        if self._sync is None:
            raise InvalidArgumentError("Server not started")
        return self._sync

    @property
    def core(self) -> Core:
        """The server itself, to be touched on its own loop. Raises InvalidArgumentError."""
        return self._running().server

    def ask(self, question: Callable[[Core], T]) -> T:
        """What `question` says on the server's loop. Raises Triton's exceptions."""
        sync = self._running()

        async def answer() -> T:
            return question(sync.server)

        with raising():
            return sync.run(answer())

    def on_loop(self, act: Callable[[], None]) -> None:
        """Call `act` on the server's loop, soon."""
        self._running().loop.call_soon_threadsafe(act)

    def register_model_repository(
        self, repository_path: str, name_mapping: dict[str, str] | None = None
    ) -> None:
        """Serve the models of one more folder, in EXPLICIT mode. name_mapping: the subfolder of a
        model that is to be served under another name."""
        with raising():
            self._controlled("registration").add(repository_path, name_mapping or {})

    def unregister_model_repository(self, repository_path: str) -> None:
        """Look for models there no more, in EXPLICIT mode; what is loaded stays loaded."""
        with raising():
            self._controlled("unregistration").remove(repository_path)

    def _controlled(self, what: str) -> Repository:
        if self.options.model_control_mode is not ModelControlMode.EXPLICIT:
            raise UnsupportedError(
                f"repository {what} is not allowed if model control mode is not EXPLICIT"
            )
        return self.core.repository

    def poll_model_repository(self) -> None:
        """Load what is new or has changed, unload what is gone; in POLL mode."""
        sync = self._running()
        with raising():
            sync.run(sync.server.poll())

    def metadata(self) -> dict[str, Any]:
        """Name, version and extensions."""
        return self.ask(lambda core: server_metadata(core, nerite.__version__))

    def live(self) -> bool:
        return self.core.live

    def ready(self) -> bool:
        return self.core.ready

    def model(self, model_name: str, model_version: int = -1) -> Model:
        """A model by name, whether there is one or not. model_version: -1 for the newest."""
        return Model(self, model_name, model_version)

    def models(self, exclude_not_ready: bool = False) -> ModelDictionary:
        """The repository's models, loaded or not."""
        with raising():
            states = self._running().index(ready=exclude_not_ready)
        return ModelDictionary(self, (self._listed(state) for state in states))

    def _listed(self, state: ModelState) -> Model:
        version = state.version or -1
        return Model(self, state.name, version, state.state or None, state.reason or None)

    def model_ready(self, name: str, version: str) -> bool:
        """Whether a model is ready; NotFoundError for one that the repository does not have."""
        try:
            return self._running().run(_model_ready(self.core, name, version))
        except InferenceError as error:
            if error.status is Status.NOT_FOUND and any(
                state.name == name for state in self._running().index()
            ):
                return False
            with raising():
                raise

    def load(
        self, model_name: str, parameters: dict[str, str | int | bool | bytes] | None = None
    ) -> Model:
        """Load a model and wait until it is, in EXPLICIT mode.

        parameters: "config", a configuration as JSON, and "file:<path>", the bytes of a file, in
        place of the repository's.
        """
        config, files = _overrides(parameters or {})
        with raising():
            self._running().load(model_name, config, files)
        return self.model(model_name)

    def unload(
        self,
        model: str | Model,
        unload_dependents: bool = False,
        wait_until_unloaded: bool = False,
        polling_interval: float = 0.1,
        timeout: float | None = None,
    ) -> None:
        """Unload a model, in EXPLICIT mode; it finishes the requests it has.

        unload_dependents: also what was loaded only for it. timeout: seconds to wait until it is
        gone; None waits for ever.
        """
        name = model if isinstance(model, str) else model.name
        with raising():
            self._running().unload(name, dependents=unload_dependents)
        deadline = None if timeout is None else time.monotonic() + timeout
        while wait_until_unloaded and not self._is_unloaded(name):
            if deadline is not None and time.monotonic() >= deadline:
                return
            time.sleep(polling_interval)

    def _is_unloaded(self, name: str) -> bool:
        states = self.ask(lambda core: core.states())
        return all(state.state == "UNAVAILABLE" for state in states if state.name == name)

    def metrics(self, metric_format: MetricFormat = MetricFormat.PROMETHEUS) -> str:
        """The server's metrics, and those of the program's own. Raises UnsupportedError where
        the option `metrics` is off."""
        self._running()
        if self._metrics is None:
            raise UnsupportedError("metrics not supported: the option 'metrics' is off")
        self._metrics.measure()
        return self.ask(self._metrics.text) + own_metrics()


async def _model_ready(core: Core, name: str, version: str) -> bool:
    return await core.check_ready(name, version)


class _Metrics:
    """The server's metrics with those of the machine, which are measured in the asker's thread."""

    def __init__(self, core: Core, options: Options) -> None:
        self._lock = threading.Lock()
        self._machine = Machine(
            cpu=options.cpu_metrics,
            gpu=options.gpu_metrics,
            interval_seconds=options.metrics_interval / 1000,
        )
        config = MetricsConfig.of(options.metrics_settings().items())
        self._metrics = Metrics(core, config, self._machine)

    def measure(self) -> None:
        with self._lock:
            if self._machine.stale:
                self._machine.measure()

    def text(self, _: Core) -> str:
        return self._metrics.text()


def _overrides(
    parameters: dict[str, str | int | bool | bytes],
) -> tuple[str | None, dict[str, bytes]]:
    config: str | None = None
    files: dict[str, bytes] = {}
    for key, value in parameters.items():
        if key == "config" and isinstance(value, str):
            config = value
        elif key.startswith("file:") and isinstance(value, (bytes, str)):
            files[key.removeprefix("file:")] = value.encode() if isinstance(value, str) else value
        else:
            raise InvalidArgumentError(
                f"load parameter '{key}' is not supported: there are 'config', a str, and "
                "'file:<path>', bytes"
            )
    return config, files


def _stop(sync: SyncServer, log: Log | None, timeout: float) -> None:
    sync.close(timeout)
    _close_log(log)


def _close_log(log: Log | None) -> None:
    if log is not None:
        log.close()
