"""--cache-config, as it chooses and sets up the one cache of a server."""

from __future__ import annotations

import os
from collections.abc import Iterable

from nerite.cache.base import Cache
from nerite.cache.local import LocalCache

_SETTINGS = {"local": ("size",), "redis": ("host", "port", "user", "password")}


def open_cache(config: Iterable[tuple[str, str, str]]) -> Cache | None:
    """config: cache, setting, value. None without any. Raises ValueError, ImportError."""
    entries = list(config)
    names = {name for name, _, _ in entries}
    if not names:
        return None
    if len(names) > 1:
        raise ValueError(f"multiple cache configurations: {', '.join(sorted(names))}; give one")
    (name,) = names
    if name not in _SETTINGS:
        known = ", ".join(_SETTINGS)
        raise ValueError(f"unable to find cache '{name}': the caches are {known}")
    values = {key: value for _, key, value in entries}
    for key in values:
        if key not in _SETTINGS[name]:
            known = ", ".join(_SETTINGS[name])
            raise ValueError(f"the {name} cache has no setting '{key}': its settings are {known}")
    return _open_local(values) if name == "local" else _open_redis(values)


def _open_local(values: dict[str, str]) -> Cache:
    size = values.get("size", "")
    if not size.isdigit() or not int(size):
        raise ValueError(f"the local cache's size is '{size}': it must be a number of bytes")
    return LocalCache(int(size))


def _open_redis(values: dict[str, str]) -> Cache:
    if "host" not in values or "port" not in values:
        raise ValueError(
            "Must at a minimum specify the host and port when initializing the Redis cache: "
            "redis,host=<name> and redis,port=<number>"
        )
    try:
        from nerite.cache.redis import RedisCache

        # A port that is no number cannot be connected to, and that is told.
        port = int(values["port"]) if values["port"].isdigit() else 0
        return RedisCache(
            values["host"],
            port,
            values.get("user", os.environ.get("TRITONCACHE_REDIS_USERNAME", "")),
            values.get("password", os.environ.get("TRITONCACHE_REDIS_PASSWORD", "")),
        )
    except ImportError:
        raise ImportError(
            "the redis cache needs the package of that name: pip install 'nerite[redis]'"
        ) from None
