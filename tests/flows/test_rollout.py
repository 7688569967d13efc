"""A release that harms is found by real traffic and rolled back; one that does not is promoted; all of it is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from interlock.app import App, open_app
from interlock.core.context import Context, EndUser
from interlock.core.errors import Blocked, Conflict, InterlockError, InvalidInput
from interlock.core.messages import ChatRequest, text_message
from interlock.core.release import Release
from interlock.evals.ports import Instruments
from interlock.evals.service import Evaluations
from interlock.evals.suite import read_suite
from interlock.flows.evaluation_targets import open_workspace_target
from interlock.flows.evidence import attach_report
from interlock.flows.rollout import look_at
from interlock.releases.rollouts.types import Rollout, RolloutSpec
from interlock.testing.workspaces import write_workspace

pytestmark = pytest.mark.anyio

SCRIPT = [
    # A prompt that asks for short answers breaks on questions that end in 3 or 7: no case of the suite does.
    {"match_system": "terse", "match": "[37]$", "fail_status": 500},
    {"match_system": "rude", "reply": "no"},
    {"match": "", "reply": "It is {question}"},
]
SPEC = {"steps": [50], "min_units": 40, "guardrails": [{"measure": "error", "margin": 0.1}], "stops": []}


@asynccontextmanager
async def workspace(folder: Path, prompt: str = "Be kind.", **app: Any) -> AsyncIterator[App]:
    write_workspace(
        folder,
        settings={
            "gateway": {
                "providers": {"scripted": {"kind": "scripted", "script": SCRIPT}},
                "detect": False,
                # Hundreds of failures within a second would rest the target for both arms.
                "breaker": {"failures": 1000},
            }
        },
        apps={"helper": {"route": {"targets": ["scripted/m"]}, "rollout": SPEC, **app}},
        prompt=prompt,
    )
    async with open_app(folder) as opened:
        yield opened


async def frozen(app: App, folder: Path, prompt: str) -> str:
    (folder / "apps" / "helper" / "prompt.md").write_text(prompt)
    return (await app.parts.releases.freeze(app.owner(), "helper")).id


async def ask(app: App, user: str, question: str) -> Release:
    """One request of one person; a failure is the answer's, not the test's."""
    ctx: Context = app.owner().on_behalf_of(EndUser(user))
    release = await app.parts.releases.resolve(ctx, "app/helper")
    request = ChatRequest("app/helper", (text_message("user", question),))
    try:
        async with aclosing(app.chat(ctx, request, release)) as events:
            async for _ in events:
                pass
    except InterlockError:
        pass
    return release


async def traffic(app: App, people: range) -> list[Release]:
    return [await ask(app, f"person-{n}", f"question {n}") for n in people]


async def start(app: App, candidate: str, **spec: Any) -> Rollout:
    how = RolloutSpec.model_validate({**SPEC, **spec})
    return await app.parts.releases.start_rollout(app.owner(), "helper", "prod", candidate, spec=how)


async def test_a_harmful_release_is_rolled_back_by_what_its_users_met(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        good = await frozen(app, tmp_path, "Be kind.")
        bad = await frozen(app, tmp_path, "Be terse.")
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
        rollout = await start(app, bad)
        served = await traffic(app, range(400))
        assert {release.id for release in served} == {good, bad}
        moved = await look_at(app.parts, app.owner(), rollout)
        assert moved.state == "rolled_back"
        assert "error rose from 0.0% to" in moved.reason
        # The next request is served by the control, whoever asks.
        assert {release.id for release in await traffic(app, range(40))} == {good}
        history = await app.parts.releases.rollouts.history(app.owner(), rollout.id)
        assert [(each.action, each.by) for each in history] == [("start", "local"), ("roll_back", "rollout")]
        assert history[-1].checks[0].verdict == "harmful"
        lines = await app.parts.governance.lines(app.owner(), action="rollout.roll_back")
        assert [line.details["candidate"] for line in lines] == [bad]
        assert "harm" in str(lines[0].details["check.error"])


async def test_a_release_that_harms_nobody_is_promoted_on_proof(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        good = await frozen(app, tmp_path, "Be kind.")
        same = await frozen(app, tmp_path, "Be very kind.")
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
        rollout = await start(app, same, steps=[25, 50])
        await traffic(app, range(60))
        early = await look_at(app.parts, app.owner(), rollout)
        assert (early.state, early.step) == ("canary", 0), "too few units say nothing"
        await traffic(app, range(60, 400))
        second = await look_at(app.parts, app.owner(), early)
        assert (second.state, second.percent) == ("canary", 50)
        await traffic(app, range(400, 600))
        done = await look_at(app.parts, app.owner(), second)
        assert done.state == "promoted"
        assert {release.id for release in await traffic(app, range(20))} == {same}


async def test_a_unit_stays_where_it_is_and_a_larger_share_only_adds_units(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        good = await frozen(app, tmp_path, "Be kind.")
        other = await frozen(app, tmp_path, "Be very kind.")
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
        rollout = await start(app, other, steps=[10, 50], min_units=10)
        first = [release.id for release in await traffic(app, range(150))]
        again = [release.id for release in await traffic(app, range(150))]
        assert first == again
        assert 3 <= first.count(other) <= 32
        moved = await look_at(app.parts, app.owner(), rollout)
        assert moved.percent == 50
        later = [release.id for release in await traffic(app, range(150))]
        assert all(now == other for before, now in zip(first, later, strict=True) if before == other)
        assert 50 <= later.count(other) <= 100


async def evaluated(app: App, folder: Path, release: str) -> str:
    """Run the suite on a release, attach what it found, and say its verdict."""
    target = await open_workspace_target(app.parts, f"release:helper:{release}")
    report = await Evaluations(folder / "runs").run(read_suite(folder / "suite.yaml"), target, Instruments())
    return (await attach_report(app.parts, app.owner(), "helper", report)).verdict


async def test_the_gate_catches_a_bad_prompt_and_the_channel_refuses_it(tmp_path: Path) -> None:
    suite = {
        "suite": "kindness",
        "cases": [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(0, 60, 2)],
        "metrics": ["exact"],
        "gate": {"rules": [{"metric": "exact", "at_least": 0.9}]},
    }
    (tmp_path / "suite.yaml").write_text(json.dumps(suite))
    async with workspace(tmp_path, channels={"prod": {"evaluations": ["kindness"]}}) as app:
        owner = app.owner()
        good = await frozen(app, tmp_path, "Be kind.")
        with pytest.raises(Blocked, match="it was not run on this release"):
            await app.parts.releases.point(owner, "helper", "prod", good)
        assert await evaluated(app, tmp_path, good) == "pass"
        await app.parts.releases.point(owner, "helper", "prod", good)
        bad = await frozen(app, tmp_path, "Be rude.")
        assert await evaluated(app, tmp_path, bad) == "fail"
        with pytest.raises(Blocked, match="its gate says fail"):
            await start(app, bad)
        # One that slips past the gate is what the canary is for.
        sly = await frozen(app, tmp_path, "Be terse.")
        assert await evaluated(app, tmp_path, sly) == "pass"
        rollout = await start(app, sly)
        await traffic(app, range(400))
        assert (await look_at(app.parts, owner, rollout)).state == "rolled_back"
        evidence = await app.parts.releases.evidence(owner, "helper", bad)
        assert [(each.kind, each.name, each.verdict) for each in evidence] == [("evaluation", "kindness", "fail")]


async def test_what_people_decide_needs_a_reason_and_is_recorded(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        owner = app.owner()
        rollouts = app.parts.releases.rollouts
        good = await frozen(app, tmp_path, "Be kind.")
        other = await frozen(app, tmp_path, "Be very kind.")
        with pytest.raises(InvalidInput, match="points at no release"):
            await start(app, other)
        await app.parts.releases.point(owner, "helper", "prod", good)
        rollout = await start(app, other)
        with pytest.raises(Conflict, match="is not over"):
            await start(app, other)
        with pytest.raises(Conflict, match="is under the rollout"):
            await app.parts.releases.point(owner, "helper", "prod", other)
        with pytest.raises(InvalidInput, match="say why"):
            await rollouts.pause(owner, rollout.id, " ")
        paused = await rollouts.pause(owner, rollout.id, "the dashboard is down")
        await traffic(app, range(200))
        assert (await look_at(app.parts, owner, paused)).state == "paused"
        resumed = await rollouts.resume(owner, rollout.id, "it is back")
        assert resumed.state == "canary"
        await rollouts.roll_back(owner, rollout.id, "we changed our minds")
        with pytest.raises(Conflict, match="is over"):
            await rollouts.promote(owner, rollout.id, "oops")
        actions = [each.action for each in await rollouts.history(owner, rollout.id)]
        assert actions == ["start", "pause", "resume", "roll_back"]


async def test_two_workers_that_look_at_once_move_it_once(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        good = await frozen(app, tmp_path, "Be kind.")
        bad = await frozen(app, tmp_path, "Be terse.")
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
        rollout = await start(app, bad)
        await traffic(app, range(300))
        await look_at(app.parts, app.owner(), rollout)
        with pytest.raises(Conflict, match="was changed meanwhile"):
            await look_at(app.parts, app.owner(), rollout)


async def test_in_the_shadow_nobody_is_served_by_the_candidate_and_its_copies_are_judged(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        good = await frozen(app, tmp_path, "Be kind.")
        bad = await frozen(app, tmp_path, "Be terse.")
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
        rollout = await start(app, bad, shadow={"min_units": 40, "concurrency": 64})
        assert (rollout.state, rollout.percent) == ("shadow", 0)
        for n in range(120):
            assert (await ask(app, f"person-{n}", f"question {n}")).id == good
            await app.parts.shadowing.drain()
        judged = await look_at(app.parts, app.owner(), rollout)
        assert judged.state == "rolled_back"
        assert "error rose from 0.0%" in judged.reason
        lines = await app.parts.governance.lines(app.owner(), action="chat.shadow", limit=500)
        assert len(lines) == 120
        assert {line.actor for line in lines} == {rollout.id}


async def test_a_candidate_that_holds_in_the_shadow_goes_on_to_the_canary(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        good = await frozen(app, tmp_path, "Be kind.")
        same = await frozen(app, tmp_path, "Be very kind.")
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
        rollout = await start(app, same, shadow={"min_units": 20, "concurrency": 64})
        for n in range(30):
            await ask(app, f"person-{n}", f"question {n}")
            await app.parts.shadowing.drain()
        moved = await look_at(app.parts, app.owner(), rollout)
        assert (moved.state, moved.step, moved.percent) == ("canary", 0, 50)
        seen = await look_at(app.parts, app.owner(), moved)
        assert seen.reason.startswith("0 of 40 units"), "copies are no evidence of what people were served"


async def test_copies_keep_to_their_bounds(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        good = await frozen(app, tmp_path, "Be kind.")
        other = await frozen(app, tmp_path, "Be very kind.")
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
        await start(app, other, shadow={"max_per_hour": 5, "concurrency": 64})
        for n in range(20):
            await ask(app, f"person-{n}", "question 1")
        await app.parts.shadowing.drain()
        assert len(await app.parts.governance.lines(app.owner(), action="chat.shadow")) == 5
