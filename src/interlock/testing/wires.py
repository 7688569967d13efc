"""Answers of every wire, written after their published API references: what the fake upstream sends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from interlock.gateway.clouds.eventstream import encode_frame
from interlock.testing.upstream import Reply, sse

__all__ = [
    "AnthropicWire",
    "AzureWire",
    "BedrockWire",
    "CohereWire",
    "GoogleWire",
    "MistralWire",
    "OpenAIWire",
    "ResponsesWire",
    "ToolUse",
    "Wire",
]

# Any in this module: JSON objects on their way out.


class ToolUse(NamedTuple):
    """A tool call whose arguments come in pieces."""

    id: str
    name: str
    arguments: Sequence[str]


class Wire(Protocol):
    """How one API writes its answers."""

    kind: str
    """The provider plug-in that reads it."""
    path: str
    """Where a chat is posted, when the model is called ``some-model``."""
    key_header: tuple[str, str]
    """Header that carries the key, and what stands before the key in it."""
    settings: Mapping[str, Any]
    """Further settings that the provider needs."""
    model_in_body: bool
    """False where the model and the wish to stream stand in the address."""
    is_sse: bool
    """False for a binary stream."""
    stops: tuple[str, str]
    """Its words for `length` and `content_filter`."""
    thinks: str | None
    """Origin of its thoughts, None when it shows none."""
    signs: bool
    """True when thoughts come with a proof."""
    cuts_arguments: bool
    """False when a call's arguments come whole."""

    def answer(
        self,
        texts: Sequence[str],
        *,
        tools: Sequence[ToolUse] = (),
        stop: str = "",
        inputs: int = 11,
        outputs: int = 7,
        cached: int = 0,
        thought: str = "",
    ) -> list[bytes]:
        """Events of a whole answer; `thought` comes before its text."""

    def delta(self, text: str) -> list[bytes]:
        """Events of an answer that has begun and goes on."""

    def error(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
        """An error as this API writes it."""

    def error_event(self, kind: str, message: str) -> bytes:
        """An error inside a stream."""

    def event(self, data: str) -> bytes:
        """An event of any payload."""

    def listing(self, names: Sequence[str]) -> list[bytes]:
        """Bodies of a model list."""


class _Facts:
    """What most wires have in common."""

    settings: Mapping[str, Any] = {}
    model_in_body = True
    is_sse = True
    thinks: str | None = None
    signs = False
    cuts_arguments = True

    def event(self, data: str) -> bytes:
        """See `Wire`."""
        return sse(data)[0]

    def listing(self, names: Sequence[str]) -> list[bytes]:
        """See `Wire`."""
        return [json.dumps({"data": [{"id": name} for name in names]}).encode()]


class OpenAIWire(_Facts):
    """``POST /chat/completions`` with ``stream`` and ``stream_options.include_usage``."""

    kind = "openai"
    path = "/v1/chat/completions"
    key_header = ("authorization", "Bearer ")
    stops = ("length", "content_filter")
    thinks = "openai"

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-4.1-mini-2025-04-14",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        }

    def answer(
        self,
        texts: Sequence[str],
        *,
        tools: Sequence[ToolUse] = (),
        stop: str = "",
        inputs: int = 11,
        outputs: int = 7,
        cached: int = 0,
        thought: str = "",
    ) -> list[bytes]:
        """See `Wire`."""
        events: list[dict[str, Any]] = [self._chunk({"role": "assistant", "content": "" if texts else None})]
        events += [self._chunk({"reasoning_content": thought})] if thought else []
        events += [self._chunk({"content": text}) for text in texts]
        for index, tool in enumerate(tools):
            head = {"name": tool.name, "arguments": ""}
            calls: list[dict[str, Any]] = [{"index": index, "id": tool.id, "type": "function", "function": head}]
            calls += [{"index": index, "function": {"arguments": piece}} for piece in tool.arguments]
            events += [self._chunk({"tool_calls": [call]}) for call in calls]
        events.append(self._chunk({}, stop or ("tool_calls" if tools else "stop")))
        usage = {
            "prompt_tokens": inputs,
            "completion_tokens": outputs,
            "total_tokens": inputs + outputs,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }
        events.append({**self._chunk({}), "choices": [], "usage": usage})
        return sse(*events, "[DONE]")

    def delta(self, text: str) -> list[bytes]:
        """See `Wire`."""
        return sse(self._chunk({"role": "assistant", "content": ""}), self._chunk({"content": text}))

    def error(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
        """See `Wire`."""
        body = {"error": {"message": message, "type": kind, "param": None, "code": kind}}
        return _json(status, body, headers)

    def error_event(self, kind: str, message: str) -> bytes:
        """See `Wire`."""
        return sse({"error": {"message": message, "type": kind, "code": None}})[0]


class AnthropicWire(_Facts):
    """``POST /messages`` with ``stream``."""

    kind = "anthropic"
    path = "/v1/messages"
    key_header = ("x-api-key", "")
    stops = ("max_tokens", "refusal")
    thinks = "anthropic"
    signs = True

    def _start(self, inputs: int, cached: int) -> dict[str, Any]:
        usage = {
            "input_tokens": inputs - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": 1,
        }
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": []}
        return {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}}

    def answer(
        self,
        texts: Sequence[str],
        *,
        tools: Sequence[ToolUse] = (),
        stop: str = "",
        inputs: int = 11,
        outputs: int = 7,
        cached: int = 0,
        thought: str = "",
    ) -> list[bytes]:
        """See `Wire`."""
        events: list[dict[str, Any]] = [self._start(inputs, cached), {"type": "ping"}]
        at = 0
        if thought:
            block: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": thought},
                {"type": "signature_delta", "signature": "cHJvb2Y="},
            ]
            events.append({"type": "content_block_start", "index": 0, "content_block": block})
            events += [{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": 0})
            at = 1
        if texts:
            events.append({"type": "content_block_start", "index": at, "content_block": {"type": "text", "text": ""}})
            events += [{**self._text(text), "index": at} for text in texts]
            events.append({"type": "content_block_stop", "index": at})
            at += 1
        for index, tool in enumerate(tools, start=at):
            block = {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}}
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events += [
                {
                    "type": "content_block_delta",
                    "index": index,
                    "delta": {"type": "input_json_delta", "partial_json": piece},
                }
                for piece in ("", *tool.arguments)
            ]
            events.append({"type": "content_block_stop", "index": index})
        reason = stop or ("tool_use" if tools else "end_turn")
        usage = {"output_tokens": outputs}
        events.append(
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}
        )
        events.append({"type": "message_stop"})
        return sse(*events, named=True)

    def _text(self, text: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}

    def delta(self, text: str) -> list[bytes]:
        """See `Wire`."""
        return sse(self._start(11, 0), self._text(text), named=True)

    def error(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
        """See `Wire`."""
        return _json(status, {"type": "error", "error": {"type": kind, "message": message}}, headers)

    def error_event(self, kind: str, message: str) -> bytes:
        """See `Wire`."""
        return sse({"type": "error", "error": {"type": kind, "message": message}}, named=True)[0]


class AzureWire(OpenAIWire):
    """OpenAI's, under a deployment of a resource."""

    kind = "azure"
    path = "/v1/deployments/some-model/chat/completions?api-version=2024-10-21"
    key_header = ("api-key", "")
    settings: Mapping[str, Any] = {"api_version": "2024-10-21"}


class MistralWire(OpenAIWire):
    """OpenAI's, thoughts as parts of the content."""

    kind = "mistral"

    def answer(
        self,
        texts: Sequence[str],
        *,
        tools: Sequence[ToolUse] = (),
        stop: str = "",
        inputs: int = 11,
        outputs: int = 7,
        cached: int = 0,
        thought: str = "",
    ) -> list[bytes]:
        """See `Wire`."""
        events = super().answer(texts, tools=tools, stop=stop, inputs=inputs, outputs=outputs, cached=cached)
        parts = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]
        return [*events[:1], *(sse(self._chunk({"content": parts})) if thought else []), *events[1:]]

    def error(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
        """See `Wire`."""
        return _json(
            status, {"object": "error", "message": message, "type": kind, "param": None, "code": kind}, headers
        )


class ResponsesWire(_Facts):
    """``POST /responses`` with ``stream``."""

    kind = "openai"
    path = "/v1/responses"
    key_header = ("authorization", "Bearer ")
    settings: Mapping[str, Any] = {"api": "responses"}
    stops = ("max_output_tokens", "content_filter")
    thinks = "openai"
    signs = True

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        return {"id": "resp_1", "object": "response", "status": status, "model": "gpt-5-mini-2025-08-07", **more}

    def answer(
        self,
        texts: Sequence[str],
        *,
        tools: Sequence[ToolUse] = (),
        stop: str = "",
        inputs: int = 11,
        outputs: int = 7,
        cached: int = 0,
        thought: str = "",
    ) -> list[bytes]:
        """See `Wire`."""
        events: list[dict[str, Any]] = [{"type": "response.created", "response": self._response("in_progress")}]
        at = 0
        if thought:
            item: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": []}
            events.append({"type": "response.output_item.added", "output_index": 0, "item": item})
            events.append(
                {
                    "type": "response.reasoning_summary_text.delta",
                    "output_index": 0,
                    "summary_index": 0,
                    "delta": thought,
                }
            )
            sealed = {**item, "encrypted_content": "cHJvb2Y="}
            events.append({"type": "response.output_item.done", "output_index": 0, "item": sealed})
            at = 1
        if texts:
            message = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
            events.append({"type": "response.output_item.added", "output_index": at, "item": message})
            events += [{"type": "response.output_text.delta", "output_index": at, "delta": text} for text in texts]
            events.append({"type": "response.output_item.done", "output_index": at, "item": message})
            at += 1
        for index, tool in enumerate(tools, start=at):
            call = {
                "type": "function_call",
                "id": f"fc_{index}",
                "call_id": tool.id,
                "name": tool.name,
                "arguments": "",
            }
            events.append({"type": "response.output_item.added", "output_index": index, "item": call})
            events += [
                {"type": "response.function_call_arguments.delta", "output_index": index, "delta": piece}
                for piece in tool.arguments
            ]
            events.append({"type": "response.output_item.done", "output_index": index, "item": call})
        usage = {
            "input_tokens": inputs,
            "output_tokens": outputs,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        cut = stop in self.stops
        final = self._response("incomplete" if cut else "completed", usage=usage)
        final |= {"incomplete_details": {"reason": stop}} if cut else {}
        events.append({"type": "response.incomplete" if cut else "response.completed", "response": final})
        return sse(*events, named=True)

    def delta(self, text: str) -> list[bytes]:
        """See `Wire`."""
        return sse({"type": "response.output_text.delta", "output_index": 0, "delta": text}, named=True)

    def error(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
        """See `Wire`."""
        return _json(status, {"error": {"message": message, "type": kind, "param": None, "code": kind}}, headers)

    def error_event(self, kind: str, message: str) -> bytes:
        """See `Wire`."""
        return sse({"type": "error", "code": kind, "message": message, "param": None}, named=True)[0]


class GoogleWire(_Facts):
    """``POST /models/…:streamGenerateContent?alt=sse``."""

    kind = "google"
    path = "/v1/models/some-model:streamGenerateContent?alt=sse"
    key_header = ("x-goog-api-key", "")
    model_in_body = False
    stops = ("MAX_TOKENS", "SAFETY")
    thinks = "google"
    signs = True
    cuts_arguments = False

    def _chunk(self, parts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
        return {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "r1"}

    def answer(
        self,
        texts: Sequence[str],
        *,
        tools: Sequence[ToolUse] = (),
        stop: str = "",
        inputs: int = 11,
        outputs: int = 7,
        cached: int = 0,
        thought: str = "",
    ) -> list[bytes]:
        """See `Wire`."""
        events = [self._chunk([{"text": thought, "thought": True, "thoughtSignature": "cHJvb2Y="}])] if thought else []
        events += [self._chunk([{"text": text}]) for text in texts]
        calls = [{"id": t.id, "name": t.name, "args": json.loads("".join(t.arguments) or "{}")} for t in tools]
        events += [self._chunk([{"functionCall": call}]) for call in calls]
        usage = {"promptTokenCount": inputs, "candidatesTokenCount": outputs, "cachedContentTokenCount": cached}
        events.append({**self._chunk([], finishReason=stop or "STOP"), "usageMetadata": usage})
        return sse(*events)

    def delta(self, text: str) -> list[bytes]:
        """See `Wire`."""
        return sse(self._chunk([{"text": text}]))

    def error(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
        """See `Wire`."""
        return _json(status, {"error": {"code": status, "message": message, "status": kind}}, headers)

    def error_event(self, kind: str, message: str) -> bytes:
        """See `Wire`."""
        return sse({"error": {"code": 503, "message": message, "status": kind}})[0]

    def listing(self, names: Sequence[str]) -> list[bytes]:
        """See `Wire`."""
        return [json.dumps({"models": [{"name": f"models/{name}"} for name in names]}).encode()]


class CohereWire(_Facts):
    """``POST /v2/chat`` with ``stream``."""

    kind = "cohere"
    path = "/v2/chat"
    key_header = ("authorization", "Bearer ")
    stops = ("MAX_TOKENS", "ERROR_TOXIC")
    thinks = "cohere"

    def _text(self, at: int, **content: str) -> dict[str, Any]:
        return {"type": "content-delta", "index": at, "delta": {"message": {"content": content}}}

    def answer(
        self,
        texts: Sequence[str],
        *,
        tools: Sequence[ToolUse] = (),
        stop: str = "",
        inputs: int = 11,
        outputs: int = 7,
        cached: int = 0,
        thought: str = "",
    ) -> list[bytes]:
        """See `Wire`."""
        events: list[dict[str, Any]] = [
            {"type": "message-start", "id": "m1", "delta": {"message": {"role": "assistant"}}}
        ]
        events += [self._text(0, thinking=thought)] if thought else []
        events += [self._text(1, text=text) for text in texts]
        for index, tool in enumerate(tools):
            call = {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": ""}}
            events.append({"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": call}}})
            events += [
                {
                    "type": "tool-call-delta",
                    "index": index,
                    "delta": {"message": {"tool_calls": {"function": {"arguments": piece}}}},
                }
                for piece in tool.arguments
            ]
            events.append({"type": "tool-call-end", "index": index})
        usage = {
            "billed_units": {"input_tokens": inputs, "output_tokens": outputs},
            "tokens": {"input_tokens": inputs, "output_tokens": outputs},
            "cached_tokens": cached,
        }
        reason = stop or ("TOOL_CALL" if tools else "COMPLETE")
        events.append({"type": "message-end", "delta": {"finish_reason": reason, "usage": usage}})
        return sse(*events, named=True)

    def delta(self, text: str) -> list[bytes]:
        """See `Wire`."""
        return sse(self._text(0, text=text), named=True)

    def error(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
        """See `Wire`."""
        return _json(status, {"id": "e1", "message": message, "code": kind}, headers)

    def error_event(self, kind: str, message: str) -> bytes:
        """See `Wire`."""
        return sse({"message": message, "code": kind})[0]

    def listing(self, names: Sequence[str]) -> list[bytes]:
        """See `Wire`."""
        return [json.dumps({"models": [{"name": name} for name in names]}).encode()]


class BedrockWire(_Facts):
    """``POST /model/…/converse-stream``: frames instead of server-sent events."""

    kind = "bedrock"
    path = "/v1/model/some-model/converse-stream"
    key_header = ("authorization", "Bearer ")
    settings: Mapping[str, Any] = {"region": "eu-central-1"}
    model_in_body = False
    is_sse = False
    stops = ("max_tokens", "content_filtered")
    thinks = "bedrock"
    signs = True

    def _frame(self, kind: str, body: Mapping[str, Any]) -> bytes:
        headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
        return encode_frame(headers, json.dumps(body, ensure_ascii=False).encode())

    def _delta(self, at: int, delta: Mapping[str, Any]) -> bytes:
        return self._frame("contentBlockDelta", {"contentBlockIndex": at, "delta": delta})

    def answer(
        self,
        texts: Sequence[str],
        *,
        tools: Sequence[ToolUse] = (),
        stop: str = "",
        inputs: int = 11,
        outputs: int = 7,
        cached: int = 0,
        thought: str = "",
    ) -> list[bytes]:
        """See `Wire`."""
        frames = [self._frame("messageStart", {"role": "assistant"})]
        at = 0
        if thought:
            frames.append(self._delta(0, {"reasoningContent": {"text": thought}}))
            frames.append(self._delta(0, {"reasoningContent": {"signature": "cHJvb2Y="}}))
            frames.append(self._frame("contentBlockStop", {"contentBlockIndex": 0}))
            at = 1
        if texts:
            frames += [self._delta(at, {"text": text}) for text in texts]
            frames.append(self._frame("contentBlockStop", {"contentBlockIndex": at}))
            at += 1
        for index, tool in enumerate(tools, start=at):
            use = {"toolUse": {"toolUseId": tool.id, "name": tool.name}}
            frames.append(self._frame("contentBlockStart", {"contentBlockIndex": index, "start": use}))
            frames += [self._delta(index, {"toolUse": {"input": piece}}) for piece in tool.arguments]
            frames.append(self._frame("contentBlockStop", {"contentBlockIndex": index}))
        frames.append(self._frame("messageStop", {"stopReason": stop or ("tool_use" if tools else "end_turn")}))
        usage = {"inputTokens": inputs - cached, "outputTokens": outputs, "cacheReadInputTokens": cached}
        frames.append(self._frame("metadata", {"usage": usage, "metrics": {"latencyMs": 5}}))
        return frames

    def delta(self, text: str) -> list[bytes]:
        """See `Wire`."""
        return [self._delta(0, {"text": text})]

    def error(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
        """See `Wire`."""
        return _json(status, {"message": message}, {"x-amzn-errortype": f"{kind}:http://x/", **(headers or {})})

    def error_event(self, kind: str, message: str) -> bytes:
        """See `Wire`."""
        headers = {":exception-type": "serviceUnavailableException", ":message-type": "exception"}
        return encode_frame(headers, json.dumps({"message": message}).encode())

    def event(self, data: str) -> bytes:
        """See `Wire`."""
        headers = {":event-type": "contentBlockDelta", ":message-type": "event"}
        return encode_frame(headers, data.encode())

    def listing(self, names: Sequence[str]) -> list[bytes]:
        """See `Wire`."""
        models = {"modelSummaries": [{"modelId": name} for name in names]}
        return [json.dumps(models).encode(), b'{"inferenceProfileSummaries": []}']


def _json(status: int, body: dict[str, Any], headers: dict[str, str] | None) -> Reply:
    return Reply([json.dumps(body).encode()], status, {"content-type": "application/json", **(headers or {})})
