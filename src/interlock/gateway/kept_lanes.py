"""Parts of batches that providers' batch APIs have: what was sent, how far it is, what is reserved for each line.

A row is written before anything is sent, so whoever takes over knows what may exist at the provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from interlock.core.clock import now
from interlock.core.ids import TenantId, TraceId, ulid
from interlock.gateway.kept import Batch, Kept, run
from interlock.gateway.lanes.ports import Remote
from interlock.gateway.store import batch_holds, batch_lanes, batches

__all__ = ["Hold", "KeptLane", "KeptLanes", "LaneState"]

# Any in this module: JSON and rows of unlike columns.
LaneState = Literal["new", "uploaded", "creating", "working", "cancelling", "ended", "taken", "closed"]
"""`new`: only written down. `uploaded`: its lines are there. `creating`: whether it exists is being found out.
`ended`: its results can be taken. `taken`: they were, and what is left at the provider is being removed."""
_MOST_OPEN = 200


@dataclass(frozen=True, slots=True)
class KeptLane:
    """One batch at a provider."""

    id: str
    tenant: TenantId
    batch: str
    provider: str
    model: str
    lines: int
    state: LaneState
    reason: str
    """Why its lines became ordinary ones; empty when it went well. A machine's word."""
    remote: Remote
    failures: int
    looks: int
    next_at: datetime
    created_at: datetime

    @property
    def is_open(self) -> bool:
        """True while it has lines."""
        return self.state not in {"taken", "closed"}


class Hold(NamedTuple):
    """One line that a provider has."""

    number: int
    lane: str
    trace: TraceId
    held: Mapping[str, Any]
    """The reservation."""


