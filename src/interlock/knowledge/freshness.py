"""How old what is known of a source may be, and whether it is older."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from interlock.core.clock import now
from interlock.knowledge.source_store import SourceState
from interlock.knowledge.sources import Source
from interlock.knowledge.types import SourceStatus

__all__ = ["AsOf", "as_of", "is_due", "status_of"]

_AGAIN = timedelta(minutes=5)


class AsOf(NamedTuple):
    """How old what was cited may be."""

    at: datetime | None
    """Every source of it was last seen whole then or later; None when one of them never was."""
    stale: bool
    """One of them was told to be stale or failing, or its last run did not reach it."""


def as_of(states: Iterable[SourceState]) -> AsOf:
    """The oldest of several sources, and whether one is worse than promised."""
    known = list(states)
    seen = [state.synced_at for state in known]
    stale = any(state.told in {"stale", "failing"} or state.error_code for state in known)
    return AsOf(min((at for at in seen if at is not None), default=None) if all(seen) else None, stale)


def is_due(source: Source, state: SourceState, at: datetime) -> bool:
    """Whether a run is asked for at a moment: by the schedule, or by somebody who said that the source changed."""
    attempted = state.attempted_at
    if attempted is not None and attempted > at + _AGAIN:
        # The clock was ahead when that was written: waiting for it to come round could take years.
        return state.wanted_at is not None or source.schedule is not None
    if state.wanted_at is not None:
        if attempted is None or state.wanted_at > attempted:
            return True
        # It was tried and did not end well: not at once again, and not never.
        if (state.synced_at is None or state.wanted_at > state.synced_at) and at - attempted >= _AGAIN:
            return True
    return source.schedule is not None and (attempted is None or at - attempted >= source.schedule)


def status_of(
    source: Source,
    state: SourceState,
    *,
    collection: str,
    documents: int,
    failed: int,
    held: int,
    set_back: bool = False,
    at: datetime | None = None,
) -> SourceStatus:
    """One source for people and machines. `at`: now, unless a test says otherwise."""
    moment = at or now()
    since = None
    stale = None
    if source.fresh_within is not None:
        end = None if state.synced_at is None else state.synced_at + source.fresh_within
        # A look that the clock puts into the future says nothing about how old it is.
        ahead = state.synced_at is not None and state.synced_at > moment + _AGAIN
        stale = end is None or end < moment or ahead
        since = end if stale and not ahead else None
    return SourceStatus(
        collection=collection,
        name=source.name,
        kind=source.kind,
        place=source.place(),
        owner=source.owner,
        licence=source.licence,
        pii=source.pii,
        secrets=source.secrets,
        injection=source.injection,
        documents=documents,
        failed=failed,
        held=held,
        set_back=set_back,
        schedule_s=None if source.schedule is None else source.schedule.total_seconds(),
        fresh_within_s=None if source.fresh_within is None else source.fresh_within.total_seconds(),
        synced_at=state.synced_at,
        attempted_at=state.attempted_at,
        full_at=state.full_at,
        stale=stale,
        stale_since=since,
        error_code=state.error_code,
        error_message=state.error_message,
        told=state.told,
    )
