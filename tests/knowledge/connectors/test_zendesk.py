from __future__ import annotations

from dataclasses import dataclass, field

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
class HelpCentre(HttpWorld):
    """Articles with cursor pagination; the export of tickets with its cursor, which names deleted ones."""

    things: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    tickets: bool = False

    def routes(self):
        return [
            Route("/api/v2/help_center/articles.json", self._articles),
            Route("/api/v2/help_center/articles/{id:int}/attachments.json", self._attachments),
            Route("/api/v2/incremental/tickets/cursor.json", self._export),
            Route("/api/v2/tickets/{id:int}/comments.json", self._comments),
            Route("/files/{id:int}", self._file),
        ]

    async def _articles(self, request):
        found = sorted(self.things.values(), key=lambda one: one["id"])
        part, following = self.page(found, int(request.query_params.get("page[after]", 0)), 3)
        meta, links = {"has_more": following is not None}, {}
        if following is not None:
            links["next"] = f"{self.url}/api/v2/help_center/articles.json?page[after]={following}"
        return JSONResponse({"articles": part, "meta": meta, "links": links})

    def _named(self, identity):
        return [
            {"id": number, "file_name": name, "size": len(data), "content_url": f"{self.url}/files/{number}"}
            for number, (of, name, data) in self.files.items()
            if of == identity
        ]

    async def _attachments(self, request):
        return JSONResponse({"article_attachments": self._named(request.path_params["id"])})

    async def _file(self, request):
        return Response(self.files[request.path_params["id"]][2])

    async def _export(self, request):
        query = request.query_params
        assert ("start_time" in query) != ("cursor" in query)
        after = query.get("cursor", "")
        found = sorted(
            (one for one in self.things.values() if one["updated_at"] > after), key=lambda one: one["updated_at"]
        )
        part, following = self.page(found, 0, 3)
        cursor = part[-1]["updated_at"] if part else after
        return JSONResponse({"tickets": part, "after_cursor": cursor, "end_of_stream": following is None})

    async def _comments(self, request):
        one = self.things[request.path_params["id"]]
        said = [
            {"public": True, "plain_body": one["body"], "attachments": self._named(one["id"])},
            {"public": False, "plain_body": "an internal pelican", "attachments": []},
        ]
        return JSONResponse({"comments": said, "meta": {"has_more": False}, "links": {}})

    def _id(self, name):
        return int(name.removeprefix("n")) + 1

    async def put(self, name, text):
        old = self.things.get(self._id(name), {})
        self.things[self._id(name)] = {
            "id": self._id(name),
            "title": f"Article {name}",
            "subject": f"Ticket {name}",
            "body": text,
            "status": "open",
            "draft": False,
            "user_segment_id": old.get("user_segment_id"),
            "group_id": 5,
            "html_url": "https://help.example/1",
            "updated_at": self.tick(),
        }

    async def remove(self, name):
        if self.tickets:
            self.things[self._id(name)] |= {"status": "deleted", "updated_at": self.tick()}
        else:
            del self.things[self._id(name)]

    async def share(self, name, circle):
        self.things[self._id(name)]["user_segment_id"] = {"staff": 7}.get(circle, 8)

    async def attach(self, name, file, data):
        self.files[77] = (self._id(name), file, data)
        return f"{self._kind()}/{self._id(name)}/77-{file}"

    def _kind(self):
        return "tickets" if self.tickets else "articles"

    def path(self, name):
        return f"{self._kind()}/{self._id(name)}.{'md' if self.tickets else 'html'}"


@pytest.fixture
async def world(request):
    world = HelpCentre(tickets=request.cls is TestTickets)
    async with serving(world.app()) as url:
        world.url = url
        world.environ = {"TOKEN": SECRET}
        world.source = {"kind": "zendesk", "url": url, "token_env": "TOKEN", "allow_private": True}
        if world.tickets:
            world.source["take"] = "tickets"
        if request.cls is TestArticleReaders:
            world.source |= {"readers_from": "source", "readers_map": {"segment:7": ["group:staff"]}}
        yield world


class TestArticles(ConnectorConformance, AttachmentConformance, ThrottleConformance, TokenConformance):
    async def test_drafts_are_left_out(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await world.put("n1", "The otter swims at night.")
        world.things[2]["draft"] = True
        await desk.ingest()
        assert set(await desk.documents()) == {"articles/1.html"}


class TestArticleReaders(ReadersConformance):
    async def test_everyone_is_said_and_not_guessed(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await world.put("n1", "The otter swims at night.")
        del world.things[2]["user_segment_id"]
        await desk.ingest(readers_map={"everyone": ["public"]})
        assert await desk.found("heron") == {"articles/1.html"}
        assert await desk.found("otter") == set()


class TestTickets(
    ConnectorConformance, IncrementalConformance, AttachmentConformance, ThrottleConformance, TokenConformance
):
    async def test_a_deleted_ticket_is_gone_by_the_cursor_and_notes_stay_internal(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await world.put("n1", "The otter swims at night.")
        await desk.ingest()
        assert await desk.found("pelican") == set()
        full_at = (await desk.state()).full_at
        await world.remove("n1")
        assert (await desk.ingest()).deleted == 1
        assert (await desk.state()).full_at == full_at
        await desk.ingest(internal=True)
        assert await desk.found("pelican") == {"tickets/1.md"}
