"""The evaluation part's door: run a suite against a target, compare it with an earlier run, decide its gate."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
from anyio import to_thread

from interlock.core.clock import now
from interlock.core.errors import InvalidInput
from interlock.evals.floors import FloorResult, floor_results
from interlock.evals.gate.deciding import Decision, decide
from interlock.evals.gate.evidence import Measured
from interlock.evals.judges.named import may_not_gate
from interlock.evals.ports import Derived, Instruments, Metric, Target
from interlock.evals.report import Report, flaky_cases, slice_summaries, summaries, untried_note, worst_cases
from interlock.evals.running.forgetting import forget, mentions
from interlock.evals.running.journal import Journal, Plan, find_run, read_rows, runs_in
from interlock.evals.running.kept_outputs import KeptOutputs
from interlock.evals.running.runner import Ended, Executor, LocalExecutor, Progress, Runner, measured_of
from interlock.evals.running.scoring import check_case_options, check_instruments
from interlock.evals.running.sealed import SealedUses
from interlock.evals.suite import MeasuredBy, Suite, case_digest
from interlock.evals.tally import CaseInfo
from interlock.evals.types import Output

__all__ = ["Baseline", "Evaluations", "Options"]

_OUTPUTS_FOR_FLOORS = 20_000
"""Answers held for the floors that copy from them; beyond these only the other floors are measured."""


@dataclass(frozen=True, slots=True)
class Options:
    """How one run is made. None of it decides a score."""

    fresh: bool = False
    """Begin anew although the same run was not finished."""
    use_kept: bool = True
    """Take answers that earlier runs were given."""
    baseline: str | None = None
    """Run to compare with: an id, or ``last``."""
    note: str = ""
    report: Callable[[Progress], None] | None = None
    started: Callable[[str, int], None] | None = None
    """Told the run's id and how many executions it takes over."""
    tags: Mapping[str, str] = field(default_factory=dict)
    spread: Callable[[], AbstractAsyncContextManager[Executor]] | None = None
    """Opens what does the executions; this process without it."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run to compare with."""

    id: str
    cases: Mapping[str, CaseInfo]
    measured: Mapping[str, Measured]

    def unchanged(self, cases: Sequence[CaseInfo]) -> list[CaseInfo]:
        """Those of `cases` that it asked word for word."""
        return [case for case in cases if case.id in self.cases and self.cases[case.id].digest == case.digest]


class _Ended(NamedTuple):
    """A run that is over."""

    suite: Suite
    plan: Plan
    runner: Runner
    ended: Ended
    baseline: Baseline | None
    used: Mapping[str, int]


