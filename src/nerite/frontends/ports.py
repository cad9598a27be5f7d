"""Ports as the settings want them: sockets, limits, TLS, and who is let in."""

from __future__ import annotations

import errno
import math
import os
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nerite.core.turn import Turn
from nerite.frontends.access import ApiKeys, grpc_access, http_access
from nerite.frontends.asgi import Asgi, Bridge
from nerite.frontends.complaints import is_openai, limit_body
from nerite.frontends.delay import GrpcDelay, delay
from nerite.frontends.guard import GrpcGuard, HttpGuard
from nerite.frontends.http1 import Handler, Head, Limits, Listener
from nerite.frontends.http2 import Gate, Terms
from nerite.frontends.images.store import Store
from nerite.frontends.intake import Forwarding, Intake
from nerite.frontends.jobs.place import Place
from nerite.server import Server
from nerite.settings import Settings

if TYPE_CHECKING:
    from nerite.frontends.jobs.store import JobStore

# What gRPC's C core makes of these levels for a client that accepts every algorithm.
_COMPRESSION = {"none": "", "low": "gzip", "medium": "deflate", "high": "deflate"}


def read_keys(settings: Settings) -> ApiKeys | None:
    """The API keys, if any are asked for. Raises ValueError."""
    return ApiKeys.read(settings.api_key_file) if settings.api_key_file else None


def bind(address: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket. `shared`: by servers that all say so.

    Raises OSError when the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    place = address, port
    try:
        return socket.create_server(place, family=family, backlog=2048, reuse_port=shared)
    except TypeError:  # of the codec of names that are not ASCII
        raise OSError(errno.EINVAL, f"'{address}' is no host name") from None


def not_bound(service: str, address: str, port: int, error: OSError) -> str:
    """What to tell of an address that `bind` refused: in Triton's words where the port is taken,
    which it uses for all else too."""
    start = f"failed to start {service} service: "
    if error.errno == errno.EADDRINUSE:
        return f"{start}Unavailable - Socket '{address}:{port}' already in use"
    reason = (error.strerror or str(error)).partition(" (while")[0]
    flag = f"--{service.lower()}"
    return (
        f"{start}cannot listen at '{address}:{port}': {reason}. {flag}-address (or --host) takes "
        f"an address of this machine, 0.0.0.0 for all, and {flag}-port a port that is allowed you"
    )


def http_listener(
    handler: Handler, settings: Settings, keys: ApiKeys | None, address: str, turn: Turn
) -> Listener:
    limits = Limits(
        send_seconds=settings.http_request_timeout, connections=settings.http_max_connections
    )
    guard = HttpGuard(http_access(settings, keys, address))

    def gate(head: Head) -> None:
        guard(head)
        if is_openai(head):
            limit_body(head, settings.http_max_input_size)

    return Listener(handler, limits, gate, turn)


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
    return _tls(settings.https_cert, settings.https_key, "http/1.1", "HTTPS")


@dataclass(frozen=True)
class GrpcPort:
    """How the gRPC port serves. gate: None lets all in. compression: of answers, "" for none.
    delay: of tests."""

    terms: Terms
    gate: Gate | None = None
    compression: str = ""
    delay: GrpcDelay | None = None
    forward: Forwarding = field(default_factory=Forwarding)


def grpc_port(settings: Settings, keys: ApiKeys | None) -> GrpcPort:
    access = grpc_access(settings, keys)
    return GrpcPort(
        _terms(settings),
        GrpcGuard(access) if access.keys is not None or access.restricted else None,
        _COMPRESSION[settings.grpc_infer_response_compression_level],
        delay(os.environ),
        Forwarding(settings.grpc_header_forward_pattern),
    )


def _terms(settings: Settings) -> Terms:
    return Terms(
        keepalive_time=settings.grpc_keepalive_time / 1000,
        keepalive_timeout=settings.grpc_keepalive_timeout / 1000,
        permit_without_calls=settings.grpc_keepalive_permit_without_calls,
        max_pings_without_data=settings.grpc_http2_max_pings_without_data,
        min_ping_interval=settings.grpc_http2_min_recv_ping_interval_without_data / 1000,
        max_ping_strikes=settings.grpc_http2_max_ping_strikes,
        max_age=settings.grpc_max_connection_age / 1000,
        max_age_grace=settings.grpc_max_connection_age_grace / 1000,
        handshake=min(Terms().handshake, settings.http_request_timeout or math.inf),
        connections=settings.grpc_max_connections,
        inflated=max(Terms().inflated, settings.http_max_input_size),
    )


def grpc_tls(settings: Settings) -> ssl.SSLContext | None:
    """For gRPC, if it is asked for. Raises ValueError."""
    if not (settings.grpc_use_ssl or settings.grpc_use_ssl_mutual):
        return None
    context = _tls(settings.grpc_server_cert, settings.grpc_server_key, "h2", "gRPC")
    if settings.grpc_use_ssl_mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(settings.grpc_root_cert)
        except OSError as error:
            text = f"cannot use {settings.grpc_root_cert} for gRPC: {error}"
            raise ValueError(text) from None
    return context


def _tls(certificate: str, key: str, protocol: str, name: str) -> ssl.SSLContext:
    """Raises ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"cannot use {certificate} and {key} for {name}: {error}") from None
    return context
