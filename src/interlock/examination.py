"""What a workspace needs, looked at: each finding has a cause and the exact command that mends it. Never a secret.

Used by `interlock doctor` and by the console's page of the same name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

from anyio import to_thread

from interlock.app import App
from interlock.config import strange_variables
from interlock.core.errors import InterlockError
from interlock.core.ids import TenantId, ulid
from interlock.core.patterns import slow_on
from interlock.flows.operations import provider_register
from interlock.gateway.checking import patterns_of
from interlock.gateway.types import RouteSpec, Target
from interlock.guardrails.types import GuardrailSpec
from interlock.knowledge.release import RetrievalSpec
from interlock.knowledge.retrieval.settings import RetrievalSteps
from interlock.stores.blob.base import Blobs
from interlock.stores.compute.base import available_cores

__all__ = ["Finding", "examine"]


class Finding(NamedTuple):
    """One thing looked at."""

    state: Literal["ok", "warn", "fail"]
    what: str
    cause: str = ""
    fix: str = ""
    """A command or a setting."""


_SELF = {"sql": "database", "kv": "shared state"}
_HELD_BY = {"sql": ("collections", "audit"), "kv": ()}


async def examine(app: App, *, without: Collection[Literal["sql", "kv"]] = ()) -> AsyncIterator[Finding]:
    """Look at a running App.

    Args:
        without: stores that it was opened without; what they hold is not looked at.
    """
    for strange in strange_variables(app.workspace, os.environ):
        fix = f"unset {strange.name}" + (f", and set {strange.nearest}" if strange.nearest else "")
        yield Finding("warn", "environment", strange.message, fix)
    checks: list[tuple[str, Callable[[App], AsyncIterator[Finding]]]] = [
        ("database", _alone(_database)),
        ("shared state", _alone(_shared)),
        ("objects", _alone(_objects)),
        ("disk", _at_once(_disk)),
        ("key files", _at_once(_key_files)),
        ("models", _models),
        ("providers", _providers),
        ("routes", _routing),
        ("apps", _apps),
        ("collections", _collections),
        ("compute", _alone(_compute)),
        ("audit", _alone(_audit)),
    ]
    left_out = {what for store in without for what in _HELD_BY[store]}
    if left_out:
        fix = "mend that first, then: interlock doctor"
        yield Finding("warn", ", ".join(sorted(left_out)), "not looked at while a store is away", fix)
    left_out |= {_SELF[store] for store in without}
    for what, check in checks:
        if what in left_out:
            continue
        try:
            async for finding in check(app):
                yield finding
        except InterlockError as error:
            # What one check needs may be away; the others still say what they know.
            yield Finding("fail", what, error.message, error.hint or "")


def _alone(check: Callable[[App], Awaitable[Finding]]) -> Callable[[App], AsyncIterator[Finding]]:
    async def findings(app: App) -> AsyncIterator[Finding]:
        yield await check(app)

    return findings


def _at_once(check: Callable[[App], Finding]) -> Callable[[App], AsyncIterator[Finding]]:
    async def findings(app: App) -> AsyncIterator[Finding]:
        yield check(app)

    return findings


async def _database(app: App) -> Finding:
    try:
        await app.sql.ping()
    except InterlockError as error:
        return Finding("fail", "database", error.message, error.hint or "check stores.sql in interlock.yaml")
    return Finding("ok", f"database ({app.sql.dialect}), schema {await app.sql.revision()}")


async def _shared(app: App) -> Finding:
    """The store of limits' leases, kept answers and sessions."""
    kind = app.workspace.settings.stores.kv
    if kind == "memory":
        return Finding("ok", "shared state: in memory, for one process")
    if kind == "sql":
        return Finding("ok", "shared state: in the database")
    from interlock.stores.kv.redis import RedisKv

    assert isinstance(app.kv, RedisKv), "an address is a Redis server's"
    try:
        facts = await app.kv.facts()
    except InterlockError as error:
        return Finding("fail", "shared state", error.message, error.hint or "check stores.kv in interlock.yaml")
    if facts.evicts:
        return Finding(
            "warn",
            "shared state",
            f"when its memory is full the server throws keys away ({facts.evicts}), counters of budgets among them",
            "set maxmemory-policy noeviction on it",
        )
    return Finding("ok", f"shared state: Redis or Valkey {facts.version}")


