"""Typed identifiers and the ULIDs behind them.

A ULID is 26 Crockford base-32 characters: 48 bits of milliseconds, then 80 random bits, so ids sort by
time of creation. Prefixes (`key_`, `doc_` …) make an id recognisable in a log or a search box.
"""

from __future__ import annotations

import os
import threading
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


class _Source(threading.local):
    """Random bytes of one thread, drawn many at a time: asking the system lets another thread run, and waits for it."""

    def __init__(self) -> None:
        self.bytes = b""
        self.used = 0
        self.at = -1
        self.text = ""
        """The ten characters that all ids of the millisecond `at` begin with."""

    def take(self, count: int) -> bytes:
        used = self.used
        if used + count > len(self.bytes):
            self.bytes, used = os.urandom(_DRAWN), 0
        self.used = used + count
        return self.bytes[used : self.used]


_DRAWN = 4096
_source = _Source()


def _drop_drawn() -> None:
    _source.bytes, _source.used = b"", 0


# A forked process must not make its parent's ids again.
os.register_at_fork(after_in_child=_drop_drawn)


def ulid() -> str:
    """A new ULID: 26 characters, sortable by time of creation to the millisecond."""
    source, pairs = _source, _PAIRS
    at = time.time_ns() // 1_000_000
    if at != source.at:
        source.text = "".join(pairs[(at >> shift) & 1023] for shift in (40, 30, 20, 10, 0))
        source.at = at
    text, value = source.text, int.from_bytes(source.take(10), "big")
    return (
        f"{text}{pairs[value >> 70]}{pairs[value >> 60 & 1023]}{pairs[value >> 50 & 1023]}{pairs[value >> 40 & 1023]}"
        f"{pairs[value >> 30 & 1023]}{pairs[value >> 20 & 1023]}{pairs[value >> 10 & 1023]}{pairs[value & 1023]}"
    )


def new_id(prefix: str) -> str:
    """A new id such as ``key_01JD…``."""
    return f"{prefix}_{ulid()}"


def new_trace_id() -> TraceId:
    """A random W3C trace id, never all zeros."""
    return TraceId(_source.take(16).hex())


def new_span_id() -> SpanId:
    """A random W3C span id."""
    return SpanId(_source.take(8).hex())
