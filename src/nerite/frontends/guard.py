"""The guards of the doors: what is not let in is answered before a door hears of it."""

from __future__ import annotations

import re

from nerite.frontends.access import Access
from nerite.frontends.complaints import complaint
from nerite.frontends.http1 import Head, Reply
from nerite.frontends.http2 import GrpcCode, Refusal
from nerite.frontends.http2 import Head as RpcHead

_READS = ("GET", "HEAD", "OPTIONS")
_TOKENS = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]*")
_MODEL = {
    "": "metadata",
    "ready": "health",
    "config": "model-config",
    "stats": "statistics",
    "infer": "inference",
    "generate": "inference",
    "generate_stream": "inference",
    "trace": "trace",
}
_SERVER = {
    "": "metadata",
    "health": "health",
    "models": "statistics",
    "repository": "model-repository",
    "systemsharedmemory": "shared-memory",
    "cudasharedmemory": "shared-memory",
    "trace": "trace",
    "logging": "logging",
}
_RPCS = {
    "ServerLive": "health",
    "ServerReady": "health",
    "ModelReady": "health",
    "Check": "health",
    "Watch": "health",
    "ServerMetadata": "metadata",
    "ModelMetadata": "metadata",
    "ModelConfig": "model-config",
    "ModelStatistics": "statistics",
    "ModelInfer": "inference",
    "ModelStreamInfer": "inference",
    "RepositoryIndex": "model-repository",
    "RepositoryModelLoad": "model-repository",
    "RepositoryModelUnload": "model-repository",
    "TraceSetting": "trace",
    "LogSettings": "logging",
}


def category(path: str) -> str:
    """Triton's category of an HTTP path; "" for what has none."""
    match path.split("/")[1:]:
        case ["v2", "models", "stats"]:
            return "statistics"
        case ["v2", "models", _, "versions", _, *rest] | ["v2", "models", _, *rest]:
            return _MODEL.get(rest[0] if rest else "", "")
        case ["v2", *rest]:
            return _SERVER.get(rest[0] if rest else "", "")
        case ["v1", "models", *_]:
            return "metadata"
        case ["v1", "images", *rest] if rest[:1] != ["files"]:
            return "inference"
    return ""


def _is_open(path: str) -> bool:
    """Whether a path needs no key: the page that asks for it, and files whose names are secrets."""
    own = path in ("/", "/docs", "/openapi.json") or path.startswith(("/web/", "/v1/images/files/"))
    return own or category(path) == "health"


class HttpGuard:
    """Looks at each distinct head once, and sets its reply where it is not let in."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def __call__(self, head: Head) -> None:
        for check in (self._host, self._origin, self._key, self._restriction):
            head.reply = check(head)
            if head.reply is not None:
                return

    def _host(self, head: Head) -> Reply | None:
        """A page whose name was made to point here after it was loaded (DNS rebinding)."""
        for host in {head.host, head.headers.get("host", "")}:
            if not self._access.admits_host(host):
                text = (
                    f"this server does not answer to the name '{host}'; "
                    "--trusted-host NAME makes it do so"
                )
                return complaint(head, 421, text)
        return None

    def _origin(self, head: Head) -> Reply | None:
        """A page from elsewhere: it may look, where its browser lets it, but change nothing."""
        origin = head.headers.get("origin")
        if origin is None or _is_own(head, origin):
            return None
        if self._access.admits_origin(origin.lower()):
            shown = "*" if "*" in self._access.origins else origin
            head.extra = (
                f"Access-Control-Allow-Origin: {shown}\r\nVary: Origin\r\n"
                "Access-Control-Expose-Headers: Inference-Header-Content-Length, "
                "x-request-id, retry-after\r\n"
            ).encode("latin-1")
            return _preflight(head)
        if head.method in _READS and "access-control-request-method" not in head.headers:
            return None
        text = (
            f"pages of '{origin}' may not use this server; --cors-origin ORIGIN makes it let them"
        )
        return complaint(head, 403, text)

    def _key(self, head: Head) -> Reply | None:
        keys = self._access.keys
        if keys is None or _is_open(head.path):
            return None
        problem = keys.problem(head.headers)
        if problem is None:
            return None
        return complaint(head, 401, problem, b"WWW-Authenticate: Bearer\r\n")

    def _restriction(self, head: Head) -> Reply | None:
        header = self._access.restriction(category(head.path), head.headers)
        if header is None:
            return None
        return complaint(head, 403, f"This API is restricted, expecting header '{header}'")


def _is_own(head: Head, origin: str) -> bool:
    """Whether the page came from this server. A browser says so even behind a proxy that
    rewrites Host, and no page can make it say so."""
    if head.headers.get("sec-fetch-site") == "same-origin":
        return True
    return origin.partition("://")[2].lower() == head.headers.get("host", "").lower() != ""


def _preflight(head: Head) -> Reply | None:
    """The answer to a browser that asks before it sends (CORS), if that is what it does."""
    if head.method != "OPTIONS" or "access-control-request-method" not in head.headers:
        return None
    wanted = head.headers.get("access-control-request-headers", "")
    lines = b"Access-Control-Allow-Methods: GET, POST, DELETE\r\nAccess-Control-Max-Age: 600\r\n"
    if wanted and _TOKENS.fullmatch(wanted):
        lines += f"Access-Control-Allow-Headers: {wanted}\r\n".encode("ascii")
    if "access-control-request-private-network" in head.headers:
        lines += b"Access-Control-Allow-Private-Network: true\r\n"
    return Reply(200, lines)


class GrpcGuard:
    """Says of each distinct head why it is not let in, if it is not."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def __call__(self, head: RpcHead) -> Refusal | None:
        name = head.path.rpartition("/")[2]
        kind = _RPCS.get(name, "shared-memory" if "SharedMemory" in name else "")
        keys = self._access.keys
        problem = keys.problem(head.headers) if keys is not None and kind != "health" else None
        if problem is not None:
            return Refusal(GrpcCode.UNAUTHENTICATED, problem)
        header = self._access.restriction(kind, head.headers)
        if header is not None:
            text = f"This protocol is restricted, expecting header '{header}'"
            return Refusal(GrpcCode.UNAVAILABLE, text)
        return None