async def _objects(app: App) -> Finding:
    """The store of originals, texts and vectors."""
    stores = app.workspace.settings.stores
    if stores.blobs == "files":
        return Finding("ok", "objects: files in the data folder")
    try:
        await _tried(app.blobs, app.workspace.settings.tenant)
    except InterlockError as error:
        return Finding("fail", "objects", error.message, error.hint or "check stores.blobs in interlock.yaml")
    if any((app.workspace.data / "blobs").glob("[!.]*/??/*")):
        return Finding(
            "warn",
            "objects",
            f"objects of before stand in the data folder, and are not read from there ({stores.blobs})",
            "copy the folder blobs of the data folder to the bucket, names as they are, and remove it",
        )
    return Finding("ok", f"objects: {stores.blobs}")


async def _tried(blobs: Blobs, tenant: TenantId) -> None:
    """Do once all that a key must be allowed to. Raises: Unavailable."""
    probe = f"interlock doctor {ulid()}".encode()
    digest = await blobs.put(tenant, probe)
    await blobs.get(tenant, digest)
    await blobs.delete(tenant, digest)
    await anext(aiter(blobs.list(tenant)), None)


def _disk(app: App) -> Finding:
    free = shutil.disk_usage(app.workspace.data).free
    if free < 500_000_000:
        return Finding(
            "warn", "disk", f"{free / 1e6:.0f} MB free where {app.workspace.data.name} is", "free some space"
        )
    return Finding("ok", f"disk: {free / 1e9:.0f} GB free")


def _key_files(app: App) -> Finding:
    loose = [
        name
        for name in ("master.key", "audit.key")
        if (path := app.workspace.data / name).exists() and path.stat().st_mode & 0o077
    ]
    if loose:
        paths = " ".join(str(app.workspace.data / name) for name in loose)
        return Finding("fail", "key files", f"{', '.join(loose)} can be read by others", f"chmod 600 {paths}")
    return Finding("ok", "key files are private")


async def _models(app: App) -> AsyncIterator[Finding]:
    here = {model.name: model for model in app.parts.models.installed()}
    for entry in app.parts.models.catalogue():
        folder = app.parts.models.folder / entry.name
        bad = app.parts.models.verify(entry.name) if folder.exists() else []
        again = f"interlock models remove {entry.name} && interlock models fetch {entry.name}"
        if bad and (entry.default or entry.name in here):
            yield Finding("fail", f"model {entry.name}", f"damaged or incomplete: {', '.join(bad)}", again)
        elif entry.name in here:
            yield Finding("ok", f"model {entry.name} ({entry.licence}), every byte checked")
        elif entry.default:
            yield Finding("fail", f"model {entry.name}", "not on this machine", f"interlock models fetch {entry.name}")


async def _providers(app: App) -> AsyncIterator[Finding]:
    for name in app.parts.gateway.provider_names:
        try:
            models = await app.parts.gateway.check(name)
        except InterlockError as error:
            yield Finding(
                "warn",
                f"provider {name}",
                error.message,
                error.hint or f"interlock config show gateway.providers.{name}",
            )
        else:
            yield Finding("ok", f"provider {name}: {len(models)} models")


