"""Half-price lanes on PostgreSQL."""

from __future__ import annotations

import pytest

import interlock.testing.postgres
from interlock.app import open_app
from interlock.core.context import EndUser
from interlock.flows.batch import clean_up
from interlock.testing.postgres import fresh_database
from interlock.testing.workspaces import write_workspace

from .batch_provider import answered, running, undone
from .test_batch_lanes import ONE, PRICES, ended, line, made, rows, used

postgres_server = interlock.testing.postgres.postgres_server
pytestmark = pytest.mark.postgres


async def test_lines_are_reserved_settled_and_cleaned_up_on_postgresql(tmp_path, postgres_server):
    limit = {"name": "all", "tokens": 100_000, "period": "day"}
    with running() as provider:
        settings = {
            "stores": {"sql": fresh_database(postgres_server)},
            "gateway": {"providers": {"openai": {"kind": "openai", "base_url": provider.url}}, "batch_poll_s": 0.05},
            "cost": {"prices": PRICES, "limits": [limit]},
        }
        async with open_app(write_workspace(tmp_path / "w", settings=settings)) as app:
            assert app.sql.dialect == "postgresql"
            provider.work = lambda given: ([answered(given[0]), answered(given[0])], [undone(given[1])])
            batch = await ended(app, await made(app, [line(1), line(2)]))
            assert (batch.state, batch.completed, len(await rows(app, batch.output_file))) == ("completed", 2, 2)
            ledger = await app.parts.cost.ledger(app.owner())
            assert sorted(row.cost.nano for row in ledger) == [ONE // 2, ONE]
            assert await used(app, "all") == 30
            provider.automatic = False
            ctx = app.owner().on_behalf_of(EndUser("fay"))
            await ended(app, await made(app, [line(3)], ctx=ctx), until=lambda b: (b.lanes or {}).get("sorted"))
            assert await used(app, "all") > 30
            await app.parts.kept.forget(ctx.tenant, "fay")
            assert await clean_up(app.parts, app.owner(), ctx.tenant) == 1
            assert (await used(app, "all"), provider.files) == (30, {})
