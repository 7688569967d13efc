"""Forgetting a person or a tenant: kept answers, stored responses, conversations, files and batches."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest

from interlock.app import open_app
from interlock.core.context import EndUser, Role
from interlock.core.ids import TenantId
from interlock.flows.batch import create_batch
from interlock.flows.erase import erase_kept
from interlock.server.asgi import build_asgi
from interlock.testing.workspaces import write_workspace
from interlock.worker.loop import limits_of, work_batches

ACME = TenantId("acme")


def workspace(folder, **script):
    route = {"targets": ["scripted"], "retries": 0, "cache": {"ttl_s": 600}}
    providers = {"scripted": {"kind": "scripted", "script": [{"reply": "You said: {question}", **script}]}}
    return write_workspace(folder / "w", settings={"gateway": {"providers": providers, "routes": {"kept": route}}})


class House:
    """An open workspace, asked over HTTP by two people and a key."""

    def __init__(self, app, http, key):
        self.app, self.http, self.key = app, http, key

    @classmethod
    async def of(cls, app, http):
        return cls(app, http, (await app.parts.access.create_key(app.owner(), name="k", roles=[], days=1)).secret)

    async def headers(self, user):
        headers = {"authorization": f"Bearer {self.key}"}
        if user:
            token = await self.app.parts.access.tokens.mint(ACME, user=user, groups=[])
            headers["x-interlock-on-behalf-of"] = token
        return headers

    async def cached(self, user):
        body = {"model": "route/kept", "messages": [{"role": "user", "content": "hi"}]}
        answer = await self.http.post("/v1/chat/completions", json=body, headers=await self.headers(user))
        return answer.headers["x-interlock-cache"]

    async def stored(self, user):
        """What a person stores: a response, a conversation, a file."""
        headers = await self.headers(user)
        post = self.http.post
        response = (await post("/v1/responses", json={"model": "scripted", "input": "hi"}, headers=headers)).json()
        items = [{"role": "user", "content": "hi"}]
        talk = (await post("/v1/conversations", json={"items": items}, headers=headers)).json()
        file = (await post("/v1/files", files={"file": ("a", b"x")}, data={"purpose": "batch"}, headers=headers)).json()
        return [f"/v1/responses/{response['id']}", f"/v1/conversations/{talk['id']}", f"/v1/files/{file['id']}"]

    async def there(self, user, paths):
        headers = await self.headers(user)
        return [(await self.http.get(path, headers=headers)).status_code == 200 for path in paths]


@pytest.fixture
async def house(tmp_path):
    async with open_app(workspace(tmp_path)) as app:
        transport = httpx2.ASGITransport(app=build_asgi(app), client=("127.0.0.1", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield await House.of(app, http)


async def test_a_person_is_forgotten_and_nobody_else(house):
    paths = {user: await house.stored(user) for user in ("ada", "bob", "")}
    for user in paths:
        assert [await house.cached(user), await house.cached(user)] == ["miss", "hit"]
    answer = (await house.http.delete("/api/v1/cache", params={"user": "ada"})).json()
    assert answer == {"purged": "user", "removed": 1, "stored": 3}
    assert await house.there("ada", paths["ada"]) == [False] * 3
    assert await house.cached("ada") == "miss"
    for user in ("bob", ""):
        assert await house.there(user, paths[user]) == [True] * 3
        assert await house.cached(user) == "hit"
    (line,) = (await house.http.get("/api/v1/audit", params={"action": "kept.erase"})).json()["data"]
    assert (line["subject"], line["details"], line["end_user"]) == ("user", {"answers": 1, "stored": 3}, "ada")


async def test_a_whole_tenant_is_forgotten_and_no_other(house):
    rival = (await house.app.parts.access.create_key(house.app.owner(), name="r", roles=[Role.ADMIN], days=1)).secret
    paths = {user: await house.stored(user) for user in ("ada", "")}
    other = house.app.owner()
    elsewhere = other.__class__(TenantId("rival"), other.principal)
    talk = await house.app.parts.conversations.create(elsewhere, [], {})
    assert (await house.http.delete("/api/v1/cache", params={"everything": "yes"})).status_code == 400
    mine = {"authorization": f"Bearer {house.key}"}
    assert (await house.http.delete("/api/v1/cache?everything=true", headers=mine)).status_code == 403
    done = await house.http.delete("/api/v1/cache?everything=true", headers={"authorization": f"Bearer {rival}"})
    assert done.json() == {"purged": "everything", "removed": 0, "stored": 6}
    for user, known in paths.items():
        assert await house.there(user, known) == [False] * 3
    assert (await house.app.parts.conversations.get(elsewhere, talk.id)).id == talk.id
    assert [digest async for digest in house.app.blobs.list(ACME)] == []


async def test_a_batch_of_a_forgotten_person_stops_and_leaves_nothing(tmp_path):
    async with open_app(workspace(tmp_path, first_delay_s=0.05)) as app:
        ctx = app.owner().on_behalf_of(EndUser("ada"))
        line = {
            "url": "/v1/chat/completions",
            "body": {"model": "scripted", "messages": [{"role": "user", "content": "x"}]},
        }
        data = "".join(json.dumps({**line, "custom_id": str(n)}) + "\n" for n in range(200)).encode()
        file = await app.parts.kept.keep_file(ctx, name="in", purpose="batch", data=data)
        batch = await create_batch(app.parts, ctx, limits_of(app), endpoint="/v1/chat/completions", input_file=file.id)
        worker = asyncio.ensure_future(work_batches(app, until_idle=True))
        while (await app.parts.kept.batch(ctx, batch.id)).completed < 3:
            await asyncio.sleep(0.02)
        assert (await erase_kept(app.parts, app.owner(), user="ada")).stored == 2
        await asyncio.wait_for(worker, 30)
        assert await app.parts.kept.finished_lines(batch) == set()
        (job,) = await app.parts.jobs.list(ACME)
        assert job.state == "cancelled"