async def _routing(app: App) -> AsyncIterator[Finding]:
    """Routes whose targets are not there or not approved, and targets whose last day is near."""
    problems = [
        problem
        for problem in await app.configuration.problems(app.workspace)
        if problem.field.startswith("gateway.routes.")
    ]
    for problem in problems:
        yield Finding("fail", f"setting {problem.field}", problem.message, problem.hint)
    for row in provider_register(app.parts, app.owner()):
        if row.state in {"refused", "ended"} and row.used_by:
            used = ", ".join(row.used_by)
            fix = f"take it out of {used}, or mend gateway.approvals in interlock.yaml"
            yield Finding("warn", f"target {row.target}", f"{row.reason}, and {used} names it", fix)
        elif row.state == "ends soon":
            yield Finding(
                "warn",
                f"target {row.target}",
                row.reason,
                f"choose another for {', '.join(row.used_by) or 'its callers'}; see: interlock providers register",
            )
    if not problems and app.parts.gateway.routes:
        yield Finding("ok", f"routes: {len(app.parts.gateway.routes)}")


async def _apps(app: App) -> AsyncIterator[Finding]:
    known = set(app.parts.gateway.provider_names)
    for source in app.parts.releases.apps():
        try:
            components = source.load()
        except InterlockError as error:
            yield Finding(
                "fail", f"app {source.name}", error.message, error.hint or f"edit apps/{source.name}/app.yaml"
            )
            continue
        route = RouteSpec.model_validate(components["route"])
        missing = [target for target in route.targets if Target.parse(target).provider not in known]
        patterns = [(f"route.{place}", pattern) for place, pattern in patterns_of(route)]
        rules = GuardrailSpec.model_validate(components.get("guardrails", {}), extra="ignore").rules
        patterns += [(f"guardrails rule {rule.id}", pattern) for rule in rules for pattern in rule.patterns]
        for place, pattern in patterns:
            slow = slow_on(pattern)
            if slow is not None:
                fix = f"in apps/{source.name}/app.yaml, write it without a repeat inside a repeat"
                yield Finding("warn", f"app {source.name}, {place}", f"a pattern takes too long, as on {slow}", fix)
        astray = await _astray(app, components)
        if astray is not None:
            fix = f"edit knowledge.collection in apps/{source.name}/app.yaml, or add knowledge/{astray}.yaml"
            yield Finding(
                "fail", f"app {source.name}", f"it searches the collection {astray!r}, which does not exist", fix
            )
        elif missing:
            yield Finding(
                "fail", f"app {source.name}", f"no provider for {missing[0]!r}", "add it under gateway.providers"
            )
        else:
            yield Finding("ok", f"app {source.name}")


async def _astray(app: App, components: Mapping[str, object]) -> str | None:
    """The collection that an app searches, where it is neither here nor configured."""
    given = components.get("retrieval")
    if given is None:
        return None
    name = RetrievalSpec.model_validate(given, extra="ignore").collection
    with suppress(InterlockError):
        if name in app.collections() or await app.parts.knowledge.is_ingested(app.owner(), name):
            return None
        return name
    return None


async def apps_astray(app: App) -> list[Finding]:
    """Apps that search a collection which does not exist, or into which nothing was ingested."""
    found = []
    for source in app.parts.releases.apps():
        try:
            components = source.load()
        except InterlockError:
            continue  # told when the app is asked, and by doctor
        astray = await _astray(app, components)
        if astray is not None:
            cause = f"it searches the collection {astray!r}, which does not exist"
            found.append(Finding("fail", f"app {source.name}", cause, "interlock doctor"))
        elif "retrieval" in components:
            name = RetrievalSpec.model_validate(components["retrieval"], extra="ignore").collection
            if not await app.parts.knowledge.is_ingested(app.owner(), name):
                cause = f"nothing was ingested into {name!r} yet"
                found.append(Finding("warn", f"app {source.name}", cause, f"interlock ingest {name}"))
    return found


