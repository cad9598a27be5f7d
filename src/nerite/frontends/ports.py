"""Ports as the settings want them: sockets, limits, TLS, and who is let in."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from nerite.frontends.access import ApiKeys, grpc_access, http_access
from nerite.frontends.asgi import Asgi, Bridge
from nerite.frontends.complaints import is_openai, limit_body
from nerite.frontends.delay import delays
from nerite.frontends.guard import GrpcGuard, HttpGuard
from nerite.frontends.http1 import Handler, Head, Limits, Listener
from nerite.frontends.images.store import Store
from nerite.frontends.intake import Forwarding, Intake
from nerite.frontends.jobs.place import Place
from nerite.server import Server
from nerite.settings import Settings

if TYPE_CHECKING:
    from nerite.frontends.jobs.store import JobStore

_INT32_MAX = 2**31 - 1
# What gRPC's C core makes of these levels for a client that accepts every algorithm.
_COMPRESSION = {
    "none": grpc.Compression.NoCompression,
    "low": grpc.Compression.Gzip,
    "medium": grpc.Compression.Deflate,
    "high": grpc.Compression.Deflate,
}


def read_keys(settings: Settings) -> ApiKeys | None:
    """The API keys, if any are asked for. Raises ValueError and OSError."""
    return ApiKeys.read(settings.api_key_file) if settings.api_key_file else None


def bind(address: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; OSError when the port is taken. `shared`: by servers that all say so."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=2048, reuse_port=shared)


def http_listener(
    handler: Handler, settings: Settings, keys: ApiKeys | None, address: str
) -> Listener:
    limits = Limits(
        send_seconds=settings.http_request_timeout, connections=settings.http_max_connections
    )
    guard = HttpGuard(http_access(settings, keys, address))

    def gate(head: Head) -> None:
        guard(head)
        if is_openai(head):
            limit_body(head, settings.http_max_input_size)

    return Listener(handler, limits, gate)


def http_intake(settings: Settings) -> Intake:
    return Intake(settings.http_max_input_size, Forwarding(settings.http_header_forward_pattern))


def job_place(settings: Settings) -> Place:
    return Place(settings.jobs_path, settings.http_port, settings.max_jobs_size)


def images(server: Server, version: str, settings: Settings, jobs: JobStore | None) -> Bridge:
    """What answers /v1. Raises ValueError for a store that cannot be used.

    jobs: where they are kept, if that is open already.
    """
    lifetime, size = settings.image_store_lifetime, settings.image_store_size
    store = Store(settings.image_store, lifetime, size)
    if settings.image_store:
        store.open()

    def make() -> Asgi:
        from nerite.frontends.images.models import Names
        from nerite.frontends.images.service import Wishes
        from nerite.frontends.jobs.opening import JobWishes
        from nerite.frontends.jobs.runner import Limits as JobLimits
        from nerite.frontends.v1 import make as make_v1

        wishes = Wishes(
            Names(settings.image_model, dict(settings.image_model_alias)),
            settings.public_url,
            settings.image_response_format,
            settings.image_queue_size,
            Forwarding(settings.http_header_forward_pattern),
        )
        limits = JobLimits(settings.max_jobs, settings.job_images, settings.job_lifetime)
        owned = bool(settings.api_key_file)
        job_wishes = JobWishes(job_place(settings), limits, jobs, owned)
        return make_v1(server, version, wishes, store, job_wishes)

    return Bridge(make, scheme="https" if settings.https_cert else "http")


def page_address(settings: Settings, port: int) -> str:
    """Where a browser on this machine finds the web page."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}
    address = settings.http_address
    host = everywhere.get(address, f"[{address}]" if ":" in address else address)
    return f"{'https' if settings.https_cert else 'http'}://{host}:{port}"


def http_tls(settings: Settings) -> ssl.SSLContext | None:
    """For HTTPS, if it is asked for. Raises ValueError."""
    if not settings.https_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.https_cert, settings.https_key)
    except OSError as error:  # ssl.SSLError is one
        files = f"{settings.https_cert} and {settings.https_key}"
        raise ValueError(f"cannot use {files} for HTTPS: {error}") from None
    return context


@dataclass(frozen=True)
class GrpcPort:
    """Where and how the gRPC server listens; credentials: None without TLS."""

    address: str
    port: int
    options: Sequence[tuple[str, int]]
    credentials: Any = None
    compression: Any = None
    interceptors: Sequence[Any] = ()
    forward: Forwarding = field(default_factory=Forwarding)


def grpc_port(settings: Settings, keys: ApiKeys | None) -> GrpcPort:
    """Raises ValueError and OSError for files that cannot be used."""
    access = grpc_access(settings, keys)
    guards = [GrpcGuard(access)] if access.keys is not None or access.restricted else []
    return GrpcPort(
        settings.grpc_address,
        settings.grpc_port,
        _options(settings),
        _credentials(settings),
        _COMPRESSION[settings.grpc_infer_response_compression_level],
        [*guards, *delays(os.environ)],
        Forwarding(settings.grpc_header_forward_pattern),
    )


def _options(settings: Settings) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_send_message_length", _INT32_MAX),
        ("grpc.max_receive_message_length", _INT32_MAX),
        # Without it a port in use would be an error nobody hears of: a second listener.
        ("grpc.so_reuseport", int(settings.reuse_grpc_port)),
        ("grpc.keepalive_time_ms", settings.grpc_keepalive_time),
        ("grpc.keepalive_timeout_ms", settings.grpc_keepalive_timeout),
        ("grpc.keepalive_permit_without_calls", int(settings.grpc_keepalive_permit_without_calls)),
        ("grpc.http2.max_pings_without_data", settings.grpc_http2_max_pings_without_data),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            settings.grpc_http2_min_recv_ping_interval_without_data,
        ),
        ("grpc.http2.max_ping_strikes", settings.grpc_http2_max_ping_strikes),
    ]
    if settings.grpc_max_connection_age:
        options.append(("grpc.max_connection_age_ms", settings.grpc_max_connection_age))
    if settings.grpc_max_connection_age_grace:
        grace = settings.grpc_max_connection_age_grace
        options.append(("grpc.max_connection_age_grace_ms", grace))
    return options


def _credentials(settings: Settings) -> Any:
    if not (settings.grpc_use_ssl or settings.grpc_use_ssl_mutual):
        return None
    key = Path(settings.grpc_server_key).read_bytes()
    certificate = Path(settings.grpc_server_cert).read_bytes()
    mutual = settings.grpc_use_ssl_mutual
    root = Path(settings.grpc_root_cert).read_bytes() if mutual else None
    return grpc.ssl_server_credentials([(key, certificate)], root, mutual)
