"""Every provider plug-in under its conformance suite."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from interlock.core.errors import InvalidInput, ModelMissing, NotFound, ProviderError
from interlock.core.ids import DocumentId, PassageId
from interlock.core.messages import (
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    ToolSpec,
    Usage,
    text_message,
)
from interlock.core.passages import Passage, Span
from interlock.gateway.service import PROVIDERS, collect
from interlock.gateway.settings import ProviderSettings, ScriptRule
from interlock.knowledge.embedders.minilm import MiniLM
from interlock.serving.service import Models
from interlock.testing.providers import HttpProviderSuite, ProviderSuite, caller, deps, events_of
from interlock.testing.upstream import Reply, sse
from interlock.testing.wires import (
    AnthropicWire,
    AzureWire,
    BedrockWire,
    CohereWire,
    GoogleWire,
    MistralWire,
    OpenAIWire,
    ResponsesWire,
)


class TestOpenAI(HttpProviderSuite):
    wire = OpenAIWire()
    embedding_model = "text-embedding-3-small"

    @pytest.fixture
    async def provider(self, upstream):
        provider = self.build(upstream)
        upstream.vectors = {}
        yield provider
        await provider.close()

    async def test_embeddings_come_in_input_order(self, provider, upstream):
        rows = [
            {"object": "embedding", "index": 1, "embedding": [0.0, 1.0]},
            {"object": "embedding", "index": 0, "embedding": [1.0, 0.0]},
        ]
        upstream.will(json_reply({"data": rows, "usage": {"prompt_tokens": 5, "total_tokens": 5}}))
        assert await provider.embed(caller(), ["a", "b"], "m") == ([[1.0, 0.0], [0.0, 1.0]], 5)

    @pytest.mark.parametrize(
        "body",
        [
            {"data": []},
            {"data": [{"index": 0}]},
            {"data": None},
            [],
            {"data": [{"index": 0, "embedding": ["x"]}]},
            {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0]}]},
            {"data": [{"index": 0, "embedding": [1.0]}], "usage": "many"},
        ],
    )
    async def test_embeddings_of_another_shape_are_a_provider_error(self, provider, upstream, body):
        upstream.will(json_reply(body))
        with pytest.raises(ProviderError):
            await provider.embed(caller(), ["a"], "m")

    async def test_an_answer_without_usage_is_estimated_on_both_sides(self, provider, upstream):
        upstream.will(Reply([piece for piece in self.wire.answer(["x" * 40]) if b'"usage"' not in piece]))
        request = ChatRequest("x/m", (text_message("user", "y" * 80),))
        usage = (await collect(provider.stream(caller(), request, "m"))).finish.usage
        assert usage == Usage(20, 10, estimated=True)

    async def test_a_null_error_in_every_chunk_is_no_error(self, provider, upstream):
        pieces = [piece.replace(b'"id":', b'"error": null, "id":') for piece in self.wire.answer(["fine"])]
        upstream.will(Reply(pieces))
        assert (await collect(provider.stream(caller(), self.request(), "m"))).message.text == "fine"

    async def test_a_request_is_written_as_the_wire_wants_it(self, provider, upstream):
        await events_of(provider.stream(caller(), everything(), "gpt-4.1-mini"))
        body = upstream.requests[0].body
        assert body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": "two"},
        ]
        assert body["tools"][0]["function"]["name"] == "f"
        assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
        assert (body["max_tokens"], body["temperature"], body["stop"], body["seed"]) == (50, 1.5, ["END"], 7)
        assert body["response_format"]["json_schema"]["schema"] == {"type": "object", "properties": {}}

    async def test_a_reasoning_model_gets_the_fields_it_accepts(self, provider, upstream):
        await events_of(provider.stream(caller(), everything(), "o4-mini"))
        body = upstream.requests[0].body
        assert body["max_completion_tokens"] == 50
        assert not {"max_tokens", "temperature", "top_p"} & set(body)


class TestAnthropic(HttpProviderSuite):
    wire = AnthropicWire()

    async def test_a_request_is_written_as_the_wire_wants_it(self, provider, upstream):
        await events_of(provider.stream(caller(), everything(), "claude-haiku-4-5"))
        received = upstream.requests[0]
        assert received.headers["anthropic-version"] == "2023-06-01"
        body = received.body
        assert body["system"] == "Be brief."
        assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
        assert body["messages"][0]["content"][1] == {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"},
        }
        assert body["messages"][1]["content"][0] == {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}
        assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == ["c1", "c2"]
        assert (body["max_tokens"], body["temperature"], body["stop_sequences"]) == (50, 1.0, ["END"])
        assert body["tool_choice"] == {"type": "tool", "name": "f"}
        assert body["output_config"]["format"]["schema"] == {"type": "object", "properties": {}}

    async def test_any_json_object_cannot_be_asked_for(self, provider):
        with pytest.raises(InvalidInput) as caught:
            await events_of(provider.stream(caller(), replace(everything(), response_schema={}), "claude-haiku-4-5"))
        assert caught.value.param == "response_format"

    async def test_written_cache_tokens_are_input(self, provider, upstream):
        usage = {"input_tokens": 5, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 20}
        start = {"type": "message_start", "message": {"model": "claude", "usage": usage}}
        end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
        upstream.will(Reply(sse(start, end, {"type": "message_stop"}, named=True)))
        finish = (await collect(provider.stream(caller(), self.request(), "claude"))).finish
        assert finish.usage == Usage(125, 9, 20, cache_write_tokens=100)

    async def test_unknown_events_and_thinking_are_passed_over(self, provider, upstream):
        events = self.wire.answer(["seen"])
        thinking = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}
        events[2:2] = sse({"type": "brand_new", "x": 1}, thinking, named=True)
        upstream.will(Reply(events))
        assert (await collect(provider.stream(caller(), self.request(), "claude"))).message.text == "seen"


class TestAzure(HttpProviderSuite):
    wire = AzureWire()
    embedding_model = "text-embedding-3-small"
    test_embeddings_come_in_input_order = TestOpenAI.test_embeddings_come_in_input_order


class TestMistral(HttpProviderSuite):
    wire = MistralWire()
    embedding_model = "mistral-embed"
    test_embeddings_come_in_input_order = TestOpenAI.test_embeddings_come_in_input_order


class TestResponses(HttpProviderSuite):
    wire = ResponsesWire()
    embedding_model = "text-embedding-3-small"
    test_embeddings_come_in_input_order = TestOpenAI.test_embeddings_come_in_input_order


class TestGoogle(HttpProviderSuite):
    wire = GoogleWire()
    embedding_model = "gemini-embedding-001"

    async def test_embeddings_come_in_input_order(self, provider, upstream):
        upstream.will(json_reply({"embeddings": [{"values": [1.0, 0.0]}, {"values": [0.0, 1.0]}]}))
        assert await provider.embed(caller(), ["a", "b"], "m") == ([[1.0, 0.0], [0.0, 1.0]], 0)
        assert upstream.requests[0].path == "/v1/models/m:batchEmbedContents"


class TestCohere(HttpProviderSuite):
    wire = CohereWire()
    embedding_model = "embed-v4.0"

    async def test_embeddings_come_in_input_order(self, provider, upstream):
        meta = {"billed_units": {"input_tokens": 4}}
        upstream.will(json_reply({"embeddings": {"float": [[1.0], [2.0]]}, "meta": meta}))
        assert await provider.embed(caller(), ["a", "b"], "m") == ([[1.0], [2.0]], 4)


class TestBedrock(HttpProviderSuite):
    wire = BedrockWire()


class TestScripted(ProviderSuite):
    embedding_model = "scripted"

    @pytest.fixture
    async def provider(self):
        script = [
            ScriptRule(match="fail", reply="one two three", chunk_chars=4, fail_status=503, fail_after_chunks=1),
            ScriptRule(match="limit", fail_status=429, retry_after_s=9, fail_times=1, reply="after all"),
            ScriptRule(reply="You asked: {question}", chunk_chars=5, chunk_delay_s=0.001),
        ]
        provider = PROVIDERS.get("scripted")("mine", ProviderSettings(kind="scripted", script=script), deps())
        yield provider
        assert provider.open_streams == 0

    async def stopped(self, provider):
        assert provider.open_streams == 0

    async def test_it_fails_when_the_script_says_so(self, provider):
        with pytest.raises(ProviderError) as caught:
            await events_of(provider.stream(caller(), ChatRequest("x", (text_message("user", "fail"),)), "m"))
        assert (caught.value.upstream_status, caught.value.retryable) == (503, True)

    async def test_it_answers_once_its_failures_are_used_up(self, provider):
        request = ChatRequest("x", (text_message("user", "limit"),))
        with pytest.raises(Exception, match="rate limit"):
            await events_of(provider.stream(caller(), request, "m"))
        assert (await collect(provider.stream(caller(), request, "m"))).message.text == "after all"


class Quoting:
    async def quote(self, question, passages, *, limit):
        return [f"{passage.text} [{number}]" for number, passage in enumerate(passages[:limit], 1)]


class TestExtractive(ProviderSuite):
    model = "extractive"

    @pytest.fixture
    async def provider(self):
        provider = PROVIDERS.get("extractive")("mine", ProviderSettings(kind="extractive"), deps(quoter=Quoting()))
        yield provider
        await provider.close()

    def request(self):
        passages = tuple(
            Passage(PassageId(f"p{n}"), DocumentId("d"), "sha256:0", "a.md", "A", "", f"Fact {n}.", Span(n, n + 7))
            for n in range(2)
        )
        return replace(super().request(), passages=passages)

    def check_usage(self, finish):
        assert finish.usage == Usage()  # no token was generated

    async def test_without_passages_it_says_what_to_do(self, provider):
        with pytest.raises(InvalidInput) as caught:
            await events_of(provider.stream(caller(), super().request(), "extractive"))
        assert caught.value.hint


@pytest.mark.model
class TestLocal(ProviderSuite):
    model = "smollm2-135m-instruct"
    embedding_model = "minilm-l6-int8"

    @pytest.fixture(scope="class")
    async def loaded(self, models_dir: Path):
        files = Models(models_dir)
        embedders = {"minilm-l6-int8": MiniLM(models_dir / "minilm-l6-int8")}
        settings = ProviderSettings(kind="local", context_tokens=512)
        provider = PROVIDERS.get("local")("mine", settings, deps(files=files, embedders=embedders))
        yield provider
        await provider.close()

    @pytest.fixture
    async def provider(self, loaded):
        return loaded

    async def stopped(self, provider):
        # The one slot of the engine is free again when another answer can be had.
        request = replace(self.request(), max_output_tokens=1)
        await events_of(provider.stream(caller(), request, self.model))

    async def test_a_prompt_that_is_too_long_is_the_callers_mistake(self, provider):
        request = ChatRequest("x", (text_message("user", "word " * 3000),), max_output_tokens=8)
        with pytest.raises(InvalidInput) as caught:
            await events_of(provider.stream(caller(), request, self.model))
        assert caught.value.code == "context_length_exceeded"
        assert "gateway.providers.mine.context_tokens" in (caught.value.hint or "")

    async def test_an_unknown_model_is_not_found_and_the_near_one_is_named(self, provider):
        with pytest.raises(NotFound) as caught:
            await events_of(provider.stream(caller(), self.request(), "smollm2-135m-instrukt"))
        assert "smollm2-135m-instruct" in (caught.value.hint or "")

    async def test_an_embedding_model_cannot_chat(self, provider):
        with pytest.raises(InvalidInput, match="embedding"):
            await events_of(provider.stream(caller(), self.request(), "minilm-l6-int8"))

    async def test_an_unknown_embedding_model_is_not_found(self, provider):
        with pytest.raises(NotFound):
            await provider.embed(caller(), ["x"], "nothing")


async def test_a_local_model_that_is_not_here_names_the_command(tmp_path):
    provider = PROVIDERS.get("local")("mine", ProviderSettings(kind="local"), deps(files=Models(tmp_path)))
    request = ChatRequest("x", (text_message("user", "hi"),))
    with pytest.raises(ModelMissing) as caught:
        await events_of(provider.stream(caller(), request, "smollm2-135m-instruct"))
    assert caught.value.hint == "interlock models fetch smollm2-135m-instruct"


async def test_a_damaged_local_model_names_the_command(tmp_path, monkeypatch):
    class Damaged:
        def names(self, kind):
            return ["smollm2-135m-instruct"] if kind == "chat" else []

        def file(self, model, role):
            return tmp_path / "model.gguf"

    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(1000))
    provider = PROVIDERS.get("local")("mine", ProviderSettings(kind="local"), deps(files=Damaged()))
    request = ChatRequest("x", (text_message("user", "hi"),))
    with pytest.raises(ModelMissing) as caught:
        await asyncio.wait_for(events_of(provider.stream(caller(), request, "smollm2-135m-instruct")), 60)
    assert caught.value.code == "model_corrupt"


def json_reply(body):
    import json

    return Reply([json.dumps(body).encode()], headers={"content-type": "application/json"})


def everything():
    """A request with one of everything."""
    return ChatRequest(
        "x/y",
        (
            text_message("system", "Be brief."),
            Message(
                "user",
                (
                    TextPart("Look:"),
                    ImagePart("image/png", data=b"\x89PN"[:3]),
                    FilePart("a.pdf", "application/pdf", data=b"%PD"),
                ),
            ),
            Message("assistant", (ToolCallPart("c1", "f", '{"a":1}'), ToolCallPart("c2", "f", "{}"))),
            Message("tool", (ToolResultPart("c1", (TextPart("one"),)),)),
            Message("tool", (ToolResultPart("c2", (TextPart("two"),)),)),
        ),
        max_output_tokens=50,
        temperature=1.5,
        stop=("END",),
        seed=7,
        tools=(ToolSpec("f", "does f", {"type": "object"}),),
        tool_choice=ToolChoice("named", "f"),
        response_schema={"type": "object", "properties": {}},
    )
