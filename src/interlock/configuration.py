"""The configuration that holds now: checked as a whole before it changes, kept with its predecessors, rolled back.

What may change while Interlock runs is `gateway`, `cost.limits` and `cost.prices`; the rest keeps its value until the
next start, and a reload says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from interlock.config import FILE, Settings, Workspace, load_settings
from interlock.core.audit import AuditEvent
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, Misconfigured, NotFound
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.flows.parts import Parts
from interlock.gateway.cache.calibration import SEMANTIC_CALIBRATION, read_calibration
from interlock.gateway.checking import Problem, check, targets_of
from interlock.gateway.settings import GatewaySettings
from interlock.gateway.types import RouteSpec, Target

__all__ = ["Accepted", "Configuration", "Reloaded", "history_of", "write_whole"]

_log = logging.getLogger("interlock.config")
_KEPT = 20
_AT_START = frozenset(
    {
        "response_max_age_days",
        "file_max_age_days",
        "batch_concurrency",
        "batch_max_lines",
        "batch_poll_s",
        "store_responses",
        "detect",
    }
)
"""Settings of `gateway` that are read once."""
_MAY_CHANGE = (Role.OPERATOR,)


@dataclass(frozen=True, slots=True)
class Accepted:
    """One configuration that was accepted."""

    number: int
    at: datetime
    by: str
    digest: str
    """SHA-256 of the text."""
    text: str
    """Of `interlock.yaml`. Secrets are references, so nothing is left out; the file is its owner's alone to read."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload did."""

    number: int
    """Of the history: what `rollback` takes."""
    changed: tuple[str, ...]
    """Settings that hold from now on, apart from those of entries that came or went as a whole."""
    at_restart: tuple[str, ...]
    """Settings that differ and hold after the next start only."""
    added: tuple[str, ...] = ()
    """Entries that are new: ``gateway.routes.NAME``, ``gateway.providers.NAME``, ``cost.limits.NAME`` …"""
    removed: tuple[str, ...] = ()
    """Entries that are gone."""


