"""Every inbound wire over every outbound wire: what the fake upstream says is what each vendor's client reads."""

from __future__ import annotations

import asyncio
import inspect
import json

import pytest

from interlock.testing import wires
from interlock.testing.servers import run_server
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.wires import ToolUse
from interlock.testing.workspaces import write_workspace

from .clients import CLIENTS, TOOL

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
# A new outbound wire joins by being there.
OUTBOUND = [
    kind
    for _, kind in inspect.getmembers(wires, inspect.isclass)
    if kind.__module__ == wires.__name__ and hasattr(kind, "kind") and kind is not wires.Wire
]


MODELS = {
    "anthropic": "claude-haiku-4-5",
    "google": "gemini-2.5-flash",
    "bedrock": "anthropic.claude-haiku-4-5-20251001-v1:0",
    "cohere": "command-a-vision-07-2025",
    "mistral": "mistral-medium-latest",
}
"""Models whose profile reads images; others are asked for `gpt-4.1-mini`."""


def settings(wire, upstream):
    model = MODELS.get(wire.kind, "gpt-4.1-mini")
    provider = {"kind": wire.kind, "base_url": upstream.url, "api_key_env": "FAKE_KEY", "models": [model]}
    provider |= wire.settings
    route = {"targets": [f"up/{model}"], "retries": 0}
    return {"gateway": {"providers": {"up": provider}, "routes": {"r": route}, "breaker": {"failures": 1000}}}


@pytest.mark.parametrize("outbound", OUTBOUND, ids=lambda kind: kind.__name__)
async def test_every_client_reads_what_every_provider_says(tmp_path, outbound):
    """One server a provider; text, stream, tools, parallel tools, schema, image and errors through each client."""
    wire = outbound()
    async with fake_upstream() as upstream:
        workspace = write_workspace(tmp_path / "w", settings=settings(wire, upstream))

        def run():
            with run_server(workspace, environ={"FAKE_KEY": "secret"}) as server:
                for kind in CLIENTS:
                    client = kind(server.url, "none-needed")
                    try:
                        for stream in (False, True):
                            _ask_everything(client, upstream, wire, stream)
                    finally:
                        client.close()

        await asyncio.to_thread(run)


def _ask_everything(client, upstream, wire, stream):
    where = f"{client.name} over {wire.kind}, stream={stream}"
    upstream.will(Reply(wire.answer(["Hel", "lo ✓"])))
    said = client.ask("route/r", "hi", stream=stream)
    assert (said.text, said.calls, said.reason) == ("Hello ✓", [], "stop"), where
    assert said.usage == (11, 7), where

    one = ToolUse("call_1", "weather", ['{"city"', ': "Leeds"}'])
    upstream.will(Reply(wire.answer([], tools=[one])))
    said = client.ask("route/r", "weather?", stream=stream, tools=True)
    assert [call[1:] for call in said.calls] == [("weather", {"city": "Leeds"})], where
    assert said.reason == "tool_calls", where
    assert TOOL["description"] in json.dumps(upstream.requests[-1].body), where

    two = ToolUse("call_2", "weather", ['{"city": "York"}'])
    upstream.will(Reply(wire.answer(["Let me look."], tools=[one, two])))
    said = client.ask("route/r", "weather?", stream=stream, tools=True)
    assert said.text == "Let me look.", where
    assert [call[2] for call in said.calls] == [{"city": "Leeds"}, {"city": "York"}], where
    assert len({call[0] for call in said.calls}) == 2, where

    upstream.will(Reply(wire.answer(['{"city":', '"Leeds"}'])))
    said = client.ask("route/r", "city?", stream=stream, schema=SCHEMA)
    assert json.loads(said.text) == {"city": "Leeds"}, where
    assert "additionalProperties" in json.dumps(upstream.requests[-1].body), where

    upstream.will(Reply(wire.answer(["a pixel"])))
    assert client.ask("route/r", "what?", stream=stream, image=True).text == "a pixel", where
    assert "iVBORw0KGgo" in json.dumps(upstream.requests[-1].body), where

    upstream.will(wire.error(400, "invalid_request_error", "no"))
    with pytest.raises(client.error):
        client.ask("route/r", "hi", stream=stream)
