"""Batch APIs of Anthropic, Mistral and Google: the same lines, the same promises."""

from __future__ import annotations

import asyncio
import threading

import pytest

from interlock.app import open_app
from interlock.core.clock import now
from interlock.core.ids import ulid
from interlock.flows.batch import cancel_batch, clean_up
from interlock.gateway.kept_lanes import KeptLanes
from interlock.gateway.lanes._files import begun_at
from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

from .batch_provider import Anthropic, Google, Mistral, message, running
from .test_batch_lane_crashes import client_of, expire_leases, submit
from .test_batch_lanes import ONE, content, ended, line, made, rows, used

PRICES = {"half/*": {"input_per_million": "10", "output_per_million": "20"}}
LIMIT = {"name": "all", "tokens": 10_000_000, "period": "day"}


def workspace(folder, provider, kind):
    entry = {"kind": kind, "base_url": provider.url, "key": "env:PATH"}
    settings = {
        "gateway": {"providers": {"half": entry}, "batch_poll_s": 0.05},
        "cost": {"prices": PRICES, "limits": [LIMIT]},
    }
    return write_workspace(folder / "w", settings=settings)


class KeylessGoogle(Google):
    keyed = False


PROVIDERS = [("anthropic", Anthropic), ("mistral", Mistral), ("google", Google)]
STEPS = {
    "anthropic": "POST /v1/messages/batches",
    "mistral": "POST /v1/batch/jobs",
    "google": "POST /v1/models/some-model:batchGenerateContent",
}


@pytest.mark.parametrize(("kind", "make"), [*PROVIDERS, ("google", KeylessGoogle)])
async def test_lines_go_and_come_back(tmp_path, kind, make):
    with running(make()) as provider:
        async with open_app(workspace(tmp_path, provider, kind)) as app:
            lines = [line(n, f"text {n}", "half/some-model") for n in range(3)]
            batch = await ended(app, await made(app, lines))
            found = await rows(app, batch.output_file)
            assert [content(row) for row in found.values()] == [f"Echo: text {n}" for n in range(3)]
            ledger = await app.parts.cost.ledger(app.owner())
            assert [row.cost.nano for row in ledger] == [ONE // 2] * 3
            assert await used(app, "all") == 45
        assert (provider.files, provider.calls) == ({}, [])
        (part,) = batch.lanes["parts"]
        assert (part["provider"], part["model"], part["state"], part["reason"]) == ("half", "some-model", "closed", "")


@pytest.mark.parametrize(("kind", "make"), PROVIDERS)
async def test_kill_9_while_the_batch_is_created_makes_no_second_one(tmp_path, kind, make):
    step = STEPS[kind]
    with running(make()) as provider:
        folder = workspace(tmp_path, provider, kind)
        provider.gates[step] = threading.Event()

        def killed():
            with run_server(folder) as server, client_of(server) as client:
                batch = submit(client, [line(n, f"text {n}", "half/some-model") for n in range(4)])
                assert provider.reached.wait(60)
                server.kill()
                return batch

        batch = await asyncio.to_thread(killed)
        provider.gates.pop(step).set()
        if kind == "anthropic":
            # Others of the account, which are no business of ours: of as many lines, and done.
            foreign = {**provider.only(), "id": "msgbatch_foreign", "rows": [{"custom_id": "x"}] * 4}
            theirs = {"custom_id": "x", "result": {"type": "succeeded", "message": message("theirs")}}
            provider.batches["msgbatch_foreign"] = {**foreign, "status": "ended", "results": [theirs] * 4}
            provider.finish(provider.batches["msgbatch_1"])
        await expire_leases(folder)
        async with open_app(folder) as app:
            stored = await app.parts.kept.batch_of_job(app.owner().tenant, batch.id)
            done = await ended(app, stored, seconds=60)
            found = await rows(app, done.output_file)
            assert [content(row) for row in found.values()] == [f"Echo: text {n}" for n in range(4)]
            assert len(await app.parts.cost.ledger(app.owner())) == 4
            assert await used(app, "all") == 60
        assert provider.requests.count(step) == 1
        assert provider.calls == []
        assert set(provider.batches) <= {"msgbatch_foreign", "batch_1"}, "ours is removed, and theirs is let be"


async def test_a_message_batch_that_may_be_ours_is_waited_for(tmp_path):
    with running(Anthropic()) as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider, "anthropic")) as app:
            # The creation goes through, and its answer is lost.
            provider.failures["POST /v1/messages/batches"] = [(503, {}, {"type": "error"})]
            batch = await made(app, [line(1, "hi", "half/m")])
            batch = await ended(app, batch, until=lambda _: len(provider.requests) > 0)
            (lane,) = await KeptLanes(app.parts.kept).lanes(batch)
            asked = {"custom_id": f"{lane.id}-1", "params": {"messages": [{"content": "hi"}]}}
            provider.batches["msgbatch_ours"] = {"id": "msgbatch_ours", "status": "in_progress", "rows": [asked]}
            provider.batches["msgbatch_ours"]["at"] = now().timestamp()
            looks = "GET /v1/messages/batches"
            batch = await ended(app, batch, until=lambda _: looks in provider.requests)
            assert provider.requests.count("POST /v1/messages/batches") == 1
            provider.finish(provider.batches["msgbatch_ours"])
            await KeptLanes(app.parts.kept).change(lane, next_at=now())
            batch = await ended(app, batch, seconds=60)
            assert content((await rows(app, batch.output_file))["line-1"]) == "Echo: hi"
            assert provider.requests.count("POST /v1/messages/batches") == 1


