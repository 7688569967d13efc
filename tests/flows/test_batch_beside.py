"""Batches beside each other: none waits for another's limits, owners take turns, the bound on lines holds for all."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from interlock.app import open_app
from interlock.core.clock import now
from interlock.core.context import EndUser
from interlock.flows.batch import cancel_batch, create_batch
from interlock.stores.jobs.sql import jobs
from interlock.testing.upstream import Reply, fake_upstream, sse
from interlock.testing.workspaces import write_workspace
from interlock.worker.loop import limits_of, work_batches

PRICES = {"*": {"input_per_million": "1", "output_per_million": "2"}}


def workspace(folder, *, lines=4, busy_url=None, **script):
    providers = {"scripted": {"kind": "scripted", "script": [{"reply": "ok", **script}]}}
    if busy_url is not None:
        providers["busy"] = {"kind": "openai", "base_url": busy_url, "batch": "never"}
    settings = {"gateway": {"providers": providers, "batch_concurrency": lines}, "cost": {"prices": PRICES}}
    return write_workspace(folder / "w", settings=settings)


@asynccontextmanager
async def busy(status=429):
    """A provider that asks everybody to come back in an hour."""
    refusal = json.dumps({"error": {"message": "slow down", "type": "rate_limit", "code": "rate_limit_exceeded"}})
    async with fake_upstream() as upstream:
        headers = {"retry-after": "3600", "content-type": "application/json"}
        upstream.will(Reply([refusal.encode()], status=status, headers=headers))
        yield upstream


async def made(app, who, models):
    ctx = app.owner().on_behalf_of(EndUser(who))
    lines = [
        {
            "custom_id": str(number),
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": "hi"}]},
        }
        for number, model in enumerate(models)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = await app.parts.kept.keep_file(ctx, name="in.jsonl", purpose="batch", data=data)
    return await create_batch(app.parts, ctx, limits_of(app), endpoint="/v1/chat/completions", input_file=file.id)


async def fresh(app, batch):
    return await app.parts.kept.batch_of_job(batch.tenant, batch.id)


@asynccontextmanager
async def working(app, workers=1):
    tasks = [asyncio.ensure_future(work_batches(app)) for _ in range(workers)]
    try:
        async with asyncio.timeout(60):
            yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(condition):
    while not await condition():
        await asyncio.sleep(0.02)


async def ended(app, batch):
    async def is_so():
        return not (await fresh(app, batch)).is_open

    await until(is_so)
    return await fresh(app, batch)


async def test_batches_that_wait_for_a_provider_keep_nobody_from_going_on(tmp_path):
    async with busy() as upstream, open_app(workspace(tmp_path, busy_url=upstream.url)) as app:
        waiting = [await made(app, "ada", ["busy/gpt-test"]) for _ in range(6)]
        waiting += [await made(app, f"user-{number}", ["busy/gpt-test"]) for number in range(6)]
        others = [await made(app, who, ["scripted"]) for who in ("ada", "ben")]
        async with working(app):
            for batch in others:
                assert (await ended(app, batch)).completed == 1
        assert {(await fresh(app, batch)).is_open for batch in waiting} == {True}


async def test_a_batch_that_waits_is_cancelled(tmp_path):
    async with busy() as upstream, open_app(workspace(tmp_path, busy_url=upstream.url)) as app:
        batch = await made(app, "ada", ["busy/gpt-test"])

        async def waits():
            (job,) = await app.parts.jobs.list(batch.tenant)
            return job.error_code == "waiting_for_limit"

        async with working(app):
            await until(waits)
            await cancel_batch(app.parts, app.owner().on_behalf_of(EndUser("ada")), batch.id)
            assert (await ended(app, batch)).state == "cancelled"


async def test_lines_of_other_models_go_on_and_a_worker_that_takes_over_heeds_the_wait(tmp_path):
    async with busy() as upstream, open_app(workspace(tmp_path, lines=2, busy_url=upstream.url)) as app:
        batch = await made(app, "ada", ["busy/gpt-test"] * 5 + ["scripted"] * 5)

        async def others_done():
            return (await fresh(app, batch)).completed == 5

        async with working(app):
            await until(others_done)

            async def waits():
                (job,) = await app.parts.jobs.list(batch.tenant)
                return job.state == "queued"

            await until(waits)
        asked = len(upstream.requests)
        assert 1 <= asked <= 2 * (1 + 2), "at most one try of each line under way, with the retries of the gateway"
        # Its time has come to be looked at again, but not the provider's.
        await app.sql.write(lambda conn: conn.execute(sa.update(jobs).values(run_at=now() - timedelta(seconds=1))))
        await work_batches(app, until_idle=True)
        assert len(upstream.requests) == asked
        sent = set(await app.parts.kept.asks(batch))
        assert sent == {6, 7, 8, 9, 10}, "a line that was refused is not taken for lost"


async def test_a_failing_provider_is_asked_again_when_it_said_and_three_times_at_most(tmp_path):
    async with busy(503) as upstream, open_app(workspace(tmp_path, busy_url=upstream.url)) as app:
        batch = await made(app, "ada", ["busy/gpt-test"])
        for times in (1, 2, 3):
            await work_batches(app, until_idle=True)
            (job,) = await app.parts.jobs.list(batch.tenant)
            assert (await fresh(app, batch)).failed == (1 if times == 3 else 0)
            assert job.state == ("succeeded" if times == 3 else "queued")
            # The hour is over.
            over = {
                "run_at": now() - timedelta(seconds=1),
                "checkpoint": {**job.checkpoint, "until": 0.0, "paused": {}},
            }
            await app.sql.write(lambda conn, over=over: conn.execute(sa.update(jobs).values(over)))
        assert (await fresh(app, batch)).state == "completed"


async def test_owners_take_turns_and_the_bound_holds_for_all_batches(tmp_path):
    async with open_app(workspace(tmp_path, lines=1, first_delay_s=0.01)) as app:
        long = await made(app, "ada", ["scripted"] * 200)

        async def begun():
            return (await fresh(app, long)).completed > 0

        async with working(app):
            await until(begun)
            second = await made(app, "ada", ["scripted"] * 2)
            short = [await made(app, who, ["scripted"] * 3) for who in ("ben", "cora")]
            for batch in short:
                assert (await ended(app, batch)).completed == 3
            assert (await fresh(app, long)).completed < 200
            assert (await fresh(app, second)).completed == 0, "batches of one owner go in order of creation"
            assert (await ended(app, second)).completed == 2
            assert (await ended(app, long)).completed == 200
        spans = [row.trace_id for row in await app.parts.cost.ledger(app.owner(), limit=1000)]
        assert len(spans) == len(set(spans)) == 208


async def test_never_more_lines_are_under_way_than_the_setting_says(tmp_path):
    gate = asyncio.Event()
    event = {"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
    async with fake_upstream() as upstream:
        upstream.will(Reply(sse(event, usage, "[DONE]"), gate=gate))
        async with open_app(workspace(tmp_path, lines=3, busy_url=upstream.url)) as app:
            batches = [await made(app, who, ["busy/gpt-test"] * 4) for who in ("ada", "ben", "cora", "dan", "eve")]

            async def all_begun():
                states = {(await fresh(app, batch)).state for batch in batches}
                return states == {"in_progress"} and upstream.open == 3

            async with working(app):
                await until(all_begun)
                assert sum([len(await app.parts.kept.asks(batch)) for batch in batches]) == 3
                gate.set()
                while not all([not (await fresh(app, batch)).is_open for batch in batches]):
                    assert upstream.open <= 3
            assert {(await fresh(app, batch)).completed for batch in batches} == {4}
        assert len(upstream.requests) == 20


async def test_many_batches_of_one_owner_keep_no_other_out_and_can_be_cancelled_meanwhile(tmp_path):
    async with open_app(workspace(tmp_path, lines=2, first_delay_s=0.02)) as app:
        many = [await made(app, "ada", ["scripted"] * 2000) for _ in range(40)]
        other = await made(app, "ben", ["scripted"] * 4)
        async with working(app):
            assert (await ended(app, other)).completed == 4
            states = [(await fresh(app, batch)).state for batch in many]
            assert states.count("in_progress") <= 4
            last = await cancel_batch(app.parts, app.owner().on_behalf_of(EndUser("ada")), many[-1].id)
            assert (await ended(app, last)).state == "cancelled"
            assert (await fresh(app, many[0])).is_open


@pytest.mark.parametrize("workers", [1, 2])
async def test_every_line_is_asked_once_however_many_workers(tmp_path, workers):
    async with open_app(workspace(tmp_path, first_delay_s=0.005)) as app:
        batches = [await made(app, f"user-{number % 3}", ["scripted"] * 10) for number in range(9)]
        async with working(app, workers):
            for batch in batches:
                assert (await ended(app, batch)).completed == 10
        assert len(await app.parts.cost.ledger(app.owner(), limit=1000)) == 90


async def test_the_leases_of_all_batches_under_way_are_renewed(tmp_path):
    async with open_app(workspace(tmp_path, lines=1, first_delay_s=600.0)) as app:
        batches = [await made(app, who, ["scripted"]) for who in ("ada", "ben", "cora")]

        async def leases():
            return {job.id: job.lease_until for job in await app.parts.jobs.list(batches[0].tenant)}

        async def all_claimed():
            return all((await leases()).values())

        async with working(app):
            await until(all_claimed)
            before = await leases()

            async def all_renewed():
                after = await leases()
                return all(after[job] > before[job] + timedelta(seconds=2) for job in before)

            await until(all_renewed)
            assert {job.attempt for job in await app.parts.jobs.list(batches[0].tenant)} == {1}
