from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from interlock.core.errors import InvalidInput
from interlock.knowledge import parse_spec
from interlock.testing.connectors import ConnectorConformance, IncrementalConformance, World, desk

__all__ = ["desk"]


@dataclass
class Repository(World):
    root: Path = Path()

    def git(self, *arguments):
        subprocess.run(
            ["git", "-C", str(self.root), "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments],
            check=True,
            capture_output=True,
        )

    def commit(self):
        self.git("add", "-A")
        self.git("commit", "-qm", "x", "--allow-empty")

    async def put(self, name, text):
        (self.root / f"{name}.md").write_text(text)
        self.commit()

    async def remove(self, name):
        (self.root / f"{name}.md").unlink()
        self.commit()

    def path(self, name):
        return f"{name}.md"

    async def go_away(self):
        shutil.rmtree(self.root)


@pytest.fixture
async def world(tmp_path):
    root = tmp_path / "world"
    root.mkdir()
    world = Repository({"kind": "git", "url": "world", "ref": "main"}, {}, root)
    world.git("init", "-q", "-b", "main")
    return world


class TestGit(ConnectorConformance, IncrementalConformance):
    async def test_a_deletion_needs_no_full_listing(self, desk, world):
        await self.fill(world)
        await desk.ingest()
        await world.remove("n1")
        full_at = (await desk.state()).full_at
        assert (await desk.ingest()).deleted == 1
        assert (await desk.state()).full_at == full_at

    async def _waits(self, desk):
        return False

    async def test_a_rewritten_history_is_listed_again(self, desk, world):
        await self.fill(world)
        await desk.ingest()
        await world.remove("n1")
        world.git("reset", "-q", "--soft", "HEAD~3")
        world.git("commit", "-qm", "rewritten")
        world.git("reflog", "expire", "--expire=now", "--all")
        world.git("gc", "-q", "--prune=now")
        report = await desk.ingest()
        assert (report.deleted, report.added, report.changed) == (1, 0, 0)

    async def test_a_full_listing_fetches_no_content_of_files_that_did_not_change(self, desk, world):
        await self.fill(world)
        await desk.ingest()
        report = await desk.ingest(exclude=["n2.md"])
        assert (report.unchanged, report.deleted) == (2, 1)

    async def test_links_hooks_and_files_kept_elsewhere(self, desk, world):
        (world.root / "secret.md").symlink_to("/etc/passwd")
        (world.root / "big.md").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
        hook = world.root / ".git" / "hooks" / "post-upload-pack"
        hook.write_text("#!/bin/sh\ntouch ran\n")
        hook.chmod(0o755)
        world.git("config", "uploadpack.packObjectsHook", "touch " + str(desk.folder / "ran"))
        await world.put("n0", "The heron stands by the river.")
        report = await desk.ingest()
        assert report.added == 1
        assert {f.source: f.code for f in report.failed} == {"big.md": "git_lfs_pointer"}
        assert not list(desk.folder.rglob("ran"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "--upload-pack=touch x"),
        ("url", "ext::sh -c touch% x"),
        ("url", "https://ada:secret@example.org/x.git"),
        ("url", "ftp://example.org/x.git"),
        ("ref", "-x"),
        ("ref", "a..b"),
    ],
)
def test_what_git_would_take_for_something_else_is_refused(tmp_path, field, value):
    source = {"kind": "git", "url": "world", field: value}
    with pytest.raises(InvalidInput) as caught:
        parse_spec({"collection": "docs", "sources": [source]}, base=tmp_path, name="x")
    assert caught.value.param == f"sources.0.{field}"
