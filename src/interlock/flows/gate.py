"""May this release go out? What its channel asks, what it has shown, and the runs that are still missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from anyio import to_thread

from interlock.core.context import Context
from interlock.core.errors import Conflict, InvalidInput, NotFound
from interlock.core.ids import ReleaseId
from interlock.evals.report import Report
from interlock.evals.running.journal import runs_in
from interlock.evals.running.runner import Progress
from interlock.evals.service import Evaluations, Options
from interlock.evals.suite import Suite, read_suite
from interlock.flows.evaluation_instruments import workspace_instruments
from interlock.flows.evaluation_targets import open_workspace_target
from interlock.flows.evidence import attach_report
from interlock.flows.parts import Parts
from interlock.flows.prompt_lint import attach_lint, lint_release
from interlock.flows.prompt_testing import AskRuns, Tested, attach_tests, demand_of_tests, run_prompt_tests
from interlock.prompts.testing import tests_path
from interlock.releases.promotion import Demand, EvidenceKind, PromotionPolicy
from interlock.releases.types import LIVE_CHANNEL

__all__ = ["Gate", "GateRuns", "Verdict", "ask_gate", "run_gate", "suites_in"]

Verdict = Literal["pass", "fail", "not_enough_evidence"]


@dataclass(frozen=True, slots=True)
class Gate:
    """What a channel says to a release."""

    app: str
    channel: str
    release: ReleaseId
    live: bool
    """It is what the files describe now, and may not be frozen yet."""
    demands: tuple[Demand, ...]
    by_rollout: bool
    """The channel moves to a new release only by a rollout."""
    reports: tuple[Report, ...] = ()
    """Of the runs made for it."""

    @property
    def verdict(self) -> Verdict:
        """`fail` where something speaks against it; `not_enough_evidence` where anything is still to show."""
        states = {each.state for each in self.demands}
        return "fail" if "failed" in states else "not_enough_evidence" if "open" in states else "pass"


@dataclass(frozen=True, slots=True)
class GateRuns:
    """How the runs of a gate are made."""

    folder: Path
    """Of the app's suites."""
    home: Path
    """Where runs are kept."""
    judge: str | None = None
    licences: Sequence[Path] = ()
    """Folders of judges' licences, besides ``judges`` beside the suites."""
    started: Callable[[str, str], None] | None = None
    """Told the suite and the release as each run begins."""
    progress: Callable[[Progress], None] | None = None


class _Place(NamedTuple):
    app: str
    channel: str


class _Named(NamedTuple):
    release: ReleaseId
    live: bool
    address: str
    """What evaluations call it."""


async def ask_gate(parts: Parts, ctx: Context, app: str, *, channel: str = "prod", release: str | None = None) -> Gate:
    """What a release has shown for a channel.

    Args:
        release: a frozen one; without it what the files describe now.

    Raises: NotFound, InvalidInput.
    """
    policy = parts.releases.policy(parts.releases.source(app, ctx).name, channel)
    return await _gate(parts, ctx, _Place(app, channel), await _named(parts, ctx, app, release), policy)


async def run_gate(
    parts: Parts, ctx: Context, app: str, runs: GateRuns, *, channel: str = "prod", release: str | None = None
) -> Gate:
    """Run the suites that the channel names on exactly that release, and the tests beside its prompt, attach what they
    find, and ask.

    Where the policy names none, every suite of the app that has a gate is run and asked for. Suites that compare are
    compared with the newest run on the release that the channel points at, which is made where there is none.

    Raises: NotFound: a suite that the policy names has no file; Conflict: the files changed meanwhile; what runs raise.
    """
    name = parts.releases.source(app, ctx).name
    named = await _named(parts, ctx, app, release)
    policy = parts.releases.policy(name, channel)
    suites = await to_thread.run_sync(suites_in, runs.folder)
    if not policy.evaluations and not policy.red_team:
        gated = sorted(known for known, suite in suites.items() if suite.spec.gate is not None)
        policy = policy.model_copy(update={"evaluations": gated})
    wanted = {
        **dict.fromkeys(policy.evaluations, "evaluation"),
        **dict.fromkeys(policy.red_team, "red_team"),
    }
    if missing := sorted(set(wanted) - set(suites)):
        raise NotFound(
            f"{app}@{channel} asks for the suite {missing[0]!r}, and no file of {runs.folder.name}/ is called so",
            param="evaluations",
            hint=f"write apps/{name}/evals/{missing[0]}.yaml with `suite: {missing[0]}`",
        )
    pointed = next((c.release for c in await parts.releases.channels(ctx, name) if c.name == channel), None)
    reports: list[Report] = []
    for suite_name, kind in wanted.items():
        runner = _Runner(parts, ctx, name, runs, pointed)
        report = await runner.run(suites[suite_name], named)
        asked: EvidenceKind = "red_team" if kind == "red_team" else "evaluation"
        if report.ended != "budget":
            await attach_report(parts, ctx, name, report, kind=asked)
        reports.append(report)
    if policy.lint is not None:
        whole = await parts.releases.pick(ctx, name, "live" if named.live else named.release)
        await attach_lint(parts, ctx, whole, await lint_release(parts, ctx, whole))
    tested = await _tested(parts, ctx, name, runs, named)
    found = await _gate(parts, ctx, _Place(name, channel), named, policy)
    if tested is None:
        return replace(found, reports=tuple(reports))
    if tested.report is not None:
        reports.append(tested.report)
    told = found.demands if policy.prompt_tests else (*found.demands, demand_of_tests(tested))
    return replace(found, demands=tuple(told), reports=tuple(reports))


