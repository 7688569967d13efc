"""What a red-team run found: how many attacks worked, what defences cost the harmless, what is not covered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from interlock.core.errors import InvalidInput, NotFound
from interlock.evals.redteam.families import families
from interlock.evals.redteam.service import SUITE, TAG, Left, read_left
from interlock.evals.report import untried_note
from interlock.evals.running.journal import Plan, Row, find_run, read_rows, runs_in
from interlock.evals.suite import Suite, read_suite
from interlock.evals.types import UNTRIED, Case
from interlock.stats.intervals import Interval, wilson

__all__ = ["Finding", "Line", "Read", "RedTeamReport", "findings_of", "read_report", "report_of"]


@dataclass(frozen=True, slots=True)
class Line:
    """One family, one entry of a catalogue of risks, or all of them. Several repeats of an attack are one attack."""

    name: str
    attacks: int
    worked: int
    """At least once."""
    success: Interval | None
    """95 %, Wilson's; None without an attack."""
    failed: int
    """Attacks and twins that got only errors: nothing is known of them, and no gate passes on them."""
    twins: int
    blocked: int
    """Twins that were refused at least once."""
    false_blocks: Interval | None
    utility: float | None
    """Mean share of the facts that answers to the twins give; None where no twin has facts."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An attack that worked, or a twin that was refused."""

    case: str
    family: str
    side: str
    """``attack`` or ``twin``."""
    what: str
    times: int
    runs: int
    trace_id: str


@dataclass(frozen=True, slots=True)
class RedTeamReport:
    """One run."""

    id: str
    target: str
    release: str
    began_at: datetime
    finished: bool
    total: Line
    families: tuple[Line, ...]
    frameworks: tuple[Line, ...]
    """By entry of a catalogue: ``owasp-llm:LLM01``. An attack counts under each entry it is filed under."""
    not_covered: tuple[str, ...]
    """Families of which nothing was tried, which is not the same as nothing found."""
    left: tuple[Left, ...]
    """Attacks and twins that were not tried, and what they lack."""
    findings: tuple[Finding, ...]
    cost_nano: int
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    """What is known of one case."""

    case: Case
    worked: int = 0
    blocked: int = 0
    failed: int = 0
    runs: int = 0
    measured: int = 0
    facts: list[float] = field(default_factory=list)
    signal: str = ""
    trace_id: str = ""


def report_of(
    plan: Plan, cases: Sequence[Case], rows: Iterable[Row], left: Sequence[Left], *, finished: bool
) -> RedTeamReport:
    """Count a run's rows."""
    known = {case.id: _Seen(case) for case in cases}
    cost = silent = 0
    for row in rows:
        if row.case in known:
            cost += row.cost_nano or 0
            silent += row.failed == UNTRIED
            _count(known[row.case], row)
    every = list(known.values())
    unmeasured = tuple(
        Left(_family(each.case), each.case.id.partition(".")[2], ("prompt",))
        for each in every
        if "attack" in each.case.tags and each.runs and not each.measured and not each.failed
    )
    tried = {_family(each.case) for each in every if "attack" in each.case.tags and (each.measured or each.failed)}
    names = sorted({_family(each.case) for each in every})
    tags = sorted({tag for each in every for tag in each.case.tags if ":" in tag})
    notes = []
    pending = sum(each.runs == 0 for each in every)
    if silent:
        notes.append(untried_note(silent))
    if pending:
        notes.append(f"{pending} of {len(every)} cases were not asked: the run was not finished")
    return RedTeamReport(
        id=plan.id,
        target=plan.target,
        release=plan.release,
        began_at=plan.began_at,
        finished=finished,
        total=_line("all", every),
        families=tuple(_line(name, [each for each in every if _family(each.case) == name]) for name in names),
        frameworks=tuple(_line(tag, [each for each in every if tag in each.case.tags]) for tag in tags),
        not_covered=tuple(name for name in families.names() if name not in tried),
        left=(*left, *unmeasured),
        findings=tuple(findings_of(every)),
        cost_nano=cost,
        notes=tuple(notes),
    )


def _family(case: Case) -> str:
    return case.slices.get("family", "")


def _count(seen: _Seen, row: Row) -> None:
    seen.runs += 1
    if row.failed:
        seen.failed += 1
        return
    success, block, facts = (row.scores.get(name) for name in ("attack_success", "false_block", "facts"))
    if success is not None and success.value is not None:
        seen.measured += 1
        if success.value:
            seen.worked += 1
            seen.signal = success.reason
            seen.trace_id = row.output.trace_id if row.output is not None else ""
    if block is not None and block.value is not None:
        seen.measured += 1
        if block.value:
            seen.blocked += 1
            seen.signal = block.reason
            seen.trace_id = row.output.trace_id if row.output is not None else ""
    if facts is not None and facts.value is not None:
        seen.facts.append(facts.value)


def _line(name: str, every: Sequence[_Seen]) -> Line:
    attacks = [each for each in every if "attack" in each.case.tags and each.measured]
    twins = [each for each in every if "twin" in each.case.tags and each.measured]
    worked, blocked = sum(each.worked > 0 for each in attacks), sum(each.blocked > 0 for each in twins)
    given = [math.fsum(each.facts) / len(each.facts) for each in twins if each.facts]
    return Line(
        name,
        attacks=len(attacks),
        worked=worked,
        success=wilson(worked, len(attacks)) if attacks else None,
        failed=sum(each.failed > 0 and not each.measured for each in every),
        twins=len(twins),
        blocked=blocked,
        false_blocks=wilson(blocked, len(twins)) if twins else None,
        utility=math.fsum(given) / len(given) if given else None,
    )


def findings_of(every: Iterable[_Seen]) -> list[Finding]:
    """What went wrong, attacks first."""
    found = []
    for each in every:
        if each.worked or each.blocked:
            side = "attack" if each.worked else "twin"
            times = each.worked or each.blocked
            found.append(Finding(each.case.id, _family(each.case), side, each.signal, times, each.runs, each.trace_id))
    return sorted(found, key=lambda finding: (finding.side, finding.case))


class Read(NamedTuple):
    """A run, read back."""

    report: RedTeamReport
    suite: Suite
    folder: Path


def read_report(home: Path, name: str) -> Read:
    """A run by its id, a beginning of it, or ``last``, with its suite and its folder. It may
    still go on. Blocking.

    Raises: NotFound: no such run; InvalidInput: it is no red-team run, or damaged.
    """
    folder, plan = _find(home, name)
    suite = read_suite(home / plan.tags[TAG] / f"{SUITE}.yaml")
    report = report_of(
        plan, suite.cases, read_rows(folder), read_left(suite), finished=(folder / "report.json").exists()
    )
    return Read(report, suite, folder)


def _find(home: Path, name: str) -> tuple[Path, Plan]:
    if name == "last":
        newest = next((each for each in runs_in(home) if TAG in each[1].tags), None)
        if newest is None:
            raise NotFound("there is no red-team run", param="run", hint="interlock redteam run --target …")
        return newest
    folder, plan = find_run(home, name)
    if TAG not in plan.tags:
        raise InvalidInput(f"{plan.id!r} is no red-team run", param="run", hint=f"interlock eval show {plan.id}")
    return folder, plan
