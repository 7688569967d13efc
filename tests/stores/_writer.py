"""Writes to one store for ever and prints each acknowledged write: `test_crash.py` runs and kills it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import sqlalchemy as sa

from interlock.core.ids import TenantId
from interlock.stores.blob.files import FileBlobs
from interlock.stores.events.parquet import ParquetEvents
from interlock.stores.index.base import IndexScope
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.jobs.sql import SqlJobs
from interlock.stores.sql import open_sql
from interlock.testing.stores.events import make_span
from interlock.testing.stores.index import make_row

T = TenantId("acme")


def acknowledge(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def write_sql(where: str) -> None:
    sql = open_sql(where)

    async def worker(number: int) -> None:
        for i in range(100_000):
            name = f"{number}-{i}"
            await sql.write(lambda c, name=name: c.execute(sa.text("INSERT INTO acks VALUES (:n)"), {"n": name}))
            acknowledge(name)

    await asyncio.gather(*[worker(n) for n in range(8)])


async def write_blob(where: str) -> None:
    blobs = FileBlobs(Path(where))
    for i in range(100_000):
        acknowledge(await blobs.put(T, b"%d" % i * 5000))


async def write_events(where: str) -> None:
    events = ParquetEvents(Path(where), flush_every_s=60)
    for _ in range(100_000):
        spans = [make_span(T) for _ in range(20)]
        for span in spans:
            events.emit(span)
        await events.flush()
        for span in spans:
            acknowledge(span.trace_id)


async def write_index(where: str) -> None:
    index = SqliteIndex(Path(where))
    scope = IndexScope(T, "docs", "e4")
    for i in range(100_000):
        await index.apply(scope, upsert=[make_row(f"{i}-{j}", f"d{i}") for j in range(5)], delete=[])
        acknowledge(f"d{i}")


async def run_job(where: str) -> None:
    jobs = SqlJobs(open_sql(where))
    job = await jobs.claim("doomed", ["count"], lease_s=1.0)
    assert job is not None
    for i in range(100_000):
        job = await jobs.heartbeat(job, lease_s=1.0, checkpoint={"at": i}, done=i)
        acknowledge(i)


if __name__ == "__main__":
    kinds = {"sql": write_sql, "blob": write_blob, "events": write_events, "index": write_index, "job": run_job}
    asyncio.run(kinds[sys.argv[1]](sys.argv[2]))
