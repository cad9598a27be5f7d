"""Trace settings: Triton's names, defaults and rules."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

MODES = ("triton", "opentelemetry")
# What the command line takes for a level; some of it is only there for old scripts.
_LEVELS = {name: "TIMESTAMPS" for name in ("TIMESTAMPS", "TRUE", "ON", "1", "MIN", "MAX")}
_LEVELS |= {"TENSORS": "TENSORS", "OFF": "OFF", "FALSE": "OFF", "0": "OFF"}
# Triton's defaults, which it takes from OpenTelemetry's own variables.
_BATCHES = {
    "bsp_max_queue_size": ("OTEL_BSP_MAX_QUEUE_SIZE", "2048"),
    "bsp_schedule_delay": ("OTEL_BSP_SCHEDULE_DELAY", "5000"),
    "bsp_max_export_batch_size": ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512"),
}


@dataclass(frozen=True)
class TraceSettings:
    """Which requests are traced, and where the traces go.

    Every rate-th request is traced, count of them at most (-1 is no limit). log_frequency: traces
    per numbered file, 0 for one file. options: of OpenTelemetry, names may repeat.
    """

    timestamps: bool = False
    tensors: bool = False
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0
    file: str = ""
    mode: str = "triton"
    options: tuple[tuple[str, str], ...] = ()

    @property
    def on(self) -> bool:
        return self.timestamps or self.tensors

    @property
    def flaw(self) -> str:
        """Why nothing can be traced although it should be; "" when it can."""
        if self.rate == 0:
            return "sample rate must be non-zero"
        if self.mode == "triton" and not self.file:
            return "trace file name is not given"
        return ""

    @property
    def levels(self) -> list[str]:
        pairs = (("TIMESTAMPS", self.timestamps), ("TENSORS", self.tensors))
        return [name for name, wanted in pairs if wanted] or ["OFF"]


def from_config(config: Iterable[tuple[str, str, str]]) -> TraceSettings:
    """The settings that `--trace-config [mode,]name=value` flags make; ValueError for bad ones."""
    settings = TraceSettings()
    levels: set[str] = set()
    options: list[tuple[str, str]] = []
    values: dict[str, Any] = {}
    for mode, name, value in config:
        if mode and _mode(mode) == "opentelemetry":
            options.append((name, value))
        elif name == "level":
            levels.add(_LEVELS.get(value.upper(), ""))
        elif name == "mode":
            values["mode"] = _mode(value)
        elif name == "file":
            values["file"] = value
        elif name in ("rate", "count", "log-frequency"):
            values[name.replace("-", "_")] = _number(name, value)
        else:
            raise ValueError(f"there is no trace setting '{name}'")
    if "" in levels:
        raise ValueError("trace setting 'level' must be OFF, TIMESTAMPS or TENSORS")
    values |= levels_of(levels)
    settings = replace(settings, **values)
    if settings.mode == "opentelemetry":
        return replace(settings, options=tuple(_with_defaults(options)))
    return settings


def levels_of(levels: Iterable[str]) -> dict[str, bool]:
    """The two level fields for Triton's names of levels; OFF wins over the others."""
    names = set(levels)
    on = "OFF" not in names
    return {"timestamps": on and "TIMESTAMPS" in names, "tensors": on and "TENSORS" in names}


def _mode(value: str) -> str:
    mode = value.lower()
    if mode not in MODES:
        raise ValueError(
            f"invalid value for trace mode option: {mode}. Available options are "
            '"triton" and "opentelemetry"'
        )
    return mode


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"trace setting '{name}' is '{value}': it must be a number") from None


def _with_defaults(options: list[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    yield from options
    given = {name for name, _ in options}
    for name, (variable, default) in _BATCHES.items():
        if name not in given:
            yield name, os.environ.get(variable, default)


def shown(settings: TraceSettings) -> Mapping[str, list[str]]:
    """The settings as the trace extension tells them: every value a list of strings."""
    rows = {
        "trace_level": settings.levels,
        "trace_rate": [str(settings.rate)],
        "trace_count": [str(settings.count)],
    }
    if settings.mode == "triton":
        rows["log_frequency"] = [str(settings.log_frequency)]
        rows["trace_file"] = [settings.file]
    rows["trace_mode"] = [settings.mode]
    for name, value in settings.options:
        rows.setdefault(name, []).append(value)
    return rows
