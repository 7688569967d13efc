"""Spans over OTLP/HTTP, batched on a thread of the OpenTelemetry SDK so that no request waits for a collector."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from interlock.core.trace import Span
from interlock.observe.settings import ObserveSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

__all__ = ["OtlpSink"]


class OtlpSink:
    """Implements :class:`interlock.core.trace.SpanSink`.

    Args:
        version: of Interlock, for the resource.
        drain_s: longest wait for the collector when closing.
    """

    def __init__(self, settings: ObserveSettings, version: str, *, drain_s: float = 5.0) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        assert settings.otlp_endpoint is not None, "built only when an endpoint is configured"
        raw = os.environ.get(settings.otlp_headers_env or "", "")
        headers = dict(pair.split("=", 1) for pair in raw.split(",") if "=" in pair)
        exporter = OTLPSpanExporter(
            endpoint=settings.otlp_endpoint.rstrip("/") + "/v1/traces", headers=headers, timeout=10
        )
        self._resource = Resource.create({"service.name": "interlock", "service.version": version})
        self._exporter = exporter
        self._drain_s = drain_s
        self._processor: BatchSpanProcessor = BatchSpanProcessor(exporter)

    def emit(self, span: Span) -> None:
        """Hand over one finished span; drops when the collector is too slow."""
        self._processor.on_end(_readable(span, self._resource))

    def close(self) -> None:
        """Send what is buffered, waiting no longer than `drain_s` for a collector that does not answer."""
        # The SDK's flush knows no limit: it tries every batch again and again until its exporter is told to stop.
        ender = threading.Timer(self._drain_s, self._exporter.shutdown)
        ender.daemon = True
        ender.start()
        try:
            # The SDK leaves this method untyped.
            self._processor.shutdown()  # type: ignore[no-untyped-call]
        finally:
            ender.cancel()


def _readable(span: Span, resource: object) -> ReadableSpan:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    assert isinstance(resource, Resource)

    def context(span_id: str) -> SpanContext:
        return SpanContext(int(span.trace_id, 16), int(span_id, 16), False, TraceFlags(TraceFlags.SAMPLED))

    status = Status(StatusCode.OK) if span.status == "ok" else Status(StatusCode.ERROR, span.error)
    return ReadableSpan(
        name=span.name,
        context=context(span.span_id),
        parent=context(span.parent_id) if span.parent_id else None,
        resource=resource,
        attributes={**span.attributes, "interlock.tenant": span.tenant},
        kind=SpanKind.SERVER if span.parent_id is None else SpanKind.INTERNAL,
        status=status,
        start_time=span.start_ns,
        end_time=span.end_ns,
    )
