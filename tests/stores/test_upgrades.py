"""Databases of earlier versions: what stood in them is read after the upgrade, on both servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from interlock.core.ids import AppName, TenantId
from interlock.evals import review_store
from interlock.releases import store
from interlock.stores.sql import Sql, open_sql
from interlock.testing.postgres import fresh_database

pytestmark = pytest.mark.anyio
TENANT = TenantId("acme")
AT = "2026-10-01 10:00:00.000000"
RELEASE = "sha256:" + "a" * 64


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sql]:
    """A database without a table."""
    url = f"sqlite:///{tmp_path / 'interlock.db'}"
    if request.param == "postgresql":
        url = fresh_database(request.getfixturevalue("postgres_server"))
    sql = open_sql(url)
    yield sql
    await sql.close()


async def put(sql: Sql, table: str, **values: object) -> None:
    """A row as an earlier version wrote it, by the columns of its time."""
    names = ", ".join(values)
    said = sa.text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})")
    await sql.write(lambda conn: conn.execute(said, values))


async def test_releases_channels_and_evidence_of_before_retirement(empty: Sql) -> None:
    await empty.migrate("0015_rollouts")
    components = json.dumps({"route": "sha256:1"})
    await put(
        empty,
        "releases",
        tenant=TENANT,
        app="desk",
        id=RELEASE,
        components=components,
        note="the first",
        created_by="ada",
        created_at=AT,
    )
    moved = {"tenant": TENANT, "app": "desk", "release": RELEASE, "moved_by": "ada", "moved_at": AT}
    await put(empty, "channels", name="prod", **moved)
    await empty.migrate()
    (info,) = await empty.read(lambda conn: store.releases_of(conn, TENANT, AppName("desk"), 10))
    assert (info.note, info.retired, dict(info.components)) == ("the first", None, {"route": "sha256:1"})
    assert info.created_at == datetime(2026, 10, 1, 10, tzinfo=UTC)
    (channel,) = await empty.read(lambda conn: store.channels_of(conn, TENANT, AppName("desk")))
    assert (channel.name, channel.release) == ("prod", RELEASE)


async def test_items_to_review_of_before_they_could_be_assigned_are_for_everybody(empty: Sql) -> None:
    from datetime import timedelta

    await empty.migrate("0018_prompts")
    spec = json.dumps({"queue": "answers", "rubric": "?", "labels": ["bad", "good"]})
    await put(empty, "review_queues", tenant=TENANT, name="answers", spec=spec, created_by="ada", created_at=AT)
    await put(
        empty,
        "review_items",
        tenant=TENANT,
        queue="answers",
        id="i",
        seq=0,
        item=json.dumps({"id": "i", "question": "?", "answer": "!"}),
        wanted=1,
        asker="",
        decided_by="",
        note="",
        added_at=AT,
    )
    await empty.migrate()
    claimed = await empty.write(
        lambda conn: review_store.claim(conn, TENANT, "answers", "bob", held_for=timedelta(minutes=1))
    )
    assert claimed.item is not None and claimed.item.assigned == []
    assert claimed.left == 1
