"""Typed identifiers and the ULIDs behind them.

A ULID is 26 Crockford base-32 characters: 48 bits of milliseconds, then 80 random bits, so ids sort by
time of creation. Prefixes (`key_`, `doc_` …) make an id recognisable in a log or a search box.
"""

from __future__ import annotations

import os
import time
from typing import NewType

__all__ = [
    "AppName",
    "DocumentId",
    "JobId",
    "KeyId",
    "PassageId",
    "PrincipalId",
    "ReleaseId",
    "SnapshotId",
    "SpanId",
    "TenantId",
    "TraceId",
    "new_id",
    "new_span_id",
    "new_trace_id",
    "ulid",
]

TenantId = NewType("TenantId", str)
PrincipalId = NewType("PrincipalId", str)
KeyId = NewType("KeyId", str)
AppName = NewType("AppName", str)
ReleaseId = NewType("ReleaseId", str)
"""`sha256:<hex>` of the release's manifest."""
SnapshotId = NewType("SnapshotId", str)
DocumentId = NewType("DocumentId", str)
PassageId = NewType("PassageId", str)
JobId = NewType("JobId", str)
TraceId = NewType("TraceId", str)
"""32 hex digits, as W3C Trace Context and OpenTelemetry write it."""
SpanId = NewType("SpanId", str)
"""16 hex digits."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid() -> str:
    """A new ULID: 26 characters, sortable by time of creation to the millisecond."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def new_id(prefix: str) -> str:
    """A new id such as ``key_01JD…``."""
    return f"{prefix}_{ulid()}"


def new_trace_id() -> TraceId:
    """A random W3C trace id, never all zeros."""
    return TraceId(os.urandom(16).hex())


def new_span_id() -> SpanId:
    """A random W3C span id."""
    return SpanId(os.urandom(8).hex())
