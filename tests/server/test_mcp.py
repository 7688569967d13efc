"""The Model Context Protocol with its own client: over HTTP by every caller's rights, and over stdio."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

pytestmark = [pytest.mark.model, pytest.mark.anyio]
PAY = "what is the salary band of a senior engineer"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@asynccontextmanager
async def session(site, key, token=None):
    headers = {"authorization": f"Bearer {site.keys[key]}"}
    if token is not None:
        headers["x-interlock-on-behalf-of"] = token
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        streamable_http_client(f"{site.url}/mcp", http_client=http) as streams,
        ClientSession(*streams[:2]) as opened,
    ):
        await opened.initialize()
        yield opened


async def search(opened, **arguments):
    told = await opened.call_tool("search", arguments)
    assert not told.is_error, told
    return told.structured_content["results"]


async def test_tools_are_described_well_enough_to_be_called(site):
    async with session(site, "plain") as opened:
        tools = {tool.name: tool for tool in (await opened.list_tools()).tools}
    assert set(tools) == {"search", "fetch", "list_collections"}
    assert tools["search"].input_schema["required"] == ["query"]
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools.values())


async def test_each_caller_finds_reads_and_lists_what_it_may(site):
    async with session(site, "plain") as plain:
        assert all(row["source"] != "pay/bands.md" for row in await search(plain, query=PAY))
        [first, *_] = await search(plain, query="how many days to return hardware", collection="docs", limit=3)
        told = (await plain.call_tool("fetch", {"id": first["id"]})).structured_content
        assert first["text"].strip() in told["text"]
        assert told["next_offset"] is None
        listed = {resource.name for resource in (await plain.list_resources()).resources}
        assert "pay/bands.md" not in listed
        [uri] = [r.uri for r in (await plain.list_resources()).resources if r.name == "returns.md"]
        assert "30 days" in (await plain.read_resource(uri)).contents[0].text
    async with session(site, "plain", site.token()) as finance:
        [best, *_] = await search(finance, query=PAY)
        assert best["source"] == "pay/bands.md"
        only = await search(finance, query=PAY, filter={"document.source": {"matches": "pay/**"}})
        assert {row["source"] for row in only} == {"pay/bands.md"}
    async with session(site, "plain") as plain:
        refused = await plain.call_tool("fetch", {"id": best["id"]})
        assert refused.is_error
        assert "61,000" not in str(refused)
        with pytest.raises(MCPError):
            await plain.read_resource(f"interlock://documents/{best['id']}")
    async with session(site, "rival") as rival:
        assert await search(rival, query=PAY) == []
        assert (await rival.list_resources()).resources == []
        assert (await rival.call_tool("list_collections", {})).structured_content == {"collections": []}


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search", {}, "query"),
        ("search", {"query": "x", "limit": 0}, "limit"),
        ("search", {"query": "x", "filter": {"document.nope": 1}}, "document.nope"),
        ("fetch", {"id": "x", "more": 1}, "more"),
        ("erase", {}, "there is no tool"),
    ],
)
async def test_what_is_wrong_is_said_where_the_model_reads_it(site, tool, arguments, said):
    async with session(site, "plain") as opened:
        told = await opened.call_tool(tool, arguments)
    assert told.is_error
    assert said in told.content[0].text


async def test_a_filter_on_a_field_that_nothing_has_is_told_wherever_it_is_asked(site):
    async with session(site, "plain") as opened:
        for where in ({}, {"collection": "docs"}):
            told = await opened.call_tool("search", {"query": "x", "filter": {"yeer": 2026}, **where})
            assert "'yeer'" in told.structured_content["hint"]


async def test_nobody_is_refused_before_the_protocol_begins(site):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with site.client("expired") as expired:
        assert expired.post("/mcp", json=body).status_code == 401
    with site.client("plain", origin="https://evil.example") as plain:
        # A key is a key wherever it is sent from; without one, a page of elsewhere is nobody.
        assert plain.post("/mcp", json=body, headers={"accept": "application/json"}).status_code != 401
    with site.client(origin="https://evil.example") as page:
        assert page.post("/mcp", json=body).status_code == 401


async def test_a_local_client_speaks_over_its_pipes(site):
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "interlock", "-w", str(site.workspace), "mcp"],
        env=dict(os.environ),
    )
    async with stdio_client(command) as (read, write), ClientSession(read, write) as opened:
        told = await opened.initialize()
        assert told.server_info.name == "interlock"
        found = await search(opened, query="how many days to return hardware")
        assert found[0]["source"] == "returns.md"
