"""Who may ask what, whatever the protocol: keys, restricted categories, names and pages."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nerite.settings import Settings

PREFIX = "triton-grpc-protocol-"
NO_KEY = "this server asks for an API key: send 'Authorization: Bearer KEY' or 'x-api-key: KEY'"
WRONG_KEY = "the API key is not one of this server's"


class ApiKeys:
    """The keys of a file. Only their digests are kept, and all are compared with each request,
    so that time tells nothing of them."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._digests = [hashlib.sha256(key).digest() for key in keys]

    @classmethod
    def read(cls, path: str) -> ApiKeys:
        """One in each line of a file of UTF-8 text. Raises ValueError."""
        file = f"--api-key-file {path}"
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            text = f"{file} is not UTF-8 text: {error.reason} at byte {error.start}"
            raise ValueError(text) from None
        lines = [line.strip(" \t") for line in text.split("\n")]
        for number, line in enumerate(lines, 1):
            if re.search(r"[\x00-\x1f\x7f]", line):
                raise ValueError(f"{file} has a control character in line {number}")
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise ValueError(f"{file} holds no key; it has one in each line")
        return cls(key.encode() for key in keys)

    def problem(self, headers: Mapping[str, str]) -> str | None:
        """Why a request is not let in: None when it brings a key."""
        key = key_of(headers)
        if not key:
            return NO_KEY
        digest = hashlib.sha256(key).digest()
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        return None if any(found) else WRONG_KEY


def key_of(headers: Mapping[str, str]) -> bytes:
    """The API key that a request brings; empty where it brings none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        key = headers.get("x-api-key", "")
    return key.strip().encode("latin-1", "replace")


@dataclass(frozen=True)
class Access:
    """What a port lets in.

    restricted: by category, the header and value it asks for. hosts: the names
    under which clients may address the port, None for any. origins: of the web pages that may.
    """

    keys: ApiKeys | None = None
    restricted: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    hosts: frozenset[str] | None = None
    origins: frozenset[str] = frozenset()

    def admits_host(self, host: str) -> bool:
        """Whether a Host header may be what it is. Only a name can be made to point here by
        someone else, so addresses may; and what no browser sends may too."""
        name = host_name(host)
        if self.hosts is None or not name or name == "localhost" or name.endswith(".localhost"):
            return True
        return name in self.hosts or _address(name) is not None

    def admits_origin(self, origin: str) -> bool:
        return origin in self.origins or "*" in self.origins

    def restriction(self, category: str, headers: Mapping[str, str]) -> str | None:
        """The header that is missing or wrong, if the category asks for one."""
        if category not in self.restricted:
            return None
        name, value = self.restricted[category]
        given = headers.get(name.lower())
        if given is None or not hmac.compare_digest(given.encode(), value.encode()):
            return name
        return None


def http_access(settings: Settings, keys: ApiKeys | None, address: str) -> Access:
    """For an HTTP port that listens on `address`."""
    hosts = None
    if "*" not in settings.trusted_host and (settings.trusted_host or is_loopback(address)):
        hosts = frozenset(host_name(name) for name in (*settings.trusted_host, address))
    origins = frozenset(origin.lower() for origin in settings.cors_origin)
    return Access(keys, _by_category(settings.http_restricted_api, ""), hosts, origins)


def grpc_access(settings: Settings, keys: ApiKeys | None) -> Access:
    return Access(keys, _by_category(settings.grpc_restricted_protocol, PREFIX))


def _by_category(
    groups: Iterable[tuple[tuple[str, ...], str, str]], prefix: str
) -> dict[str, tuple[str, str]]:
    return {
        category: (f"{prefix}{key}", value)
        for categories, key, value in groups
        for category in categories
    }


def host_name(host: str) -> str:
    """A Host header without its port: `[::1]:8000` is ::1."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name = host if host.count(":") > 1 else host.partition(":")[0]
    return name.rstrip(".").lower()


def is_loopback(address: str) -> bool:
    parsed = _address(address)
    return address == "localhost" if parsed is None else parsed.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
