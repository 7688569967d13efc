"""Teams that read an app's answers say by which schema they do; a release that they could not read is not let out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Blocked, Conflict, InvalidInput, NotFound
from interlock.core.ids import AppName
from interlock.releases import consumer_store as store
from interlock.releases.consumer_store import Consumer
from interlock.releases.schema_range import Misfit, misfits
from interlock.releases.types import Components
from interlock.stores.sql.base import Sql

__all__ = ["Consumers", "Unread", "refused"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_MAY_WRITE = (Role.DEVELOPER, Role.OPERATOR)
_MOST = 200
_MOST_BYTES = 256 << 10
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Unread:
    """What of a release's answers one consumer cannot read, or may not be able to."""

    consumer: Consumer
    misfits: tuple[Misfit, ...]
    accepted: bool = False
    """Somebody has let it out all the same, with a reason."""

    @property
    def certain(self) -> bool:
        """Whether it is known."""
        return any(each.certain for each in self.misfits)

    @property
    def told(self) -> str:
        """In a sentence; the first few fields."""
        fields = [f"{each.field} {each.why}" for each in sorted(self.misfits, key=lambda each: not each.certain)]
        more = f" and {len(fields) - _TOLD} more" if len(fields) > _TOLD else ""
        return f"{self.consumer.name}: {'; '.join(fields[:_TOLD])}{more}"


def refused(app: str, unread: Sequence[Unread]) -> Blocked:
    """Why a release may not go out."""
    certain = [each for each in unread if each.certain]
    told = ". ".join(each.told for each in certain or unread)
    if certain:
        return Blocked(
            f"who reads answers of {app} could not read this release. {told}",
            param="output.schema",
            code="consumer_incompatible",
            hint=f"keep what they read, or agree with them: interlock release consumers list {app}",
        )
    return Blocked(
        f"it cannot be told whether who reads answers of {app} could read this release. {told}",
        param="output.schema",
        code="consumer_undecided",
        hint=f"say it in keywords that are compared, or: interlock release consumers accept {app} live --reason TEXT",
    )


class Consumers:
    """The consumers of all apps. Which apps a tenant has is asked by who calls this."""

    def __init__(self, sql: Sql, audit: AuditLog) -> None:
        self._sql = sql
        self._audit = audit

    async def list(self, ctx: Context, app: AppName) -> Sequence[Consumer]:
        """Those of an app, by name."""
        return await self._sql.read(lambda conn: store.consumers_of(conn, ctx.tenant, app))

    # Any: a JSON Schema.
    async def set(self, ctx: Context, app: AppName, name: str, schema: Mapping[str, Any], contact: str) -> Consumer:
        """Record a consumer, or what it reads from now on.

        Raises: Forbidden; InvalidInput: its name, or the schema; Conflict: the app has too many.
        """
        ctx.require(*_MAY_WRITE)
        if not _NAME.match(name):
            raise InvalidInput("a consumer is named with small letters, digits, . _ and -, 64 at most", param="name")
        if not schema or len(json.dumps(schema)) > _MOST_BYTES:
            raise InvalidInput(
                f"a schema is an object of at most {_MOST_BYTES >> 10} KiB, and says something", param="schema"
            )
        if len(known := await self.list(ctx, app)) >= _MOST and name not in {each.name for each in known}:
            raise Conflict(f"{app} has {_MOST} consumers already", param="name")
        made = Consumer(name, schema, contact[:200], ctx.principal.id, now())
        new = await self._sql.write(lambda conn: store.set_consumer(conn, ctx.tenant, app, made))
        await self._told(ctx, "consumer.add" if new else "consumer.change", app, {"consumer": name})
        return made

    async def remove(self, ctx: Context, app: AppName, name: str) -> None:
        """Take one away: releases are held to it no longer. Raises: Forbidden, NotFound."""
        ctx.require(*_MAY_WRITE)
        if not await self._sql.write(lambda conn: store.remove_consumer(conn, ctx.tenant, app, name)):
            raise NotFound(
                f"{app} has no consumer {name[:64]!r}", param="name", hint=f"interlock release consumers list {app}"
            )
        await self._told(ctx, "consumer.remove", app, {"consumer": name})

    async def unread(self, ctx: Context, app: AppName, components: Components) -> Sequence[Unread]:
        """Consumers that cannot read every answer of a release, and what of it; nothing where all can."""
        output = components.get("output")
        schema: Any = {} if output is None else output.get("schema")  # Any: a JSON Schema
        found = []
        for consumer in await self.list(ctx, app):
            if output is None:
                wrong: Sequence[Misfit] = [Misfit("the answer", "is free text: the release has no `output`", True)]
            else:
                wrong = misfits(schema, consumer.schema)
            if wrong:
                found.append(Unread(consumer, tuple(wrong)))
        return found

    async def _told(self, ctx: Context, action: str, app: AppName, details: Mapping[str, str]) -> None:
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, action, app, "ok", dict(details)))