async def _tested(parts: Parts, ctx: Context, app: str, runs: GateRuns, named: _Named) -> Tested | None:
    """The tests beside the app's prompt, run on exactly that release and kept as evidence; None without any."""
    release = await parts.releases.pick(ctx, app, named.release if not named.live else "live")
    known = await parts.prompts.list(ctx)
    place = next((each.place for each in known if app in each.place.apps), None)
    if place is None or not tests_path(place.path).exists():
        return None
    digest, asked = release.digests["prompt"], AskRuns(runs.home, judge=runs.judge, licences=runs.licences)
    tested = await run_prompt_tests(parts, ctx, place.name, asked, wanted=digest, target=named.address)
    await attach_tests(parts, ctx, app, named.release, tested)
    return tested


async def _named(parts: Parts, ctx: Context, app: str, release: str | None) -> _Named:
    if release in {None, "live", LIVE_CHANNEL}:
        live = parts.releases.live(parts.releases.source(app, ctx).name)
        return _Named(live.id, True, f"app/{live.app}@{live.channel}")
    found = await parts.releases.pick(ctx, app, release or "live")
    return _Named(found.id, False, f"release:{found.app}:{found.id}")


async def _gate(parts: Parts, ctx: Context, place: _Place, named: _Named, policy: PromotionPolicy) -> Gate:
    app, channel = place
    asked = await parts.releases.demands(ctx, app, channel, named.release, policy=policy)
    return Gate(app, channel, named.release, named.live, tuple(asked), policy.rollout)


def suites_in(folder: Path) -> dict[str, Suite]:
    """Suites of a folder by name. Raises: InvalidInput: one cannot be read, or two are called the same."""
    found: dict[str, Suite] = {}
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        suite = read_suite(file)
        if suite.name in found:
            raise InvalidInput(
                f"two suites are called {suite.name!r}", param="suite", hint=f"rename that of {file.name}"
            )
        found[suite.name] = suite
    return found


class _Runner:
    """Runs suites on releases of one app."""

    def __init__(self, parts: Parts, ctx: Context, app: str, runs: GateRuns, pointed: ReleaseId | None) -> None:
        self._parts = parts
        self._ctx = ctx
        self._app = app
        self._runs = runs
        self._pointed = pointed
        self._evaluations = Evaluations(runs.home)

    async def run(self, suite: Suite, named: _Named) -> Report:
        """The report. Raises: InvalidInput: the suite has no gate, or nothing to compare with."""
        gate = suite.spec.gate
        if gate is None:
            raise InvalidInput(
                f"the suite {suite.name!r} has no gate: its report decides nothing",
                param="gate",
                hint="give it `gate: {rules: [...]}`",
            )
        if not any(rule.needs_baseline for rule in gate.rules):
            return await self._one(suite, named, None)
        if self._pointed is not None:
            return await self._one(suite, named, await self._baseline(suite, self._pointed))
        # The first release of a channel has nothing to be compared with; what it can be held to it is held to.
        rules = [rule for rule in gate.rules if not rule.needs_baseline]
        if not rules:
            raise InvalidInput(
                f"the gate of {suite.name!r} only compares, and its channel points at no release yet",
                param="gate",
                hint="give it a threshold too, e.g. {metric: exact, at_least: 0.8}",
            )
        alone = gate.model_copy(update={"rules": rules})
        first = replace(suite, spec=suite.spec.model_copy(update={"gate": alone}))
        return await self._one(first, named, None, note="the channel points at no release: nothing was compared")

    async def _baseline(self, suite: Suite, release: ReleaseId) -> str:
        """The newest whole run of the suite on what the channel points at; made where there is none."""
        for folder, plan in await to_thread.run_sync(runs_in, self._runs.home):
            same = plan.suite == suite.name and plan.release == release and plan.cases_digest == suite.cases_digest
            if same and (folder / "values.json").exists():
                return plan.id
        whole = replace(suite, spec=suite.spec.model_copy(update={"gate": None}))
        serving = _Named(release, False, f"release:{self._app}:{release}")
        return (await self._one(whole, serving, None, note=f"baseline of {suite.name}")).id

    async def _one(self, suite: Suite, named: _Named, baseline: str | None, *, note: str = "") -> Report:
        if self._runs.started is not None:
            self._runs.started(suite.name, named.release)
        target = await open_workspace_target(self._parts, named.address, suite.cases)
        try:
            if target.release_id != named.release:
                raise Conflict(
                    "the app's files changed while its suites ran", param="release", hint="run the gate again"
                )
            instruments = workspace_instruments(
                self._parts, judge=self._runs.judge, folder=suite.folder, licences=self._runs.licences
            )
            instruments = replace(instruments, protected=target.protected)
            options = Options(
                # A gate says what is so now: behind the same release a provider may answer otherwise than yesterday.
                use_kept=False,
                baseline=baseline,
                note=note or "gate",
                report=self._runs.progress,
                tags=target.tags,
            )
            return await self._evaluations.run(suite, target, instruments, options)
        finally:
            await target.close()
