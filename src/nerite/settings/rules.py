"""What settings mean together: renamed flags, flags without effect, and combinations that clash."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nerite.settings.options import Option, Settings
from nerite.settings.others import DEPRECATED, IGNORED, TRACE_KEYS


def complete(given: Mapping[Option, Any], defaults: Mapping[str, Any]) -> Settings:
    """The settings of what was given, with notices of what was deprecated or has no effect."""
    old = {option.name: value for option, value in given.items() if option in DEPRECATED}
    values = {
        option.name: value
        for option, value in given.items()
        if option not in DEPRECATED and option not in IGNORED
    }
    notices = _without_effect(given) + _rename(old, values)
    return Settings(**{**defaults, **values}, notices=notices)


def _without_effect(given: Mapping[Option, Any]) -> list[str]:
    why = [f"--{option.flag} ({option.text})" for option in given if option in IGNORED]
    why += [f"--{option.flag} (not yet)" for option in given if option.pending]
    return [f"without effect here: {', '.join(why)}"] if why else []


def _rename(old: Mapping[str, Any], values: dict[str, Any]) -> list[str]:
    """Put deprecated settings where they belong now, into `values`."""
    instead = {option.name: (option.flag, option.text) for option in DEPRECATED}
    notices = [
        "Warning: '--{}' has been deprecated! Please use {} instead.".format(*instead[name])
        for name in old
    ]
    if "strict_model_config" in old:
        strict = values.get("disable_auto_complete_config", False)
        values["disable_auto_complete_config"] = strict or old["strict_model_config"]
        if strict and not old["strict_model_config"]:
            notices.append(
                "Warning: Overriding deprecated '--strict-model-config' from False to True in "
                "favor of '--disable-auto-complete-config'!"
            )
    if "response_cache_byte_size" in old:
        if "cache_config" in values:
            raise ValueError(
                "Error: Incompatible flags --response-cache-byte-size and --cache-config both "
                "provided. Please provide one or the other."
            )
        values["cache_config"] = [("local", "size", str(old["response_cache_byte_size"]))]
    traces = list(values.get("trace_config", []))
    for name, (mode, key) in TRACE_KEYS.items():
        # What --trace-config says itself wins.
        if name in old and not any(trace[:2] == (mode, key) for trace in traces):
            texts = old[name] if isinstance(old[name], list) else [old[name]]
            values.setdefault("trace_config", []).extend((mode, key, str(text)) for text in texts)
    return notices


def check(settings: Settings) -> None:
    """Raises ValueError with a sentence, Triton's where it has one."""
    if settings.load_model and settings.model_control_mode != "explicit":
        raise ValueError(
            "Error: Use of '--load-model' requires setting '--model-control-mode=explicit' as well."
        )
    if "*" in settings.load_model and len(set(settings.load_model)) > 1:
        raise ValueError(
            "Wildcard model name '*' must be the ONLY startup model if specified at all."
        )
    if bool(settings.https_cert) != bool(settings.https_key):
        raise ValueError("--https-cert and --https-key are only of use together")
    if settings.grpc_use_ssl or settings.grpc_use_ssl_mutual:
        _check_grpc_tls(settings)
    for flag, groups in (
        ("api", settings.http_restricted_api),
        ("protocol", settings.grpc_restricted_protocol),
    ):
        _check_restricted(flag, groups)
    for origin in settings.cors_origin:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#\s]+", origin):
            raise ValueError(f"--cors-origin {origin} is no origin like https://example.org:8443")
    _check_ports(settings)


def _check_grpc_tls(settings: Settings) -> None:
    wanted = ["grpc_server_cert", "grpc_server_key"]
    if settings.grpc_use_ssl_mutual:
        wanted.append("grpc_root_cert")
    for name in wanted:
        if not getattr(settings, name):
            raise ValueError(f"gRPC over TLS needs --{name.replace('_', '-')}")


def _check_restricted(what: str, groups: list[tuple[tuple[str, ...], str, str]]) -> None:
    categories = [category for group in groups for category in group[0]]
    for category in categories:
        if categories.count(category) > 1:
            raise ValueError(
                f"restricted {what} '{category}' can not be specified in multiple config groups"
            )


def _check_ports(settings: Settings) -> None:
    services = [
        (settings.allow_http, "HTTP", settings.http_address, settings.http_port),
        (settings.allow_grpc, "GRPC", settings.grpc_address, settings.grpc_port),
        (settings.allow_metrics, "metrics", settings.metrics_address, settings.metrics_port),
    ]
    seen: dict[tuple[str, int], str] = {}
    for allowed, name, address, port in services:
        if not allowed or not port:
            continue
        other = seen.setdefault((address, port), name)
        if other != name:
            raise ValueError(
                f"The server cannot listen to {other} requests and {name} requests at the same "
                f"address and port {address}:{port}"
            )
