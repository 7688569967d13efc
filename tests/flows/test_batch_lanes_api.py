"""The lane of a batch through the official clients and the command line."""

from __future__ import annotations

import asyncio
import json
import time

import anthropic
import openai
import pytest
from click.testing import CliRunner

from interlock.app import open_app
from interlock.cli.root import cli
from interlock.core.errors import InvalidInput
from interlock.cost.reconcile import reconcile
from interlock.gateway.kept_lanes import KeptLanes
from interlock.testing.servers import run_server

from .batch_provider import running
from .test_batch_lanes import ended, line, made, used, workspace


def upload(client, lines):
    data = "".join(json.dumps({**row, "method": "POST"}) + "\n" for row in lines).encode()
    return client.files.create(file=("requests.jsonl", data), purpose="batch").id


def until_ended(question):
    deadline = time.monotonic() + 60
    while (found := question()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


async def test_the_openai_client_chooses_and_sees_the_lane(tmp_path):
    def run(url, provider):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

            def over(batch):
                found = client.batches.retrieve(batch.id)
                return found if found.status == "completed" else None

            def ask(**options):
                endpoint = "/v1/chat/completions"
                made = client.batches.create(
                    input_file_id=upload(client, [line(1)]), endpoint=endpoint, completion_window="24h", **options
                )
                return until_ended(lambda: over(made)).model_extra["interlock"]

            assert ask(extra_body={"interlock": {"lane": "ordinary"}}) == {
                "lane": "ordinary",
                "lanes": [],
                "ordinary": {"asked_for": 1},
            }
            taken = ask()
            assert (taken["lane"], taken["ordinary"]) == ("auto", {})
            assert taken["lanes"][0]["provider_batch"] == provider.only()["id"]
            with pytest.raises(openai.BadRequestError) as refused:
                ask(extra_body={"interlock": {"lane": "cheapest"}})
            assert refused.value.param == "interlock.lane"

    with running() as provider:
        folder = workspace(tmp_path, provider)
        with run_server(folder) as server:
            await asyncio.to_thread(run, server.url, provider)


async def test_the_anthropic_client_chooses_the_lane(tmp_path):
    def run(url):
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
            params = {"model": "openai/gpt-test", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
            for lane, text in (("half-price", "Echo: hi"), ("ordinary", "Ordinary: hi")):
                batch = client.messages.batches.create(
                    requests=[{"custom_id": "a", "params": params}], extra_body={"interlock": {"lane": lane}}
                )

                def over(identity=batch.id):
                    found = client.messages.batches.retrieve(identity)
                    return found if found.processing_status == "ended" else None

                found = until_ended(over)
                assert found.model_extra["interlock"]["lane"] == lane
                (row,) = client.messages.batches.results(batch.id)
                assert row.result.message.content[0].text == text

    with running() as provider, run_server(workspace(tmp_path, provider)) as server:
        await asyncio.to_thread(run, server.url)


def test_the_command_line_chooses_and_shows_the_lane(tmp_path):
    with running() as provider:
        folder = workspace(tmp_path, provider)
        file = tmp_path / "requests.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in (line(1), line(2, model="scripted"))))

        def run(*arguments, code=0):
            done = CliRunner().invoke(cli, ["-w", str(folder), "batch", *arguments])
            assert done.exit_code == code, done.output
            return done

        out = run("submit", str(file), "--wait").stdout
        assert "2 done, 0 failed, 2 in all" in out
        assert "1 line at openai/gpt-test, closed" in out
        assert "1 line as ordinary calls: no_batch_api" in out
        identity = out.split(":")[0]
        shown = json.loads(run("status", identity, "--json").stdout)["interlock"]
        assert (shown["lane"], shown["lanes"][0]["lines"], shown["ordinary"]) == ("auto", 1, {"no_batch_api": 1})
        shown = json.loads(run("submit", str(file), "--lane", "ordinary", "--json").stdout)["interlock"]
        assert shown == {"lane": "ordinary", "lanes": [], "ordinary": {}}
        refused = run("submit", str(file), "--lane", "half-price", "--window", "2h", code=1)
        assert isinstance(refused.exception, InvalidInput)
        assert refused.exception.param == "completion_window"


async def test_counters_are_not_lowered_while_a_provider_has_lines(tmp_path):
    limit = {"name": "all", "tokens": 100_000, "period": "day"}
    with running() as provider:
        provider.automatic = False
        async with open_app(workspace(tmp_path, provider, cost={"limits": [limit]})) as app:
            batch = await ended(app, await made(app, [line(1)]), until=lambda _: provider.batches)
            held = await used(app, "all")
            owner = app.owner()

            async def repaired():
                return await reconcile(
                    app.parts.cost,
                    app.sql,
                    app.kv,
                    app.parts.governance,
                    owner,
                    journals=app.workspace.data / "journal",
                    repair=True,
                    held=await KeptLanes(app.parts.kept).held(owner.tenant),
                )

            found = await repaired()
            assert found.busy == "providers' batch APIs have 1 lines"
            assert await used(app, "all") == held > 0
            provider.finish(provider.only())
            await ended(app, batch)
            assert (await repaired()).busy == ""
            assert await used(app, "all") == 15
