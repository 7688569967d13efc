"""Look at what people were answered: score samples under a budget, watch them for drift, ask canaries, run nights.

The worker looks at every app whose time has come. Several workers may: what is done once is claimed by the first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from anyio import to_thread

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.messages import ChatRequest, Finish, TextDelta, text_message
from interlock.evals.metrics._embedding import beginning
from interlock.evals.monitoring.types import Alert, CanarySpec, MonitorSpec, Sample
from interlock.evals.monitoring.watching import Finding, watch_inputs, watch_values
from interlock.evals.ports import Instruments, Metric
from interlock.evals.running.scoring import check_instruments, score_all
from interlock.evals.service import Options
from interlock.evals.suite import MeasuredBy, MetricUse, measured_by, read_suite
from interlock.evals.types import Case, Output, Turn
from interlock.flows.attempts import Operation, line
from interlock.flows.evaluation_instruments import workspace_instruments
from interlock.flows.evaluation_targets import open_workspace_target
from interlock.flows.metering import metered
from interlock.flows.monitor_files import MonitorFiles
from interlock.flows.parts import Parts
from interlock.gateway.types import RouteSpec

__all__ = ["Pass", "ask_canaries", "look", "look_at_due", "nights_due", "run_nightly", "score_samples"]

_log = logging.getLogger("interlock.monitor")
_CANARY = Operation("canary", "monitor.canary")
_TIDY_EVERY = timedelta(minutes=10)
_FEWEST_CANARIES = 20
"""Answers that say how much they differ by themselves: of fewer nothing could be told, however far others are off."""
_AT_ONCE = 100
_PASS_S = 300.0
"""A pass takes no longer: other apps wait for theirs."""
_TRIES = 5


@dataclass(slots=True)
class Pass:
    """What one look at an app did."""

    app: str
    scored: int = 0
    failed: int = 0
    waiting: int = 0
    """Left for later: the day's budget is spent, or there was no more time."""
    spent_nano: int = 0
    alerts: list[Alert] = field(default_factory=list)


async def look_at_due(parts: Parts, ctx: Context, files: MonitorFiles) -> list[Pass]:
    """Look at every app of the tenant whose time has come."""
    done: list[Pass] = []
    if await parts.monitors.claim(ctx, "", "tidy", every=_TIDY_EVERY):
        await parts.monitors.tidy(ctx, lambda app: files.of(app).keep_days)
    for source in parts.releases.apps(ctx):
        spec = files.of(source.name)
        try:
            if spec.share and await parts.monitors.claim(
                ctx, source.name, "pass", every=timedelta(minutes=spec.every_minutes)
            ):
                done.append(await look(parts, ctx, source.name, spec))
            if spec.canaries is not None and await parts.monitors.claim(
                ctx, source.name, "canary-turn", every=timedelta(minutes=spec.canaries.every_minutes)
            ):
                await ask_canaries(parts, ctx, source.name, spec, spec.canaries)
        except InterlockError as error:
            # The other apps are looked at all the same.
            _log.warning("monitor: %s cannot be looked at: %s", source.name, error.code)
    return done


async def nights_due(parts: Parts, ctx: Context, files: MonitorFiles) -> list[Pass]:
    """Run the suites of every app of the tenant whose hour has come. Takes as long as they do."""
    done: list[Pass] = []
    for source in parts.releases.apps(ctx):
        spec = files.of(source.name)
        try:
            if spec.nightly:
                done.append(await run_nightly(parts, ctx, source.name, spec, files.folder_of(source.name)))
        except InterlockError as error:
            _log.warning("monitor: the suites of %s cannot be run: %s", source.name, error.code)
    return done


async def look(parts: Parts, ctx: Context, app: str, spec: MonitorSpec) -> Pass:
    """Score what waits, and run the detectors over it."""
    done = Pass(app)
    scored = await score_samples(parts, ctx, app, spec, done)
    for sample_release in dict.fromkeys(sample.release for sample in scored):
        own = [sample for sample in scored if sample.release == sample_release]
        await _watch_scores(parts, ctx, spec, own, done)
    await _watch_questions(parts, ctx, spec, scored, done)
    return done


async def score_samples(parts: Parts, ctx: Context, app: str, spec: MonitorSpec, done: Pass) -> list[Sample]:
    """Score samples that wait, oldest first, until the day's budget is spent; gives those that this worker scored."""
    measures = measured_by(spec.metrics)
    for measure in measures:
        if not isinstance(measure.metric, Metric):
            raise InvalidInput(
                f"{measure.label!r} is made of several answers, and samples are single ones", param="monitor.metrics"
            )
    instruments = workspace_instruments(parts, judge=spec.judge)
    check_instruments(measures, instruments)
    spent = await parts.monitors.spent_today(ctx, app)
    scored: list[Sample] = []
    most = round(spec.budget_usd_per_day * 1e9)
    until = time.monotonic() + _PASS_S
    while waiting := await parts.monitors.waiting(ctx, app, limit=_AT_ONCE):
        for sample in waiting:
            if spent >= most or time.monotonic() > until:
                done.waiting = await parts.monitors.count_waiting(ctx, app)
                return scored
            found = await _scored(parts, sample, measures, instruments)
            if await parts.monitors.scored(ctx, found, keep=spec.keep_days > 0):
                scored.append(found)
                spent += found.cost_nano
                done.spent_nano += found.cost_nano
                done.scored += 1
                done.failed += bool(found.error)
    return scored


