"""A small workspace: documents with permissions, an app that answers from them, an app that only chats."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from interlock.app import App, open_app
from interlock.core.context import EndUser
from interlock.core.errors import InterlockError
from interlock.core.messages import ChatRequest, text_message
from interlock.flows.ingest import KIND, enqueue_ingest, run_ingest
from interlock.testing.workspaces import write_workspace

DOCUMENTS = {
    "returns.md": "# Returns\n\nCustomers may return hardware within 30 days of delivery. "
    "The restocking fee is 10 percent of the price. A return starts in the console under Orders.\n",
    "pay/bands.md": "# Salary bands\n\nThe salary band of a senior engineer in Leeds is 61,000 to 78,000 pounds.\n",
}
PERMISSIONS = [
    {"match": "pay/**", "readers": ["group:finance"]},
    {"match": "**", "readers": ["public"]},
]
POLICY = {
    "max_input_chars": 2000,
    "rules": [
        {"id": "no-secrets", "detector": "secrets", "at": ["input"], "action": "block", "message": "No credentials."},
        {"id": "no-word", "detector": "patterns", "patterns": ["forbidden"], "at": ["output"], "action": "block"},
        {"id": "no-cards", "detector": "pii", "at": ["output"], "action": "redact"},
        {"id": "no-keys", "detector": "secrets", "at": ["output"], "action": "redact"},
    ],
}
CITED = "Customers may return hardware within 30 days of delivery [1]. "
SCRIPT = [
    {
        "match": "dies",
        "reply": "Half of an answer that goes on and on. And on.",
        "fail_status": 503,
        "fail_after_chunks": 3,
    },
    {"match": "cards", "reply": "Use 4111 1111 1111 1111 and ghp_" + "a" * 36 + ". Then go on."},
    {
        "match": "FORBIDDEN",
        "reply": "Customers may return hardware within 30 days of delivery. This is forbidden text. "
        "And more words come after it.",
    },
    {"match": "LONG", "reply": "A word. " * 2000, "chunk_chars": 8, "chunk_delay_s": 0.005},
    {"match": "hardware", "reply": CITED, "chunk_delay_s": 0.0},
    {"reply": "You said: {question}. Fine."},
]


def settings(script=None):
    return {
        "gateway": {
            "providers": {
                "scripted": {"kind": "scripted", "script": script or SCRIPT},
                "extractive": {"kind": "extractive"},
            }
        },
        "cost": {"prices": {"scripted/*": {"input_per_million": "1", "output_per_million": "2"}}},
    }


def apps(policy=None):
    route = {"targets": ["scripted"], "retries": 0}
    policy = policy or POLICY
    return {
        "helper": {"route": route, "knowledge": {"collection": "docs"}, "guardrails": policy},
        "talker": {"route": route, "guardrails": policy},
    }


@dataclass
class Outcome:
    """What one call left behind."""

    events: list
    error: InterlockError | None
    ledger: list
    audit: list
    root: object
    spans: list = field(default_factory=list)


@dataclass
class House:
    app: App

    @property
    def scripted(self):
        return self.app.parts.gateway.provider("scripted")

    def caller(self, user="ada", groups=()):
        return self.app.owner().on_behalf_of(EndUser(user, frozenset(groups)))

    async def call(self, app, question, *, leave_after=None, cancel=False, ctx=None):
        """Run one request to one of its endings, and look at everything it must have left behind."""
        ctx = ctx or self.caller()
        request = ChatRequest(f"app/{app}", (text_message("user", question),), stream=True)
        release = await self.app.resolve(ctx, request.model)
        events, error = [], None

        async def consume():
            async with aclosing(self.app.chat(ctx, request, release)) as stream:
                async for event in stream:
                    events.append(event)
                    if leave_after is not None and len(events) >= leave_after:
                        if cancel:
                            await asyncio.Event().wait()
                        return

        if cancel:
            task = asyncio.ensure_future(consume())
            while len(events) < leave_after:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            try:
                await consume()
            except InterlockError as caught:
                error = caught
        return await self.look(ctx, events, error)

    async def look(self, ctx, events, error):
        parts = self.app.parts
        await parts.governance.flush()
        lines = [line for line in await parts.governance.lines(ctx, limit=500) if line.trace_id == ctx.trace_id]
        spans = await parts.observe.trace(ctx, ctx.trace_id)
        roots = [span for span in spans if span.parent_id is None]
        assert len(roots) == 1
        ledger = list(await parts.cost.ledger(ctx, trace_id=ctx.trace_id))
        assert self.scripted.open_streams == 0
        return Outcome(events, error, ledger, lines, roots[0], spans)


@asynccontextmanager
async def open_house(folder, models_dir, **more):
    write_workspace(
        folder,
        settings={**settings(), "models_dir": str(models_dir), **more.pop("settings", {})},
        apps=more.pop("apps", apps()),
        documents=more.pop("documents", DOCUMENTS),
        permissions=PERMISSIONS,
        users={"ada": [], "fay": ["finance"]},
        **more,
    )
    async with open_app(folder) as app:
        owner = app.owner()
        await enqueue_ingest(app.parts, owner, "docs")
        job = await app.parts.jobs.claim("test", [KIND], lease_s=60)
        report = await run_ingest(app.parts, owner, job, app.source_spec("docs"))
        assert report.failed == ()
        yield House(app)


@pytest.fixture(scope="module")
async def house(tmp_path_factory, models_dir):
    async with open_house(tmp_path_factory.mktemp("flows") / "workspace", models_dir) as house:
        yield house
