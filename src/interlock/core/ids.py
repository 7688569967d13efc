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
# Which letter a random byte stands for: eight bytes for each, so that all are as likely.
_LETTERS = (_ALPHABET * 8).encode()
_DRAWN = 4096


class _Source(threading.local):
    """Random characters of one thread, drawn many at a time: an id is made several times a request, and asking the
    system lets another thread run, and waits for it.
    """

    def __init__(self) -> None:
        self.letters = ""
        self.letters_used = _DRAWN
        self.digits = ""
        self.digits_used = _DRAWN
        self.at = -1
        self.text = ""
        """The ten characters that all ids of the millisecond `at` begin with."""

    def hex(self, count: int) -> str:
        """`count` random hex digits, at most 32."""
        used = self.digits_used
        end = used + count
        if end > _DRAWN:
            self.digits, used, end = os.urandom(_DRAWN // 2).hex(), 0, count
        self.digits_used = end
        return self.digits[used:end]


_source = _Source()


def _drop_drawn() -> None:
    _source.letters_used = _source.digits_used = _DRAWN


# A forked process must not make its parent's ids again.
os.register_at_fork(after_in_child=_drop_drawn)


def ulid() -> str:
    """A new ULID: 26 characters, sortable by time of creation to the millisecond."""
    source = _source
    at = time.time_ns() // 1_000_000
    if at != source.at:
        source.text = "".join([_ALPHABET[(at >> shift) & 31] for shift in range(45, -1, -5)])
        source.at = at
    used = source.letters_used
    end = used + 16
    if end > _DRAWN:
        source.letters, used, end = os.urandom(_DRAWN).translate(_LETTERS).decode("ascii"), 0, 16
    source.letters_used = end
    return source.text + source.letters[used:end]


def new_id(prefix: str) -> str:
    """A new id such as ``key_01JD…``."""
    return f"{prefix}_{ulid()}"


def new_trace_id() -> TraceId:
    """A W3C trace id, never all zeros: four digits of the time in seconds, then 112 random bits.

    Ids of the same time stand beside each other in an index, which would otherwise be written all over.
    """
    return TraceId(f"{int(time.time()) & 0xFFFF:04x}{_source.hex(28)}")


def new_span_id() -> SpanId:
    """A random W3C span id."""
    return SpanId(_source.hex(16))
