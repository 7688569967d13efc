"""The access part's door: credentials in, context out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from interlock.access.accounts import Accounts
from interlock.access.directory import user_of
from interlock.access.keys import Keys
from interlock.access.settings import AccessSettings
from interlock.access.tokens import Tokens
from interlock.access.types import ApiKey, DirectoryUser, NewKey, Session, Signer, SigningKey
from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.clock import now
from interlock.core.context import Context, EndUser, Principal, Role
from interlock.core.errors import Forbidden, InvalidInput, Unauthenticated
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.trace import SpanSink

__all__ = ["MAY_SEE_KEYS", "Access"]

MAY_SEE_KEYS = (Role.ADMIN, Role.OPERATOR, Role.RISK, Role.AUDITOR)


class Access:
    """Turns credentials into a :class:`~interlock.core.context.Context`."""

    def __init__(
        self,
        *,
        settings: AccessSettings,
        tenant: TenantId,
        keys: Keys,
        tokens: Tokens,
        accounts: Accounts,
        directory: Mapping[str, DirectoryUser],
        audit: AuditLog,
        sink: SpanSink,
    ) -> None:
        self._settings = settings
        self._tenant = tenant
        self._keys = keys
        self._audit = audit
        self._sink = sink
        self.generation = 0
        """Counts revocations in this process: who keeps a verified key looks whether it still stands."""
        self.tokens = tokens
        self.accounts = accounts
        self.directory = directory

    def local_owner(self) -> Context:
        """The person at this machine: every role, no end user. For the CLI and the loopback single-user mode."""
        principal = Principal(PrincipalId("local"), "local", frozenset({Role.ADMIN}))
        return Context(self._tenant, principal, sink=self._sink)

    def act_as(self, ctx: Context, user: str) -> Context:
        """The local owner or an admin looking through a directory user's eyes. Raises: NotFound, Forbidden."""
        ctx.require(Role.ADMIN)
        found = user_of(self.directory, user)
        return ctx.on_behalf_of(EndUser(found.id, found.groups))

    async def authenticate(
        self, *, bearer: str | None, behalf: str | None, loopback: bool, conversation: str | None = None
    ) -> Context:
        """Context of an API call.

        Args:
            bearer: the API key, None when the call has none.
            behalf: value of ``X-Interlock-On-Behalf-Of``.
            loopback: True when the call came from this machine.
            conversation: a conversation id of the calling service; a token's own wins.

        Raises: Unauthenticated.
        """
        if bearer:
            key = await self._keys.verify(bearer)
            principal = Principal(PrincipalId(key.id), "service", key.roles, key.id)
            ctx = Context(key.tenant, principal, conversation=conversation, sink=self._sink)
        elif self._settings.anonymous and loopback:
            ctx = replace(self.local_owner(), conversation=conversation)
        else:
            raise Unauthenticated(
                "this call has no API key",
                hint="send 'Authorization: Bearer il_…'; create a key with: interlock keys create NAME",
            )
        if behalf is not None:
            # An empty one is a client's mistake: the service itself must not be answered in its place.
            said = await self.tokens.verify(ctx.tenant, behalf)
            ctx = ctx.on_behalf_of(said.user, said.conversation)
        return ctx

    def of_session(self, session: Session) -> Context:
        """Context of a console session: the account is principal and end user at once."""
        account = session.account
        principal = Principal(PrincipalId(f"account:{account.username}"), "user", account.roles)
        known = self.directory.get(account.username)
        groups = account.groups | (known.groups if known else frozenset())
        ctx = Context(account.tenant, principal, sink=self._sink)
        return ctx.on_behalf_of(EndUser(account.username, groups))

    async def create_key(self, ctx: Context, *, name: str, roles: Sequence[Role], days: float | None) -> NewKey:
        """A new API key of the tenant. Raises: InvalidInput, Forbidden (no role above one's own can be given)."""
        ctx.require(Role.ADMIN, Role.OPERATOR)
        if not name or len(name) > 128:
            raise InvalidInput("a key's name has 1 to 128 characters", param="name")
        if days is not None and not 0 < days <= 3650:
            raise InvalidInput("a key lives more than 0 and at most 3,650 days", param="days")
        missing = [role for role in roles if not ctx.principal.has(role)]
        if missing:
            raise Forbidden(f"you cannot give the role {missing[0]!r}, which you do not hold")
        expires: datetime | None = None if days is None else now() + timedelta(days=days)
        new = await self._keys.create(ctx.tenant, name=name, roles=roles, by=ctx.principal.id, expires_at=expires)
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, "key.create", new.key.id, "ok"))
        return new

    async def still_valid(self, ctx: Context) -> bool:
        """False when the key that began some work has been revoked or has expired since."""
        if ctx.principal.kind != "service":
            return True
        keys = await self._keys.list(ctx.tenant)
        return any(key.id == ctx.principal.key_id and key.state(now()) == "active" for key in keys)

    async def keys(self, ctx: Context) -> Sequence[ApiKey]:
        """All keys of the tenant, newest first."""
        ctx.require(*MAY_SEE_KEYS)
        return await self._keys.list(ctx.tenant)

    async def revoke_key(self, ctx: Context, key: str) -> ApiKey:
        """Revoke by id or prefix, at once. Raises: NotFound."""
        ctx.require(Role.ADMIN, Role.OPERATOR, Role.RISK)
        revoked = await self._keys.revoke(ctx.tenant, key)
        self.generation += 1
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, "key.revoke", revoked.id, "ok"))
        return revoked

    async def signing_secret(self, ctx: Context) -> str:
        """The tenant's HMAC secret for on-behalf-of tokens, made on first use."""
        ctx.require(Role.ADMIN)
        secret = await self.tokens.secret(ctx.tenant)
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, "signing_secret.read", "default", "ok"))
        return secret

    async def register_signer(self, ctx: Context, kid: str, algorithm: str, public_pem: str) -> SigningKey:
        """Accept tokens signed by the private half of a public key. Raises: InvalidInput, Conflict."""
        ctx.require(Role.ADMIN)
        key = await self.tokens.register(ctx.tenant, kid, algorithm, public_pem)
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, "signer.register", kid, "ok"))
        return key

    async def signers(self, ctx: Context) -> Sequence[Signer]:
        """Keys that sign or signed on-behalf-of tokens of the tenant, oldest first."""
        ctx.require(Role.ADMIN, Role.RISK, Role.AUDITOR)
        return await self.tokens.signers(ctx.tenant)

    async def revoke_signer(self, ctx: Context, kid: str) -> None:
        """Accept no token of this signing key any more, at once. Raises: NotFound."""
        ctx.require(Role.ADMIN, Role.RISK)
        await self.tokens.revoke(ctx.tenant, kid)
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, "signer.revoke", kid, "ok"))