class Evaluations:
    """Runs of one folder, and what they have in common: kept answers, uses of sealed sets."""

    def __init__(self, home: Path) -> None:
        self.home = home

    async def run(
        self, suite: Suite, target: Target, instruments: Instruments, options: Options | None = None
    ) -> Report:
        """Run it, or go on with the same run where it was not finished.

        Raises: InvalidInput: a metric lacks what it needs, a case's own options are wrong, a sealed file was used up;
            NotFound: no such baseline; Conflict: the run goes on in another process; StorageFull; what the target
            raises when it can answer no case.
        """
        options = options or Options()
        check_instruments(suite.measured_by, instruments)
        references = [each for case in suite.cases for each in case.references if each.strip()]
        instruments = replace(instruments, references=references)
        await to_thread.run_sync(check_case_options, suite.cases, suite.measured_by)
        baseline = None if options.baseline is None else await to_thread.run_sync(self.baseline, options.baseline)
        if baseline is None and suite.spec.gate and any(rule.needs_baseline for rule in suite.spec.gate.rules):
            # Said before anything is paid for, not after.
            raise InvalidInput(
                "the gate compares with a baseline, and none is given",
                param="baseline",
                hint="--baseline RUN; interlock eval list shows runs",
            )
        digests = await to_thread.run_sync(lambda: [case_digest(case) for case in suite.cases])
        plan = _plan(suite, target, options, instruments.judge)
        folder, plan = await to_thread.run_sync(self._folder, plan, options.fresh)
        uses = SealedUses(self.home / "sealed-uses.jsonl")
        with Journal(folder) as journal, closing(KeptOutputs(self.home)) as kept:
            if journal.plan() is None:
                used = uses.use(suite, plan.id)
                journal.begin(plan)
            else:
                used = uses.counted(suite)
            executor: Executor = LocalExecutor(
                target,
                suite.measured_by,
                instruments,
                concurrency=suite.spec.run.concurrency,
                timeout_s=suite.spec.run.timeout_s,
                kept=kept,
                ask_anew=not options.use_kept,
            )
            async with AsyncExitStack() as stack:
                if options.spread is not None:
                    executor = await stack.enter_async_context(options.spread())
                runner = Runner(suite, executor, journal, digests=digests)
                taken = await to_thread.run_sync(runner.resume)
                if options.started is not None:
                    options.started(plan.id, taken)
                ended = await runner.run(report=options.report)
            report = await self._report(_Ended(suite, plan, runner, ended, baseline, used), instruments)
            values = Baseline(plan.id, runner.tally.cases, measured_of(runner.tally, suite.measured_by))
            await to_thread.run_sync(journal.finish, msgspec.json.encode(values), msgspec.json.encode(report))
        return report

    def _folder(self, plan: Plan, fresh: bool) -> tuple[Path, Plan]:
        if not fresh:
            for folder, other in runs_in(self.home):
                if other.key == plan.key and not (folder / "report.json").exists():
                    return folder, other
        return self.home / plan.id, plan

    async def _report(self, done: _Ended, instruments: Instruments) -> Report:
        suite, plan, runner, ended, baseline, used = done
        tally = runner.tally
        measured = measured_of(tally, suite.measured_by)
        seen = [tally.cases[case] for case in tally.done_cases()]
        floors: list[FloorResult] = []
        if suite.spec.floors:
            outputs = await to_thread.run_sync(self._outputs, plan.id)
            floors = await floor_results(suite, outputs, instruments)
        barred = await to_thread.run_sync(_barred, suite, instruments)
        gate = None if suite.spec.gate is None else _decide(done, measured, seen, barred)
        hidden = suite.sealed_ids
        weak = sorted({case for floor in floors for case in floor.passed} - hidden)
        metrics, slices, flaky, worst = await to_thread.run_sync(
            lambda: (
                summaries(measured, seen),
                slice_summaries(measured, seen),
                flaky_cases(measured, tally),
                worst_cases(measured, hidden),
            )
        )
        notes = [untried_note(runner.untried)] if runner.untried else []
        if baseline is not None and (changed := len(seen) - len(baseline.unchanged(seen))):
            notes.append(f"{changed} cases are new or changed since the baseline, and are not compared")
        return Report(
            id=plan.id,
            suite=suite.name,
            suite_digest=suite.digest,
            cases_digest=suite.cases_digest,
            target=plan.target,
            target_identity=plan.target_identity,
            release=plan.release,
            began_at=plan.began_at,
            ended_at=now(),
            ended=ended,
            cases=len(suite.cases),
            repeats=suite.spec.repeats,
            executions=len(runner.done),
            failed=runner.failed,
            kept=runner.kept,
            cost_nano=runner.cost_nano,
            unpriced=runner.unpriced,
            metrics=tuple(metrics),
            slices=tuple(slices),
            flaky=tuple(each for each in flaky if each.case not in hidden),
            floors=tuple(replace(each, passed=tuple(c for c in each.passed if c not in hidden)) for each in floors),
            weak_cases=tuple(weak),
            sealed=len(hidden),
            sealed_uses=dict(used),
            gate=gate,
            baseline="" if baseline is None else baseline.id,
            notes=tuple(notes),
            worst=tuple(worst),
        )

    def baseline(self, name: str) -> Baseline:
        """An earlier run, read back. Raises: NotFound; InvalidInput: it is not finished, or damaged."""
        folder, plan = find_run(self.home, name)
        try:
            return msgspec.json.decode((folder / "values.json").read_bytes(), type=Baseline)
        except FileNotFoundError as error:
            raise _unfinished(plan) from error
        except (OSError, msgspec.DecodeError) as error:
            raise InvalidInput(f"the values of {plan.id!r} cannot be read", param="baseline") from error

    def _outputs(self, run: str) -> dict[str, Output]:
        """A case's answer, as far as they are at hand and there are not too many."""
        found: dict[str, Output] = {}
        for row in read_rows(self.home / run):
            if row.output is not None and not row.failed and len(found) < _OUTPUTS_FOR_FLOORS:
                found.setdefault(row.case, row.output)
        return found

    async def forget(self, documents: Collection[str], user: str | None = None) -> int:
        """Erase what runs hold of these documents, or of what this person was answered; gives how many answers it was.

        Raises: Conflict: one of these runs is going on.
        """
        return await to_thread.run_sync(forget, self.home, documents, user)

    async def mentions(self, documents: Collection[str], user: str | None = None) -> int:
        """How many answers are still held."""
        return await to_thread.run_sync(mentions, self.home, documents, user)

    def report(self, name: str) -> Report:
        """The report of a run. Raises: NotFound; InvalidInput: it did not finish, or is damaged."""
        folder, plan = find_run(self.home, name)
        try:
            return msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)
        except FileNotFoundError as error:
            raise _unfinished(plan) from error
        except (OSError, msgspec.DecodeError) as error:
            raise InvalidInput(f"the report of {plan.id!r} cannot be read", param="run") from error


