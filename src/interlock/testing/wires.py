"""Answers of the two wires, written after their published API references: what the fake upstream sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from interlock.testing.upstream import Reply, sse

__all__ = ["AnthropicWire", "OpenAIWire", "ToolUse", "Wire"]

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
    """Where a chat is posted."""
    key_header: tuple[str, str]
    """Header that carries the key, and what stands before the key in it."""

    def answer(
        self,
        texts: Sequence[str],
        *,
        tools: Sequence[ToolUse] = (),
        stop: str = "",
        inputs: int = 11,
        outputs: int = 7,
        cached: int = 0,
    ) -> list[bytes]:
        """Events of a whole answer."""

    def delta(self, text: str) -> list[bytes]:
        """Events of an answer that has begun and goes on."""

    def error(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
        """An error as this API writes it."""

    def error_event(self, kind: str, message: str) -> bytes:
        """An error inside a stream."""


class OpenAIWire:
    """``POST /chat/completions`` with ``stream`` and ``stream_options.include_usage``."""

    kind = "openai"
    path = "/v1/chat/completions"
    key_header = ("authorization", "Bearer ")

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
    ) -> list[bytes]:
        """See `Wire`."""
        events: list[dict[str, Any]] = [self._chunk({"role": "assistant", "content": "" if texts else None})]
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


class AnthropicWire:
    """``POST /messages`` with ``stream``."""

    kind = "anthropic"
    path = "/v1/messages"
    key_header = ("x-api-key", "")

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
    ) -> list[bytes]:
        """See `Wire`."""
        events: list[dict[str, Any]] = [self._start(inputs, cached), {"type": "ping"}]
        at = 0
        if texts:
            events.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            events += [self._text(text) for text in texts]
            events.append({"type": "content_block_stop", "index": 0})
            at = 1
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


def _json(status: int, body: dict[str, Any], headers: dict[str, str] | None) -> Reply:
    import json

    return Reply([json.dumps(body).encode()], status, {"content-type": "application/json", **(headers or {})})
