"""Tables: releases, channels, evidence. Components, manifests and reports themselves are blobs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.clock import now
from interlock.core.errors import Conflict
from interlock.core.ids import AppName, ReleaseId, TenantId
from interlock.releases.promotion import Evidence
from interlock.releases.types import Channel, Move, ReleaseInfo, Retired
from interlock.stores.sql.base import BigId, Json, UtcDateTime, metadata

__all__ = [
    "channels_of",
    "evidence_of",
    "has_served",
    "insert_evidence",
    "insert_release",
    "move_channel",
    "moves_of",
    "pointer",
    "refuse_retired",
    "release_row",
    "releases_of",
    "set_retired",
]

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("app", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(80), primary_key=True),
    sa.Column("components", Json, nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("retired_at", UtcDateTime, nullable=True),
    sa.Column("retired_by", sa.String(128), nullable=False, server_default=""),
    sa.Column("retired_reason", sa.Text, nullable=False, server_default=""),
)

channels = sa.Table(
    "channels",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("app", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("release", sa.String(80), nullable=False),
    sa.Column("moved_by", sa.String(128), nullable=False),
    sa.Column("moved_at", UtcDateTime, nullable=False),
)

moves = sa.Table(
    "channel_moves",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("app", sa.String(64), nullable=False),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("release", sa.String(80), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_channel_moves_tenant_app_channel", "tenant", "app", "channel"),
)

evidence = sa.Table(
    "release_evidence",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("app", sa.String(64), nullable=False),
    sa.Column("release", sa.String(80), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("verdict", sa.String(32), nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("summary", Json, nullable=False),
    sa.Index("ix_release_evidence_tenant_app_release", "tenant", "app", "release"),
)


def insert_evidence(conn: Connection, tenant: TenantId, given: Evidence) -> None:
    """Append: what was shown once is never taken back, only shown otherwise later."""
    conn.execute(
        evidence.insert().values(
            tenant=tenant,
            app=given.app,
            release=given.release,
            kind=given.kind,
            name=given.name,
            verdict=given.verdict,
            digest=given.digest,
            by=given.by,
            at=given.at,
            note=given.note,
            summary=given.summary,
        )
    )


def evidence_of(conn: Connection, tenant: TenantId, app: AppName, release: str) -> list[Evidence]:
    """All of one release, oldest first."""
    rows = conn.execute(
        sa.select(evidence)
        .where(evidence.c.tenant == tenant, evidence.c.app == app, evidence.c.release == release)
        .order_by(evidence.c.id)
    )
    return [
        Evidence(
            r.digest, AppName(r.app), ReleaseId(r.release), r.kind, r.name, r.verdict, r.by, r.at, r.note, r.summary
        )
        for r in rows
    ]


def insert_release(conn: Connection, tenant: TenantId, release: ReleaseInfo) -> None:
    """Record a release; recording the same one again keeps the first."""
    if release_row(conn, tenant, release.app, release.id) is None:
        conn.execute(
            releases.insert().values(
                tenant=tenant,
                app=release.app,
                id=release.id,
                components=dict(release.components),
                note=release.note,
                created_by=release.created_by,
                created_at=release.created_at,
            )
        )


def release_row(conn: Connection, tenant: TenantId, app: AppName, release: str) -> ReleaseInfo | None:
    """One release, by its whole id."""
    row = conn.execute(
        sa.select(releases).where(releases.c.tenant == tenant, releases.c.app == app, releases.c.id == release)
    ).one_or_none()
    return None if row is None else _info(row)


def releases_of(conn: Connection, tenant: TenantId, app: AppName, limit: int) -> list[ReleaseInfo]:
    """Newest first."""
    rows = conn.execute(
        sa.select(releases)
        .where(releases.c.tenant == tenant, releases.c.app == app)
        .order_by(releases.c.created_at.desc())
        .limit(limit)
    )
    return [_info(row) for row in rows]


def set_retired(conn: Connection, tenant: TenantId, app: AppName, release: str, retired: Retired | None) -> None:
    """Note, or take back, that no channel may be pointed at it."""
    values: dict[str, object] = {"retired_at": None, "retired_by": "", "retired_reason": ""}
    if retired is not None:
        values = {"retired_at": retired.at, "retired_by": retired.by, "retired_reason": retired.reason}
    conn.execute(
        releases.update()
        .where(releases.c.tenant == tenant, releases.c.app == app, releases.c.id == release)
        .values(**values)
    )


def refuse_retired(conn: Connection, tenant: TenantId, app: AppName, release: str) -> None:
    """Raises: Conflict: it is retired."""
    info = release_row(conn, tenant, app, release)
    if info is not None and info.retired is not None:
        raise Conflict(
            f"the release {release[:15]!r} of {app} is retired: no channel may point at it",
            param="release",
            hint=f"interlock release reinstate {release[7:15]} --app {app} --reason TEXT, or choose another",
        )


def _info(row: Any) -> ReleaseInfo:  # Any: a row of unlike columns
    retired = None if row.retired_at is None else Retired(row.retired_at, row.retired_by, row.retired_reason)
    return ReleaseInfo(
        ReleaseId(row.id), AppName(row.app), row.components, row.created_at, row.created_by, row.note, retired
    )


def pointer(conn: Connection, tenant: TenantId, app: AppName, channel: str) -> ReleaseId | None:
    """Where a channel points."""
    found = conn.execute(
        sa.select(channels.c.release).where(
            channels.c.tenant == tenant, channels.c.app == app, channels.c.name == channel
        )
    ).scalar_one_or_none()
    return None if found is None else ReleaseId(found)


def has_served(conn: Connection, tenant: TenantId, app: AppName, channel: str, release: str) -> bool:
    """Whether a channel has pointed at a release before."""
    found = conn.execute(
        sa.select(moves.c.id).where(
            moves.c.tenant == tenant, moves.c.app == app, moves.c.channel == channel, moves.c.release == release
        )
    ).first()
    return found is not None


def moves_of(conn: Connection, tenant: TenantId, app: AppName, channel: str | None, limit: int) -> list[Move]:
    """Where a channel has pointed, newest first; those of every channel without one."""
    wanted = sa.select(moves).where(moves.c.tenant == tenant, moves.c.app == app)
    if channel is not None:
        wanted = wanted.where(moves.c.channel == channel)
    rows = conn.execute(wanted.order_by(moves.c.id.desc()).limit(limit))
    return [Move(r.channel, ReleaseId(r.release), r.at, r.by, r.reason) for r in rows]


def channels_of(conn: Connection, tenant: TenantId, app: AppName) -> list[Channel]:
    """All channels of an app, by name."""
    rows = conn.execute(
        sa.select(channels).where(channels.c.tenant == tenant, channels.c.app == app).order_by(channels.c.name)
    )
    return [Channel(AppName(r.app), r.name, ReleaseId(r.release), r.moved_at, r.moved_by) for r in rows]


def move_channel(
    conn: Connection, tenant: TenantId, app: AppName, channel: str, *, release: ReleaseId, by: str, reason: str = ""
) -> ReleaseId | None:
    """Point a channel at a release; gives where it pointed before. Raises: Conflict: the release is retired."""
    refuse_retired(conn, tenant, app, release)
    before = pointer(conn, tenant, app, channel)
    at = now()
    values = {"release": release, "moved_by": by, "moved_at": at}
    conn.execute(
        moves.insert().values(tenant=tenant, app=app, channel=channel, release=release, by=by, at=at, reason=reason)
    )
    if before is None:
        conn.execute(channels.insert().values(tenant=tenant, app=app, name=channel, **values))
    else:
        conn.execute(
            channels.update()
            .where(channels.c.tenant == tenant, channels.c.app == app, channels.c.name == channel)
            .values(**values)
        )
    return before