def _unfinished(plan: Plan) -> InvalidInput:
    return InvalidInput(
        f"the run {plan.id!r} is not finished", param="run", hint="run the same command again: it goes on"
    )


def _barred(suite: Suite, instruments: Instruments) -> dict[str, str]:
    """Metrics whose judge has no licence, and those made of them."""
    at = now()
    found = {
        each.label: why
        for each in suite.measured_by
        if isinstance(each.metric, Metric)
        and "judge" in each.metric.needs
        and (why := may_not_gate(each.options, instruments, at=at))
    }
    made = {
        each.label: found[other]
        for each in suite.measured_by
        if isinstance(each.metric, Derived) and (other := str(getattr(each.options, "of", ""))) in found
    }
    return {**found, **made}


def _decide(
    done: _Ended, measured: Mapping[str, Measured], seen: Sequence[CaseInfo], barred: Mapping[str, str]
) -> Decision:
    suite, baseline = done.suite, done.baseline
    assert suite.spec.gate is not None
    decision = decide(
        suite.spec.gate,
        measured,
        seen,
        None if baseline is None else baseline.measured,
        paired=() if baseline is None else baseline.unchanged(seen),
        looks_often=done.ended == "stopped_early",
        barred=barred,
    )
    if done.runner.untried and decision.verdict == "not_enough_evidence":
        decision = replace(decision, reasons=(untried_note(done.runner.untried), *decision.reasons))
    if done.ended == "budget":
        return decision.unfinished("the budget ended the run before every case was asked")
    return decision


def _plan(suite: Suite, target: Target, options: Options, judge: str) -> Plan:
    began = now()
    return Plan(
        id=f"ev_{began:%Y%m%d%H%M%S}_{secrets.token_hex(4)}",
        suite=suite.name,
        suite_digest=suite.digest,
        cases_digest=suite.cases_digest,
        target=target.name,
        target_identity=dict(target.identity),
        release=target.release_id,
        metrics={
            each.label: f"{each.identity} {judge}" if _asks_judge(each) else each.identity for each in suite.measured_by
        },
        cases=len(suite.cases),
        repeats=suite.spec.repeats,
        began_at=began,
        note=options.note,
        tags=dict(options.tags),
    )


def _asks_judge(by: MeasuredBy) -> bool:
    return isinstance(by.metric, Metric) and "judge" in by.metric.needs
