"""OpenAI's tools of free text, with providers that have no such tools."""

from __future__ import annotations

import json

import pytest
from openai import AsyncOpenAI

from interlock.testing.upstream import Reply

from .test_lane import JSON, MODEL, USAGE, site

SQL = "SELECT 'ü\n' FROM t"
CUSTOM = {"name": "run_sql", "description": "Runs SQL."}
GRAMMAR = {"format": {"type": "grammar"}}
ARGUMENTS = json.dumps({"input": SQL})


def called(stream):
    call = {"id": "c1", "type": "function", "function": {"name": "run_sql", "arguments": ARGUMENTS}}
    if not stream:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        answer = {"id": "a", "object": "chat.completion", "created": 1, "model": MODEL, "usage": USAGE}
        return Reply([json.dumps({**answer, "choices": [choice]}).encode()], headers=JSON)
    half = len(ARGUMENTS) // 2
    deltas = [
        {"role": "assistant", "tool_calls": [{**call, "index": 0, "function": {"name": "run_sql", "arguments": ""}}]},
        *({"tool_calls": [{"index": 0, "function": {"arguments": a}}]} for a in (ARGUMENTS[:half], ARGUMENTS[half:])),
    ]
    base = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    chunks = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": USAGE})
    return Reply([f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"])


def asked_upstream(s):
    (tool,) = s.upstream.requests[-1].body["tools"]
    return tool["type"], tool["function"]["name"], tool["function"]["parameters"]["required"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_of_a_custom_tool_in_chat(tmp_path, stream):
    async with site(tmp_path) as s, AsyncOpenAI(base_url=f"{s.server.url}/v1", api_key=s.key) as client:
        s.upstream.will(called(stream))
        tools = [{"type": "custom", "custom": CUSTOM}]
        messages = [{"role": "user", "content": "hi"}]
        answer = await client.chat.completions.create(model="route/r", messages=messages, tools=tools, stream=stream)
        assert asked_upstream(s) == ("function", "run_sql", ["input"])
        if stream:
            deltas = [
                chunk.choices[0].delta async for chunk in answer if chunk.choices and chunk.choices[0].delta.tool_calls
            ]
            calls = [call.to_dict() for delta in deltas for call in delta.tool_calls]
            assert (calls[0]["type"], calls[0]["custom"]["name"]) == ("custom", "run_sql")
            assert "".join(call["custom"]["input"] for call in calls) == SQL
            return
        (call,) = answer.choices[0].message.tool_calls
        assert (call.type, call.custom.name, call.custom.input) == ("custom", "run_sql", SQL)
        # It goes on with the call and its output.
        turns = [
            *messages,
            {"role": "assistant", "tool_calls": [call.to_dict()]},
            {"role": "tool", "tool_call_id": call.id, "content": "3 rows"},
        ]
        await client.chat.completions.create(model="route/r", messages=turns, tools=tools)
        sent = s.upstream.requests[-1].body["messages"][1]["tool_calls"][0]
        assert json.loads(sent["function"]["arguments"]) == {"input": SQL}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_of_a_custom_tool_in_responses(tmp_path, stream):
    async with site(tmp_path) as s, AsyncOpenAI(base_url=f"{s.server.url}/v1", api_key=s.key) as client:
        s.upstream.will(called(True), called(False))
        tools = [{"type": "custom", **CUSTOM}]
        if stream:
            async with client.responses.stream(model="route/r", input="hi", tools=tools) as events:
                kinds = [event.type async for event in events]
                answer = await events.get_final_response()
            assert "response.custom_tool_call_input.done" in kinds
        else:
            answer = await client.responses.create(model="route/r", input="hi", tools=tools)
        assert asked_upstream(s) == ("function", "run_sql", ["input"])
        (call,) = answer.output
        assert (call.type, call.name, call.input, call.call_id) == ("custom_tool_call", "run_sql", SQL, "c1")
        output = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "3 rows"}
        for body in ({"previous_response_id": answer.id, "input": [output]}, {"input": [call.to_dict(), output]}):
            await client.responses.create(model="route/r", tools=tools, **body)
            sent = s.upstream.requests[-1].body["messages"]
            called_before = next(turn for turn in sent if turn.get("tool_calls"))["tool_calls"][0]
            assert json.loads(called_before["function"]["arguments"]) == {"input": SQL}
            assert sent[-1]["content"] == "3 rows"


@pytest.mark.parametrize(
    ("path", "tool", "param"),
    [
        (
            "/v1/chat/completions",
            {"type": "custom", "custom": {**CUSTOM, "format": {"type": "grammar"}}},
            "custom.format",
        ),
        ("/v1/chat/completions", {"type": "custom"}, "custom"),
        ("/v1/responses", {"type": "custom", **CUSTOM, **GRAMMAR}, "format"),
        ("/v1/responses", {"type": "web_search"}, "type"),
    ],
)
async def test_what_cannot_travel_is_refused_by_name(tmp_path, path, tool, param):
    async with site(tmp_path) as s:
        body = (
            {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {"input": "hi", "messages": None}
        )
        answer = await s.ask(path=path, tools=[tool], **body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == f"tools[0].{param}"
