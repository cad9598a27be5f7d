"""Tracer: chooses the requests to be traced, by settings that are changed while it serves.

Settings are a pile of three: those of the start-up, what was specified for all models, and what
was specified for one. Clearing a setting lets the one below show through.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from nerite.core.call import Deliver
from nerite.core.errors import invalid
from nerite.core.request import Request
from nerite.tracing.files import TraceFiles
from nerite.tracing.settings import TraceSettings
from nerite.tracing.trace import Trace, to_json

log = logging.getLogger(__name__)

_GLOBAL = ""
Carrier = Mapping[str, str]


class Exporter(Protocol):
    """Where traces go in OpenTelemetry mode."""

    def context(self, carrier: Carrier) -> Any:
        """The client's trace that these headers continue, None when there is none."""
        ...

    def begin(self, trace: Trace) -> tuple[Any, str]:
        """The span of a trace that has begun, and its headers as JSON."""
        ...

    def export(self, trace: Trace) -> None: ...

    def close(self) -> None: ...


class Tracer:
    """Belongs to the server's loop. `active` is all that an untraced request costs."""

    def __init__(
        self, settings: TraceSettings | None = None, exporter: Exporter | None = None
    ) -> None:
        """exporter: needed in OpenTelemetry mode."""
        self._default = settings or TraceSettings()
        self._exporter = exporter
        self._files = TraceFiles()
        self._specified: dict[str, dict[str, Any]] = {_GLOBAL: {}}
        self._sampling = {_GLOBAL: _Sampling(self._default, self._files, exporter)}
        self.active = self._default.on

    def settings(self, model: str = _GLOBAL) -> TraceSettings:
        """Those in use for a model, or for all that have none of their own; count is what is
        left of it."""
        return self._of(model).current

    def update(self, model: str, changes: Mapping[str, Any]) -> TraceSettings:
        """Set fields of TraceSettings for a model ("" for all); None clears one.

        Raises InferenceError for settings with which nothing could be traced.
        """
        self._update(model, changes)
        if model == _GLOBAL:
            for name in [name for name in self._specified if name != _GLOBAL]:
                self._update(name, {}, check=False)
        self.active = any(one.settings.on for one in self._sampling.values())
        return self.settings(model)

    def _update(self, model: str, changes: Mapping[str, Any], *, check: bool = True) -> None:
        specified = dict(self._specified.get(model, {}))
        if "count" in specified:
            specified["count"] = self._of(model).current.count
        specified.update(changes)
        specified = {name: value for name, value in specified.items() if value is not None}
        below = self._default if model == _GLOBAL else self.settings()
        settings = replace(below, **specified)
        if check and settings.on and settings.flaw:
            raise invalid(f"Attempting to set invalid trace setting :{settings.flaw}")
        replaced = self._sampling.pop(model, None)
        if replaced is not None:
            replaced.close()
        if model != _GLOBAL and not specified:
            self._specified.pop(model, None)
            return
        self._specified[model] = specified
        self._sampling[model] = _Sampling(settings, self._files, self._exporter)

    def _of(self, model: str) -> _Sampling:
        return self._sampling.get(model) or self._sampling[_GLOBAL]

    def begin(
        self, request: Request, door: str, carrier: Carrier, since_ns: int = 0
    ) -> tuple[Request, Trace | None]:
        """The request, traced if it is its turn. carrier: the headers it came with."""
        sampling = self._of(request.model)
        if not sampling.settings.on:
            return request, None
        context = None
        if self._exporter is not None and sampling.settings.mode == "opentelemetry":
            context = self._exporter.context(carrier)
        if not sampling.choose(context is not None):
            return request, None
        trace = Trace(sampling, door, context, since_ns)
        return request._replace(trace=trace), trace

    def follow(
        self,
        request: Request,
        deliver: Deliver,
        door: str,
        carrier: Carrier,
        since_ns: int = 0,
    ) -> tuple[Request, Deliver]:
        """The same for a door that delivers: its trace ends with the last delivery."""
        request, trace = self.begin(request, door, carrier, since_ns)
        return request, deliver if trace is None else trace.around(deliver)

    def close(self) -> None:
        """Write what is not written yet. Blocks."""
        for sampling in self._sampling.values():
            sampling.close()
        self._files.close()
        if self._exporter is not None:
            self._exporter.close()


class _Sampling:
    """One set of settings in use: counts requests, and gathers the traces they become."""

    def __init__(
        self, settings: TraceSettings, files: TraceFiles, exporter: Exporter | None
    ) -> None:
        self.settings = settings
        self.timestamps = settings.timestamps
        self.tensors = settings.tensors
        self._files = files
        self._exporter = exporter if settings.mode == "opentelemetry" else None
        self._seen = 0
        self._left = settings.count
        self._underway = 0
        self._waiting: list[str] = []
        self._closed = False

    @property
    def current(self) -> TraceSettings:
        return replace(self.settings, count=self._left)

    def choose(self, forced: bool) -> bool:
        """Whether the next request is traced. forced: it belongs to a trace of its client."""
        chosen = False
        if self.settings.rate and not self.settings.flaw and (self._left or forced):
            self._seen += 1
            chosen = bool(self._left) and self._seen % self.settings.rate == 0
            if chosen and self._left > 0:
                self._left -= 1
        if chosen or forced:
            self._underway += 1
            return True
        return False

    def span(self, trace: Trace) -> tuple[Any, str]:
        return (None, "") if self._exporter is None else self._exporter.begin(trace)

    def take(self, trace: Trace) -> None:
        """A trace is complete."""
        self._underway -= 1
        if self._exporter is not None:
            self._exporter.export(trace)
            return
        self._waiting.append(to_json(trace))
        every = self.settings.log_frequency
        exhausted = self._left == 0 and self._underway == 0
        if exhausted or (every and len(self._waiting) >= every):
            self._write(numbered=True)
        elif self._closed or (not every and self._left < 0):
            self._write(numbered=bool(every))

    def _write(self, *, numbered: bool) -> None:
        waiting, self._waiting = self._waiting, []
        if numbered:
            self._files.number(self.settings.file, waiting)
        else:
            self._files.append(self.settings.file, waiting)

    def close(self) -> None:
        """Nothing more is chosen; what is underway is written when it comes."""
        self._closed = True
        if self._waiting:
            self._write(numbered=bool(self.settings.log_frequency))


def carrier_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """gRPC's metadata as headers."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}
