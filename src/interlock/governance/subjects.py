"""Keys of persons: what was sealed under one is unreadable once the key is gone."""

from __future__ import annotations

import base64
import os

import sqlalchemy as sa

from interlock.core.ids import TenantId
from interlock.core.sealing import Sealer
from interlock.governance.store import subject_keys
from interlock.stores.sql.base import Sql

__all__ = ["ERASED", "Subjects"]

ERASED = "erased"


class Subjects:
    """Seals and opens personal values."""

    def __init__(self, sql: Sql, sealer: Sealer) -> None:
        self._sql = sql
        self._sealer = sealer
        self._known: dict[tuple[TenantId, str], bytes] = {}

    async def seal(self, tenant: TenantId, person: str) -> str:
        """``subject:sealed`` of a person's id, under that person's own key."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = await self._key(tenant, person)
        nonce = os.urandom(12)
        sealed = base64.b64encode(nonce + AESGCM(key).encrypt(nonce, person.encode(), None)).decode()
        return f"{self._subject(tenant, person)}:{sealed}"

    async def _key(self, tenant: TenantId, person: str) -> bytes:
        known = self._known.get((tenant, person))
        if known is not None:
            return known
        subject = self._subject(tenant, person)
        fresh = self._sealer.seal(base64.b64encode(os.urandom(32)).decode(), f"subject:{tenant}:{subject}")

        def find_or_make(conn: sa.Connection) -> str:
            query = sa.select(subject_keys.c.sealed).where(
                subject_keys.c.tenant == tenant, subject_keys.c.subject == subject
            )
            found = conn.execute(query).scalar_one_or_none()
            if found is not None:
                return str(found)
            conn.execute(subject_keys.insert().values(tenant=tenant, subject=subject, sealed=fresh))
            return fresh

        sealed = await self._sql.write(find_or_make)
        key = base64.b64decode(self._sealer.open(sealed, f"subject:{tenant}:{subject}"))
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[tenant, person] = key
        return key

    async def open_all(self, tenant: TenantId, values: set[str]) -> dict[str, str]:
        """Sealed value to person; a forgotten person reads ``erased``."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        subjects = {value.partition(":")[0] for value in values}
        rows = await self._sql.read(
            lambda conn: conn.execute(
                sa.select(subject_keys).where(
                    subject_keys.c.tenant == tenant, subject_keys.c.subject.in_(sorted(subjects))
                )
            ).all()
        )
        keys = {
            row.subject: base64.b64decode(self._sealer.open(row.sealed, f"subject:{tenant}:{row.subject}"))
            for row in rows
        }
        opened = {}
        for value in values:
            subject, _, sealed = value.partition(":")
            raw = base64.b64decode(sealed)
            key = keys.get(subject)
            try:
                opened[value] = AESGCM(key).decrypt(raw[:12], raw[12:], None).decode() if key else ERASED
            except InvalidTag:
                # Sealed under the key that was erased; the person was met again since and has a new one.
                opened[value] = ERASED
        return opened

    async def erase(self, tenant: TenantId, person: str) -> bool:
        """Forget a person; True when a key was there."""
        self._known.pop((tenant, person), None)
        subject = self._subject(tenant, person)
        gone = await self._sql.write(
            lambda conn: (
                conn.execute(
                    subject_keys.delete().where(subject_keys.c.tenant == tenant, subject_keys.c.subject == subject)
                ).rowcount
            )
        )
        return gone > 0

    def _subject(self, tenant: TenantId, person: str) -> str:
        # Keyed: whoever has only the database must not be able to test a guess against it.
        return self._sealer.pseudonym(f"{tenant}\0{person}", "subject")
