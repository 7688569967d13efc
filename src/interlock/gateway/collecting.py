"""A stream of events as one answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import replace

from interlock.core.messages import (
    ChatEvent,
    ChatResult,
    Finish,
    Message,
    Part,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
)

__all__ = ["collect", "gathered"]


async def collect(events: AsyncGenerator[ChatEvent, None]) -> ChatResult:
    """Join a stream into one message."""
    async with aclosing(events):
        return gathered([event async for event in events])


def gathered(events: Iterable[ChatEvent]) -> ChatResult:
    """Join the events of a whole answer into one message."""
    texts: list[str] = []
    thoughts: dict[int, ReasoningPart] = {}
    calls: dict[int, ToolCallPart] = {}
    finish: Finish | None = None
    for event in events:
        match event:
            case TextDelta(text):
                texts.append(text)
            case ReasoningDelta():
                thought = thoughts.get(event.index, ReasoningPart("", event.origin))
                thoughts[event.index] = replace(
                    thought,
                    text=thought.text + event.text,
                    signature=(thought.signature or "") + event.signature if event.signature else thought.signature,
                    redacted=thought.redacted or event.redacted,
                    id=thought.id or event.id,
                )
            case ToolCallDelta(index, call_id, name, arguments):
                known = calls.get(index, ToolCallPart(call_id or "", name or "", ""))
                calls[index] = replace(
                    known,
                    id=known.id or call_id or "",
                    name=known.name or name or "",
                    arguments=known.arguments + arguments,
                    signature=known.signature or event.signature,
                )
            case Finish():
                finish = event
    assert finish is not None, "a provider's stream ends with Finish or raises"
    parts: list[Part] = [thoughts[index] for index in sorted(thoughts)]
    parts += [TextPart("".join(texts))] if texts else []
    parts += [calls[index] for index in sorted(calls)]
    return ChatResult(Message("assistant", tuple(parts)), finish)