async def _scored(parts: Parts, sample: Sample, measures: Sequence[MeasuredBy], instruments: Instruments) -> Sample:
    assert sample.content is not None, "what waits has its text"
    output = msgspec.convert(sample.content.output, Output)
    case = case_of(sample, output)
    error = ""
    scores: dict[str, float] = {}
    cost = 0
    try:
        for name, score in (await score_all(case, output, measures, instruments)).items():
            cost += score.cost_nano
            if score.error:
                error = score.error
            elif score.value is not None:
                scores[name] = score.value
    except InterlockError as failure:
        error = failure.code
    vector = None
    try:
        embedder = parts.knowledge.embedder
        vector = (await embedder.embed([beginning(embedder, case.question)], "query"))[0].tolist()
    except InterlockError as failure:
        error = error or failure.code
    return replace(sample, scores=scores, vector=vector, error=error, cost_nano=cost)


def case_of(sample: Sample, output: Output) -> Case:
    """A sample as a case without a reference; what was found is what the answer has to keep to."""
    assert sample.content is not None, "asked for where there is text"
    turns = [Turn.model_validate(turn) for turn in sample.content.turns]
    return Case(
        id=sample.id,
        input=turns[0].content if len(turns) == 1 else turns,
        context=[found.text for found in output.found if found.text],
    )


async def _watch_scores(parts: Parts, ctx: Context, spec: MonitorSpec, samples: Sequence[Sample], done: Pass) -> None:
    """One detector a metric and release: what another release scores is no drift of this one."""
    release = samples[0].release
    for measure in measured_by(spec.metrics):
        if not isinstance(measure.metric, Metric) or measure.metric.scale == "real":
            continue
        label = measure.label
        values = [(one.id, one.scores[label]) for one in samples if one.scores and label in one.scores]
        worse: Literal["below", "above"] = "below" if measure.metric.better == "higher" else "above"
        watch = partial(watch_values, values=values, spec=spec, worse=worse, kind="score_drift", subject=label)

        def seen(state: dict[str, Any], watch: Any = watch) -> _Seen:  # Any: JSON values; a partial
            after, finding = watch(state)
            return _Seen(after, [finding] if finding else [])

        await _remembered(parts, ctx, done, f"scores:{release[-12:]}:{label}", seen, release=release)


async def _watch_questions(
    parts: Parts, ctx: Context, spec: MonitorSpec, samples: Sequence[Sample], done: Pass
) -> None:
    samples = [sample for sample in samples if sample.vector is not None]
    if not samples:
        # Without an embedder questions are not watched; their answers are scored all the same.
        return
    space = parts.knowledge.embedder.id

    def seen(state: dict[str, Any]) -> _Seen:  # Any: JSON values
        # Vectors of two embedders are not compared.
        state, findings = watch_inputs(state if state.get("space") == space else {}, samples, spec=spec)
        return _Seen({**state, "space": space}, findings)

    await _remembered(parts, ctx, done, "inputs", seen)


class _Seen(NamedTuple):
    """A detector after it has looked."""

    state: dict[str, Any]  # Any: JSON values
    findings: Sequence[Finding]


async def _remembered(
    parts: Parts,
    ctx: Context,
    done: Pass,
    name: str,
    look: Callable[[dict[str, Any]], _Seen],
    *,
    release: str = "",
) -> None:
    """Let a detector look from where it was, and raise what it finds; anew where another worker was first."""
    for _ in range(_TRIES):
        state, version = await parts.monitors.state(ctx, done.app, name)
        # Permutations take tenths of a second, and others are answered meanwhile.
        seen = await to_thread.run_sync(look, state)
        if await parts.monitors.remember(ctx, done.app, name, seen.state, version=version):
            await _raise(parts, ctx, done, seen.findings, release=release)
            return
    _log.warning("monitor: %s of %s was looked at elsewhere each time", name, done.app)


async def _raise(parts: Parts, ctx: Context, done: Pass, findings: Sequence[Finding], *, release: str) -> None:
    for each in findings:
        done.alerts.append(
            await parts.monitors.alarm(
                ctx, done.app, each.kind, each.subject, release=release, facts=each.facts, traces=each.traces
            )
        )


