"""Contexts of passages through the gateway: billed, within a budget, written once."""

from __future__ import annotations

import pytest
import yaml

from interlock.app import open_app
from interlock.flows.ingest import KIND, enqueue_ingest, run_ingest
from interlock.testing.workspaces import write_workspace

PRICES = {"scripted/*": {"input_per_million": "1", "output_per_million": "2"}}


@pytest.fixture
async def made(tmp_path, models_dir):
    async def ingest(app):
        job = await enqueue_ingest(app.parts, app.owner(), "docs")
        claimed = await app.parts.jobs.claim("test", [KIND], lease_s=60, job=job.id)
        return await run_ingest(app.parts, app.owner(), claimed, app.source_spec("docs"))

    def workspace(script, budget_usd):
        providers = {"scripted": {"kind": "scripted", "script": script}}
        folder = write_workspace(
            tmp_path / "w",
            settings={
                "models_dir": str(models_dir),
                "gateway": {"providers": providers},
                "cost": {"prices": PRICES},
            },
            documents={f"{n}.md": f"# Bird {n}\n\nThe bird of hall {n} sings.\n" for n in range(3)},
        )
        context = {"model": "scripted/m", "budget_usd": budget_usd}
        spec = {
            "collection": "docs",
            "sources": [{"path": "../documents"}],
            "permissions": [{"match": "**", "readers": ["public"]}],
            "cleaning": {"context": context},
        }
        (folder / "knowledge" / "docs.yaml").write_text(yaml.safe_dump(spec))
        return folder

    return workspace, ingest


async def test_contexts_are_searched_and_each_call_is_in_the_ledger_once(made):
    workspace, ingest = made
    async with open_app(workspace([{"reply": "The zeppelin handbook of birds."}], 1.0)) as app:
        report = await ingest(app)
        assert (report.added, report.without_context) == (3, 0)
        found = await app.parts.knowledge.search(app.owner(), "zeppelin", collection="docs", mode="lexical")
        assert len(found) == 3
        assert all("zeppelin" not in passage.text for passage in found)
        assert len(await app.parts.cost.ledger(app.owner())) == 3
        assert (await ingest(app)).unchanged == 3
        assert len(await app.parts.cost.ledger(app.owner())) == 3


async def test_a_run_stops_at_its_budget_and_the_next_one_goes_on(made):
    workspace, ingest = made
    async with open_app(workspace([{"reply": "The zeppelin handbook of birds."}], 0.000001)) as app:
        assert (await ingest(app)).without_context == 2
        assert len(await app.parts.cost.ledger(app.owner())) == 1
        assert (await ingest(app)).without_context == 1
        assert (await ingest(app)).without_context == 0
        assert len(await app.parts.cost.ledger(app.owner())) == 3


async def test_a_model_that_is_away_costs_the_contexts_and_not_the_run(made):
    workspace, ingest = made
    async with open_app(workspace([{"fail_status": 503}], 1.0)) as app:
        report = await ingest(app)
        assert (report.added, report.failed, report.without_context) == (3, (), 3)
        assert await app.parts.knowledge.search(app.owner(), "bird", collection="docs", mode="lexical")
