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
    ThrottleConformance,
    TokenConformance,
    caller,
    desk,
)

__all__ = ["desk"]


def rich(text):
    return [{"type": "text", "plain_text": text}]


@dataclass
class Notion(HttpWorld):
    """Search for pages and the children of blocks, both with cursors."""

    pages: dict = field(default_factory=dict)
    blocks: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)

    def routes(self):
        return [
            Route("/v1/users/me", self._me),
            Route("/v1/search", self._search, methods=["POST"]),
            Route("/v1/blocks/{id}/children", self._children),
            Route("/signed/{name}", self._file),
        ]

    async def _me(self, request):
        return JSONResponse({"object": "user", "type": "bot"})

    async def _search(self, request):
        assert request.headers["notion-version"]
        body = await request.json()
        down = body["sort"]["direction"] == "descending"
        found = sorted(self.pages.values(), key=lambda one: one["last_edited_time"], reverse=down)
        start = next((n for n, one in enumerate(found) if one["id"] == body.get("start_cursor")), 0)
        part, following = self.page(found, start, 3)
        cursor = None if following is None else found[following]["id"]
        return JSONResponse({"results": part, "next_cursor": cursor, "has_more": following is not None})

    async def _children(self, request):
        found = self.blocks.get(request.path_params["id"], [])
        part, following = self.page(found, int(request.query_params.get("start_cursor", 0)), 2)
        return JSONResponse({"results": part, "next_cursor": None if following is None else str(following)})

    async def _file(self, request):
        assert "authorization" in request.headers, "this address is the API's own here"
        return Response(self.files[request.path_params["name"]])

    async def put(self, name, text):
        files = [block for block in self.blocks.get(name, []) if block["type"] == "file"]
        self.pages[name] = {
            "object": "page",
            "id": name,
            "url": f"https://notion.example/{name}",
            "last_edited_time": self.tick().replace(":00Z", ":00.000Z"),
            "archived": False,
            "properties": {"Name": {"type": "title", "title": rich(f"Page {name}")}},
        }
        item = {"rich_text": rich("a pelican below")}
        self.blocks[name] = [
            {"id": f"{name}-1", "type": "heading_2", "heading_2": {"rich_text": rich("Seen")}},
            {"id": f"{name}-2", "type": "paragraph", "paragraph": {"rich_text": rich(text)}},
            {"id": f"{name}-3", "type": "toggle", "toggle": {"rich_text": rich("More")}, "has_children": True},
            {"id": f"{name}-4", "type": "child_page", "child_page": {"title": "Other"}, "has_children": True},
            *files,
        ]
        self.blocks[f"{name}-3"] = [{"id": f"{name}-5", "type": "bulleted_list_item", "bulleted_list_item": item}]

    async def remove(self, name):
        del self.pages[name]

    async def attach(self, name, file, data):
        self.files[file] = data
        inner = {"type": "file", "name": file, "file": {"url": f"{self.url}/signed/{file}?sig={SECRET}"}}
        at = self.pages[name]["last_edited_time"]
        self.blocks[name].append({"id": "f1", "type": "file", "file": inner, "last_edited_time": at})
        return f"{name}/f1-{file}"

    def path(self, name):
        return f"{name}.md"


@pytest.fixture
async def world():
    world = Notion()
    async with serving(world.app()) as url:
        world.url = url
        world.environ = {"TOKEN": SECRET}
        world.source = {"kind": "notion", "url": url, "token_env": "TOKEN", "allow_private": True, "attachments": True}
        yield world


class TestNotion(
    ConnectorConformance, IncrementalConformance, AttachmentConformance, ThrottleConformance, TokenConformance
):
    async def test_blocks_below_blocks_are_read_and_other_pages_are_not(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        world.blocks["n0-4"] = [{"id": "x", "type": "paragraph", "paragraph": {"rich_text": rich("a stray walrus")}}]
        await desk.ingest(attachments=False)
        assert await desk.found("pelican") == {"n0.md"}
        assert await desk.found("walrus") == set()

    async def test_properties_and_tables_are_read(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        world.pages["n0"]["properties"] |= {
            "Status": {"type": "status", "status": {"name": "Nesting <now>"}},
            "Seen by": {"type": "multi_select", "multi_select": [{"name": "Ada"}, {"name": "Bob"}]},
            "When": {"type": "date", "date": {"start": "2026-05-01", "end": "2026-05-03"}},
            "Ringed": {"type": "checkbox", "checkbox": True},
            "Weight": {"type": "formula", "formula": {"type": "number", "number": 1.5}},
            "Notes": {
                "type": "rollup",
                "rollup": {"type": "array", "array": [{"type": "rich_text", "rich_text": rich("a toucan")}]},
            },
            "Empty": {"type": "rich_text", "rich_text": []},
            "Linked": {"type": "relation", "relation": [{"id": "9d8c7b"}]},
        }
        table = {"table_width": 2, "has_column_header": True}
        world.blocks["n0"].append({"id": "n0-t", "type": "table", "table": table, "has_children": True})
        world.blocks["n0-t"] = [
            {"id": f"r{number}", "type": "table_row", "table_row": {"cells": [rich(cell) for cell in row]}}
            for number, row in enumerate([("Bird", "Count"), ("Otter|like", "3"), ("Pelican", "4")])
        ]
        await desk.ingest(attachments=False)
        (info,) = (await desk.documents()).values()
        document = await desk.knowledge.document_text(caller(), info.id)
        for said in ("Status: Nesting <now>", "Seen by: Ada, Bob", "When: 2026-05-01 to 2026-05-03", "Ringed: yes"):
            assert said in document.text
        assert "Weight: 1.5" in document.text
        assert "Notes: a toucan" in document.text
        assert "Empty" not in document.text
        assert "9d8c7b" not in document.text
        assert "Otter|like | 3" in document.text
        assert "Pelican | 4" in document.text
        assert "---" not in document.text

    async def test_a_page_in_the_bin_is_gone_by_the_cursor(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await desk.ingest()
        world.pages["n0"] |= {"archived": True, "last_edited_time": world.tick()}
        full_at = (await desk.state()).full_at
        assert (await desk.ingest()).deleted == 1
        assert (await desk.state()).full_at == full_at
