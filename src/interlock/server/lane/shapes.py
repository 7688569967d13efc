"""What the lane forwards unread must still be what the ordinary path would take.

Tools, schemas and the like seldom change from call to call: the ordinary path's own codec reads them once, and its
judgement is remembered by their digest. Parts of a message are new each time, so their kinds are looked at here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from interlock.core.errors import InterlockError
from interlock.flows.respond import codec

__all__ = ["anthropic_parts_fit", "chat_parts_fit", "codec_takes"]

_Raw = msgspec.Raw
_REMEMBERED = 10_000
_judged: dict[bytes, bool] = {}
_TEXT, _LIST = ord('"'), ord("[")


# Any: JSON.
def codec_takes(wire: str, fields: Mapping[str, Any]) -> bool:
    """Whether the ordinary path would take a request with these fields, beside its model and messages."""
    body = msgspec.json.encode(fields)
    key = hashlib.blake2b(body, digest_size=16, key=wire.encode()).digest()
    known = _judged.get(key)
    if known is None:
        known = _takes(wire, body)
        if len(_judged) >= _REMEMBERED:
            _judged.clear()
        _judged[key] = known
    return known


def _takes(wire: str, body: bytes) -> bool:
    request = {"messages": [{"role": "user", "content": "?"}], "model": "m", **msgspec.json.decode(body)}
    if wire == "anthropic.messages":
        request.setdefault("max_tokens", 1 << 20)
    try:
        codec(wire).decode(request)
    except InterlockError:
        return False
    return True


class _Image(msgspec.Struct):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class _Part(msgspec.Struct):
    type: Literal["text", "image_url"]
    text: str | UnsetType = UNSET
    image_url: _Image | UnsetType = UNSET


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _Call(msgspec.Struct):
    id: str
    function: _Function
    type: Literal["function"] = "function"


_read_parts = msgspec.json.Decoder(list[_Part]).decode
_read_calls = msgspec.json.Decoder(list[_Call]).decode


def chat_parts_fit(role: str, content: _Raw | UnsetType, calls: _Raw | UnsetType) -> bool:
    """Whether a message of chat completions is text, pictures by address, and calls of functions.

    Raises: msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is none.
    """
    if calls is not UNSET and bytes(calls) != b"null" and not _read_calls(calls):
        return False
    if content is UNSET:
        return role == "assistant"
    first = memoryview(content)[0]
    if first == _TEXT:
        return True
    if first != _LIST:
        return role == "assistant" and bytes(content) == b"null"
    for part in _read_parts(content):
        if part.type == "text":
            if part.text is UNSET:
                return False
        elif part.image_url is UNSET or role != "user" or not part.image_url.url.startswith(("https://", "http://")):
            return False
    return True


class _Block(msgspec.Struct):
    type: Literal["text", "tool_use", "tool_result", "thinking", "redacted_thinking"]


_read_blocks = msgspec.json.Decoder(list[_Block]).decode


def anthropic_parts_fit(content: _Raw) -> bool:
    """Whether a message of Anthropic's API is text, thoughts, and calls with their results.

    Raises: as `chat_parts_fit`.
    """
    first = memoryview(content)[0]
    return first == _TEXT or (first == _LIST and bool(_read_blocks(content)))
