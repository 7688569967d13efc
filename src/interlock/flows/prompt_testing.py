"""Run the tests beside a prompt: render it, ask the app the cases, and say what is not as it has to be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from anyio import to_thread
from pydantic import ValidationError

from interlock.core.canonical import canonical_bytes, digest_bytes
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.core.ids import AppName, ReleaseId
from interlock.evals.ports import Better
from interlock.evals.report import Report
from interlock.evals.running.journal import find_run, read_rows
from interlock.evals.running.runner import Progress
from interlock.evals.service import Evaluations, Options
from interlock.evals.suite import Suite, SuiteSpec, suite_from
from interlock.flows.evaluation_instruments import workspace_instruments
from interlock.flows.evaluation_targets import open_workspace_target
from interlock.flows.parts import Parts
from interlock.flows.prompt_desk import Asked, pick_prompt, preview, spec_of
from interlock.prompts.testing import PromptTest, Rendered, TestResult, TestsFile, failures_of, read_tests, tests_path
from interlock.prompts.tokens import estimate_tokens
from interlock.prompts.types import PromptSpec
from interlock.releases.promotion import Demand, Evidence

__all__ = ["AskRuns", "Tested", "attach_tests", "demand_of_tests", "run_prompt_tests"]

_OWN = frozenset({"app", "at_least"})


@dataclass(frozen=True, slots=True)
class AskRuns:
    """How cases are asked."""

    home: Path
    """Where runs are kept."""
    judge: str | None = None
    licences: Sequence[Path] = ()
    ask: bool = True
    """False: only renderings are looked at."""
    progress: Callable[[Progress], None] | None = None


class Tested(NamedTuple):
    """What the tests of one prompt showed."""

    prompt: str
    digest: str
    results: tuple[TestResult, ...]
    report: Report | None = None
    """Of the cases that were asked."""

    @property
    def failed(self) -> int:
        """How many tests did not pass."""
        return sum(not each.passed for each in self.results)


async def run_prompt_tests(
    parts: Parts, ctx: Context, name: str, runs: AskRuns, *, wanted: str = "files", target: str | None = None
) -> Tested:
    """Run the tests beside a prompt.

    Args:
        wanted: a version, as `pick_prompt` takes it. Tests are those that lie there now.
        target: what cases are asked of; the app's files as they are, where it is left out.

    Raises: Forbidden; NotFound: no such prompt, no tests beside it, or none without a model where none is to be asked;
        InvalidInput naming the field of the tests.
    """
    place = await parts.prompts.place(ctx, name)
    file = tests_path(place.path)
    tests = await to_thread.run_sync(read_tests, file)
    if tests is None:
        at = parts.prompts.shelf().name(file)
        raise NotFound(f"{name!r} has no tests", param="prompt", hint=f"write {at}: see docs/how-to/prompts.md")
    if not tests.tests and not runs.ask:
        raise NotFound(f"{name!r} has no tests that ask no model", param="prompt", hint="leave out --no-ask")
    version = await pick_prompt(parts, ctx, name, wanted)
    results = [await _rendering(parts, ctx, name, spec_of(version), test) for test in tests.tests]
    report = None
    if tests.ask is not None and runs.ask:
        suite, least, app = _suite(tests, file, name, place.apps)
        if wanted != "files" and target is None:
            raise InvalidInput(
                "cases are asked of an app: of a version that no release holds only renderings are looked at",
                param="version",
                hint="--no-ask, or --release APP:ID",
            )
        report, asked = await _cases(parts, name, suite, runs, least=least, target=target or f"app/{app}@dev")
        results += asked
    return Tested(name, version.digest, tuple(results), report)


async def _rendering(parts: Parts, ctx: Context, name: str, spec: PromptSpec, test: PromptTest) -> TestResult:
    began = time.perf_counter()
    asked = Asked(test.variables, test.user, tuple(test.groups), test.question, test.model)
    expected = test.expect
    wrong: Sequence[str]
    try:
        made = await preview(parts, ctx, name, spec, asked)
    except InterlockError as error:
        variable = (error.param or "").removeprefix("interlock.variables.").partition(".")[0]
        waited = expected.refused in {error.code, variable}
        wrong = [] if waited else [f"cannot be rendered: {error.message}"]
    else:
        turns = sum(estimate_tokens(text) for turn in made.turns for text in turn.values())
        rendered = Rendered(made.system, made.variant, estimate_tokens(made.system) + turns, made.examples)
        wrong = failures_of(expected, rendered)
        if expected.refused is not None:
            wrong = [f"is taken, and {expected.refused!r} is to be refused"]
    return TestResult(name, test.name, "rendering", tuple(wrong), time.perf_counter() - began)


def _suite(tests: TestsFile, file: Path, name: str, apps: Sequence[str]) -> tuple[Suite, float, str]:
    assert tests.ask is not None, "asked for"
    given: dict[str, Any] = dict(tests.ask)  # Any: fields of a suite before validation
    app, least = given.pop("app", apps[0] if apps else None), given.pop("at_least", 1.0)
    if app not in apps:
        known = ", ".join(apps) or "none"
        raise InvalidInput(
            f"{file.name} asks an app that does not use the prompt", param="ask.app", hint=f"apps: {known}"
        )
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
        raise InvalidInput(f"{file.name}: at_least lies between 0 and 1", param="ask.at_least")
    named = f"{name.lower()[:50]}.prompt"
    try:
        spec = SuiteSpec.model_validate({"suite": named, "floors": False, **given})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(["ask", *(str(step) for step in fault["loc"] if step not in {"a file", "a case"})])
        raise InvalidInput(f"{file.name}: {field}: {fault['msg']}", param=field) from error
    suite = suite_from(spec, file.parent)
    if suite.spec.gate is None and not _judged(suite):
        raise InvalidInput(
            f"{file.name}: ask.metrics: none says what is right; seconds, tokens and dollars only stand in the report",
            param="ask.metrics",
            hint="add one between 0 and 1, as exact, or a gate: {rules: [{metric: latency, at_most: 2}]}",
        )
    return suite, float(least), str(app)


async def _cases(
    parts: Parts, name: str, suite: Suite, runs: AskRuns, *, least: float, target: str
) -> tuple[Report | None, list[TestResult]]:
    began = time.perf_counter()
    try:
        opened = await open_workspace_target(parts, target, suite.cases)
    except InvalidInput as error:
        if not (error.param or "").startswith("cases."):
            raise
        # A prompt that declares other variables than its cases give is what tests are to find.
        return None, [TestResult(name, "cases", "case", (error.message,))]
    try:
        instruments = workspace_instruments(parts, judge=runs.judge, folder=suite.folder, licences=runs.licences)
        instruments = replace(instruments, protected=opened.protected)
        evaluations = Evaluations(runs.home)
        options = Options(use_kept=False, note=f"tests of the prompt {name}", report=runs.progress, tags=opened.tags)
        report = await evaluations.run(suite, opened, instruments, options)
    finally:
        await opened.close()
    seconds = time.perf_counter() - began
    if report.gate is not None:
        passes = report.gate.verdict == "pass"
        told = () if passes else tuple(report.gate.reasons) or (report.gate.verdict.replace("_", " "),)
        return report, [TestResult(name, "gate of the cases", "gate", told, seconds)]
    wrong = await to_thread.run_sync(_wrong, suite, runs.home, report.id, least)
    each = seconds / max(1, len(suite.cases))
    return report, [
        TestResult(name, case.id, "case", tuple(wrong.get(case.id, ())), each)
        for case in suite.cases
        if case.id not in suite.sealed_ids
    ] + _sealed(name, suite, wrong)


def _sealed(name: str, suite: Suite, wrong: dict[str, list[str]]) -> list[TestResult]:
    """Cases whose rows are never shown, as one."""
    if not suite.sealed_ids:
        return []
    failed = sum(bool(wrong.get(case)) for case in suite.sealed_ids)
    told = (f"{failed} of {len(suite.sealed_ids)} did not pass",) if failed else ()
    return [TestResult(name, "sealed cases", "case", told)]


def _wrong(suite: Suite, home: Path, run: str, least: float) -> dict[str, list[str]]:
    """What each case lacks. Metrics without a best value (seconds, tokens, dollars) only stand in the report."""
    judged = _judged(suite)
    folder, _ = find_run(home, run)
    found: dict[str, list[str]] = {case.id: [] for case in suite.cases}
    asked, measured = set[str](), set[str]()
    for row in read_rows(folder):
        asked.add(row.case)
        if row.failed:
            found[row.case].append(f"no answer: {row.failed}")
            continue
        for label, better in judged.items():
            score = row.scores.get(label)
            if score is None or (score.value is None and not score.error):
                continue
            measured.add(row.case)
            if score.value is None:
                found[row.case].append(f"{label} could not be measured: {score.error}")
            elif (score.value if better == "higher" else 1 - score.value) < least:
                found[row.case].append(f"{label} is {score.value:.3g}" + (f": {score.reason}" if score.reason else ""))
    for case in suite.cases:
        if case.id not in asked:
            found[case.id].append("was not asked")
        elif case.id not in measured and not found[case.id]:
            found[case.id].append(f"nothing could be measured: no value of {', '.join(judged)}, is `expected` missing?")
    return found


def _judged(suite: Suite) -> dict[str, Better]:
    """Metrics with a best value, and where that is."""
    return {each.label: each.metric.better for each in suite.measured_by if each.metric.scale != "real"}


async def attach_tests(parts: Parts, ctx: Context, app: str, release: str, tested: Tested) -> Evidence:
    """Add what the tests showed to what is known of a release."""
    told = [{"name": each.name, "kind": each.kind, "failures": list(each.failures)} for each in tested.results]
    run = "" if tested.report is None else tested.report.id
    body = canonical_bytes({"release": release, "prompt": tested.digest, "run": run, "tests": told})
    first = next((each for each in tested.results if not each.passed), None)
    given = Evidence(
        digest=digest_bytes(body),
        app=AppName(parts.releases.source(app, ctx).name),
        release=ReleaseId(release),
        kind="prompt_tests",
        name=tested.prompt,
        verdict="fail" if tested.failed else "pass" if tested.results else "not_enough_evidence",
        by=ctx.principal.id,
        at=now(),
        note="" if first is None else f"{tested.failed} of {len(tested.results)} failed, first {first.name!r}"[:1000],
        summary={"tests": len(tested.results), "failed": tested.failed, **({"run": run} if run else {})},
    )
    await parts.releases.attach(ctx, given, body)
    return given


def demand_of_tests(tested: Tested) -> Demand:
    """What the tests say of a release whose channel does not ask for them by name."""
    first = next((each for each in tested.results if not each.passed), None)
    demand = f"tests of the prompt {tested.prompt!r}"
    if not tested.results:
        return Demand(demand, "open", "nothing was tested", f"interlock prompt test {tested.prompt}")
    if first is None:
        return Demand(demand, "met", f"{len(tested.results)} passed", "")
    why = f"{tested.failed} of {len(tested.results)} failed, first {first.name!r}"
    return Demand(demand, "failed", why, f"interlock prompt test {tested.prompt}")
