"""The answer of /v1/messages, whole or event by event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interlock.core.errors import InterlockError, ProviderError
from interlock.core.ids import ulid
from interlock.core.messages import (
    Finish,
    NativeDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from interlock.gateway.inbound._annotations import char_locations, cited_in
from interlock.gateway.inbound._answers import as_object, gather
from interlock.gateway.inbound._messages_request import ORIGIN
from interlock.gateway.ports import Asked, Frame, ReplyEvent

__all__ = [
    "STATUS",
    "Reply",
    "error_body",
]


STATUS = {502: 500, 503: 529, 507: 500}
"""Where Anthropic's servers answer with another number; 529 is theirs for "overloaded"."""


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    507: "api_error",
}


def error_body(error: InterlockError) -> dict[str, Any]:
    """Anthropic's error body, without the request's id."""
    overloaded = isinstance(error, ProviderError) and error.upstream_status in {503, 529}
    kind = (
        "overloaded_error"
        if overloaded
        else _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    )
    inner = {"type": kind, "message": str(error), "code": error.code, "param": error.param, "hint": error.hint}
    return {"type": "error", "error": inner}


class Reply:
    """Writes one answer: blocks in the order in which they begin."""

    def __init__(self, asked: Asked) -> None:
        self._model = asked.request.model
        self._cites = bool(asked.options.get("citations"))
        self._id = f"msg_{ulid()}"
        self._started = False
        self._open: tuple[str, int] | None = None
        self._blocks: dict[tuple[str, int], int] = {}
        self._texts = 0
        self._text = ""
        """All text so far, for the citations at its end."""
        self.document: Mapping[str, Any] | None = None

    def _message(self, content: list[dict[str, Any]], finish: Finish | None) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": _reason(finish) if finish else None,
            "stop_sequence": finish.stop_sequence if finish else None,
            "usage": _used(finish) if finish else _usage(Usage()),
        }

    def whole(self, events: Sequence[ReplyEvent], extension: Mapping[str, object]) -> dict[str, Any]:
        """See `Replier`."""
        if any(isinstance(event, NativeDelta) for event in events):
            return self._in_order(events, extension)
        answer = gather(events)
        blocks: list[dict[str, Any]] = []
        for index in sorted(answer.thoughts):
            thought = answer.thoughts[index]
            if thought.redacted:
                blocks.append({"type": "redacted_thinking", "data": thought.signature or ""})
            else:
                signature = thought.signature if thought.origin == ORIGIN else None
                blocks.append({"type": "thinking", "thinking": thought.text, "signature": signature or ""})
        if text := answer.text + answer.refusal:
            located = self._located(text, extension)
            blocks.append({"type": "text", "text": text, "citations": located or None})
        for index in sorted(answer.calls):
            call = answer.calls[index]
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": as_object(call.arguments)})
        message = self._message(blocks, answer.ended)
        self.document = {**message, **({"interlock": dict(extension)} if extension else {})}
        return dict(self.document)

    def _located(self, text: str, extension: Mapping[str, object] | None) -> list[dict[str, Any]]:
        """The citations of an app's answer, when the caller asked for them: many clients take a text block with
        citations for something else than text.
        """
        return char_locations(cited_in(text, extension)) if self._cites else []

    def _in_order(self, events: Sequence[ReplyEvent], extension: Mapping[str, object]) -> dict[str, Any]:
        """The answer with its blocks in the order in which they began: what a tool found stands where it was found."""
        blocks: list[dict[str, Any]] = []
        written: dict[int, str] = {}
        for frame in (frame for event in events for frame in self.frames(event)):
            # Any: frames of our own making.
            data: Any = frame.data
            if data["type"] == "content_block_start":
                blocks.append(dict(data["content_block"]))
            elif data["type"] == "content_block_delta":
                _grow(blocks[data["index"]], data["delta"], written, data["index"])
        for at, arguments in written.items():
            blocks[at]["input"] = as_object(arguments)
        finish = next(event for event in events if isinstance(event, Finish))
        self.document = {**self._message(blocks, finish), **({"interlock": dict(extension)} if extension else {})}
        return dict(self.document)

    def frames(self, event: ReplyEvent, extension: Mapping[str, object] | None = None) -> list[Frame]:
        """See `Replier`."""
        frames: list[Frame] = []
        if not self._started:
            self._started = True
            frames += [_frame("message_start", {"message": self._message([], None)}), _frame("ping", {})]
        match event:
            case TextDelta(text):
                self._text += text
                frames += self._at(("text", self._text_block()), {"type": "text", "text": ""})
                frames.append(self._delta({"type": "text_delta", "text": text}, extension))
            case ReasoningDelta():
                frames += self._thought(event, extension)
            case ToolCallDelta():
                block = {"type": "tool_use", "id": event.id or f"toolu_{ulid()}", "name": event.name or "", "input": {}}
                key = ("tool", event.index)
                frames += self._at(key, block)
                if event.arguments:
                    delta = {"type": "input_json_delta", "partial_json": event.arguments}
                    frames.append(self._delta(delta, extension, self._blocks[key]))
            case NativeDelta():
                frames += self._native(event)
            case Finish():
                if self._open is not None and self._open[0] == "text":
                    located = self._located(self._text, extension)
                    frames += [self._delta({"type": "citations_delta", "citation": one}, None) for one in located]
                frames += self._close()
                end = {"stop_reason": _reason(event), "stop_sequence": event.stop_sequence}
                frames.append(_frame("message_delta", {"delta": end, "usage": _used(event)}, extension))
                frames.append(_frame("message_stop", {}))
        return frames

    def failed(self, error: InterlockError) -> list[Frame]:
        """See `Replier`."""
        return [Frame(error_body(error), "error")]

    def _native(self, event: NativeDelta) -> list[Frame]:
        if event.origin != ORIGIN:
            return []
        if event.block is not None and event.block.get("type") == "text":
            frames = self._close()
            self._texts += 1
            return frames + self._at(("text", self._texts), event.block)
        if event.block is not None:
            return self._at(("native", event.index), event.block)
        delta = event.delta or {}
        if ("native", event.index) in self._blocks:
            return [self._delta(delta, None, self._blocks["native", event.index])]
        frames = self._at(("text", self._text_block()), {"type": "text", "text": "", "citations": []})
        return [*frames, self._delta(delta, None)]

    def _text_block(self) -> int:
        if self._open is None or self._open[0] != "text":
            self._texts += 1
        return self._texts

    def _thought(self, event: ReasoningDelta, extension: Mapping[str, object] | None) -> list[Frame]:
        key = ("thinking", event.index)
        if event.redacted:
            return self._at(key, {"type": "redacted_thinking", "data": event.signature or ""})
        frames = self._at(key, {"type": "thinking", "thinking": "", "signature": ""})
        index = self._blocks[key]
        if event.text:
            frames.append(self._delta({"type": "thinking_delta", "thinking": event.text}, extension, index))
        if event.signature and event.origin == ORIGIN:
            frames.append(self._delta({"type": "signature_delta", "signature": event.signature}, None, index))
        return frames

    def _at(self, key: tuple[str, int], block: Mapping[str, Any]) -> list[Frame]:
        """Open the block `key`, closing the one before it. A block that is known already stays as it is."""
        if key in self._blocks:
            return []
        frames = self._close()
        self._blocks[key] = len(self._blocks)
        self._open = key
        return [*frames, _frame("content_block_start", {"index": self._blocks[key], "content_block": dict(block)})]

    def _close(self) -> list[Frame]:
        if self._open is None:
            return []
        index = self._blocks[self._open]
        self._open = None
        return [_frame("content_block_stop", {"index": index})]

    def _delta(
        self, delta: Mapping[str, Any], extension: Mapping[str, object] | None, index: int | None = None
    ) -> Frame:
        assert self._open is not None or index is not None, "a block was opened before"
        at = self._blocks[self._open] if index is None and self._open is not None else index
        return _frame("content_block_delta", {"index": at, "delta": delta}, extension)


def _frame(kind: str, data: Mapping[str, Any], extension: Mapping[str, object] | None = None) -> Frame:
    body = {"type": kind, **data}
    return Frame({**body, "interlock": dict(extension)} if extension else body, kind)


# Any: a block and a delta of the API.
def _grow(block: dict[str, Any], delta: Mapping[str, Any], written: dict[int, str], at: int) -> None:
    """Add a delta to its block; arguments of tools are gathered in `written` until they are whole."""
    match delta.get("type"):
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] += delta["signature"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta.get("citation")]
        case "input_json_delta":
            written[at] = written.get(at, "") + str(delta.get("partial_json") or "")


def _used(finish: Finish) -> dict[str, Any]:
    """Usage of a whole answer, with how often the provider's own tools were used where it says so."""
    tools = finish.extra.get("server_tool_use")
    return {**_usage(finish.usage), **({"server_tool_use": tools} if tools else {})}


def _reason(finish: Finish) -> str:
    own = finish.extra.get("stop_reason")
    if isinstance(own, str):
        # Anthropic's word for what has none here: the caller sends the answer back, and it goes on.
        return own
    if finish.stop_sequence is not None:
        return "stop_sequence"
    return {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}.get(
        finish.reason, "end_turn"
    )


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
