"""Certificates: signed statements of what was done, kept for whoever asks later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from interlock.core.canonical import canonical_bytes
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import NotFound
from interlock.core.ids import new_id
from interlock.governance.signing import HeadSigner
from interlock.governance.store import governance_certificates
from interlock.stores.sql.base import Sql

__all__ = ["Certificate", "Certificates"]

_T = governance_certificates
_READ = (Role.OPERATOR, Role.RISK, Role.AUDITOR)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One signed statement."""

    id: str
    kind: str
    at: datetime
    content: Mapping[str, object]
    signature: str
    """Base64 Ed25519 over ``interlock-certificate\\n`` and the canonical JSON of `content`."""
    public_key: str
    """Base64 of the raw key that made it."""
    is_valid: bool
    """Whether the signature holds for the content as it is stored now."""


class Certificates:
    """Certificates of all tenants; every method answers for the caller's.

    Args:
        signer: holds the installation's key.
    """

    def __init__(self, sql: Sql, signer: HeadSigner) -> None:
        self._sql = sql
        self._signer = signer

    async def issue(self, ctx: Context, kind: str, content: Mapping[str, object]) -> Certificate:
        """Sign and keep a statement. It gets an id, its tenant, its kind and the time."""
        identity, at = new_id("crt"), now()
        whole = {**content, "id": identity, "kind": kind, "tenant": ctx.tenant, "at": at.isoformat()}
        data = canonical_bytes(whole)
        signature = self._signer.sign_statement(data)
        row = {
            "tenant": ctx.tenant,
            "id": identity,
            "kind": kind,
            "at": at,
            "content": data,
            "signature": signature,
        }

        def write(connection: sa.Connection) -> None:
            connection.execute(sa.insert(_T).values(**row))

        await self._sql.write(write)
        return Certificate(identity, kind, at, whole, signature, self._signer.public_key, is_valid=True)

    async def list(self, ctx: Context, *, limit: int = 100) -> list[Certificate]:
        """Newest first. Needs the role operator, risk or auditor."""
        ctx.require(*_READ)
        query = sa.select(_T).where(_T.c.tenant == ctx.tenant).order_by(_T.c.at.desc(), _T.c.id).limit(limit)
        rows = await self._sql.read(lambda connection: connection.execute(query).all())
        return [self._read(row) for row in rows]

    async def get(self, ctx: Context, identity: str) -> Certificate:
        """One of them. Needs the role operator, risk or auditor. Raises: NotFound."""
        ctx.require(*_READ)
        query = sa.select(_T).where(_T.c.tenant == ctx.tenant, _T.c.id == identity)
        row = await self._sql.read(lambda connection: connection.execute(query).first())
        if row is None:
            raise NotFound(f"no certificate {identity[:64]!r}", param="id")
        return self._read(row)

    def _read(self, row: sa.Row[tuple[object, ...]]) -> Certificate:
        given = row._mapping
        content = given["content"]
        holds = self._signer.verify_statement(content, given["signature"])
        return Certificate(
            given["id"],
            given["kind"],
            given["at"],
            json.loads(content),
            given["signature"],
            self._signer.public_key,
            is_valid=holds,
        )
