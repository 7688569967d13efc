"""Releases are compared on real traffic under a plan that nobody can change, and the verdict says how sure it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from interlock.app import App, open_app
from interlock.core.context import EndUser
from interlock.core.errors import Blocked, Conflict, InterlockError, InvalidInput
from interlock.core.messages import ChatRequest, text_message
from interlock.core.release import Release
from interlock.flows.app_files import validate_yaml
from interlock.flows.experiment import conclude, look_at, look_at_due, plan
from interlock.flows.release_views import experiment_view
from interlock.releases import experiment_store
from interlock.releases.experiments.types import Experiment, ExperimentSpec
from interlock.testing.workspaces import write_workspace

pytestmark = pytest.mark.anyio

SCRIPT = [
    # Terse answers fail on questions that end in 3 or 7, kind ones on those that end in 1, 3, 5, 7 or 9.
    {"match_system": "terse", "match": "[37]$", "fail_status": 500},
    {"match_system": "kind", "match": "[13579]$", "fail_status": 500},
    {"match": "", "reply": "It is {question}"},
]


@asynccontextmanager
async def workspace(folder: Path, **app: Any) -> AsyncIterator[App]:
    gateway = {
        "providers": {"scripted": {"kind": "scripted", "script": SCRIPT}},
        "detect": False,
        "breaker": {"failures": 1000},
    }
    write_workspace(
        folder,
        settings={"gateway": gateway},
        apps={"helper": {"route": {"targets": ["scripted/m"], "retries": 0}, **app}},
        prompt="Be kind.",
    )
    async with open_app(folder) as opened:
        yield opened


async def frozen(app: App, folder: Path, prompt: str) -> str:
    (folder / "apps" / "helper" / "prompt.md").write_text(prompt)
    return (await app.parts.releases.freeze(app.owner(), "helper")).id


async def serve(app: App, folder: Path, *prompts: str) -> list[str]:
    """Releases of some prompts; `prod` points at the first."""
    made = [await frozen(app, folder, prompt) for prompt in prompts]
    await app.parts.releases.point(app.owner(), "helper", "prod", made[0])
    return made


def spec(*releases: str, **more: Any) -> ExperimentSpec:
    names = ["control", "terse", "plain", "calm"]
    arms = [{"name": name, "release": release} for name, release in zip(names, releases, strict=False)]
    given: dict[str, Any] = {
        "name": "shorter",
        "app": "helper",
        "arms": arms,
        "primary": {"measure": "error", "effect": 0.2},
        "guardrails": [],
        "stops": [],
        "expected": {"level": 0.5, "units_per_day": 400},
    }
    return ExperimentSpec.model_validate({**given, **more})


async def begun(app: App, wanted: ExperimentSpec) -> Experiment:
    planned = await plan(app.parts, app.owner(), wanted)
    return await app.parts.releases.start_experiment(app.owner(), planned.id)


async def ask(app: App, n: int, *, user: str | None = None, groups: tuple[str, ...] = ()) -> Release:
    ctx = app.owner().on_behalf_of(EndUser(user or f"person-{n}", groups))
    release = await app.parts.releases.resolve(ctx, "app/helper")
    request = ChatRequest("app/helper", (text_message("user", f"question {n}"),))
    try:
        async with aclosing(app.chat(ctx, request, release)) as events:
            async for _ in events:
                pass
    except InterlockError:
        pass  # what the person met
    return release


async def test_a_better_release_wins_and_its_verdict_becomes_evidence(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        kind, terse = await serve(app, tmp_path, "Be kind.", "Be terse.")
        running = await begun(app, spec("", terse))
        served = [await ask(app, n) for n in range(500)]
        assert {release.id for release in served} == {kind, terse}
        decided = await look_at(app.parts, app.owner(), running)
        assert decided.state == "decided"
        assert decided.report is not None
        assert (decided.report.verdict, decided.report.winners) == ("winner", ("terse",))
        (check,) = [each for each in decided.report.comparisons if each.role == "primary"]
        assert check.verdict == "better"
        assert check.p is not None and check.p <= 0.04
        assert check.low < -0.3 < check.high < 0
        # Everybody stays where they were until people conclude.
        assert [(await ask(app, n)).id for n in range(20)] == [release.id for release in served[:20]]
        done = await conclude(app.parts, app.owner(), decided.id, "fewer errors: we roll it out")
        assert done.state == "concluded"
        assert {(await ask(app, n)).id for n in range(20)} == {kind}
        (shown,) = await app.parts.releases.evidence(app.owner(), "helper", terse)
        assert (shown.kind, shown.name, shown.verdict) == ("experiment", "shorter", "pass")
        report = json.loads(await app.parts.releases.report(app.owner(), "helper", terse, shown.digest))
        assert report["plan"]["digest"] == running.plan.digest
        assert [each["action"] for each in report["history"]] == ["plan", "start", "decide", "conclude"]
        (line,) = await app.parts.governance.lines(app.owner(), action="experiment.decide")
        assert line.details["verdict"] == "winner"
        assert "better" in str(line.details["primary.terse.error"])


async def test_releases_that_differ_in_nothing_are_said_to_be_within_the_margin(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        _, same = await serve(app, tmp_path, "Be kind.", "Be kind and calm.")
        running = await begun(app, spec("", same))
        for n in range(100):
            await ask(app, n)
        early = await look_at(app.parts, app.owner(), running)
        assert early.state == "running"
        assert early.report is not None
        assert early.report.verdict == "inconclusive"
        assert early.report.more_units > 0
        for n in range(100, 1500):
            await ask(app, n)
        later = await look_at(app.parts, app.owner(), early)
        assert later.report is not None
        assert later.report.verdict == "no_difference"


async def test_several_variants_are_judged_each_and_the_best_is_named(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        _, terse, plain, calm = await serve(app, tmp_path, "Be kind.", "Be terse.", "Be plain.", "Be kind, be calm.")
        running = await begun(app, spec("", terse, plain, calm))
        assert [round(arm.share, 4) for arm in running.plan.arms] == [0.25] * 4
        for n in range(1200):
            await ask(app, n)
        found = await look_at(app.parts, app.owner(), running)
        assert found.report is not None
        assert found.report.winners == ("plain", "terse")
        assert "which of them is best was not tested" in found.report.reason
        verdicts = {each.arm: each.verdict for each in found.report.comparisons if each.role == "primary"}
        assert verdicts["plain"] == verdicts["terse"] == "better"
        assert verdicts["calm"] in {"open", "same"}
        assert sum(each.units for each in found.report.counts) == 1200


async def test_what_was_not_planned_is_exploratory_and_decides_nothing(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        _, terse = await serve(app, tmp_path, "Be kind.", "Be terse.")
        running = await begun(app, spec("", terse, primary={"measure": "blocked", "effect": 0.05}))
        for n in range(400):
            await ask(app, n)
        found = await look_at(app.parts, app.owner(), running)
        assert found.report is not None
        error = next(each for each in found.report.comparisons if each.measure == "error")
        assert (error.role, error.verdict, error.p) == ("exploratory", "", None)
        assert error.high < 0, "it is plainly better in what nobody planned to look at"
        assert found.report.winners == ()


async def test_a_guardrail_that_is_proven_harmful_sends_everybody_back(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        terse, kind = await serve(app, tmp_path, "Be terse.", "Be kind.")
        wanted = spec(
            "",
            kind,
            primary={"measure": "latency", "effect": 0.2},
            guardrails=[{"measure": "error", "margin": 0.1}],
        )
        running = await begun(app, wanted)
        for n in range(500):
            await ask(app, n)
        found = await look_at(app.parts, app.owner(), running)
        assert found.state == "stopped"
        assert found.report is not None
        assert found.report.verdict == "harmful"
        assert "terse harms: error" in found.reason
        assert {(await ask(app, n)).id for n in range(20)} == {terse}


async def test_the_plan_is_frozen_and_a_changed_one_does_not_start(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        _, terse = await serve(app, tmp_path, "Be kind.", "Be terse.")
        first = await plan(app.parts, app.owner(), spec("", terse))
        again = await plan(app.parts, app.owner(), spec("", terse[7:19]))
        assert again.id == first.id, "the same plan, named otherwise"
        other = await plan(app.parts, app.owner(), spec("", terse, primary={"measure": "error", "effect": 0.1}))
        assert other.plan.digest != first.plan.digest
        assert other.plan.forecast.units > 3 * first.plan.forecast.units
        assert first.plan.forecast.days == pytest.approx(first.plan.forecast.units / 200)
        told = json.dumps(experiment_view(first))
        assert first.seed not in told

        def tamper(conn: sa.Connection) -> None:
            table = experiment_store.experiments
            stored = conn.execute(sa.select(table.c.plan).where(table.c.id == first.id)).scalar_one()
            stored["spec"]["primary"]["effect"] = 0.4
            conn.execute(table.update().where(table.c.id == first.id).values(plan=stored))

        await app.sql.write(tamper)
        with pytest.raises(Conflict, match="not the one that was frozen"):
            await app.parts.releases.start_experiment(app.owner(), first.id)


async def test_a_channel_serves_one_experiment_or_one_rollout(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        owner = app.owner()
        _, terse, plain = await serve(app, tmp_path, "Be kind.", "Be terse.", "Be plain.")
        waiting = await plan(app.parts, owner, spec("", plain))
        running = await begun(app, spec("", terse))
        with pytest.raises(Conflict, match="under the experiment"):
            await app.parts.releases.start_experiment(owner, waiting.id)
        with pytest.raises(Conflict, match="under the experiment"):
            await app.parts.releases.start_rollout(owner, "helper", "prod", terse)
        with pytest.raises(Conflict, match="under the experiment"):
            await app.parts.releases.point(owner, "helper", "prod", plain)
        with pytest.raises(Conflict, match="serves this release"):
            await app.parts.releases.retire(owner, "helper", terse, reason="no")
        with pytest.raises(Conflict, match="not looked at yet"):
            await conclude(app.parts, owner, running.id, "done")
        with pytest.raises(InvalidInput, match="say why"):
            await app.parts.releases.experiments.stop(owner, running.id, " ")
        await app.parts.releases.experiments.stop(owner, running.id, "we need the channel")
        with pytest.raises(Conflict, match="is stopped"):
            await app.parts.releases.start_experiment(owner, running.id)
        await app.parts.releases.point(owner, "helper", "prod", plain)
        with pytest.raises(Conflict, match="does not point at the control"):
            await app.parts.releases.start_experiment(owner, (await plan(app.parts, owner, spec(terse, plain))).id)
        with pytest.raises(InvalidInput, match="is the same release as control"):
            await plan(app.parts, owner, spec("", plain))


async def test_a_variant_has_to_have_shown_what_the_channel_asks(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        _, terse = await serve(app, tmp_path, "Be kind.", "Be terse.")
    file = tmp_path / "apps" / "helper" / "app.yaml"
    said = {"route": {"targets": ["scripted/m"]}, "channels": {"prod": {"sign_off": {"roles": ["risk"]}}}}
    file.write_text(json.dumps(said))
    async with open_app(tmp_path) as app:
        planned = await plan(app.parts, app.owner(), spec("", terse))
        with pytest.raises(Blocked, match="sign-off by risk"):
            await app.parts.releases.start_experiment(app.owner(), planned.id)


async def test_only_who_is_eligible_takes_part(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        kind, terse = await serve(app, tmp_path, "Be kind.", "Be terse.")
        await begun(app, spec("", terse, eligible={"groups": ["staff"]}, unit="user", traffic=50))
        outside = [await ask(app, n) for n in range(60)]
        assert {(each.id, each.assignment) for each in outside} == {(kind, None)}
        inside = [await ask(app, n, groups=("staff",)) for n in range(60)]
        arms = [each.assignment.arm if each.assignment else "" for each in inside]
        assert {"control", "terse", ""} == set(arms)
        assert 15 <= arms.count("") <= 45
        no_person = await app.parts.releases.resolve(app.owner(), "app/helper")
        assert no_person.assignment is None
        with pytest.raises(InvalidInput, match="other tenants"):
            await plan(app.parts, app.owner(), spec("", terse, eligible={"tenants": ["rival"]}))


async def test_units_that_do_not_fall_as_asked_break_it(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        kind, terse = await serve(app, tmp_path, "Be kind.", "Be terse.")
        running = await begun(app, spec("", terse))
        for n in range(900):
            ctx = app.owner().on_behalf_of(EndUser(f"person-{n}"))
            release = await app.parts.releases.resolve(ctx, "app/helper")
            # Half of what the variant should answer never arrives.
            if release.id == kind or n % 2:
                await ask(app, n)
        found = await look_at(app.parts, app.owner(), running)
        assert found.state == "broken"
        assert "not the 50 %, 50 % asked for" in found.reason
        assert {(await ask(app, n)).id for n in range(20)} == {kind}


async def test_after_its_time_the_verdict_is_what_it_is(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        _, same = await serve(app, tmp_path, "Be kind.", "Be kind and calm.")
        running = await begun(app, spec("", same, max_days=2))
        for n in range(120):
            await ask(app, n)
        begun_at = datetime.now(UTC) - timedelta(days=3)
        table = experiment_store.experiments
        await app.sql.write(lambda conn: conn.execute(table.update().values(started_at=begun_at)))
        assert await look_at_due(app.parts, app.owner()) <= 60
        found = await app.parts.releases.experiments.one(app.owner(), running.id)
        assert found.state == "decided"
        assert found.report is not None
        assert found.report.verdict == "inconclusive"
        assert found.reason.startswith("after 2 days")
        assert found.report.more_units > 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"arms": [{"name": "a"}, {"name": "a", "release": "12345678"}]}, "name of its own"),
        ({"arms": [{"name": "a"}, {"name": "b"}]}, "names its release"),
        ({"arms": [{"name": "a", "share": 1}, {"name": "b", "release": "12345678"}]}, "every arm has a share or none"),
        ({"guardrails": [{"measure": "error", "margin": 0.1}]}, "guardrails\n.*'error' is the primary one"),
        ({"guardrails": [{"measure": "cost", "margin": 0.1}] * 2}, "guardrails\n.*'cost' is guarded twice"),
        ({"expected": {"units_per_day": float("inf")}}, "expected.units_per_day\n.*finite"),
        ({"expected": {"spread": float("nan")}}, "expected.spread\n.*finite"),
        ({"stops": [{"measure": "error", "above": float("inf")}]}, "stops.0.above\n.*finite"),
        ({"primary": {"measure": "joy", "effect": 0.1}}, "primary.measure"),
        ({"alpha": {"primry": 0.1}}, "alpha.primry"),
    ],
)
def test_wrong_plans_name_the_field(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        spec("", "12345678", **wrong)


def test_errors_decide_without_a_guardrail_of_their_own(tmp_path: Path) -> None:
    said: dict[str, Any] = {
        "name": "oe",
        "app": "helper",
        "arms": [{"name": "a"}, {"name": "b", "release": "12345678"}],
        "primary": {"measure": "error", "effect": 0.1},
    }
    assert ExperimentSpec.model_validate(said).guardrails == []
    other = ExperimentSpec.model_validate({**said, "primary": {"measure": "cost", "effect": 0.1}})
    assert [each.measure for each in other.guardrails] == ["error"]


def test_a_wrong_plan_is_named_with_its_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = "name: oe\napp: helper\narms: [{name: a}, {name: b, release: '12345678'}]\n"
    Path("oe.yaml").write_text(
        plan + "primary: {measure: error, effect: 0.1}\nguardrails: [{measure: error, margin: 0.1}]\n", "utf-8"
    )
    with pytest.raises(
        InvalidInput, match=r"^oe\.yaml is wrong at 'guardrails': .*'error' is the primary one"
    ) as found:
        validate_yaml(Path("oe.yaml"), ExperimentSpec)
    assert found.value.param == "guardrails"
    Path("oe.yaml").write_text(
        plan + "primary: {measure: cost, effect: 0.1}\nexpected: {units_per_day: .inf}\n", "utf-8"
    )
    with pytest.raises(InvalidInput, match=r"^oe\.yaml is wrong at 'expected\.units_per_day'"):
        validate_yaml(Path("oe.yaml"), ExperimentSpec)