class KeptLanes:
    """The store, beside `Kept`."""

    def __init__(self, kept: Kept) -> None:
        self._sql = kept.sql

    async def open_lane(
        self, batch: Batch, home: TenantId, *, provider: str, model: str, holds: Sequence[Hold]
    ) -> KeptLane:
        """Write down that these lines are about to be handed over, with their reservations: all or none.

        `holds` need no lane yet.
        """
        identity, at = f"lane-{ulid().lower()}", now()
        row: dict[str, Any] = {
            "tenant": batch.tenant,
            "id": identity,
            "batch": batch.id,
            "home": home,
            "provider": provider,
            "model": model,
            "lines": len(holds),
            "state": "new",
            "reason": "",
            "remote": Remote().stored(),
            "failures": 0,
            "looks": 0,
            "next_at": at,
            "created_at": at,
        }
        rows = [
            {
                "tenant": batch.tenant,
                "batch": batch.id,
                "number": hold.number,
                "lane": identity,
                "trace_id": hold.trace,
                "held": dict(hold.held),
            }
            for hold in holds
        ]

        def write(conn: sa.Connection) -> None:
            conn.execute(sa.insert(batch_lanes).values(row))
            conn.execute(sa.insert(batch_holds), rows)

        await self._sql.write(write)
        return _lane(row)

    async def lanes(self, batch: Batch) -> list[KeptLane]:
        """All of a batch, oldest first."""
        query = (
            sa.select(batch_lanes)
            .where(batch_lanes.c.tenant == batch.tenant, batch_lanes.c.batch == batch.id)
            .order_by(batch_lanes.c.id)
        )
        rows = await self._sql.read(lambda conn: conn.execute(query).mappings().all())
        return [_lane(row) for row in rows]

    # Any: columns of unlike types.
    async def change(self, lane: KeptLane, **changes: Any) -> KeptLane:
        """Write down how far a lane is."""
        values = {name: value.stored() if isinstance(value, Remote) else value for name, value in changes.items()}
        mine = [batch_lanes.c.tenant == lane.tenant, batch_lanes.c.id == lane.id]

        def write(conn: sa.Connection) -> Mapping[Any, Any]:
            conn.execute(sa.update(batch_lanes).where(*mine).values(values))
            return conn.execute(sa.select(batch_lanes).where(*mine)).mappings().one()

        return _lane(await self._sql.write(write))

    async def holds(self, lane: KeptLane) -> list[Hold]:
        """Lines of a lane that have no result yet, in the order of the input."""
        query = (
            sa.select(batch_holds)
            .where(batch_holds.c.tenant == lane.tenant, batch_holds.c.lane == lane.id)
            .order_by(batch_holds.c.number)
        )
        rows = await self._sql.read(lambda conn: conn.execute(query).mappings().all())
        return [Hold(row["number"], row["lane"], TraceId(row["trace_id"]), row["held"]) for row in rows]

    async def held_lines(self, batch: Batch) -> set[int]:
        """Numbers of a batch's lines that providers have."""
        query = sa.select(batch_holds.c.number).where(
            batch_holds.c.tenant == batch.tenant, batch_holds.c.batch == batch.id
        )
        return set(await self._sql.read(lambda conn: conn.execute(query).scalars().all()))

    async def all_stopping(self, batch: Batch) -> bool:
        """True when every provider that has lines of a batch was asked to stop."""
        return all(lane.state in {"cancelling", "ended"} for lane in await self.lanes(batch) if lane.is_open)

    async def held(self, tenant: TenantId) -> int:
        """How many lines of a tenant's batches providers have."""
        query = sa.select(sa.func.count()).select_from(batch_holds).where(batch_holds.c.tenant == tenant)
        return int(await self._sql.read(lambda conn: conn.execute(query).scalar_one()))

    async def drop(self, lane: KeptLane, holds: Sequence[Hold]) -> list[Hold]:
        """Lines go back without a result; gives those that were there, so that each is given back once."""

        def write(conn: sa.Connection) -> list[Hold]:
            return [hold for hold in holds if run(conn, _gone(lane.tenant, lane.batch, hold.number))]

        return await self._sql.write(write)

    def settled(
        self, batch: Batch, number: int, charge: Callable[[sa.Connection], object]
    ) -> tuple[Callable[[sa.Connection], None], Callable[[], bool]]:
        """What `Kept.keep_line` does besides: the line's hold becomes its charge, once.

        Gives the step, and a question for afterwards: whether the hold was there.
        """
        was: list[bool] = []

        def step(conn: sa.Connection) -> None:
            was[:] = [bool(run(conn, _gone(batch.tenant, batch.id, number)))]
            if was[0]:
                charge(conn)

        return step, lambda: was == [True]

    async def tell(self, batch: Batch, **facts: Any) -> None:
        """Let the batch show which lanes it took."""
        rows = await self.lanes(batch)
        parts = [
            {
                "lane": "half-price",
                "provider": row.provider,
                "model": row.model,
                "lines": row.lines,
                "state": row.state,
                "reason": row.reason,
                "provider_batch": row.remote.batch,
            }
            for row in rows
        ]
        mine = [batches.c.tenant == batch.tenant, batches.c.id == batch.id]

        def write(conn: sa.Connection) -> None:
            known = conn.execute(sa.select(batches.c.lanes).where(*mine)).scalar_one_or_none() or {}
            conn.execute(sa.update(batches).where(*mine).values(lanes={**known, **facts, "parts": parts}))

        await self._sql.write(write)

    async def left_behind(self, home: TenantId) -> list[KeptLane]:
        """Lanes of this workspace whose batch has ended or is gone, and of which something may be left."""
        held = sa.and_(batches.c.tenant == batch_lanes.c.tenant, batches.c.id == batch_lanes.c.batch)
        open_states = ("validating", "in_progress", "finalizing", "cancelling")
        query = (
            sa.select(batch_lanes)
            .select_from(batch_lanes.outerjoin(batches, held))
            .where(
                batch_lanes.c.home == home,
                batch_lanes.c.state != "closed",
                # The provider's pace does not matter any more, only that it failed a moment ago.
                sa.or_(batch_lanes.c.failures == 0, batch_lanes.c.next_at <= now()),
                sa.or_(batches.c.id.is_(None), batches.c.state.not_in(open_states)),
            )
            .limit(_MOST_OPEN)
        )
        rows = await self._sql.read(lambda conn: conn.execute(query).mappings().all())
        return [_lane(row) for row in rows]

    async def forget_closed(self, home: TenantId) -> None:
        """Remove the rows of lanes that are over and whose batch is gone."""
        known = sa.select(batches.c.tenant, batches.c.id)
        gone = sa.tuple_(batch_lanes.c.tenant, batch_lanes.c.batch).not_in(known)
        which = sa.and_(batch_lanes.c.home == home, batch_lanes.c.state == "closed", gone)
        await self._sql.write(lambda conn: run(conn, sa.delete(batch_lanes).where(which)))


def _gone(tenant: TenantId, batch: str, number: int) -> Any:
    return sa.delete(batch_holds).where(
        batch_holds.c.tenant == tenant, batch_holds.c.batch == batch, batch_holds.c.number == number
    )


def _lane(row: Mapping[Any, Any]) -> KeptLane:
    named = {name: row[name] for name in KeptLane.__dataclass_fields__}
    return KeptLane(**{**named, "tenant": TenantId(row["tenant"]), "remote": Remote.read(row["remote"])})
