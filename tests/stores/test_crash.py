"""Nothing that was acknowledged is lost when a process dies by kill -9 in the middle of writing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from interlock.core.ids import TenantId
from interlock.stores.blob.files import FileBlobs
from interlock.stores.events.base import TraceFilter
from interlock.stores.events.parquet import ParquetEvents
from interlock.stores.index.base import IndexScope
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.jobs.sql import SqlJobs
from interlock.stores.sql import open_sql
from interlock.testing.postgres import fresh_database
from interlock.testing.stores.events import NOON
from interlock.testing.stores.index import PUBLIC

T = TenantId("acme")
QUERY = [1.0, 0.0, 0.0, 0.0]


def _killed(kind: str, where: str, acknowledged: int) -> list[str]:
    """Run the writer, kill it after so many acknowledgements, and give all it had printed."""
    script = Path(__file__).with_name("_writer.py")
    child = subprocess.Popen([sys.executable, str(script), kind, where], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(acknowledged)]
    child.kill()
    lines += child.stdout.readlines()
    child.stdout.close()
    child.wait()
    assert child.returncode == -9, "the writer failed by itself"
    return [line.strip() for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def test_rows(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'crash.db'}"
    if kind == "postgresql":
        url = fresh_database(request.getfixturevalue("postgres_server"))
    sql = open_sql(url)
    await sql.write(lambda c: c.exec_driver_sql("CREATE TABLE acks (name TEXT PRIMARY KEY)"))
    for round_ in range(3):
        acks = set(await asyncio.to_thread(_killed, "sql", url, 200 + 37 * round_))
        stored = await sql.read(lambda c: set(c.scalars(sa.text("SELECT name FROM acks"))))
        assert acks <= stored
        await sql.write(lambda c: c.exec_driver_sql("DELETE FROM acks"))
    if kind == "sqlite":
        assert await sql.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
    await sql.close()


async def test_objects(tmp_path: Path) -> None:
    digests = await asyncio.to_thread(_killed, "blob", str(tmp_path), 100)
    blobs = FileBlobs(tmp_path)
    for digest in digests:
        assert await blobs.get(T, digest)
    async for digest in blobs.list(T):
        assert await blobs.get(T, digest)  # nothing listed is half-written either
    await blobs.close()


async def test_spans_after_flush(tmp_path: Path) -> None:
    traces = await asyncio.to_thread(_killed, "events", str(tmp_path), 300)
    events = ParquetEvents(tmp_path, clock=lambda: NOON)
    found = [row.trace_id for row in await events.traces(T, TraceFilter(limit=100_000))]
    assert set(traces) <= set(found)
    assert len(found) == len(set(found))
    await events.close()


async def test_index_rows(tmp_path: Path) -> None:
    documents = await asyncio.to_thread(_killed, "index", str(tmp_path), 60)
    index = SqliteIndex(tmp_path)
    scope = IndexScope(T, "docs", "e4")
    for hits in (
        await index.dense(scope, QUERY, readers=PUBLIC, k=4096),
        await index.lexical(scope, ["alpha"], readers=PUBLIC, k=4096),
    ):
        found = {hit.document_id for hit in hits}
        assert set(documents) <= found
        assert len(hits) == 5 * len(found)  # every document whole, in both legs
    await index.close()


async def test_another_worker_continues_the_job_from_its_last_checkpoint(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    sql = open_sql(url)
    await sql.migrate()
    jobs = SqlJobs(sql)
    await jobs.enqueue(T, "count", {})
    saved = await asyncio.to_thread(_killed, "job", url, 20)
    job = await jobs.claim("heir", ["count"])
    for _ in range(100):
        if job is not None:
            break
        await asyncio.sleep(0.05)
        job = await jobs.claim("heir", ["count"])
    assert job is not None
    at = job.checkpoint["at"]
    assert isinstance(at, int)
    assert at >= int(saved[-1])
    assert (job.attempt, job.done) == (2, at)
    await sql.close()
