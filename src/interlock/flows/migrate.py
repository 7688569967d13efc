"""A model goes out of use: what names it, which successor does as well on each app's cases, and a release with it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from anyio import to_thread

from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.evals.judges.spec import read_judge
from interlock.evals.matrix.contrasts import contrast
from interlock.evals.matrix.types import AS_IT_IS, Contrast, Matrix, Variant
from interlock.evals.running.runner import Progress
from interlock.evals.service import Evaluations
from interlock.evals.suite import Suite
from interlock.flows.gate import GateRuns, Verdict, run_gate, suites_in
from interlock.flows.matrix import MatrixRuns, besides, freeze_variant, run_matrix
from interlock.flows.parts import Parts
from interlock.gateway.checking import targets_of
from interlock.gateway.register import register
from interlock.gateway.types import RouteSpec, Target

__all__ = ["Candidate", "Migration", "MigrationRuns", "MigrationShelf", "Use", "migrate", "uses_of"]

# Any in this module: settings and changes to an app's file, as JSON values.


@dataclass(frozen=True, slots=True)
class Use:
    """One place that names the model."""

    kind: Literal["app", "channel", "setting", "judge"]
    name: str
    """App, ``app@channel``, the setting's dotted name, or a judge's file."""
    field: str
    """Of its route, or of the file; empty of a setting."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A successor in one app."""

    app: str
    successor: str
    verdict: Literal["ready", "worse", "not enough evidence", "failed", "no suite"]
    """`ready`: not worse than the model by the margin in what every suite gates, frozen as a release, and not refused
    by the gate of prod.
    """
    said: str
    contrasts: tuple[Contrast, ...] = ()
    """One a suite and gated metric."""
    comparisons: tuple[str, ...] = ()
    """Ids, one a suite: interlock compare show."""
    release: str = ""
    gate: Verdict | None = None
    """What its channel says to the release; None where that was not asked."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What was found of one model."""

    id: str
    model: str
    successors: tuple[str, ...]
    at: datetime
    last_day: date | None
    """Of the register; the day from which the model is not used any more."""
    uses: tuple[Use, ...]
    candidates: tuple[Candidate, ...]
    margin: float
    finished: bool


@dataclass(frozen=True, slots=True)
class MigrationRuns:
    """How candidates are measured."""

    home: Path
    """Of the workspace's evaluations."""
    apps: Path
    """Folder of the apps, whose suites lie in ``evals`` of each."""
    margin: float = 0.05
    only: Sequence[str] = ()
    """Apps; all that use the model without any."""
    judge: str | None = None
    licences: Sequence[Path] = ()
    max_cost_usd: float | None = None
    """A comparison of one app on one suite."""
    gate: bool = True
    """Ask the gate of prod about each candidate that is ready, which makes its evidence."""
    started: Callable[[str, str], None] | None = None
    """Told the app and the suite as each comparison begins."""
    progress: Callable[[Progress], None] | None = None


async def uses_of(
    parts: Parts, ctx: Context, model: str, settings: Mapping[str, Any], *, judges: Sequence[Path] = ()
) -> list[Use]:
    """Apps whose files name the model, channels that point at releases with it, settings, and judges.

    Args:
        model: ``provider/model``.
        settings: of the workspace, as values.
        judges: folders of files of judges.

    Raises: Forbidden; InvalidInput: no name of a model.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    wanted = _target(model)
    found: list[Use] = []
    for source in parts.releases.apps(ctx):
        try:
            live = parts.releases.live(source.name)
        except InterlockError:
            # An app whose files are broken names nothing; doctor tells of it.
            continue
        found += [Use("app", source.name, field) for field in _fields(live.components, wanted)]
        for channel in await parts.releases.channels(ctx, source.name):
            frozen = await parts.releases.load(ctx, source.name, channel.release)
            found += [Use("channel", f"{source.name}@{channel.name}", f) for f in _fields(frozen.components, wanted)]
    found += [Use("setting", name, "") for name in _settings(settings, wanted, "")]
    return found + await to_thread.run_sync(lambda: list(_judging(judges, wanted)))


def _judging(folders: Sequence[Path], wanted: Target) -> Iterator[Use]:
    for folder in folders:
        for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
            try:
                models = read_judge(file).models
            except InterlockError:
                # No judge: suites and licences lie there too.
                continue
            for number, name in enumerate(models):
                if Target.parse(name) == wanted:
                    yield Use("judge", f"{folder.name}/{file.name}", f"models[{number}]")


async def migrate(
    parts: Parts, ctx: Context, model: str, successors: Sequence[str], runs: MigrationRuns, *, uses: Sequence[Use]
) -> Migration:
    """Measure every successor in every app that uses the model, on the app's own suites; freeze those that are ready.

    Nothing is pointed anywhere: a candidate goes the way of every release. The same call goes on where it was ended.

    Args:
        uses: of the model, as `uses_of` found them.

    Raises: Forbidden; InvalidInput: a successor that is no name of a model, or the model itself; NotFound: nothing that
        was asked for uses the model.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    for each in successors:
        if _target(each) == _target(model):
            raise InvalidInput("a model does not succeed itself", param="to")
    apps = list(dict.fromkeys(use.name for use in uses if use.kind == "app"))
    if unknown := [name for name in runs.only if name not in apps]:
        raise NotFound(f"the app {unknown[0]!r} does not use {model}", param="app", hint=f"interlock migrate {model}")
    began = now()
    shelf = MigrationShelf(runs.home / "migrations")
    found = Migration(
        f"mg_{int(began.timestamp() * 1000):012x}{secrets.token_hex(2)}",
        model,
        tuple(successors),
        began,
        _last_day(parts, model),
        tuple(uses),
        (),
        runs.margin,
        finished=False,
    )
    for app in apps if successors else ():
        if runs.only and app not in runs.only:
            continue
        told = await _app(parts, ctx, app, found, runs)
        found = replace(found, candidates=(*found.candidates, *told))
        await to_thread.run_sync(shelf.put, found)
    found = replace(found, finished=True)
    if successors:
        await to_thread.run_sync(shelf.put, found)
    return found


