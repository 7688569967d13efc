"""Who is told what: metrics are the operator's, models those that a caller may ask, and made-up names a count."""

from __future__ import annotations

from contextlib import asynccontextmanager

import httpx2

from interlock.access.keys import Keys
from interlock.app import open_app
from interlock.console.pages import build_routes
from interlock.core.context import Role
from interlock.core.ids import TenantId
from interlock.server.asgi import build_asgi
from interlock.testing.workspaces import write_workspace

SETTINGS = {
    "gateway": {
        "providers": {
            "good": {"kind": "scripted", "models": ["a", "b", "old"], "script": [{"reply": "a word or two"}]},
            "down": {"kind": "scripted", "models": ["x"], "script": [{"fail_status": 503}]},
        },
        "routes": {
            "any": {"targets": ["good/a", "good/b"]},
            "american": {"targets": ["good/a"]},
        },
        "approvals": {
            "good/a": {"regions": ["us"]},
            "good/b": {"regions": ["eu"]},
            "good/old": {"deprecated_on": "2020-01-01"},
        },
        "residency": {"rival": ["eu"]},
    },
}


@asynccontextmanager
async def house(tmp_path, address="127.0.0.1"):
    """A client factory over a running App: by key of a tenant, or local without one."""
    async with open_app(write_workspace(tmp_path / "w", settings=SETTINGS)) as app:
        transport = httpx2.ASGITransport(app=build_asgi(app, build_routes(app)), client=(address, 1))
        keys = Keys(app.sql)

        async def client(tenant="acme", roles=()):
            made = await keys.create(TenantId(tenant), name="k", roles=list(roles), by="test", expires_at=None)
            headers = {"authorization": f"Bearer {made.secret}"}
            return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)

        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as local:
            yield client, local


async def test_metrics_are_the_operator_s_of_the_installation(tmp_path):
    async with house(tmp_path) as (client, local):
        assert (await local.get("/metrics")).status_code == 200
        for tenant, roles, status in (
            ("acme", [], 403),
            ("acme", [Role.VIEWER], 403),
            ("acme", [Role.OPERATOR], 200),
            ("rival", [Role.ADMIN], 404),
        ):
            async with await client(tenant, roles) as caller:
                assert (await caller.get("/metrics")).status_code == status, (tenant, roles)


async def test_a_caller_is_listed_the_models_that_it_may_ask_for(tmp_path):
    async with house(tmp_path) as (client, _), await client() as here, await client("rival") as there:
        for caller, known, hidden in (
            (here, {"route/any", "route/american", "good/a", "good/b"}, {"good/old"}),
            (there, {"route/any", "good/b"}, {"route/american", "good/a", "good/old", "down/x"}),
        ):
            listed = {row["id"] for row in (await caller.get("/v1/models")).json()["data"]}
            assert known <= listed
            assert not hidden & listed
            for name in known:
                assert (await caller.get(f"/v1/models/{name}")).status_code == 200
            for name in hidden:
                refused = await caller.get(f"/v1/models/{name}")
                assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        google = await there.get("/v1beta/models")
        assert "good/a" not in google.text
        assert "good/b" in google.text


async def test_names_that_callers_make_up_are_a_count_for_the_operator(tmp_path):
    async with house(tmp_path) as (_, local):

        async def ask(model):
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
            return (await local.post("/v1/chat/completions", json=body)).status_code

        assert await ask("good/a") == 200
        for number in range(12):
            assert await ask(f"down/made-up-{number}") >= 500
        assert await ask("down/x") >= 500
        metrics = (await local.get("/metrics")).text
        page = (await local.get("/gateway")).text
        providers = (await local.get("/api/v1/providers")).json()["data"]
        assert "made-up" not in metrics + page + str(providers)
        assert 'interlock_target_requests_total{model="other",outcome="error",provider="down"}' in metrics
        assert "12 other names" in page
        assert {row["name"]: row["other_names"] for row in providers}["down"] == 12
        # What failed on every call says so.
        row = page[page.index("<b>down/x</b>") :]
        assert "100 %" in row[: row.index("</tr>")]
        assert "0 %" in page[page.index("<b>good/a</b>") :].split("</tr>")[0]
