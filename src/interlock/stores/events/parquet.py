"""Spans as immutable segments: written as lines of JSON, merged into Parquet, read by an in-memory DuckDB.

Several workers write while others read: there is no shared database file, only files that appear whole. A span that
was flushed is read exactly once, whatever is merged or crashes meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from asyncio.subprocess import DEVNULL
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from interlock.core.clock import now
from interlock.core.errors import InvalidInput, Unavailable
from interlock.core.ids import SpanId, TenantId, TraceId
from interlock.core.trace import Span
from interlock.stores._folders import tenant_folder
from interlock.stores._threads import Threads
from interlock.stores.events import _queries, _segments
from interlock.stores.events.base import (
    OpinionRow,
    PreferenceRow,
    PromptRow,
    SeriesPoint,
    TraceFilter,
    TraceRow,
    UnitRow,
)

if TYPE_CHECKING:
    import duckdb

__all__ = ["ParquetEvents"]

_log = logging.getLogger(__name__)
_INT64 = 2**63
_TIDY_S = 600.0
_encode = msgspec.json.Encoder().encode
_LINE_BYTES = 8 * 1024 * 1024
"""What the reader takes as one object, with room to spare."""
_READ_TRIES = 5


class ParquetEvents:
    """An `Events` in a folder that any number of processes share.

    Args:
        root: the folder; created when first written to.
        capacity: spans held in memory at most; more are dropped and counted.
        flush_rows: spans that start a write at once.
        flush_every_s: seconds between writes otherwise.
        retention_days: days of spans that `compact` keeps.
        clock: aware UTC now, for retention.
    """

    def __init__(
        self,
        root: Path,
        *,
        capacity: int = 100_000,
        flush_rows: int = 1000,
        flush_every_s: float = 1.0,
        retention_days: int = 30,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._root = root
        self._capacity = capacity
        self._flush_rows = flush_rows
        self._flush_every_s = flush_every_s
        self._retention_days = retention_days
        self._clock = clock
        self._buffer: deque[Span] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._closed = False
        self._flusher: threading.Thread | None = None
        # Guards the start of the flusher: `emit` may be called from any thread.
        self._starting = threading.Lock()
        # One write at a time, so that a flush returns only after the batch the flusher is writing.
        self._writing = threading.Lock()
        # Guards the opening of the in-memory database.
        self._opening = threading.Lock()
        self._database: duckdb.DuckDBPyConnection | None = None
        self._threads = Threads(2, "interlock-events")

    def emit(self, span: Span) -> None:
        """See `Events.emit`."""
        if self._closed or len(self._buffer) >= self._capacity:
            self._dropped += 1
            return
        self._buffer.append(span)
        if self._flusher is None:
            self._start()
        elif len(self._buffer) >= self._flush_rows and not self._wake.is_set():
            self._wake.set()

    async def flush(self) -> None:
        """See `Events.flush`. Blocking work runs in a thread."""
        await self._threads.run(self._write_buffer)

    @property
    def dropped(self) -> int:
        """See `Events.dropped`. Also counts spans that could not be written, as on a full disk."""
        return self._dropped

    async def traces(self, tenant: TenantId, where: TraceFilter) -> list[TraceRow]:
        """See `Events.traces`. Reads day by day, newest first, until the page is full."""
        return await self._threads.run(lambda: self._traces(tenant, where))

    async def trace(self, tenant: TenantId, trace_id: str) -> list[Span]:
        """See `Events.trace`. A prefix that fits several traces, or is shorter than 8 digits, gives nothing."""
        prefix = trace_id.lower()
        if len(prefix) < 8 or not set(prefix) <= set("0123456789abcdef"):
            return []
        rows = await self._threads.run(lambda: self._query(tenant, _queries.TRACE, {"prefix": prefix}))
        return [_span(tenant, row) for row in rows] if len({row[0] for row in rows}) == 1 else []

    async def series(
        self,
        tenant: TenantId,
        *,
        since: datetime,
        until: datetime,
        buckets: int,
        app: str | None = None,
        name: str | None = None,
    ) -> Sequence[SeriesPoint]:
        """See `Events.series`. Raises: InvalidInput: `buckets` below 1, or `until` not after `since`."""
        first, last = _ns(since), _ns(until)
        if buckets < 1 or last <= first:
            raise InvalidInput("a series needs at least one bucket and a time span", param="buckets")
        where = {"since": first, "until": last, "buckets": buckets, "app": app, "name": name}
        rows = await self._threads.run(lambda: self._query(tenant, _queries.SERIES, where, since=first, until=last))
        found = {row[0]: row[1:] for row in rows}
        nothing = (0, 0, 0.0, 0.0, 0, 0, 0, 0, 0)
        return [SeriesPoint(first + (last - first) * i // buckets, *found.get(i, nothing)) for i in range(buckets)]

    async def units(self, tenant: TenantId, rollout: str, *, since: datetime) -> Sequence[UnitRow]:
        """See `Events.units`."""
        first = _ns(since)
        where = {"since": first, "rollout": rollout}
        rows = await self._threads.run(lambda: self._query(tenant, _queries.UNITS, where, since=first))
        return [UnitRow._make(row) for row in rows]

    async def prompts(
        self, tenant: TenantId, digests: Sequence[str], *, since: datetime, apps: Sequence[str] = ()
    ) -> Sequence[PromptRow]:
        """See `Events.prompts`."""
        first = _ns(since)
        where = {"since": first, "digests": list(digests), "apps": list(apps)}
        rows = await self._threads.run(lambda: self._query(tenant, _queries.PROMPTS, where, since=first))
        return [PromptRow._make(row) for row in rows]

    async def preferences(self, tenant: TenantId, rollout: str, *, since: datetime) -> Sequence[PreferenceRow]:
        """See `Events.preferences`."""
        first = _ns(since)
        where = {"since": first, "rollout": rollout}
        rows = await self._threads.run(lambda: self._query(tenant, _queries.PREFERENCES, where, since=first))
        return [PreferenceRow._make(row) for row in rows]

    async def opinions(self, tenant: TenantId, rollout: str, *, since: datetime) -> Sequence[OpinionRow]:
        """See `Events.opinions`."""
        first = _ns(since)
        where = {"since": first, "rollout": rollout}
        rows = await self._threads.run(lambda: self._query(tenant, _queries.OPINIONS, where, since=first))
        return [OpinionRow._make(row) for row in rows]

    async def compact(self) -> int:
        """See `Events.compact`. Does nothing while another process compacts; safe to kill at any moment."""
        return await self._threads.run(self._compact)

    async def tidy(self) -> None:
        """See `Events.tidy`."""
        if not await self._threads.run(self._is_untidy):
            return
        # DuckDB would stay in the memory of a server, and a merge of a busy minute takes a core for a while.
        about = [str(self._root), str(self._retention_days), self._clock().date().isoformat()]
        command = [sys.executable, "-m", "interlock.stores.events", *about]
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        try:
            async with asyncio.timeout(_TIDY_S):
                code = await process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if code:
            _log.error("the process that merges spans ended with exit code %d", code)

    async def close(self) -> None:
        """See `Events.close`. Spans emitted later are dropped and counted."""
        self._closed = True
        self._wake.set()
        await self._threads.run(self._write_buffer)
        await self._threads.close()
        if self._flusher is not None:
            self._flusher.join()
        with self._opening:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _start(self) -> None:
        with self._starting:
            if self._flusher is None:
                self._flusher = threading.Thread(target=self._flush_for_ever, name="interlock-events", daemon=True)
                self._flusher.start()

    def _flush_for_ever(self) -> None:
        while not self._closed:
            self._wake.wait(self._flush_every_s)
            self._wake.clear()
            self._write_buffer()

    def _write_buffer(self) -> None:
        """Write what was in the buffer when this began; what cannot be written is dropped and counted."""
        with self._writing:
            groups: dict[tuple[TenantId, date], list[Span]] = {}
            for _ in range(len(self._buffer)):
                span = self._buffer.popleft()
                groups.setdefault((span.tenant, _segments.day_of(span.start_ns)), []).append(span)
            for (tenant, day), spans in groups.items():
                try:
                    self._dropped += self._write_segment(tenant, day, spans)
                except Exception as error:  # noqa: BLE001 - border: tracing must never stop what is traced
                    self._dropped += len(spans)
                    # The library's text may quote a span: only the kind of error goes out.
                    _log.error("lost %d spans: a segment could not be written (%s)", len(spans), type(error).__name__)

    def _write_segment(self, tenant: TenantId, day: date, spans: list[Span]) -> int:
        """Write one group; how many spans had no stored form and were left out."""
        rows = [row for row in map(_row, spans) if row is not None]
        if rows:
            folder = self._root / tenant_folder(tenant) / day.isoformat()
            draft = _segments.new_draft(folder, _segments.WRITTEN)
            try:
                draft.write_bytes(b"\n".join(rows))
                starts = [span.start_ns for span in spans]
                _segments.commit(draft, folder, min(starts), max(starts))
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
        return len(spans) - len(rows)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the in-memory database: DuckDB's are not shared between threads."""
        with self._opening:
            if self._database is None:
                import duckdb

                # Nothing is ever fetched from the network, and tracing leaves the cores to the work.
                config: dict[str, str | bool | int | float | list[str]] = {
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "threads": 2,
                }
                self._database = duckdb.connect(":memory:", config=config)
            return self._database.cursor()

    def _traces(self, tenant: TenantId, where: TraceFilter) -> list[TraceRow]:
        before_ns, before_id = _cursor_position(where.before)
        since = None if where.since is None else _ns(where.since)
        until = None if where.until is None else _ns(where.until)
        arguments = {
            "since": since,
            "until": until,
            "app": where.app,
            "release": where.release,
            "status": where.status,
            "min_ms": where.min_duration_ms,
            "before_ns": before_ns,
            "before_id": before_id,
            "limit": where.limit,
        }
        roots: list[tuple[Any, ...]] = []  # Any: a row of unlike columns
        for day in _segments.days(self._root / tenant_folder(tenant)):
            if before_ns is not None and day > _segments.day_of(before_ns):
                continue
            roots += self._query(tenant, _queries.ROOTS, arguments, since=since, until=until, only=day)
            if len(roots) >= where.limit:
                break
        roots = roots[: where.limit]
        if not roots:
            return []
        # Children start after their root, at most a day later.
        first, last = min(row[2] for row in roots), max(row[2] for row in roots) + 86_400 * 10**9
        ids = {"ids": [row[0] for row in roots]}
        counts = dict(self._query(tenant, _queries.COUNTS, ids, since=first - 3600 * 10**9, until=last))
        return [TraceRow._make((*row, counts.get(row[0], 1), f"{row[2]}:{row[0]}")) for row in roots]

    # Any: rows and parameters of unlike columns.
    def _query(
        self,
        tenant: TenantId,
        query: str,
        parameters: dict[str, Any],
        *,
        since: int | None = None,
        until: int | None = None,
        only: date | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run `query` over the tenant's segments that overlap [since, until]."""
        for left in reversed(range(_READ_TRIES)):
            files = self._files(tenant, since, until, only)
            if not files:
                return []
            import duckdb

            try:
                with self._cursor() as cursor:
                    return _run(cursor, partial(_queries.over, query), parameters, files).fetchall()
            except duckdb.IOException as error:
                # A segment may have been merged or retired since it was listed: list again.
                if left == 0:
                    raise Unavailable("the spans cannot be read", hint="check the disk") from error
        raise AssertionError("unreachable")

    def _files(self, tenant: TenantId, since: int | None, until: int | None, only: date | None) -> list[Path]:
        folder = self._root / tenant_folder(tenant)
        return [
            segment.path
            for day in ([only] if only is not None else _segments.days(folder))
            for segment in _segments.live(folder / day.isoformat())
            if (since is None or segment.last_ns >= since) and (until is None or segment.first_ns <= until)
        ]

    def _is_untidy(self) -> bool:
        oldest = (self._clock() - timedelta(days=self._retention_days)).date()
        if not self._root.is_dir():
            return False
        for folder in [f for f in self._root.iterdir() if f.is_dir()]:
            for day in _segments.days(folder):
                path = folder / day.isoformat()
                if day < oldest or _segments.small(path) or any(path.glob("*.replaces")):
                    return True
        return False

    def _compact(self) -> int:
        gone = 0
        oldest = (self._clock() - timedelta(days=self._retention_days)).date()
        with _segments.exclusive(self._root) as mine:
            if not mine:
                return 0
            for folder in [f for f in self._root.iterdir() if f.is_dir()]:
                for day in _segments.days(folder):
                    day_folder = folder / day.isoformat()
                    if day < oldest:
                        for path in list(day_folder.iterdir()):
                            path.unlink(missing_ok=True)
                            gone += path.suffix in {_segments.MERGED, _segments.WRITTEN}
                        with suppress(OSError):  # a late span may just have been written there
                            day_folder.rmdir()
                    else:
                        gone += _segments.retire(day_folder)
                        self._merge(day_folder)
        return gone

    def _merge(self, folder: Path) -> None:
        small = _segments.small(folder)
        if not small:
            return
        draft = _segments.new_draft(folder, _segments.MERGED)
        try:
            with self._cursor() as cursor:
                files = [segment.path for segment in small]
                _run(cursor, lambda **kinds: _queries.merge_to(draft, **kinds), {}, files)
            _segments.commit_merged(draft, folder, small)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


# Any: parameters of unlike columns.
def _run(
    cursor: duckdb.DuckDBPyConnection, query: Callable[..., str], parameters: dict[str, Any], files: Sequence[Path]
) -> duckdb.DuckDBPyConnection:
    merged = [str(path) for path in files if path.suffix == _segments.MERGED]
    written = [str(path) for path in files if path.suffix == _segments.WRITTEN]
    lists = {name: paths for name, paths in (("merged", merged), ("written", written)) if paths}
    return cursor.execute(query(merged=bool(merged), written=bool(written)), {**parameters, **lists})


def _row(span: Span) -> bytes | None:
    """One span as a line of JSON; None when it has no stored form (lone surrogates, numbers past 64 bits)."""
    values = span.attributes
    try:
        line = _encode(
            {
                "trace_id": span.trace_id,
                "span_id": span.span_id,
                "parent_id": span.parent_id,
                "name": span.name,
                "start_ns": span.start_ns,
                "end_ns": span.end_ns,
                "status": span.status,
                "error": span.error,
                "app": _text(values.get("interlock.app")),
                "release": _text(values.get("interlock.release")),
                "model": _text(values.get("gen_ai.response.model")),
                "cost_nano": _whole(values.get("interlock.cost.nano_usd")),
                "input_tokens": _whole(values.get("gen_ai.usage.input_tokens")) or 0,
                "output_tokens": _whole(values.get("gen_ai.usage.output_tokens")) or 0,
                "attributes": values,
            }
        )
    except (UnicodeError, OverflowError, TypeError, ValueError, msgspec.MsgspecError):
        return None
    return line if len(line) < _LINE_BYTES else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64
    return int(value) if fits and isinstance(value, int) else None


# Any: a row of unlike columns.
def _span(tenant: TenantId, row: tuple[Any, ...]) -> Span:
    trace_id, span_id, parent_id, name, start_ns, end_ns, status, error, attributes = row
    parent = None if parent_id is None else SpanId(parent_id)
    values = msgspec.json.decode(attributes)
    return Span(TraceId(trace_id), SpanId(span_id), parent, tenant, name, start_ns, end_ns, status, error, values)


def _ns(moment: datetime) -> int:
    # Whole microseconds: a float of seconds is exact to a quarter of a microsecond only.
    since_epoch = moment - datetime.fromtimestamp(0, tz=moment.tzinfo)
    return (since_epoch // timedelta(microseconds=1)) * 1000


def _cursor_position(before: str | None) -> tuple[int | None, str]:
    if before is None:
        return None, ""
    start, _, trace_id = before.partition(":")
    try:
        return int(start), trace_id
    except ValueError as error:
        raise InvalidInput("not a cursor of this list", param="before") from error
