"""Run a suite: ask, score, write down, look at the gate. What is done stays done, whatever ends the process."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import anyio

from interlock.core.errors import InterlockError, Unavailable
from interlock.evals.gate.deciding import decide
from interlock.evals.gate.evidence import Measured
from interlock.evals.ports import Derived, Instruments, Target
from interlock.evals.running.journal import Journal, Row
from interlock.evals.running.kept_outputs import KeptOutputs
from interlock.evals.running.scoring import score_all
from interlock.evals.suite import MeasuredBy, Suite
from interlock.evals.tally import CaseInfo, MetricValues, Tally
from interlock.evals.types import UNTRIED, Case, Output, Score

__all__ = [
    "Ended",
    "Executor",
    "LocalExecutor",
    "Progress",
    "Runner",
    "Work",
    "measure_derived",
    "measured_of",
    "tally_row",
]

_MOST_TRIES = 6
_MOST_WAIT_S = 60.0
_REPORT_S = 0.5

Ended = Literal["finished", "stopped_early", "budget", "cancelled"]


@dataclass(frozen=True, slots=True)
class Work:
    """One execution to be done."""

    case: Case
    digest: str
    repeat: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    done: int
    total: int
    failed: int
    cost_nano: int
    seconds: float
    means: Mapping[str, float]
    """Of each metric so far."""

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the pace so far."""
        return None if not self.done or not self.seconds else self.seconds / self.done * (self.total - self.done)


class Executor(Protocol):
    """Does executions, wherever that is."""

    async def do(self, work: Iterator[Work], take: Callable[[Row], bool]) -> None:
        """Do `work`, giving each row to `take` as it ends, one at a time; stop once that says False.

        Takes no more of `work` than it has under way. Raises: what no case could be answered by.
        """


class LocalExecutor:
    """In this process, some at a time."""

    def __init__(
        self,
        target: Target,
        measured_by: Sequence[MeasuredBy],
        instruments: Instruments,
        *,
        concurrency: int,
        timeout_s: float,
        kept: KeptOutputs | None = None,
        ask_anew: bool = False,
    ) -> None:
        self._target = target
        self._measured_by = measured_by
        self._instruments = instruments
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._identity = target.identity
        self._kept = kept if self._identity else None
        self._ask_anew = ask_anew
        """What was answered before is not taken; what is answered now replaces it."""
        self._resume_at = 0.0
        """Nobody asks before this time: the target has said that it is asked too much."""
        self._away: set[str] = set()
        """Cases that were told to wait since the last answer."""

    async def do(self, work: Iterator[Work], take: Callable[[Row], bool]) -> None:
        """See `Executor`."""
        stopped: list[InterlockError] = []

        async def go_on(scope: anyio.CancelScope) -> None:
            for each in work:
                try:
                    row = await self.execute(each)
                except InterlockError as error:
                    stopped.append(error)
                    scope.cancel()
                    return
                if not take(row):
                    scope.cancel()
                    return

        async with anyio.create_task_group() as group:
            for _ in range(self._concurrency):
                group.start_soon(go_on, group.cancel_scope)
        if stopped:
            raise stopped[0]

    async def execute(self, work: Work) -> Row:
        """Do one."""
        key = None
        output = None
        if self._kept is not None and not work.sealed:
            key = KeptOutputs.key(self._identity, work.digest, work.repeat)
            output = None if self._ask_anew else self._kept.get(key)
        was_kept = output is not None
        if output is None:
            output = await self._ask(work)
            if self._kept is not None and key is not None and not output.error:
                self._kept.put(key, output)
        scores = await score_all(work.case, output, self._measured_by, self._instruments)
        if work.sealed:
            scores = {name: replace(score, reason="") for name, score in scores.items()}
        return Row(
            work.case.id,
            work.repeat,
            scores,
            output=None if work.sealed else output,
            kept=was_kept,
            failed=output.error,
            user=work.case.user,
            cost_nano=output.cost_nano,
        )

    async def _ask(self, work: Work) -> Output:
        for attempt in range(_MOST_TRIES):
            wait = self._resume_at - time.monotonic()
            if wait > 0:
                await anyio.sleep(wait)
            began = time.perf_counter()
            try:
                with anyio.fail_after(self._timeout_s):
                    output = await self._target.run(work.case, work.repeat)
            except TimeoutError:
                return Output(error="timeout")
            waits = bool(output.error) and output.retry_after_s is not None
            if waits:
                self._away.add(work.case.id)
            else:
                self._away.clear()
            if waits and attempt == _MOST_TRIES - 1:
                self._check_not_gone(output.error)
            if not output.error or output.retry_after_s is None or attempt == _MOST_TRIES - 1:
                if output.latency_s is None and not output.error:
                    output = replace(output, latency_s=time.perf_counter() - began)
                return output
            # One that is told to wait speaks for all: they share the target's limit.
            pause = min(_MOST_WAIT_S, max(output.retry_after_s, 0.25 * 2**attempt))
            self._resume_at = max(self._resume_at, time.monotonic() + pause)
        raise AssertionError("the last try returns")

    def _check_not_gone(self, code: str) -> None:
        """Cases are not counted as failed because nobody was there to ask: nothing was answered during all tries."""
        if len(self._away) > 1:
            raise Unavailable(
                f"the target answers nothing any more: {code}",
                param="target",
                hint="the same command goes on where this run ended",
            )


