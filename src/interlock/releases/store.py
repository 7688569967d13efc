"""Tables: releases, channels. Components and manifests themselves are blobs."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.clock import now
from interlock.core.ids import AppName, ReleaseId, TenantId
from interlock.releases.types import Channel, ReleaseInfo
from interlock.stores.sql.base import Json, UtcDateTime, metadata

__all__ = ["channels_of", "insert_release", "move_channel", "pointer", "release_row", "releases_of"]

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


def _info(row: sa.Row[tuple[object, ...]]) -> ReleaseInfo:
    return ReleaseInfo(ReleaseId(row.id), AppName(row.app), row.components, row.created_at, row.created_by, row.note)


def pointer(conn: Connection, tenant: TenantId, app: AppName, channel: str) -> ReleaseId | None:
    """Where a channel points."""
    found = conn.execute(
        sa.select(channels.c.release).where(
            channels.c.tenant == tenant, channels.c.app == app, channels.c.name == channel
        )
    ).scalar_one_or_none()
    return None if found is None else ReleaseId(found)


def channels_of(conn: Connection, tenant: TenantId, app: AppName) -> list[Channel]:
    """All channels of an app, by name."""
    rows = conn.execute(
        sa.select(channels).where(channels.c.tenant == tenant, channels.c.app == app).order_by(channels.c.name)
    )
    return [Channel(AppName(r.app), r.name, ReleaseId(r.release), r.moved_at, r.moved_by) for r in rows]


def move_channel(
    conn: Connection, tenant: TenantId, app: AppName, channel: str, *, release: ReleaseId, by: str
) -> ReleaseId | None:
    """Point a channel at a release; gives where it pointed before."""
    before = pointer(conn, tenant, app, channel)
    values = {"release": release, "moved_by": by, "moved_at": now()}
    if before is None:
        conn.execute(channels.insert().values(tenant=tenant, app=app, name=channel, **values))
    else:
        conn.execute(
            channels.update()
            .where(channels.c.tenant == tenant, channels.c.app == app, channels.c.name == channel)
            .values(**values)
        )
    return before
