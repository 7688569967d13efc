"""Lines of a batch in a provider's own batch API: priced, reserved, written once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from interlock.app import open_app
from interlock.core.clock import now
from interlock.core.context import EndUser
from interlock.core.errors import BudgetExceeded, InvalidInput
from interlock.core.messages import ChatRequest, text_message
from interlock.flows.batch import cancel_batch, clean_up, create_batch
from interlock.gateway.kept_lanes import KeptLanes
from interlock.stores.jobs.sql import jobs
from interlock.testing.workspaces import write_workspace
from interlock.worker.loop import limits_of, work_batches

from .batch_provider import answered, running, said, undone

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
        # The lease of a worker that is gone would run out by itself; a wait for the provider would be over.
        soon = {"lease_until": now() - timedelta(seconds=1), "run_at": now()}
        await app.sql.write(lambda conn: conn.execute(sa.update(jobs).values(soon)))


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


async def test_the_discount_can_be_set(tmp_path):
    with running() as provider:
        discount = {"openai/*": "0.5", "openai/gpt-test": "0.25"}
        async with open_app(workspace(tmp_path, provider, cost={"batch_discount": discount})) as app:
            await ended(app, await made(app, [line(1)]))
            (row,) = await app.parts.cost.ledger(app.owner())
            assert (row.cost.nano, row.price) == (ONE * 3 // 4, "override:openai/* batch -25%")


@pytest.mark.parametrize(
    ("options", "entry", "reason"),
    [
        ({"window": "23h"}, {}, "window"),
        ({"lane": "ordinary"}, {}, "asked_for"),
        ({}, {"batch": "never"}, "set_to_never"),
        ({}, {"api": "responses"}, "no_batch_api"),
    ],
)
async def test_lines_are_ordinary_calls_where_no_batch_api_is_wanted_or_there(tmp_path, options, entry, reason):
    with running() as provider:
        async with open_app(workspace(tmp_path, provider, entry=entry)) as app:
            batch = await ended(app, await made(app, [line(1), line(2)], **options))
            assert batch.state == "completed"
            assert batch.lanes == {"sorted": True, "ordinary": {reason: 2}, "parts": []}
            assert not [name for name in provider.requests if "files" in name or "batches" in name]


async def test_half_price_alone_needs_a_window_and_gives_no_answer_at_the_full_price(tmp_path):
    with running() as provider:
        async with open_app(workspace(tmp_path, provider)) as app:
            with pytest.raises(InvalidInput) as refused:
                await made(app, [line(1)], lane="half-price", window="23h")
            assert refused.value.param == "completion_window"
            with pytest.raises(InvalidInput) as refused:
                await made(app, [line(1)], lane="cheap")
            assert refused.value.param == "interlock.lane"
            lines = [line(1), line(2, model="scripted"), line(3, model="no/such")]
            batch = await ended(app, await made(app, lines, lane="half-price"))
            assert (batch.completed, batch.failed) == (1, 2)
            failed = await rows(app, batch.error_file)
            codes = {name: row["response"]["body"]["error"]["code"] for name, row in failed.items()}
            assert codes == {"line-2": "no_batch_api", "line-3": "model_not_found"}
            assert len(await app.parts.cost.ledger(app.owner())) == 1


async def test_one_batch_takes_both_lanes(tmp_path):
    routes = {"first": {"targets": ["openai/gpt-a", "scripted"]}, "own": {"targets": ["scripted"]}}
    models = []

    def work(given):
        models.append({row["body"]["model"] for row in given})
        return [answered(row) for row in given], []

    with running() as provider:
        provider.work = work
        async with open_app(workspace(tmp_path, provider, routes=routes)) as app:
            lines = [
                line(1, "one"),
                line(2, "two", "route/first"),
                line(3, "three", "route/own"),
                line(4, "four", "no/such"),
                line(5, "five", "scripted/any"),
            ]
            batch = await ended(app, await made(app, lines))
            assert (batch.completed, batch.failed) == (4, 1)
            found = await rows(app, batch.output_file)
            assert content(found["line-1"]) == "Echo: one"
            assert content(found["line-2"]) == "Echo: two"
            assert found["line-3"]["response"]["status_code"] == 200
            failed = await rows(app, batch.error_file)
            assert failed["line-4"]["response"]["status_code"] == 404
            assert batch.lanes["ordinary"] == {"no_batch_api": 2, "refused": 1}
            assert {(part["model"], part["lines"]) for part in batch.lanes["parts"]} == {("gpt-test", 1), ("gpt-a", 1)}
            # One model a batch is what the provider takes.
            assert models == [{"gpt-test"}, {"gpt-a"}]


async def test_each_line_ends_in_its_own_way(tmp_path, caplog):
    def work(given):
        by = {row["custom_id"].rpartition("-")[2]: row for row in given}
        bad = {"status_code": 400, "body": {"error": {"message": "no SECRET", "code": "bad_thing"}}}
        busy = {"status_code": 503, "body": {"error": {"message": "busy", "code": "overloaded"}}}
        output = [
            "not JSON at all",
            json.dumps(["a list"]),
            answered(by["1"]),
            answered(by["1"], "a second answer"),
            {**answered(by["1"]), "custom_id": "somebody-elses-7"},
            {**answered(by["1"]), "custom_id": by["1"]["custom_id"].replace("lane-", "lane-x")},
            {**answered(by["1"]), "custom_id": by["1"]["custom_id"] + "000"},
            answered(by["2"], usage={"prompt_tokens": -5000, "completion_tokens": -1}),
            answered(by["3"], usage=None),
            {**answered(by["4"]), "response": bad},
        ]
        errors = [{**answered(by["5"]), "response": busy}, undone(by["6"])]
        return output, [*errors, answered(by["1"], "a third answer")]

    with running() as provider:
        provider.work = work
        async with open_app(workspace(tmp_path, provider)) as app:
            batch = await ended(app, await made(app, [line(n, f"SECRET {n}") for n in range(1, 8)]))
            found, failed = await rows(app, batch.output_file), await rows(app, batch.error_file)
            assert {name: content(row) for name, row in found.items()} == {
                "line-1": "Echo: SECRET 1",
                "line-2": "Echo: SECRET 2",
                "line-3": "Echo: SECRET 3",
                # What the provider did not do is asked as an ordinary call.
                "line-5": "Ordinary: SECRET 5",
                "line-6": "Ordinary: SECRET 6",
                "line-7": "Ordinary: SECRET 7",
            }
            assert failed["line-4"]["response"]["body"]["error"]["code"] == "bad_thing"
            assert (batch.completed, batch.failed) == (6, 1)
            ledger = await app.parts.cost.ledger(app.owner())
        assert all(row.cost.nano > 0 for row in ledger)
        assert sorted((row.price, row.usage.estimated) for row in ledger) == [
            ("override:openai/*", False),
            ("override:openai/*", False),
            ("override:openai/*", False),
            ("override:openai/* batch -50%", False),
            ("override:openai/* batch -50%", True),
            ("override:openai/* batch -50%", True),
        ]
        assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        ("POST /v1/files", (404, {}, {"error": {"message": "no"}}), "no_batch_api"),
        ("POST /v1/batches", (404, {}, {"error": {"message": "no"}}), "no_batch_api"),
        ("POST /v1/batches", (400, {}, {"error": {"message": "no", "code": "not_for_you"}}), "not_for_you"),
        ("POST /v1/files", (401, {}, {"error": {"message": "key"}}), "provider_error"),
        ("POST /v1/files", (200, {}, {"no": "id"}), "provider_error"),
    ],
)
async def test_a_provider_that_refuses_leaves_the_lines_to_ordinary_calls(tmp_path, name, answer, reason):
    limit = {"name": "all", "tokens": 100_000, "period": "day"}
    with running() as provider:
        provider.failures[name] = [answer]
        async with open_app(workspace(tmp_path, provider, cost={"limits": [limit]})) as app:
            batch = await ended(app, await made(app, [line(1), line(2)]))
            assert (batch.state, batch.completed) == ("completed", 2)
            found = await rows(app, batch.output_file)
            assert [content(row) for row in found.values()] == ["Ordinary: hi"] * 2
            (part,) = batch.lanes["parts"]
            assert (part["reason"], part["state"]) == (reason, "closed")
            assert provider.files == {}
            ledger = await app.parts.cost.ledger(app.owner())
            assert [row.cost.nano for row in ledger] == [ONE] * 2
            assert await used(app, "all") == 30


async def test_a_batch_that_the_provider_fails_as_a_whole_is_asked_line_by_line(tmp_path):
    with running() as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider)) as app:
            batch = await ended(app, await made(app, [line(1)]), until=lambda _: provider.batches)
            sent = provider.only()
            sent |= {"status": "failed", "errors": {"data": [{"code": "token_limit_exceeded", "message": "hi"}]}}
            batch = await ended(app, batch)
            assert batch.lanes["parts"][0]["reason"] == "token_limit_exceeded"
            assert content((await rows(app, batch.output_file))["line-1"]) == "Ordinary: hi"


async def test_a_provider_that_asks_for_time_or_stumbles_is_asked_again(tmp_path):
    with running() as provider:
        busy = (429, {"retry-after": "1"}, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}})
        down = (503, {}, {"error": {"message": "down"}})
        provider.failures = {
            "POST /v1/files": [down],
            "POST /v1/batches": [busy, down],
            "GET /v1/batches/{id}": [down, busy, down],
            "GET /v1/files/{id}/content": [down],
            "DELETE /v1/files/{id}": [down],
        }
        async with open_app(workspace(tmp_path, provider)) as app:
            batch = await ended(app, await made(app, [line(1), line(2)]))
            assert (batch.state, batch.completed, provider.calls) == ("completed", 2, [])
            assert len(provider.batches) == 1
            assert batch.lanes["parts"][0]["reason"] == ""
            await clean_up(app.parts, app.owner(), app.owner().tenant)
            for _ in range(100):
                if not provider.files:
                    break
                await asyncio.sleep(0.05)
                await clean_up(app.parts, app.owner(), app.owner().tenant)
            assert provider.files == {}


async def test_what_may_be_spent_is_held_at_the_batch_price_while_the_provider_works(tmp_path):
    limits = [
        {"name": "money", "money": "0.002", "period": "day"},
        {"name": "tokens", "tokens": 1_000_000, "period": "day"},
    ]
    with running() as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider, cost={"limits": limits})) as app:
            batch = await made(app, [line(n) for n in range(6)])
            batch = await ended(app, batch, until=lambda _: provider.batches)
            (lane,) = await KeptLanes(app.parts.kept).lanes(batch)
            # Each may cost (17 * 10 + 50 * 20) / 2 microdollars at most, so of $0.002 there is room for three.
            assert lane.lines == 3
            held = await used(app, "money")
            assert held == 3 * (17 * 10_000 + 50 * 20_000) // 2
            assert await used(app, "tokens") == 3 * 67
            with pytest.raises(BudgetExceeded):
                await app.parts.gateway.complete(
                    app.owner(),
                    ChatRequest("openai/gpt-test", (text_message("user", "hi"),), max_output_tokens=50),
                    meter=app.parts.cost.open(app.owner(), None),
                )
            provider.finish(provider.only())
            batch = await ended(app, batch)
            assert (batch.completed, batch.failed) == (3, 3)
            failed = await rows(app, batch.error_file)
            assert {row["response"]["body"]["error"]["code"] for row in failed.values()} == {"insufficient_quota"}
            assert await used(app, "money") == 3 * ONE // 2
            assert await used(app, "tokens") == 3 * 15


async def test_a_limit_on_requests_paces_what_is_handed_over(tmp_path):
    limit = {"name": "pace", "requests": 3, "window": "2s"}
    with running() as provider:
        async with open_app(workspace(tmp_path, provider, cost={"limits": [limit]})) as app:
            batch = await ended(app, await made(app, [line(n) for n in range(5)]))
            assert (batch.completed, provider.calls) == (5, [])
            assert [part["lines"] for part in batch.lanes["parts"]] == [3, 2]


async def test_a_cancelled_batch_is_cancelled_there_and_what_was_done_is_paid_for(tmp_path):
    limit = {"name": "all", "tokens": 100_000, "period": "day"}
    with running() as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider, cost={"limits": [limit]})) as app:
            batch = await made(app, [line(n) for n in range(3)])
            batch = await ended(app, batch, until=lambda b: (b.lanes or {}).get("sorted"))
            await cancel_batch(app.parts, app.owner(), batch.id)
            batch = await ended(app, batch, until=lambda _: provider.only()["status"] == "cancelling", seconds=60)
            assert batch.state == "cancelling"
            some = lambda rows: ([answered(rows[0])], [undone(row, "batch_cancelled") for row in rows[1:]])  # noqa: E731
            provider.finish(provider.only(), "cancelled", work=some)
            batch = await ended(app, batch, seconds=60)
            assert (batch.state, batch.completed) == ("cancelled", 1)
            failed = await rows(app, batch.error_file)
            assert {row["error"]["code"] for row in failed.values()} == {"batch_cancelled"}
            assert len(await app.parts.cost.ledger(app.owner())) == 1
            assert (await used(app, "all"), provider.calls, provider.files) == (15, [], {})


async def test_what_is_not_answered_when_the_window_closes_expires(tmp_path):
    limit = {"name": "all", "tokens": 100_000, "period": "day"}
    with running() as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider, cost={"limits": [limit]})) as app:
            batch = await made(app, [line(n) for n in range(2)])
            batch = await ended(app, batch, until=lambda b: (b.lanes or {}).get("sorted"))
            assert await used(app, "all") > 0
            await app.parts.kept.update_batch(batch, ends_at=now() - timedelta(seconds=1))
            batch = await ended(app, batch, until=lambda _: provider.only()["status"] == "cancelling", seconds=60)
            provider.finish(provider.only(), "cancelled", work=lambda rows: ([], [undone(row) for row in rows]))
            batch = await ended(app, batch, seconds=60)
            assert (batch.state, batch.completed) == ("expired", 0)
            assert {row["error"]["code"] for row in (await rows(app, batch.error_file)).values()} == {"batch_expired"}
            assert await app.parts.cost.ledger(app.owner()) == []
            assert (await used(app, "all"), provider.files) == (0, {})


async def test_a_batch_whose_owner_is_forgotten_is_stopped_and_removed_there(tmp_path):
    limit = {"name": "all", "tokens": 100_000, "period": "day"}
    with running() as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider, cost={"limits": [limit]})) as app:
            ctx = app.owner().on_behalf_of(EndUser("fay"))
            batch = await made(app, [line(1)], ctx=ctx)
            await ended(app, batch, until=lambda b: (b.lanes or {}).get("sorted"))
            assert await used(app, "all") > 0
            await app.parts.kept.forget(ctx.tenant, "fay")
            assert await clean_up(app.parts, app.owner(), ctx.tenant) == 1
            assert provider.only()["status"] == "cancelling"
            assert (provider.files, await used(app, "all")) == ({}, 0)
            assert await clean_up(app.parts, app.owner(), ctx.tenant) == 0
            await work_batches(app, until_idle=True)


async def test_an_apps_guardrails_hold_for_lines_of_a_providers_batch(tmp_path):
    rules = [{"id": "no-keys", "detector": "secrets", "at": ["input", "output"], "action": "block", "message": "No."}]
    apps = {"talker": {"route": {"targets": ["openai/gpt-test"]}, "guardrails": {"rules": rules}}}
    key = "AKIA" + "IOSFODNN7EXAMPLQ"
    with running() as provider:

        def work(given):
            assert [row["body"]["messages"][0]["role"] for row in given] == ["system"] * len(given)
            return [answered(row, f"use {key} now." if "leak" in said(row["body"]) else None) for row in given], []

        provider.work = work
        async with open_app(workspace(tmp_path, provider, apps=apps)) as app:
            lines = [
                line(1, "hello", "app/talker"),
                line(2, f"my key is {key}", "app/talker"),
                line(3, "leak", "app/talker"),
            ]
            batch = await ended(app, await made(app, lines))
            assert (batch.completed, batch.failed) == (1, 2)
            assert batch.lanes["ordinary"] == {"refused": 1}
            ledger = await app.parts.cost.ledger(app.owner())
            assert sorted((row.outcome, row.app, row.cost.nano) for row in ledger) == [
                ("blocked", "talker", ONE // 2),
                ("ok", "talker", ONE // 2),
            ]
            assert provider.calls == []


async def test_targets_that_are_not_permitted_are_given_nothing(tmp_path):
    routes = {"two": {"targets": ["openai/gpt-us", "openai/gpt-eu"]}}
    approvals = {"openai/gpt-us": {"regions": ["us"]}, "openai/gpt-eu": {"regions": ["eu"]}}
    more = {"approvals": approvals, "residency": {"acme": ["eu"]}}
    with running() as provider:
        async with open_app(workspace(tmp_path, provider, routes=routes, **more)) as app:
            batch = await ended(app, await made(app, [line(1, model="route/two"), line(2, model="openai/gpt-us")]))
            assert [part["model"] for part in batch.lanes["parts"]] == ["gpt-eu"]
            assert batch.lanes["ordinary"] == {"no_target": 1}
            failed = await rows(app, batch.error_file)
            assert failed["line-2"]["response"]["body"]["error"]["code"] == "target_not_approved"


async def test_messages_and_responses_come_back_in_their_own_shapes(tmp_path):
    with running() as provider:
        async with open_app(workspace(tmp_path, provider)) as app:
            body = {"model": "openai/gpt-test", "max_tokens": 40, "messages": [{"role": "user", "content": "hi"}]}
            row = {"custom_id": "m", "url": "/v1/messages", "body": body}
            batch = await ended(app, await made(app, [row], endpoint="/v1/messages", style="anthropic"))
            (found,) = (await rows(app, batch.output_file)).values()
            assert found["result"]["message"]["content"][0]["text"] == "Echo: hi"
            asks = {"custom_id": "r", "url": "/v1/responses", "body": {"model": "openai/gpt-test", "input": "hi"}}
            chained = {**asks, "custom_id": "c", "body": {**asks["body"], "previous_response_id": "resp_none"}}
            batch = await ended(app, await made(app, [asks, chained], endpoint="/v1/responses"))
            (found,) = (await rows(app, batch.output_file)).values()
            answer = found["response"]["body"]
            assert answer["output"][0]["content"][0]["text"] == "Echo: hi"
            assert (await app.parts.kept.response(app.owner(), answer["id"])).response["id"] == answer["id"]
            assert provider.calls == []


async def test_a_form_that_the_answer_does_not_have_is_asked_for_again_as_an_ordinary_call(tmp_path):
    form = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": form}}
    with running() as provider:
        provider.work = lambda given: (
            [answered(row, '{"n": 3}' if "good" in said(row["body"]) else "no") for row in given],
            [],
        )
        route = {"targets": ["openai/gpt-test"], "structured": {"check": True}}
        async with open_app(workspace(tmp_path, provider, routes={"checked": route})) as app:
            lines = [line(n, text, "route/checked", response_format=wanted) for n, text in ((1, "good"), (2, "bad"))]
            batch = await ended(app, await made(app, lines))
            assert content((await rows(app, batch.output_file))["line-1"]) == '{"n": 3}'
            assert (await rows(app, batch.error_file))["line-2"]["response"]["body"]["error"]["code"] == "schema_unmet"
            prices = sorted(row.price for row in await app.parts.cost.ledger(app.owner()))
            assert prices[:1] == ["override:openai/*"]
            assert prices[-2:] == ["override:openai/* batch -50%"] * 2


async def test_a_batch_whose_input_is_deleted_fails_and_is_cleaned_up_there(tmp_path):
    limit = {"name": "all", "tokens": 100_000, "period": "day"}
    with running() as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider, cost={"limits": [limit]})) as app:
            batch = await ended(app, await made(app, [line(1)]), until=lambda b: (b.lanes or {}).get("sorted"))
            await app.parts.kept.delete_file(app.owner(), batch.input_file)
            batch = await ended(app, batch, seconds=60)
            assert (batch.state, batch.errors[0]["code"]) == ("failed", "file_not_found")
            await clean_up(app.parts, app.owner(), app.owner().tenant)
            assert (provider.only()["status"], provider.files, await used(app, "all")) == ("cancelling", {}, 0)


async def test_half_price_lines_that_come_back_are_never_paid_in_full(tmp_path):
    with running() as provider:
        provider.work = lambda given: ([answered(given[0])], [undone(row) for row in given[1:]])
        async with open_app(workspace(tmp_path, provider)) as app:
            batch = await ended(app, await made(app, [line(n) for n in range(3)], lane="half-price"))
            assert (batch.state, batch.completed, batch.failed) == ("completed", 1, 2)
            failed = await rows(app, batch.error_file)
            assert {row["response"]["body"]["error"]["code"] for row in failed.values()} == {"batch_lane_failed"}
            assert (provider.calls, len(await app.parts.cost.ledger(app.owner()))) == ([], 1)


async def test_a_provider_that_cannot_be_reached_any_more_does_not_hold_a_cancelled_batch_for_ever(tmp_path):
    limit = {"name": "all", "tokens": 100_000, "period": "day"}
    with running() as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider, cost={"limits": [limit]})) as app:
            batch = await ended(app, await made(app, [line(1)]), until=lambda b: (b.lanes or {}).get("sorted"))
            await cancel_batch(app.parts, app.owner(), batch.id)
            down = (500, {}, {"error": {"message": "down"}})
            for name in ("POST /v1/batches/{id}/cancel", "GET /v1/batches/{id}"):
                provider.failures[name] = [down] * 1000
            store = KeptLanes(app.parts.kept)
            (lane,) = await store.lanes(batch)
            await store.change(lane, failures=38, next_at=now())
            batch = await ended(app, batch, until=lambda _: len(provider.failures["GET /v1/batches/{id}"]) < 1000)
            (lane,) = await store.lanes(batch)
            await store.change(lane, failures=45, next_at=now())
            batch = await ended(app, batch, seconds=60)
            assert (batch.state, batch.lanes["parts"][0]["reason"]) == ("cancelled", "not_stopped")
            assert await used(app, "all") == 0


async def test_a_provider_that_sends_rows_without_end_is_not_listened_to(tmp_path):
    with running() as provider:
        provider.work = lambda given: (["{}"] * 500 + [answered(row) for row in given], [])
        async with open_app(workspace(tmp_path, provider)) as app:
            batch = await ended(app, await made(app, [line(1)]))
            assert content((await rows(app, batch.output_file))["line-1"]) == "Ordinary: hi"
            assert len(await app.parts.cost.ledger(app.owner())) == 1
