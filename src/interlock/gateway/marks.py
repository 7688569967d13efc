"""Marks for a provider's own prompt cache, put where a prompt's stable start ends.

Only where the model's profile says that marks exist, above its shortest length, and never beside a caller's own:
whoever sets one knows the prompt better.
"""

from __future__ import annotations

import json
from dataclasses import replace

from interlock.core.messages import (
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    NativePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from interlock.gateway.types import ModelProfile

__all__ = ["least_bytes", "marked"]

_CHARS_A_TOKEN = 4
"""Low, so that a mark is set only where the prefix is surely long enough: a write that cannot be read costs more."""
_LEAST_TURNS = 3
"""A conversation this long goes on: its turns so far come again with the next question."""


def marked(request: ChatRequest, profile: ModelProfile) -> ChatRequest:
    """The request with at most two marks: after tools and system prompt, and after the turns before the newest."""
    least = least_bytes(profile)
    if not least or _has_marks(request):
        return request
    size = sum(
        len(tool.name) + len(tool.description) + len(json.dumps(dict(tool.parameters))) for tool in request.tools
    )
    messages = list(request.messages)
    tools = request.tools
    systems = [n for n, message in enumerate(messages) if message.role == "system" and message.text]
    size += sum(len(messages[n].text) for n in systems)
    if size >= least:
        if systems:
            messages[systems[-1]] = _mark_last(messages[systems[-1]])
        elif profile.prompt_cache_tools:
            tools = (*tools[:-1], replace(tools[-1], cache="5m"))
    turns = [n for n, message in enumerate(messages) if message.role != "system"]
    earlier = turns[:-1]
    size += sum(_weight(part) for n in earlier for part in messages[n].parts)
    if len(turns) >= _LEAST_TURNS and size >= least:
        messages[earlier[-1]] = _mark_last(messages[earlier[-1]])
    return replace(request, messages=tuple(messages), tools=tools)


def least_bytes(profile: ModelProfile) -> int:
    """Bytes below which no request of a model is marked; 0 for a model that takes no marks."""
    return profile.prompt_cache_tokens * _CHARS_A_TOKEN


def _has_marks(request: ChatRequest) -> bool:
    parts = [part for message in request.messages for part in message.parts]
    return any(tool.cache for tool in request.tools) or any(getattr(part, "cache", None) for part in parts)


def _mark_last(message: Message) -> Message:
    """The message with its last part marked that can carry one."""
    parts = list(message.parts)
    for position in reversed(range(len(parts))):
        part = parts[position]
        if isinstance(part, (ReasoningPart, NativePart)) or (isinstance(part, TextPart) and not part.text.strip()):
            continue
        parts[position] = replace(part, cache="5m")
        break
    return replace(message, parts=tuple(parts))


def _weight(part: Part) -> int:
    match part:
        case TextPart() | ReasoningPart():
            return len(part.text)
        case ToolCallPart():
            return len(part.name) + len(part.arguments)
        case ToolResultPart():
            return sum(_weight(item) for item in part.content)
        case ImagePart() | FilePart() | NativePart():
            # What an image weighs is the provider's secret; text alone must make the prefix long enough.
            return 0
