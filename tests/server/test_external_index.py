"""A collection that stands in an index elsewhere, through every door; and the tool `file_search` over it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import openai
import pytest
import yaml
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from openai import AsyncOpenAI, InternalServerError, NotFoundError

from interlock.testing.search_index import Forced, SearchIndex, serve_index
from interlock.testing.servers import run_server
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.workspaces import write_workspace

from .test_lane import MODEL, USAGE

RETURNS = "Customers return hardware within 30 days of delivery."
WIKI = "https://wiki/returns"
PAY = "The salary band of a senior engineer is 61,000."
FIELDS = {"text": "text", "title": "title", "readers": "readers", "url": "url", "metadata": {"team": "team"}}
KNOWLEDGE = {"collection": "handbook", "search": "lexical"}
MAPPING = {"text": "text", "title": "text", "readers": "keyword", "url": "keyword", "team": "keyword"}
TOOL = {"type": "file_search", "vector_store_ids": ["handbook"]}


@dataclass
class Site:
    server: object
    upstream: object
    index: SearchIndex
    http: httpx2.AsyncClient
    client: AsyncOpenAI
    key: str


@asynccontextmanager
async def site(tmp_path, **settings):
    """A server over an index and a model, both scripted, and a key of somebody in no group."""
    index = SearchIndex("elasticsearch", MAPPING)
    index.documents = {
        "r": {
            "text": RETURNS,
            "title": "Returns",
            "readers": ["public"],
            "url": WIKI,
            "team": "shop",
        },
        "p": {"text": PAY, "title": "Pay", "readers": ["group:finance"], "url": "https://wiki/pay"},
        "u": {"text": "Hardware that nobody may see.", "title": "Hidden"},
    }
    with serve_index(index):
        async with fake_upstream() as upstream:
            up = {"kind": "openai", "base_url": upstream.url, "api_key_env": "FAKE_KEY", "models": [MODEL]}
            workspace = write_workspace(
                tmp_path / "w",
                settings={
                    "gateway": {
                        "providers": {"up": up, "quotes": {"kind": "extractive"}},
                        "routes": {"r": {"targets": [f"up/{MODEL}"], "retries": 0}},
                    },
                    **settings,
                },
                apps={
                    "helper": {
                        "route": {"targets": ["quotes"]},
                        "knowledge": {"collection": "handbook", "search": "lexical"},
                    }
                },
                users={"ada": [], "fay": ["finance"]},
            )
            (workspace / "knowledge").mkdir()
            spec = {"kind": "elasticsearch", "url": index.url, "index": "handbook", "fields": FIELDS}
            (workspace / "knowledge" / "handbook.yaml").write_text(
                yaml.safe_dump({"collection": "handbook", "index": spec})
            )
            command = [
                sys.executable,
                "-m",
                "interlock",
                "--workspace",
                str(workspace),
                "keys",
                "create",
                "k",
                "--json",
            ]
            made = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
            key = json.loads(made.stdout)["secret"]
            starting = run_server(workspace, environ={"FAKE_KEY": "secret"})
            server = await asyncio.to_thread(starting.__enter__)
            try:
                headers = {"authorization": f"Bearer {key}"}
                async with (
                    httpx2.AsyncClient(base_url=server.url, timeout=60, headers=headers) as http,
                    AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client,
                ):
                    yield Site(server, upstream, index, http, client, key)
            finally:
                await asyncio.to_thread(starting.__exit__, None, None, None)


def chunks(*deltas, reason):
    base = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    rows = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    rows.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": USAGE})
    return Reply([f"data: {json.dumps(row)}\n\n".encode() for row in rows] + [b"data: [DONE]\n\n"])


def calls(*calls):
    rows = [
        {"index": n, "id": f"c{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for n, (name, arguments) in enumerate(calls)
    ]
    return chunks({"role": "assistant", "tool_calls": rows}, reason="tool_calls")


def says(*texts):
    return chunks(*({"role": "assistant", "content": text} for text in texts), reason="stop")


def searches(*queries):
    return calls(("file_search", {"queries": list(queries)}))


async def test_every_door_searches_the_index_by_the_callers_rights(tmp_path):
    async with site(tmp_path) as s:
        asked = {"query": "return hardware salary", "mode": "lexical"}
        [row] = (await s.http.post("/api/v1/collections/handbook/search", json=asked)).json()["data"]
        assert (row["text"], row["metadata"]) == (RETURNS, {"team": "shop"})
        told = (
            await s.http.post("/api/v1/collections/handbook/explain", json={**asked, "document": row["document"]})
        ).json()
        assert [one["fate"] for one in told["candidates"]] == ["context"]
        assert told["why_not"]["reason"] == "found"
        [store] = (await s.client.vector_stores.list()).data
        assert (store.id, store.file_counts.total) == ("handbook", 1)
        page = await s.client.vector_stores.search("handbook", query="return hardware")
        assert [one.filename for one in page.data] == [WIKI]
        answer = await s.http.post(
            "/v1/chat/completions",
            json={"model": "app/helper", "messages": [{"role": "user", "content": "When is hardware returned?"}]},
        )
        assert answer.status_code == 200, answer.text
        cited = answer.json()["interlock"]["citations"]
        assert cited[0]["quote"] in RETURNS
        headers = {"authorization": f"Bearer {s.key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            streamable_http_client(f"{s.server.url}/mcp", http_client=http) as streams,
            ClientSession(*streams[:2]) as opened,
        ):
            await opened.initialize()
            found = (await opened.call_tool("search", {"query": "return hardware"})).structured_content["results"]
            assert [one["text"] for one in found] == [RETURNS]
            whole = (await opened.call_tool("fetch", {"id": found[0]["id"]})).structured_content
            assert whole["text"] == RETURNS
            listed = (await opened.call_tool("list_collections", {})).structured_content
            assert listed == {"collections": [{"name": "handbook", "documents": 1}]}
        s.index.forced = [Forced(429, b"{}", {"retry-after": "60"})]
        assert (await s.http.post("/api/v1/collections/handbook/search", json=asked)).status_code == 429
        s.index.forced = [Forced(200, b"nonsense")]
        away = await s.http.post("/api/v1/collections/handbook/search", json=asked)
        assert (away.status_code, away.json()["error"]["code"]) == (503, "index_malformed")


async def test_model_steps_of_a_collection_work_behind_every_door(tmp_path):
    steps = {"expansion": {"queries": 1}, "model": {"name": "route/r"}}
    knowledge = {"collections": {"handbook": {"steps": steps}}}
    async with site(tmp_path, knowledge=knowledge) as s:
        s.upstream.will(says("return hardware"))
        page = await s.client.vector_stores.search("handbook", query="Rückgabe")
        assert [one.content[0].text for one in page.data] == [RETURNS]
        headers = {"authorization": f"Bearer {s.key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            streamable_http_client(f"{s.server.url}/mcp", http_client=http) as streams,
            ClientSession(*streams[:2]) as opened,
        ):
            await opened.initialize()
            told = await opened.call_tool("search", {"query": "Rückgabe", "collection": "handbook"})
            assert [one["text"] for one in told.structured_content["results"]] == [RETURNS]
        assert len(s.upstream.requests) == 2


async def test_a_search_of_everything_does_not_fall_with_one_collection(tmp_path):
    async with site(tmp_path) as s:
        vector = {"field": "embedding", "embedder": "of-another-house"}
        spec = {"kind": "elasticsearch", "url": s.index.url, "index": "handbook", "fields": FIELDS, "vector": vector}
        elder = {"collection": "elder", "index": spec}
        (tmp_path / "w" / "knowledge" / "elder.yaml").write_text(yaml.safe_dump(elder))
        await asyncio.sleep(1.1)
        headers = {"authorization": f"Bearer {s.key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            streamable_http_client(f"{s.server.url}/mcp", http_client=http) as streams,
            ClientSession(*streams[:2]) as opened,
        ):
            await opened.initialize()
            told = await opened.call_tool("search", {"query": "return hardware"})
            assert not told.is_error, told
            assert [one["text"] for one in told.structured_content["results"]] == [RETURNS]
            assert list(told.structured_content["left_out"]) == ["elder"]
            alone = await opened.call_tool("search", {"query": "return hardware", "collection": "elder"})
            assert alone.is_error
            assert "of-another-house" in alone.content[0].text


async def test_a_response_in_the_background_searches_as_its_caller(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(searches("return hardware", "salary"), says("Within 30 days 【1】."))
        answer = await s.client.responses.create(model="route/r", input="When?", tools=[TOOL], background=True)
        for _ in range(200):
            if answer.status not in {"queued", "in_progress"}:
                break
            await asyncio.sleep(0.1)
            answer = await s.client.responses.retrieve(answer.id)
        assert answer.output_text == "Within 30 days."
        assert "61,000" not in json.dumps(s.upstream.requests[-1].body)


async def test_the_command_line_searches_it_and_has_nothing_to_ingest(tmp_path):
    async with site(tmp_path) as s:
        start = await s.http.post("/api/v1/collections/handbook/ingest")
        assert start.status_code == 403  # before anything is told of it

        async def interlock(*words):
            command = [sys.executable, "-m", "interlock", "--workspace", str(tmp_path / "w"), *words]
            return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)

        found = await interlock("knowledge", "search", "hardware salary", "--as", "ada", "--mode", "lexical")
        assert found.returncode == 0, found.stderr
        assert RETURNS in found.stdout
        assert PAY not in found.stdout
        for words in (["ingest", "handbook"], ["ingest"]):
            refused = await interlock(*words)
            assert refused.returncode != 0
            assert "ingest" in refused.stderr
        told = await interlock("doctor")
        assert "collection handbook: in an index elsewhere" in told.stdout


async def test_the_model_searches_and_cites(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(
            searches("return hardware", "salary band"), says("Within 30 days 【", "1】. Not 【7", "】 more.")
        )
        answer = await s.client.responses.create(
            model="route/r", input="When?", tools=[TOOL], include=["file_search_call.results"]
        )
        search, message = answer.output
        assert (search.type, search.status) == ("file_search_call", "completed")
        assert search.queries == ["return hardware", "salary band"]
        assert [(one.filename, one.text, one.attributes) for one in search.results] == [
            (WIKI, RETURNS, {"team": "shop"})
        ]
        # One figure at every door: a threshold chosen by what is seen here holds.
        page = await s.client.vector_stores.search("handbook", query=["return hardware", "salary band"])
        assert search.results[0].score == page.data[0].score
        [part] = message.content
        assert part.text == "Within 30 days. Not more."
        [note] = part.annotations
        assert (note.type, note.index, note.filename) == ("file_citation", 14, WIKI)
        assert note.file_id == search.results[0].file_id
        assert answer.usage.input_tokens == 2 * USAGE["prompt_tokens"]
        first, second = s.upstream.requests
        assert [tool["function"]["name"] for tool in first.body["tools"]] == ["file_search"]
        result = second.body["messages"][-1]
        assert (result["role"], result["tool_call_id"]) == ("tool", "c0")
        assert result["content"] == f"【1】 Returns\n{RETURNS}"
        assert "61,000" not in json.dumps(second.body)
        assert "vector_store_ids" not in json.dumps(first.body)
        s.upstream.will(says("As I said."))
        again = await s.client.responses.create(
            model="route/r", input="Again?", previous_response_id=answer.id, tools=[TOOL]
        )
        assert again.output_text == "As I said."


async def test_an_answer_from_a_search_ends_with_the_right_to_what_was_found(tmp_path):
    async with site(tmp_path) as s:
        # It cites nothing, and lists nothing of what it found.
        s.upstream.will(searches("return hardware"), says("Within 30 days."))
        answer = await s.client.responses.create(model="route/r", input="When?", tools=[TOOL])
        assert "ext_" not in answer.model_dump_json()
        assert (await s.client.responses.retrieve(answer.id)).output_text == "Within 30 days."
        s.index.documents["r"]["readers"] = ["group:board"]
        with pytest.raises(NotFoundError):
            await s.client.responses.retrieve(answer.id)
        s.index.documents["r"]["readers"] = ["public"]
        s.index.forced = [Forced(503, b"{}")] * 9
        with pytest.raises(InternalServerError):
            await s.client.responses.retrieve(answer.id)


async def test_a_streamed_search_has_the_published_events(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(searches("return hardware"), says("Within 30 ", "days", " 【1】", "."))
        async with s.client.responses.stream(model="route/r", input="When?", tools=[TOOL]) as stream:
            events = [event async for event in stream]
            answer = await stream.get_final_response()
    kinds = [event.type for event in events]
    searching = [kind for kind in kinds if "file_search_call" in kind]
    assert searching == [f"response.file_search_call.{state}" for state in ("in_progress", "searching", "completed")]
    start = kinds.index("response.file_search_call.in_progress")
    assert kinds[start - 1] == "response.output_item.added"
    assert kinds[start + 3] == "response.output_item.done"
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    assert numbers == sorted(numbers)
    [added] = [event for event in events if event.type == "response.output_text.annotation.added"]
    assert added.annotation.index == len("Within 30 days")
    search, message = answer.output
    assert search.results is None
    assert message.content[0].text == "Within 30 days."
    assert len(message.content[0].annotations) == 1


async def test_searches_and_calls_of_the_model_are_bounded(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(searches("return hardware"))
        answer = await s.client.responses.create(model="route/r", input="loop", tools=[TOOL])
        assert len(s.upstream.requests) == 4
        assert s.upstream.requests[-1].body["tool_choice"] == "none"
        assert {item.type for item in answer.output} == {"file_search_call"}


async def test_a_call_of_the_callers_own_function_is_the_callers(tmp_path):
    own = {"type": "function", "name": "stock", "parameters": {"type": "object", "properties": {}}, "strict": False}
    async with site(tmp_path) as s:
        s.upstream.will(calls(("stock", {}), ("file_search", {"queries": ["hardware"]})))
        answer = await s.client.responses.create(model="route/r", input="?", tools=[TOOL, own])
        assert sorted(item.type for item in answer.output) == ["file_search_call", "function_call"]
        assert len(s.upstream.requests) == 1


async def test_a_search_that_fails_is_told_to_the_model_without_secrets(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(calls(("file_search", {"nothing": 1})), says("Sorry."))
        answer = await s.client.responses.create(model="route/r", input="?", tools=[TOOL])
        assert [getattr(item, "status", None) for item in answer.output] == ["failed", "completed"]
        count = s.index.search({"query": {"match_all": {}}})
        s.index.forced = [Forced(body=json.dumps(count).encode()), Forced(200, b"nonsense")]
        s.upstream.will(searches("hardware"), says("Sorry."))
        answer = await s.client.responses.create(model="route/r", input="?", tools=[TOOL])
        assert answer.output[0].status == "failed"
        assert s.upstream.requests[-1].body["messages"][-1]["content"] == "the search failed: index_malformed"


WRONG = [
    ([{"type": "file_search"}], "tools[0].vector_store_ids"),
    ([{**TOOL, "max_num_results": 51}], "tools[0].max_num_results"),
    ([{**TOOL, "ranking_options": {"score_threshold": 2}}], "tools[0].ranking_options.score_threshold"),
    ([TOOL, TOOL], "tools[1]"),
    ([{**TOOL, "filters": {"type": "near"}}], "tools[0].filters"),
    ([TOOL, {"type": "function", "name": "file_search", "parameters": {}}], "tools"),
    ([{**TOOL, "filters": {"type": "eq", "key": "", "value": "x"}}], "tools[0].filters"),
    ([{**TOOL, "vector_store_ids": ["handbook", "nothing"]}], "tools[0].vector_store_ids[1]"),
]


async def test_a_wrong_tool_names_its_field(tmp_path):
    async with site(tmp_path) as s:
        for tools, param in WRONG:
            with pytest.raises(openai.APIStatusError) as caught:
                await s.client.responses.create(model="route/r", input="?", tools=tools)
            assert caught.value.param == param
            assert caught.value.status_code in {400, 404}
        with pytest.raises(openai.BadRequestError) as caught:
            await s.client.responses.create(model="app/helper", input="?", tools=[TOOL])
        assert caught.value.param == "tools[0]"
        assert s.upstream.requests == []
