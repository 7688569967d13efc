"""What the cache talks about."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from interlock.core.ids import ReleaseId
from interlock.core.messages import ChatEvent

__all__ = ["CacheScope", "CacheStatus", "Entry", "Purge", "user_tag"]

CacheStatus = Literal["", "off", "bypass", "miss", "refresh", "hit", "shared", "semantic", "stale", "partial"]
"""What the cache did for a call. Empty: it was not asked. `shared`: the answer of an equal call that was under way;
`stale`: past its time, because no target could answer; `partial`: some of an app's several calls were hits."""


@dataclass(frozen=True, slots=True)
class CacheScope:
    """Where a call belongs, besides its tenant and its caller: part of every key."""

    app: str = ""
    release: ReleaseId | None = None
    snapshot: str = ""
    """Knowledge snapshot that the prompt was written from."""
    collection: str = ""
    documents: Sequence[str] = ()
    """Documents whose text is in the prompt: a purge of one removes the answer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept answer."""

    events: tuple[ChatEvent, ...]
    """Deltas, joined where that loses nothing, and one Finish."""
    target: str
    """``provider/model`` that wrote it."""
    fresh: bool
    """False when it is only good enough to stand in."""


@dataclass(frozen=True, slots=True)
class Purge:
    """What to forget: exactly one field is set, or none for everything of the tenant."""

    app: str | None = None
    route: str | None = None
    document: str | None = None
    collection: str | None = None
    user: str | None = None
    """Id of an end user."""

    def __str__(self) -> str:
        for kind in ("app", "route", "document", "collection"):
            if (value := getattr(self, kind)) is not None:
                return f"{kind}:{value}"
        return "all" if self.user is None else user_tag(self.user)


def user_tag(user: str) -> str:
    """What stands for an end user in the names of the store, which are not encrypted."""
    return f"user:{hashlib.sha256(user.encode()).hexdigest()[:32]}"
