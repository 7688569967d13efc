"""The releases part's door: build, freeze, point, resolve."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.canonical import canonical_bytes, digest_bytes, digest_json
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Blocked, Conflict, InvalidInput, NotFound, Unavailable
from interlock.core.ids import AppName, ReleaseId, TenantId
from interlock.core.release import Release
from interlock.releases import experiment_store, rollout_store, store
from interlock.releases.comparing import ReleaseDiff, compare
from interlock.releases.consumers import Consumers, Unread, refused
from interlock.releases.experiments.planning import frozen
from interlock.releases.experiments.service import Experiments
from interlock.releases.experiments.types import Experiment, ExperimentSpec
from interlock.releases.flags.types import FlagSpec
from interlock.releases.promotion import Demand, Evidence, PromotionPolicy, Shown, Unmet, demands, merged
from interlock.releases.rollouts.service import Rollouts
from interlock.releases.rollouts.types import Rollout, RolloutSpec
from interlock.releases.types import (
    FROZEN_CHANNELS,
    LIVE_CHANNEL,
    AppSource,
    Channel,
    Components,
    Damage,
    Move,
    ReleaseInfo,
    Retired,
)
from interlock.stores.blob.base import Blobs
from interlock.stores.sql.base import Sql

__all__ = ["Releases", "manifest_of"]

_MAY_READ = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
"""Who sees what releases are made of."""


def manifest_of(components: Components) -> tuple[ReleaseId, dict[str, str]]:
    """The release id and the manifest ``{kind: digest}`` of components."""
    manifest = {kind: digest_json(value) for kind, value in components.items()}
    return ReleaseId(digest_json(manifest)), manifest


class Releases:
    """All apps of the workspace and their releases."""

    def __init__(
        self,
        sql: Sql,
        blobs: Blobs,
        audit: AuditLog,
        sources: Mapping[str, AppSource],
        *,
        policies: Callable[[], Mapping[str, PromotionPolicy]] = dict,
        flags: Callable[[], Mapping[str, FlagSpec]] = dict,
    ) -> None:
        self.flags = flags
        """Flags of the workspace, as its settings say now."""
        self.rollouts = Rollouts(sql, audit)
        self.consumers = Consumers(sql, audit)
        self.experiments = Experiments(sql, audit)
        self._policies = policies
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

    # Any: JSON values
    def variant(self, ctx: Context, app: str, changes: Mapping[str, Any]) -> Release:
        """What the files would describe with part of the app's file written otherwise; as of `AppSource.vary`.

        Raises: NotFound; InvalidInput naming the field. Forbidden.
        """
        ctx.require(Role.DEVELOPER, Role.OPERATOR)
        source = self.source(app, ctx)
        if not changes:
            return self.live(source.name)
        if source.vary is None:
            raise InvalidInput(f"the app {app!r} does not come from a file that could say otherwise", param="app")
        components = source.vary(changes)
        release_id, manifest = manifest_of(components)
        return Release(release_id, source.name, LIVE_CHANNEL, "live", components, manifest)

    # Any: JSON values
    async def freeze(
        self, ctx: Context, app: str, note: str = "", *, changes: Mapping[str, Any] | None = None
    ) -> ReleaseInfo:
        """Store what the files describe as an immutable release. Freezing the same files again gives the same id.

        Args:
            changes: to the app's file, as of `AppSource.vary`.

        Raises: Forbidden, NotFound; InvalidInput: the files; Blocked: a consumer could not read its answers.
        """
        ctx.require(Role.DEVELOPER, Role.OPERATOR)
        self.source(app, ctx)
        release = self.live(app) if not changes else self.variant(ctx, app, changes)
        await self._check_readers(ctx, release)
        for component in release.components.values():
            await self._blobs.put(ctx.tenant, canonical_bytes(component))
        await self._blobs.put(ctx.tenant, canonical_bytes(dict(release.digests)))
        info = ReleaseInfo(release.id, release.app, release.digests, now(), ctx.principal.id, note)
        await self._sql.write(lambda conn: store.insert_release(conn, ctx.tenant, info))
        await self._audit.append(
            AuditEvent(ctx.tenant, ctx.principal.id, "release.freeze", release.id, "ok", {"app": release.app})
        )
        return info

    async def point(self, ctx: Context, app: str, channel: str, release: str, *, reason: str = "") -> Channel:
        """Move a channel to a frozen release (whole id or a unique prefix of 8 or more digits).

        A channel may always go back to a release that it pointed at before: rolling back asks for nothing.

        Raises: InvalidInput: an unknown channel. NotFound: no such release of this app. Blocked: the release has not
            shown what the channel asks for, or a consumer could not read its answers. Conflict: the channel is under a
            rollout or an experiment, or the release is retired.
        """
        ctx.require(Role.OPERATOR)
        if channel not in FROZEN_CHANNELS:
            raise InvalidInput(
                f"channel {channel!r} cannot be pointed",
                param="channel",
                hint=f"one of {', '.join(FROZEN_CHANNELS)}; {LIVE_CHANNEL!r} follows the files",
            )
        info = await self.find(ctx, app, release)
        if not await self._sql.read(lambda conn: store.has_served(conn, ctx.tenant, info.app, channel, info.id)):
            await self._check(ctx, info, channel, by_rollout=False)
            await self._check_readers(ctx, await self._load(ctx.tenant, info.app, "", info.id))

        def move(conn: Connection) -> str | None:
            if (other := rollout_store.active_of(conn, ctx.tenant, info.app, channel)) is not None:
                raise Conflict(
                    f"{app}@{channel} is under the rollout {other.id!r}",
                    param="channel",
                    hint=f"interlock rollout abort {other.id} --reason TEXT",
                )
            _refuse_under_experiment(conn, ctx.tenant, info.app, channel)
            return store.move_channel(
                conn, ctx.tenant, info.app, channel, release=info.id, by=ctx.principal.id, reason=reason[:1000]
            )

        before = await self._sql.write(move)
        details = {"app": app, "channel": channel, "before": before or "", "reason": reason[:500]}
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, "channel.point", info.id, "ok", details))
        return next(c for c in await self.channels(ctx, app) if c.name == channel)

    def policy(self, app: str, channel: str) -> PromotionPolicy:
        """What a channel asks of a release: what the workspace says and what the app says, together."""
        nothing = PromotionPolicy()
        return merged(self._policies().get(channel, nothing), self.source(app).policies().get(channel, nothing))

    async def unmet(self, ctx: Context, app: str, channel: str, release: str) -> list[Unmet]:
        """What a release has still to show for a channel. Arguments and errors as of `demands`."""
        asked = await self.demands(ctx, app, channel, release)
        return [Unmet(each.demand, each.why, each.hint) for each in asked if each.state != "met"]

    async def demands(
        self, ctx: Context, app: str, channel: str, release: str, *, policy: PromotionPolicy | None = None
    ) -> list[Demand]:
        """All that a channel asks of a release, and what of it is met.

        Args:
            release: of a frozen one, or the whole id of what the files describe now.
            policy: instead of the channel's own.

        Raises: NotFound.
        """
        source = self.source(app, ctx)
        live = self.live(app) if release.startswith("sha256:") else None
        if live is not None and live.id == release:
            known = await self._sql.read(lambda conn: store.release_row(conn, ctx.tenant, source.name, release))
            built_by = known.created_by if known is not None else ctx.principal.id
            release_id, frozen = live.id, ""
        else:
            info = await self.find(ctx, app, release)
            built_by, release_id, frozen = info.created_by, info.id, info.id[7:15]
        shown = await self._sql.read(lambda conn: store.evidence_of(conn, ctx.tenant, source.name, release_id))
        pointed = await self._sql.read(lambda conn: store.pointer(conn, ctx.tenant, source.name, channel))
        return demands(
            policy or self.policy(app, channel),
            shown,
            built_by=built_by,
            at=now(),
            app=app,
            channel=channel,
            # What is served already was compared with what was served before it.
            pointed=None if pointed == release_id else pointed,
            frozen=frozen,
            release=release_id,
        )

    async def _check(self, ctx: Context, info: ReleaseInfo, channel: str, *, by_rollout: bool) -> None:
        """Raises: Blocked, naming what is missing; the refusal is audited."""
        missing = await self.unmet(ctx, info.app, channel, info.id)
        # A channel that points nowhere yet has nothing to roll out against.
        pointed = await self._sql.read(lambda conn: store.pointer(conn, ctx.tenant, info.app, channel))
        if not by_rollout and pointed is not None and self.policy(info.app, channel).rollout:
            hint = f"interlock rollout start --app {info.app} --channel {channel} {info.id}"
            missing = [*missing, Unmet("a rollout", "the channel moves to a new release only by one", hint)]
        if not missing:
            return
        told = "; ".join(f"{each.demand}: {each.why}" for each in missing)
        details = {"app": info.app, "channel": channel, "unmet": told[:1000]}
        await self._audit.append(
            AuditEvent(ctx.tenant, ctx.principal.id, "channel.point", info.id, "blocked_by_policy", details)
        )
        raise Blocked(f"the release may not go to {info.app}@{channel}: {told}", param="release", hint=missing[0].hint)

    async def unread(self, ctx: Context, app: str, release: str) -> Sequence[Unread]:
        """Consumers of an app that could not read every answer of a release, also those for whom that was accepted.

        Args:
            release: as `pick` takes it.

        Raises: as `pick`.
        """
        return await self._unread(ctx, await self.pick(ctx, app, release))

    async def _unread(self, ctx: Context, release: Release) -> Sequence[Unread]:
        found = await self.consumers.unread(ctx, release.app, release.components)
        if not found:
            return found
        known = await self._sql.read(lambda conn: store.evidence_of(conn, ctx.tenant, release.app, release.id))
        accepted = {(each.name, each.summary.get("schema")) for each in known if each.kind == "consumers"}
        return [
            replace(each, accepted=not each.certain and (each.consumer.name, each.consumer.digest) in accepted)
            for each in found
        ]

    async def _check_readers(self, ctx: Context, release: Release) -> None:
        """Raises: Blocked, naming consumer and field; the refusal is audited."""
        unread = [each for each in await self._unread(ctx, release) if not each.accepted]
        if not unread:
            return
        error = refused(release.app, unread)
        details = {"app": release.app, "unread": error.message[:1000]}
        await self._audit.append(
            AuditEvent(ctx.tenant, ctx.principal.id, "release.consumers", release.id, error.code, details)
        )
        raise error

    async def accept_unread(self, ctx: Context, app: str, release: str, *, reason: str) -> Sequence[Unread]:
        """Let a release out although it cannot be told whether its consumers can read it; gives whom that is about.

        Args:
            release: as `pick` takes it.

        Raises: Forbidden; NotFound; InvalidInput: no reason, or nothing is in the way. Blocked: a consumer certainly
            cannot read it, which no reason changes.
        """
        ctx.require(Role.OPERATOR, Role.RISK)
        if not reason.strip():
            raise InvalidInput("say why: the reason stays with the record", param="reason", hint="--reason TEXT")
        chosen = await self.pick(ctx, app, release)
        unread = [each for each in await self._unread(ctx, chosen) if not each.accepted]
        if not unread:
            raise InvalidInput("every consumer can read this release: there is nothing to accept", param="release")
        if any(each.certain for each in unread):
            raise refused(chosen.app, unread)
        at = now()
        for each in unread:
            told = {"consumer": each.consumer.name, "schema": each.consumer.digest, "why": each.told}
            report = canonical_bytes({**told, "release": chosen.id, "by": ctx.principal.id, "reason": reason})
            given = Evidence(
                digest_bytes(report), chosen.app, chosen.id, "consumers", each.consumer.name, "approved",
                ctx.principal.id, at, reason[:1000], {"schema": each.consumer.digest},
            )  # fmt: skip
            await self._blobs.put(ctx.tenant, report)
            await self._sql.write(partial(_insert_evidence, ctx.tenant, given))
            details = {"app": chosen.app, "consumer": each.consumer.name, "reason": reason[:500]}
            await self._audit.append(
                AuditEvent(ctx.tenant, ctx.principal.id, "consumer.accept", chosen.id, "ok", details)
            )
        return unread

    async def start_rollout(
        self, ctx: Context, app: str, channel: str, release: str, *, spec: RolloutSpec | None = None, reason: str = ""
    ) -> Rollout:
        """Begin to move a channel to a frozen release, step by step.

        Args:
            spec: how; as the app's file says where it is left out.

        Raises: as `point`; Conflict: the channel is under another rollout or an experiment.
        """
        ctx.require(Role.OPERATOR)
        if channel not in FROZEN_CHANNELS:
            raise InvalidInput(f"channel {channel!r} cannot be rolled out to", param="channel")
        info = await self.find(ctx, app, release)
        await self._check(ctx, info, channel, by_rollout=True)
        await self._check_readers(ctx, await self._load(ctx.tenant, info.app, "", info.id))
        how = spec or self.source(app, ctx).rollout()
        await self._sql.read(lambda conn: _refuse_under_experiment(conn, ctx.tenant, info.app, channel))
        return await self.rollouts.start(ctx, info.app, channel, candidate=info.id, spec=how, reason=reason)

    async def plan_experiment(
        self,
        ctx: Context,
        spec: ExperimentSpec,
        *,
        level: float | None = None,
        units_per_day: float | None = None,
        reason: str = "",
    ) -> Experiment:
        """Freeze the plan of an experiment: its arms by their whole ids, its numbers, the digest of all of it.

        Args:
            level, units_per_day: what is known of the app, for the forecast; the plan's own word goes before it.

        Raises: Forbidden; NotFound: no such app or release; InvalidInput: the channel points nowhere, two arms are one
            release, or no number of units finds so small an effect.
        """
        ctx.require(Role.DEVELOPER, Role.OPERATOR)
        source = self.source(spec.app, ctx)
        found: list[ReleaseId] = []
        for place, arm in enumerate(spec.arms):
            if arm.release:
                release = (await self.find(ctx, spec.app, arm.release)).id
            else:
                pointed = await self._sql.read(lambda conn: store.pointer(conn, ctx.tenant, source.name, spec.channel))
                if pointed is None:
                    raise InvalidInput(
                        f"{spec.app}@{spec.channel} points at no release: there is nothing to compare with",
                        param=f"arms.{place}.release",
                        hint=f"interlock release point RELEASE --app {spec.app} --channel {spec.channel}",
                    )
                release = pointed
            if release in found:
                other = spec.arms[found.index(release)].name
                raise InvalidInput(f"{arm.name} is the same release as {other}", param=f"arms.{place}.release")
            found.append(release)
        try:
            plan = frozen(spec, found, level=level, units_per_day=units_per_day)
        except ValueError as error:
            raise InvalidInput(str(error), param="primary.effect") from error
        return await self.experiments.plan(ctx, source.name, plan, reason=reason)

    async def start_experiment(self, ctx: Context, experiment: str, *, reason: str = "") -> Experiment:
        """Give units to the arms of a frozen plan.

        Raises: Forbidden, NotFound; Blocked: a variant has not shown what the channel asks for, or a consumer could
            not read its answers; Conflict: as of
            `Experiments.start`.
        """
        ctx.require(Role.OPERATOR)
        planned = await self.experiments.one(ctx, experiment)
        self.source(planned.app, ctx)
        for arm in planned.plan.arms[1:]:
            await self._check(ctx, await self.find(ctx, planned.app, arm.release), planned.channel, by_rollout=True)
            await self._check_readers(ctx, await self._load(ctx.tenant, planned.app, "", arm.release))
        return await self.experiments.start(ctx, planned.id, reason=reason)

    async def attach(self, ctx: Context, given: Evidence, report: bytes) -> None:
        """Add evidence of a release: the whole report as a blob, its digest and figures beside the release.

        Raises: Forbidden; InvalidInput: the digest is not the report's.
        """
        ctx.require(Role.DEVELOPER, Role.OPERATOR, Role.RISK)
        if digest_bytes(report) != given.digest:
            raise InvalidInput("the digest is not that of the report", param="digest")
        await self._blobs.put(ctx.tenant, report)
        await self._sql.write(lambda conn: store.insert_evidence(conn, ctx.tenant, given))
        told = {"app": given.app, "kind": given.kind, "name": given.name, "verdict": given.verdict}
        await self._audit.append(
            AuditEvent(
                ctx.tenant, ctx.principal.id, "release.evidence", given.release, "ok", {**told, "digest": given.digest}
            )
        )

    async def evidence(self, ctx: Context, app: str, release: str) -> Sequence[Evidence]:
        """All that is known of a release, oldest first.

        Args:
            release: its whole id, also of one that is not frozen.
        """
        name = self.source(app, ctx).name
        return await self._sql.read(lambda conn: store.evidence_of(conn, ctx.tenant, name, release))

    async def sign(
        self, ctx: Context, app: str, release: str, *, role: Role, approve: bool = True, note: str = ""
    ) -> Evidence:
        """Sign a release off, or reject it, in a role that the caller holds.

        Raises: Forbidden: the caller does not hold the role. NotFound. InvalidInput: a rejection without a note.
        """
        ctx.require(role)
        if not approve and not note.strip():
            raise InvalidInput("say why it is rejected", param="note", hint="--note TEXT")
        info = await self.find(ctx, app, release)
        verdict = "approved" if approve else "rejected"
        signed = {"release": info.id, "app": info.app, "role": role.value, "by": ctx.principal.id, "verdict": verdict}
        at = now()
        report = canonical_bytes({**signed, "note": note, "at": at.isoformat()})
        given = Evidence(
            digest_bytes(report), info.app, info.id, "sign_off", role.value, verdict, ctx.principal.id, at, note
        )
        await self._blobs.put(ctx.tenant, report)
        await self._sql.write(lambda conn: store.insert_evidence(conn, ctx.tenant, given))
        details = {"app": info.app, "role": role.value, "verdict": verdict, "digest": given.digest}
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, "release.sign", info.id, "ok", details))
        return given

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
        chosen = await self.rollouts.assign(ctx, source.name, wanted)
        if chosen is None:
            chosen = await self.experiments.assign(ctx, source.name, wanted)
        if chosen is not None:
            found = await self._load(ctx.tenant, source.name, wanted, chosen.release)
            return replace(found, assignment=chosen.assignment)
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

    async def moves(self, ctx: Context, app: str, *, channel: str | None = None, limit: int = 50) -> Sequence[Move]:
        """Where channels have pointed and why, newest first."""
        name = self.source(app, ctx).name
        return await self._sql.read(lambda conn: store.moves_of(conn, ctx.tenant, name, channel, limit))

    async def pick(self, ctx: Context, app: str, named: str) -> Release:
        """A whole release as people name it: an id, the name of a channel, or ``live`` for the files as they are now.

        Raises: Forbidden; NotFound: no such release, or the channel points nowhere; InvalidInput: the files.
        """
        ctx.require(*_MAY_READ)
        source = self.source(app, ctx)
        if named in {"live", LIVE_CHANNEL}:
            return self.live(app)
        if named not in FROZEN_CHANNELS:
            return await self.load(ctx, app, named)
        pointed = await self._sql.read(lambda conn: store.pointer(conn, ctx.tenant, source.name, named))
        if pointed is None:
            raise NotFound(
                f"{app}@{named} points at no release",
                param="release",
                hint=f"interlock release point RELEASE --app {app} --channel {named}",
            )
        return await self._load(ctx.tenant, source.name, named, pointed)

    async def diff(self, ctx: Context, app: str, before: str, after: str) -> ReleaseDiff:
        """What turns one release into another, each named as `pick` takes it. Raises: as `pick`."""
        return compare(await self.pick(ctx, app, before), await self.pick(ctx, app, after))

    async def verify(self, ctx: Context, app: str, release: str) -> Sequence[Damage]:
        """What of a frozen release and the reports about it is missing or was changed. Reads every blob of it.

        Raises: Forbidden, NotFound.
        """
        ctx.require(*_MAY_READ)
        info = await self.find(ctx, app, release)
        found: list[Damage] = []
        manifest = await _read(self._blobs, ctx, "manifest", info.id, found)
        if manifest is not None and json.loads(manifest) != dict(info.components):
            found.append(Damage("manifest", info.id, "not as recorded"))
        for kind, digest in sorted(info.components.items()):
            await _read(self._blobs, ctx, kind, digest, found)
        for each in await self.evidence(ctx, app, info.id):
            await _read(self._blobs, ctx, f"report {each.name}", each.digest, found)
        return found

    async def report(self, ctx: Context, app: str, release: str, digest: str) -> bytes:
        """The whole report that a piece of evidence was made from. Raises: Forbidden, NotFound."""
        ctx.require(*_MAY_READ)
        if digest not in {each.digest for each in await self.evidence(ctx, app, release)}:
            raise NotFound(f"no evidence {digest[:15]!r} of this release", param="digest")
        return await self._blobs.get(ctx.tenant, digest)

    async def retire(self, ctx: Context, app: str, release: str, *, reason: str) -> ReleaseInfo:
        """No channel may be pointed at it any more.

        Raises: Forbidden, NotFound; InvalidInput: no reason; Conflict: a channel, a rollout or an experiment serves it.
        """
        return await self._retire(ctx, app, release, reason, retire=True)

    async def reinstate(self, ctx: Context, app: str, release: str, *, reason: str) -> ReleaseInfo:
        """Take a retirement back. Raises: Forbidden, NotFound; InvalidInput: no reason."""
        return await self._retire(ctx, app, release, reason, retire=False)

    async def _retire(self, ctx: Context, app: str, release: str, reason: str, *, retire: bool) -> ReleaseInfo:
        ctx.require(Role.OPERATOR)
        if not reason.strip():
            raise InvalidInput("say why: the reason stays with the record", param="reason", hint="--reason TEXT")
        info = await self.find(ctx, app, release)
        retired = Retired(now(), ctx.principal.id, reason[:1000]) if retire else None

        def write(conn: Connection) -> None:
            serving = [each.name for each in store.channels_of(conn, ctx.tenant, info.app) if each.release == info.id]
            if retire and serving:
                raise Conflict(
                    f"{app}@{serving[0]} points at this release",
                    param="release",
                    hint=f"interlock release point OTHER --app {app} --channel {serving[0]}",
                )
            for each in rollout_store.rollouts_of(conn, ctx.tenant, app=info.app, active=True) if retire else ():
                if info.id in {each.control, each.candidate}:
                    raise Conflict(
                        f"the rollout {each.id!r} serves this release",
                        param="release",
                        hint=f"interlock rollout abort {each.id} --reason TEXT",
                    )
            running = experiment_store.experiments_of(conn, ctx.tenant, app=info.app, serving=True) if retire else ()
            for experiment in running:
                if info.id in {arm.release for arm in experiment.plan.arms}:
                    raise Conflict(
                        f"the experiment {experiment.id!r} serves this release",
                        param="release",
                        hint=f"interlock experiment stop {experiment.id} --reason TEXT",
                    )
            store.set_retired(conn, ctx.tenant, info.app, info.id, retired)

        await self._sql.write(write)
        action = "release.retire" if retire else "release.reinstate"
        details = {"app": info.app, "reason": reason[:500]}
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, action, info.id, "ok", details))
        return replace(info, retired=retired)

    async def adopt(
        self, ctx: Context, app: str, components: Components, *, note: str, signer: str, evidence: Sequence[Shown] = ()
    ) -> ReleaseInfo:
        """Store a release that was frozen elsewhere, with the reports about it.

        Args:
            signer: public key of who vouches for it; it is audited.
            evidence: with the whole reports. What was adopted before is not added again.

        Raises: Forbidden; NotFound: this workspace has no such app; InvalidInput: a digest is not its report's.
        """
        ctx.require(Role.OPERATOR)
        name = self.source(app, ctx).name
        if any(digest_bytes(shown.report) != shown.evidence.digest for shown in evidence):
            raise InvalidInput("a report is not the one that its digest names", param="evidence")
        release_id, manifest = manifest_of(components)
        for body in (*components.values(), manifest):
            await self._blobs.put(ctx.tenant, canonical_bytes(body))
        for shown in evidence:
            await self._blobs.put(ctx.tenant, shown.report)
        info = ReleaseInfo(release_id, name, manifest, now(), ctx.principal.id, note)

        def write(conn: Connection) -> int:
            store.insert_release(conn, ctx.tenant, info)
            known = {(each.digest, each.name) for each in store.evidence_of(conn, ctx.tenant, name, release_id)}
            fresh = [one.evidence for one in evidence if (one.evidence.digest, one.evidence.name) not in known]
            for given in fresh:
                store.insert_evidence(conn, ctx.tenant, replace(given, app=name, release=release_id))
            return len(fresh)

        added = await self._sql.write(write)
        details: dict[str, str | int | bool] = {"app": name, "signer": signer, "evidence": added}
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, "release.import", release_id, "ok", details))
        return await self.find(ctx, app, release_id)

    async def load(self, ctx: Context, app: str, release: str) -> Release:
        """A frozen release by whole id, short form or unique prefix. Raises: NotFound."""
        info = await self.find(ctx, app, release)
        return await self._load(ctx.tenant, info.app, "", info.id)

    async def exactly(self, ctx: Context, app: AppName, release: ReleaseId) -> Release:
        """A frozen release by its whole id, which a process reads once. Raises: NotFound."""
        return await self._load(ctx.tenant, app, "", release)

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


def _insert_evidence(tenant: TenantId, given: Evidence, conn: Connection) -> None:
    store.insert_evidence(conn, tenant, given)


def _refuse_under_experiment(conn: Connection, tenant: TenantId, app: AppName, channel: str) -> None:
    """Raises: Conflict: the channel's units are given to the arms of an experiment."""
    if (other := experiment_store.serving_of(conn, tenant, app, channel)) is not None:
        raise Conflict(
            f"{app}@{channel} is under the experiment {other.id!r}",
            param="channel",
            hint=f"interlock experiment conclude {other.id} --reason TEXT, or stop",
        )


def _has(source: AppSource, tenant: TenantId) -> bool:
    try:
        named = source.tenants()
    except InvalidInput:
        # Its file was never whole: nobody can call it, and everybody who looks is told so by its description.
        return True
    return named is None or tenant in named


async def _read(blobs: Blobs, ctx: Context, what: str, digest: str, found: list[Damage]) -> bytes | None:
    """The blob, or None with what is wrong with it added to `found`."""
    try:
        return await blobs.get(ctx.tenant, digest)
    except NotFound:
        found.append(Damage(what, digest, "missing"))
    except Unavailable as error:
        if error.code != "corrupt_object":
            raise
        found.append(Damage(what, digest, "changed"))
    return None
