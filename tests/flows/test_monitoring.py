"""Answers that people were given: sampled, scored under a budget, watched for drift; canaries, nights, coverage."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest
import yaml

import interlock.testing.postgres
from interlock.app import open_app
from interlock.core.clock import now
from interlock.core.context import EndUser, Principal, Role
from interlock.core.errors import Forbidden, InvalidInput, NotFound
from interlock.core.ids import PrincipalId, TenantId, new_trace_id
from interlock.core.messages import ChatRequest, text_message
from interlock.evals.monitoring.types import Content, MonitorSpec, Sample
from interlock.flows.coverage import coverage, propose, suites_of
from interlock.flows.erasures import Erasure, erase
from interlock.flows.generation import accepted_cases
from interlock.flows.ingest import KIND, enqueue_ingest, run_ingest
from interlock.flows.monitor_files import MonitorFiles
from interlock.flows.monitor_views import summary
from interlock.flows.monitoring import Pass, ask_canaries, look, look_at_due, nights_due, score_samples
from interlock.testing.postgres import fresh_database
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.wires import OpenAIWire
from interlock.testing.workspaces import write_workspace

postgres_server = interlock.testing.postgres.postgres_server
pytestmark = pytest.mark.model
DOCUMENTS = {"returns.md": "# Returns\n\nCustomers may return hardware within 30 days of delivery.\n"}
SCRIPT = [
    {"match": "sky", "reply": "The sky is blue."},
    {"match": "hardware", "reply": "Customers may return hardware within 30 days of delivery [1]."},
    {"reply": "You said: {question}."},
]
WATCHED = {"share": 1.0, "metrics": [{"metric": "contains", "name": "polite", "options": {"none": ["sorry"]}}]}


@pytest.fixture
def workspace(tmp_path, models_dir):
    def make(*, monitor=None, script=None, stores=None):
        route = {"targets": ["scripted/m"], "retries": 0}
        return write_workspace(
            tmp_path / "w",
            settings={
                "models_dir": str(models_dir),
                **({"stores": stores} if stores else {}),
                "gateway": {"providers": {"scripted": {"kind": "scripted", "script": script or SCRIPT}}},
                "cost": {"prices": {"scripted/*": {"input_per_million": "1", "output_per_million": "2"}}},
            },
            apps={
                "talker": {"route": route, "monitor": monitor or WATCHED},
                "helper": {"route": route, "knowledge": {"collection": "docs"}, "monitor": monitor or WATCHED},
                "quiet": {"route": route},
            },
            documents=DOCUMENTS,
        )

    return make


def service(app, user=""):
    ctx = replace(app.owner(), principal=Principal(PrincipalId("svc"), "service", frozenset()), trace_id=new_trace_id())
    return ctx.on_behalf_of(EndUser(user)) if user else ctx


async def say(app, name, *texts, ctx=None):
    ctx = ctx or service(app)
    release = await app.resolve(ctx, f"app/{name}")
    roles = ["user", "assistant"] * len(texts)
    request = ChatRequest(f"app/{name}", tuple(text_message(r, t) for r, t in zip(roles, texts, strict=False)))
    async with aclosing(app.chat(ctx, request, release)) as events:
        async for _ in events:
            pass
    await app.parts.sampling.drain()
    return ctx


async def ingest(app):
    job = await enqueue_ingest(app.parts, app.owner(), "docs")
    claimed = await app.parts.jobs.claim("test", [KIND], lease_s=60, job=job.id)
    await run_ingest(app.parts, app.owner(), claimed, app.source_spec("docs"))


async def samples(app, name):
    return await app.parts.monitors.samples(app.owner(), name)


async def put(app, name, texts, *, answer="Fine.", days_ago=0.0):
    """Samples as production left them."""
    for number, text in enumerate(texts):
        content = Content([{"role": "user", "content": text}], {"text": answer})
        at = now() - timedelta(days=days_ago, seconds=len(texts) - number)
        one = Sample(new_trace_id(), name, "sha256:r1", at, content, None, None)
        assert await app.parts.monitors.take(app.owner(), one, most_per_day=100_000)


async def test_production_answers_are_sampled_with_what_they_rest_on_and_nothing_else_is(workspace):
    async with open_app(workspace()) as app:
        await ingest(app)
        first = await say(app, "talker", "what colour has the sky?", ctx=service(app, "ada"))
        await say(app, "helper", "hello", "Hello.", "how long may hardware be returned?")
        await say(app, "talker", "at this machine", ctx=app.owner())
        await say(app, "talker", "kept nowhere", ctx=replace(service(app), cache="no-store"))
        await say(app, "quiet", "nobody watches this")
        (one,) = await samples(app, "talker")
        assert (one.id, one.asker, one.content.output["text"]) == (first.trace_id, "ada", "The sky is blue.")
        assert one.content.output["cost_nano"] > 0
        (cited,) = await samples(app, "helper")
        assert [turn["role"] for turn in cited.content.turns] == ["user", "assistant", "user"]
        assert cited.content.output["found"][0]["source"] == "returns.md"
        assert cited.documents
        assert await samples(app, "quiet") == []
        with pytest.raises(Forbidden):
            await app.parts.monitors.samples(service(app), "talker")
        other = replace(app.owner(), tenant=TenantId("other"))
        assert await app.parts.monitors.samples(other, "talker") == []


async def test_a_share_is_drawn_and_a_day_has_a_bound(workspace):
    async with open_app(workspace(monitor={**WATCHED, "share": 0.3})) as app:
        for number in range(60):
            await say(app, "talker", f"question {number}")
        assert 6 <= len(await samples(app, "talker")) <= 32
    async with open_app(workspace(monitor={**WATCHED, "most_per_day": 5})) as app:
        before = len(await samples(app, "helper"))
        assert before == 0
        await ingest(app)
        for number in range(8):
            await say(app, "helper", f"how long may hardware {number} be returned?")
        assert len(await samples(app, "helper")) == 5


async def test_samples_are_scored_by_release_and_their_text_goes_when_asked(workspace):
    async with open_app(workspace(monitor={**WATCHED, "keep_days": 0})) as app:
        await say(app, "talker", "what colour has the sky?")
        await say(app, "talker", "say sorry")
        done = await look(app.parts, app.owner(), "talker", app.parts.sampling.spec_of("talker"))
        assert (done.scored, done.waiting, done.failed) == (2, 0, 0)
        told = await summary(app.parts, app.owner(), "talker", days=1)
        (release,) = told["releases"]
        assert release["scores"] == {"polite": {"mean": 0.5, "count": 2}}
        assert [one.content for one in await samples(app, "talker")] == [None, None]
        again = await look(app.parts, app.owner(), "talker", app.parts.sampling.spec_of("talker"))
        assert again.scored == 0


async def test_text_goes_at_its_age_whether_it_was_scored_or_not_and_when_nothing_is_watched_any_more(workspace):
    async with open_app(workspace(monitor={**WATCHED, "keep_days": 2})) as app:
        ctx, files = app.owner(), MonitorFiles(app.workspace.root / "apps")
        await put(app, "talker", ["scored and old"], days_ago=4)
        await look(app.parts, ctx, "talker", app.parts.sampling.spec_of("talker"))
        await put(app, "talker", ["never scored and old"], days_ago=4)
        await put(app, "talker", ["young"], days_ago=0.5)
        await put(app, "gone", ["of an app that is not there any more"], days_ago=30)
        await put(app, "quiet", ["nothing is sampled here any more"], days_ago=30)
        await put(app, "talker", ["a year ago"], days_ago=500)
        await look_at_due(app.parts, ctx, files)
        left = [one for one in await samples(app, "talker") if one.content is not None]
        assert [one.content.turns[-1]["content"] for one in left] == ["young"]
        assert len(await samples(app, "talker")) == 3, "after a year nothing is left of it"
        for name in ("gone", "quiet"):
            assert [one.content for one in await samples(app, name)] == [None]


@pytest.mark.postgres
async def test_samples_states_and_alerts_live_in_postgresql_too(workspace, postgres_server):
    monitor = {**WATCHED, "reference": 50, "false_alarm_every": 1000}
    root = workspace(monitor=monitor, stores={"sql": fresh_database(postgres_server)})
    async with open_app(root) as app:
        ctx, spec = app.owner(), app.parts.sampling.spec_of("talker")
        assert app.sql.dialect == "postgresql"
        await say(app, "talker", "what colour\x00 has the sky?")
        await put(app, "talker", [f"old question {n}" for n in range(60)])
        assert (await look(app.parts, ctx, "talker", spec)).scored == 61
        await put(app, "talker", [f"new question {n}" for n in range(30)], answer="I am sorry.")
        (alert,) = (await look(app.parts, ctx, "talker", spec)).alerts
        assert [a.id for a in await app.parts.monitors.alerts(ctx)] == [alert.id]
        assert await app.parts.monitors.forget(ctx, [], "nobody") == 0
        await look_at_due(app.parts, ctx, MonitorFiles(root / "apps"))


async def test_callers_of_other_tenants_are_not_sampled(workspace):
    async with open_app(workspace()) as app:
        rival = replace(service(app), tenant=TenantId("rival"))
        await say(app, "talker", "what colour has the sky?", ctx=rival)
        assert await app.parts.monitors.samples(replace(app.owner(), tenant=TenantId("rival")), "talker") == []


async def test_scoring_ends_at_the_budget_of_the_day(workspace):
    verdict = json.dumps({"reason": "so", "points": 5})
    script = [{"match": "(?s)answer .*/answer", "reply": verdict}, *SCRIPT]
    monitor = {
        "share": 1.0,
        "judge": "scripted/m",
        "budget_usd_per_day": 0.0003,
        "metrics": [{"metric": "judge", "options": {"judge": {"criteria": "Is it polite?"}}}],
    }
    async with open_app(workspace(monitor=monitor, script=script)) as app:
        for number in range(6):
            await say(app, "talker", f"question {number}")
        spec = app.parts.sampling.spec_of("talker")
        done = await look(app.parts, app.owner(), "talker", spec)
        assert done.failed == 0
        assert 1 <= done.scored < 6 and done.waiting == 6 - done.scored
        assert 0.0003 <= done.spent_nano / 1e9 < 0.0006
        again = await look(app.parts, app.owner(), "talker", spec)
        assert (again.scored, again.spent_nano) == (0, 0)


async def test_worse_answers_raise_an_alert_with_their_traces(workspace):
    monitor = {**WATCHED, "reference": 50, "false_alarm_every": 1000}
    async with open_app(workspace(monitor=monitor)) as app:
        ctx, spec = app.owner(), app.parts.sampling.spec_of("talker")
        await put(app, "talker", [f"old question {n}" for n in range(80)])
        assert (await look(app.parts, ctx, "talker", spec)).alerts == []
        await put(app, "talker", [f"new question {n}" for n in range(40)], answer="I am sorry.")
        done = await look(app.parts, ctx, "talker", spec)
        (alert,) = done.alerts
        assert (alert.kind, alert.subject, alert.release) == ("score_drift", "polite", "sha256:r1")
        assert alert.facts["usual"] == 1.0 and alert.facts["now"] < 0.9
        bad = {one.id for one in await samples(app, "talker") if one.content.output["text"] == "I am sorry."}
        assert alert.traces and set(alert.traces) <= bad, "what is opened first are the bad ones"
        assert [a.id for a in await app.parts.monitors.alerts(ctx, open_only=True)] == [alert.id]
        lines = await app.parts.governance.lines(ctx, limit=50)
        assert any(line.action == "monitor.alert" and line.subject == "talker" for line in lines)
        other = replace(ctx, tenant=TenantId("other"))
        assert await app.parts.monitors.alerts(other) == []
        with pytest.raises(NotFound):
            await app.parts.monitors.acknowledge(other, alert.id)
        reviewer = replace(ctx, principal=Principal(PrincipalId("rev"), "user", frozenset({Role.REVIEWER})))
        with pytest.raises(Forbidden):
            await app.parts.monitors.acknowledge(reviewer, alert.id)
        await app.parts.monitors.acknowledge(ctx, alert.id)
        assert await app.parts.monitors.alerts(ctx, open_only=True) == []
        # What changed stays changed: it is not told again and again.
        await put(app, "talker", [f"later question {n}" for n in range(40)], answer="I am sorry.")
        assert (await look(app.parts, ctx, "talker", spec)).alerts == []


async def test_two_workers_at_once_score_each_sample_once_and_the_detector_sees_all_of_them(workspace):
    async with open_app(workspace(monitor={**WATCHED, "reference": 50})) as app:
        ctx, spec = app.owner(), app.parts.sampling.spec_of("talker")
        await put(app, "talker", [f"question {n}" for n in range(130)])
        passes = await asyncio.gather(*(look(app.parts, ctx, "talker", spec) for _ in range(3)))
        assert sum(each.scored for each in passes) == 130
        state, _ = await app.parts.monitors.state(ctx, "talker", "scores:sha256:r1:polite")
        assert state["n"] == 80


PLACES = ["Leeds", "York", "Hull", "Bath", "Wells", "Ely", "Truro", "Ripon", "Derby", "Stoke"]
OLD = [f"how do I return a {thing} that I bought in {place}?" for thing in ("laptop", "screen") for place in PLACES]
NEW = [f"what salary does a {job} in {place} earn?" for job in ("nurse", "driver") for place in PLACES]


async def test_other_questions_raise_an_alert_once_two_windows_agree(workspace):
    monitor = {**WATCHED, "reference": 60, "window": 20}
    async with open_app(workspace(monitor=monitor)) as app:
        ctx, spec = app.owner(), app.parts.sampling.spec_of("talker")
        await put(app, "talker", OLD * 4)
        assert (await look(app.parts, ctx, "talker", spec)).alerts == []
        await put(app, "talker", NEW)
        assert (await look(app.parts, ctx, "talker", spec)).alerts == [], "one window may be a holiday"
        await put(app, "talker", NEW)
        done = await look(app.parts, ctx, "talker", spec)
        assert {alert.kind for alert in done.alerts} == {"input_drift", "intent_drift"}
        asked = {one.id: one.content.turns[-1]["content"] for one in await samples(app, "talker")}
        for alert in done.alerts:
            assert alert.traces and all("salary" in asked[trace] for trace in alert.traces)


async def test_canaries_catch_a_model_that_answers_otherwise(workspace):
    prompts = ["Name three colours.", "What is a haiku?", "Spell the word rhythm."]
    canaries = {"prompts": prompts, "rounds": 2}
    own = [{"match": p.split()[0], "reply": f"A settled answer about {p} It never changes."} for p in prompts]
    root = workspace(monitor={"canaries": canaries}, script=own)
    async with open_app(root) as app:
        spec = app.parts.sampling.spec_of("talker")
        for _ in range(8):
            done = await ask_canaries(app.parts, app.owner(), "talker", spec, spec.canaries)
            assert done.alerts == []
        assert len(await app.parts.cost.ledger(app.owner(), limit=500)) == 24, "each is billed"
        assert await samples(app, "talker") == []
    moved = [{"match": p.split()[0], "reply": "Zzz qqq xxx!"} for p in prompts]
    async with open_app(workspace(monitor={"canaries": canaries}, script=moved)) as app:
        alerts = []
        for _ in range(6):
            done = await ask_canaries(app.parts, app.owner(), "talker", spec, spec.canaries)
            alerts += done.alerts
        (alert,) = alerts
        assert alert.kind == "canary" and alert.subject == "m"
        assert alert.facts["usual"] == 0.0 and alert.facts["now"] > 0.3
        assert alert.traces


async def test_another_name_of_the_model_is_told_at_once(workspace):
    answered = OpenAIWire().answer(["Blue."])
    renamed = [piece.replace(b"gpt-4.1-mini-2025-04-14", b"gpt-4.1-mini-2026-01-31") for piece in answered]
    async with fake_upstream() as upstream:
        root = workspace(monitor={"canaries": {"prompts": ["What colour has the sky?"]}})
        settings = yaml.safe_load((root / "interlock.yaml").read_text())
        settings["gateway"]["providers"]["scripted"] = {
            "kind": "openai",
            "base_url": f"{upstream.url}/v1",
            "key": "env:PATH",
        }
        (root / "interlock.yaml").write_text(yaml.safe_dump(settings))
        async with open_app(root) as app:
            ctx, spec = app.owner(), app.parts.sampling.spec_of("talker")
            upstream.will(Reply(answered))
            for _ in range(3):
                assert (await ask_canaries(app.parts, ctx, "talker", spec, spec.canaries)).alerts == []
            upstream.will(Reply(renamed))
            (alert,) = (await ask_canaries(app.parts, ctx, "talker", spec, spec.canaries)).alerts
            assert (alert.kind, alert.facts["before"]) == ("model_name", "gpt-4.1-mini-2025-04-14")
            assert alert.facts["now"] == "gpt-4.1-mini-2026-01-31"
            assert (await ask_canaries(app.parts, ctx, "talker", spec, spec.canaries)).alerts == [], "told once"
            sent = upstream.requests[0].body
            assert sent["messages"] == [{"role": "user", "content": "What colour has the sky?"}]
            assert sent["temperature"] == 0.0


async def test_a_night_runs_each_suite_once_and_tells_when_its_gate_does_not_pass(workspace):
    root = workspace(monitor={"nightly": [{"suite": "evals/sky.suite.yaml", "at": "00:00"}]})
    place = root / "apps" / "talker" / "evals" / "sky.suite.yaml"
    place.parent.mkdir()
    cases = [{"id": f"c{n}", "input": f"what colour has the sky in year {n}?", "expected": "red"} for n in range(60)]
    gate = {"rules": [{"metric": "contains", "at_least": 0.9}]}
    place.write_text(yaml.safe_dump({"suite": "sky", "cases": cases, "metrics": ["contains"], "gate": gate}))
    async with open_app(root) as app:
        ctx, files = app.owner(), MonitorFiles(root / "apps")
        await nights_due(app.parts, ctx, files)
        assert await app.parts.monitors.alerts(ctx) == [], "the first night is the next one"
        state, version = await app.parts.monitors.state(ctx, "talker", "nightly:evals/sky.suite.yaml")
        yesterday = {"due": (now() - timedelta(days=2)).isoformat()}
        assert state and await app.parts.monitors.remember(
            ctx, "talker", "nightly:evals/sky.suite.yaml", yesterday, version=version
        )
        # Two workers at once: one of them runs it.
        await asyncio.gather(*(nights_due(app.parts, ctx, files) for _ in range(2)))
        alerts = [a for a in await app.parts.monitors.alerts(ctx) if a.app == "talker"]
        (alert,) = alerts
        assert (alert.kind, alert.facts["verdict"], alert.facts["cases"]) == ("nightly", "fail", 60)
        # A worker that dies in the night is told of the night after.
        state, version = await app.parts.monitors.state(ctx, "talker", "nightly:evals/sky.suite.yaml")
        assert state["ended"]
        await app.parts.monitors.remember(
            ctx, "talker", "nightly:evals/sky.suite.yaml", {**yesterday, "ended": False}, version=version
        )
        await nights_due(app.parts, ctx, files)
        told = [a.facts["verdict"] for a in await app.parts.monitors.alerts(ctx, app="talker")]
        assert sorted(told) == ["did not end", "fail", "fail"]
        place.write_text("suite: [")
        state, version = await app.parts.monitors.state(ctx, "talker", "nightly:evals/sky.suite.yaml")
        await app.parts.monitors.remember(ctx, "talker", "nightly:evals/sky.suite.yaml", yesterday, version=version)
        await nights_due(app.parts, ctx, files)
        newest = (await app.parts.monitors.alerts(ctx, app="talker"))[0]
        assert newest.facts["verdict"] == "could not be run", "a suite that cannot be run is none that passes"


async def test_erasing_a_person_or_a_document_reaches_samples(workspace):
    async with open_app(workspace()) as app:
        await ingest(app)
        await say(app, "talker", "what colour has the sky?", ctx=service(app, "ada"))
        await say(app, "helper", "how long may hardware be returned?")
        (cited,) = await samples(app, "helper")
        certificate = await erase(app.parts, app.owner(), Erasure("document", cited.documents[0]))
        assert certificate.content["removed"]["monitor_samples"] == 1
        assert certificate.content["complete"] and await samples(app, "helper") == []
        certificate = await erase(app.parts, app.owner(), Erasure("subject", "ada"))
        assert certificate.content["removed"]["monitor_samples"] == 1
        assert certificate.content["complete"] and await samples(app, "talker") == []


async def test_metrics_that_need_what_samples_lack_are_refused(workspace):
    monitor = {"share": 1.0, "metrics": ["exact", {"metric": "pass_at_k", "options": {"of": "exact", "k": 1}}]}
    async with open_app(workspace(monitor=monitor)) as app:
        await say(app, "talker", "what colour has the sky?")
        with pytest.raises(InvalidInput, match="several answers"):
            await score_samples(app.parts, app.owner(), "talker", app.parts.sampling.spec_of("talker"), Pass("talker"))
    with pytest.raises(ValueError, match="extra"):
        MonitorSpec.model_validate({"share": 1, "shares": 2})


async def test_a_metric_that_is_not_there_is_told_and_scores_nothing(workspace):
    async with open_app(workspace(monitor={"share": 1.0, "metrics": ["kindness"]})) as app:
        await say(app, "talker", "what colour has the sky?")
        await look_at_due(app.parts, app.owner(), MonitorFiles(app.workspace.root / "apps"))
        told = await summary(app.parts, app.owner(), "talker", days=1)
        assert told["waiting"] == 1 and "kindness" in told["fault"]


async def test_uncovered_intents_are_listed_and_proposed(workspace, tmp_path):
    root = workspace()
    place = root / "apps" / "talker" / "evals" / "returns.suite.yaml"
    place.parent.mkdir()
    cases = [
        {"id": "laptop", "input": "how do I return a laptop?"},
        {"id": "screen", "input": "how to return a screen?"},
    ]
    place.write_text(yaml.safe_dump({"suite": "returns", "cases": cases, "metrics": ["contains"]}))
    async with open_app(root) as app:
        ctx, suites = app.owner(), suites_of(place.parent.parent)
        with pytest.raises(NotFound, match="share"):
            await coverage(app.parts, ctx, "talker", suites=suites)
        await put(app, "talker", OLD * 2, days_ago=6)
        asked = [f"{text} write to bob{n}@example.com" for n, text in enumerate([*NEW, *NEW])]
        await put(app, "talker", [*OLD, *asked], answer="I am sorry, bob@example.com.")
        await look(app.parts, ctx, "talker", app.parts.sampling.spec_of("talker"))
        found = await coverage(app.parts, ctx, "talker", suites=suites)
        assert found.questions == 100
        by_kind = {("salary" in each.name): each for each in found.intents}
        pay, returns = by_kind[True], by_kind[False]
        assert not pay.covered and returns.covered and returns.nearest in {"laptop", "screen"}
        assert "salary" in found.intents[0].name, "what is not covered comes first"
        assert pay.drifting and pay.share_before == 0.0 and pay.share_now > 0.3
        assert pay.poor > 0, "its answers scored below a half"
        assert found.near_case == pytest.approx(0.6, abs=0.1)
        assert await propose(app.parts, ctx, found, "talk-cases", count=3) >= 1
        assert await propose(app.parts, ctx, found, "talk-cases", count=3) == 0
        (item, *_) = [each.item for each in await app.parts.reviews.items(ctx, "talk-cases")]
        await app.parts.reviews.decide(ctx, "talk-cases", item.id, "accept")
        _, (case,), stale = await accepted_cases(app.parts, ctx, "talk-cases")
        assert (case.provenance.kind, stale) == ("trace", 0)
        assert "salary" in case.question
        told = json.dumps(case.model_dump(mode="json")) + item.answer + item.question
        assert "example.com" not in told and "[email]" in told, "reviewers and suites are told no address"
        lines = tmp_path / "asked.jsonl"
        lines.write_text("".join(json.dumps({"input": text}) + "\n" for text in OLD))
        of_file = await coverage(app.parts, ctx, "talker", suites=suites, questions=lines)
        assert of_file.near_case > 0.9
        with pytest.raises(InvalidInput):
            await propose(app.parts, ctx, of_file, "talk-cases", count=1)
