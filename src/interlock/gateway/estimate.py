"""How much a request may use at most, before anybody has counted: what limits and budgets reserve."""

from __future__ import annotations

import json

from interlock.core.messages import (
    ChatRequest,
    FilePart,
    ImagePart,
    NativePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
)

__all__ = ["estimate_input", "estimate_usage"]

_BYTES_A_TOKEN = 3
"""English text has about four bytes a token and code about three; other scripts have three bytes a character and one or
two tokens for it. Three errs on the side of reserving too much, which the settlement returns."""
_MESSAGE_TOKENS = 8
_IMAGE_TOKENS = 1_600
_FILE_BYTES_A_TOKEN = 12


def estimate_usage(request: ChatRequest, max_output_tokens: int) -> Usage:
    """Input from the request's size, output from its limit."""
    return Usage(estimate_input(request), request.max_output_tokens or max_output_tokens, estimated=True)


def estimate_input(request: ChatRequest) -> int:
    """Input tokens, rounded up generously."""
    size = sum(_size(part) for message in request.messages for part in message.parts)
    tokens = -(-size // _BYTES_A_TOKEN) + _MESSAGE_TOKENS * (len(request.messages) + 1)
    for tool in request.tools:
        size = len(tool.description) + len(json.dumps(tool.native or tool.parameters, default=str))
        tokens += _MESSAGE_TOKENS + size // _BYTES_A_TOKEN
    if request.response_schema:
        tokens += len(json.dumps(request.response_schema)) // _BYTES_A_TOKEN
    return tokens


def _size(part: Part) -> int:
    """Bytes of text that a part weighs as much as."""
    match part:
        case TextPart() | ReasoningPart():
            return len(part.text.encode("utf-8", "replace")) if not part.text.isascii() else len(part.text)
        case ImagePart():
            return _IMAGE_TOKENS * _BYTES_A_TOKEN
        case FilePart():
            return len(part.data or b"") * _BYTES_A_TOKEN // _FILE_BYTES_A_TOKEN + _IMAGE_TOKENS * _BYTES_A_TOKEN
        case ToolCallPart():
            return len(part.name) + len(part.arguments.encode("utf-8", "replace"))
        case NativePart():
            return len(json.dumps(part.block, default=str))
        case ToolResultPart():
            return sum(_size(item) for item in part.content)
