"""What encoders of all wires share: bytes as text, cache marks, extra fields, and saying no by name."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.core.messages import CacheTtl, ChatRequest, FilePart, ImagePart, Part, Reasoning, ToolCallPart

__all__ = [
    "THINKING_TOKENS",
    "arguments_of",
    "b64",
    "cache_control",
    "cannot",
    "data_url",
    "describe",
    "effort_of",
    "extras",
    "is_image",
    "thinking_tokens",
]

THINKING_TOKENS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_000}
"""Tokens that stand for an effort where an API wants a number. Ours: no API publishes such a table."""


def b64(data: bytes | None) -> str:
    """Base64 with padding."""
    return base64.b64encode(data or b"").decode()


def data_url(media_type: str, data: bytes | None) -> str:
    """RFC 2397."""
    return f"data:{media_type};base64,{b64(data)}"


def is_image(part: object) -> bool:
    """True for an image, also one that came as a file."""
    return isinstance(part, ImagePart) or (isinstance(part, FilePart) and part.media_type.startswith("image/"))


def cannot(api: str, what: str, *, param: str = "messages", hint: str | None = None) -> InvalidInput:
    """The error of a part that `api` has no place for."""
    return InvalidInput(
        f"{api} takes no {what}",
        param=param,
        code="unsupported_content",
        hint=hint or "use another model, or leave it out",
    )


def describe(part: Part) -> str:
    """A part's kind, for messages; never its content."""
    kinds = {
        "TextPart": "text",
        "ImagePart": "image",
        "FilePart": "file",
        "ReasoningPart": "thought",
        "ToolCallPart": "tool call",
        "ToolResultPart": "tool result",
        "NativePart": "part of another API",
    }
    return kinds[type(part).__name__]


def arguments_of(call: ToolCallPart) -> dict[str, Any]:  # Any: JSON values
    """A call's arguments as an object. Raises: InvalidInput."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidInput("a tool call's arguments are not a JSON object", param="messages")
    return arguments


def cache_control(cache: CacheTtl | None) -> dict[str, Any]:
    """Anthropic's field for a cache mark, empty without one. Five minutes are the API's default."""
    if cache is None:
        return {}
    return {"cache_control": {"type": "ephemeral", **({"ttl": cache} if cache != "5m" else {})}}


def extras(request: ChatRequest, wire: str, known: Collection[str]) -> dict[str, Any]:
    """Fields of the caller's own body that only this API knows."""
    if request.native is None or request.native.wire != wire:
        return {}
    return {name: value for name, value in request.native.body.items() if name in known and value is not None}


def thinking_tokens(reasoning: Reasoning | None) -> int | None:
    """Tokens to think with: None leaves it to the API, 0 forbids it."""
    if reasoning is None:
        return None
    if reasoning.budget_tokens is not None:
        return reasoning.budget_tokens
    if reasoning.effort is None:
        return None
    return THINKING_TOKENS.get(reasoning.effort, 0)


def effort_of(reasoning: Reasoning) -> str | None:
    """The effort, or the one whose tokens come nearest from below to the budget."""
    if reasoning.effort is not None or reasoning.budget_tokens is None:
        return reasoning.effort
    if reasoning.budget_tokens == 0:
        return "none"
    fitting = [name for name, tokens in THINKING_TOKENS.items() if tokens <= reasoning.budget_tokens]
    return fitting[-1] if fitting else "minimal"
