"""What APIs have in common: pages whose content is held until it is asked for, and cursors that are moments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from interlock.core.errors import NotFound
from interlock.knowledge.ports import CursorExpired, SourceItem

__all__ = ["Fetch", "Held", "Shelf", "facts", "listed", "moment", "named", "since", "words"]

Fetch = Callable[[], Awaitable[bytes]]
_OVERLAP = timedelta(seconds=60)
"""Search indexes are behind; what comes twice is known by its version."""


class Held(NamedTuple):
    """One item of a page, with its content or the way to it."""

    item: SourceItem
    content: bytes | Fetch


class Shelf:
    """What the page given last holds."""

    def __init__(self) -> None:
        self._content: Mapping[str, bytes | Fetch] = {}

    def put(self, page: Sequence[Held]) -> list[SourceItem]:
        """Keep a page instead of the one before; gives its items."""
        self._content = {held.item.source: held.content for held in page}
        return [held.item for held in page]

    async def take(self, item: SourceItem) -> bytes:
        """The bytes of an item of the page. Raises: NotFound, and what fetching raises."""
        content = self._content.get(item.source)
        if content is None:
            raise NotFound(f"{item.source!r} is not in the page listed last", param=item.source)
        return content if isinstance(content, bytes) else await content()


def moment(at: datetime) -> str:
    """A cursor: everything that changed before this moment was listed."""
    return at.isoformat()


def since(cursor: str) -> datetime:
    """From when on changes are asked for, a little before the cursor. Raises: CursorExpired."""
    try:
        return datetime.fromisoformat(cursor) - _OVERLAP
    except ValueError as error:
        raise CursorExpired("the cursor is no time") from error


# Any below: JSON of foreign services, narrowed here and nowhere else.
def listed(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; of anything else none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def named(value: Any, *path: str) -> dict[str, Any]:
    """The object at a path of names; empty when there is none."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def words(value: Any, *path: str) -> str:
    """The text or number at a path of names; empty when there is none."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def facts(**values: str) -> dict[str, str]:
    """Metadata without what is empty; each value has 500 characters at most."""
    return {name: value[:500] for name, value in values.items() if value}
