"""Text of providers made whole: a character that comes as two halves, and halves that have no other.

JSON may name half of a UTF-16 pair, and a server that cuts its text between bytes or units does so in the middle of an
emoji. Halves that follow each other in one channel are joined; one that stays alone becomes U+FFFD, as every decoder of
broken text has it. No text that leaves here breaks an encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from interlock.core.messages import ChatEvent, Finish, NativeDelta, ReasoningDelta, TextDelta, ToolCallDelta

__all__ = ["Texts"]


class Texts:
    """The texts of one answer."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], tuple[str, ChatEvent]] = {}
        """By channel, a first half that waits for its other, and an event of that channel."""

    def take(self, event: ChatEvent) -> Sequence[ChatEvent]:
        """The event with whole characters only; nothing when it was no more than a half."""
        if isinstance(event, TextDelta):
            if event.logprobs is None and not self._held and event.text.isascii():
                return (event,)
            text = self._whole(("text", int(event.refusal)), event.text, event)
            if not text and event.text and event.logprobs is None:
                return ()
            return (replace(event, text=text, logprobs=_cleaned(event.logprobs)),)
        if isinstance(event, ReasoningDelta):
            return (replace(event, text=self._whole(("reasoning", event.index), event.text, event)),)
        if isinstance(event, ToolCallDelta):
            name = None if event.name is None else _joined(event.name)
            return (replace(event, name=name, arguments=self._whole(("call", event.index), event.arguments, event)),)
        if isinstance(event, NativeDelta):
            return (replace(event, block=_cleaned(event.block), delta=_cleaned(event.delta)),)
        assert isinstance(event, Finish)
        rests = [_with_text(last, "\ufffd") for _, last in self._held.values()]
        self._held.clear()
        return (*rests, replace(event, model=_joined(event.model), extra=_cleaned(event.extra)))

    def _whole(self, channel: tuple[str, int], text: str, event: ChatEvent) -> str:
        if text.isascii() and channel not in self._held:
            return text
        held, _ = self._held.pop(channel, ("", event))
        text = held + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._held[channel] = (text[-1], event)
            text = text[:-1]
        return _joined(text)


def _with_text(event: ChatEvent, text: str) -> ChatEvent:
    if isinstance(event, ToolCallDelta):
        return ToolCallDelta(event.index, arguments=text)
    if isinstance(event, ReasoningDelta):
        return ReasoningDelta(text, event.origin, event.index)
    assert isinstance(event, TextDelta)
    return TextDelta(text, refusal=event.refusal)


def _joined(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# Any: JSON of a provider.
def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _joined(value)
    if isinstance(value, Mapping):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