async def _app(parts: Parts, ctx: Context, app: str, plan: Migration, runs: MigrationRuns) -> list[Candidate]:
    try:
        suites = await to_thread.run_sync(suites_in, runs.apps / app / "evals")
    except InterlockError as error:
        return [Candidate(app, each, "failed", error.message) for each in plan.successors]
    if not suites:
        hint = f"write a suite into apps/{app}/evals: without cases nothing says whether another model does as well"
        return [Candidate(app, each, "no suite", hint) for each in plan.successors]
    route = RouteSpec.model_validate(parts.releases.live(app).components["route"], extra="ignore")
    variants = [
        Variant(each, {"model": each}, {"route": _replaced(route, _target(plan.model), each)})
        for each in plan.successors
    ]
    matrices: list[tuple[Matrix, Sequence[str]]] = []
    for suite in suites.values():
        if runs.started is not None:
            runs.started(app, suite.name)
        try:
            matrix = await _compared(parts, ctx, app, suite, runs, variants=variants)
            matrices.append((matrix, _gated(suite, matrix)))
        except InterlockError as error:
            return [Candidate(app, each, "failed", f"{suite.name}: {error.message}") for each in plan.successors]
    return [await _judged(parts, ctx, app, each, plan, runs=runs, matrices=matrices) for each in plan.successors]


async def _compared(
    parts: Parts, ctx: Context, app: str, suite: Suite, runs: MigrationRuns, *, variants: Sequence[Variant]
) -> Matrix:
    how = MatrixRuns(
        runs.home,
        judge=runs.judge,
        licences=runs.licences,
        max_cost_usd=runs.max_cost_usd,
        progress=runs.progress,
    )
    return await run_matrix(parts, ctx, app, suite, how, variants=[Variant(AS_IT_IS, {}, {}), *variants])


