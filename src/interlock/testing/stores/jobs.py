# ruff: noqa: D102 - a test name is a sentence
"""What every `Jobs` must do."""

from __future__ import annotations

import asyncio

import pytest

from interlock.core.errors import Conflict, NotFound
from interlock.core.ids import JobId, TenantId
from interlock.stores.jobs.base import Jobs

__all__ = ["JobsSuite"]

A, B = TenantId("acme"), TenantId("../acme")


class JobsSuite:
    """Needs a fixture ``jobs``: an empty queue. Leases are tested with real waiting, a tenth of a second."""

    async def test_a_job_runs_from_queue_to_result(self, jobs: Jobs) -> None:
        queued = await jobs.enqueue(A, "ingest", {"source": "docs", "n": [1, {"x": None}]})
        assert (queued.state, queued.attempt, queued.checkpoint) == ("queued", 0, {})
        running = await jobs.claim("w1", ["ingest"])
        assert running is not None
        assert (running.id, running.state, running.attempt, running.worker) == (queued.id, "running", 1, "w1")
        assert running.payload == {"source": "docs", "n": [1, {"x": None}]}
        running = await jobs.heartbeat(running, done=3, total=10, message="reading", checkpoint={"page": 3})
        assert (running.done, running.total, running.message, running.checkpoint) == (3, 10, "reading", {"page": 3})
        await jobs.succeed(running, {"passages": 7})
        ended = await jobs.get(A, queued.id)
        assert (ended.state, ended.result, ended.lease_until) == ("succeeded", {"passages": 7}, None)
        assert await jobs.claim("w1", ["ingest"]) is None

    async def test_oldest_first_and_only_the_kinds_asked_for(self, jobs: Jobs) -> None:
        ids = [(await jobs.enqueue(A, "k", {"i": i})).id for i in range(3)]
        await jobs.enqueue(A, "other", {})
        got = [await jobs.claim("w", ["k"]) for _ in range(4)]
        assert [job.id for job in got if job is not None] == ids
        assert got[3] is None

    async def test_a_worker_may_ask_for_one_tenant_or_one_job(self, jobs: Jobs) -> None:
        mine = [await jobs.enqueue(A, "k", {"n": n}) for n in range(2)]
        theirs = await jobs.enqueue(B, "k", {})
        claimed = await jobs.claim("w", ["k"], tenant=B)
        assert claimed is not None
        assert claimed.id == theirs.id
        assert await jobs.claim("w", ["k"], tenant=B) is None
        claimed = await jobs.claim("w", ["k"], job=mine[1].id)
        assert claimed is not None
        assert claimed.id == mine[1].id
        assert await jobs.claim("w", ["k"], job=mine[1].id) is None
        assert await jobs.claim("w", ["k"], besides=[mine[0].id]) is None
        assert await jobs.claim("w", ["k"], besides=[theirs.id]) is not None

    async def test_no_job_is_claimed_twice_by_concurrent_workers(self, jobs: Jobs) -> None:
        ids = {(await jobs.enqueue(A, "k", {})).id for _ in range(20)}
        claimed = await asyncio.gather(*[jobs.claim(f"w{i}", ["k"]) for i in range(30)])
        got = [job.id for job in claimed if job is not None]
        while len(got) < 20 and (job := await jobs.claim("late", ["k"])) is not None:
            got.append(job.id)  # SKIP LOCKED may leave some for the next round
        assert len(got) == len(set(got))
        assert set(got) == ids

    async def test_a_key_gives_back_the_live_job(self, jobs: Jobs) -> None:
        first = await jobs.enqueue(A, "k", {"v": 1}, key="daily")
        assert (await jobs.enqueue(A, "k", {"v": 2}, key="daily")).id == first.id
        assert (await jobs.enqueue(B, "k", {}, key="daily")).id != first.id
        assert (await jobs.enqueue(A, "k2", {}, key="daily")).id != first.id
        await jobs.cancel(A, first.id)
        assert (await jobs.enqueue(A, "k", {}, key="daily")).id != first.id

    async def test_a_caller_who_runs_the_job_has_it_before_any_worker(self, jobs: Jobs) -> None:
        mine = await jobs.enqueue(A, "k", {}, key="x", worker="me", lease_s=60)
        assert (mine.state, mine.worker, mine.attempt) == ("running", "me", 1)
        assert await jobs.claim("other", ["k"]) is None
        again = await jobs.enqueue(A, "k", {}, key="x", worker="somebody", lease_s=60)
        assert (again.id, again.worker) == (mine.id, "me")
        await jobs.succeed(await jobs.heartbeat(mine, done=1), {"ok": True})
        assert (await jobs.get(A, mine.id)).state == "succeeded"
        waiting = await jobs.enqueue(A, "k", {}, key="x")
        assert (await jobs.enqueue(A, "k", {}, key="x", worker="me")).state == "queued"
        lost = await jobs.claim("me", ["k"], lease_s=0.05)
        assert lost is not None
        assert lost.id == waiting.id

    async def test_concurrent_enqueues_of_a_key_make_one_job(self, jobs: Jobs) -> None:
        made = await asyncio.gather(*[jobs.enqueue(A, "k", {}, key="once") for _ in range(10)])
        assert len({job.id for job in made}) == 1

    async def test_a_delayed_job_waits(self, jobs: Jobs) -> None:
        await jobs.enqueue(A, "k", {}, delay_s=0.2)
        assert await jobs.claim("w", ["k"]) is None
        await asyncio.sleep(0.3)
        assert await jobs.claim("w", ["k"]) is not None

    async def test_another_worker_resumes_from_the_checkpoint_and_fences_the_first(self, jobs: Jobs) -> None:
        await jobs.enqueue(A, "k", {})
        lost = await jobs.claim("w1", ["k"], lease_s=30)
        assert lost is not None
        lost = await jobs.heartbeat(lost, lease_s=0.05, checkpoint={"at": 5}, done=5)
        assert await jobs.claim("w2", ["k"]) is None or lost.lease_until is not None
        await asyncio.sleep(0.15)
        heir = await jobs.claim("w2", ["k"], lease_s=30)
        assert heir is not None
        assert (heir.id, heir.attempt, heir.checkpoint, heir.done, heir.worker) == (lost.id, 2, {"at": 5}, 5, "w2")
        for stale in (
            jobs.heartbeat(lost, checkpoint={"at": 1}),
            jobs.succeed(lost, {}),
            jobs.fail(lost, code="x", message="", retry_in_s=0),
            jobs.cancelled(lost),
        ):
            with pytest.raises(Conflict):
                await stale
        assert (await jobs.heartbeat(heir)).checkpoint == {"at": 5}

    async def test_a_worker_with_the_same_name_is_fenced_too(self, jobs: Jobs) -> None:
        await jobs.enqueue(A, "k", {})
        lost = await jobs.claim("w", ["k"], lease_s=0.03)
        await asyncio.sleep(0.1)
        assert await jobs.claim("w", ["k"], lease_s=30) is not None
        assert lost is not None
        with pytest.raises(Conflict):
            await jobs.heartbeat(lost)

    async def test_a_failure_is_retried_until_attempts_run_out(self, jobs: Jobs) -> None:
        made = await jobs.enqueue(A, "k", {}, max_attempts=2)
        job = await jobs.claim("w", ["k"])
        assert job is not None
        await jobs.fail(job, code="provider_error", message="busy", retry_in_s=0.1)
        waiting = await jobs.get(A, made.id)
        assert (waiting.state, waiting.error_code) == ("queued", "provider_error")
        assert await jobs.claim("w", ["k"]) is None
        await asyncio.sleep(0.2)
        job = await jobs.claim("w", ["k"])
        assert job is not None
        assert job.attempt == 2
        await jobs.fail(job, code="provider_error", message="busy", retry_in_s=0.0)
        assert (await jobs.get(A, made.id)).state == "failed"

    async def test_a_failure_without_retry_is_final(self, jobs: Jobs) -> None:
        made = await jobs.enqueue(A, "k", {})
        job = await jobs.claim("w", ["k"])
        assert job is not None
        await jobs.fail(job, code="invalid_request", message="no such source", retry_in_s=None)
        assert (await jobs.get(A, made.id)).state == "failed"

    async def test_a_job_that_kills_its_workers_fails_in_the_end(self, jobs: Jobs) -> None:
        made = await jobs.enqueue(A, "k", {}, max_attempts=2)
        for _ in range(2):
            assert await jobs.claim("w", ["k"], lease_s=0.03) is not None
            await asyncio.sleep(0.1)
        assert await jobs.claim("w", ["k"]) is None
        ended = await jobs.get(A, made.id)
        assert (ended.state, ended.error_code) == ("failed", "worker_lost")

    async def test_cancel_at_once_when_queued_and_on_request_when_running(self, jobs: Jobs) -> None:
        queued = await jobs.enqueue(A, "k", {})
        assert (await jobs.cancel(A, queued.id)).state == "cancelled"
        made = await jobs.enqueue(A, "k", {})
        job = await jobs.claim("w", ["k"])
        assert job is not None
        asked = await jobs.cancel(A, made.id)
        assert (asked.state, asked.cancel_requested) == ("running", True)
        assert (await jobs.heartbeat(job)).cancel_requested is True
        await jobs.cancelled(job)
        assert (await jobs.get(A, made.id)).state == "cancelled"

    async def test_a_tenant_sees_and_touches_its_own_jobs_only(self, jobs: Jobs) -> None:
        made = await jobs.enqueue(A, "k", {})
        await jobs.enqueue(B, "k", {})
        with pytest.raises(NotFound):
            await jobs.get(B, made.id)
        with pytest.raises(NotFound):
            await jobs.cancel(B, made.id)
        with pytest.raises(NotFound):
            await jobs.get(A, JobId("job_none"))
        assert [job.tenant for job in await jobs.list(B)] == [B]

    async def test_list_is_newest_first_and_bounded(self, jobs: Jobs) -> None:
        ids = []
        for i in range(4):
            ids.append((await jobs.enqueue(A, f"k{i % 2}", {})).id)
            await asyncio.sleep(0.002)
        assert [job.id for job in await jobs.list(A)] == ids[::-1]
        assert [job.id for job in await jobs.list(A, kind="k1")] == [ids[3], ids[1]]
        assert [job.id for job in await jobs.list(A, limit=1)] == [ids[3]]
