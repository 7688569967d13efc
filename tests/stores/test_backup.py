"""Backup and restore between the databases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from interlock.core.errors import Conflict, InvalidInput, Misconfigured, NotFound
from interlock.core.ids import TenantId
from interlock.stores import backup
from interlock.stores.blob.files import FileBlobs
from interlock.stores.jobs.sql import SqlJobs
from interlock.stores.kv.sql import SqlKv
from interlock.stores.sql import BigId, Json, Sql, UtcDateTime, open_sql
from interlock.testing.postgres import fresh_database

A, B = TenantId("acme"), TenantId("../b")


async def _fill(sql: Sql) -> None:
    await sql.migrate()
    jobs, kv = SqlJobs(sql), SqlKv(sql)
    for i in range(1200):
        await kv.set(A, f"k{i}", bytes([i % 256]) * 3, ttl_s=None if i % 2 else 1000.0)
    await jobs.enqueue(A, "ingest", {"text": "ünï \u2028 \x01", "n": [None, 1.5, {"deep": True}]}, key="once")
    job = await jobs.claim("w", ["ingest"])
    assert job is not None
    await jobs.heartbeat(job, total=7, checkpoint={"at": None})
    await jobs.enqueue(B, "other", {})


async def _contents(sql: Sql) -> dict[str, list[tuple[object, ...]]]:
    def read(connection: sa.Connection) -> dict[str, list[tuple[object, ...]]]:
        found: dict[str, list[tuple[object, ...]]] = {}
        for table in backup._reflected(connection):
            rows = connection.execute(sa.select(table).order_by(*table.primary_key.columns))
            kinds = [backup._kind(column) for column in table.columns]
            found[table.name] = [tuple(backup._encode(k, v) for k, v in zip(kinds, row, strict=True)) for row in rows]
        return found

    return await sql.read(read)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sql]:
    url = f"sqlite:///{tmp_path / 'target.db'}"
    if request.param == "postgresql":
        url = fresh_database(request.getfixturevalue("postgres_server"))
    sql = open_sql(url)
    yield sql
    await sql.close()


async def test_a_dump_is_restored_whole_into_either_database(any_sql: Sql, target: Sql, tmp_path: Path) -> None:
    await _fill(any_sql)
    seen: dict[str, int] = {}
    manifest = await backup.dump(any_sql, tmp_path / "a", seen.__setitem__)
    assert seen["table kv_entries"] == 1200
    assert manifest.tables["jobs"].rows == 2
    await backup.load(target, tmp_path / "a")
    assert await _contents(target) == await _contents(any_sql)
    assert await target.revision() == await any_sql.revision()
    job = (await SqlJobs(target).list(A))[0]
    assert (job.payload, job.checkpoint, job.total) == (
        {"text": "ünï \u2028 \x01", "n": [None, 1.5, {"deep": True}]},
        {"at": None},
        7,
    )
    again = await backup.dump(target, tmp_path / "b")
    assert {n: t.sha256 for n, t in again.tables.items() if n != "jobs"} == {
        n: t.sha256 for n, t in manifest.tables.items() if n != "jobs"
    }


async def test_every_kind_of_column_and_the_counters_survive(any_sql: Sql, target: Sql, tmp_path: Path) -> None:
    metadata = sa.MetaData()
    table = sa.Table(
        "zoo",
        metadata,
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        sa.Column("parent", BigId, sa.ForeignKey("zoo.id")),
        sa.Column("at", UtcDateTime),
        sa.Column("maybe", Json),
        sa.Column("yes", sa.Boolean),
        sa.Column("price", sa.Numeric(20, 6)),
        sa.Column("ratio", sa.Float),
        sa.Column("day", sa.Date),
        sa.Column("raw", sa.LargeBinary),
    )
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    rows = [
        {"parent": None, "at": moment, "maybe": {"a": [1]}, "yes": True, "price": Decimal("1.000001"), "ratio": 0.1},
        {"parent": 1, "at": None, "maybe": sa.null(), "yes": None, "price": None, "ratio": None},
    ]
    for sql in (any_sql, target):
        await sql.migrate()
    await any_sql.write(metadata.create_all)
    for row in rows:
        values = {**row, "day": moment.date(), "raw": b"\x00\xff"}
        await any_sql.write(lambda c, values=values: c.execute(sa.insert(table).values(values)))
    await backup.dump(any_sql, tmp_path / "a")
    # The extra table is of no revision: make it where the restore looks for it.
    manifest = backup.verify(tmp_path / "a")
    await target.write(metadata.create_all)
    await target.write(lambda c: backup._load_tables(c, tmp_path / "a", manifest, backup._quiet))
    assert (await _contents(target))["zoo"] == (await _contents(any_sql))["zoo"]
    nulls = await target.read(lambda c: c.scalar(sa.text("SELECT count(*) FROM zoo WHERE maybe IS NULL")))
    assert nulls == 1
    await target.write(lambda c: c.execute(sa.insert(table).values(yes=False)))
    assert await target.read(lambda c: c.scalar(sa.select(sa.func.max(table.c.id)))) == 3


async def test_a_database_with_rows_is_not_overwritten_unless_told(
    sqlite_sql: Sql, target: Sql, tmp_path: Path
) -> None:
    await _fill(sqlite_sql)
    await backup.dump(sqlite_sql, tmp_path / "a")
    await target.migrate()
    await SqlKv(target).set(B, "precious", b"1")
    with pytest.raises(Conflict):
        await backup.load(target, tmp_path / "a")
    assert await SqlKv(target).get(B, "precious") == b"1"
    await backup.load(target, tmp_path / "a", replace=True)
    assert await SqlKv(target).get(B, "precious") is None
    assert await SqlKv(target).get(A, "k1") == b"\x01\x01\x01"


async def test_a_damaged_or_incomplete_archive_is_refused_and_nothing_is_touched(
    sqlite_sql: Sql, tmp_path: Path
) -> None:
    await _fill(sqlite_sql)
    archive = tmp_path / "a"
    await backup.dump(sqlite_sql, archive)
    before = await _contents(sqlite_sql)
    file, manifest = archive / "tables" / "jobs.jsonl", archive / "manifest.json"
    good, good_manifest = file.read_bytes(), manifest.read_bytes()
    newer = json.loads(good_manifest) | {"revision": "9999_future"}

    def damage() -> list[tuple[Path, bytes | None, type[Exception]]]:
        return [
            (file, good[:-2] + b"x\n", InvalidInput),
            (file, None, InvalidInput),
            (manifest, None, InvalidInput),
            (manifest, b"{}", InvalidInput),
            (manifest, good_manifest.replace(b'"format":1', b'"format":2'), InvalidInput),
            (manifest, good_manifest.replace(b'"jobs":', b'"../jobs":'), InvalidInput),
            (manifest, json.dumps(newer).encode(), Misconfigured),
        ]

    for path, data, error in damage():
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(error):
            await backup.load(sqlite_sql, archive, replace=True)
        file.write_bytes(good)
        manifest.write_bytes(good_manifest)
    assert await _contents(sqlite_sql) == before


async def test_objects_travel_with_their_tenant(sqlite_sql: Sql, target: Sql, tmp_path: Path) -> None:
    await sqlite_sql.migrate()
    source, copy = FileBlobs(tmp_path / "source"), FileBlobs(tmp_path / "copy")
    digest = await source.put(A, b"shared")
    await source.put(B, b"shared")
    only_b = await source.put(B, b"of b")
    manifest = await backup.dump(sqlite_sql, tmp_path / "a", blobs=source, tenants=[A, B])
    assert manifest.blobs == 3
    await backup.load(target, tmp_path / "a", blobs=copy)
    assert await copy.get(A, digest) == b"shared"
    assert await copy.get(B, only_b) == b"of b"
    with pytest.raises(NotFound):
        await copy.get(A, only_b)
    with pytest.raises(InvalidInput):
        await backup.dump(sqlite_sql, tmp_path / "a")
    for blobs in (source, copy):
        await blobs.close()


async def test_an_unmigrated_database_has_nothing_to_dump(sqlite_sql: Sql, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        await backup.dump(sqlite_sql, tmp_path / "a")
