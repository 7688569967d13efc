"""API keys: ``il_<8 letters>_<secret>``. The secret has 256 random bits, so one SHA-256 is all its hash needs."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from interlock.access.store import api_key_of, api_keys, touch_key
from interlock.access.types import ApiKey, NewKey
from interlock.core.clock import now
from interlock.core.context import Role
from interlock.core.errors import NotFound, Unauthenticated
from interlock.core.ids import KeyId, TenantId, new_id
from interlock.stores.sql.base import Sql

__all__ = ["Keys"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_TOUCH_EVERY = timedelta(minutes=1)


class Keys:
    """Creates, finds and revokes keys."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def create(
        self, tenant: TenantId, *, name: str, roles: Sequence[Role], by: str, expires_at: datetime | None
    ) -> NewKey:
        """A new key; its secret is given once and never again."""
        prefix = "il_" + "".join(secrets.choice(_LETTERS) for _ in range(8))
        secret = f"{prefix}_{secrets.token_urlsafe(32)}"
        key = ApiKey(KeyId(new_id("key")), tenant, name, prefix, frozenset(roles), now(), by, expires_at, None, None)
        await self._sql.write(
            lambda conn: (
                conn.execute(
                    api_keys.insert().values(
                        id=key.id,
                        tenant=tenant,
                        name=name,
                        prefix=prefix,
                        secret_sha256=_hash(secret),
                        roles=sorted(key.roles),
                        created_by=by,
                        created_at=key.created_at,
                        expires_at=expires_at,
                    )
                ).rowcount
            )
        )
        return NewKey(key, secret)

    async def verify(self, secret: str) -> ApiKey:
        """The key behind a secret. Raises: Unauthenticated, in the same words for every unknown one."""
        prefix = secret[:11]
        row = await self._sql.read(
            lambda conn: conn.execute(sa.select(api_keys).where(api_keys.c.prefix == prefix)).one_or_none()
        )
        # Compared in any case, so that a known prefix answers as slowly as an unknown one.
        matches = hmac.compare_digest(_hash(secret), row.secret_sha256 if row is not None else _hash(""))
        if row is None or not matches:
            raise Unauthenticated("the API key is not valid", hint="create one with: interlock keys create NAME")
        key = api_key_of(row)
        state = key.state(now())
        if state != "active":
            raise Unauthenticated(
                f"the API key {key.prefix}… is {state}", hint="create one with: interlock keys create NAME"
            )
        if key.last_used_at is None or now() - key.last_used_at > _TOUCH_EVERY:
            await self._sql.write(lambda conn: touch_key(conn, key.id, now()))
        return key

    async def list(self, tenant: TenantId) -> Sequence[ApiKey]:
        """All keys of the tenant, newest first, revoked ones too."""
        rows = await self._sql.read(
            lambda conn: conn.execute(
                sa.select(api_keys).where(api_keys.c.tenant == tenant).order_by(api_keys.c.created_at.desc())
            ).all()
        )
        return [api_key_of(row) for row in rows]

    async def revoke(self, tenant: TenantId, key: str) -> ApiKey:
        """Revoke by id or prefix, at once; revoking again changes nothing. Raises: NotFound."""
        found = [k for k in await self.list(tenant) if key in {k.id, k.prefix}]
        if len(found) != 1:
            raise NotFound(f"no API key {key[:32]!r}", param="key", hint="interlock keys list")
        if found[0].revoked_at is None:
            await self._sql.write(
                lambda conn: (
                    conn.execute(
                        api_keys.update()
                        .where(api_keys.c.tenant == tenant, api_keys.c.id == found[0].id)
                        .values(revoked_at=now())
                    ).rowcount
                )
            )
        return next(k for k in await self.list(tenant) if k.id == found[0].id)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
