"""Options: what an in-process server can be told, in Triton's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nerite.cache.base import Cache
from nerite.cache.config import open_cache
from nerite.core.stats import Recording
from nerite.instances.host_policy import Cores, cores_of
from nerite.instances.rate_limiter import RateLimiter
from nerite.placing import Placing
from nerite.repository.repository import Repository
from nerite.server import ControlMode, Policy
from nerite.sync import SyncServer
from nerite.telemetry import Log, LogSettings
from tritonserver._api._errors import InvalidArgumentError, raising
from tritonserver._api._kinds import InstanceGroupKind, LogFormat, ModelControlMode, RateLimitMode

_TYPES = {bool: "a bool", int: "an int", float: "a float", str: "a str"}


@dataclass(slots=True)
class RateLimiterResource:
    """How much there is of a resource; on one device, or of a global one."""

    name: str
    count: int
    device: int


@dataclass(slots=True)
class ModelLoadDeviceLimit:
    """Without effect here: a load is tried whatever a GPU has free."""

    kind: InstanceGroupKind
    device: int
    fraction: float


@dataclass(slots=True)
class Options:
    """Settings of a Server; model_repository must be given.

    In POLL mode the repository is looked at when `poll_model_repository` is called.
    metrics_interval: milliseconds. exit_timeout: seconds. docs/in-process.md names those that
    have no effect here.
    """

    model_repository: str | list[str] = field(default_factory=list)
    server_id: str = "triton"
    model_control_mode: ModelControlMode = ModelControlMode.NONE
    startup_models: list[str] = field(default_factory=list)
    strict_model_config: bool = False
    rate_limiter_mode: RateLimitMode = RateLimitMode.OFF
    rate_limiter_resources: list[RateLimiterResource] = field(default_factory=list)
    pinned_memory_pool_size: int = 1 << 28
    cuda_memory_pool_sizes: dict[int, int] = field(default_factory=dict)
    cache_config: dict[str, dict[str, Any]] = field(default_factory=dict)
    cache_directory: str = "/opt/tritonserver/caches"
    min_supported_compute_capability: float = 6.0
    exit_on_error: bool = True
    strict_readiness: bool = True
    exit_timeout: int = 30
    buffer_manager_thread_count: int = 0
    model_load_thread_count: int = 4
    model_load_retry_count: int = 0
    model_namespacing: bool = False
    enable_peer_access: bool = True
    log_file: str | None = None
    log_info: bool = False
    log_warn: bool = False
    log_error: bool = False
    log_format: LogFormat = LogFormat.DEFAULT
    log_verbose: int = 0
    metrics: bool = True
    gpu_metrics: bool = True
    cpu_metrics: bool = True
    metrics_interval: int = 2000
    backend_directory: str = "/opt/tritonserver/backends"
    repo_agent_directory: str = "/opt/tritonserver/repoagents"
    model_load_device_limits: list[ModelLoadDeviceLimit] = field(default_factory=list)
    backend_configuration: dict[str, dict[str, str]] = field(default_factory=dict)
    host_policies: dict[str, dict[str, str]] = field(default_factory=dict)
    metrics_configuration: dict[str, dict[str, str]] = field(default_factory=dict)

    def check(self) -> None:
        """Raises InvalidArgumentError without a repository, TypeError for values of wrong types."""
        if self.model_repository in (None, "", []):
            raise InvalidArgumentError("Model repository must be specified.")
        for option in fields(self):
            value = getattr(self, option.name)
            expected: tuple[type, ...] = (type(option.default),)
            if option.name == "model_repository":
                expected = (str, list)
            elif option.name == "log_file":
                expected = (str, type(None))
            elif callable(option.default_factory):
                expected = (type(option.default_factory()),)
            elif expected == (float,):
                expected = (float, int)
            if not isinstance(value, expected):
                wanted = " or ".join(_TYPES.get(one, one.__name__) for one in expected)
                raise TypeError(f"{option.name} must be {wanted}, not {value!r}")

    def server(self, log: Log | None) -> SyncServer:
        """The server that was asked for, not started. Raises Triton's exceptions."""
        paths = self.model_repository
        with raising():
            folders = [paths] if isinstance(paths, str) else paths
            repository = Repository(
                folders, written=self.strict_model_config, namespaced=self.model_namespacing
            )
        return SyncServer(
            repository, name=self.server_id, policy=self._policy(), log=log, cache=self._cache()
        )

    def _policy(self) -> Policy:
        latencies = self.metrics_settings()
        return Policy(
            mode=ControlMode[self.model_control_mode.name],
            startup=tuple(self.startup_models),
            poll_seconds=0,
            strict_readiness=self.strict_readiness,
            load_count=max(1, self.model_load_thread_count),
            retries=self.model_load_retry_count,
            recording=Recording(
                histograms=latencies.get("histogram_latencies") == "true",
                summaries=latencies.get("summary_latencies") == "true",
            ),
            placing=Placing(
                backend_directory=Path(self.backend_directory),
                limiter=self._limiter(),
                policies=self._cores(),
            ),
        )

    def _limiter(self) -> RateLimiter | None:
        if self.rate_limiter_mode is RateLimitMode.OFF:
            return None
        resources = self.rate_limiter_resources
        return RateLimiter([(one.name, one.count, one.device) for one in resources])

    def _cores(self) -> dict[str, Cores]:
        settings = [
            (policy, key, value)
            for policy, part in self.host_policies.items()
            for key, value in part.items()
        ]
        try:
            return cores_of(settings)
        except ValueError as error:
            raise InvalidArgumentError(f"host_policies: {error}") from None

    def metrics_settings(self) -> dict[str, str]:
        """metrics_configuration without the names of its parts, which nothing reads."""
        parts = self.metrics_configuration.values()
        return {key: str(value) for part in parts for key, value in part.items()}

    def _cache(self) -> Cache | None:
        try:
            return open_cache(_triples(self.cache_config))
        except (ValueError, ImportError) as error:
            raise InvalidArgumentError(f"cache_config: {error}") from None

    def open_log(self) -> Log | None:
        """The log that was asked for, at once in use; None leaves the host program's as it is.

        Raises InvalidArgumentError for a file that cannot be written.
        """
        info = self.log_info or self.log_verbose > 0
        warning = self.log_warn or info
        error = self.log_error or warning
        if not (error or self.log_file):
            return None
        settings = LogSettings(
            file=self.log_file or "",
            info=info,
            warning=warning,
            error=error,
            verbose=self.log_verbose,
            format="ISO8601" if self.log_format is LogFormat.ISO8601 else "default",
        )
        log = Log(settings)
        try:
            log.open("nerite")
        except OSError as failure:
            text = f"cannot write the log to '{self.log_file}': {failure.strerror}"
            raise InvalidArgumentError(text) from None
        return log


def _triples(parts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """As the flags that say the same are read: part, setting, value."""
    return [(name, key, str(value)) for name, part in parts.items() for key, value in part.items()]
