from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interlock.core.errors import InvalidInput, TooLarge
from interlock.testing.connectors import ConnectorConformance, ReadersConformance, World, caller, desk

__all__ = ["desk"]


@dataclass
class Lines(World):
    """A file of JSON lines."""

    file: Path | None = None
    rows: dict = field(default_factory=dict)

    def write(self):
        self.file.write_text("".join(json.dumps(row) + "\n" for row in self.rows.values()))

    async def put(self, name, text):
        self.rows[name] = {**self.rows.get(name, {}), "id": name, "text": text}
        self.write()

    async def remove(self, name):
        del self.rows[name]
        self.write()

    async def share(self, name, circle):
        self.rows[name]["who"] = [circle]
        self.write()

    def path(self, name):
        return name

    async def go_away(self):
        self.file.unlink()


@pytest.fixture
async def world(request, tmp_path):
    more = {}
    if request.cls is TestJsonLinesReaders:
        more = {"readers": "who", "readers_from": "source", "readers_map": {"staff": ["group:staff"]}}
    world = Lines({"kind": "jsonl", "path": "rows.jsonl", **more}, {}, file=tmp_path / "rows.jsonl")
    world.write()
    return world


class TestJsonLines(ConnectorConformance):
    async def test_title_id_and_facts_come_from_their_fields(self, desk, world):
        facts = {"year": 2026, "open": True, "tags": ["a"], "team": "red"}
        row = {"_id": 7, "head": "Herons", "body": "They stand by rivers.", "about": facts}
        world.file.write_text(json.dumps(row) + "\n\n")
        await desk.ingest(id="_id", title="head", text="body", metadata="about")
        (info,) = (await desk.documents()).values()
        assert (info.source, info.title) == ("7", "Herons")
        assert info.metadata == {"year": "2026", "open": "true", "team": "red"}

    async def test_a_line_without_text_is_one_failure_and_the_others_go_on(self, desk, world):
        world.file.write_text('{"id": "a", "text": null}\n{"id": "b", "text": "The heron."}\n')
        report = await desk.ingest()
        assert (report.added, [failure.source for failure in report.failed]) == (1, ["a"])

    @pytest.mark.parametrize(
        ("text", "param"),
        [
            ("{", "sources.path"),
            ("[1]", "sources.id"),
            ('{"text": "x"}', "sources.id"),
            ('{"id": "", "text": "x"}', "sources.id"),
            ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}', "sources.id"),
            ("[" * 100_000, "sources.path"),
        ],
    )
    async def test_a_file_that_is_no_list_of_documents_deletes_nothing(self, desk, world, text, param):
        await self.fill(world)
        await desk.ingest()
        world.file.write_text(text)
        with pytest.raises(InvalidInput) as caught:
            await desk.ingest()
        assert caught.value.param == param
        assert len(await desk.documents()) == 3

    async def test_a_line_past_the_limit_is_not_read(self, desk, world):
        world.file.write_text(json.dumps({"id": "a", "text": "x" * 300_000}))
        with pytest.raises(TooLarge):
            await desk.ingest()

    async def test_an_id_is_no_way_out_of_the_collection(self, desk, world):
        await world.put("../../etc/passwd", "The heron.")
        await desk.ingest()
        assert list(await desk.documents()) == ["%2E%2E%2F..%2Fetc%2Fpasswd"]


class TestJsonLinesReaders(ReadersConformance):
    async def test_readers_that_are_no_list_stop_the_run(self, desk, world):
        world.file.write_text('{"id": "a", "text": "The heron.", "who": "staff"}')
        with pytest.raises(InvalidInput):
            await desk.ingest()
        assert await desk.knowledge.search(caller("staff"), "heron", collection="docs", mode="lexical") == []
