"""Console accounts: argon2 passwords, opaque sessions, sign-in limits."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import cache

import sqlalchemy as sa
from anyio import CapacityLimiter

from interlock.access.settings import AccessSettings
from interlock.access.store import account_of, accounts, sessions
from interlock.access.types import Account, Session
from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.clock import now
from interlock.core.context import Role
from interlock.core.errors import Conflict, InvalidInput, LimitExceeded, NotFound, Unauthenticated
from interlock.core.ids import TenantId
from interlock.stores.kv.base import Kv
from interlock.stores.sql.base import Sql

__all__ = ["Accounts"]

_WINDOW_S = 15 * 60
_MIN_PASSWORD = 10
_NAMES_AN_ADDRESS = 5
"""How many names' worth of failures one address may use up: an office shares an address, a sprayer does not stop."""
_HASHES_AT_ONCE = 2
"""A password hash takes 64 MB and a core for a moment: a flood of sign-ins must queue, not fill the machine."""


class Accounts:
    """People who sign in to the console."""

    def __init__(self, sql: Sql, kv: Kv, settings: AccessSettings, audit: AuditLog) -> None:
        self._sql = sql
        self._kv = kv
        self._settings = settings
        self._audit = audit

    async def create(
        self,
        tenant: TenantId,
        username: str,
        password: str,
        *,
        roles: Sequence[Role],
        groups: Sequence[str] = (),
        by: str = "local",
    ) -> Account:
        """A new account. Raises: InvalidInput: a weak password or a bad name. Conflict: the name is taken."""
        if not username or len(username) > 64 or not username.replace("-", "").replace(".", "").isalnum():
            raise InvalidInput("a username has 1 to 64 letters, digits, dots and hyphens", param="username")
        _check_password(username, password)
        account = Account(tenant, username, frozenset(roles), frozenset(groups), False, now())
        hashed = await _hash(password)
        try:
            await self._sql.write(
                lambda conn: (
                    conn.execute(
                        accounts.insert().values(
                            tenant=tenant,
                            username=username,
                            password_hash=hashed,
                            roles=sorted(account.roles),
                            groups=sorted(account.groups),
                            disabled=False,
                            created_at=account.created_at,
                        )
                    ).rowcount
                )
            )
        except sa.exc.IntegrityError as error:
            raise Conflict(f"there is an account {username!r} already", param="username") from error
        granted = ",".join(sorted(account.roles))
        await self._audit.append(
            AuditEvent(tenant, by, "account.create", "account", "ok", {"roles": granted}, end_user=username)
        )
        return account

    async def set_password(self, tenant: TenantId, username: str, password: str, *, by: str = "local") -> None:
        """Change a password and end the account's sessions. Raises: NotFound, InvalidInput."""
        _check_password(username, password)
        hashed = await _hash(password)

        def change(conn: sa.Connection) -> int:
            mine = (accounts.c.tenant == tenant) & (accounts.c.username == username)
            changed = conn.execute(accounts.update().where(mine).values(password_hash=hashed)).rowcount
            conn.execute(sessions.delete().where(sessions.c.tenant == tenant, sessions.c.username == username))
            return changed

        if await self._sql.write(change) == 0:
            raise NotFound(f"no account {username!r}", param="username")
        await self._audit.append(AuditEvent(tenant, by, "account.password", "account", "ok", end_user=username))

    async def change(
        self,
        tenant: TenantId,
        username: str,
        *,
        roles: Sequence[Role] | None = None,
        groups: Sequence[str] | None = None,
        disabled: bool | None = None,
        by: str = "local",
    ) -> Account:
        """Give an account other roles or groups, disable it or enable it again; None leaves a thing as it is.

        Its sessions end at once: nobody goes on with rights that were taken. Raises: NotFound.
        """
        new: dict[str, object] = {}
        if roles is not None:
            new["roles"] = sorted(set(roles))
        if groups is not None:
            new["groups"] = sorted(set(groups))
        if disabled is not None:
            new["disabled"] = disabled
        mine = (accounts.c.tenant == tenant) & (accounts.c.username == username)

        def change(conn: sa.Connection) -> sa.Row[tuple[object, ...]] | None:
            if new:
                conn.execute(accounts.update().where(mine).values(**new))
                conn.execute(sessions.delete().where(sessions.c.tenant == tenant, sessions.c.username == username))
            return conn.execute(sa.select(accounts).where(mine)).one_or_none()

        row = await self._sql.write(change)
        if row is None:
            raise NotFound(f"no account {username!r}", param="username", hint="see them with: interlock accounts list")
        account = account_of(row)
        details: dict[str, str | int | bool] = {"roles": ",".join(sorted(account.roles)), "disabled": account.disabled}
        await self._audit.append(AuditEvent(tenant, by, "account.change", "account", "ok", details, end_user=username))
        return account

    async def list(self, tenant: TenantId) -> Sequence[Account]:
        """All accounts by name."""
        rows = await self._sql.read(
            lambda conn: conn.execute(
                sa.select(accounts).where(accounts.c.tenant == tenant).order_by(accounts.c.username)
            ).all()
        )
        return [account_of(row) for row in rows]

    async def sign_in(self, tenant: TenantId, username: str, password: str, address: str) -> tuple[str, Session]:
        """Check a password and open a session; gives its secret for the cookie.

        Raises: Unauthenticated, in the same words and time for an unknown name and a wrong password;
            LimitExceeded after too many failures from one address for one name.
        """
        counter = f"sign-in:{_digest(f'{username}|{address}')[:32]}"
        everyone = f"sign-in-from:{_digest(address)[:32]}"
        most = self._settings.sign_in_attempts
        for name, limit in ((counter, most), (everyone, _NAMES_AN_ADDRESS * most)):
            if await self._kv.increment(tenant, name, limit=limit, ttl_s=_WINDOW_S) is None:
                self._note(tenant, username, "rate_limit_exceeded")
                raise LimitExceeded(
                    "too many failed sign-ins", hint="wait 15 minutes and try again", retry_after_s=_WINDOW_S
                )
        row = await self._sql.read(
            lambda conn: conn.execute(
                sa.select(accounts).where(accounts.c.tenant == tenant, accounts.c.username == username)
            ).one_or_none()
        )
        matches = await _verify(row.password_hash if row is not None else _NOBODY, password)
        if row is None or not matches or row.disabled:
            self._note(tenant, username, "invalid_credentials")
            raise Unauthenticated("the name or the password is wrong", code="invalid_credentials")
        await self._kv.delete(tenant, counter)
        # Only what failed counts: many people of one office sign in from one address.
        await self._kv.increment(tenant, everyone, -1, ttl_s=_WINDOW_S)
        self._note(tenant, username, "ok")
        return await self._open(account_of(row))

    def _note(self, tenant: TenantId, username: str, outcome: str) -> None:
        self._audit.append_soon(
            AuditEvent(tenant, "console", "session.open", "account", outcome, end_user=username[:64])
        )

    async def _open(self, account: Account) -> tuple[str, Session]:
        secret = secrets.token_urlsafe(32)
        session = Session(account, secrets.token_urlsafe(24), now() + timedelta(hours=self._settings.session_hours))

        def insert(conn: sa.Connection) -> None:
            conn.execute(sessions.delete().where(sessions.c.expires_at < now()))
            conn.execute(
                sessions.insert().values(
                    id_sha256=_digest(secret),
                    tenant=account.tenant,
                    username=account.username,
                    csrf=session.csrf,
                    created_at=now(),
                    expires_at=session.expires_at,
                )
            )

        await self._sql.write(insert)
        return secret, session

    async def session(self, secret: str) -> Session | None:
        """The live session behind a cookie, None when it ended or its account was disabled."""
        query = (
            sa.select(accounts, sessions.c.csrf, sessions.c.expires_at)
            .join(
                accounts,
                (accounts.c.tenant == sessions.c.tenant) & (accounts.c.username == sessions.c.username),
            )
            .where(sessions.c.id_sha256 == _digest(secret), sessions.c.expires_at > now())
        )
        row = await self._sql.read(lambda conn: conn.execute(query).one_or_none())
        if row is None or row.disabled:
            return None
        return Session(account_of(row), row.csrf, row.expires_at)

    async def sign_out(self, secret: str) -> None:
        """End a session."""
        await self._sql.write(
            lambda conn: conn.execute(sessions.delete().where(sessions.c.id_sha256 == _digest(secret))).rowcount
        )


_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$0000000000000000000000000000000000000000000"
"""A hash nothing matches: an unknown name costs as much time as a known one."""


def _check_password(username: str, password: str) -> None:
    if len(password) < _MIN_PASSWORD or len(password) > 1024 or username.lower() in password.lower():
        raise InvalidInput(
            f"a password has {_MIN_PASSWORD} to 1,024 characters and does not hold the username", param="password"
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@cache
def _limiter_of(loop: int) -> CapacityLimiter:
    del loop  # a limiter belongs to the loop it was made on
    return CapacityLimiter(_HASHES_AT_ONCE)


def _limiter() -> CapacityLimiter:
    return _limiter_of(id(asyncio.get_running_loop()))


async def _hash(password: str) -> str:
    from anyio.to_thread import run_sync
    from argon2 import PasswordHasher

    return await run_sync(PasswordHasher().hash, password, limiter=_limiter())


async def _verify(hashed: str, password: str) -> bool:
    from anyio.to_thread import run_sync
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    def check() -> bool:
        try:
            return PasswordHasher().verify(hashed, password)
        except (Argon2Error, InvalidHashError):
            return False

    return await run_sync(check, limiter=_limiter())
