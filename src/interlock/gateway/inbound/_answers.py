"""What the writers of several wires share: an answer joined from its events, arguments of a tool as an object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from interlock.core.messages import (
    Finish,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    ToolCallDelta,
    ToolCallPart,
)
from interlock.gateway.ports import ReplyEvent

__all__ = ["Gathered", "as_object", "gather"]


@dataclass(slots=True)
class Gathered:
    """A whole answer."""

    text: str = ""
    refusal: str = ""
    thoughts: dict[int, ReasoningPart] = field(default_factory=dict)
    calls: dict[int, ToolCallPart] = field(default_factory=dict)
    logprobs: list[Any] = field(default_factory=list)  # Any: OpenAI's entries, passed on as they are
    finish: Finish | None = None

    def add(self, event: ReplyEvent) -> None:
        """Take in one event."""
        match event:
            case TextDelta():
                if event.refusal:
                    self.refusal += event.text
                else:
                    self.text += event.text
                content = (event.logprobs or {}).get("content")
                if isinstance(content, list):
                    self.logprobs += content
            case ReasoningDelta():
                thought = self.thoughts.get(event.index, ReasoningPart("", event.origin))
                self.thoughts[event.index] = replace(
                    thought,
                    text=thought.text + event.text,
                    signature=(thought.signature or "") + event.signature if event.signature else thought.signature,
                    redacted=thought.redacted or event.redacted,
                    id=thought.id or event.id,
                )
            case ToolCallDelta():
                known = self.calls.get(event.index, ToolCallPart("", "", ""))
                self.calls[event.index] = replace(
                    known,
                    id=known.id or event.id or "",
                    name=known.name or event.name or "",
                    arguments=known.arguments + event.arguments,
                    signature=known.signature or event.signature,
                )
            case Finish():
                self.finish = event

    @property
    def ended(self) -> Finish:
        """How it ended."""
        assert self.finish is not None, "an answer ends with Finish or raises"
        return self.finish


def gather(events: Sequence[ReplyEvent]) -> Gathered:
    """Join the events of one answer."""
    gathered = Gathered()
    for event in events:
        gathered.add(event)
    return gathered


# Any: JSON.
def as_object(arguments: str) -> dict[str, Any]:
    """Arguments of a tool call for wires that carry them as an object. What is none is wrapped, so nothing is lost."""
    if not arguments.strip():
        return {}
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return {"INVALID_JSON": arguments}
    return value if isinstance(value, dict) else {"INVALID_JSON": arguments}
