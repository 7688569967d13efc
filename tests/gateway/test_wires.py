"""What each encoder writes, and that none forgets a part in silence."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput
from interlock.core.messages import (
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    Native,
    Reasoning,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    ToolSpec,
    text_message,
)
from interlock.gateway.presets import Quirks, presets
from interlock.gateway.profiles import profile
from interlock.gateway.types import ModelProfile
from interlock.gateway.wires import anthropic, bedrock, cohere, google, mistral, openai, responses

FACTS = ModelProfile()
WIRES = {
    "openai": openai.encode_request,
    "responses": responses.encode_request,
    "anthropic": anthropic.encode_request,
    "google": google.encode_request,
    "vertex": lambda *a: google.encode_request(*a, vertex=True),
    "bedrock": bedrock.encode_request,
    "cohere": cohere.encode_request,
    "mistral": mistral.encode_request,
    **{
        name: (lambda r, m, p, q=preset.quirks: openai.encode_request(r, m, p, q)) for name, preset in presets().items()
    },
}
MEDIA = ["application/pdf", "text/plain", "image/png", "audio/wav", "video/mp4", "application/zip"]
marks = st.integers(0, 10**9).map(lambda n: f"m{n:010d}")


@st.composite
def plain_parts(draw):
    mark = draw(marks)
    match draw(st.sampled_from(["text", "image", "image url", "file", "file url", "file id"])):
        case "text":
            return TextPart(mark, cache=draw(st.sampled_from([None, "5m", "1h"])))
        case "image":
            return ImagePart("image/png", data=mark.encode())
        case "image url":
            return ImagePart("image/png", url=f"https://x/{mark}", detail="low")
        case "file":
            return FilePart("a.pdf", draw(st.sampled_from(MEDIA)), data=mark.encode())
        case "file url":
            return FilePart("a.pdf", draw(st.sampled_from(MEDIA)), url=f"https://x/{mark}")
    return FilePart("a.pdf", draw(st.sampled_from(MEDIA)), file_id=mark)


@st.composite
def conversations(draw):
    messages = [text_message("system", draw(marks))]
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", tuple(draw(st.lists(plain_parts(), min_size=1, max_size=3)))))
        calls = [ToolCallPart(draw(marks), "f", json.dumps({"a": draw(marks)})) for _ in range(draw(st.integers(0, 2)))]
        said = [TextPart(draw(marks))] if draw(st.booleans()) or not calls else []
        messages.append(Message("assistant", (*said, *calls)))
        for call in calls:
            content = tuple(draw(st.lists(plain_parts(), min_size=1, max_size=2)))
            messages.append(
                Message("tool", (ToolResultPart(call.id, content), *draw(st.lists(plain_parts(), max_size=1))))
            )
    return tuple(messages)


def marks_in(messages):
    for message in messages:
        for part in message.parts:
            for item in part.content if isinstance(part, ToolResultPart) else (part,):
                match item:
                    case TextPart(text):
                        yield text
                    case ToolCallPart():
                        yield json.loads(item.arguments)["a"]
                    case ImagePart() | FilePart():
                        yield item.url or getattr(item, "file_id", None) or item.data.decode()


@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=15, deadline=None)
@given(messages=conversations())
def test_no_part_is_lost_in_silence(wire, messages):
    request = ChatRequest("x/y", messages, tools=(ToolSpec("f", "", {"type": "object"}),))
    try:
        body = json.dumps(WIRES[wire](request, "m", FACTS))
    except InvalidInput as error:
        if error.param not in {"messages", "tools"}:
            raise
        return
    for mark in marks_in(messages):
        coded = base64.b64encode(mark.encode()).decode()
        assert mark in body or coded in body, mark


SINGLE = {
    "text": TextPart("m1"),
    "image": ImagePart("image/png", data=b"m1"),
    "image url": ImagePart("image/png", url="https://x/m1"),
    **{
        f"{media} {how}": FilePart("a.bin", media, **field)
        for media in MEDIA
        for how, field in {"bytes": {"data": b"m1"}, "url": {"url": "https://x/m1"}, "id": {"file_id": "m1"}}.items()
    },
}


@pytest.mark.parametrize("wire", WIRES)
def test_every_kind_of_part_is_written_or_refused_wherever_it_stands(wire):
    call = Message("assistant", (ToolCallPart("c", "f", "{}"),))
    taken = set()
    for kind, part in SINGLE.items():
        spoken = ChatRequest("x", (Message("user", (TextPart("q"), part)),))
        answered = ChatRequest("x", (text_message("user", "q"), call, Message("tool", (ToolResultPart("c", (part,)),))))
        for place, request in (("user", spoken), ("tool", answered)):
            try:
                body = json.dumps(WIRES[wire](request, "m", FACTS))
            except InvalidInput as error:
                if error.code != "unsupported_content":
                    raise
                continue
            assert "m1" in body or base64.b64encode(b"m1").decode() in body
            taken.add((kind, place))
    assert {("text", "user"), ("text", "tool"), ("image", "user")} <= taken


def ask(**fields):
    return ChatRequest("x/y", (text_message("user", "hi"),), **fields)


def test_fields_of_the_callers_own_api_are_passed_on_and_no_others():
    native = Native("openai.chat", {"logit_bias": {"5": 1}, "store": True, "metadata": {"a": "b"}, "n": 9, "evil": 1})
    body = openai.encode_request(ask(native=native), "gpt-4.1", FACTS)
    assert body["logit_bias"] == {"5": 1}
    assert body["metadata"] == {"a": "b"}
    assert not {"n", "evil"} & set(body)
    assert "logit_bias" not in anthropic.encode_request(ask(native=native), "claude", FACTS)
    assert "metadata" not in openai.encode_request(
        ask(native=Native("openai.chat", {"metadata": {"a": "b"}})), "gpt-4.1", FACTS
    )


def test_each_kind_of_server_is_told_how_much_to_think():
    request = ask(reasoning=Reasoning(effort="high"))
    written = {
        name: {
            k: v
            for k, v in WIRES[name](request, "m", FACTS).items()
            if k in {"reasoning_effort", "reasoning", "thinking", "chat_template_kwargs"}
        }
        for name in ("openai", "openrouter", "deepseek", "vllm", "minimax")
    }
    assert written == {
        "openai": {"reasoning_effort": "high"},
        "openrouter": {"reasoning": {"effort": "high"}},
        "deepseek": {"thinking": {"type": "enabled"}},
        "vllm": {"chat_template_kwargs": {"enable_thinking": True}},
        "minimax": {},
    }
    assert (
        openai.encode_request(ask(reasoning=Reasoning(budget_tokens=9000)), "m", FACTS)["reasoning_effort"] == "medium"
    )


def test_claude_thinks_by_budget_and_newer_ones_by_effort():
    request = ask(reasoning=Reasoning(effort="medium"), max_output_tokens=20_000, temperature=0.3, top_k=5)
    body = anthropic.encode_request(request, "claude-sonnet-4-5", profile("claude-sonnet-4-5"))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    assert not {"temperature", "top_k"} & set(body)
    newer = anthropic.encode_request(request, "claude-opus-4-7", profile("claude-opus-4-7"))
    assert (newer["thinking"], newer["output_config"]) == ({"type": "adaptive"}, {"effort": "medium"})
    short = anthropic.encode_request(replace(request, max_output_tokens=500), "claude-sonnet-4-5", FACTS)
    assert "thinking" not in short
    with pytest.raises(InvalidInput):
        anthropic.encode_request(
            ask(reasoning=Reasoning(budget_tokens=4000), max_output_tokens=500), "claude-sonnet-4-5", FACTS
        )
    assert bedrock.encode_request(request, "anthropic.claude-sonnet-4-5", FACTS)["additionalModelRequestFields"] == {
        "thinking": {"type": "enabled", "budget_tokens": 8192}
    }


def test_gemini_thinks_by_budget_or_by_level():
    request = ask(reasoning=Reasoning(effort="low"))
    old = google.encode_request(request, "gemini-2.5-flash", profile("gemini-2.5-flash"))
    assert old["generationConfig"]["thinkingConfig"] == {"includeThoughts": True, "thinkingBudget": 2048}
    new = google.encode_request(request, "gemini-3-pro", profile("gemini-3-pro"))
    assert new["generationConfig"]["thinkingConfig"] == {"includeThoughts": True, "thinkingLevel": "low"}


def marked():
    cached = Message("system", (TextPart("long rules", cache="1h"), TextPart("short")))
    user = Message(
        "user",
        (
            TextPart("q", cache="5m"),
            ImagePart("image/png", data=b"x", cache="5m"),
            FilePart("a b!.pdf", "application/pdf", data=b"%", cache="5m"),
        ),
    )
    result = Message("tool", (ToolResultPart("c1", (TextPart("one"),), is_error=True, cache="5m"),))
    call = Message("assistant", (ToolCallPart("c1", "f", "{}"),))
    tools = (ToolSpec("f", "", {"type": "object"}, cache="1h"),)
    return ChatRequest("x/y", (cached, user, call, result), tools=tools, parallel_tool_calls=False)


def test_cache_marks_become_cache_control():
    body = anthropic.encode_request(marked(), "claude", FACTS)
    hour, minutes = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    assert body["system"] == [
        {"type": "text", "text": "long rules", "cache_control": hour},
        {"type": "text", "text": "short"},
    ]
    assert [block["cache_control"] for block in body["messages"][0]["content"]] == [minutes] * 3
    assert body["messages"][2]["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "c1",
        "content": [{"type": "text", "text": "one"}],
        "is_error": True,
        "cache_control": minutes,
    }
    assert body["tools"][0]["cache_control"] == hour
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_cache_marks_become_cache_points():
    body = bedrock.encode_request(marked(), "anthropic.claude", FACTS)
    assert body["system"] == [
        {"text": "long rules"},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
        {"text": "short"},
    ]
    content = body["messages"][0]["content"]
    assert [next(iter(block)) for block in content] == [
        "text",
        "cachePoint",
        "image",
        "cachePoint",
        "document",
        "cachePoint",
    ]
    assert content[4]["document"]["name"] == "a b"
    assert [next(iter(tool)) for tool in body["toolConfig"]["tools"]] == ["toolSpec", "cachePoint"]
    assert body["messages"][2]["content"][0]["toolResult"]["status"] == "error"


def test_openrouter_takes_cache_marks_and_openai_does_not():
    assert "cache_control" in json.dumps(WIRES["openrouter"](marked(), "m", FACTS))
    assert "cache_control" not in json.dumps(WIRES["openai"](marked(), "m", FACTS))


def test_a_schema_is_asked_for_in_each_apis_own_way():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    request = ask(response_schema=schema, schema_name="thing", schema_strict=False)
    assert openai.encode_request(request, "m", FACTS)["response_format"]["json_schema"] == {
        "name": "thing", "schema": schema, "strict": False,
    }  # fmt: skip
    assert responses.encode_request(request, "m", FACTS)["text"]["format"]["name"] == "thing"
    assert google.encode_request(request, "m", FACTS)["generationConfig"]["responseJsonSchema"] == schema
    structure = bedrock.encode_request(request, "m", FACTS)["outputConfig"]["textFormat"]["structure"]
    assert json.loads(structure["jsonSchema"]["schema"]) == schema
    assert cohere.encode_request(request, "m", FACTS)["response_format"]["json_schema"] == schema
    forced = anthropic.encode_request(request, "claude-3-5-haiku-latest", profile("claude-3-5-haiku-latest"))
    assert forced["tool_choice"] == {"type": "tool", "name": "thing"}
    with pytest.raises(InvalidInput) as caught:
        WIRES["deepseek"](request, "m", FACTS)
    assert caught.value.param == "response_format"


async def test_a_forced_tool_answers_as_text():
    async def events():
        for event in (
            {"type": "message_start", "message": {"id": "m1", "usage": {"input_tokens": 1}}},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "tool_use", "id": "t", "name": "thing"},
            },
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
            {"type": "message_stop"},
        ):
            yield json.dumps(event)

    got = [e async for e in anthropic.decode_stream(events(), provider="p", model="m", answer_tool="thing")]
    assert "".join(e.text for e in got[:-1]) == '{"a":1}'
    assert got[-1].reason == "stop"


def test_mistral_gets_short_ids_and_its_own_names():
    call, result = ToolCallPart("toolu_01ABC", "f", "{}"), ToolResultPart("toolu_01ABC", (TextPart("x"),))
    thought = ReasoningPart("hm", "openai")
    request = ChatRequest(
        "x/y",
        (
            text_message("user", "hi"),
            Message("assistant", (thought, call)),
            Message("tool", (result,)),
            text_message("assistant", "So far"),
        ),
        tools=(ToolSpec("f", "", {"type": "object"}),),
        tool_choice=ToolChoice("required"),
        seed=3,
        user_hint="u",
    )
    body = mistral.encode_request(request, "mistral-large-latest", FACTS)
    short = body["messages"][1]["tool_calls"][0]["id"]
    assert len(short) == 9
    assert short.isalnum()
    assert body["messages"][2]["tool_call_id"] == short
    assert body["messages"][1]["content"] == [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    assert body["messages"][-1]["prefix"] is True
    assert (body["tool_choice"], body["random_seed"]) == ("any", 3)
    assert not {"seed", "user", "stream_options"} & set(body)


def test_google_answers_a_call_by_its_name():
    request = marked()
    body = google.encode_request(request, "gemini-2.5-flash", FACTS)
    assert body["contents"][2]["parts"][0] == {
        "functionResponse": {"name": "f", "response": {"error": "one"}, "id": "c1"}
    }
    assert (
        "id"
        not in google.encode_request(request, "m", FACTS, vertex=True)["contents"][2]["parts"][0]["functionResponse"]
    )
    orphan = ChatRequest("x/y", request.messages[3:])
    with pytest.raises(InvalidInput):
        google.encode_request(orphan, "m", FACTS)


def test_the_proof_of_a_call_goes_back_with_the_call():
    call = ToolCallPart("c", "f", "{}", signature="cHJvb2Y=")
    body = google.encode_request(
        ChatRequest("x", (text_message("user", "a"), Message("assistant", (call,)))), "m", FACTS
    )
    assert body["contents"][1]["parts"][0]["thoughtSignature"] == "cHJvb2Y="


def test_images_of_a_tool_follow_all_tool_turns():
    image = ImagePart("image/png", url="https://x/i.png")
    request = ChatRequest(
        "x",
        (
            Message("assistant", (ToolCallPart("a", "f", "{}"), ToolCallPart("b", "f", "{}"))),
            Message("tool", (ToolResultPart("a", (TextPart("one"), image)),)),
            Message("tool", (ToolResultPart("b", (TextPart("two"),)),)),
            text_message("user", "and?"),
        ),
    )
    roles = [turn["role"] for turn in openai.encode_request(request, "m", FACTS)["messages"]]
    assert roles == ["assistant", "tool", "tool", "user", "user"]


def test_what_an_api_has_no_field_for_is_refused_by_name():
    with pytest.raises(InvalidInput) as caught:
        responses.encode_request(ask(stop=("END",)), "m", FACTS)
    assert caught.value.param == "stop"
    with pytest.raises(InvalidInput, match="tools"):
        openai.encode_request(ask(tools=(ToolSpec("f", "", {}),)), "m", FACTS, Quirks(tools=False))
    with pytest.raises(InvalidInput):
        bedrock.encode_request(ask(response_schema={}), "m", FACTS)
    for name in ("anthropic", "bedrock", "google"):
        request = ChatRequest("x", (Message("assistant", (ToolCallPart("c", "f", "[1]"),)),))
        with pytest.raises(InvalidInput, match="arguments"):
            WIRES[name](request, "m", FACTS)


async def decoded(chunks, **more):
    async def events():
        for chunk in chunks:
            yield json.dumps(chunk)

    return [event async for event in openai.decode_stream(events(), provider="p", model="m", **more)]


async def test_calls_that_a_server_numbers_all_zero_are_kept_apart():
    def call(**fields):
        return {"choices": [{"delta": {"tool_calls": [fields]}}]}

    events = await decoded(
        [
            call(index=0, id="a", function={"name": "f", "arguments": '{"x":'}),
            call(index=0, function={"arguments": "1}"}),
            call(index=0, id="b", function={"name": "g", "arguments": '{"y":'}),
            call(index=0, function={"arguments": "2}"}),
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        ]
    )
    joined = {}
    for event in events[:-1]:
        joined[event.index] = joined.get(event.index, "") + event.arguments
    assert joined == {0: '{"x":1}', 1: '{"y":2}'}
    assert events[-1].reason == "tool_calls"


async def test_refusals_logprobs_and_facts_of_the_answer_are_kept():
    chance = {"content": [{"token": "hi", "logprob": -0.1}]}
    events = await decoded(
        [
            {
                "id": "c1",
                "system_fingerprint": "fp",
                "service_tier": "flex",
                "choices": [{"delta": {"content": "hi"}, "logprobs": chance}],
            },
            {"choices": [{"delta": {"refusal": "no"}, "finish_reason": "stop"}]},
            {
                "choices": [],
                "usage": {
                    "prompt_tokens": 5,
                    "completion_tokens": 2,
                    "total_tokens": 10,
                    "completion_tokens_details": {"reasoning_tokens": 3},
                },
            },
        ]
    )
    assert events[0].logprobs == chance
    assert events[1].refusal
    finish = events[-1]
    assert finish.response_id == "c1"
    assert finish.extra == {"system_fingerprint": "fp", "service_tier": "flex"}
    assert (finish.usage.output_tokens, finish.usage.reasoning_tokens) == (5, 3)


def rich():
    """A conversation with one of everything that every API takes."""
    return ChatRequest(
        "x/y",
        (
            text_message("system", "Be brief."),
            Message(
                "user",
                (
                    TextPart("Look", cache="1h"),
                    ImagePart("image/png", data=b"png", detail="low"),
                    FilePart("my file.pdf", "application/pdf", data=b"%PDF"),
                ),
            ),
            Message("assistant", (ToolCallPart("c1", "f", '{"a": 1}'), ToolCallPart("c2", "f", "{}"))),
            Message(
                "tool", (ToolResultPart("c1", (TextPart("one"), ImagePart("image/png", data=b"p")), is_error=True),)
            ),
            Message("tool", (ToolResultPart("c2", (TextPart("two"),)),)),
            text_message("user", "So?"),
        ),
        max_output_tokens=4000,
        temperature=0.2,
        top_p=0.9,
        tools=(ToolSpec("f", "does f", {"type": "object", "properties": {}}, strict=True, cache="5m"),),
        tool_choice=ToolChoice("named", "f"),
        response_schema={"type": "object", "properties": {}},
        schema_name="thing",
        reasoning=Reasoning(effort="low", summary="auto"),
        tags={"team": "signals"},
        user_hint="u1",
        parallel_tool_calls=False,
    )


def with_thought(origin, **fields):
    request = rich()
    thought = ReasoningPart("hm", origin, signature="cHJvb2Y=", **fields)
    assistant = request.messages[2]
    messages = (*request.messages[:2], replace(assistant, parts=(thought, *assistant.parts)), *request.messages[3:])
    return replace(request, messages=messages)


@pytest.mark.parametrize(
    "model", ["anthropic.claude-sonnet-4-5-v1:0", "amazon.nova-lite-v1:0", "anthropic.claude-opus-4-7"]
)
def test_awss_own_description_of_converse_fits_what_we_write(model):
    session = pytest.importorskip("botocore.session").Session()
    from botocore.validate import ParamValidator

    operation = session.get_service_model("bedrock-runtime").operation_model("ConverseStream")
    for request in (
        with_thought("bedrock"),
        replace(with_thought("bedrock", redacted=True), tool_choice=ToolChoice("required"), stop=("END",), top_k=3),
    ):
        body = bedrock.encode_request(request, model, profile(model))
        report = ParamValidator().validate({"modelId": model, **body}, operation.input_shape)
        assert not report.has_errors(), report.generate_report()


def test_openais_own_types_fit_what_we_write():
    from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
    from pydantic import TypeAdapter

    request = replace(with_thought("openai", id="rs_1"), stop=())
    for kind, body in (
        (CompletionCreateParamsStreaming, openai.encode_request(request, "gpt-4.1", FACTS)),
        (ResponseCreateParamsStreaming, responses.encode_request(request, "gpt-5", FACTS)),
    ):
        assert (
            not set(body)
            - set(kind.__annotations__)
            - {name for base in kind.__orig_bases__ for name in getattr(base, "__annotations__", {})}
        )
        TypeAdapter(kind).validate_python(body)
