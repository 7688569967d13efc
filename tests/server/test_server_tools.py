"""What only Anthropic's API knows: tools that it runs itself, what they found, citations; through its own client."""

from __future__ import annotations

import anthropic
import pytest

from interlock.testing.upstream import Reply, sse

from .test_lane import Site, site, streamed

CLAUDE = "claude-sonnet-4-5"
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {
            "type": "web_search_result",
            "url": "https://example.org/a",
            "title": "A",
            "encrypted_content": "enc",
            "page_age": None,
        }
    ],
}
CITATION = {
    "type": "web_search_result_location",
    "url": "https://example.org/a",
    "title": "A",
    "encrypted_index": "idx",
    "cited_text": "It rained.",
}


def events():
    def block(index, start, *deltas):
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}

    usage = {"input_tokens": 11, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": CLAUDE, "content": [], "usage": usage}
    yield {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}}
    yield from block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Let me look."})
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    pieces = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"query": ', '"rain"}')]
    yield from block(1, call, *pieces)
    yield from block(2, FOUND)
    cited = {"type": "text", "text": "", "citations": []}
    delta = {"type": "citations_delta", "citation": CITATION}
    yield from block(3, cited, delta, {"type": "text_delta", "text": "It rained"})
    yield from block(4, {"type": "text", "text": ""}, {"type": "text_delta", "text": " yesterday."})
    end = {"stop_reason": "pause_turn", "stop_sequence": None}
    used = {"output_tokens": 7, "server_tool_use": {"web_search_requests": 1}}
    yield {"type": "message_delta", "delta": end, "usage": used}
    yield {"type": "message_stop"}


def reply():
    return Reply(sse(*events(), named=True))


def contents(message):
    return [block.model_dump(exclude_none=True) for block in message.content]


WHOLE = [
    {"type": "text", "text": "Let me look."},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "rain"}},
    {**FOUND, "content": [{name: value for name, value in FOUND["content"][0].items() if value is not None}]},
    {"type": "text", "text": "It rained", "citations": [CITATION]},
    {"type": "text", "text": " yesterday."},
]


@pytest.fixture
async def claude(tmp_path):
    # Off the lane, which forwards bytes; the last test is about it.
    async with site(tmp_path, on=False, kind="anthropic", model=CLAUDE) as s:
        yield s


def ask(s: Site):
    return anthropic.AsyncAnthropic(base_url=s.server.url, api_key=s.key, max_retries=0)


QUESTION = {"role": "user", "content": "Did it rain?"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_of_the_provider_and_its_citations_arrive_as_they_were(claude, stream):
    claude.upstream.will(reply())
    wanted = {"model": "route/r", "max_tokens": 50, "messages": [QUESTION], "tools": [SEARCH]}
    async with ask(claude) as client:
        if stream:
            async with client.messages.stream(**wanted) as answer:
                message = await answer.get_final_message()
        else:
            message = await client.messages.create(**wanted)
    assert contents(message) == WHOLE
    assert message.stop_reason == "pause_turn"
    assert message.usage.server_tool_use.web_search_requests == 1
    sent = claude.upstream.requests[-1].body
    assert sent["tools"] == [SEARCH]
    assert sent["tool_choice"] == {"type": "auto"}


async def test_what_was_found_goes_back_unchanged(claude):
    claude.upstream.will(reply())
    said = [{**block} for block in WHOLE]
    document = {
        "type": "document",
        "title": "Rain",
        "source": {"type": "text", "media_type": "text/plain", "data": "It rained."},
        "citations": {"enabled": True},
    }
    result = {
        "type": "search_result",
        "source": "https://example.org/b",
        "title": "B",
        "content": [{"type": "text", "text": "It did."}],
        "citations": {"enabled": True},
    }
    mine = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [result]}
    turns = [
        QUESTION,
        {"role": "assistant", "content": said},
        {"role": "user", "content": [mine, document, result, {"type": "text", "text": "And today?"}]},
    ]
    async with ask(claude) as client:
        await client.beta.messages.create(
            model="route/r",
            max_tokens=50,
            messages=turns,
            tools=[SEARCH, {"name": "mine", "input_schema": {"type": "object"}}],
            betas=["web-fetch-2025-09-10"],
        )
    sent = claude.upstream.requests[-1]
    assert sent.body["messages"][1]["content"] == said
    assert sent.body["messages"][2]["content"] == [mine, document, result, {"type": "text", "text": "And today?"}]
    assert [tool["name"] for tool in sent.body["tools"]] == ["web_search", "mine"]
    assert sent.headers["anthropic-beta"] == "web-fetch-2025-09-10"
    assert "anthropic_beta" not in sent.body


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [SEARCH]}, "tools[0].type"),
        ({"messages": [QUESTION, {"role": "assistant", "content": WHOLE}, QUESTION]}, "messages[1].content[1]"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                                "citations": {"enabled": True},
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0]",
        ),
        ({"mcp_servers": [{"type": "url", "url": "https://example.org", "name": "x"}]}, "mcp_servers"),
    ],
)
async def test_a_target_that_cannot_says_which_field_it_cannot_take(tmp_path, more, param):
    async with site(tmp_path) as s:
        s.upstream.will(streamed("ok"))
        body = {"model": "route/r", "max_tokens": 50, "messages": [QUESTION], **more}
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            answer = await s.http.post(path, json=body, headers={"x-api-key": s.key})
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == param
        assert s.upstream.requests == []


async def test_a_route_goes_on_to_the_target_that_can(tmp_path):
    providers = {"openai": {"kind": "openai", "base_url": "http://127.0.0.1:9", "api_key_env": "FAKE_KEY"}}
    route = {"targets": ["openai/gpt-4.1", f"up/{CLAUDE}"]}
    async with site(
        tmp_path, on=False, kind="anthropic", model=CLAUDE, route=route, gateway={"providers": providers}
    ) as s:
        s.upstream.will(reply())
        async with ask(s) as client:
            made = client.messages.with_raw_response.create
            raw = await made(model="route/r", max_tokens=50, messages=[QUESTION], tools=[SEARCH])
        assert raw.headers["x-interlock-route"] == f"up/{CLAUDE}; openai/gpt-4.1=unsupported_content"


async def test_the_lane_passes_them_on_and_leaves_betas_to_the_ordinary_path(tmp_path):
    async with site(tmp_path, kind="anthropic", model=CLAUDE) as s:
        s.upstream.will(reply())
        search = {"type": SEARCH["type"], "name": "web_search"}
        wanted = {"path": "/v1/messages", "max_tokens": 50, "tools": [search]}
        await s.warm(stream=True, **wanted)
        answer = await s.ask(stream=True, **wanted)
        assert await s.took_lane(answer)
        assert "web_search_tool_result" in answer.text
        assert "citations_delta" in answer.text
        assert (await s.trace(answer))["ledger"][0]["usage"]["output_tokens"] == 7
        async with ask(s) as client:
            await client.beta.messages.create(
                model="route/r", max_tokens=50, messages=[QUESTION], tools=[SEARCH], betas=["a-2025-01-01"]
            )
        assert s.upstream.requests[-1].headers["anthropic-beta"] == "a-2025-01-01"


async def test_openai_s_callers_get_the_text_alone(claude):
    claude.upstream.will(reply())
    answer = await claude.ask(stream=False)
    assert answer.json()["choices"][0]["message"]["content"] == "Let me look.It rained yesterday."
