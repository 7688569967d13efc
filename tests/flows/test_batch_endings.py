"""How a batch ends when it does not simply finish: window closed, key revoked, budget used up, owner gone."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from interlock.app import open_app
from interlock.core.clock import now
from interlock.core.context import Context, EndUser, Principal
from interlock.core.errors import NotFound
from interlock.core.ids import PrincipalId
from interlock.flows.batch import create_batch, requeue_lost
from interlock.stores.jobs.sql import jobs
from interlock.testing.workspaces import write_workspace
from interlock.worker.loop import limits_of, work_batches

PRICES = {"scripted/*": {"input_per_million": "1", "output_per_million": "2"}}


def workspace(folder, **cost):
    providers = {"scripted": {"kind": "scripted"}}
    settings = {"gateway": {"providers": providers}, "cost": {"prices": PRICES, **cost}}
    return write_workspace(folder / "w", settings=settings)


def content(count, model="scripted"):
    lines = [
        {
            "custom_id": f"line-{number}",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": "hi"}]},
        }
        for number in range(count)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


async def made(app, ctx, count=4):
    file = await app.parts.kept.keep_file(ctx, name="in.jsonl", purpose="batch", data=content(count))
    return await create_batch(
        app.parts, ctx, limits_of(app), endpoint="/v1/chat/completions", input_file=file.id, metadata={"team": "x"}
    )


async def rows(app, ctx, file):
    return [json.loads(row) for row in (await app.parts.kept.file_content(ctx, file)).splitlines()]


async def test_lines_not_begun_when_the_window_closes_expire(tmp_path):
    async with open_app(workspace(tmp_path)) as app:
        ctx = app.owner()
        batch = await made(app, ctx)
        await app.parts.kept.update_batch(batch, ends_at=now() - timedelta(seconds=1))
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, batch.id)
        assert (ended.state, ended.completed, ended.output_file) == ("expired", 0, None)
        assert {row["error"]["code"] for row in await rows(app, ctx, ended.error_file)} == {"batch_expired"}


async def test_a_batch_of_a_revoked_key_does_not_run(tmp_path):
    async with open_app(workspace(tmp_path)) as app:
        key = (await app.parts.access.create_key(app.owner(), name="k", roles=[], days=None)).key
        ctx = Context(app.owner().tenant, Principal(PrincipalId(key.id), "service", frozenset(), key.id))
        batch = await made(app, ctx)
        await app.parts.access.revoke_key(app.owner(), key.id)
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, batch.id)
        assert (ended.state, ended.errors[0]["code"]) == ("failed", "invalid_api_key")
        assert await app.parts.cost.ledger(app.owner()) == []


async def test_lines_run_as_their_maker_with_the_labels_of_the_batch(tmp_path):
    async with open_app(workspace(tmp_path)) as app:
        ctx = app.owner().on_behalf_of(EndUser("fay", frozenset({"finance"})))
        batch = await made(app, ctx)
        await work_batches(app, until_idle=True)
        assert (await app.parts.kept.batch(ctx, batch.id)).state == "completed"
        ledger = await app.parts.cost.ledger(app.owner())
        assert len(ledger) == 4
        assert {(row.end_user[:5], row.tags["team"]) for row in ledger} == {("user:", "x")}
        assert len({row.end_user for row in ledger}) == 1
        assert len({row.trace_id for row in ledger}) == 4


async def test_a_budget_holds_for_a_batch(tmp_path):
    limit = {"name": "little", "money": "0.000000001", "period": "day"}
    async with open_app(workspace(tmp_path, limits=[limit])) as app:
        ctx = app.owner()
        batch = await made(app, ctx)
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, batch.id)
        assert (ended.completed, ended.failed) == (0, 4)
        refused = await rows(app, ctx, ended.error_file)
        assert {row["response"]["body"]["error"]["code"] for row in refused} == {"insufficient_quota"}
        assert {row["response"]["status_code"] for row in refused} == {429}


async def test_what_a_person_kept_is_gone_when_they_are_forgotten(tmp_path):
    async with open_app(workspace(tmp_path)) as app:
        ctx = app.owner().on_behalf_of(EndUser("fay"))
        batch = await made(app, ctx)
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, batch.id)
        assert await app.parts.kept.forget(ctx.tenant, "fay") == 3
        for gone in (app.parts.kept.batch(ctx, batch.id), app.parts.kept.file(ctx, ended.output_file)):
            with pytest.raises(NotFound):
                await gone
        assert [digest async for digest in app.blobs.list(ctx.tenant)] == []


async def test_what_is_past_its_age_is_removed_and_a_lost_batch_is_queued(tmp_path):
    async with open_app(workspace(tmp_path)) as app:
        ctx = app.owner()
        lost = await made(app, ctx)
        await app.parts.kept.update_batch(lost, job=f"@{ctx.tenant}", created_at=now() - timedelta(minutes=2))
        assert await requeue_lost(app.parts, limits_of(app)) == 1
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, lost.id)
        assert ended.state == "completed"
        assert await app.parts.kept.tidy() == 0
        await app.parts.kept.update_batch(ended, expires_at=now() - timedelta(seconds=1))
        assert await app.parts.kept.tidy() == 1


async def broken_off(app, ctx, batch, after):
    """Run a batch by a worker that dies: when `after` says so, all that it does ends at once."""
    worker = asyncio.ensure_future(work_batches(app, until_idle=True))
    while not await after():
        await asyncio.sleep(0.02)
    worker.cancel()
    await asyncio.wait([worker])
    (job,) = await app.parts.jobs.list(ctx.tenant)
    # Its lease would run out by itself.
    await app.sql.write(lambda conn: conn.execute(sa.update(jobs).values(lease_until=now() - timedelta(seconds=1))))
    return job


def slow(folder, **more):
    script = [{"reply": "You said: {question}", "first_delay_s": 0.0, "chunk_delay_s": 0.1, "chunk_chars": 2, **more}]
    providers = {"scripted": {"kind": "scripted", "script": script}}
    settings = {"gateway": {"providers": providers, "batch_concurrency": 2}, "cost": {"prices": PRICES}}
    return write_workspace(folder / "w", settings=settings)


async def test_a_line_whose_answer_was_lost_is_asked_again_and_says_what_it_cost(tmp_path):
    async with open_app(slow(tmp_path)) as app:
        ctx = app.owner()
        batch = await made(app, ctx, 2)

        async def begun():
            return len(await app.parts.kept.asks(batch)) == 2

        await broken_off(app, ctx, batch, begun)
        await app.parts.cost.flush()
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, batch.id)
        assert (ended.state, ended.completed) == ("completed", 2)
        found = await rows(app, ctx, ended.output_file)
        ledger = await app.parts.cost.ledger(ctx)
        lost = [each for row in found for each in row.get("interlock", {"lost": []})["lost"]]
        assert len(ledger) == 2 + len(lost)
        assert {each["trace_id"] for each in lost} <= {row.trace_id for row in ledger}
        assert await app.parts.kept.asks(batch) == {}


async def test_a_line_that_kills_each_worker_is_given_up(tmp_path):
    async with open_app(slow(tmp_path)) as app:
        ctx = app.owner()
        batch = await made(app, ctx, 1)
        for times in (1, 2, 3):

            async def begun(times=times):
                return len((await app.parts.kept.asks(batch)).get(1, ())) == times

            await broken_off(app, ctx, batch, begun)
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, batch.id)
        assert (ended.state, ended.failed) == ("completed", 1)
        (row,) = await rows(app, ctx, ended.error_file)
        assert row["response"]["body"]["error"]["code"] == "line_lost"


async def test_a_response_that_was_stored_and_not_written_is_not_asked_for_again(tmp_path, monkeypatch):
    async with open_app(workspace(tmp_path)) as app:
        ctx = app.owner()
        line = {"custom_id": "a", "url": "/v1/responses", "body": {"model": "scripted", "input": "hi"}}
        file = await app.parts.kept.keep_file(ctx, name="in", purpose="batch", data=(json.dumps(line) + "\n").encode())
        batch = await create_batch(app.parts, ctx, limits_of(app), endpoint="/v1/responses", input_file=file.id)
        dying = asyncio.Event()

        async def never(*_):
            dying.set()
            await asyncio.sleep(60)

        with monkeypatch.context() as patched:
            # The process dies between the two: the response is stored, the line's row is not.
            patched.setattr(type(app.parts.kept), "keep_line", never)

            async def stored():
                return dying.is_set()

            await broken_off(app, ctx, batch, stored)
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, batch.id)
        (row,) = await rows(app, ctx, ended.output_file)
        assert row["response"]["body"]["output"][0]["content"][0]["text"] == "ok"
        assert len(await app.parts.cost.ledger(ctx)) == 1
