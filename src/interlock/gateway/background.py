"""Responses that a worker makes while their caller does something else: stored at once, followed by their id.

States: `queued` -> `in_progress` -> `completed` (the document then says how it ended); `cancelled` from either of the
first two. A change of state names the states it may come from, so that of two who change it one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.ids import JobId, TenantId
from interlock.gateway.kept import Kept, KeptResponse, context_from, documents_of, identity_of, index_items, run
from interlock.gateway.store import responses

__all__ = ["Background", "Waiting"]

# Any in this module: JSON objects of the API.
_OPEN = ("queued", "in_progress")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A response that is to be made, as a worker needs it."""

    tenant: TenantId
    id: str
    owner: str
    state: str
    kept: KeptResponse = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    """The request as it came."""
    identity: Mapping[str, Any] = field(repr=False)

    @property
    def is_open(self) -> bool:
        """True while it is still to be made."""
        return self.state in _OPEN

    def context(self, base: Context) -> Context:
        """Its caller's, with the sink of `base`."""
        return context_from(self.identity, self.tenant, base)


class Background:
    """Of all tenants, in the same store as other responses."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._sql = kept.sql

    async def keep(self, ctx: Context, kept: KeptResponse, body: Mapping[str, Any], home: TenantId) -> None:
        """Store a response that is to be made, not yet given to a worker of the workspace `home`."""
        identity = str(kept.response["id"])
        said = {**kept._asdict(), "body": dict(body), "identity": identity_of(ctx)}
        at = now()
        row = {
            "tenant": ctx.tenant,
            "id": identity,
            "owner": self._kept.owner(ctx),
            "principal": ctx.principal.id,
            "created_at": at,
            "expires_at": at + self._kept.response_life,
            "sealed": await self._kept.seal(said, f"response:{ctx.tenant}:{identity}"),
            "state": "queued",
            "job": f"@{home}",
        }
        await self._sql.write(lambda conn: run(conn, sa.insert(responses).values(row)))

    async def queued(self, tenant: TenantId, identity: str, job: JobId) -> None:
        """Note that a worker's queue has it."""
        which = (responses.c.tenant == tenant, responses.c.id == identity)
        await self._sql.write(lambda conn: run(conn, sa.update(responses).where(*which).values(job=str(job))))

    async def unqueued(self, home: TenantId) -> list[tuple[TenantId, str]]:
        """Those of a workspace that were stored and never given to a worker: the process died between the two."""
        early = now() - timedelta(seconds=30)
        query = sa.select(responses.c.tenant, responses.c.id).where(
            responses.c.state == "queued", responses.c.job == f"@{home}", responses.c.created_at < early
        )
        rows = await self._sql.read(lambda conn: conn.execute(query).all())
        return [(TenantId(row.tenant), row.id) for row in rows]

    async def waiting(self, tenant: TenantId, identity: str) -> Waiting | None:
        """For the worker alone, whoever owns it. None: it was removed, or it has ended."""
        query = sa.select(responses).where(
            responses.c.tenant == tenant, responses.c.id == identity, responses.c.state.in_(_OPEN)
        )
        row = await self._sql.read(lambda conn: conn.execute(query).mappings().one_or_none())
        if row is None:
            return None
        said = await self._kept.unseal(row["sealed"], f"response:{tenant}:{identity}")
        kept = KeptResponse(said["items"], said["response"], documents_of(said))
        return Waiting(tenant, identity, row["owner"], row["state"], kept, said["body"], said["identity"])

    async def state(self, tenant: TenantId, identity: str) -> str:
        """Empty when it was removed."""
        query = sa.select(responses.c.state).where(responses.c.tenant == tenant, responses.c.id == identity)
        return str(await self._sql.read(lambda conn: conn.execute(query).scalar_one_or_none()) or "")

    async def begin(self, one: Waiting) -> bool:
        """A worker begins; False when it was cancelled or removed meanwhile."""
        return await self._move(one.tenant, one.id, "in_progress")

    async def again(self, one: Waiting) -> bool:
        """It waits once more."""
        return await self._move(one.tenant, one.id, "queued")

    async def cancel(self, ctx: Context, identity: str) -> str | None:
        """Cancel it; gives its job, None when it had ended already."""
        which = (self._kept.mine(responses, ctx, identity), responses.c.state.in_(_OPEN))

        def write(conn: sa.Connection) -> str | None:
            job = conn.execute(sa.select(responses.c.job).where(*which)).scalar_one_or_none()
            moved = run(conn, sa.update(responses).where(*which).values(state="cancelled"))
            return job if moved else None

        return await self._sql.write(write)

    async def finish(self, one: Waiting, kept: KeptResponse) -> bool:
        """Store how it ended; False when it was cancelled or removed meanwhile."""
        sealed = await self._kept.seal(kept._asdict(), f"response:{one.tenant}:{one.id}")
        row = {"tenant": one.tenant, "owner": one.owner, "id": one.id}

        def write(conn: sa.Connection) -> bool:
            changed = sa.update(responses).where(*_open(one.tenant, one.id)).values(state="completed", sealed=sealed)
            if not run(conn, changed):
                return False
            index_items(conn, row, kept)
            return True

        return await self._sql.write(write)

    async def _move(self, tenant: TenantId, identity: str, state: str) -> bool:
        moved = sa.update(responses).where(*_open(tenant, identity)).values(state=state)
        return await self._sql.write(lambda conn: run(conn, moved)) > 0


def _open(tenant: TenantId, identity: str) -> tuple[sa.ColumnElement[bool], ...]:
    return responses.c.tenant == tenant, responses.c.id == identity, responses.c.state.in_(_OPEN)
