"""Two ways of searching answer the same people, and the answers' citations say which of them finds more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from interlock.app import App, open_app
from interlock.core.context import EndUser
from interlock.core.errors import InvalidInput
from interlock.core.messages import ChatRequest, text_message
from interlock.flows.chat import ask
from interlock.flows.experiment import look_at, plan
from interlock.flows.ingest import KIND, enqueue_ingest, run_ingest
from interlock.releases.experiments.preferring import UnitPreference, prefer
from interlock.releases.experiments.types import Experiment, ExperimentSpec
from interlock.testing.workspaces import write_workspace

pytestmark = pytest.mark.anyio

BIRDS = ("heron", "stork", "crane", "egret", "ibis", "swift")
ANSWERS = {f"answers/{bird}.md": f"# The {bird}\n\nThe {bird} nests in hall {n}.\n" for n, bird in enumerate(BIRDS)}
NOISE = {
    f"noise/{n}.md": f"# Notes {n}\n\nSome hall was painted, and a {bird} was seen.\n"
    for n, bird in enumerate(BIRDS * 2)
}
LOUD = {"authority": {"field": "document.source", "values": {"noise/**": 1.0, "answers/**": 0.0}, "weight": 1.0}}


def app_file(steps: dict[str, Any] | None = None, **knowledge: Any) -> dict[str, Any]:
    return {
        "route": {"targets": ["scripted/m"]},
        "knowledge": {"collection": "docs", "search": "lexical", "limit": 2, "steps": steps or {}, **knowledge},
        "answer": {"strategy": "extractive", "min_answerability": 0.0},
    }


@asynccontextmanager
async def workspace(folder: Path, models_dir: Path) -> AsyncIterator[App]:
    write_workspace(
        folder,
        settings={
            "models_dir": str(models_dir),
            "gateway": {"providers": {"scripted": {"kind": "scripted", "script": [{"reply": "-"}]}}, "detect": False},
        },
        apps={"helper": app_file(LOUD)},
        documents=ANSWERS | NOISE,
    )
    async with open_app(folder) as app:
        job = await enqueue_ingest(app.parts, app.owner(), "docs")
        claimed = await app.parts.jobs.claim("test", [KIND], lease_s=60, job=job.id)
        await run_ingest(app.parts, app.owner(), claimed, app.source_spec("docs"))
        yield app


async def frozen(app: App, folder: Path, said: dict[str, Any], prompt: str = "") -> str:
    home = folder / "apps" / "helper"
    (home / "app.yaml").write_text(json.dumps(said))
    if prompt:
        (home / "prompt.md").write_text(prompt)
    return (await app.parts.releases.freeze(app.owner(), "helper")).id


def spec(variant: str, **more: Any) -> ExperimentSpec:
    given: dict[str, Any] = {
        "name": "quieter",
        "app": "helper",
        "kind": "interleave",
        "arms": [{"name": "loud"}, {"name": "quiet", "release": variant}],
        "primary": {"measure": "preference", "effect": 0.2},
        "min_units": 25,
    }
    return ExperimentSpec.model_validate({**given, **more})


async def test_the_search_that_finds_what_is_cited_wins(tmp_path: Path, models_dir: Path) -> None:
    async with workspace(tmp_path, models_dir) as app:
        owner = app.owner()
        loud = await frozen(app, tmp_path, app_file(LOUD))
        quiet = await frozen(app, tmp_path, app_file())
        await app.parts.releases.point(owner, "helper", "prod", loud)
        planned = await plan(app.parts, owner, spec(quiet))
        running = await app.parts.releases.start_experiment(owner, planned.id)
        for n in range(60):
            ctx = owner.on_behalf_of(EndUser(f"person-{n}"))
            release = await app.parts.releases.resolve(ctx, "app/helper")
            assert (release.id, release.assignment and release.assignment.arm) == (loud, "interleaved")
            question = f"Where does the {BIRDS[n % len(BIRDS)]} nest?"
            request = ChatRequest("app/helper", (text_message("user", question),))
            async with aclosing(ask(app.parts, ctx, request, release)) as events:
                async for _ in events:
                    pass
        found = await look_at(app.parts, owner, running)
        assert found.report is not None
        assert (found.state, found.report.verdict, found.report.winners) == ("decided", "winner", ("quiet",))
        (check,) = found.report.comparisons
        assert (check.measure, check.verdict, check.units) == ("preference", "better", (60, 60))
        assert check.value > 0.8
        assert check.control < 0.1
        assert "passages of quiet are cited more" in found.reason


async def test_releases_that_differ_in_more_than_their_search_are_not_interleaved(
    tmp_path: Path, models_dir: Path
) -> None:
    async with workspace(tmp_path, models_dir) as app:
        owner = app.owner()
        loud = await frozen(app, tmp_path, app_file(LOUD), "Answer.")
        other = await frozen(app, tmp_path, app_file(), "Answer kindly.")
        await app.parts.releases.point(owner, "helper", "prod", loud)
        with pytest.raises(InvalidInput, match="differ in prompt"):
            await plan(app.parts, owner, spec(other))
        elsewhere = await frozen(app, tmp_path, app_file(collection="other"), "Answer.")
        with pytest.raises(InvalidInput, match="same collection"):
            await plan(app.parts, owner, spec(elsewhere))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"primary": {"measure": "error", "effect": 0.1}}, "judged by the measure 'preference'"),
        ({"kind": "ab"}, "judged by the measure 'preference'"),
        ({"guardrails": [{"measure": "error", "margin": 0.1}]}, "without guardrails"),
        ({"arms": [{"name": n, "release": "12345678"} for n in "abc"]}, "two searches are interleaved"),
    ],
)
def test_wrong_plans_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        spec("12345678", **wrong)


async def test_preferences_are_judged_by_unit_and_in_both_directions(tmp_path: Path, models_dir: Path) -> None:
    async with workspace(tmp_path, models_dir) as app:
        loud = await frozen(app, tmp_path, app_file(LOUD))
        quiet = await frozen(app, tmp_path, app_file())
        await app.parts.releases.point(app.owner(), "helper", "prod", loud)
        planned: Experiment = await plan(app.parts, app.owner(), spec(quiet))
    few = [UnitPreference(f"u{n}", 5, 0.0, 1.0) for n in range(20)]
    assert prefer(planned.plan, few).verdict == "inconclusive"
    worse = [UnitPreference(f"u{n}", 5, 0.6, 0.2) for n in range(100)]
    assert prefer(planned.plan, worse).verdict == "worse"
    same = [UnitPreference(f"u{n}", 5, 0.5 * (n % 2), 0.5 * ((n + 1) % 2)) for n in range(800)]
    assert prefer(planned.plan, same).verdict == "no_difference"
    unclear = prefer(planned.plan, same[:40])
    assert (unclear.verdict, unclear.more_units > 0) == ("inconclusive", True)
