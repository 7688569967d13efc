"""What people say of answers reaches the judgement of rollouts and experiments, and nobody speaks for another."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from interlock.app import App, open_app
from interlock.core.context import Context, EndUser, Principal, Role
from interlock.core.errors import NotFound
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.messages import ChatRequest, text_message
from interlock.flows.chat import Receipt
from interlock.flows.rollout import look_at
from interlock.releases.rollouts.types import RolloutSpec
from interlock.testing.workspaces import write_workspace

pytestmark = pytest.mark.anyio
SPEC = RolloutSpec.model_validate(
    {"steps": [50], "min_units": 40, "guardrails": [{"measure": "complaint", "margin": 0.1}], "stops": []}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    providers = {"scripted": {"kind": "scripted", "script": [{"reply": "It is {question}"}]}}
    return write_workspace(
        tmp_path,
        settings={"gateway": {"providers": providers, "detect": False}},
        apps={"helper": {"route": {"targets": ["scripted/m"]}}},
        prompt="Be kind.",
    )


async def frozen(app: App, folder: Path, prompt: str) -> str:
    (folder / "apps" / "helper" / "prompt.md").write_text(prompt)
    return (await app.parts.releases.freeze(app.owner(), "helper")).id


async def ask(app: App, n: int) -> tuple[Context, Receipt]:
    ctx = app.owner().on_behalf_of(EndUser(f"person-{n}"))
    release = await app.parts.releases.resolve(ctx, "app/helper")
    request = ChatRequest("app/helper", (text_message("user", f"question {n}"),))
    async with aclosing(app.chat(ctx, request, release)) as events:
        (receipt,) = [event async for event in events if isinstance(event, Receipt)]
    return ctx, receipt


async def test_complaints_roll_a_candidate_back_and_silence_proves_nothing(folder: Path) -> None:
    async with open_app(folder) as app:
        good, bad = [await frozen(app, folder, prompt) for prompt in ("Be kind.", "Be smug.")]
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
        rollout = await app.parts.releases.start_rollout(app.owner(), "helper", "prod", bad, spec=SPEC)
        answers = [await ask(app, n) for n in range(200)]
        silent = await look_at(app.parts, app.owner(), rollout)
        assert (silent.state, silent.checks) == ("canary", ())
        assert "complaint (not measured)" in silent.reason
        for ctx, receipt in answers:
            assert receipt.release is not None
            if receipt.release.id == bad:
                await app.parts.observe.say(ctx, receipt.trace_id, "down", "wrong")
        ctx, receipt = next(each for each in answers if each[1].release and each[1].release.id == good)
        # Said in anger, and taken back: the last word counts, and one answer is one complaint.
        for rating in ("down", "down", "up"):
            await app.parts.observe.say(ctx, receipt.trace_id, rating)
        judged = await look_at(app.parts, app.owner(), silent)
        assert judged.state == "rolled_back"
        (check,) = judged.checks
        assert (check.measure, check.candidate, check.control) == ("complaint", 1.0, 0.0)


async def test_only_who_asked_may_say_something_of_an_answer(folder: Path) -> None:
    async with open_app(folder) as app:
        ctx, receipt = await ask(app, 1)
        other = Principal(PrincipalId("other"), "service", frozenset({Role.ADMIN}))
        strangers = [
            app.owner(),
            app.owner().on_behalf_of(EndUser("person-2")),
            Context(ctx.tenant, other, end_user=EndUser("person-1"), sink=ctx.sink),
            Context(TenantId("rival"), ctx.principal, end_user=ctx.end_user, sink=ctx.sink),
        ]
        for stranger in strangers:
            with pytest.raises(NotFound):
                await app.parts.observe.say(stranger, receipt.trace_id, "down")
        with pytest.raises(NotFound):
            await app.parts.observe.say(ctx, receipt.trace_id[:12], "down")
        await app.parts.observe.say(ctx, receipt.trace_id, "up")
        spans = await app.parts.observe.trace(ctx, receipt.trace_id)
        (said,) = [span for span in spans if span.name == "feedback"]
        assert said.attributes["interlock.feedback"] == "up"
        assert said.parent_id is not None
