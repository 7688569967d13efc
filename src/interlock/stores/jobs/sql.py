"""Jobs in the relational store: claimed with SKIP LOCKED on PostgreSQL, by the single writer on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.clock import now
from interlock.core.errors import Conflict, NotFound
from interlock.core.ids import JobId, TenantId, new_id
from interlock.stores.jobs.base import Job, JobState
from interlock.stores.sql import Json, Sql, UtcDateTime, metadata, read_committed

__all__ = ["SqlJobs", "jobs"]

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    # The caller's key while the job is live, NULL once it has ended: at most one live job a key.
    sa.Column("live_key", sa.Text),
    sa.Column("payload", Json, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("checkpoint", Json, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("error_message", sa.Text, nullable=False),
    sa.Column("result", Json, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("run_at", UtcDateTime, nullable=False),
    sa.Column("lease_until", UtcDateTime),
    sa.UniqueConstraint("tenant", "kind", "live_key"),
    sa.Index(None, "state", "kind", "run_at"),
    sa.Index(None, "tenant", "created_at"),
)
"""One row a job, kept after it has ended until its tenant's retention removes it."""


class SqlJobs:
    """A `Jobs` over any `Sql`.

    Args:
        sql: a migrated database.
        clock: aware UTC now; by default the database server's on PostgreSQL, so that leases of workers on several
            machines agree, and this machine's on SQLite.
    """

    def __init__(self, sql: Sql, *, clock: Callable[[], datetime] | None = None) -> None:
        self._sql = sql
        self._clock = clock

    async def enqueue(
        self,
        tenant: TenantId,
        kind: str,
        payload: Mapping[str, object],
        *,
        key: str | None = None,
        max_attempts: int = 3,
        delay_s: float = 0.0,
        worker: str | None = None,
        lease_s: float = 30.0,
    ) -> Job:
        """See `Jobs.enqueue`."""

        def write(connection: Connection) -> Job:
            same = sa.select(jobs).where(jobs.c.tenant == tenant, jobs.c.kind == kind, jobs.c.live_key == key)
            live = None if key is None else connection.execute(same).mappings().first()
            if live is not None:
                return _job(live)
            at = self._now(connection)
            values = {
                "id": new_id("job"),
                "tenant": tenant,
                "kind": kind,
                "live_key": key,
                "payload": dict(payload),
                "state": "queued" if worker is None else "running",
                "attempt": 0 if worker is None else 1,
                "max_attempts": max_attempts,
                "checkpoint": {},
                "done": 0,
                "total": None,
                "message": "",
                "cancel_requested": False,
                "error_code": "",
                "error_message": "",
                "result": {},
                "worker": worker or "",
                "created_at": at,
                "updated_at": at,
                "run_at": at + timedelta(seconds=delay_s),
                "lease_until": None if worker is None else at + timedelta(seconds=lease_s),
            }
            connection.execute(sa.insert(jobs).values(values))
            return _job(values)

        return await self._sql.write(write)

    async def claim(
        self,
        worker: str,
        kinds: Sequence[str],
        *,
        lease_s: float = 30.0,
        tenant: TenantId | None = None,
        job: JobId | None = None,
        besides: Collection[JobId] = (),
    ) -> Job | None:
        """See `Jobs.claim`.

        A job whose worker died on its last attempt is not taken: it fails with the code ``worker_lost``, or becomes
        cancelled when that had been asked for.
        """

        def write(connection: Connection) -> Job | None:
            read_committed(connection)
            at = self._now(connection)
            while True:
                row = connection.execute(_runnable(kinds, at, tenant, job, besides)).mappings().first()
                if row is None:
                    return None
                died = row["state"] == "running"
                if died and row["cancel_requested"]:
                    self._end(connection, row["id"], at, state="cancelled")
                elif died and row["attempt"] >= row["max_attempts"]:
                    lost = {"error_code": "worker_lost", "error_message": "the worker died on the last attempt"}
                    self._end(connection, row["id"], at, state="failed", **lost)
                else:
                    changes = {
                        "state": "running",
                        "attempt": row["attempt"] + 1,
                        "worker": worker,
                        "updated_at": at,
                        "lease_until": at + timedelta(seconds=lease_s),
                    }
                    connection.execute(sa.update(jobs).where(jobs.c.id == row["id"]).values(changes))
                    return _job({**row, **changes})

        return await self._sql.write(write)

    async def heartbeat(
        self,
        job: Job,
        *,
        lease_s: float = 30.0,
        done: int | None = None,
        total: int | None = None,
        message: str | None = None,
        checkpoint: Mapping[str, object] | None = None,
    ) -> Job:
        """See `Jobs.heartbeat`. A lease that ran out and that nobody took is renewed."""
        saved: dict[str, object] = {"done": done, "total": total, "message": message}
        saved["checkpoint"] = None if checkpoint is None else dict(checkpoint)
        changes = {name: value for name, value in saved.items() if value is not None}

        def write(connection: Connection) -> Job:
            read_committed(connection)
            at = self._now(connection)
            self._update_mine(connection, job, {**changes, "lease_until": at + timedelta(seconds=lease_s)}, at)
            return _job(connection.execute(sa.select(jobs).where(jobs.c.id == job.id)).mappings().one())

        return await self._sql.write(write)

    async def succeed(self, job: Job, result: Mapping[str, object]) -> None:
        """See `Jobs.succeed`."""
        await self._finish(job, {"state": "succeeded", "result": dict(result), "error_code": "", "error_message": ""})

    async def fail(self, job: Job, *, code: str, message: str, retry_in_s: float | None) -> None:
        """See `Jobs.fail`. With None it is not tried again. Raises: Conflict when the lease was lost."""
        failure: dict[str, object] = {"error_code": code, "error_message": message}
        if retry_in_s is None or job.attempt >= job.max_attempts:
            await self._finish(job, {"state": "failed", **failure})
            return
        delay = timedelta(seconds=retry_in_s)

        def write(connection: Connection) -> None:
            read_committed(connection)
            at = self._now(connection)
            waiting = {"state": "queued", "run_at": at + delay, "worker": "", "lease_until": None}
            self._update_mine(connection, job, {**waiting, **failure}, at)

        await self._sql.write(write)

    async def cancel(self, tenant: TenantId, job: JobId) -> Job:
        """See `Jobs.cancel`. A job that has ended is given back as it is."""

        def write(connection: Connection) -> Job:
            read_committed(connection)
            mine = sa.select(jobs).where(jobs.c.id == job, jobs.c.tenant == tenant)
            row = connection.execute(mine.with_for_update()).mappings().first()
            if row is None:
                raise NotFound(f"no job {job!r}")
            at = self._now(connection)
            if row["state"] == "queued":
                self._end(connection, job, at, state="cancelled", cancel_requested=True)
            elif row["state"] == "running":
                connection.execute(sa.update(jobs).where(jobs.c.id == job).values(cancel_requested=True, updated_at=at))
            return _job(connection.execute(mine).mappings().one())

        return await self._sql.write(write)

    async def cancelled(self, job: Job) -> None:
        """See `Jobs.cancelled`. Raises: Conflict when the lease was lost."""
        await self._finish(job, {"state": "cancelled"})

    async def get(self, tenant: TenantId, job: JobId) -> Job:
        """See `Jobs.get`."""
        query = sa.select(jobs).where(jobs.c.id == job, jobs.c.tenant == tenant)
        row = await self._sql.read(lambda connection: connection.execute(query).mappings().first())
        if row is None:
            raise NotFound(f"no job {job!r}")
        return _job(row)

    async def list(self, tenant: TenantId, *, kind: str | None = None, limit: int = 50) -> list[Job]:
        """See `Jobs.list`."""
        query = sa.select(jobs).where(jobs.c.tenant == tenant)
        if kind is not None:
            query = query.where(jobs.c.kind == kind)
        query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        rows = await self._sql.read(lambda connection: connection.execute(query).mappings().all())
        return [_job(row) for row in rows]

    async def _finish(self, job: Job, changes: Mapping[str, object]) -> None:
        def write(connection: Connection) -> None:
            read_committed(connection)
            ended = {**changes, "live_key": None, "lease_until": None}
            self._update_mine(connection, job, ended, self._now(connection))

        await self._sql.write(write)

    def _update_mine(self, connection: Connection, job: Job, changes: Mapping[str, object], at: datetime) -> None:
        # Worker and attempt together are the fence: the same worker may have claimed the job again.
        mine = sa.and_(
            jobs.c.id == job.id,
            jobs.c.tenant == job.tenant,
            jobs.c.state == "running",
            jobs.c.worker == job.worker,
            jobs.c.attempt == job.attempt,
        )
        if connection.execute(sa.update(jobs).where(mine).values({**changes, "updated_at": at})).rowcount == 0:
            raise Conflict(
                f"the lease of job {job.id!r} was lost",
                code="lease_lost",
                hint="another worker continues it, or it has ended: stop and write nothing more",
            )

    # object: values of unlike columns.
    def _end(self, connection: Connection, job: str, at: datetime, **changes: object) -> None:
        ended = {**changes, "live_key": None, "lease_until": None, "updated_at": at}
        connection.execute(sa.update(jobs).where(jobs.c.id == job).values(ended))

    def _now(self, connection: Connection) -> datetime:
        if self._clock is not None:
            return self._clock()
        if connection.dialect.name == "postgresql":
            at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            return at
        return now()