async def ask_canaries(parts: Parts, ctx: Context, app: str, spec: MonitorSpec, canaries: CanarySpec) -> Pass:
    """Ask the app's model the fixed prompts, past every cache, and compare with what it answered first.

    Raises: what a call of the gateway raises.
    """
    done = Pass(app)
    release = await parts.releases.resolve(ctx, f"app/{app}")
    route = RouteSpec.model_validate(release.components["route"], extra="ignore").model_copy(
        update={"cache": None, "shadow": None, "post": [], "degrade": [], "strategy": "fallback"}
    )
    # The first target alone: another one that steps in is no change of this one.
    route = route.model_copy(update={"targets": route.targets[:1]})
    instruments = workspace_instruments(parts)
    (measure,) = measured_by([MetricUse(metric=canaries.metric)])
    check_instruments([measure], instruments)
    name = "canaries"
    state, version = await parts.monitors.state(ctx, app, name)
    # Other prompts or another route are another test.
    own = {"prompts": list(canaries.prompts), "targets": list(route.targets), "metric": canaries.metric}
    if state.get("of") != own:
        state = {"of": own, "answers": {}, "watch": {}, "model": ""}
    values: list[tuple[str, float]] = []
    findings: list[Finding] = []
    answers = dict(state["answers"])
    for prompt in canaries.prompts:
        text, model, trace = await _canary(parts, app, route, prompt)
        if state["model"] and model != state["model"]:
            facts = {"before": state["model"], "now": model}
            findings.append(Finding("model_name", model[:200], facts, (trace,)))
            answers, values, state = {}, [], {**state, "watch": {}}
        state = {**state, "model": model}
        if prompt not in answers:
            answers[prompt] = text
            continue
        case = Case(id="canary", input=prompt, expected=answers[prompt] or "-")
        score = (await score_all(case, Output(text or "-"), [measure], instruments))[measure.label]
        if score.value is not None:
            values.append((trace, 1 - score.value))
    own_spec = spec.model_copy(update={"margin": canaries.margin})
    usual = max(_FEWEST_CANARIES, canaries.rounds * len(canaries.prompts))
    watch, finding = watch_values(
        state["watch"], values, spec=own_spec, worse="above", kind="canary", subject=state["model"][:200], usual=usual
    )
    if finding is not None:
        findings.append(finding)
        # What it answers now is what it will be compared with.
        answers = {}
    state = {**state, "answers": answers, "watch": watch}
    if await parts.monitors.remember(ctx, app, name, state, version=version):
        await _raise(parts, ctx, done, findings, release=release.id)
    return done


async def _canary(parts: Parts, app: str, route: RouteSpec, prompt: str) -> tuple[str, str, str]:
    """What the model says, which model says that it does, and the trace."""
    request = ChatRequest(f"app/{app}", (text_message("user", prompt),), max_output_tokens=300, temperature=0.0)
    written, model = "", ""
    owner = replace(parts.access.local_owner(), cache="no-store")
    async with line(parts, owner, _CANARY, f"app/{app}", {"purpose": "monitoring"}) as opened:
        async with aclosing(metered(parts.gateway, opened.bill, route, whole=True)(opened.ctx, request)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    written += event.text
                elif isinstance(event, Finish):
                    model = event.model or model
        trace = opened.ctx.trace_id
    return written, model, trace


async def run_nightly(parts: Parts, ctx: Context, app: str, spec: MonitorSpec, folder: Path) -> Pass:
    """Run the suites whose hour has come, each once a day; a gate that does not pass raises an alert."""
    done = Pass(app)
    for nightly in spec.nightly:
        at = now()
        hour, minute = (int(part) for part in nightly.at.split(":"))
        due = at.replace(hour=hour, minute=minute, second=0, microsecond=0)
        if at < due:
            due -= timedelta(days=1)
        name = f"nightly:{nightly.suite}"[:200]
        state, version = await parts.monitors.state(ctx, app, name)
        if not state:
            # The first night is the next one: a worker that starts at noon must not begin with last night's run.
            await parts.monitors.remember(ctx, app, name, {"due": due.isoformat(), "ended": True}, version=0)
            continue
        if datetime.fromisoformat(state["due"]) >= due:
            continue
        begun = {"due": due.isoformat(), "ended": False}
        if not await parts.monitors.remember(ctx, app, name, begun, version=version):
            continue
        if not state.get("ended", True):
            # Its worker died: nobody knows what it would have found.
            lost: dict[str, float | str | int] = {"verdict": "did not end", "due": state["due"]}
            done.alerts.append(await parts.monitors.alarm(ctx, app, "nightly", nightly.suite, facts=lost))
        facts, release = await _night(parts, app, folder / nightly.suite)
        await parts.monitors.remember(ctx, app, name, {**begun, "ended": True}, version=version + 1)
        if facts["verdict"] not in {"pass", ""}:
            done.alerts.append(
                await parts.monitors.alarm(ctx, app, "nightly", nightly.suite, release=release, facts=facts)
            )
    return done


async def _night(parts: Parts, app: str, place: Path) -> tuple[dict[str, float | str | int], str]:
    try:
        suite = read_suite(place)
        target = await open_workspace_target(parts, f"app/{app}", suite.cases)
        try:
            instruments = replace(workspace_instruments(parts, folder=suite.folder), protected=target.protected)
            options = Options(fresh=True, use_kept=False, note="nightly")
            report = await parts.evaluations.run(suite, target, instruments, options)
        finally:
            await target.close()
    except InterlockError as error:
        # A suite that cannot be run is no suite that passes.
        return {"verdict": "could not be run", "error": error.code}, ""
    verdict = "" if report.gate is None else str(report.gate.verdict)
    return {"verdict": verdict, "run": report.id, "cases": report.cases, "failed": report.failed}, report.release
