"""Reports of runs become evidence of the release that answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from interlock.core.canonical import canonical_bytes, digest_bytes
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.ids import AppName, ReleaseId
from interlock.evals.report import Report
from interlock.flows.parts import Parts
from interlock.releases.promotion import Evidence, EvidenceKind

__all__ = ["Facts", "attach_facts", "attach_report"]


class Facts(NamedTuple):
    """What was found of a release otherwise than by a suite."""

    kind: EvidenceKind
    name: str
    verdict: str
    whole: Mapping[str, Any]
    """The whole report, as JSON values."""
    summary: dict[str, str | int | float | bool]
    """A few figures for lists."""
    note: str = ""


async def attach_facts(parts: Parts, ctx: Context, target: str, release: str, found: Facts) -> Evidence:
    """Add a report to what is known of a release.

    Args:
        target: ``app/NAME``, ``app/NAME@CHANNEL`` or ``release:APP:ID``, which was the release that `release` names.

    Raises: Forbidden, NotFound.
    """
    app = target.removeprefix("release:").removeprefix("app/").partition(":")[0].partition("@")[0]
    body = canonical_bytes(found.whole)
    given = Evidence(
        digest=digest_bytes(body),
        app=AppName(parts.releases.source(app, ctx).name),
        release=ReleaseId(release),
        kind=found.kind,
        name=found.name,
        verdict=found.verdict,
        by=ctx.principal.id,
        at=now(),
        note=found.note[:1000],
        summary=found.summary,
    )
    await parts.releases.attach(ctx, given, body)
    return given


async def attach_report(
    parts: Parts, ctx: Context, app: str, report: Report, *, kind: EvidenceKind = "evaluation"
) -> Evidence:
    """Add the report to what is known of its release.

    Only a whole run with a gate is evidence: one that was cut short, or decides nothing, would only look like it.

    Raises: InvalidInput: no gate, no release, or the run was ended by its budget. Forbidden.
    """
    if not report.release:
        raise InvalidInput(f"{report.target!r} is no release: there is nothing to attach it to", param="target")
    if report.gate is None:
        raise InvalidInput(f"the suite {report.suite!r} has no gate: its report decides nothing", param="gate")
    if report.ended == "budget":
        raise InvalidInput("the run was ended by its budget: it is no evidence", param="max_cost_usd")
    source = parts.releases.source(app, ctx)
    body = report.canonical()
    summary: dict[str, str | int | float | bool] = {
        "run": report.id,
        "suite_digest": report.suite_digest,
        "cases": report.cases,
        "executions": report.executions,
        "failed": report.failed,
        "cost_nano": report.cost_nano,
        "alpha": report.gate.alpha,
        "p": max((each.p_holds for each in report.gate.rules if not each.slice), default=1.0),
    }
    summary |= {f"mean.{each.name}": round(each.mean, 6) for each in report.metrics if each.mean is not None}
    given = Evidence(
        digest=report.digest(),
        app=AppName(source.name),
        release=ReleaseId(report.release),
        kind=kind,
        name=report.suite,
        verdict=report.gate.verdict,
        by=ctx.principal.id,
        at=report.ended_at,
        note="; ".join(report.gate.reasons)[:1000],
        summary=summary,
    )
    await parts.releases.attach(ctx, given, body)
    return given