def _runnable(
    kinds: Sequence[str], at: datetime, tenant: TenantId | None, job: JobId | None, besides: Collection[JobId]
) -> sa.Select[Any]:
    # Any: the row type of a whole table.
    waiting = sa.and_(jobs.c.state == "queued", jobs.c.run_at <= at)
    abandoned = sa.and_(jobs.c.state == "running", jobs.c.lease_until < at)
    wanted = [jobs.c.kind.in_(kinds), sa.or_(waiting, abandoned)]
    if tenant is not None:
        wanted.append(jobs.c.tenant == tenant)
    if job is not None:
        wanted.append(jobs.c.id == job)
    if besides:
        wanted.append(jobs.c.id.not_in(list(besides)))
    return (
        sa.select(jobs).where(*wanted).order_by(jobs.c.created_at, jobs.c.id).limit(1).with_for_update(skip_locked=True)
    )


# Any: columns of unlike types.
def _job(row: Mapping[Any, Any]) -> Job:
    return Job(
        id=JobId(row["id"]),
        tenant=TenantId(row["tenant"]),
        kind=row["kind"],
        payload=row["payload"],
        state=cast(JobState, row["state"]),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        checkpoint=row["checkpoint"],
        done=row["done"],
        total=row["total"],
        message=row["message"],
        cancel_requested=row["cancel_requested"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        result=row["result"],
        worker=row["worker"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        lease_until=row["lease_until"],
    )
