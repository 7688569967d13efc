"""Tables: versions of prompts, and the labels that point at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import TenantId
from interlock.stores.sql.base import BigId, Json, UtcDateTime, metadata

__all__ = ["Label", "Version", "insert_version", "labels_of", "remove_label", "set_label", "version_of", "versions_of"]

versions = sa.Table(
    "prompt_versions",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("prompt", sa.String(96), nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("origin", sa.String(16), nullable=False),
    sa.Column("author", sa.String(128), nullable=False),
    sa.Column("rationale", sa.Text, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("component", Json, nullable=False),
    sa.Column("files", Json, nullable=False),
    sa.Column("base", Json, nullable=False),
    sa.UniqueConstraint("tenant", "prompt", "digest", name="uq_prompt_versions_tenant_prompt_digest"),
)

labels = sa.Table(
    "prompt_labels",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("prompt", sa.String(96), primary_key=True),
    sa.Column("label", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("moved_by", sa.String(128), nullable=False),
    sa.Column("moved_at", UtcDateTime, nullable=False),
)

Origin = Literal["files", "draft", "release"]


@dataclass(frozen=True, slots=True)
class Version:
    """A prompt as it was at one time."""

    prompt: str
    digest: str
    """Of the component: a release that holds this digest has exactly this prompt."""
    origin: Origin
    """`files`: recorded from the workspace; `draft`: written in the registry; `release`: known from a frozen one."""
    author: str
    rationale: str
    at: datetime
    # Any: JSON values.
    component: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    """What it is read from, by path below the workspace; empty for one that only releases know."""
    base: Mapping[str, str] = field(default_factory=dict)
    """Of a draft: digests of the files that it was written over; empty for a file that was not there."""


@dataclass(frozen=True, slots=True)
class Label:
    """A pointer."""

    name: str
    digest: str
    moved_by: str
    moved_at: datetime


def insert_version(conn: Connection, tenant: TenantId, version: Version) -> bool:
    """Record a version; False when it is there already: the first keeps its author and its reason."""
    if version_of(conn, tenant, version.prompt, version.digest) is not None:
        return False
    conn.execute(
        versions.insert().values(
            tenant=tenant,
            prompt=version.prompt,
            digest=version.digest,
            origin=version.origin,
            author=version.author,
            rationale=version.rationale,
            at=version.at,
            component=dict(version.component),
            files=dict(version.files),
            base=dict(version.base),
        )
    )
    return True


def version_of(conn: Connection, tenant: TenantId, prompt: str, digest: str) -> Version | None:
    """One, by its whole digest."""
    row = conn.execute(
        sa.select(versions).where(versions.c.tenant == tenant, versions.c.prompt == prompt, versions.c.digest == digest)
    ).one_or_none()
    return None if row is None else _version(row)


def versions_of(conn: Connection, tenant: TenantId, prompt: str, limit: int) -> list[Version]:
    """Newest first."""
    rows = conn.execute(
        sa.select(versions)
        .where(versions.c.tenant == tenant, versions.c.prompt == prompt)
        .order_by(versions.c.id.desc())
        .limit(limit)
    )
    return [_version(row) for row in rows]


def _version(row: Any) -> Version:  # Any: a row of unlike columns
    return Version(
        row.prompt, row.digest, row.origin, row.author, row.rationale, row.at, row.component, row.files, row.base
    )


def labels_of(conn: Connection, tenant: TenantId, prompt: str) -> list[Label]:
    """By name."""
    rows = conn.execute(
        sa.select(labels).where(labels.c.tenant == tenant, labels.c.prompt == prompt).order_by(labels.c.label)
    )
    return [Label(row.label, row.digest, row.moved_by, row.moved_at) for row in rows]


def set_label(conn: Connection, tenant: TenantId, prompt: str, label: Label) -> str | None:
    """Point a label at a version; gives where it pointed before."""
    where = (labels.c.tenant == tenant, labels.c.prompt == prompt, labels.c.label == label.name)
    before: str | None = conn.scalar(sa.select(labels.c.digest).where(*where))
    values = {"digest": label.digest, "moved_by": label.moved_by, "moved_at": label.moved_at}
    if before is None:
        conn.execute(labels.insert().values(tenant=tenant, prompt=prompt, label=label.name, **values))
    else:
        conn.execute(labels.update().where(*where).values(**values))
    return before


def remove_label(conn: Connection, tenant: TenantId, prompt: str, name: str) -> bool:
    """False when there was none."""
    found = conn.execute(
        labels.delete().where(labels.c.tenant == tenant, labels.c.prompt == prompt, labels.c.label == name)
    )
    return bool(found.rowcount)
