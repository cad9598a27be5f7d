"""`nerite serve`: a Server with its listeners and signals, from start-up to a drained exit."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import nerite
from nerite import overview, painter, settings, telemetry
from nerite.cache.base import Cache
from nerite.cache.config import open_cache
from nerite.core.errors import InferenceError
from nerite.core.stats import Recording
from nerite.core.turn import Turn
from nerite.frontends import http2, ports
from nerite.frontends.app import App
from nerite.frontends.asgi import Bridge
from nerite.frontends.http1 import Handler
from nerite.frontends.jobs.place import DatabaseError
from nerite.frontends.machine import Machine
from nerite.frontends.metrics import Metrics, MetricsConfig
from nerite.frontends.regions import Regions
from nerite.frontends.v2_grpc import grpc_listener
from nerite.instances.host_policy import Cores, cores_of
from nerite.instances.rate_limiter import RateLimiter
from nerite.placing import Placing
from nerite.repository.repository import Repository
from nerite.server import ControlMode, Policy, Server
from nerite.settings import Settings
from nerite.tracing.settings import from_config
from nerite.tracing.spans import Spans
from nerite.tracing.tracer import Tracer

if TYPE_CHECKING:
    from nerite.frontends.jobs.store import JobStore

log = logging.getLogger("nerite.launch")
T = TypeVar("T")


class StartError(Exception):
    """The server cannot start; the message is the whole explanation."""


# What the scripts and containers that say `tritonserver` count on.
_TRITON = {"host": "0.0.0.0"}


def main(argv: Sequence[str], program: str = "nerite serve") -> int:
    """Serve until a signal; the exit status: 0 after a drained stop, 1 when it cannot start."""
    ours = program == "nerite serve"
    options = settings.parse(argv, program=program, defaults=None if ours else _TRITON)
    try:
        process_log = _open_log(options)
        for notice in options.notices:
            log.warning(notice)
        if not (ours or options.model_repository or options.model):
            text = "creating server: Invalid argument - --model-repository must be specified"
            raise StartError(text)
        _allow_files()
        with contextlib.ExitStack() as stack:
            if options.model:
                options.model_repository.append(_one_model(options.model, stack))
            _run(Launch(options, process_log))
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _one_model(source: str, stack: contextlib.ExitStack) -> str:
    """The repository made for a model without one. Raises StartError."""
    from nerite.one_model import open_one  # the engine's library comes with it
    from nerite.sources.weights import SourceError

    try:
        return str(stack.enter_context(open_one(source)))
    except SourceError as error:
        raise StartError(str(error)) from None


def _run(launch: Launch) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(launch.serve())
    else:
        uvloop.run(launch.serve())


class Launch:
    """One server process: what it listens on, and when it stops."""

    def __init__(self, options: Settings, process_log: telemetry.Log) -> None:
        self._options = options
        self._log = process_log
        self._stop = asyncio.Event()
        self._services: list[str] = []
        self._regions = Regions(allowed=options.allow_client_shm)
        self._keys = _read(lambda: ports.read_keys(options))
        self._images: Bridge | None = None
        self._page = ""
        self._grpc: http2.Listener | None = None

    async def serve(self) -> None:
        """Start, serve, drain. Raises StartError."""
        options = self._options
        paths: list[str | Path] = [*options.model_repository] or [painter.REPOSITORY]
        server = Server(
            Repository(
                paths,
                options.model_config_name,
                written=options.disable_auto_complete_config,
                namespaced=options.model_namespacing,
            ),
            name=options.id,
            policy=_policy(options),
            tracer=_tracer(options),
            log=self._log,
            cache=_cache(options),
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        async with contextlib.AsyncExitStack() as stack:
            await self._listen(server, stack)
            _spare_collector()
            try:
                await self._load(server)
                for line in self._services:
                    log.info(line)
                self._say_how_to_open()
                if self._images is not None:
                    self._images.open()
                await self._stop.wait()
                log.info("Waiting for in-flight requests to complete.")
            finally:
                if self._images is not None:
                    await self._images.close()
                await self._drain(server)
        await asyncio.to_thread(server.tracer.close)

    async def _drain(self, server: Server) -> None:
        """Let what is open end. gRPC is closed to what comes meanwhile, as Triton's is: clients
        turn to another server."""
        seconds = self._options.exit_timeout_secs
        if self._grpc is None:
            await server.close(seconds)
            return
        if open_ones := len(self._grpc.connections):
            text = "Timeout %d: Found %d gRPC service connections and inference handlers"
            log.info(text, seconds, open_ones)
        closing = asyncio.ensure_future(self._grpc.close(seconds))
        await server.close(seconds)
        await self._grpc.close(1.0)  # streams may be open in which nothing is asked
        await closing

    async def _load(self, server: Server) -> None:
        """Load the models; a signal in the meantime ends the wait."""
        loading = asyncio.ensure_future(server.start())
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading
            return
        try:
            loading.result()
        except InferenceError as error:
            if self._options.exit_on_error:
                raise StartError(error.message) from None
            log.error("failed to initialize: %s", error.message)
            return
        for table in overview.tables(server, self._options):
            log.info("", extra={"table": table})
        if server.failed and self._options.exit_on_error:
            reasons = "".join(f"\n  {state.name}: {state.reason}" for state in server.failed)
            text = f"creating server: Internal - failed to load all models{reasons}"
            raise StartError(text)

    async def _listen(self, server: Server, stack: contextlib.AsyncExitStack) -> None:
        """Open the ports first: one that is taken is told before models load, and probes are
        answered (live, not ready) while they do."""
        options = self._options
        if options.allow_grpc:
            self._grpc = await self._open_grpc(server)
            stack.push_async_callback(self._grpc.close, 1.0)
        metrics = _metrics(server, options) if options.allow_metrics else None
        if options.allow_http:
            intake = ports.http_intake(options)
            jobs = await self._open_jobs(stack)
            version = nerite.__version__
            images = self._images = _read(lambda: ports.images(server, version, options, jobs))
            app = App(server, nerite.__version__, self._regions, metrics, intake, images)
            place = options.http_address, options.http_port
            port = await self._http(app, "HTTPService", place, server.turn, stack)
            self._page = ports.page_address(options, port)
        if metrics is not None:
            place = options.metrics_address, options.metrics_port
            await self._http(metrics, "Metrics Service", place, server.turn, stack)

    async def _open_jobs(self, stack: contextlib.AsyncExitStack) -> JobStore | None:
        """What keeps jobs, where that is known by now to be needed."""
        place = ports.job_place(self._options)
        if not place.wanted:
            return None
        try:
            store = await place.open()
        except DatabaseError as error:
            raise StartError(f"--jobs-path: {error}") from None
        stack.push_async_callback(store.close)
        return store

    async def _open_grpc(self, server: Server) -> http2.Listener:
        options = self._options
        address, port = options.grpc_address, options.grpc_port
        tls = _read(lambda: ports.grpc_tls(options))
        wanted = _read(lambda: ports.grpc_port(options, self._keys))
        try:
            sock = ports.bind(address, port, shared=options.reuse_grpc_port)
        except OSError as error:
            raise StartError(ports.not_bound("GRPC", address, port, error)) from None
        listener = grpc_listener(server, nerite.__version__, self._regions, wanted)
        port = sock.getsockname()[1]
        await listener.start(sock, tls)
        self._services.append(f"Started GRPCInferenceService at {address}:{port}")
        return listener

    async def _http(
        self,
        handler: Handler,
        name: str,
        place: tuple[str, int],
        turn: Turn,
        stack: contextlib.AsyncExitStack,
    ) -> int:
        """Listen; the port, which the system has chosen where it was 0."""
        options = self._options
        address, wanted = place
        tls = _read(lambda: ports.http_tls(options))
        try:
            sock = ports.bind(address, wanted, shared=options.reuse_http_port)
        except OSError as error:
            service = name.removesuffix("Service").strip()
            raise StartError(ports.not_bound(service, address, wanted, error)) from None
        listener = ports.http_listener(handler, options, self._keys, address, turn)
        port: int = sock.getsockname()[1]
        await listener.start(sock, tls)
        self._services.append(f"Started {name} at {address}:{port}")
        stack.push_async_callback(listener.close, 1.0)
        return port

    def _say_how_to_open(self) -> None:
        if self._page:
            log.info("Open %s in a browser to paint", self._page)
        if self._options.http_address in ("127.0.0.1", "::1", "localhost"):
            log.info("Only this machine can connect; --host 0.0.0.0 opens the server to others")


def _open_log(options: Settings) -> telemetry.Log:
    wanted = telemetry.LogSettings(
        file=options.log_file,
        info=options.log_info,
        warning=options.log_warning,
        error=options.log_error,
        verbose=options.log_verbose,
        format=options.log_format,
    )
    try:
        return telemetry.configure(wanted)
    except OSError as error:
        text = f"cannot write the log to '{options.log_file}': {error.strerror}"
        raise StartError(text) from None


def _tracer(options: Settings) -> Tracer:
    try:
        wanted = from_config(options.trace_config)
        if wanted.mode != "opentelemetry":
            return Tracer(wanted)
        return Tracer(wanted, Spans(wanted))
    except (ImportError, ValueError) as error:
        raise StartError(f"--trace-config: {error}") from None


def _cache(options: Settings) -> Cache | None:
    try:
        return open_cache(options.cache_config)
    except (ImportError, ValueError) as error:
        raise StartError(f"creating server: Invalid argument - --cache-config: {error}") from None


def _metrics(server: Server, options: Settings) -> Metrics:
    machine = Machine(
        cpu=options.allow_cpu_metrics,
        gpu=options.allow_gpu_metrics,
        interval_seconds=options.metrics_interval_ms / 1000,
    )
    return Metrics(server, MetricsConfig.of(options.metrics_config), machine)


def _recording(options: Settings) -> Recording:
    """What the statistics must keep for the metrics that are asked for."""
    wanted = dict(options.metrics_config)
    return Recording(
        histograms=wanted.get("histogram_latencies") == "true",
        summaries=wanted.get("summary_latencies") == "true",
    )


def _spare_collector() -> None:
    """Keep the garbage collector from what never becomes garbage: modules, and requests underway.

    A request leaves nothing that refers to itself, but a few dozen at a time are more than the
    collector's usual threshold, and every so often it went through all modules for them: a quarter
    of the time under load, and pauses of 40 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _allow_files() -> None:
    """As many open files as the system lets this process have: a connection is one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _read(files: Callable[[], T]) -> T:
    """What was made of files that the user named. Raises StartError."""
    try:
        return files()
    except (OSError, ValueError) as error:
        raise StartError(str(error)) from None


def _policy(options: Settings) -> Policy:
    return Policy(
        mode=ControlMode(options.model_control_mode),
        startup=tuple(options.load_model),
        poll_seconds=options.repository_poll_secs,
        retries=options.model_load_retry_count,
        code_overrides=options.allow_model_overrides or bool(options.api_key_file),
        strict_readiness=options.strict_readiness,
        placing=_placing(options),
        load_count=options.model_load_thread_count,
        recording=_recording(options),
    )


def _placing(options: Settings) -> Placing:
    limited = options.rate_limit != "off"
    settings: dict[str, dict[str, str]] = {}
    for backend, name, value in options.backend_config:
        settings.setdefault(backend, {})[name] = value
    return Placing(
        strict_gpu=options.strict_gpu,
        backend_directory=Path(options.backend_directory),
        worker_timeout=options.worker_timeout,
        limiter=RateLimiter(options.rate_limit_resource) if limited else None,
        policies=_cores(options),
        settings=settings,
        complete=not options.disable_auto_complete_config,
    )


def _cores(options: Settings) -> dict[str, Cores]:
    try:
        return cores_of(options.host_policy)
    except ValueError as error:
        raise StartError(f"--host-policy: {error}") from None
