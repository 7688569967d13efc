"""Count the tokens of a prompt: by its provider where that can, else estimated."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from interlock.core.context import Context
from interlock.core.messages import (
    ChatRequest,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_message,
)
from interlock.core.release import Release
from interlock.flows.parts import Parts
from interlock.gateway.ports import CountsTokens
from interlock.gateway.types import RouteSpec
from interlock.prompts.service import render

__all__ = ["Count", "count_tokens", "estimate"]

_CHARACTERS = 4
"""A token, by the usual rule of thumb."""
_IMAGE_TOKENS = 800


class Count(NamedTuple):
    """Input tokens of a prompt."""

    tokens: int
    estimated: bool


async def count_tokens(parts: Parts, ctx: Context, request: ChatRequest, release: Release | None) -> Count:
    """Input tokens of `request`, an app's prompt included and its passages not. Nothing is generated or billed.

    Raises: NotFound, and the provider's errors.
    """
    with parts.observe.span(ctx, "count_tokens", release) as (_, inner):
        async with parts.governance.record(inner, release, action="tokens.count") as record:
            if release is None:
                route = parts.gateway.route(request.model)
                record.subject = request.model
            else:
                route = RouteSpec.model_validate(release.components["route"], extra="ignore")
                turns = tuple(message for message in request.messages if message.role != "system")
                request = replace(request, messages=(text_message("system", render(inner, release)), *turns))
            target, provider = parts.gateway.provider_of(route.targets[0])
            if isinstance(provider, CountsTokens):
                return Count(await provider.count_tokens(inner, request, target.model), False)
            return Count(estimate(request), True)


def estimate(request: ChatRequest) -> int:
    """Tokens of a prompt at four characters a token."""
    characters = sum(_size(part) for message in request.messages for part in message.parts)
    characters += sum(
        len(tool.name) + len(tool.description) + len(str(dict(tool.parameters))) for tool in request.tools
    )
    return -(-characters // _CHARACTERS)


def _size(part: Part) -> int:
    match part:
        case TextPart(text) | ReasoningPart(text):
            return len(text)
        case ImagePart():
            return _IMAGE_TOKENS * _CHARACTERS
        case FilePart():
            return len(part.data or b"")
        case ToolCallPart():
            return len(part.name) + len(part.arguments)
        case ToolResultPart():
            return sum(_size(item) for item in part.content)
