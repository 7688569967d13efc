"""Kept answers as bytes, and back. What an older version wrote stays readable; what cannot be read is a miss."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec

from interlock.core.messages import ChatEvent, Finish, NativeDelta, ReasoningDelta, TextDelta, ToolCallDelta, Usage

__all__ = ["Kept", "joined", "pack", "replayed", "unpack"]

_FORMAT = 1
_PIECE_CHARS = 48
"""About as much as a provider sends at a time, so that a client's display behaves as it always does."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer with what decides whether it may be given again."""

    events: tuple[ChatEvent, ...]
    target: str
    written_at: float
    """Unix seconds."""
    generation: int
    epochs: dict[str, int]
    """Tag to its epoch when the answer was begun."""


def joined(events: Sequence[ChatEvent]) -> tuple[ChatEvent, ...]:
    """The same answer in fewer events: neighbouring pieces of one text, thought or tool call become one."""
    result: list[ChatEvent] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            if event.logprobs is None and last.logprobs is None and event.refusal == last.refusal:
                result[-1] = replace(last, text=last.text + event.text)
                continue
        elif isinstance(event, ToolCallDelta) and isinstance(last, ToolCallDelta):
            if event.index == last.index and event.id is None and event.name is None:
                result[-1] = replace(
                    last, arguments=last.arguments + event.arguments, signature=last.signature or event.signature
                )
                continue
        elif (
            isinstance(event, ReasoningDelta)
            and isinstance(last, ReasoningDelta)
            and (event.index, event.origin, event.redacted) == (last.index, last.origin, last.redacted)
            and not event.signature
            and not last.signature
        ):
            result[-1] = replace(last, text=last.text + event.text, id=last.id or event.id)
            continue
        result.append(event)
    return tuple(result)


def replayed(events: Sequence[ChatEvent]) -> Iterator[ChatEvent]:
    """The answer again as a stream: long texts in pieces, broken between words."""
    for event in events:
        if isinstance(event, TextDelta) and event.logprobs is None and len(event.text) > _PIECE_CHARS:
            for piece in _pieces(event.text):
                yield replace(event, text=piece)
        else:
            yield event


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE_CHARS:
        end = text.rfind(" ", start + 1, start + _PIECE_CHARS)
        end = end if end > start else start + _PIECE_CHARS
        yield text[start:end]
        start = end
    yield text[start:]


_KINDS: dict[str, type[TextDelta | ReasoningDelta | ToolCallDelta]] = {
    "text": TextDelta,
    "reasoning": ReasoningDelta,
    "tool": ToolCallDelta,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def pack(kept: Kept) -> bytes:
    """JSON in UTF-8."""
    rows: list[dict[str, Any]] = []  # Any: JSON
    for event in kept.events:
        if isinstance(event, Finish):
            rows.append({"kind": "finish", **asdict(event), "usage": msgspec.structs.asdict(event.usage)})
        else:
            assert not isinstance(event, NativeDelta), "such an answer is not kept"
            rows.append({"kind": _NAMES[type(event)], **asdict(event)})
    document = {
        "format": _FORMAT,
        "target": kept.target,
        "written_at": kept.written_at,
        "generation": kept.generation,
        "epochs": kept.epochs,
        "events": rows,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace")


def unpack(data: bytes) -> Kept | None:
    """What `pack` wrote; None when it is damaged or of a newer version."""
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT:
            return None
        events = tuple(_event(dict(row)) for row in document["events"])
        kept = Kept(
            events, document["target"], document["written_at"], document["generation"], dict(document["epochs"])
        )
    except (ValueError, KeyError, TypeError):
        return None
    return kept if kept.events and isinstance(kept.events[-1], Finish) else None


def _event(row: dict[str, Any]) -> ChatEvent:
    kind = row.pop("kind")
    if kind == "finish":
        return Finish(**{**row, "usage": Usage(**row["usage"])})
    return _KINDS[kind](**row)
