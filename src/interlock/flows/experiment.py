"""Plan experiments by what is known of an app, look at those that run, and keep what they showed as evidence."""

from __future__ import annotations

import logging
from datetime import timedelta

from interlock.core.canonical import canonical_bytes, digest_bytes
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import Conflict, InvalidInput
from interlock.flows.parts import Parts
from interlock.flows.release_views import experiment_view
from interlock.flows.rollout import complaints, outcome_of
from interlock.releases.experiments.preferring import UnitPreference
from interlock.releases.experiments.types import Experiment, ExperimentSpec
from interlock.releases.promotion import Evidence

__all__ = ["conclude", "look_at", "look_at_due", "plan"]

_log = logging.getLogger("interlock.experiment")
_KNOWN_DAYS = 14
_VERDICTS = {"better": "pass", "same": "pass", "worse": "fail"}


async def plan(parts: Parts, ctx: Context, spec: ExperimentSpec, *, reason: str = "") -> Experiment:
    """Freeze a plan, its forecast made by the app's last 14 days where the file says nothing.

    Raises: as `Releases.plan_experiment`.
    """
    at = now()
    app = parts.releases.source(spec.app, ctx).name
    if spec.kind == "interleave":
        await _check_searches(parts, ctx, spec)
    (days,) = await parts.observe.series(ctx, since=at - timedelta(days=_KNOWN_DAYS), until=at, buckets=1, app=app)
    level: float | None = None
    if spec.primary.measure == "error" and days.requests:
        level = days.errors / days.requests
    if spec.primary.measure == "declined" and days.answers:
        level = days.declined / days.answers
    return await parts.releases.plan_experiment(ctx, spec, level=level, reason=reason)


async def _check_searches(parts: Parts, ctx: Context, spec: ExperimentSpec) -> None:
    """Raises: InvalidInput: the two do not search the same collection, or differ in more than how they search."""
    control, variant = [await parts.releases.pick(ctx, spec.app, arm.release or spec.channel) for arm in spec.arms]
    searches = [each.components.get("retrieval", {}) for each in (control, variant)]
    if not all(searches) or searches[0].get("collection") != searches[1].get("collection"):
        raise InvalidInput("interleaved releases answer from the same collection", param="arms")
    # The models follow from the search: another reranker is another model.
    beside = {"retrieval", "models"}
    others = sorted(
        kind
        for kind in {*control.digests, *variant.digests} - beside
        if control.digests.get(kind) != variant.digests.get(kind)
    )
    if others:
        raise InvalidInput(
            f"interleaved releases differ in how they search and in nothing else; these differ in {others[0]}",
            param="arms",
            hint="compare whole releases with kind: ab",
        )


async def look_at(parts: Parts, ctx: Context, experiment: Experiment) -> Experiment:
    """One look at one experiment. Raises: Conflict: somebody else changed it meanwhile."""
    if experiment.state != "running" or experiment.started_at is None:
        return experiment
    if experiment.plan.spec.kind == "interleave":
        told = await parts.observe.preferences(ctx, experiment.id, since=experiment.started_at)
        preferences = [UnitPreference(row.unit, row.requests, row.control, row.variant) for row in told]
        return await parts.releases.experiments.look(ctx, experiment, preferences)
    rows = await parts.observe.units(ctx, experiment.id, since=experiment.started_at)
    said = await complaints(parts, ctx, experiment.id, experiment.started_at)
    outcomes = [outcome_of(row, row.arm, said) for row in rows]
    return await parts.releases.experiments.look(ctx, experiment, outcomes)


async def look_at_due(parts: Parts, ctx: Context) -> float:
    """Look at every experiment of the tenant whose time has come; gives seconds until the next is due, at most 60.

    Several workers may do so at once: the first to store what it found wins, the others leave it at that.
    """
    wait = 60.0
    for experiment in await parts.releases.experiments.list(ctx, serving=True, limit=1000):
        every = experiment.plan.spec.check_every_s
        if experiment.checked_at is not None:
            left = every - (now() - experiment.checked_at).total_seconds()
            if left > 0:
                wait = min(wait, left)
                continue
        try:
            await look_at(parts, ctx, experiment)
        except Conflict:
            _log.info("experiment %s was looked at elsewhere", experiment.id)
        wait = min(wait, every)
    return wait


async def conclude(parts: Parts, ctx: Context, experiment: str, reason: str) -> Experiment:
    """End it with its verdict, which becomes evidence of every variant's release.

    Raises: as `Experiments.conclude`.
    """
    done = await parts.releases.experiments.conclude(ctx, experiment, reason)
    history = await parts.releases.experiments.history(ctx, done.id)
    report = canonical_bytes(experiment_view(done, history))
    found = done.report
    for arm in done.plan.arms[1:]:
        checks = [] if found is None else [each for each in found.comparisons if each.arm == arm.name]
        primary = next((each for each in checks if each.role == "primary"), None)
        open_guards = [each for each in checks if each.role == "guardrail" and each.verdict != "safe"]
        verdict = "not_enough_evidence" if primary is None else _VERDICTS.get(primary.verdict, "not_enough_evidence")
        if verdict == "pass" and open_guards:
            verdict = "not_enough_evidence"
        summary: dict[str, str | int | float | bool] = {"experiment": done.id, "plan": done.plan.digest}
        if primary is not None:
            summary |= {
                "measure": primary.measure,
                "difference": primary.difference,
                "low": primary.low,
                "high": primary.high,
                "units": primary.units[0],
            }
        given = Evidence(
            digest_bytes(report),
            done.app,
            arm.release,
            "experiment",
            done.plan.spec.name,
            verdict,
            ctx.principal.id,
            now(),
            f"{arm.name}: {done.reason}"[:1000],
            summary,
        )
        await parts.releases.attach(ctx, given, report)
    return done