def tally_row(tally: Tally, row: Row, measured_by: Sequence[MeasuredBy]) -> None:
    """Count one execution."""
    untried = row.failed == UNTRIED
    if untried:
        _lack(tally.metrics["failed"], row.case)
    else:
        tally.add("failed", row.case, float(bool(row.failed)))
    for each in measured_by:
        if isinstance(each.metric, Derived):
            continue
        values = tally.metrics[each.label]
        score = row.scores.get(each.label, Score(None, "", error="metric_failed"))
        if row.failed and (score.value is not None or score.error or each.metric.scale == "real"):
            if untried:
                _lack(values, row.case)
            else:
                values.worst[row.case] = values.worst.get(row.case, 0) + 1
        elif score.value is not None:
            tally.add(each.label, row.case, score.value)
        elif score.error:
            _lack(values, row.case)
        else:
            values.not_applicable.setdefault(row.case, score.reason)


def _lack(values: MetricValues, case: str) -> None:
    values.missing[case] = values.missing.get(case, 0) + 1


def measure_derived(tally: Tally, measured_by: Sequence[MeasuredBy]) -> None:
    """Fill in the metrics that are made of others; doing it again gives the same."""
    better = {each.label: each.metric.better for each in measured_by}
    for each in measured_by:
        metric = each.metric
        if not isinstance(metric, Derived):
            continue
        other = str(getattr(each.options, "of", ""))
        of = tally.metrics[other]
        bad = 0.0 if better[other] == "higher" else 1.0
        mine = tally.metrics[each.label] = MetricValues()
        for case, members in _members(tally, metric.over).items():
            if any(of.missing.get(member, 0) for member in members):
                mine.missing[case] = 1
                continue
            by_member = [[*of.values.get(m, ()), *[bad] * of.worst.get(m, 0)] for m in members]
            if not all(by_member):
                mine.not_applicable[case] = f"{other!r} has no value of it"
                continue
            values = by_member[0] if metric.over == "repeats" else [math.fsum(v) / len(v) for v in by_member]
            score = metric.combine(values, each.options)
            if score.value is not None:
                tally.add(each.label, case, score.value)
            elif score.error:
                mine.missing[case] = 1
            else:
                mine.not_applicable[case] = score.reason


def _members(tally: Tally, over: Literal["repeats", "pair"]) -> dict[str, list[str]]:
    """Whose values make the value of a case. That of a pair is its first case's: each pair counts once."""
    if over == "repeats":
        return {case: [case] for case in tally.cases}
    pairs: dict[str, list[str]] = {}
    for case in tally.cases.values():
        if case.pair:
            pairs.setdefault(case.pair, []).append(case.id)
    return {members[0]: members for members in pairs.values() if len(members) > 1}