async def _judged(
    parts: Parts,
    ctx: Context,
    app: str,
    successor: str,
    plan: Migration,
    *,
    runs: MigrationRuns,
    matrices: Sequence[tuple[Matrix, Sequence[str]]],
) -> Candidate:
    """One successor over all suites: as good in each, or not."""
    ids = tuple(matrix.id for matrix, _ in matrices)
    blank = Candidate(app, successor, "failed", "", (), ids)
    found: list[Contrast] = []
    lines: list[str] = []
    for matrix, metrics in matrices:
        for label in (AS_IT_IS, successor):
            error = next((each.error for each in matrix.variants if each.variant.label == label), "it was not measured")
            if error:
                return replace(blank, said=f"{matrix.suite}: {label}: {error}")
        sides = {run.target: run for run in await to_thread.run_sync(besides, Evaluations(runs.home / "runs"), matrix)}
        # All of them have to hold, so that no correction is due.
        for metric in metrics:
            found.append(contrast(sides[successor], sides[AS_IT_IS], metric, margin=runs.margin))
            lines.append(f"{matrix.suite}: {_said(found[-1])}")
    told = replace(blank, contrasts=tuple(found))
    said = "; ".join(lines)
    if any(each.verdict == "worse" for each in found):
        return replace(told, verdict="worse", said=said)
    if any(each.verdict == "cannot tell" for each in found):
        return replace(told, verdict="not enough evidence", said=said)
    info = await freeze_variant(parts, ctx, matrices[0][0], successor, note=f"{successor} instead of {plan.model}")
    ready = replace(told, verdict="ready", said=said, release=info.id)
    if not runs.gate:
        return ready
    gated = GateRuns(
        runs.apps / app / "evals", runs.home / "runs", judge=runs.judge, licences=runs.licences, progress=runs.progress
    )
    try:
        gate = await run_gate(parts, ctx, app, gated, release=info.id)
    except InterlockError as error:
        return replace(ready, said=f"{said}; its gate could not be asked: {error.message}")
    if any(each.state == "failed" for each in gate.demands):
        refused = "; ".join(f"{each.demand}: {each.why}" for each in gate.demands if each.state == "failed")
        return replace(ready, verdict="worse", gate=gate.verdict, said=f"{said}; prod refuses it: {refused}")
    return replace(ready, gate=gate.verdict)


def _gated(suite: Suite, matrix: Matrix) -> list[str]:
    """What the suite's gate looks at, besides the quality; times and costs have no margin of quality."""
    scales = {each.label: each.metric.scale for each in suite.measured_by}
    rules = suite.spec.gate.rules if suite.spec.gate is not None else []
    bounded = [rule.metric for rule in rules if scales.get(rule.metric) != "real"]
    return list(dict.fromkeys([matrix.quality, *bounded]))


def _said(found: Contrast) -> str:
    if found.value is None or found.interval is None:
        return "no case in both"
    told = f"{found.metric} {found.value:+.3g} (95 % {found.interval.low:+.3g} to {found.interval.high:+.3g})"
    return told + (f", about {found.more:,} more cases would tell" if found.more else "")


def _target(name: str) -> Target:
    try:
        return Target.parse(name)
    except ValueError as error:
        raise InvalidInput(str(error), param="model") from error


def _fields(components: Mapping[str, Any], wanted: Target) -> list[str]:
    route = RouteSpec.model_validate(components["route"], extra="ignore")
    return [f"route.{field}" for field, name in targets_of(route) if Target.parse(name) == wanted]


def _settings(value: object, wanted: Target, at: str) -> Iterator[str]:
    """Dotted names of texts that are the model's name; what the register says of it is no use of it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if at != "gateway" or name != "approvals":
                yield from _settings(inner, wanted, f"{at}.{name}" if at else str(name))
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _settings(inner, wanted, f"{at}[{number}]")
    elif isinstance(value, str) and "/" in value and value == str(wanted):
        yield at


def _replaced(route: RouteSpec, wanted: Target, successor: str) -> dict[str, Any]:
    """The fields of a route that name the model, with the successor in its place; named once where it stood already."""

    def instead(names: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(successor if Target.parse(name) == wanted else name for name in names))

    changes: dict[str, Any] = {}
    for field in ("targets", "smaller"):
        names: list[str] = getattr(route, field)
        if instead(names) != names:
            changes[field] = instead(names)
    gone = {name: share for name, share in route.weights.items() if Target.parse(name) == wanted}
    if gone:
        share = sum(gone.values()) + route.weights.get(successor, 0.0)
        # Merged into the file: a share that is left out there is given as None.
        changes["weights"] = {**dict.fromkeys(gone), successor: share}
    if route.shadow is not None and Target.parse(route.shadow.target) == wanted:
        changes["shadow"] = {"target": successor}
    return changes


def _last_day(parts: Parts, model: str) -> date | None:
    rows = register(parts.gateway.settings, now().date())
    entry = next((row for row in rows if row.target == str(_target(model))), None)
    return None if entry is None or entry.approval is None else entry.approval.deprecated_on


class MigrationShelf:
    """Migrations of one folder, one file each. Blocking; the files are small."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def put(self, migration: Migration) -> None:
        """Write it, whole or not at all."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = self._home / f"{migration.id}.json"
        fresh = place.with_suffix(".new")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(migration), indent=1))
        os.replace(fresh, place)

    def list(self) -> Iterator[Migration]:
        """Newest first; damaged ones are left out."""
        for place in sorted(self._home.glob("mg_*.json"), reverse=True):
            try:
                yield msgspec.json.decode(place.read_bytes(), type=Migration)
            except (OSError, msgspec.MsgspecError):
                continue
