"""How old what is known of a source may be, and whether it is older."""

from __future__ import annotations

from datetime import datetime, timedelta

from interlock.core.clock import now
from interlock.knowledge.source_store import SourceState
from interlock.knowledge.sources import Source
from interlock.knowledge.types import SourceStatus

__all__ = ["is_due", "status_of"]

_AGAIN = timedelta(minutes=5)


def is_due(source: Source, state: SourceState, at: datetime) -> bool:
    """Whether a run is asked for at a moment: by the schedule, or by somebody who said that the source changed."""
    attempted = state.attempted_at
    if state.wanted_at is not None:
        if attempted is None or state.wanted_at > attempted:
            return True
        # It was tried and did not end well: not at once again, and not never.
        if (state.synced_at is None or state.wanted_at > state.synced_at) and at - attempted >= _AGAIN:
            return True
    return source.schedule is not None and (attempted is None or at - attempted >= source.schedule)


def status_of(
    source: Source, state: SourceState, *, collection: str, documents: int, failed: int, at: datetime | None = None
) -> SourceStatus:
    """One source for people and machines. `at`: now, unless a test says otherwise."""
    moment = at or now()
    since = None
    stale = None
    if source.fresh_within is not None:
        end = None if state.synced_at is None else state.synced_at + source.fresh_within
        stale = end is None or end < moment
        since = end if stale else None
    return SourceStatus(
        collection=collection,
        name=source.name,
        kind=source.kind,
        place=source.place(),
        owner=source.owner,
        licence=source.licence,
        pii=source.pii,
        documents=documents,
        failed=failed,
        schedule_s=None if source.schedule is None else source.schedule.total_seconds(),
        fresh_within_s=None if source.fresh_within is None else source.fresh_within.total_seconds(),
        synced_at=state.synced_at,
        attempted_at=state.attempted_at,
        full_at=state.full_at,
        stale=stale,
        stale_since=since,
        error_code=state.error_code,
        error_message=state.error_message,
    )
