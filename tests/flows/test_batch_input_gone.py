"""A batch whose input file is deleted before it has ended: it ends, says why, and keeps what was answered."""

from __future__ import annotations

from datetime import timedelta

import pytest

from interlock.app import open_app
from interlock.core.clock import now
from interlock.flows.batch import cancel_batch
from interlock.worker.loop import work_batches

from .test_batch_endings import broken_off, made, rows, slow, workspace


async def test_a_batch_whose_input_is_deleted_before_it_begins_fails_and_names_the_file(tmp_path):
    async with open_app(workspace(tmp_path)) as app:
        ctx = app.owner()
        batch = await made(app, ctx)
        await app.parts.kept.delete_file(ctx, batch.input_file)
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, batch.id)
        assert (ended.state, ended.output_file) == ("failed", None)
        (problem,) = ended.errors
        assert problem["code"] == "file_not_found"
        assert problem["param"] == "input_file_id"
        assert batch.input_file in problem["message"]
        (job,) = await app.parts.jobs.list(ctx.tenant)
        assert job.state == "succeeded"


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
async def test_lines_done_keep_their_results_when_the_input_is_deleted(tmp_path, end):
    async with open_app(slow(tmp_path)) as app:
        ctx = app.owner()
        batch = await made(app, ctx, 6)

        async def some():
            return (await app.parts.kept.batch(ctx, batch.id)).completed >= 2

        await broken_off(app, ctx, batch, some)
        done = (await app.parts.kept.batch(ctx, batch.id)).completed
        assert 2 <= done < 6
        await app.parts.kept.delete_file(ctx, batch.input_file)
        if end == "cancelled":
            assert (await cancel_batch(app.parts, ctx, batch.id)).state == "cancelling"
        if end == "expired":
            await app.parts.kept.update_batch(batch, ends_at=now() - timedelta(seconds=1))
        await work_batches(app, until_idle=True)
        ended = await app.parts.kept.batch(ctx, batch.id)
        assert (ended.state, ended.completed, ended.error_file) == (end, done, None)
        assert len(await rows(app, ctx, ended.output_file)) == done
        assert batch.input_file in ended.errors[0]["message"]
        assert await app.parts.kept.lines(batch) == []