class Configuration:
    """The workspace's settings as they hold in this process.

    Args:
        flags: strongest overrides, given at the start.
        complete: adds the providers that were found on this machine.
    """

    def __init__(
        self,
        workspace: Workspace,
        flags: Mapping[str, Any],  # Any: settings before validation
        parts: Parts,
        *,
        complete: Callable[[GatewaySettings], GatewaySettings],
    ) -> None:
        self.workspace = workspace
        self._flags = flags
        self._parts = parts
        self._complete = complete
        # One reload at a time: two would each compare with what the other is replacing.
        self._one_at_a_time = asyncio.Lock()
        self._folder = workspace.data / "config"
        # What holds now, however the file is edited before the first reload.
        with suppress(OSError, UnicodeDecodeError):
            self._at_start = (workspace.root / FILE).read_text("utf-8")

    _at_start: str | None = None

    def read(self, text: str | None = None) -> Workspace:
        """The workspace as its files say now.

        Args:
            text: stands in for what is in `interlock.yaml`.

        Raises: Misconfigured naming the setting; also when the file is gone, or empty where it was not.
        """
        return self._read(self._text() if text is None else text)

    def _text(self) -> str:
        try:
            return (self.workspace.root / FILE).read_text("utf-8")
        except FileNotFoundError as error:
            hint = "put it back; the accepted ones are listed by GET /api/v1/config/history, and rolled back to"
            raise Misconfigured(f"{FILE} is gone", param=FILE, hint=hint) from error
        except OSError as error:
            raise Misconfigured(f"{FILE} cannot be read: {error.strerror}", param=FILE) from error
        except UnicodeDecodeError as error:
            raise Misconfigured(f"{FILE} is not YAML", param=FILE) from error

    def _read(self, text: str) -> Workspace:
        wanted = load_settings(self.workspace.root, self._flags, text=text)
        # A save that was cut short and a full disk leave an empty file, and would take every provider and limit away.
        if _is_empty(text) and self._had_settings():
            raise Misconfigured(
                f"{FILE} is empty, and the configuration before it is not",
                param=FILE,
                hint="write {} into it to mean that; interlock config rollback brings the one before back",
            )
        return wanted

    def _had_settings(self) -> bool:
        if FILE in self.workspace.sources.values():
            return True
        known = history_of(self.workspace.data)
        return bool(known) and bool(read_yaml(known[0].text))

    async def problems(self, workspace: Workspace, *, trust_unchanged: bool = True) -> list[Problem]:
        """Everything that would not work under `workspace`.

        Args:
            trust_unchanged: leave providers alone that serve by the same entry now.
        """
        settings = self._complete(workspace.settings.gateway)
        current = self._parts.gateway.settings
        same = {name for name, entry in settings.providers.items() if current.providers.get(name) == entry}
        found = await check(
            settings,
            build=self._parts.gateway.build,
            environ=os.environ,
            trusted=same if trust_unchanged else (),
        )
        return found + self._caches(settings) + self._apps(settings)

    def _caches(self, settings: GatewaySettings) -> list[Problem]:
        """Routes whose semantic cache has no record of its precision. A record made meanwhile is taken over."""
        cache = self._parts.gateway.cache
        if cache is None:
            return []
        found = []
        try:
            cache.use(read_calibration(self.workspace.data / SEMANTIC_CALIBRATION))
            for name, route in settings.routes.items():
                if route.cache is not None:
                    cache.check(name, route.cache)
        except InterlockError as error:
            found.append(Problem(error.param or "gateway.routes", error.message, error.hint or ""))
        return found

    def _apps(self, settings: GatewaySettings) -> list[Problem]:
        """Apps whose route this would break."""
        found = []
        for source in self._parts.releases.apps():
            try:
                route = RouteSpec.model_validate(source.load()["route"])
            except (InterlockError, ValidationError):
                # It is broken already, and `doctor` says why.
                continue
            for place, name in targets_of(route):
                provider = Target.parse(name).provider
                if provider not in settings.providers:
                    message = f"the app {source.name!r} has the target {name!r}, whose provider would be gone"
                    fix = f"keep gateway.providers.{provider}, or change route.{place} of the app"
                    found.append(Problem(f"gateway.providers.{provider}", message, fix))
        return found

    async def reload(self, ctx: Context, *, text: str | None = None) -> Reloaded:
        """Read the files anew and serve by them; on any problem nothing changes.

        Args:
            text: becomes the content of `interlock.yaml`, once it was found good.

        Raises: Forbidden; Misconfigured: names the first setting that is wrong.
        """
        self._require(ctx)
        async with self._one_at_a_time:
            try:
                content = self._text() if text is None else text
                wanted = self._read(content)
                problems = await self.problems(wanted)
                if problems:
                    raise _refused(problems)
            except Misconfigured as error:
                _log.error("the new configuration is refused, the old one goes on: %s", error.message)
                await self._told(ctx, error.code, {"field": error.param or ""})
                raise
            if text is not None:
                write_whole(self.workspace.root / FILE, text)
            done = self._apply(wanted, self.accept(str(ctx.principal.id), content))
            changes = len(done.changed) + len(done.added) + len(done.removed)
            await self._told(ctx, "ok", {"number": done.number, "changed": changes})
            news = [*(f"+{n}" for n in done.added), *(f"-{n}" for n in done.removed), *done.changed]
            _log.info("configuration %d holds; changed: %s", done.number, ", ".join(news) or "nothing")
            return done

    def _apply(self, wanted: Workspace, number: int) -> Reloaded:
        old, new = self.workspace.settings, wanted.settings
        kept = {name: getattr(old.gateway, name) for name in _AT_START}
        gateway = new.gateway.model_copy(update=kept)
        fresh = {"limits": new.cost.limits, "prices": new.cost.prices, "batch_discount": new.cost.batch_discount}
        cost = old.cost.model_copy(update=fresh)
        effective = old.model_copy(update={"gateway": gateway, "cost": cost})
        before = {origin.name: origin.value for origin in self.workspace.origins()}
        asked = {origin.name: origin.value for origin in wanted.origins()}
        self.workspace = Workspace(wanted.root, effective, wanted.sources)
        after = {origin.name: origin.value for origin in self.workspace.origins()}
        had, has = _entries(old), _entries(effective)
        whole = tuple(f"{name}." for name in had ^ has)
        completed = self._complete(gateway)
        kinds = {name: entry.kind for name, entry in completed.providers.items()}
        self._parts.cost.prices.use(cost.prices, kinds, cost.batch_discount)
        self._parts.cost.admission.use_configured(cost.limits)
        self._parts.gateway.reload(completed)
        return Reloaded(
            number=number,
            changed=tuple(
                sorted(n for n in {*before, *after} if before.get(n) != after.get(n) and not f"{n}.".startswith(whole))
            ),
            at_restart=tuple(sorted(n for n in {*asked, *after} if asked.get(n) != after.get(n))),
            added=tuple(sorted(has - had)),
            removed=tuple(sorted(had - has)),
        )

    def accept(self, by: str, text: str | None = None) -> int:
        """Keep a configuration in the history, unless it is the newest one there; gives its number.

        Args:
            text: None: what was in `interlock.yaml` when this process began.
        """
        if text is None:
            text = self._at_start if self._at_start is not None else (self.workspace.root / FILE).read_text("utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = history_of(self.workspace.data)
        if known and known[0].digest == digest:
            return known[0].number
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = known[0].number + 1 if known else 1
        entry = {"number": number, "at": now().isoformat(), "by": by, "digest": digest, "text": text}
        write_whole(self._folder / f"{number:06d}.json", json.dumps(entry))
        for old in known[_KEPT - 1 :]:
            (self._folder / f"{old.number:06d}.json").unlink(missing_ok=True)
        return number

    def history(self, ctx: Context) -> list[Accepted]:
        """Accepted configurations, newest first. Raises: Forbidden."""
        self._require(ctx)
        return history_of(self.workspace.data)

    async def rollback(self, ctx: Context, number: int | None = None) -> Reloaded:
        """Make an earlier configuration the present one: `interlock.yaml` is written anew and reloaded.

        Args:
            number: of the history; None: the newest that differs from the file.

        Raises: Forbidden, NotFound; Misconfigured: it would not work any more, and nothing changed.
        """
        return await self.reload(ctx, text=self.earlier(ctx, number).text)

    def earlier(self, ctx: Context, number: int | None) -> Accepted:
        """The configuration that `rollback` would make the present one. Raises: Forbidden, NotFound."""
        known = self.history(ctx)
        if number is None:
            path = self.workspace.root / FILE
            present = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
            known = [entry for entry in known if entry.digest != present]
        found = next((entry for entry in known if number in {None, entry.number}), None)
        if found is None:
            raise NotFound(
                f"there is no configuration {number}" if number else "there is no earlier configuration",
                param="number",
                hint="interlock config history",
            )
        return found

    def _require(self, ctx: Context) -> None:
        ctx.require(*_MAY_CHANGE)
        if ctx.tenant != self.workspace.settings.tenant:
            # It is the installation's, not a tenant's.
            raise NotFound("your tenant has no configuration in this workspace")

    async def _told(self, ctx: Context, outcome: str, details: Mapping[str, str | int | bool]) -> None:
        await self._parts.governance.append(
            AuditEvent(
                tenant=ctx.tenant,
                actor=str(ctx.principal.id),
                action="config.reload",
                subject=FILE,
                outcome=outcome,
                details=details,
                trace_id=ctx.trace_id,
            )
        )


def history_of(data: Path) -> list[Accepted]:
    """Accepted configurations of the workspace with this data folder, newest first; also when its file is broken."""
    found = []
    for path in sorted((data / "config").glob("[0-9]*.json"), reverse=True):
        raw = json.loads(path.read_text("utf-8"))
        at = datetime.fromisoformat(raw["at"])
        found.append(Accepted(raw["number"], at, raw["by"], raw["digest"], raw["text"]))
    return found


def _is_empty(text: str) -> bool:
    """True when it says nothing at all: white space, comments."""
    try:
        return read_yaml(text) is None
    except YamlFault:
        return False


def _entries(settings: Settings) -> set[str]:
    """Everything that settings name and that may come or go as a whole."""
    gateway, cost = settings.gateway, settings.cost
    groups: dict[str, Iterable[str]] = {
        "gateway.providers": gateway.providers,
        "gateway.routes": gateway.routes,
        "gateway.approvals": gateway.approvals,
        "gateway.residency": gateway.residency,
        "cost.prices": cost.prices,
        "cost.limits": [rule.name for rule in cost.limits],
    }
    return {f"{group}.{name}" for group, names in groups.items() for name in names}


def _refused(problems: list[Problem]) -> Misconfigured:
    first, rest = problems[0], len(problems) - 1
    more = f" (and {rest} more: {', '.join(problem.field for problem in problems[1:6])})" if rest else ""
    return Misconfigured(
        f"{first.field}: {first.message}{more}",
        param=first.field,
        hint=first.hint or "see all settings with: interlock config show",
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the rights it had."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(beside, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
