"""What every wire does with an answer: read its events, count its calls, and refuse another shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from interlock.core.errors import ProviderError
from interlock.core.messages import ToolCallDelta

__all__ = ["CallIndex", "incomplete", "parse", "well_formed"]


@contextmanager
def well_formed(provider: str) -> Iterator[None]:
    """Turns a field of another type (`delta` that is a string, an `index` that is no number) into a ProviderError."""
    try:
        yield
    except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        raise ProviderError(
            f"provider {provider!r} sent an event of another shape", provider=provider, retryable=True
        ) from error


def parse(data: str | bytes, provider: str) -> dict[str, Any]:
    """One event as an object. Any: decoded JSON of a foreign service. Raises: ProviderError."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProviderError(
            f"provider {provider!r} sent an event that is not JSON", provider=provider, retryable=True
        ) from error
    if not isinstance(event, dict):
        raise ProviderError(f"provider {provider!r} sent an event that is no object", provider=provider, retryable=True)
    return event


def incomplete(provider: str, what: str = "a finish reason") -> ProviderError:
    """The error of an answer that just ends."""
    return ProviderError(
        f"provider {provider!r} ended its answer without {what}",
        provider=provider,
        retryable=True,
        code="provider_incomplete",
    )


class CallIndex:
    """Numbers tool calls from zero, in the order they begin, and knows which have no arguments yet."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._unsaid: set[int] = set()

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    def begin(self, key: object, call_id: object, name: object, *, signature: str | None = None) -> ToolCallDelta:
        """A call that the provider knows as `key`."""
        number = self._numbers.setdefault(key, len(self._numbers))
        self._unsaid.add(number)
        return ToolCallDelta(
            number, str(call_id) if call_id else None, str(name) if name else None, signature=signature
        )

    def more(self, key: object, arguments: str) -> ToolCallDelta:
        """More of its arguments."""
        number = self._numbers.setdefault(key, len(self._numbers))
        if arguments:
            self._unsaid.discard(number)
        return ToolCallDelta(number, arguments=arguments)

    def end(self, key: object) -> Iterator[ToolCallDelta]:
        """An empty object for a call without arguments: everybody else's arguments are JSON."""
        number = self._numbers.get(key, -1)
        if number in self._unsaid:
            self._unsaid.discard(number)
            yield ToolCallDelta(number, arguments="{}")

    def end_all(self) -> Iterator[ToolCallDelta]:
        """The same for every call, where the API does not say when one ends."""
        for key in list(self._numbers):
            yield from self.end(key)
