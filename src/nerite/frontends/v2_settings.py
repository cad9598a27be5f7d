"""The trace and logging extensions: settings that are read and changed while the server runs.

What the two doors say differs in small things (where a value is wrong, how it is wrapped), and
Triton's clients and tests compare them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from nerite.core.errors import InferenceError, Status, invalid
from nerite.frontends.answers import answer_json, not_allowed
from nerite.frontends.http1 import Body, Exchange
from nerite.frontends.v2_json import json_document
from nerite.server import Server
from nerite.telemetry import FORMATS, LogSettings
from nerite.tracing.settings import levels_of, shown

_INT32_MAX = 2**31 - 1
_UINT32_MAX = 2**32 - 1
_NUMBERS = {"trace_rate": "rate", "trace_count": "count", "log_frequency": "log_frequency"}
_INTEGER = re.compile(r"\s*([+-]?\d+)")
_FIXED = "{} file location can not be updated through network protocol"
# The log extension's names for the fields of LogSettings, and the protobuf field of each.
_LOG = {
    "log_file": ("file", "string_param"),
    "log_info": ("info", "bool_param"),
    "log_warning": ("warning", "bool_param"),
    "log_error": ("error", "bool_param"),
    "log_verbose_level": ("verbose", "uint32_param"),
    "log_format": ("format", "string_param"),
}
_KINDS = {"bool_param": "boolean", "uint32_param": "int32", "string_param": "string"}
Route = Callable[[Exchange], None]


class SettingsDoor:
    """The HTTP routes of both extensions."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def find(self, method: str, path: str) -> Route | None:
        """What answers `path`, None when it is none of these."""
        match path.split("/")[2:]:
            case ["logging"]:
                route: Route = self._log
            case ["trace", "setting"]:
                route = partial(self._trace, "")
            case ["models", name, "trace", "setting"]:
                route = partial(self._trace, name)
            case _:
                return None
        return route if method in ("GET", "POST") else not_allowed

    def _trace(self, model: str, exchange: Exchange) -> None:
        _check_model(self._server, model)
        if exchange.head.method == "POST":
            changes = _trace_changes(_document(exchange.body, "trace"))
            self._server.tracer.update(model, changes)
        rows = shown(self._server.tracer.settings(model))
        lists = ("trace_level",)
        answer_json(
            exchange,
            {name: row if name in lists else ",".join(row) for name, row in rows.items()},
        )

    def _log(self, exchange: Exchange) -> None:
        if exchange.head.method == "POST":
            changes = _log_changes(_document(exchange.body, "dynamic logging"))
            self._server.log.update(**changes)
        answer_json(exchange, _log_rows(self._server.log.settings))


def trace_setting(server: Server, request: Any) -> Any:
    """The TraceSetting RPC. Raises InferenceError."""
    model = request.model_name
    _check_model(server, model)
    if request.settings:
        values = {name: list(setting.value) for name, setting in request.settings.items()}
        server.tracer.update(model, _trace_changes_of_lists(values))
    response = pb.TraceSettingResponse()
    for name, row in shown(server.tracer.settings(model)).items():
        response.settings[name].value.extend(row)
    return response


def log_settings(server: Server, request: Any) -> Any:
    """The LogSettings RPC. Raises InferenceError."""
    if request.settings:
        server.log.update(**_log_changes_of_messages(request.settings))
    response = pb.LogSettingsResponse()
    for name, value in _log_rows(server.log.settings).items():
        setattr(response.settings[name], _LOG[name][1], value)
    return response


def _check_model(server: Server, name: str) -> None:
    """Settings of one model are only there while it is ready."""
    if name and not any(model.name == name and model.ready for model in server.models):
        raise invalid(f"Request for unknown model : {name}")


def _trace_changes(document: Mapping[str, Any]) -> dict[str, Any]:
    if "trace_file" in document:
        raise InferenceError(Status.UNSUPPORTED, _FIXED.format("trace"))
    changes: dict[str, Any] = {}
    if "trace_level" in document:
        levels = document["trace_level"]
        if levels is not None and not isinstance(levels, list):
            raise _malformed("attempt to access non-array member 'trace_level'")
        changes |= _levels(levels)
    for name, field in _NUMBERS.items():
        if name in document:
            value = document[name]
            if value is not None and not isinstance(value, str):
                raise _malformed("attempt to access JSON non-string as string")
            changes[field] = None if value is None else _number(name, value, ", got:")
    return changes


