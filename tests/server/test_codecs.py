"""Laws of the codecs: what one writes, that vendor's client reads as it was, whole or in pieces."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message as AnthropicMessage
from anthropic.types import RawMessageStreamEvent
from google.genai.models import _GenerateContentResponse_from_mldev
from google.genai.types import GenerateContentResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.messages import Finish, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from interlock.flows.respond import codec

BODIES = {
    "openai.chat": {"model": "m", "messages": [{"role": "user", "content": "q"}]},
    "openai.responses": {"model": "m", "input": "q"},
    "anthropic.messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]},
    "google.generate": {"contents": [{"parts": [{"text": "q"}]}]},
}
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), max_size=4)
json_objects = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.integers(-99, 99))


@st.composite
def answers(draw):
    """Events of one answer, and what they say."""
    events = []
    thoughts = draw(texts)
    events += [ReasoningDelta(piece, "openai") for piece in thoughts]
    said = draw(texts)
    events += [TextDelta(piece) for piece in said]
    calls = draw(st.lists(json_objects, max_size=3))
    for index, arguments in enumerate(calls):
        raw = json.dumps(arguments)
        cut = draw(st.integers(0, len(raw)))
        events.append(ToolCallDelta(index, f"call_{index}", f"tool_{index}", raw[:cut]))
        events.append(ToolCallDelta(index, arguments=raw[cut:]))
    inputs, outputs = draw(st.integers(0, 10_000)), draw(st.integers(0, 10_000))
    cached = draw(st.integers(0, inputs))
    usage = Usage(inputs, outputs, cached, draw(st.integers(0, outputs)))
    events.append(Finish("tool_calls" if calls else "stop", usage, "m"))
    return events, "".join(said), [(f"tool_{at}", one) for at, one in enumerate(calls)], usage


def ask(wire, **more):
    return codec(wire).decode({**BODIES[wire], **more}, model="m", stream=True)


def streamed(wire, events, **more):
    reply = codec(wire).reply(ask(wire, **more))
    return [frame for event in events for frame in reply.frames(event)]


def whole(wire, events):
    return codec(wire).reply(ask(wire)).whole(events, {"trace_id": "t"})


def of_chat(answer):
    message = answer.choices[0].message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]
    return message.content or "", calls, answer.usage.prompt_tokens, answer.usage.completion_tokens


def of_response(answer):
    calls = [(item.name, json.loads(item.arguments)) for item in answer.output if item.type == "function_call"]
    return answer.output_text, calls, answer.usage.input_tokens, answer.usage.output_tokens


def of_message(answer):
    text = "".join(block.text for block in answer.content if block.type == "text")
    calls = [(block.name, block.input) for block in answer.content if block.type == "tool_use"]
    used = answer.usage
    return text, calls, used.input_tokens + (used.cache_read_input_tokens or 0), used.output_tokens


def of_google(chunks):
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts or []]
    text = "".join(part.text for part in parts if part.text and not part.thought)
    calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
    used = chunks[-1].usage_metadata
    return text, calls, used.prompt_token_count, used.candidates_token_count + used.thoughts_token_count


def google(body):
    return GenerateContentResponse.model_validate(_GenerateContentResponse_from_mldev(json.loads(json.dumps(body))))


law = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@law
@given(answers())
def test_openai_reads_a_chat_as_it_was(answer):
    events, text, calls, usage = answer
    expected = (text, calls, usage.input_tokens, usage.output_tokens)
    assert of_chat(ChatCompletion.model_validate(whole("openai.chat", events))) == expected
    frames = streamed("openai.chat", events, stream_options={"include_usage": True})
    assert frames[-1].data == "[DONE]"
    chunks = [ChatCompletionChunk.model_validate(frame.data) for frame in frames[:-1]]
    assert chunks[-1].usage.total_tokens == usage.total_tokens
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == text
    arguments = {}
    for delta in deltas:
        for call in delta.tool_calls or []:
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert [json.loads(arguments[at]) for at in sorted(arguments)] == [one for _, one in calls]


@law
@given(answers())
def test_openai_reads_a_response_and_each_of_its_events(answer):
    events, text, calls, usage = answer
    expected = (text, calls, usage.input_tokens, usage.output_tokens)
    assert of_response(Response.model_validate(whole("openai.responses", events))) == expected
    frames = streamed("openai.responses", events)
    checked = [TypeAdapter(ResponseStreamEvent).validate_python(frame.data) for frame in frames]
    assert [event.sequence_number for event in checked] == list(range(len(checked)))
    assert [frame.event for frame in frames] == [event.type for event in checked]
    assert of_response(checked[-1].response) == expected
    said = "".join(event.delta for event in checked if event.type == "response.output_text.delta")
    assert said == text
    opened = [event.output_index for event in checked if event.type == "response.output_item.added"]
    closed = [event.output_index for event in checked if event.type == "response.output_item.done"]
    assert sorted(opened) == sorted(closed) == list(range(len(checked[-1].response.output)))


@law
@given(answers())
def test_anthropic_reads_a_message_and_its_events(answer):
    events, text, calls, usage = answer
    expected = (text, calls, usage.input_tokens, usage.output_tokens)
    assert of_message(AnthropicMessage.model_validate(whole("anthropic.messages", events))) == expected
    frames = streamed("anthropic.messages", events)
    kinds = [frame.event for frame in frames]
    assert (kinds[0], kinds[1], kinds[-1]) == ("message_start", "ping", "message_stop")
    assert kinds.count("content_block_start") == kinds.count("content_block_stop")
    snapshot, buffers = None, {}
    for frame in frames:
        if frame.event == "ping":
            continue
        event = TypeAdapter(RawMessageStreamEvent).validate_python(frame.data)
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    assert of_message(snapshot) == expected


@law
@given(answers())
def test_google_reads_an_answer_and_its_chunks(answer):
    events, text, calls, usage = answer
    expected = (text, calls, usage.input_tokens, usage.output_tokens)
    body = whole("google.generate", events)
    assert body.pop("interlock") == {"trace_id": "t"}
    assert of_google([google(body)]) == expected
    assert of_google([google(frame.data) for frame in streamed("google.generate", events)]) == expected


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize("wire", list(BODIES))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_json_is_read_or_refused_by_name(wire, data):
    fields = [
        "messages", "input", "contents", "tools", "tool_choice", "system", "metadata", "stop", "text", "thinking",
        "response_format", "generationConfig", "toolConfig", "instructions", "reasoning", "output_config", "n",
    ]  # fmt: skip
    changed = {name: data.draw(junk) for name in data.draw(st.lists(st.sampled_from(fields), max_size=3))}
    with suppress(InvalidInput):
        codec(wire).decode({**BODIES[wire], **changed}, model="m")


@pytest.mark.parametrize("wire", list(BODIES))
def test_an_error_tells_no_values_and_keeps_its_code(wire):
    wrong = {"temperature": "hot secret", "generationConfig": {"temperature": "hot secret"}}
    with pytest.raises(InvalidInput) as caught:
        codec(wire).decode({**BODIES[wire], **wrong}, model="m")
    assert "secret" not in json.dumps(codec(wire).fault(caught.value, "req_1").body)
    fault = codec(wire).fault(InterlockError("x", code="odd"), "req_1")
    assert fault.status == 500
    assert "odd" in json.dumps(fault.body)


@pytest.mark.parametrize("wire", list(BODIES))
def test_unknown_fields_are_kept_for_a_provider_of_the_same_api(wire):
    native = codec(wire).decode({**BODIES[wire], "brand_new": 1}, model="m").request.native
    assert (native.wire, native.body["brand_new"]) == (wire, 1)


def test_thoughts_refusals_and_redactions_have_a_place_in_each_api():
    events = [
        ReasoningDelta("hm", "anthropic", 0, "sig"),
        ReasoningDelta("", "anthropic", 1, "sealed", redacted=True),
        TextDelta("No.", refusal=True),
        Finish("content_filter", Usage(1, 1), "m"),
    ]
    message = AnthropicMessage.model_validate(whole("anthropic.messages", events))
    assert [block.type for block in message.content] == ["thinking", "redacted_thinking", "text"]
    assert (message.content[0].signature, message.content[1].data) == ("sig", "sealed")
    assert message.stop_reason == "refusal"
    chat = ChatCompletion.model_validate(whole("openai.chat", events)).choices[0]
    assert (chat.message.refusal, chat.message.content) == ("No.", None)
    assert chat.message.model_extra["reasoning_content"].startswith("hm")
    response = Response.model_validate(whole("openai.responses", events))
    assert response.output[-1].content[0].refusal == "No."
    assert response.incomplete_details.reason == "content_filter"
    # The proof of a thought goes to no other API.
    assert "sig" not in json.dumps(whole("openai.responses", events)["output"])
    assert "sig" not in json.dumps(whole("google.generate", events))
