"""What LiteLLM's `model_info` says of a model, as facts of ours, and which kind of work a model does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

__all__ = ["Facts", "facts_of", "work_of"]

# Any in this module: YAML that somebody else wrote.
_LIMITS = {"max_input_tokens": "context_tokens", "max_output_tokens": "max_output_tokens"}
_ABILITIES = {
    "supports_vision": "images",
    "supports_function_calling": "tools",
    "supports_response_schema": "json_schema",
    "supports_system_messages": "system_role",
}
_READ = frozenset({*_LIMITS, *_ABILITIES, "max_tokens", "mode", "input_cost_per_token", "output_cost_per_token"})
_CHAT = frozenset({"chat", "completion", "responses"})
_MODES = _CHAT | {
    "embedding", "rerank", "moderation", "audio_transcription", "audio_speech", "image_generation", "image_edit",
}  # fmt: skip
_NAMED = (
    ("embed", "embedding"),
    ("rerank", "rerank"),
    ("moderation", "moderation"),
    ("whisper", "audio_transcription"),
    ("transcribe", "audio_transcription"),
    ("tts", "audio_speech"),
    ("dall-e", "image_generation"),
    ("gpt-image", "image_generation"),
)
"""Models that do no chat, by a part of their names."""


class Facts(NamedTuple):
    """What became of a `model_info`."""

    profile: dict[str, Any]
    """For `gateway.providers.NAME.profiles`."""
    notes: list[tuple[str, Literal["no counterpart", "differs", "do"], str]]
    """Field of `model_info`, what kind of note it is, the note."""


def work_of(model: str, info: Mapping[str, Any]) -> str:
    """What a model does: ``chat``, ``embedding``, ``rerank`` …: as its `mode` says, else by its name.

    >>> work_of("text-embedding-3-small", {}), work_of("gpt-4o", {}), work_of("x", {"mode": "responses"})
    ('embedding', 'chat', 'chat')
    """
    mode = str(info.get("mode") or "")
    if not mode:
        mode = next((work for part, work in _NAMED if part in model.lower()), "chat")
    return "chat" if mode in _CHAT else mode


def facts_of(model: str, info: Mapping[str, Any], *, base_model_is_read: bool) -> Facts:
    """Facts of a `model_info`, and what it says that has no counterpart.

    Args:
        base_model_is_read: the deployment of Azure is called by `base_model` already.
    """
    found = Facts({}, [])
    longest = dict(info)
    # `max_tokens` is their old name of the longest answer.
    longest.setdefault("max_output_tokens", info.get("max_tokens"))
    for theirs, ours in _LIMITS.items():
        value = longest.get(theirs)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 10**9:
            found.profile[ours] = value
        elif value is not None:
            found.notes.append((theirs, "no counterpart", "it is no number of tokens: it is left out"))
    for theirs, ours in _ABILITIES.items():
        if isinstance(info.get(theirs), bool):
            found.profile[ours] = info[theirs]
        elif info.get(theirs) is not None:
            found.notes.append((theirs, "no counterpart", "it is neither true nor false: it is left out"))
    if "context_tokens" in found.profile:
        message = "it becomes context_tokens of the model's profile: prompt and answer together"
        found.notes.append(("max_input_tokens", "differs", message))
    mode = info.get("mode")
    if mode == "responses":
        found.notes.append(("mode", "do", "set `api: responses` of its provider"))
    elif mode is not None and str(mode) not in _MODES:
        found.notes.append(("mode", "no counterpart", "there is no such work here"))
    if str(info.get("base_model") or model) != model and not base_model_is_read:
        message = "prices and facts are by the model's own name: write them under cost.prices and `profiles`"
        found.notes.append(("base_model", "do", message))
    read = _READ | {"base_model"}
    found.notes.extend((str(key), "no counterpart", "it is left out") for key in info if key not in read)
    return found
