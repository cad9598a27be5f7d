"""Every setting that has, or is going to have, an effect, with its default and its sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from nerite.settings import kinds
from nerite.settings.kinds import Kind

LOCAL = "127.0.0.1"
# The heading that begins with this setting.
_GROUPS = {
    "id": "Server",
    "log_verbose": "Logging",
    "model_repository": "Model repository",
    "allow_http": "HTTP",
    "image_model": "Images",
    "allow_grpc": "gRPC",
    "api_key_file": "Security",
    "jobs_path": "Image jobs",
    "allow_metrics": "Metrics",
    "trace_config": "Tracing",
    "backend_directory": "Backends",
    "cache_config": "Response cache",
    "rate_limit": "Rate limiter",
    "allow_client_shm": "Shared memory",
}


@dataclass(frozen=True, eq=False)
class Option:
    """One setting, as the parser and the documentation know it.

    ours: Triton has none of this name. pending: accepted, but nothing reads it yet.
    """

    name: str
    kind: Kind
    default: Any
    text: str
    group: str = ""
    aliases: tuple[str, ...] = ()
    repeat: bool = False
    ours: bool = False
    pending: bool = False

    @property
    def flag(self) -> str:
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return f"NERITE_{self.name.upper()}"


def _option(default: Any, kind: Kind, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "text": text, **more})


def _options(kind: Kind, text: str, aliases: Sequence[str] = (), **more: Any) -> Any:
    """A setting that may be given several times."""
    metadata = {"kind": kind, "text": text, "aliases": tuple(aliases), "repeat": True, **more}
    return field(default_factory=list, metadata=metadata)


@dataclass
class Settings:
    """Triton's names and defaults, but for the address: a laptop's server is its user's alone.

    notices: what the user should be told of the values given, one sentence each.
    """

    id: str = _option("triton", kinds.TEXT, "the server's name in its metadata")
    host: str = _option(
        LOCAL,
        kinds.TEXT,
        "address of all three services; 0.0.0.0 opens them to other machines",
        ours=True,
    )
    exit_timeout_secs: int = _option(
        30, kinds.NUMBER, "seconds for open requests to finish at exit"
    )

    log_verbose: int = _option(0, kinds.VERBOSITY, "0, or from 1 on the level of verbose messages")
    log_info: bool = _option(True, kinds.BOOLEAN, "log information")
    log_warning: bool = _option(True, kinds.BOOLEAN, "log warnings")
    log_error: bool = _option(True, kinds.BOOLEAN, "log errors")
    log_format: str = _option(
        "default",
        kinds.choice("default", "ISO8601", "json"),
        "`default` and `ISO8601` are Triton's lines; `json` is one object per line",
    )
    log_file: str = _option("", kinds.PATH, "append the log to this file instead of the console")

    model_repository: list[str] = _options(
        kinds.FOLDER,
        "folder of models. Without it the embedded painter is served",
        aliases=["model-store"],
    )
    model: str = _option(
        "",
        kinds.TEXT,
        "serve this one diffusion model: a folder of diffusers, a .safetensors checkpoint, or the "
        "OWNER/NAME of a hub, which is downloaded once",
        ours=True,
    )
    exit_on_error: bool = _option(True, kinds.BOOLEAN, "leave when a model does not load at start")
    disable_auto_complete_config: bool = _option(
        False,
        kinds.BOOLEAN,
        "complete no configurations: each must have a full config.pbtxt",
    )
    strict_readiness: bool = _option(True, kinds.BOOLEAN, "be ready only while every model is")
    strict_gpu: bool = _option(
        False, kinds.BOOLEAN, "refuse models for GPUs that this machine lacks", ours=True
    )
    model_control_mode: str = _option(
        "none",
        kinds.choice("none", "poll", "explicit"),
        "`none` loads all models at start, `poll` also follows changes, `explicit` loads what "
        "--load-model and clients name",
    )
    repository_poll_secs: int = _option(
        15, kinds.NUMBER, "seconds between two looks for changes, with --model-control-mode=poll"
    )
    load_model: list[str] = _options(
        kinds.TEXT, "load this model at start, with --model-control-mode=explicit; `*` means all"
    )
    model_config_name: str = _option(
        "", kinds.TEXT, "use configs/<name>.pbtxt of a model instead of config.pbtxt"
    )
    model_namespacing: bool = _option(
        False, kinds.BOOLEAN, "models of several repositories may have the same name"
    )
    model_load_thread_count: int = _option(4, kinds.NUMBER, "models that load at once")
    model_load_retry_count: int = _option(
        0, kinds.COUNT, "further attempts for a model that does not load"
    )
    allow_model_overrides: bool = _option(
        False,
        kinds.BOOLEAN,
        "let clients send a model's files with a load request, which runs their code here",
        ours=True,
    )
    worker_timeout: float = _option(
        0.0,
        kinds.SECONDS,
        "restart a model's process that works longer than this on a request; 0 waits for ever",
        ours=True,
    )

    allow_http: bool = _option(True, kinds.BOOLEAN, "serve HTTP")
    http_address: str = _option("", kinds.TEXT, "address of the HTTP service (--host)")
    http_port: int = _option(8000, kinds.PORT, "port of the HTTP service; 0 takes a free one")
    reuse_http_port: bool = _option(
        False, kinds.BOOLEAN, "share the port with other servers that say so too"
    )
    http_header_forward_pattern: str = _option(
        "", kinds.PATTERN, "headers whose names match become parameters of the request"
    )
    http_max_input_size: int = _option(
        1 << 26,
        kinds.positive("bytes", "http-max-input-size"),
        "limit of a request's JSON, of a raw request and of a decompressed one, of gRPC's too "
        "if it is more than 64 MiB",
    )
    http_restricted_api: list[tuple[tuple[str, ...], str, str]] = _options(
        kinds.restriction("http-restricted-api", "api"),
        f"ask for a header on these APIs: {', '.join(kinds.CATEGORIES)}",
    )
    http_max_connections: int = _option(
        4096, kinds.COUNT, "clients at once on each HTTP port; 0 is no limit", ours=True
    )
    http_request_timeout: float = _option(
        300.0,
        kinds.SECONDS,
        "seconds a client may take to send a request, or gRPC's first bytes; 0 is no limit",
        ours=True,
    )
    https_cert: str = _option(
        "", kinds.PATH, "PEM file of the certificate that makes HTTP, metrics too, HTTPS", ours=True
    )
    https_key: str = _option("", kinds.PATH, "PEM file of its key", ours=True)

    image_model: str = _option(
        "",
        kinds.TEXT,
        "the model of requests to /v1/images that name none, or one of OpenAI's; else the first "
        "that paints",
        ours=True,
    )
    image_model_alias: list[tuple[str, str]] = _options(
        kinds.pair("<name>=<model>", "=", kinds.WORD, kinds.WORD),
        "another name for a model in /v1/images; `*` stands for every name that is unknown",
        ours=True,
    )
    image_response_format: str = _option(
        "auto",
        kinds.choice("auto", "b64_json", "url"),
        "how pictures are answered where a request does not say: `auto` is `url` for dall-e-2 and "
        "dall-e-3, else `b64_json`",
        ours=True,
    )
    image_queue_size: int = _option(
        256,
        kinds.COUNT,
        "pictures of /v1/images that may wait or be painted at once; 0 is no limit",
        ours=True,
    )
    image_store: str = _option(
        "",
        kinds.PATH,
        "folder, or URL of a store that fsspec knows, of the pictures that are answered as URLs; "
        "by default a folder that goes with the server",
        ours=True,
    )
    image_store_lifetime: float = _option(
        3600.0, kinds.SECONDS, "seconds for which such a picture can be fetched", ours=True
    )
    image_store_size: int = _option(
        1 << 30,
        kinds.positive("bytes", "image-store-size"),
        "size of all such pictures; the oldest make room for new ones",
        ours=True,
    )
    public_url: str = _option(
        "",
        kinds.URL,
        "how clients reach this server, for the URLs of pictures (the request's Host)",
        ours=True,
    )

    allow_grpc: bool = _option(True, kinds.BOOLEAN, "serve gRPC")
    grpc_address: str = _option("", kinds.TEXT, "address of the gRPC service (--host)")
    grpc_port: int = _option(8001, kinds.PORT, "port of the gRPC service; 0 takes a free one")
    reuse_grpc_port: bool = _option(
        False, kinds.BOOLEAN, "share the port with other servers that say so too"
    )
    grpc_max_connections: int = _option(
        4096, kinds.COUNT, "clients at once on the gRPC port; 0 is no limit", ours=True
    )
    grpc_header_forward_pattern: str = _option(
        "", kinds.PATTERN, "metadata whose names match become parameters of the request"
    )
    grpc_use_ssl: bool = _option(False, kinds.BOOLEAN, "serve gRPC over TLS")
    grpc_use_ssl_mutual: bool = _option(
        False, kinds.BOOLEAN, "ask clients for certificates too, signed by --grpc-root-cert"
    )
    grpc_server_cert: str = _option("", kinds.PATH, "PEM file of the server's certificate")
    grpc_server_key: str = _option("", kinds.PATH, "PEM file of its key")
    grpc_root_cert: str = _option("", kinds.PATH, "PEM file of the authority that signs clients")
    grpc_infer_response_compression_level: str = _option(
        "none", kinds.choice("none", "low", "medium", "high"), "compression of inference answers"
    )
    grpc_keepalive_time: int = _option(
        7_200_000, kinds.NUMBER, "milliseconds of silence after which a ping is sent"
    )
    grpc_keepalive_timeout: int = _option(
        20_000, kinds.NUMBER, "milliseconds to wait for the answer to a ping"
    )
    grpc_keepalive_permit_without_calls: bool = _option(
        False, kinds.BOOLEAN, "send pings also where no call is open"
    )
    grpc_http2_max_pings_without_data: int = _option(
        2, kinds.NUMBER, "pings in a row without data; 0 is no limit"
    )
    grpc_http2_min_recv_ping_interval_without_data: int = _option(
        300_000, kinds.NUMBER, "milliseconds between two pings below which one is a bad ping"
    )
    grpc_http2_max_ping_strikes: int = _option(
        2, kinds.NUMBER, "bad pings before the connection is closed; 0 is no limit"
    )
    grpc_max_connection_age: int = _option(
        0, kinds.COUNT, "milliseconds a connection may last; 0 is no limit"
    )
    grpc_max_connection_age_grace: int = _option(
        0, kinds.COUNT, "milliseconds for its open calls after that; 0 is no limit"
    )
    grpc_restricted_protocol: list[tuple[tuple[str, ...], str, str]] = _options(
        kinds.restriction("grpc-restricted-protocol", "protocol"),
        "ask for the metadata triton-grpc-protocol-<key> on these protocols: "
        f"{', '.join(kinds.CATEGORIES)}",
    )

    api_key_file: str = _option(
        "", kinds.PATH, "file of keys, one per line; all but health asks for one", ours=True
    )
    cors_origin: list[str] = _options(
        kinds.TEXT, "web pages of this origin may use the server; `*` means all", ours=True
    )
    trusted_host: list[str] = _options(
        kinds.TEXT, "a name under which clients may address the server; `*` means all", ours=True
    )

    jobs_path: str = _option(
        "",
        kinds.PATH,
        "SQLite file that keeps jobs over a restart; `:memory:` keeps them no longer than the "
        "server. By default nerite/jobs-PORT.db in the user's folder for state",
        ours=True,
    )
    job_lifetime: float = _option(
        86400.0, kinds.SECONDS, "seconds for which a job that has ended can be fetched", ours=True
    )
    max_jobs: int = _option(
        1000, kinds.COUNT, "jobs that wait or run; further ones are refused with 429", ours=True
    )
    max_jobs_size: int = _option(
        1 << 32,
        kinds.positive("bytes", "max-jobs-size"),
        "size that the file of jobs may have; further jobs are refused with 429",
        ours=True,
    )
    job_images: int = _option(
        8,
        kinds.positive("number", "job-images"),
        "images of jobs that one model paints at a time, so that other requests find room",
        ours=True,
    )

    allow_metrics: bool = _option(True, kinds.BOOLEAN, "serve Prometheus metrics")
    allow_gpu_metrics: bool = _option(True, kinds.BOOLEAN, "with those of the GPUs")
    allow_cpu_metrics: bool = _option(True, kinds.BOOLEAN, "with those of the CPU and its memory")
    metrics_address: str = _option("", kinds.TEXT, "address of the metrics service (the HTTP one)")
    metrics_port: int = _option(8002, kinds.PORT, "port of the metrics service; 0 takes a free one")
    metrics_interval_ms: int = _option(
        2000, kinds.COUNT, "milliseconds between two measurements of the machine"
    )
    metrics_config: list[tuple[str, str]] = _options(
        kinds.METRIC, "counter_latencies, histogram_latencies, summary_latencies, summary_quantiles"
    )

    trace_config: list[tuple[str, str, str]] = _options(
        kinds.keyed("[<mode>,]<setting>=<value>", "trace-config", named=False),
        "level, rate, count, mode; triton,file; triton,log-frequency; opentelemetry,url; ...",
    )

    backend_directory: str = _option(
        "/opt/tritonserver/backends", kinds.PATH, "folder of backends in Python"
    )
    backend_config: list[tuple[str, str, str]] = _options(
        kinds.keyed("[<backend>,]<setting>=<value>", "backend-config", named=False),
        "a setting of a backend, or without its name of all",
    )

    host_policy: list[tuple[str, str, str]] = _options(
        kinds.keyed("<policy>,<setting>=<value>", "host-policy", named=True),
        "`cpu-cores=0-3` or `numa-node=0`: where the processes of instances with this policy run; "
        "`cpu` and `gpu_0`, `gpu_1`... are the policies of those that name none",
    )

    cache_config: list[tuple[str, str, str]] = _options(
        kinds.keyed("<cache>,<setting>=<value>", "cache-config", named=True),
        "a setting of the response cache, as local,size=1048576 or redis,host=localhost",
    )

    rate_limit: str = _option(
        "off", kinds.choice("off", "execution_count"), "share resources by priority"
    )
    rate_limit_resource: list[tuple[str, int, int]] = _options(
        kinds.RESOURCE, "how many of a resource there are"
    )

    allow_client_shm: bool = _option(
        False, kinds.BOOLEAN, "let clients register shared memory and use it for tensors"
    )

    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.http_address = self.http_address or self.host
        self.grpc_address = self.grpc_address or self.host
        self.metrics_address = self.metrics_address or self.http_address


def _listed() -> list[Option]:
    group, listed = "", []
    for item in fields(Settings):
        group = _GROUPS.get(item.name, group)
        if item.metadata:
            default = [] if "repeat" in item.metadata else item.default
            listed.append(Option(item.name, default=default, group=group, **item.metadata))
    return listed


OPTIONS = _listed()
