"""Spans, emitted low and analysed high.

A span is opened on a :class:`~interlock.core.context.Context` and hands back a child context, so that nesting is
explicit: nothing hides in a context variable, which would leak out of an async generator that is closed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from interlock.core.ids import SpanId, TenantId, TraceId

__all__ = ["AttributeValue", "NullSink", "Span", "SpanSink", "SpanStatus"]

AttributeValue = str | int | float | bool
SpanStatus = Literal["ok", "error", "cancelled"]


@dataclass(slots=True)
class Span:
    """One timed step. Attribute names follow OpenTelemetry's GenAI conventions where those name the thing.

    No attribute ever holds a prompt, an answer or a secret.
    """

    trace_id: TraceId
    span_id: SpanId
    parent_id: SpanId | None
    tenant: TenantId
    name: str
    start_ns: int
    """Unix nanoseconds."""
    end_ns: int = 0
    status: SpanStatus = "ok"
    error: str = ""
    """Stable error code, empty when the status is ok."""
    attributes: dict[str, AttributeValue] = field(default_factory=dict)

    def set(self, attributes: Mapping[str, AttributeValue | None] | None = None, /, **more: AttributeValue) -> None:
        """Add attributes; None values are dropped. Dotted names go into the mapping."""
        for name, value in {**(attributes or {}), **more}.items():
            if value is not None:
                self.attributes[name] = value


class SpanSink(Protocol):
    """Takes finished spans. Must not block and must not raise."""

    def emit(self, span: Span) -> None:
        """Take one finished span."""


class NullSink:
    """Drops every span: for tools and tests that do not look at them."""

    def emit(self, span: Span) -> None:
        """Drop it."""
