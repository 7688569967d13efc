"""Lines of a batch in a provider's own batch API: priced, reserved, written once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json

from interlock.app import open_app
from interlock.flows.batch import create_batch
from interlock.testing.workspaces import write_workspace
from interlock.worker.loop import limits_of, work_batches

from .batch_provider import running

PRICES = {"openai/*": {"input_per_million": "10", "output_per_million": "20"}}
ONE = 10 * 10_000 + 5 * 20_000
"""Nano-dollars of one answer at the ordinary price."""


def workspace(folder, provider, *, cost=None, routes=None, apps=None, entry=None, **gateway):
    providers = {
        "openai": {"kind": "openai", "base_url": provider.url, **(entry or {})},
        "scripted": {"kind": "scripted"},
    }
    settings = {
        "gateway": {"providers": providers, "routes": routes or {}, "batch_poll_s": 0.05, **gateway},
        "cost": {"prices": PRICES, **(cost or {})},
    }
    return write_workspace(folder / "w", settings=settings, apps=apps)


def line(number, text="hi", model="openai/gpt-test", **body):
    content = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 50, **body}
    return {"custom_id": f"line-{number}", "url": "/v1/chat/completions", "body": content}


async def made(app, lines, *, ctx=None, **options):
    ctx = ctx or app.owner()
    data = "".join(json.dumps(row) + "\n" for row in lines).encode()
    file = await app.parts.kept.keep_file(ctx, name="in.jsonl", purpose="batch", data=data)
    endpoint = options.pop("endpoint", "/v1/chat/completions")
    return await create_batch(app.parts, ctx, limits_of(app), endpoint=endpoint, input_file=file.id, **options)


async def ended(app, batch, *, until=None, seconds=30):
    """Work on a batch until it has ended, or until something is so."""
    worker = asyncio.ensure_future(work_batches(app))
    try:
        async with asyncio.timeout(seconds):
            while True:
                batch = await app.parts.kept.batch_of_job(batch.tenant, batch.id)
                if not batch.is_open or (until is not None and until(batch)):
                    return batch
                await asyncio.sleep(0.02)
    finally:
        worker.cancel()
        await asyncio.wait([worker])


async def rows(app, file, ctx=None):
    if file is None:
        return {}
    data = await app.parts.kept.file_content(ctx or app.owner(), file)
    found = [json.loads(row) for row in data.splitlines()]
    assert len({row["custom_id"] for row in found}) == len(found)
    return {row["custom_id"]: row for row in found}


def content(row):
    return row["response"]["body"]["choices"][0]["message"]["content"]


async def used(app, rule):
    await app.parts.cost.admission.tidy(all_of_it=True)
    found = await app.parts.cost.admission.use(app.owner().tenant)
    return next((use.used for use in found if use.rule.name == rule), 0)


async def test_lines_go_to_the_providers_batch_api_at_half_the_price(tmp_path):
    with running() as provider:
        async with open_app(workspace(tmp_path, provider)) as app:
            batch = await ended(app, await made(app, [line(n, f"text {n}") for n in range(5)], metadata={"team": "x"}))
            assert (batch.state, batch.completed, batch.failed) == ("completed", 5, 0)
            found = await rows(app, batch.output_file)
            assert {name: content(row) for name, row in found.items()} == {
                f"line-{n}": f"Echo: text {n}" for n in range(5)
            }
            ledger = await app.parts.cost.ledger(app.owner())
        assert [row.cost.nano for row in ledger] == [ONE // 2] * 5
        assert {row.price for row in ledger} == {"override:openai/* batch -50%"}
        assert {(row.provider, row.model, row.outcome, row.tags["team"]) for row in ledger} == {
            ("openai", "gpt-test", "ok", "x")
        }
        assert len({row.trace_id for row in ledger}) == 5
        assert provider.calls == []
        assert provider.files == {}, "what was uploaded and what was answered is removed there"
        sent = provider.only()
        assert sent["metadata"]["interlock_lane"].startswith("lane-")
        (part,) = batch.lanes["parts"]
        assert part == {
            "lane": "half-price",
            "provider": "openai",
            "model": "gpt-test",
            "lines": 5,
            "state": "closed",
            "reason": "",
            "provider_batch": sent["id"],
        }
