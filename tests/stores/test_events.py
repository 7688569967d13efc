"""Spans in Parquet segments."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from interlock.core.ids import TenantId
from interlock.stores.events import _segments
from interlock.stores.events.base import Events, TraceFilter
from interlock.stores.events.parquet import ParquetEvents
from interlock.testing.stores import EventsSuite
from interlock.testing.stores.events import NOON, A, make_span


def _open(root: Path, **options: object) -> ParquetEvents:
    return ParquetEvents(root, clock=lambda: NOON, **options)  # type: ignore[arg-type]


@pytest.fixture
async def parquet(tmp_path: Path) -> AsyncIterator[ParquetEvents]:
    events = _open(tmp_path / "it's events")
    yield events
    await events.close()


class TestParquet(EventsSuite):
    @pytest.fixture
    def events(self, parquet: ParquetEvents) -> Events:
        return parquet


async def _count(events: Events) -> int:
    return len(await events.traces(A, TraceFilter(limit=10_000)))


async def test_spans_arrive_without_flush_and_are_read_by_another_process(tmp_path: Path) -> None:
    writer, reader = _open(tmp_path, flush_every_s=0.05), _open(tmp_path)
    writer.emit(make_span(A))
    for _ in range(100):
        if await _count(reader):
            break
        await asyncio.sleep(0.05)
    assert await _count(reader) == 1
    await writer.close()
    await reader.close()


async def test_a_full_buffer_drops_and_counts(tmp_path: Path) -> None:
    events = _open(tmp_path, capacity=10, flush_every_s=60, flush_rows=1000)
    for _ in range(25):
        events.emit(make_span(A))
    assert events.dropped >= 14  # the flusher may have taken the first
    await events.close()
    events.emit(make_span(A))
    again = _open(tmp_path)
    assert await _count(again) + events.dropped == 26
    await again.close()


async def test_a_disk_that_cannot_be_written_is_counted_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    events = _open(tmp_path / "file")
    events.emit(make_span(A))
    await events.flush()
    assert events.dropped == 1
    await events.close()


def _files(root: Path, kind: str) -> list[Path]:
    return list(root.rglob(f"*.{kind}"))


def _segment_files(root: Path) -> list[Path]:
    return [*_files(root, "jsonl"), *_files(root, "parquet")]


def _age(root: Path, seconds: float) -> None:
    then = time.time() - seconds
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


async def _many(root: Path, n: int = 20) -> ParquetEvents:
    events = _open(root)
    for i in range(n):
        events.emit(make_span(A, i))
        await events.flush()
    return events


async def test_merged_parts_are_deleted_after_the_grace_and_nothing_changes_for_readers(tmp_path: Path) -> None:
    events = await _many(tmp_path)
    assert await events.compact() == 0  # merged, nothing deleted yet
    parts = _segment_files(tmp_path)
    assert len(parts) == 21
    assert await _count(events) == 20
    _age(tmp_path, _segments.GRACE_S * 3)
    assert await events.compact() == 20
    assert len(_segment_files(tmp_path)) == 1
    assert await _count(events) == 20
    _age(tmp_path, _segments.GRACE_S * 3)
    await events.compact()
    assert _files(tmp_path, "replaces") == []
    assert await _count(events) == 20
    await events.close()


async def test_a_merge_that_dies_before_or_after_its_moment_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = await _many(tmp_path)
    publish = _segments._publish

    class Killed(BaseException):
        pass

    def die_at(n: int, *, after: bool) -> None:
        calls = 0

        def dying(draft: Path, path: Path) -> None:
            nonlocal calls
            calls += 1
            if calls == n and not after:
                raise Killed
            publish(draft, path)
            if calls == n:
                raise Killed

        monkeypatch.setattr(_segments, "_publish", dying)

    for n, after in ((1, False), (1, True), (2, False), (2, True)):
        die_at(n, after=after)
        with pytest.raises(Killed):
            await events.compact()
        monkeypatch.setattr(_segments, "_publish", publish)
        assert await _count(events) == 20, (n, after)
    _age(tmp_path, 7200)
    for _ in range(3):
        await events.compact()
        assert await _count(events) == 20
        _age(tmp_path, 7200)
    assert len(_segment_files(tmp_path)) == 1
    await events.close()


async def test_readers_lose_nothing_while_others_write_and_compact(tmp_path: Path) -> None:
    events, compacter = await _many(tmp_path, 10), _open(tmp_path)
    for i in range(10):
        reads = [asyncio.create_task(_count(events)) for _ in range(3)]
        await compacter.compact()
        assert set(await asyncio.gather(*reads)) == {10 + i}
        events.emit(make_span(A, 100 + i))
        await events.flush()
    await events.close()
    await compacter.close()


async def test_retention_drops_whole_days(tmp_path: Path) -> None:
    def later() -> datetime:
        return NOON + timedelta(days=40)

    events = ParquetEvents(tmp_path, retention_days=30, clock=later)
    for days_before in (0, 9, 10, 20):
        events.emit(make_span(A, 86_400 * days_before))
    await events.flush()
    assert await events.compact() == 2
    assert await _count(events) == 2
    await events.close()


async def test_a_server_has_its_spans_merged_by_another_process(tmp_path: Path) -> None:
    events = await _many(tmp_path, 7)
    await events.tidy()
    assert _files(tmp_path, "parquet") == []  # too few to be worth it
    for i in range(7, 20):
        events.emit(make_span(A, i, ratio=0.1, big=2**62, small=-1e-300, text='"\\ü\n', yes=True))
        await events.flush()
    before = [await events.trace(A, row.trace_id) for row in await events.traces(A, TraceFilter(limit=50))]
    await events.tidy()
    assert len(_files(tmp_path, "parquet")) == 1
    _age(tmp_path, _segments.GRACE_S * 3)
    await events.tidy()
    assert len(_segment_files(tmp_path)) == 1
    after = [await events.trace(A, row.trace_id) for row in await events.traces(A, TraceFilter(limit=50))]
    assert len(after) == 20
    assert after == before
    await events.close()


async def test_one_process_compacts_at_a_time(tmp_path: Path) -> None:
    events = await _many(tmp_path)
    with _segments.exclusive(tmp_path) as mine:
        assert mine
        await events.compact()
        assert len(_segment_files(tmp_path)) == 20
    await events.close()


async def test_an_unknown_tenant_has_nothing_and_makes_no_folder(parquet: ParquetEvents, tmp_path: Path) -> None:
    assert await parquet.traces(TenantId("nobody"), TraceFilter()) == []
    assert await parquet.trace(TenantId("nobody"), "0" * 32) == []
    assert not (tmp_path / "it's events").exists()
