"""Mistral: OpenAI's chat completions with other names for a few things.

Source: the Mistral API reference for `POST /v1/chat/completions`. It answers like OpenAI, thoughts as content parts.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from interlock.core.messages import ChatRequest, Message, ReasoningPart
from interlock.gateway.presets import Quirks
from interlock.gateway.types import ModelProfile
from interlock.gateway.wires import openai

__all__ = ["QUIRKS", "encode_request"]

# Any in this module: JSON on its way out.
QUIRKS = Quirks(
    stream_options=False, user=False, seed=False, output_token_field="max_tokens", reasoning="none", moderations=True,
    audio=True, media_urls=True, token_inputs=False,
)  # fmt: skip
_ID = re.compile(r"[a-zA-Z0-9]{9}")


def encode_request(request: ChatRequest, model: str, profile: ModelProfile) -> dict[str, Any]:
    """JSON body of a streaming call. Raises: InvalidInput: a part that this API has no field for."""
    body = openai.encode_request(request, model, profile, QUIRKS)
    if request.seed is not None:
        body["random_seed"] = request.seed
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "any"
    for turn in body["messages"]:
        turn.pop("name", None)
        for call in turn.get("tool_calls") or ():
            call["id"] = _short(call["id"])
        if "tool_call_id" in turn:
            turn["tool_call_id"] = _short(turn["tool_call_id"])
        for part in turn["content"] if isinstance(turn.get("content"), list) else ():
            _as_document(part)
    _give_thoughts_back(request.messages, body["messages"])
    last = request.messages[-1] if request.messages else None
    if last is not None and last.role == "assistant" and last.text and not body["messages"][-1].get("tool_calls"):
        # An unfinished turn is continued only when it says so.
        body["messages"][-1]["prefix"] = True
    return body


def _short(call_id: str) -> str:
    """Exactly nine letters and digits: ids of other providers are shortened the same way at every turn."""
    return call_id if _ID.fullmatch(call_id) else hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _as_document(part: dict[str, Any]) -> None:
    if part.get("type") == "file" and "file_data" in part["file"]:
        file = part.pop("file")
        part |= {"type": "document_url", "document_url": file["file_data"], "document_name": file["filename"]}
    elif part.get("type") == "file":
        part["file_id"] = part.pop("file")["file_id"]
    elif part.get("type") == "input_audio":
        part["input_audio"] = part["input_audio"]["data"]


def _give_thoughts_back(messages: tuple[Message, ...], turns: list[dict[str, Any]]) -> None:
    """Thoughts of this family are parts of the assistant's content."""
    assistants = [turn for turn in turns if turn["role"] == "assistant"]
    for message, turn in zip((m for m in messages if m.role == "assistant"), assistants, strict=True):
        thought = "".join(p.text for p in message.parts if isinstance(p, ReasoningPart) and p.origin == "openai")
        if thought:
            said = turn.get("content")
            rest = said if isinstance(said, list) else [{"type": "text", "text": said}] if said else []
            turn["content"] = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}, *rest]
