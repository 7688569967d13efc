"""A worker is killed at every step of handing a batch over and taking it back: nothing is lost, doubled, left."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import timedelta

import openai
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.app import open_app
from interlock.core.clock import now
from interlock.stores.jobs.sql import jobs
from interlock.testing.servers import run_server
from interlock.worker.loop import work_batches

from .batch_provider import Provider, answered, running, undone
from .test_batch_lanes import ONE, content, ended, line, made, rows, used, workspace

LIMIT = {"name": "all", "tokens": 10_000_000, "money": "100", "period": "day"}


def submit(client, lines, **options):
    data = "".join(json.dumps({**row, "method": "POST"}) + "\n" for row in lines).encode()
    file = client.files.create(file=("requests.jsonl", data), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **options
    )


async def expire_leases(folder):
    """As half a minute would."""
    async with open_app(folder) as app:
        past = {"lease_until": now() - timedelta(seconds=1), "run_at": now()}
        await app.sql.write(lambda conn: conn.execute(sa.update(jobs).values(past)))


def client_of(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def until(question, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := question()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


STEPS = [
    "POST /v1/files",
    "POST /v1/batches",
    "GET /v1/batches/{id}",
    "GET /v1/files/{id}/content",
    "DELETE /v1/files/{id}",
]


@pytest.mark.parametrize("step", STEPS)
async def test_kill_9_at_any_step_loses_and_doubles_nothing(tmp_path, step):
    with running() as provider:
        folder = workspace(tmp_path, provider, cost={"limits": [LIMIT]})
        provider.gates[step] = threading.Event()

        def killed():
            with run_server(folder) as server, client_of(server) as client:
                batch = submit(client, [line(n, f"text {n}") for n in range(8)])
                assert provider.reached.wait(60)
                server.kill()
                return batch

        def finished(batch):
            with run_server(folder) as server, client_of(server) as client:

                def over():
                    found = client.batches.retrieve(batch.id)
                    return found if found.status not in {"validating", "in_progress", "finalizing"} else None

                found = until(over)
                output = client.files.content(found.output_file_id).text
                return found, [json.loads(row) for row in output.splitlines()]

        batch = await asyncio.to_thread(killed)
        provider.gates.pop(step).set()
        await expire_leases(folder)
        found, output = await asyncio.to_thread(finished, batch)
        assert (found.status, found.request_counts.completed) == ("completed", 8)
        assert [row["custom_id"] for row in output] == [f"line-{n}" for n in range(8)]
        assert [content(row) for row in output] == [f"Echo: text {n}" for n in range(8)]
        assert len(provider.batches) == 1, "the provider is asked once"
        assert provider.requests.count("POST /v1/files") == 1
        assert (provider.files, provider.calls) == ({}, [])
        async with open_app(folder) as app:
            ledger = await app.parts.cost.ledger(app.owner(), limit=1000)
            assert [row.cost.nano for row in ledger] == [ONE // 2] * 8
            assert await used(app, "all") == 8 * 15


async def test_kill_9_while_results_are_taken_writes_and_charges_each_once(tmp_path):
    count = 120
    with running() as provider:
        folder = workspace(tmp_path, provider, cost={"limits": [LIMIT]})

        def killed():
            with run_server(folder) as server, client_of(server) as client:
                batch = submit(client, [line(n) for n in range(count)])
                until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 5)
                server.kill()
                return batch

        batch = await asyncio.to_thread(killed)
        await expire_leases(folder)
        async with open_app(folder) as app:
            before = await app.parts.kept.batch_of_job(app.owner().tenant, batch.id)
            assert 5 <= before.completed < count
            assert len(await app.parts.cost.ledger(app.owner(), limit=1000)) == before.completed
            done = await ended(app, before, seconds=60)
            assert (done.state, done.completed) == ("completed", count)
            assert len(await rows(app, done.output_file)) == count
            ledger = await app.parts.cost.ledger(app.owner(), limit=1000)
            assert [row.cost.nano for row in ledger] == [ONE // 2] * count
            # Of lines killed between row and counter the reservation counts as well, until it is compared.
            assert 15 * count <= await used(app, "all") < 15 * count + 200
        assert (len(provider.batches), provider.calls, provider.files) == (1, [], {})


async def test_a_worker_that_dies_before_anything_is_written_down_holds_and_charges_nothing(tmp_path):
    with running() as provider:
        async with open_app(workspace(tmp_path, provider, cost={"limits": [LIMIT]})) as app:
            batch = await made(app, [line(n) for n in range(3)])
            worker = asyncio.ensure_future(work_batches(app))
            while not app.parts.cost.journal.is_closed and not await app.parts.kept.asks(batch):
                await asyncio.sleep(0)
                if (await app.parts.kept.batch_of_job(batch.tenant, batch.id)).state != "validating":
                    break
            worker.cancel()
            await asyncio.wait([worker])
            assert app.parts.cost.open_calls == 0
            done = await ended(app, batch, seconds=60)
            assert (done.state, done.completed) == ("completed", 3)
            assert len(await app.parts.cost.ledger(app.owner())) == 3
            assert await used(app, "all") == 45


FATES = ["ok", "twice", "broken", "bad", "busy", "expired", "absent", "negative", "huge"]


def result_of(row, fate):
    """Rows of the output and of the error file for one line."""
    match fate:
        case "ok":
            return [answered(row)], []
        case "twice":
            return [answered(row), answered(row, "again")], [undone(row)]
        case "broken":
            return [answered(row, choices="what?")], []
        case "bad":
            return [{**answered(row), "response": {"status_code": 400, "body": {"error": {"code": "bad"}}}}], []
        case "busy":
            return [], [{**answered(row), "response": {"status_code": 503, "body": {}}}]
        case "expired":
            return [], [undone(row)]
        case "negative":
            return [answered(row, usage={"prompt_tokens": -7, "completion_tokens": -(10**9)})], []
        case "huge":
            return [answered(row, usage={"prompt_tokens": 10**18, "completion_tokens": 1})], []
    return [], []


@pytest.fixture(scope="module")
def law(tmp_path_factory):
    """One workspace and one provider for all examples."""
    with running(Provider()) as provider:
        yield provider, workspace(tmp_path_factory.mktemp("law"), provider, cost={"limits": [LIMIT]})


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=9), broken_at=st.integers(0, 9))
def test_each_line_is_charged_once_and_the_counters_are_the_ledger(law, fates, broken_at):
    provider, folder = law

    def work(given):
        output, errors = [], []
        for row in given:
            fate = fates[int(row["custom_id"].rpartition("-")[2]) - 1]
            first, second = result_of(row, fate)
            output += first
            errors += second
        return output, errors

    async def run():
        async with open_app(folder) as app:
            before = len(await app.parts.cost.ledger(app.owner(), limit=10_000))
            batch = await made(app, [line(n, f"text {n}") for n in range(len(fates))])
            # The worker is broken off once on the way, and another one goes on.
            await ended(app, batch, until=lambda found: found.completed + found.failed >= min(broken_at, len(fates)))
            done = await ended(app, batch)
            assert done.state == "completed"
            assert done.completed + done.failed == len(fates)
            found = {**await rows(app, done.output_file), **await rows(app, done.error_file)}
            assert set(found) == {f"line-{n}" for n in range(len(fates))}
            ledger = await app.parts.cost.ledger(app.owner(), limit=10_000)
            half = [row for row in ledger[: len(ledger) - before] if "batch" in row.price]
            full = [row for row in ledger[: len(ledger) - before] if "batch" not in row.price]
            assert len(half) == sum(fate in {"ok", "twice", "negative", "huge"} for fate in fates)
            # Broken off in an ordinary call, it is asked again, as ordinary lines are.
            ordinary = sum(fate in {"broken", "busy", "expired", "absent"} for fate in fates)
            assert ordinary <= len(full) <= ordinary + 4
            assert all(row.cost.nano > 0 for row in ledger)
            assert await used(app, "all") == sum(row.usage.total_tokens for row in ledger)
            assert provider.files == {}

    provider.work = work
    asyncio.run(run())