def _trace_changes_of_lists(values: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    if "trace_file" in values:
        raise InferenceError(Status.UNSUPPORTED, _FIXED.format("trace"))
    changes: dict[str, Any] = {}
    if "trace_level" in values:
        changes |= _levels(values["trace_level"] or None)
    for name, field in _NUMBERS.items():
        if name in values:
            row = values[name]
            if len(row) > 1:
                raise invalid(f"expect only 1 value for '{name}'")
            changes[field] = _number(name, row[0], ", got: ") if row else None
    return changes


def _levels(levels: Sequence[Any] | None) -> dict[str, bool | None]:
    """None clears; names that Triton does not know change nothing."""
    if levels is None:
        return {"timestamps": None, "tensors": None}
    if any(not isinstance(level, str) for level in levels):
        raise _malformed("attempt to access JSON non-string as string")
    if "OFF" in levels and len(levels) > 1:
        raise invalid("Expect only one trace level 'OFF' is specified")
    if not {"OFF", "TIMESTAMPS", "TENSORS"} & set(levels):
        return {}
    return {**levels_of(levels)}


def _number(name: str, text: str, got: str) -> int:
    """As C++ reads an int: digits may be followed by anything; a negative rate is a huge one."""
    match = _INTEGER.match(text)
    if match is None:
        raise invalid(f"Unable to parse '{name}', got: {text}")
    value = int(match[1])
    low, high = (-1, _INT32_MAX) if name == "trace_count" else (0, _UINT32_MAX)
    if not -_INT32_MAX - 1 <= value <= _INT32_MAX:
        raise invalid(
            f"Unable to parse '{name}', value is out of range [ {low}, {high} ], got: {text}"
        )
    if name != "trace_count":
        return value & _UINT32_MAX
    if value < low:
        raise invalid(f"Unable to parse '{name}'. Expecting value >= {low}{got}{text}")
    return value


def _log_changes(document: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in document.items() if value is not None}
    if "log_file" in given:
        raise InferenceError(Status.UNSUPPORTED, _FIXED.format("log"))
    changes: dict[str, Any] = {}
    for name, (field, kind) in _LOG.items():
        if name not in given:
            continue
        value = changes[field] = given[name]
        if kind == "bool_param" and not isinstance(value, bool):
            raise _malformed("attempt to access JSON non-boolean as boolean")
        if kind == "uint32_param" and (type(value) is not int or value < 0):
            raise _malformed("attempt to access JSON non-unsigned-integer as unsigned-integer")
        if kind == "string_param" and not isinstance(value, str):
            raise _malformed("attempt to access JSON non-string as string")
    if changes.get("format", FORMATS[0]) not in FORMATS:
        text = f"invalid argument for --log_format, got: {changes['format']}"
        raise InferenceError(Status.UNAVAILABLE, text)
    return changes


def _log_changes_of_messages(settings: Mapping[str, Any]) -> dict[str, Any]:
    if "log_file" in settings:
        raise InferenceError(Status.UNSUPPORTED, _FIXED.format("log"))
    changes: dict[str, Any] = {}
    for name, (field, kind) in _LOG.items():
        if name in settings:
            if settings[name].WhichOneof("parameter_choice") != kind:
                raise invalid(f"expect {_KINDS[kind]} for '{name}'")
            changes[field] = getattr(settings[name], kind)
    if changes.get("format", FORMATS[0]) not in FORMATS:
        raise invalid(f"invalid argument for log_format, got: {changes['format']}")
    return changes


def _log_rows(settings: LogSettings) -> dict[str, Any]:
    return {name: getattr(settings, field) for name, (field, _) in _LOG.items()}


def _document(body: Body, kind: str) -> dict[str, Any]:
    return json_document(body, kind) if body else {}


def _malformed(text: str) -> InferenceError:
    return InferenceError(Status.INTERNAL, text)
