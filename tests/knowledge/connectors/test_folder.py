from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from interlock.knowledge import parse_spec
from interlock.testing.connectors import OPERATOR, ConnectorConformance, World, desk

__all__ = ["desk"]


@dataclass
class Folder(World):
    root: Path = Path()

    async def put(self, name, text):
        (self.root / f"{name}.md").write_text(text)

    async def remove(self, name):
        (self.root / f"{name}.md").unlink()

    def path(self, name):
        return f"{name}.md"

    async def go_away(self):
        shutil.rmtree(self.root)


@pytest.fixture
async def world(tmp_path):
    root = tmp_path / "world"
    root.mkdir()
    return Folder({"path": "world"}, {}, root)


class TestFolder(ConnectorConformance):
    async def test_a_file_of_the_same_time_size_and_inode_is_not_opened_unless_asked(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await asyncio.sleep(2.1)
        await desk.ingest()
        os.chmod(world.root / "n0.md", 0)
        # A change of rights is a change of the file's status, so it is looked at: root reads it all the same.
        await asyncio.sleep(2.1)
        await desk.ingest()
        seen = (await desk.documents())["n0.md"].checked_at
        again = await desk.ingest()
        assert again.unchanged == 1
        assert (await desk.documents())["n0.md"].checked_at > seen
        stat = (world.root / "n0.md").stat()
        (world.root / "n0.md").write_text("The egret stands by the river.")
        os.utime(world.root / "n0.md", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert (await desk.ingest()).changed == 1, "the same size and time, but another time of change"
        assert (await desk.ingest(verify=True)).unchanged == 1

    async def test_one_missing_folder_does_not_stop_the_other_and_deletes_nothing(self, desk, world):
        other = desk.folder / "other"
        other.mkdir()
        (other / "n7.md").write_text("The kingfisher dives.")
        await world.put("n0", "The heron stands by the river.")
        values = {
            "collection": "docs",
            "sources": [{"path": "world", "name": "it"}, {"path": "other", "name": "that"}],
            "permissions": [{"match": "**", "readers": ["public"]}],
        }
        spec = parse_spec(values, base=desk.folder, name="x")
        assert (await desk.knowledge.ingest(OPERATOR, spec)).added == 2
        await world.go_away()
        (other / "n8.md").write_text("The grebe dances.")
        report = await desk.knowledge.ingest(OPERATOR, spec)
        assert (report.added, report.deleted) == (1, 0)
        assert [(away.source, away.code) for away in report.away] == [("it", "invalid_request")]
        world.root.mkdir()
        assert (await desk.knowledge.ingest(OPERATOR, spec, only="that")).deleted == 0
        assert (await desk.knowledge.ingest(OPERATOR, spec, only="it", allow_removals=True)).deleted == 1

    async def test_a_source_that_is_no_longer_named_is_removed_and_two_may_not_share_a_path(self, desk, world):
        other = desk.folder / "other"
        other.mkdir()
        (other / "n0.md").write_text("The kingfisher dives.")
        await world.put("n0", "The heron stands by the river.")

        def spec(*sources):
            rules = [{"match": "**", "readers": ["public"]}]
            values = {"collection": "docs", "sources": list(sources), "permissions": rules}
            return parse_spec(values, base=desk.folder, name="x")

        one, two = {"path": "world", "name": "it"}, {"path": "other", "name": "that"}
        report = await desk.knowledge.ingest(OPERATOR, spec(one, two))
        assert [away.source for away in report.away] == ["that"]
        assert "prefix" in report.away[0].message
        await desk.knowledge.ingest(OPERATOR, spec(one, {**two, "prefix": "second"}))
        assert set(await desk.documents()) == {"n0.md", "second/n0.md"}
        report = await desk.knowledge.ingest(OPERATOR, spec({**two, "prefix": "second"}))
        assert report.deleted == 1
        assert set(await desk.documents()) == {"second/n0.md"}

    async def test_a_folder_that_moved_to_another_name_is_not_embedded_again(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await desk.ingest()
        embedded = len(desk.embedder.texts)
        report = await desk.ingest(name="renamed")
        assert (report.added, report.deleted, report.unchanged) == (0, 0, 1)
        assert len(desk.embedder.texts) == embedded
