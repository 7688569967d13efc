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
# Two characters for each value of ten bits: an id is made several times a request.
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)


class _Millisecond:
    """The ten characters that all ids of one millisecond begin with."""

    at = -1
    text = ""


def ulid() -> str:
    """A new ULID: 26 characters, sortable by time of creation to the millisecond."""
    at = time.time_ns() // 1_000_000
    if at != _Millisecond.at:
        text = "".join(_PAIRS[(at >> shift) & 1023] for shift in (40, 30, 20, 10, 0))
        # Another thread may be here too, so what is read afterwards is our own.
        _Millisecond.text, _Millisecond.at = text, at
    else:
        text = _Millisecond.text
    value, pairs = int.from_bytes(os.urandom(10), "big"), _PAIRS
    return (
        f"{text}{pairs[value >> 70]}{pairs[value >> 60 & 1023]}{pairs[value >> 50 & 1023]}{pairs[value >> 40 & 1023]}"
        f"{pairs[value >> 30 & 1023]}{pairs[value >> 20 & 1023]}{pairs[value >> 10 & 1023]}{pairs[value & 1023]}"
    )


def new_id(prefix: str) -> str:
    """A new id such as ``key_01JD…``."""
    return f"{prefix}_{ulid()}"


def new_trace_id() -> TraceId:
    """A random W3C trace id, never all zeros."""
    return TraceId(os.urandom(16).hex())


def new_span_id() -> SpanId:
    """A random W3C span id."""
    return SpanId(os.urandom(8).hex())
