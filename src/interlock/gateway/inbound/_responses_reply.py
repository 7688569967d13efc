"""The answer of /v1/responses, whole or event by event."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from interlock.core.errors import InterlockError
from interlock.core.ids import ulid
from interlock.core.messages import (
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from interlock.core.passages import Passage
from interlock.gateway.inbound._annotations import cited_in, url_citations
from interlock.gateway.inbound._free_text import input_of
from interlock.gateway.inbound._responses_request import ORIGIN
from interlock.gateway.ports import Asked, FileCited, FileSearched, Frame, ReplyEvent

__all__ = [
    "Reply",
]


class Reply:
    """Writes one answer: items in the order in which they begin, each event with its number."""

    def __init__(self, asked: Asked) -> None:
        self._model = asked.request.model
        self._echo = asked.options["echo"]
        self._custom: frozenset[str] = asked.options.get("custom", frozenset())
        self._id = str(asked.options.get("id") or f"resp_{ulid()}")
        self._created = int(asked.options.get("created_at") or time.time())
        self._background = bool(asked.options["background"])
        self._number = 0
        self._items: list[dict[str, Any]] = []
        self._message: int | None = None
        """Position of the open message."""
        self._thoughts: dict[int, int] = {}
        self._calls: dict[int, int] = {}
        self._searches: dict[str, int] = {}
        self._shows_results = bool(asked.options.get("file_results"))
        self._written: dict[int, str] = {}
        """Arguments so far of calls of custom tools, by position."""
        self._done: set[int] = set()
        self.document: Mapping[str, Any] | None = None

    def whole(self, events: Sequence[ReplyEvent], extension: Mapping[str, object]) -> dict[str, Any]:
        """See `Replier`."""
        for event in events:
            self.frames(event, extension if isinstance(event, Finish) else None)
        assert self.document is not None, "an answer ends with Finish or raises"
        return dict(self.document)

    def frames(self, event: ReplyEvent, extension: Mapping[str, object] | None = None) -> list[Frame]:
        """See `Replier`."""
        frames = [] if self._number else self._begin()
        match event:
            case TextDelta():
                frames += self._text(event, extension)
            case ReasoningDelta():
                frames += self._thought(event)
            case ToolCallDelta():
                frames += self._call(event)
            case FileSearched():
                frames += self._searched(event)
            case FileCited():
                frames += self._cited(event)
            case Finish():
                frames += self._end(event, extension)
        return frames

    def failed(self, error: InterlockError) -> list[Frame]:
        """See `Replier`."""
        return [self._frame("response.failed", response=self.broken(error))]

    def queued(self) -> dict[str, Any]:
        """Before it is begun."""
        return self._response("queued", None)

    def broken(self, error: InterlockError) -> dict[str, Any]:
        """As it is after an error."""
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        failure = {"code": code, "message": str(error), "interlock_code": error.code, "hint": error.hint}
        return self._response("failed", None, error=failure)

    def _response(
        self,
        status: str,
        finish: Finish | None,
        *,
        error: Mapping[str, Any] | None = None,
        extension: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish.reason if finish else "")
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": self._background,
            "error": error,
            "incomplete_details": {"reason": why} if why else None,
            "model": self._model,
            "output": [dict(item) for item in self._items],
            "usage": _usage(finish.usage) if finish else None,
            **self._echo,
            **({"interlock": dict(extension)} if extension else {}),
        }

    def _begin(self) -> list[Frame]:
        started = self._response("in_progress", None)
        return [
            self._frame("response.created", response=started),
            self._frame("response.in_progress", response=started),
        ]

    def _frame(self, kind: str, **data: object) -> Frame:
        frame = Frame({"type": kind, "sequence_number": self._number, **data}, kind)
        self._number += 1
        return frame

    def _add(self, item: dict[str, Any]) -> list[Frame]:
        self._items.append(item)
        shown = {**item, "content": []} if item["type"] == "message" else dict(item)
        return [self._frame("response.output_item.added", output_index=len(self._items) - 1, item=shown)]

    def _text(self, event: TextDelta, extension: Mapping[str, object] | None) -> list[Frame]:
        frames: list[Frame] = []
        kind = "refusal" if event.refusal else "output_text"
        if self._message is None:
            frames += self._close_thoughts()
            self._message = len(self._items)
            message = {"type": "message", "role": "assistant", "status": "in_progress", "content": []}
            frames += self._add({"id": f"msg_{ulid()}", **message})
        item = self._items[self._message]
        if not item["content"] or item["content"][-1]["type"] != kind:
            frames += self._close_part(self._message)
            part: dict[str, Any] = {"type": kind, "refusal": ""} if event.refusal else _text_part()
            item["content"].append(part)
            at = {"output_index": self._message, "content_index": len(item["content"]) - 1, "item_id": item["id"]}
            frames.append(self._frame("response.content_part.added", part=dict(part), **at))
        part = item["content"][-1]
        part["refusal" if event.refusal else "text"] += event.text
        at = {"output_index": self._message, "content_index": len(item["content"]) - 1, "item_id": item["id"]}
        if event.refusal:
            frames.append(self._frame("response.refusal.delta", delta=event.text, **at))
            return frames
        logprobs = _logprobs(event)
        part["logprobs"] = [*part["logprobs"], *logprobs]
        extra = {"interlock": dict(extension)} if extension else {}
        frames.append(
            self._frame("response.output_text.delta", delta=event.text, logprobs=_short(logprobs), **at, **extra)
        )
        return frames

    def _close_part(self, position: int) -> list[Frame]:
        item = self._items[position]
        if not item["content"]:
            return []
        part = item["content"][-1]
        at = {"output_index": position, "content_index": len(item["content"]) - 1, "item_id": item["id"]}
        if part["type"] == "refusal":
            frames = [self._frame("response.refusal.done", refusal=part["refusal"], **at)]
        else:
            logprobs = _short(part["logprobs"])
            frames = [self._frame("response.output_text.done", text=part["text"], logprobs=logprobs, **at)]
        return [*frames, self._frame("response.content_part.done", part=dict(part), **at)]

    def _close_message(self, status: str = "completed") -> list[Frame]:
        if self._message is None:
            return []
        position, self._message = self._message, None
        frames = self._close_part(position)
        return [*frames, *self._item_done(position, status)]

    def _item_done(self, position: int, status: str = "completed") -> list[Frame]:
        if position in self._done:
            return []
        self._done.add(position)
        item = self._items[position]
        item["status"] = status
        return [self._frame("response.output_item.done", output_index=position, item=dict(item))]

    def _thought(self, event: ReasoningDelta) -> list[Frame]:
        frames: list[Frame] = []
        if self._thoughts.get(event.index, -1) in {-1, *self._done}:
            frames += self._close_message() + self._close_thoughts()
            self._thoughts[event.index] = len(self._items)
            head = {"id": event.id or f"rs_{ulid()}", "type": "reasoning", "summary": [], "status": "in_progress"}
            frames += self._add(head)
        position = self._thoughts[event.index]
        item = self._items[position]
        if event.signature and event.origin == ORIGIN:
            item["encrypted_content"] = item.get("encrypted_content", "") + event.signature
        if not event.text:
            return frames
        at = {"output_index": position, "item_id": item["id"], "summary_index": 0}
        if not item["summary"]:
            item["summary"] = [{"type": "summary_text", "text": ""}]
            part = {"type": "summary_text", "text": ""}
            frames.append(self._frame("response.reasoning_summary_part.added", part=part, **at))
        item["summary"] = [{"type": "summary_text", "text": item["summary"][0]["text"] + event.text}]
        return [*frames, self._frame("response.reasoning_summary_text.delta", delta=event.text, **at)]

    def _close_thoughts(self) -> list[Frame]:
        frames: list[Frame] = []
        for position in self._thoughts.values():
            if position in self._done:
                continue
            item = self._items[position]
            at = {"output_index": position, "item_id": item["id"], "summary_index": 0}
            if item["summary"]:
                text = item["summary"][0]["text"]
                frames.append(self._frame("response.reasoning_summary_text.done", text=text, **at))
                frames.append(self._frame("response.reasoning_summary_part.done", part=dict(item["summary"][0]), **at))
            frames += self._item_done(position)
        return frames

    def _searched(self, event: FileSearched) -> list[Frame]:
        frames: list[Frame] = []
        if event.id not in self._searches:
            frames += self._close_message() + self._close_thoughts()
            self._searches[event.id] = len(self._items)
            head = {"id": event.id, "type": "file_search_call", "status": "in_progress"}
            frames += self._add({**head, "queries": list(event.queries), "results": None})
        position = self._searches[event.id]
        if event.state != "failed":
            at = {"output_index": position, "item_id": event.id}
            frames.append(self._frame(f"response.file_search_call.{event.state}", **at))
        if event.state in {"completed", "failed"}:
            if self._shows_results:
                self._items[position]["results"] = [_found(passage) for passage in event.results]
            frames += self._item_done(position, event.state)
        else:
            self._items[position]["status"] = event.state
        return frames

    def _cited(self, event: FileCited) -> list[Frame]:
        item = self._items[self._message] if self._message is not None else {"content": []}
        if not item["content"] or item["content"][-1]["type"] != "output_text":
            return []
        part = item["content"][-1]
        index = min(event.index, len(part["text"]))
        annotation = {
            "type": "file_citation",
            "file_id": event.file_id,
            "filename": event.filename,
            "index": index,
        }
        part["annotations"] = [*part["annotations"], annotation]
        at = {"output_index": self._message, "content_index": len(item["content"]) - 1, "item_id": item.get("id")}
        number = len(part["annotations"]) - 1
        kind = "response.output_text.annotation.added"
        return [self._frame(kind, annotation_index=number, annotation=annotation, **at)]

    def _call(self, event: ToolCallDelta) -> list[Frame]:
        frames: list[Frame] = []
        if event.index not in self._calls:
            frames += self._close_message() + self._close_thoughts()
            self._calls[event.index] = len(self._items)
            head: dict[str, Any] = {
                "id": f"fc_{ulid()}",
                "type": "function_call",
                "status": "in_progress",
                "arguments": "",
            }
            if event.name in self._custom:
                head = {"id": f"ctc_{ulid()}", "type": "custom_tool_call", "status": "in_progress", "input": ""}
            frames += self._add({**head, "call_id": event.id or f"call_{ulid()}", "name": event.name or ""})
        position = self._calls[event.index]
        item = self._items[position]
        if item["type"] == "custom_tool_call":
            # Its text stands within JSON that is not whole yet.
            self._written[position] = self._written.get(position, "") + event.arguments
            return frames
        item["arguments"] += event.arguments
        if event.arguments:
            at = {"output_index": position, "item_id": item["id"]}
            frames.append(self._frame("response.function_call_arguments.delta", delta=event.arguments, **at))
        return frames

    def _end(self, finish: Finish, extension: Mapping[str, object] | None) -> list[Frame]:
        incomplete = finish.reason in {"length", "content_filter"}
        status = "incomplete" if incomplete else "completed"
        frames = self._close_thoughts() + self._annotate(extension) + self._close_message(status)
        for position in self._calls.values():
            item = self._items[position]
            if item["type"] == "custom_tool_call":
                item["input"] = input_of(self._written.get(position, ""))
                at = {"output_index": position, "item_id": item["id"]}
                frames.append(self._frame("response.custom_tool_call_input.delta", delta=item["input"], **at))
                frames.append(self._frame("response.custom_tool_call_input.done", input=item["input"], **at))
                frames += self._item_done(position, status)
                continue
            at = {"output_index": position, "item_id": item["id"], "name": item["name"]}
            frames.append(self._frame("response.function_call_arguments.done", arguments=item["arguments"], **at))
            frames += self._item_done(position, status)
        self.document = self._response(status, finish, extension=extension)
        return [*frames, self._frame(f"response.{status}", response=self.document)]

    def _annotate(self, extension: Mapping[str, object] | None) -> list[Frame]:
        """The citations of an app's answer, on the open text part."""
        item = self._items[self._message] if self._message is not None else {"content": []}
        if not item["content"] or item["content"][-1]["type"] != "output_text":
            return []
        part = item["content"][-1]
        before = len(part["annotations"])
        added = url_citations(cited_in(part["text"], extension))
        part["annotations"] = [*part["annotations"], *added]
        at = {"output_index": self._message, "content_index": len(item["content"]) - 1, "item_id": item.get("id")}
        return [
            self._frame("response.output_text.annotation.added", annotation_index=number, annotation=annotation, **at)
            for number, annotation in enumerate(added, start=before)
        ]


def _found(passage: Passage) -> dict[str, Any]:
    return {
        "file_id": passage.document_id,
        "filename": passage.source,
        "score": round(passage.score, 4),
        "attributes": dict(passage.metadata),
        "text": passage.text,
    }


def _text_part() -> dict[str, Any]:
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def _logprobs(event: TextDelta) -> list[dict[str, Any]]:
    content = (event.logprobs or {}).get("content")
    given = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
    return [{"bytes": [], "top_logprobs": [], **entry} for entry in given]


def _short(logprobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: entry[name] for name in ("token", "logprob", "top_logprobs") if name in entry} for entry in logprobs]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
