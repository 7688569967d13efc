from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.knowledge.connectors.servers import HttpWorld, serving

from interlock.testing.connectors import (
    SECRET,
    AttachmentConformance,
    ConnectorConformance,
    IncrementalConformance,
    ReadersConformance,
    ThrottleConformance,
    TokenConformance,
    desk,
)

__all__ = ["desk"]


@dataclass
class Jira(HttpWorld):
    """Both searches: Cloud's with page tokens, Data Center's with startAt; `updated >= "-Nm"` goes by its own clock."""

    issues: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)

    def routes(self):
        return [
            Route("/rest/api/2/serverInfo", self._info),
            Route("/rest/api/2/search/jql", self._cloud, methods=["POST"]),
            Route("/rest/api/2/search", self._server, methods=["POST"]),
            Route("/rest/api/2/issue/{key}/comment", self._comments),
            Route("/rest/api/2/attachment/content/{name}", self._file),
            Route("/signed/{name}", self._signed),
        ]

    async def _info(self, request):
        return JSONResponse({"deploymentType": "Cloud"})

    def _found(self, jql):
        assert jql.startswith("(project = BIRD)")
        assert jql.endswith("ORDER BY created ASC, key ASC")
        found = sorted(self.issues.values(), key=lambda one: one["key"])
        minutes = re.search(r'updated >= "-(\d+)m"', jql)
        if minutes is None:
            return found
        at = self.clock + timedelta(minutes=5) - timedelta(minutes=int(minutes[1]))
        return [one for one in found if datetime.fromisoformat(one["fields"]["updated"]) >= at]

    async def _cloud(self, request):
        body = await request.json()
        part, following = self.page(self._found(body["jql"]), int(body.get("nextPageToken", 0)), 3)
        answer = {"issues": part, "isLast": following is None}
        if following is not None:
            answer["nextPageToken"] = str(following)
        return JSONResponse(answer)

    async def _server(self, request):
        body = await request.json()
        found = self._found(body["jql"])
        part, _ = self.page(found, body["startAt"], 3)
        return JSONResponse({"issues": part, "total": len(found), "startAt": body["startAt"], "maxResults": 3})

    async def _comments(self, request):
        start = int(request.query_params["startAt"])
        found = [
            {"author": {"displayName": "Bob"}, "body": f"comment number{n}"} for n in range(start, min(start + 2, 5))
        ]
        return JSONResponse({"comments": found, "total": 5})

    async def _file(self, request):
        # The content lies behind a redirect, as in Cloud.
        return RedirectResponse(f"{self.url}/signed/{request.path_params['name']}")

    async def _signed(self, request):
        return Response(self.files[request.path_params["name"]])

    async def put(self, name, text):
        key = f"BIRD-{int(name.removeprefix('n')) + 1}"
        old = self.issues.get(key, {"fields": {}})["fields"]
        self.issues[key] = {
            "key": key,
            "fields": {
                "summary": f"Issue {name}",
                "description": text,
                "status": {"name": "Open"},
                "project": {"key": "BIRD"},
                "security": old.get("security"),
                "comment": {"comments": [], "total": 0},
                "attachment": old.get("attachment", []),
                "updated": self.tick().replace("Z", ".000+00:00"),
            },
        }

    async def remove(self, name):
        del self.issues[self._key(name)]

    async def share(self, name, circle):
        fields = self.issues[self._key(name)]["fields"]
        fields["security"] = {"name": circle}
        fields["updated"] = self.tick().replace("Z", ".000+00:00")

    async def attach(self, name, file, data):
        self.files["77"] = data
        one = {"id": "77", "filename": file, "size": len(data)}
        one["content"] = f"{self.url}/rest/api/2/attachment/content/77"
        self.issues[self._key(name)]["fields"]["attachment"] = [one]
        return f"BIRD/{self._key(name)}/77-{file}"

    def _key(self, name):
        return f"BIRD-{int(name.removeprefix('n')) + 1}"

    def path(self, name):
        return f"BIRD/{self._key(name)}.md"


@pytest.fixture(params=["cloud", "server"])
async def world(request):
    world = Jira()
    async with serving(world.app()) as url:
        world.url = url
        world.environ = {"TOKEN": SECRET}
        world.source = {"kind": "jira", "url": url, "jql": "project = BIRD", "token_env": "TOKEN"}
        world.source |= {"allow_private": True, "api": request.param}
        if request.cls is TestJiraReaders:
            world.source |= {"readers_from": "source", "readers_map": {"level:staff": ["group:staff"]}}
        yield world


class TestJira(
    ConnectorConformance, IncrementalConformance, AttachmentConformance, ThrottleConformance, TokenConformance
):
    async def test_comments_that_did_not_fit_are_fetched(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        world.issues["BIRD-1"]["fields"]["comment"] = {"comments": [], "total": 5}
        await desk.ingest()
        assert await desk.found("comment number4") == {"BIRD/BIRD-1.md"}

    @pytest.mark.parametrize("internal", [False, True])
    async def test_comments_for_a_role_or_for_agents_alone_are_taken_where_asked_for(self, desk, world, internal):
        await world.put("n0", "The heron stands by the river.")
        comments = [
            {"body": "an open pelican", "jsdPublic": True},
            {"body": "a secret walrus", "visibility": {"type": "role", "value": "Administrators"}},
            {"body": "an inner badger", "jsdPublic": False},
        ]
        world.issues["BIRD-1"]["fields"]["comment"] = {"comments": comments, "total": 3}
        await desk.ingest(**({"internal": True} if internal else {}))
        path = {"BIRD/BIRD-1.md"}
        assert await desk.found("pelican") == path
        for hidden in ("walrus", "badger"):
            assert await desk.found(hidden) == (path if internal else set())


class TestJiraReaders(ReadersConformance):
    async def test_an_issue_without_a_level_is_its_projects(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await desk.ingest(readers_map={"project:BIRD": ["group:birders"]})
        assert await desk.found("heron", "birders") == {world.path("n0")}
        assert await desk.found("heron") == set()