class Runner:
    """One run: what is left of it to do, and what is known of it."""

    def __init__(self, suite: Suite, executor: Executor, journal: Journal, *, digests: Sequence[str]) -> None:
        self._suite = suite
        self._executor = executor
        self._journal = journal
        self._digests = digests
        infos = [CaseInfo.of(case, digest) for case, digest in zip(suite.cases, digests, strict=True)]
        self.tally = Tally.empty(infos, ["failed", *(each.label for each in suite.measured_by)])
        self.done: set[tuple[str, int]] = set()
        self.failed = 0
        self.untried = 0
        """Executions whose target was asked nothing: its attacker was silent."""
        self.kept = 0
        self.cost_nano = 0
        self.unpriced = 0
        """Executions whose cost is not known."""
        self.total = len(suite.cases) * suite.spec.repeats

    def resume(self) -> int:
        """Take over what the journal holds; gives how many executions that is."""
        wanted = self.tally.cases
        for row in self._journal.rows():
            if row.case in wanted and (row.case, row.repeat) not in self.done:
                self._take(row)
        return len(self.done)

    def _take(self, row: Row) -> None:
        tally_row(self.tally, row, self._suite.measured_by)
        self.done.add((row.case, row.repeat))
        self.failed += bool(row.failed) and row.failed != UNTRIED
        self.untried += row.failed == UNTRIED
        self.kept += row.kept
        self.cost_nano += sum(score.cost_nano for score in row.scores.values())
        if row.cost_nano is None:
            self.unpriced += not row.failed
        elif not row.kept:
            self.cost_nano += row.cost_nano

    async def run(self, *, report: Callable[[Progress], None] | None = None) -> Ended:
        """Do what is left. Cancelling it leaves a journal that can be gone on with.

        Raises: what a target raises that no case could be answered by.
        """
        began = told = time.monotonic()
        ended: Ended = "finished"
        check_at = self._next_look()

        def take(row: Row) -> bool:
            nonlocal told, ended, check_at
            self._journal.add(row)
            self._take(row)
            if report is not None and time.monotonic() - told >= _REPORT_S:
                told = time.monotonic()
                report(self._progress(told - began))
            if self._is_spent():
                ended = "budget"
            elif self._suite.spec.run.stop_early and len(self.done) >= check_at:
                check_at = self._next_look()
                ended = "stopped_early" if self.is_clear() else ended
            return ended == "finished"

        try:
            await self._executor.do(self._work(), take)
        finally:
            self._journal.sync()
        measure_derived(self.tally, self._suite.measured_by)
        if report is not None:
            report(self._progress(time.monotonic() - began))
        if len(self.done) == self.total:
            return "finished"
        return "budget" if self._is_spent() else ended

    def _work(self) -> Iterator[Work]:
        order = list(range(len(self._suite.cases)))
        if self._suite.spec.run.stop_early:
            # The first cases must be a sample of all, or stopping at them says something of the order of the file.
            random.Random(self._suite.spec.run.seed).shuffle(order)  # noqa: S311 - sampling, no secret
        for repeat in range(self._suite.spec.repeats):
            for at in order:
                case = self._suite.cases[at]
                if (case.id, repeat) not in self.done and not self._is_spent():
                    yield Work(case, self._digests[at], repeat, case.id in self._suite.sealed_ids)

    def _is_spent(self) -> bool:
        most = self._suite.spec.run.max_cost_usd
        return most is not None and self.cost_nano >= most * 1e9

    def _next_look(self) -> int:
        return len(self.done) + max(20, self.total // 50)

    def is_clear(self) -> bool:
        """Whether the gate's answer would stay the same however the rest comes out, as far as tests can tell."""
        gate = self._suite.spec.gate
        if gate is None or any(rule.needs_baseline for rule in gate.rules):
            return False
        measure_derived(self.tally, self._suite.measured_by)
        seen = [self.tally.cases[case] for case in self.tally.done_cases()]
        decision = decide(gate, measured_of(self.tally, self._suite.measured_by), seen, looks_often=True)
        return decision.verdict != "not_enough_evidence"

    def _progress(self, seconds: float) -> Progress:
        means = {
            name: math.fsum(map(math.fsum, values.values.values())) / count
            for name, values in self.tally.metrics.items()
            if (count := sum(map(len, values.values.values())))
        }
        return Progress(len(self.done), self.total, self.failed, self.cost_nano, seconds, means)


def measured_of(tally: Tally, measured_by: Sequence[MeasuredBy]) -> dict[str, Measured]:
    """A run's metrics as a gate looks at them."""
    found = {
        each.label: Measured(each.label, each.metric.scale, each.metric.better, tally.metrics[each.label])
        for each in measured_by
    }
    return {"failed": Measured("failed", "binary", "lower", tally.metrics["failed"]), **found}
