"""Traces as OpenTelemetry spans, sent by OTLP over HTTP. Imported only in that mode."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

from nerite.tracing.settings import TraceSettings
from nerite.tracing.trace import ModelTrace, Stamp, Trace
from nerite.tracing.tracer import Carrier

_MISSING = (
    "trace mode opentelemetry needs OpenTelemetry's SDK and its OTLP exporter: "
    "pip install 'nerite[telemetry]'"
)
_MOST = (1 << 32) - 1


class Spans:
    """An exporter of its own provider, so that it stays apart from what a host program has."""

    def __init__(self, settings: TraceSettings) -> None:
        """Raises ImportError with a remedy where OpenTelemetry is not installed, ValueError for
        an option that is none."""
        if importlib.util.find_spec("opentelemetry.sdk") is None:
            raise ImportError(_MISSING)
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise ImportError(_MISSING) from None
        attributes = {"service.name": "triton-inference-server"}
        values: dict[str, str] = {}
        for name, value in settings.options:
            if name == "resource":
                key, _, text = value.partition("=")
                attributes[key] = text
            else:
                values[name] = value
        queue = max(1, _number(values, "bsp_max_queue_size"))
        processor = BatchSpanProcessor(
            OTLPSpanExporter(**_endpoint(values.get("url"))),
            max_queue_size=queue,
            schedule_delay_millis=max(1, _number(values, "bsp_schedule_delay")),
            max_export_batch_size=min(queue, _number(values, "bsp_max_export_batch_size")),
        )
        self._provider = TracerProvider(resource=Resource(attributes), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("triton-server")
        self._propagator = TraceContextTextMapPropagator()

    def context(self, carrier: Carrier) -> Any:
        from opentelemetry.trace import get_current_span

        if "traceparent" not in carrier:
            return None
        context = self._propagator.extract(carrier)
        return context if get_current_span(context).get_span_context().is_valid else None

    def begin(self, trace: Trace) -> tuple[Any, str]:
        from opentelemetry.trace import set_span_in_context

        root = self._span("InferRequest", trace, trace.begun_ns, trace.parent, [])
        headers: dict[str, str] = {}
        self._propagator.inject(headers, set_span_in_context(root))
        return root, json.dumps(headers)

    def export(self, trace: Trace) -> None:
        """InferRequest around the models, each around its execution."""
        from opentelemetry.trace import set_span_in_context

        root = trace.span
        self._add_events(root, trace, trace.stamps)
        contexts = {0: set_span_in_context(root)}
        contexts[trace.id] = contexts[0]
        for one in sorted(trace.models, key=lambda one: one.id):
            if one.request:
                contexts[one.id] = self._model(trace, one, contexts.get(one.parent, contexts[0]))
        root.end(trace.epoch_ns + trace.ended_ns)

    def _model(self, trace: Trace, one: ModelTrace, parent: Any) -> Any:
        from opentelemetry.trace import set_span_in_context

        span = self._span(one.model, trace, one.request[0][1], parent, one.request)
        span.set_attribute("triton.model_name", one.model)
        span.set_attribute("triton.model_version", one.version)
        span.set_attribute("triton.trace_id", one.id)
        span.set_attribute("triton.trace_parent_id", one.parent)
        if one.request_id:
            span.set_attribute("triton.request_id", one.request_id)
        context = set_span_in_context(span)
        if one.compute:
            compute = self._span("compute", trace, one.compute[0][1], context, one.compute)
            compute.end(trace.epoch_ns + one.compute[-1][1])
        span.end(trace.epoch_ns + one.request[-1][1])
        return context

    def _span(
        self, name: str, trace: Trace, start_ns: int, parent: Any, stamps: list[Stamp]
    ) -> Any:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        start = trace.epoch_ns + start_ns
        span = self._tracer.start_span(
            name, context=parent or Context(), kind=SpanKind.SERVER, start_time=start
        )
        self._add_events(span, trace, stamps)
        return span

    @staticmethod
    def _add_events(span: Any, trace: Trace, stamps: list[Stamp]) -> None:
        for stamp, ns in stamps:
            span.add_event(stamp, timestamp=trace.epoch_ns + ns)

    def close(self) -> None:
        """Send what is left. Blocks, while a collector does not answer for some seconds."""
        self._provider.shutdown()


def _endpoint(url: str | None) -> dict[str, str]:
    """Triton takes an address without a scheme too."""
    if url is None:
        return {}
    return {"endpoint": url if "://" in url else f"http://{url}"}


def _number(values: dict[str, str], name: str) -> int:
    """Triton's are of 32 bits."""
    try:
        number = int(values[name])
    except ValueError:
        number = -1
    if not 0 <= number <= _MOST:
        text = f"trace setting '{name}' is '{values[name]}': it must be a number from 0 to {_MOST}"
        raise ValueError(text)
    return number
