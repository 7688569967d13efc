from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from starlette.responses import JSONResponse, Response
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
class Confluence(HttpWorld):
    """Content search with CQL below a context path, bodies and restrictions by id."""

    pages: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    bodies: int = 0

    def routes(self):
        return [
            Route("/wiki/rest/api/space/{key}", self._space),
            Route("/wiki/rest/api/content/search", self._search),
            Route("/wiki/rest/api/content/{id}", self._content),
            Route("/wiki/rest/api/content/{id}/restriction/byOperation/read", self._restriction),
            Route("/wiki/download/attachments/{id}", self._download),
        ]

    async def _space(self, request):
        return JSONResponse({"key": request.path_params["key"]})

    async def _search(self, request):
        cql = request.query_params["cql"]
        assert cql.startswith('space = "BIRD" AND type = ')
        kind = "attachment" if "type = attachment" in cql else "page"
        things = self.files if kind == "attachment" else self.pages
        found = list(things.values())
        days = re.search(r'lastmodified >= startOfDay\("-(\d+)d"\)', cql)
        if days is not None:
            today = (self.clock + timedelta(minutes=5)).replace(hour=0, minute=0, second=0)
            at = today - timedelta(days=int(days[1]))
            found = [one for one in found if datetime.fromisoformat(one["version"]["when"]) >= at]
        start = int(request.query_params.get("start", 0))
        part, following = self.page(found, start, 3)
        links = {"base": f"{self.url}/wiki", "context": "/wiki"}
        if following is not None:
            url = request.url.include_query_params(start=following)
            links["next"] = f"{url.path.removeprefix('/wiki')}?{url.query}"
        expand = request.query_params["expand"].split(",")
        shown = [{name: value for name, value in one.items() if name != "text"} for one in part]
        for one in shown:
            if not any(name.startswith("restrictions.read") for name in expand):
                one.pop("restrictions", None)
        return JSONResponse({"results": shown, "_links": links})

    async def _content(self, request):
        self.bodies += 1
        one = self.pages[request.path_params["id"]]
        return JSONResponse({"id": one["id"], "body": {"export_view": {"value": f"<p>{one['text']}</p>"}}})

    async def _restriction(self, request):
        return JSONResponse(self.pages[request.path_params["id"]]["restrictions"]["read"])

    async def _download(self, request):
        return Response(self.files[request.path_params["id"]]["text"])

    def tick(self):
        # Its search goes by days.
        self.clock += timedelta(days=2)
        return super().tick()

    def _id(self, name):
        return str(1000 + int(name.removeprefix("n")))

    def _restrict(self, *groups):
        named = [{"name": group} for group in groups]
        found = {"user": {"results": [], "size": 0}, "group": {"results": named, "size": len(named)}}
        return {"read": {"operation": "read", "restrictions": found}}

    async def put(self, name, text):
        identity = self._id(name)
        old = self.pages.get(identity, {})
        self.pages[identity] = {
            "id": identity,
            "title": f"Page {name}",
            "text": text,
            "version": {"number": old.get("version", {}).get("number", 0) + 1, "when": self.tick()},
            "ancestors": old.get("ancestors", []),
            "restrictions": old.get("restrictions", self._restrict()),
            "_links": {"webui": f"/spaces/BIRD/pages/{identity}"},
        }

    async def remove(self, name):
        del self.pages[self._id(name)]

    async def share(self, name, circle):
        # No new version: restrictions are apart from content.
        self.pages[self._id(name)]["restrictions"] = self._restrict(circle)

    async def attach(self, name, file, data):
        self.files["att5"] = {
            "id": "att5",
            "title": file,
            "text": data,
            "container": {"id": self._id(name)},
            "version": {"number": 1, "when": self.tick()},
            "_links": {"download": "/download/attachments/att5", "webui": "/x"},
        }
        return f"BIRD/{self._id(name)}/att5-{file}"

    def path(self, name):
        return f"BIRD/{self._id(name)}.html"

    def fetches(self):
        return self.bodies


@pytest.fixture
async def world(request):
    world = Confluence()
    async with serving(world.app()) as url:
        world.url = url
        world.environ = {"TOKEN": SECRET}
        world.source = {"kind": "confluence", "url": f"{url}/wiki", "space": "BIRD", "token_env": "TOKEN"}
        world.source |= {"allow_private": True}
        if request.cls is TestConfluenceReaders:
            world.source |= {"readers_from": "source", "readers_map": {"group:staff": ["group:staff"]}}
        yield world


class TestConfluence(
    ConnectorConformance, IncrementalConformance, AttachmentConformance, ThrottleConformance, TokenConformance
):
    pass


class TestConfluenceReaders(ReadersConformance):
    async def test_a_changed_restriction_is_seen_by_the_very_next_run(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await world.share("n0", "staff")
        await desk.ingest()
        await world.share("n0", "board")
        bodies = world.bodies
        await desk.ingest()
        assert await desk.found("heron", "staff") == set()
        assert world.bodies == bodies

    async def test_restrictions_of_pages_above_hold_below_and_for_files(self, desk, world):
        maps = {"space:BIRD": ["group:birders"], "group:staff": ["group:staff"], "group:board": ["group:board"]}
        await world.put("n0", "The open heron.")
        await world.put("n1", "The closed otter.")
        await world.put("n2", "The otter's child, a heron.")
        world.pages["1002"]["ancestors"] = [{"id": "1001"}]
        await world.share("n1", "staff")
        path = await world.attach("n2", "notes.txt", b"A walrus was seen from the pier.")
        await desk.ingest(readers_map=maps)
        documents = await desk.documents()
        assert documents[world.path("n0")].readers == {"group:birders"}
        assert documents[world.path("n2")].readers == documents[path].readers == {"group:staff"}
        await world.share("n2", "board")
        await desk.ingest(readers_map=maps)
        assert (await desk.documents())[world.path("n2")].readers == frozenset()
        assert (await desk.documents())[path].readers == frozenset()

    async def test_an_answer_that_says_nothing_about_restrictions_gives_nobody_a_right(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        del world.pages["1000"]["restrictions"]
        await desk.ingest(readers_map={"space:BIRD": ["public"]})
        assert (await desk.documents())[world.path("n0")].readers == frozenset()