async def test_message_results_of_every_kind(tmp_path):
    def work(given):
        by = {row["custom_id"].rpartition("-")[2]: row["custom_id"] for row in given}
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": "SECRET"}}
        tool = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
        thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
        return [
            {"custom_id": by["1"], "result": {"type": "errored", "error": error}},
            {"custom_id": by["2"], "result": {"type": "expired"}},
            {"custom_id": by["3"], "result": {"type": "canceled"}},
            {
                "custom_id": by["4"],
                "result": {
                    "type": "succeeded",
                    "message": message("", content=[thinking, tool], stop_reason="tool_use"),
                },
            },
        ]

    with running(Anthropic()) as provider:
        provider.work = work
        async with open_app(workspace(tmp_path, provider, "anthropic")) as app:
            tools = [{"name": "add", "description": "adds", "input_schema": {"type": "object"}}]
            lines = [
                {
                    "custom_id": f"line-{n}",
                    "url": "/v1/messages",
                    "body": {
                        "model": "half/m",
                        "max_tokens": 20,
                        "tools": tools,
                        "messages": [{"role": "user", "content": f"text {n}"}],
                    },
                }
                for n in range(1, 5)
            ]
            batch = await ended(app, await made(app, lines, endpoint="/v1/messages", style="anthropic"))
            found = await rows(app, batch.output_file)
            kinds = {name: row["result"]["type"] for name, row in found.items()}
            assert kinds == {"line-1": "errored", "line-2": "succeeded", "line-3": "succeeded", "line-4": "succeeded"}
            blocks = found["line-4"]["result"]["message"]["content"]
            assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
            assert blocks[1]["input"] == {"a": 1}
            assert len(provider.calls) == 2


@pytest.mark.parametrize(("kind", "make"), PROVIDERS)
async def test_a_cancelled_batch_is_cancelled_there(tmp_path, kind, make):
    with running(make()) as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider, kind)) as app:
            batch = await made(app, [line(1, "hi", "half/m")])
            batch = await ended(app, batch, until=lambda found: (found.lanes or {}).get("sorted"))
            await cancel_batch(app.parts, app.owner(), batch.id)
            batch = await ended(app, batch, until=lambda _: provider.only()["status"].startswith("cancel"), seconds=60)
            if kind == "anthropic":
                theirs = {"custom_id": provider.only()["rows"][0]["custom_id"], "result": {"type": "canceled"}}
                provider.finish(provider.only(), work=lambda _: [theirs])
            else:
                provider.finish(provider.only(), "cancelled", work=lambda _: ([], []) if kind == "mistral" else [])
            batch = await ended(app, batch, seconds=60)
            assert batch.state == "cancelled"
            assert (await used(app, "all"), await app.parts.cost.ledger(app.owner())) == (0, [])
            assert await clean_up(app.parts, app.owner(), app.owner().tenant) == 0


def test_a_label_says_when_it_was_made():
    assert abs((begun_at(f"lane-{ulid().lower()}") - now()).total_seconds()) < 5
