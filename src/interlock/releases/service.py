"""The releases part's door: build, freeze, point, resolve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.canonical import canonical_bytes, digest_json
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import AppName, ReleaseId, TenantId
from interlock.core.release import Release
from interlock.releases import store
from interlock.releases.types import FROZEN_CHANNELS, LIVE_CHANNEL, AppSource, Channel, Components, ReleaseInfo
from interlock.stores.blob.base import Blobs
from interlock.stores.sql.base import Sql

__all__ = ["Releases", "manifest_of"]


def manifest_of(components: Components) -> tuple[ReleaseId, dict[str, str]]:
    """The release id and the manifest ``{kind: digest}`` of components."""
    manifest = {kind: digest_json(value) for kind, value in components.items()}
    return ReleaseId(digest_json(manifest)), manifest


class Releases:
    """All apps of the workspace and their releases."""

    def __init__(self, sql: Sql, blobs: Blobs, audit: AuditLog, sources: Mapping[str, AppSource]) -> None:
        self._sql = sql
        self._blobs = blobs
        self._audit = audit
        self._sources = sources
        # A frozen release never changes, so it is read once a process.
        self._frozen: dict[tuple[TenantId, AppName, ReleaseId], Release] = {}

    def apps(self, ctx: Context | None = None) -> Sequence[AppSource]:
        """Apps that the caller's tenant has, by name; every app of the workspace without a caller."""
        found = [self._sources[name] for name in sorted(self._sources)]
        return found if ctx is None else [source for source in found if _has(source, ctx.tenant)]

    def source(self, app: str, ctx: Context | None = None) -> AppSource:
        """One app. Raises: NotFound, also when the caller's tenant does not have it: it must not learn that it is."""
        if app not in self._sources or (ctx is not None and not _has(self._sources[app], ctx.tenant)):
            known = ", ".join(source.name for source in self.apps(ctx)) or "none in this workspace"
            raise NotFound(f"no app named {app!r}", param="model", code="model_not_found", hint=f"apps: {known}")
        return self._sources[app]

    def live(self, app: str) -> Release:
        """The release that the workspace's files describe right now. Reads files. Raises: NotFound, InvalidInput."""
        source = self.source(app)
        components = source.load()
        release_id, manifest = manifest_of(components)
        return Release(release_id, source.name, LIVE_CHANNEL, "live", components, manifest)

    async def freeze(self, ctx: Context, app: str, note: str = "") -> ReleaseInfo:
        """Store what the files describe as an immutable release. Freezing the same files again gives the same id."""
        ctx.require(Role.DEVELOPER, Role.OPERATOR)
        self.source(app, ctx)
        release = self.live(app)
        for component in release.components.values():
            await self._blobs.put(ctx.tenant, canonical_bytes(component))
        await self._blobs.put(ctx.tenant, canonical_bytes(dict(release.digests)))
        info = ReleaseInfo(release.id, release.app, release.digests, now(), ctx.principal.id, note)
        await self._sql.write(lambda conn: store.insert_release(conn, ctx.tenant, info))
        await self._audit.append(
            AuditEvent(ctx.tenant, ctx.principal.id, "release.freeze", release.id, "ok", {"app": release.app})
        )
        return info

    async def point(self, ctx: Context, app: str, channel: str, release: str) -> Channel:
        """Move a channel to a frozen release (whole id or a unique prefix of 8 or more digits).

        Raises: InvalidInput: an unknown channel. NotFound: no such release of this app.
        """
        ctx.require(Role.OPERATOR)
        if channel not in FROZEN_CHANNELS:
            raise InvalidInput(
                f"channel {channel!r} cannot be pointed",
                param="channel",
                hint=f"one of {', '.join(FROZEN_CHANNELS)}; {LIVE_CHANNEL!r} follows the files",
            )
        info = await self.find(ctx, app, release)
        await self._sql.write(
            lambda conn: store.move_channel(conn, ctx.tenant, info.app, channel, release=info.id, by=ctx.principal.id)
        )
        await self._audit.append(
            AuditEvent(ctx.tenant, ctx.principal.id, "channel.point", info.id, "ok", {"app": app, "channel": channel})
        )
        return next(c for c in await self.channels(ctx, app) if c.name == channel)

    async def find(self, ctx: Context, app: str, release: str) -> ReleaseInfo:
        """A frozen release by id, ``rel_`` short form or unique prefix. Raises: NotFound."""
        wanted = release.removeprefix("sha256:").removeprefix("rel_")
        matches = [
            info for info in await self.list(ctx, app, limit=1000) if info.id.removeprefix("sha256:").startswith(wanted)
        ]
        if len(wanted) < 8 or len(matches) != 1:
            raise NotFound(
                f"no single release of app {app!r} starts with {release!r}",
                param="release",
                hint=f"interlock release list --app {app}",
            )
        return matches[0]

    async def list(self, ctx: Context, app: str, *, limit: int = 50) -> Sequence[ReleaseInfo]:
        """Frozen releases of an app, newest first."""
        name = self.source(app, ctx).name
        return await self._sql.read(lambda conn: store.releases_of(conn, ctx.tenant, name, limit))

    async def channels(self, ctx: Context, app: str) -> Sequence[Channel]:
        """Pointed channels of an app."""
        name = self.source(app, ctx).name
        return await self._sql.read(lambda conn: store.channels_of(conn, ctx.tenant, name))

    async def resolve(self, ctx: Context, target: str) -> Release:
        """The release that serves this caller: ``app/NAME`` or ``app/NAME@CHANNEL``.

        Without a channel: `prod` once it points somewhere, else the app's default channel.
        Raises: NotFound: no such app, or the channel points nowhere.
        """
        name, _, channel = target.removeprefix("app/").partition("@")
        source = self.source(name, ctx)
        if channel == LIVE_CHANNEL:
            return self.live(name)
        wanted = channel or "prod"
        release_id = await self._sql.read(lambda conn: store.pointer(conn, ctx.tenant, source.name, wanted))
        if release_id is not None:
            return await self._load(ctx.tenant, source.name, wanted, release_id)
        if not channel and source.default_channel == LIVE_CHANNEL:
            return self.live(name)
        raise NotFound(
            f"channel {wanted!r} of app {name!r} points at no release",
            param="model",
            code="model_not_found",
            hint=f"interlock release build --app {name} --channel {wanted}",
        )

    async def load(self, ctx: Context, app: str, release: str) -> Release:
        """A frozen release by whole id, short form or unique prefix. Raises: NotFound."""
        info = await self.find(ctx, app, release)
        return await self._load(ctx.tenant, info.app, "", info.id)

    async def _load(self, tenant: TenantId, app: AppName, channel: str, release_id: ReleaseId) -> Release:
        key = (tenant, app, release_id)
        if key not in self._frozen:
            manifest: dict[str, str] = json.loads(await self._blobs.get(tenant, release_id))
            components = {kind: json.loads(await self._blobs.get(tenant, digest)) for kind, digest in manifest.items()}
            self._frozen[key] = Release(release_id, app, channel, "frozen", components, manifest)
        found = self._frozen[key]
        return (
            found
            if found.channel == channel
            else Release(found.id, app, channel, "frozen", found.components, found.digests)
        )


def _has(source: AppSource, tenant: TenantId) -> bool:
    try:
        named = source.tenants()
    except InvalidInput:
        # Its file was never whole: nobody can call it, and everybody who looks is told so by its description.
        return True
    return named is None or tenant in named
