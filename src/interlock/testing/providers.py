# ruff: noqa: D102 - a test name is a sentence
"""What every provider promises, as two suites: one for all of them, one for those that speak HTTP.

A plug-in's author derives a test class::

    class TestMine(ProviderSuite):
        @pytest.fixture
        async def provider(self):
            provider = plugin("mine", ProviderSettings(kind="mine"), deps())
            yield provider
            await provider.close()

and, for a wire over HTTP, ``class TestMine(HttpProviderSuite): wire = OpenAIWire()``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from interlock.core.clock import now
from interlock.core.context import Context, Principal
from interlock.core.errors import InterlockError, InvalidInput, LimitExceeded, Misconfigured, ProviderError
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.messages import (
    ChatEvent,
    ChatRequest,
    Finish,
    ReasoningPart,
    TextDelta,
    ToolCallPart,
    ToolSpec,
    text_message,
)
from interlock.core.ports import Embedder, Quoter
from interlock.gateway.clouds.eventstream import encode_frame
from interlock.gateway.ports import ModelFiles, Provider, ProviderDeps
from interlock.gateway.service import PROVIDERS, collect
from interlock.gateway.settings import ProviderSettings
from interlock.serving.service import Models
from interlock.testing.upstream import FakeUpstream, Reply, fake_upstream
from interlock.testing.wires import ToolUse, Wire

__all__ = ["SECRET", "HttpProviderSuite", "ProviderSuite", "caller", "deps"]

SECRET = "sk-test-0123456789abcdefghijklmnop"
USER_TEXT = "My neighbour Ottoline hides the spare key under the blue pot"
_WORDS = ("Ottoline", "blue pot")


def caller() -> Context:
    """A context to call with."""
    return Context(TenantId("acme"), Principal(PrincipalId("svc"), "service"))


def deps(
    *,
    files: ModelFiles | None = None,
    quoter: Quoter | None = None,
    embedders: Mapping[str, Embedder] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ProviderDeps:
    """What a provider is built with; no models, no quoter and no environment unless given."""
    return ProviderDeps(files or Models(Path("no-such-folder")), quoter, embedders or {}, environ or {})


async def events_of(stream: AsyncGenerator[ChatEvent, None]) -> list[ChatEvent]:
    """All events of a stream, which is then closed."""
    async with aclosing(stream):
        return [event async for event in stream]


class ProviderSuite:
    """Needs a fixture ``provider``; the attributes say what to ask it."""

    model = "scripted"
    embedding_model: str | None = None
    """None when this provider has no embeddings."""

    def request(self) -> ChatRequest:
        """A question this provider can answer in more than one piece."""
        return ChatRequest(f"x/{self.model}", (text_message("user", "Name three colours."),), max_output_tokens=24)

    async def stopped(self, provider: Provider) -> None:
        """Return once nothing works for a stream that was closed. Never returning is the failure."""

    async def test_a_stream_ends_with_exactly_one_finish(self, provider: Provider) -> None:
        events = await events_of(provider.stream(caller(), self.request(), self.model))
        assert isinstance(events[-1], Finish)
        assert sum(isinstance(event, Finish) for event in events) == 1
        assert any(isinstance(event, TextDelta) and event.text for event in events)

    async def test_it_says_what_it_used(self, provider: Provider) -> None:
        finish = (await events_of(provider.stream(caller(), self.request(), self.model)))[-1]
        assert isinstance(finish, Finish)
        self.check_usage(finish)

    def check_usage(self, finish: Finish) -> None:
        """The figures of `request`."""
        assert finish.usage.input_tokens > 0
        assert finish.usage.output_tokens > 0
        assert finish.usage.cached_tokens <= finish.usage.input_tokens
        assert not finish.usage.estimated

    async def test_closing_early_stops_the_work(self, provider: Provider) -> None:
        async with aclosing(provider.stream(caller(), self.request(), self.model)) as stream:
            await anext(stream)
        await self.stopped(provider)

    async def test_cancelling_stops_the_work(self, provider: Provider) -> None:
        begun = asyncio.Event()

        async def consume() -> None:
            async with aclosing(provider.stream(caller(), self.request(), self.model)) as stream:
                async for _ in stream:
                    begun.set()
                    await asyncio.Event().wait()

        task = asyncio.ensure_future(consume())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.stopped(provider)

    async def test_streams_do_not_mix(self, provider: Provider) -> None:
        runs = [events_of(provider.stream(caller(), self.request(), self.model)) for _ in range(3)]
        for events in await asyncio.gather(*runs):
            assert [isinstance(event, Finish) for event in events] == [False] * (len(events) - 1) + [True]

    async def test_it_lists_models(self, provider: Provider) -> None:
        models = await provider.models()
        assert models
        assert all(isinstance(name, str) and name for name in models)

    async def test_embeddings_come_in_input_order(self, provider: Provider) -> None:
        texts = ["red", "a longer text about green things", "blue"]
        if self.embedding_model is None:
            with pytest.raises(InvalidInput):
                await provider.embed(caller(), texts, self.model)
            return
        vectors, tokens = await provider.embed(caller(), texts, self.embedding_model)
        assert len({len(vector) for vector in vectors}) == 1
        for text, vector in zip(texts, vectors, strict=True):
            alone, _ = await provider.embed(caller(), [text], self.embedding_model)
            assert vector == pytest.approx(alone[0], abs=1e-3)
        assert tokens > 0

    async def test_closing_twice_is_harmless(self, provider: Provider) -> None:
        await provider.close()
        await provider.close()


class HttpProviderSuite(ProviderSuite):
    """Set `wire`. A server of ours speaks it; every way it can fail is tried."""

    wire: Wire
    model = "some-model"

    @pytest.fixture
    async def upstream(self) -> AsyncIterator[FakeUpstream]:
        """Answers well unless told otherwise."""
        async with fake_upstream() as upstream:
            upstream.will(Reply(self.wire.answer(["Red, ", "green ", "and blue."])))
            yield upstream

    def build(self, upstream: FakeUpstream, **settings: Any) -> Provider:  # Any: fields of ProviderSettings
        """The provider, pointed at the server."""
        values = {
            "kind": self.wire.kind,
            "base_url": upstream.url,
            "api_key_env": "UPSTREAM_KEY",
            "models": ["some-model"],
            **self.wire.settings,
            **settings,
        }
        return PROVIDERS.get(self.wire.kind)(
            "mine", ProviderSettings.model_validate(values), deps(environ={"UPSTREAM_KEY": SECRET})
        )

    @pytest.fixture
    async def provider(self, upstream: FakeUpstream) -> AsyncIterator[Provider]:
        """Connected to the server."""
        provider = self.build(upstream)
        yield provider
        await provider.close()

    async def stopped(self, provider: Provider) -> None:
        """Nothing of a closed stream is left on the provider's side; the server's side is a test of its own."""

    async def failure(self, provider: Provider, *, sent: int = 0) -> InterlockError:
        """The error that the next answer ends in, after exactly `sent` pieces of text."""
        request = replace(self.request(), messages=(text_message("user", USER_TEXT),))
        got: list[ChatEvent] = []

        async def consume() -> None:
            async with aclosing(provider.stream(caller(), request, self.model)) as stream:
                async for event in stream:
                    got.append(event)

        with pytest.raises(InterlockError) as caught:
            await consume()
        assert sum(isinstance(event, TextDelta) and bool(event.text) for event in got) == sent
        self.check_discreet(caught.value)
        return caught.value

    def check_discreet(self, error: InterlockError) -> None:
        """No key and no word of the user is repeated."""
        said = f"{error} {error.message} {error.hint} {error.param} {error.code}"
        assert SECRET not in said
        assert SECRET[-12:] not in said
        assert not any(word in said for word in _WORDS)
        assert "mine" in said, "the message names the provider as it is configured"

    async def test_the_key_travels_in_its_header(self, provider: Provider, upstream: FakeUpstream) -> None:
        await events_of(provider.stream(caller(), self.request(), self.model))
        header, before = self.wire.key_header
        assert upstream.requests[0].headers[header] == before + SECRET
        assert upstream.requests[0].path == self.wire.path
        if self.wire.model_in_body:
            assert upstream.requests[0].body["model"] == self.model
            assert upstream.requests[0].body["stream"] is True
        assert SECRET not in json.dumps(upstream.requests[0].body)

    async def test_text_comes_as_it_is_sent(self, provider: Provider, upstream: FakeUpstream) -> None:
        upstream.will(Reply(self.wire.answer(["Grüße\u2028", "an\u0085 ", "alle 🌍", "\x0b\x0c\x1e ok"])))
        result = await collect(provider.stream(caller(), self.request(), self.model))
        assert result.message.text == "Grüße\u2028an\u0085 alle 🌍\x0b\x0c\x1e ok"

    async def test_bytes_may_be_cut_anywhere(self, provider: Provider, upstream: FakeUpstream) -> None:
        whole = b"".join(self.wire.answer(["Grüße ", "🌍!"]))
        upstream.will(Reply([whole[at : at + 3] for at in range(0, len(whole), 3)]))
        result = await collect(provider.stream(caller(), self.request(), self.model))
        assert result.message.text == "Grüße 🌍!"

    async def test_all_line_ends_of_the_standard_are_read(self, provider: Provider, upstream: FakeUpstream) -> None:
        if not self.wire.is_sse:
            pytest.skip("a binary stream has no lines")
        whole = b": a comment\n\n" + b"".join(self.wire.answer(["one ", "two"]))
        for end in (b"\r\n", b"\r"):
            upstream.will(Reply([whole.replace(b"\n", end)]))
            result = await collect(provider.stream(caller(), self.request(), self.model))
            assert result.message.text == "one two"

    async def test_tool_calls_in_pieces_are_joined(self, provider: Provider, upstream: FakeUpstream) -> None:
        tools = [
            ToolUse("call_1", "weather", ['{"city": ', '"Leeds"}']),
            ToolUse("call_2", "time", ['{"zone"', ': "UTC"', "}"]),
        ]
        upstream.will(Reply(self.wire.answer(["Let me look. "], tools=tools)))
        request = replace(
            self.request(),
            tools=(ToolSpec("weather", "", {"type": "object"}), ToolSpec("time", "", {"type": "object"})),
        )
        result = await collect(provider.stream(caller(), request, self.model))
        calls = [part for part in result.message.parts if isinstance(part, ToolCallPart)]
        assert calls == [
            ToolCallPart("call_1", "weather", '{"city": "Leeds"}'),
            ToolCallPart("call_2", "time", '{"zone": "UTC"}'),
        ]
        assert result.message.text == "Let me look. "
        assert result.finish.reason == "tool_calls"

    async def test_a_tool_without_arguments_gets_an_empty_object(
        self, provider: Provider, upstream: FakeUpstream
    ) -> None:
        for pieces in ([], ["{}"]):
            upstream.will(Reply(self.wire.answer([], tools=[ToolUse("call_1", "now", pieces)])))
            result = await collect(provider.stream(caller(), self.request(), self.model))
            assert result.message.parts == (ToolCallPart("call_1", "now", "{}"),)

    async def test_thoughts_are_kept_apart_and_go_back_where_they_came_from(
        self, provider: Provider, upstream: FakeUpstream
    ) -> None:
        if self.wire.thinks is None:
            pytest.skip("this API shows no thoughts")
        upstream.will(Reply(self.wire.answer(["Blue."], thought="The sky, then.")))
        result = await collect(provider.stream(caller(), self.request(), self.model))
        assert result.message.text == "Blue."
        thought = result.message.parts[0]
        assert isinstance(thought, ReasoningPart)
        assert (thought.text, thought.origin) == ("The sky, then.", self.wire.thinks)
        assert bool(thought.signature) is self.wire.signs
        again = replace(
            self.request(), messages=(*self.request().messages, result.message, text_message("user", "And now?"))
        )
        await events_of(provider.stream(caller(), again, self.model))
        foreign = replace(result.message, parts=(replace(thought, origin="elsewhere"), *result.message.parts[1:]))
        await events_of(
            provider.stream(
                caller(), replace(again, messages=(*self.request().messages, foreign, again.messages[-1])), self.model
            )
        )
        sent, without = (json.dumps(request.body) for request in upstream.requests[1:])
        if self.wire.signs:
            assert "cHJvb2Y=" in sent
        assert "cHJvb2Y=" not in without
        assert "The sky, then." not in without

    async def test_usage_counts_cached_tokens_as_input(self, provider: Provider, upstream: FakeUpstream) -> None:
        upstream.will(Reply(self.wire.answer(["hi"], inputs=1200, outputs=3, cached=1024)))
        usage = (await collect(provider.stream(caller(), self.request(), self.model))).finish.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (1200, 3, 1024)
        assert usage.estimated is False

    @pytest.mark.parametrize("stop", ["length", "refused", "unheard-of"])
    async def test_stop_reasons_are_told(self, provider: Provider, upstream: FakeUpstream, stop: str) -> None:
        words = {"length": self.wire.stops[0], "refused": self.wire.stops[1], "unheard-of": "something_new"}
        upstream.will(Reply(self.wire.answer(["hi"], stop=words[stop])))
        finish = (await collect(provider.stream(caller(), self.request(), self.model))).finish
        assert finish.reason == {"length": "length", "refused": "content_filter", "unheard-of": "stop"}[stop]

    @pytest.mark.parametrize(
        ("status", "kind", "retryable"),
        [
            (401, "invalid_api_key", False),
            (402, "billing_error", False),
            (403, "permission_error", False),
            (408, "timeout", True),
            (409, "conflict", True),
            (500, "server_error", True),
            (502, "bad_gateway", True),
            (503, "overloaded", True),
            (504, "timeout_error", True),
            (529, "overloaded_error", True),
        ],
    )
    async def test_an_error_status_becomes_a_provider_error(
        self, provider: Provider, upstream: FakeUpstream, status: int, kind: str, retryable: bool
    ) -> None:
        upstream.will(self.wire.error(status, kind, f"we got {USER_TEXT!r} with key {SECRET}"))
        error = await self.failure(provider)
        assert isinstance(error, ProviderError)
        assert (error.upstream_status, error.retryable, error.status) == (status, retryable, 502)
        assert str(status) in error.message
        assert kind in error.message
        if status in {401, 403}:
            assert "gateway.providers.mine" in (error.hint or "")

    @pytest.mark.parametrize(
        ("status", "kind", "ours", "code"),
        [
            (400, "invalid_thing", 400, "invalid_thing"),
            (422, "unprocessable", 400, "unprocessable"),
            (404, "no_such_thing", 404, "model_not_found"),
            (413, "request_too_big", 413, "request_too_large"),
        ],
    )
    async def test_the_callers_mistake_reaches_the_caller(
        self, provider: Provider, upstream: FakeUpstream, status: int, *, kind: str, ours: int, code: str
    ) -> None:
        upstream.will(self.wire.error(status, kind, f"we got {USER_TEXT!r} with key {SECRET}"))
        error = await self.failure(provider)
        assert (error.status, error.code, error.retryable) == (ours, code, False)
        assert kind in error.message

    async def test_a_prompt_that_is_too_long_is_told(self, provider: Provider, upstream: FakeUpstream) -> None:
        upstream.will(self.wire.error(400, "bad", f"prompt is too long: 9 tokens > 8 maximum; {USER_TEXT}"))
        error = await self.failure(provider)
        assert isinstance(error, InvalidInput)
        assert error.code == "context_length_exceeded"

    @pytest.mark.parametrize(
        ("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("99999", 3600.0), ("soon", None), (None, None)]
    )
    async def test_a_rate_limit_says_when_to_come_back(
        self, provider: Provider, upstream: FakeUpstream, header: str | None, seconds: float | None
    ) -> None:
        headers = {} if header is None else {"retry-after": header}
        upstream.will(self.wire.error(429, "rate_limit_error", f"slow down, {USER_TEXT}", headers))
        error = await self.failure(provider)
        assert isinstance(error, LimitExceeded)
        assert (error.code, error.retryable, error.retry_after_s) == ("provider_rate_limited", True, seconds)

    async def test_a_rate_limit_may_give_a_date(self, provider: Provider, upstream: FakeUpstream) -> None:
        soon = format_datetime(now() + timedelta(seconds=50), usegmt=True)
        for header, least, most in ((soon, 1, 50), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0)):
            upstream.will(self.wire.error(429, "rate_limit_error", "slow down", {"retry-after": header}))
            error = await self.failure(provider)
            assert error.retry_after_s is not None
            assert least <= error.retry_after_s <= most

    async def test_an_empty_account_is_not_tried_again(self, provider: Provider, upstream: FakeUpstream) -> None:
        upstream.will(self.wire.error(429, "insufficient_quota", "pay first"))
        error = await self.failure(provider)
        assert isinstance(error, ProviderError)
        assert error.retryable is False

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>Bad gateway</html>",
            b"[]",
            b"null",
            b'"text"',
            b'{"error": "Ottoline said no"}',
            b'{"error": {"code": "Ottoline under the blue pot", "type": 7}}',
            b'{"error": {"code": {"deep": "Ottoline"}}}',
            b"[" * 60_000,
            b"\xff\xfe\x00",
            b"x" * 200_000,
        ],
        ids=["empty", "html", "list", "null", "string", "text", "chatty", "object", "deep", "binary", "long"],
    )
    async def test_a_strange_error_body_is_survived(
        self, provider: Provider, upstream: FakeUpstream, body: bytes
    ) -> None:
        upstream.will(Reply([body] if body else [], 500))
        error = await self.failure(provider)
        assert isinstance(error, ProviderError)
        assert error.upstream_status == 500

    async def test_a_break_in_the_stream_is_told(self, provider: Provider, upstream: FakeUpstream) -> None:
        upstream.will(Reply(self.wire.delta("Half an ans"), then="break off"))
        error = await self.failure(provider, sent=1)
        assert isinstance(error, ProviderError)
        assert error.retryable is True

    async def test_an_answer_that_just_ends_is_no_answer(self, provider: Provider, upstream: FakeUpstream) -> None:
        upstream.will(Reply(self.wire.delta("Half an ans")))
        error = await self.failure(provider, sent=1)
        assert (error.code, error.retryable) == ("provider_incomplete", True)

    async def test_an_error_inside_the_stream_is_told(self, provider: Provider, upstream: FakeUpstream) -> None:
        pieces = [*self.wire.delta("Half"), self.wire.error_event("overloaded_error", f"no room for {USER_TEXT}")]
        upstream.will(Reply(pieces))
        error = await self.failure(provider, sent=1)
        assert isinstance(error, ProviderError)
        assert error.retryable is True

    async def test_a_chatty_error_inside_the_stream_is_not_repeated(
        self, provider: Provider, upstream: FakeUpstream
    ) -> None:
        upstream.will(Reply([self.wire.error_event(f"the error is {USER_TEXT}", "")]))
        await self.failure(provider)

    @pytest.mark.parametrize(
        "event",
        [
            "not json at all",
            "[" * 50_000,
            '{"choices": [null], "type": "content_block_delta", "delta": null, "index": "x"}',
            '{"choices": [{"delta": "Ottoline"}], "type": "content_block_delta", "delta": "Ottoline"}',
            '{"choices": "Ottoline", "type": "message_start", "message": "Ottoline"}',
            '{"choices": [{"delta": {"tool_calls": [{"index": "x"}]}}], "type": "content_block_start", "index": "x",'
            ' "content_block": {"type": "tool_use"}}',
            '{"choices": [], "usage": {"prompt_tokens": "many"}, "type": "message_delta", "delta": 3}',
            '{"choices": [], "usage": "Ottoline", "type": "message_start", "message": {"usage": [1]}}',
            '{"type": "response.completed", "response": 7, "candidates": [7]}',
            '{"type": "tool-call-start", "delta": {"message": {}}, "candidates": [{"content": {"parts": ["x"]}}]}',
        ],
        ids=[
            "words",
            "deep",
            "null",
            "string delta",
            "string choices",
            "tool index",
            "usage words",
            "usage string",
            "final",
            "parts",
        ],
    )
    async def test_a_malformed_event_is_a_provider_error(
        self, provider: Provider, upstream: FakeUpstream, event: str
    ) -> None:
        upstream.will(Reply([*self.wire.delta("Well"), self.wire.event(event)]))
        error = await self.failure(provider, sent=1)
        assert isinstance(error, ProviderError)

    async def test_a_body_that_is_no_event_stream_is_a_provider_error(
        self, provider: Provider, upstream: FakeUpstream
    ) -> None:
        for body in (b"", b"<html>welcome</html>", b'{"choices": []}', b"\x00\xff" * 1000):
            upstream.will(Reply([body] if body else []))
            assert isinstance(await self.failure(provider), ProviderError)

    async def test_an_event_without_end_is_refused(self, provider: Provider, upstream: FakeUpstream) -> None:
        if not self.wire.is_sse:
            upstream.will(Reply([encode_frame({":event-type": "x"}, b"x" * 9_000_000)]))
            assert "8 MB" in (await self.failure(provider)).message
            return
        upstream.will(Reply([b"data: ", b"x" * 1_000_000], then="repeat"))
        error = await self.failure(provider)
        assert isinstance(error, ProviderError)
        assert "8 MB" in error.message
        await upstream.until_idle()
        upstream.will(Reply([b"data: x\n", b"data: " + b"x" * 1_000_000 + b"\n"], then="repeat"))
        assert "8 MB" in (await self.failure(provider)).message

    async def test_a_wrong_content_length_is_told(self, provider: Provider, upstream: FakeUpstream) -> None:
        pieces = self.wire.delta("Half an ans")
        upstream.will(Reply(pieces, length=sum(map(len, pieces)) + 100))
        error = await self.failure(provider, sent=1)
        assert isinstance(error, ProviderError)
        assert error.retryable is True

    async def test_a_server_that_falls_silent_times_out(self, upstream: FakeUpstream) -> None:
        provider = self.build(upstream, idle_timeout_s=0.05)
        upstream.will(Reply(silent_first=True))
        assert (await self.failure(provider)).code == "provider_timeout"
        upstream.will(Reply(self.wire.delta("Half"), then="fall silent"))
        error = await self.failure(provider, sent=1)
        assert (error.code, error.retryable) == ("provider_timeout", True)
        await provider.close()

    async def test_a_server_that_is_not_there_is_told(self, upstream: FakeUpstream) -> None:
        provider = self.build(upstream, base_url="http://127.0.0.1:9/v1")
        error = await self.failure(provider)
        assert isinstance(error, ProviderError)
        assert (error.code, error.retryable) == ("provider_unreachable", True)
        assert "gateway.providers.mine.base_url" in (error.hint or "")
        await provider.close()

    async def test_closing_early_hangs_up(self, provider: Provider, upstream: FakeUpstream) -> None:
        upstream.will(Reply(self.wire.delta("and so on"), then="repeat"))
        async with aclosing(provider.stream(caller(), self.request(), self.model)) as stream:
            await anext(stream)
            assert upstream.open == 1
        await upstream.until_idle()

    async def test_a_missing_key_names_its_setting(self, upstream: FakeUpstream) -> None:
        provider = self.build(upstream, api_key_env="NO_SUCH_KEY_ANYWHERE")
        with pytest.raises(Misconfigured) as caught:
            await events_of(provider.stream(caller(), self.request(), self.model))
        assert caught.value.param == "gateway.providers.mine.api_key_env"
        assert "NO_SUCH_KEY_ANYWHERE" in (caught.value.hint or "")
        assert upstream.requests == []
        await provider.close()

    async def test_a_key_that_cannot_be_a_header_is_not_repeated(self, upstream: FakeUpstream) -> None:
        for key in (f"{SECRET}\nx: y", f"{SECRET}é€"):
            settings = ProviderSettings(
                kind=self.wire.kind, base_url=upstream.url, api_key_env="UPSTREAM_KEY", **self.wire.settings
            )
            provider = PROVIDERS.get(self.wire.kind)("mine", settings, deps(environ={"UPSTREAM_KEY": key}))
            await self.failure(provider)
            await provider.close()

    async def test_a_rotated_key_is_used_at_once(self, upstream: FakeUpstream, tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_text("first-key\n")
        provider = self.build(upstream, api_key_env=None, api_key_file=str(file))
        await events_of(provider.stream(caller(), self.request(), self.model))
        file.write_text("second-key\n")
        await events_of(provider.stream(caller(), self.request(), self.model))
        header, before = self.wire.key_header
        assert [r.headers[header] for r in upstream.requests] == [before + "first-key", before + "second-key"]
        file.unlink()
        with pytest.raises(Misconfigured) as caught:
            await events_of(provider.stream(caller(), self.request(), self.model))
        assert caught.value.param == "gateway.providers.mine.api_key_file"
        await provider.close()

    async def test_configured_headers_are_sent(self, upstream: FakeUpstream) -> None:
        provider = self.build(upstream, headers={"x-team": "signals"})
        await events_of(provider.stream(caller(), self.request(), self.model))
        assert upstream.requests[0].headers["x-team"] == "signals"
        await provider.close()

    async def test_models_are_asked_for_when_none_are_configured(self, upstream: FakeUpstream) -> None:
        provider = self.build(upstream, models=[])
        bodies = self.wire.listing(["b", "a"])
        upstream.will(*(Reply([body], headers={"content-type": "application/json"}) for body in bodies))
        assert await provider.models() == ["a", "b"]
        for body in (
            b"[]",
            b'{"data": null}',
            b'{"data": [{"nom": "x"}], "models": [{"nom": "x"}]}',
            b"<html>",
            b'{"data": [7]}',
            b"[" * 60_000,
        ):
            upstream.will(Reply([body], headers={"content-type": "application/json"}))
            with pytest.raises(ProviderError):
                await provider.models()
        await provider.close()