async def _collections(app: App) -> AsyncIterator[Finding]:
    for error in app.broken_collections().values():
        yield Finding("fail", "knowledge", error.message, error.hint or "edit the file it names")
    names = list(app.collections())
    documents = await app.parts.knowledge.documents(app.owner())
    for name in names:
        steps = app.parts.knowledge.steps_of(name)
        for error in _untaken(app, steps):
            # No search fails by it, and none says so to whoever searches.
            fix = error.hint or f"edit knowledge.steps, or knowledge.collections.{name}.steps, in interlock.yaml"
            yield Finding("warn", f"collection {name}, steps", f"searches go on without a step: {error.message}", fix)
        if app.parts.knowledge.is_external(app.owner(), name):
            yield await _elsewhere(app, name)
            continue
        mine = [info for info in documents if info.collection == name]
        lost = await _lost_passages(app, name, sum(info.passages for info in mine))
        if lost:
            yield Finding("fail", f"collection {name}", lost, f"interlock ingest {name}")
            continue
        failed = [info for info in mine if info.state == "failed"]
        unreadable = [info for info in mine if not info.readers]
        if not mine:
            yield Finding("warn", f"collection {name}", "nothing was ingested yet", f"interlock ingest {name}")
        elif failed:
            yield Finding(
                "warn",
                f"collection {name}",
                f"{len(failed)} of {len(mine)} documents failed, e.g. {failed[0].source}: {failed[0].error_message}",
                f"mend the file, then: interlock ingest {name}",
            )
        elif unreadable:
            yield Finding(
                "warn",
                f"collection {name}",
                f"{len(unreadable)} documents can be read by nobody, e.g. {unreadable[0].source}",
                f"add a permission to knowledge/*.yaml, then: interlock ingest {name}",
            )
        else:
            yield Finding("ok", f"collection {name}: {len(mine)} documents")


def _untaken(app: App, steps: RetrievalSteps) -> Iterator[InterlockError]:
    """Why steps that are switched on cannot be taken."""
    try:
        app.parts.knowledge.reranker_identity(steps)
        if steps.rerank is not None and steps.rerank.reranker == "provider" and steps.rerank.model:
            app.parts.gateway.route(steps.rerank.model)
    except InterlockError as error:
        yield error
    if steps.model.name and steps.reads_with_models:
        try:
            app.parts.gateway.route(steps.model.name)
        except InterlockError as error:
            yield error


async def _elsewhere(app: App, name: str) -> Finding:
    """Whether the index of a collection answers."""
    try:
        count = await app.parts.knowledge.external_count(app.owner(), name)
    except InterlockError as error:
        return Finding("fail", f"collection {name}", error.message, error.hint or f"see knowledge/*.yaml of {name}")
    return Finding("ok", f"collection {name}: in an index elsewhere, {count} documents that you may read")


async def _lost_passages(app: App, collection: str, expected: int) -> str:
    """Why the index is not whole; empty when it is."""
    if expected == 0:
        return ""
    try:
        held = (await app.parts.knowledge.stats(app.owner(), collection)).passages
    except InterlockError as error:
        return f"its index cannot be read ({error.code})"
    return f"its index holds {held} of {expected} passages" if held < expected else ""


async def _compute(app: App) -> Finding:
    settings = app.workspace.settings.compute
    if settings.executor == "ray":
        from interlock.stores.compute.ray import check_ray

        await to_thread.run_sync(check_ray, settings.address)
    cores = available_cores()
    if settings.executor != "inline" and not settings.address and settings.count > cores:
        return Finding(
            "warn",
            f"compute: {settings.count} workers on {cores} cores",
            "more workers than cores take memory and are no faster",
            "set compute.workers to 0",
        )
    return Finding("ok", f"compute: {settings.executor}, {settings.count} workers")


async def _audit(app: App) -> Finding:
    result = await app.parts.governance.verify()
    if not result.ok:
        return Finding(
            "fail", "audit log", result.problems[0], "interlock audit verify; restore a backup if it was changed"
        )
    return Finding("ok", f"audit log: {result.size} lines, whole")
