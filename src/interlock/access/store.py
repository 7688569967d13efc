"""Tables: API keys, signing keys, accounts, sessions. Secrets are hashed or sealed, never plain."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.access.types import Account, ApiKey
from interlock.core.context import Role
from interlock.core.ids import KeyId, TenantId
from interlock.stores.sql.base import Json, UtcDateTime, metadata

__all__ = ["account_of", "accounts", "api_key_of", "api_keys", "sessions", "signing_keys"]

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False, index=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("prefix", sa.String(16), nullable=False, unique=True),
    sa.Column("secret_sha256", sa.String(64), nullable=False),
    sa.Column("roles", Json, nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("kid", sa.String(64), primary_key=True),
    sa.Column("algorithm", sa.String(16), nullable=False),
    sa.Column("material", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("revoked_at", UtcDateTime),
)

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("username", sa.String(64), primary_key=True),
    sa.Column("password_hash", sa.String(256), nullable=False),
    sa.Column("roles", Json, nullable=False),
    sa.Column("groups", Json, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id_sha256", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("username", sa.String(64), nullable=False),
    sa.Column("csrf", sa.String(64), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)


def api_key_of(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    """A key from its row; the secret's hash stays behind."""
    return ApiKey(
        KeyId(row.id),
        TenantId(row.tenant),
        row.name,
        row.prefix,
        frozenset(Role(role) for role in row.roles),
        row.created_at,
        row.created_by,
        row.expires_at,
        row.revoked_at,
        row.last_used_at,
    )


def account_of(row: sa.Row[tuple[object, ...]]) -> Account:
    """An account from its row; the password's hash stays behind."""
    return Account(
        TenantId(row.tenant),
        row.username,
        frozenset(Role(role) for role in row.roles),
        frozenset(row.groups),
        row.disabled,
        row.created_at,
    )


def touch_key(conn: Connection, key: KeyId, at: datetime) -> None:
    """Remember when a key was last used."""
    conn.execute(api_keys.update().where(api_keys.c.id == key).values(last_used_at=at))
