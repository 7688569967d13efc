"""What every connector promises, as suites that go through the ingest.

A plug-in's author derives the classes that fit, gives a `world`, and takes the fixture `desk` along::

    from interlock.testing.connectors import ConnectorConformance, World, desk

    __all__ = ["desk"]


    class Shelf(World):
        async def put(self, name, text): ...
        async def remove(self, name): ...
        def path(self, name): ...
        async def go_away(self): ...


    @pytest.fixture
    async def world(tmp_path):
        return Shelf({"kind": "shelf", "path": str(tmp_path / "world")})


    class TestShelf(ConnectorConformance):
        pass

A world is the source system under the test's control, as real as it can be had on one machine: a repository, a server.
What it keeps on disk lies below ``tmp_path / "world"``. Tests are async: set `anyio_mode = "auto"` for pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from interlock.core.clock import Deadline
from interlock.core.context import Context, EndUser, Principal, Role
from interlock.core.errors import InterlockError
from interlock.core.ids import PrincipalId, TenantId
from interlock.knowledge import KnowledgeService, KnowledgeSettings, SourceSpec, parse_spec
from interlock.knowledge.ports import ReportProgress
from interlock.knowledge.source_store import SourceState, SourceStore
from interlock.knowledge.types import DocumentInfo, IngestReport, Progress
from interlock.stores.blob.files import FileBlobs
from interlock.stores.index.base import Index
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import open_sql
from interlock.stores.sql.base import Sql
from interlock.testing.embedders import HashEmbedder

__all__ = [
    "OPERATOR",
    "SECRET",
    "TENANT",
    "AttachmentConformance",
    "ConnectorConformance",
    "Desk",
    "IncrementalConformance",
    "ReadersConformance",
    "ThrottleConformance",
    "TokenConformance",
    "World",
    "caller",
    "desk",
]

TENANT = TenantId("acme")
SECRET = "s3cret-t0ken-of-the-tests"
"""What a world gives as its token: it must turn up nowhere."""


def caller(*groups: str, roles: Collection[Role] = ()) -> Context:
    """Somebody who asks."""
    principal = Principal(PrincipalId("svc"), "service", frozenset(roles))
    return Context(TENANT, principal, EndUser("ada", frozenset(groups)), deadline=Deadline.after(86_400))


OPERATOR = caller(roles=(Role.OPERATOR,))


class Desk:
    """A knowledge service over real stores, with one collection of one source."""

    def __init__(self, folder: Path, sql: Sql, index: Index, world: World) -> None:
        self.folder = folder
        self.world = world
        self.states = SourceStore(sql)
        self.index = index
        self.embedder = HashEmbedder()
        self._sql = sql
        self.knowledge = self.opened()

    def opened(self) -> KnowledgeService:
        """Another service over the same stores, as after a restart."""
        settings = KnowledgeSettings(batch_passages=4, max_file_bytes=200_000)
        blobs = FileBlobs(self.folder / "blobs")
        return KnowledgeService(
            self._sql, blobs, self.index, settings=settings, embedder=self.embedder, environ=self.world.environ
        )

    # Any: fields of a source file.
    def spec(self, **more: Any) -> SourceSpec:
        """The collection's file, with other fields of the source."""
        source = {"name": "it", **self.world.source, **more}
        values = {
            "collection": "docs",
            "sources": [source],
            "permissions": [{"match": "**", "readers": ["public"]}],
        }
        return parse_spec(values, base=self.folder, name="docs.yaml")

    # Any: fields of a source file.
    async def ingest(self, progress: ReportProgress | None = None, **more: Any) -> IngestReport:
        """One run."""
        return await self.knowledge.ingest(OPERATOR, self.spec(**more), progress)

    async def documents(self) -> dict[str, DocumentInfo]:
        """What is there, by path."""
        return {info.source: info for info in await self.knowledge.documents(OPERATOR)}

    async def found(self, words: str, *groups: str) -> set[str]:
        """Paths of what somebody of these groups finds."""
        hits = await self.knowledge.search(caller(*groups), words, collection="docs", mode="lexical")
        return {hit.source for hit in hits}

    async def state(self) -> SourceState:
        """Where the source stands."""
        return (await self.states.states(TENANT, "docs"))["it"]


@dataclass
class World:
    """One source system. `source`: its fields in a source file; `environ`: the secrets that it names."""

    # Any: fields of a source file.
    source: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)

    async def put(self, name: str, text: str) -> None:
        """Add a document called `name`, or change it."""
        raise NotImplementedError

    async def remove(self, name: str) -> None:
        """Take it away."""
        raise NotImplementedError

    def path(self, name: str) -> str:
        """Its path in the collection."""
        raise NotImplementedError

    async def go_away(self) -> None:
        """From now on nobody can reach the source."""
        raise NotImplementedError

    def fetches(self) -> int | None:
        """How often content was asked for; None when the source cannot count."""
        return None

    async def share(self, name: str, circle: str) -> None:
        """Let `circle` alone read a document, for `ReadersConformance`."""
        raise NotImplementedError

    async def attach(self, name: str, file: str, data: bytes) -> str:
        """Attach a file to a document and give its path, for `AttachmentConformance`."""
        raise NotImplementedError

    throttled = 0
    """How often it said 429."""

    def throttle(self, times: int) -> None:
        """Say 429 that often from now on, for `ThrottleConformance`."""
        raise NotImplementedError

    def renew_token(self) -> None:
        """Take another token from now on, which `environ` has, for `TokenConformance`."""
        raise NotImplementedError

    def refuse_token(self) -> None:
        """Take no token that `environ` has."""
        raise NotImplementedError


@pytest.fixture
async def desk(tmp_path: Path, world: World) -> AsyncIterator[Desk]:
    """A service over real stores below `tmp_path`."""
    sql = open_sql(f"sqlite:///{tmp_path}/control.db")
    await sql.migrate()
    index = SqliteIndex(tmp_path / "index")
    yield Desk(tmp_path, sql, index, world)
    await index.close()
    await sql.close()


class ConnectorConformance:
    """Listing, change, deletion, and a source that goes away."""

    many = 7
    """Documents that need more than one page, where the source has pages."""

    async def fill(self, world: World, count: int = 3) -> None:
        """Put documents that differ in their number."""
        for number in range(count):
            await world.put(f"n{number}", f"The heron number{number} stands by the river.")

    async def test_everything_is_listed_and_a_second_run_fetches_and_embeds_nothing(
        self, desk: Desk, world: World
    ) -> None:
        """All is listed once, and nothing is done twice."""
        await self.fill(world, self.many)
        first = await desk.ingest()
        assert (first.added, first.failed, first.away) == (self.many, (), ())
        assert set(await desk.documents()) == {world.path(f"n{n}") for n in range(self.many)}
        assert await desk.found("number2 heron") >= {world.path("n2")}
        embedded, fetched = len(desk.embedder.texts), world.fetches()
        second = await desk.ingest()
        assert (second.added, second.changed, second.deleted, second.embedding_tokens) == (0, 0, 0, 0)
        assert len(desk.embedder.texts) == embedded
        assert world.fetches() == fetched
        assert second.snapshot == first.snapshot
        state = await desk.state()
        assert state.synced_at is not None
        assert state.full_at is not None
        assert state.error_code == ""

    async def test_a_change_is_taken_and_nothing_else(self, desk: Desk, world: World) -> None:
        """What changed is read, and nothing else."""
        await self.fill(world)
        await desk.ingest()
        await world.put("n1", "The otter swims at night.")
        await world.put("n9", "A new kingfisher came.")
        report = await desk.ingest()
        assert (report.added, report.changed, report.deleted) == (1, 1, 0)
        assert await desk.found("otter") == {world.path("n1")}
        assert await desk.found("kingfisher") == {world.path("n9")}
        assert world.path("n1") not in await desk.found("number1")

    async def test_what_is_deleted_there_is_gone_here_after_a_full_listing(self, desk: Desk, world: World) -> None:
        """A full listing finds deletions."""
        await self.fill(world)
        await desk.ingest()
        await world.remove("n1")
        report = await desk.ingest(full_every="1s", name="it") if await self._waits(desk) else await desk.ingest()
        assert report.deleted == 1
        assert world.path("n1") not in await desk.documents()
        assert world.path("n1") not in await desk.found("number1 heron")

    async def _waits(self, desk: Desk) -> bool:
        # A full listing is due one second after the last one.
        await asyncio.sleep(1.1)
        return True

    async def test_a_source_that_is_away_is_said_to_be_and_nothing_is_deleted(self, desk: Desk, world: World) -> None:
        """An outage deletes nothing."""
        await self.fill(world)
        await desk.ingest()
        before = await desk.state()
        await world.go_away()
        with pytest.raises(InterlockError) as caught:
            await desk.ingest()
        assert SECRET not in str(caught.value)
        assert len(await desk.documents()) == 3
        assert await desk.found("heron") == {world.path(f"n{n}") for n in range(3)}
        state = await desk.state()
        assert state.error_code
        assert state.synced_at == before.synced_at
        assert state.cursor == before.cursor

    async def test_a_run_that_dies_between_documents_is_made_good_by_the_next(self, desk: Desk, world: World) -> None:
        """What was stored before a crash is not done again."""
        count = 3 * self.many  # some batches are on their way when it ends
        await self.fill(world, count)

        class Killed(Exception):
            pass

        async def die(progress: Progress) -> None:
            if progress.done >= count - 2:
                raise Killed

        with pytest.raises(Killed):
            await desk.ingest(die)
        assert 0 < len(await desk.documents()) < count
        desk.knowledge = desk.opened()
        report = await desk.ingest()
        assert report.deleted == 0
        assert report.added + report.unchanged == count
        assert report.unchanged > 0
        assert len(await desk.documents()) == count

    async def test_no_secret_is_kept(self, desk: Desk, world: World) -> None:
        """Secrets are in no file."""
        await self.fill(world)
        await desk.ingest()
        for path in desk.folder.rglob("*"):
            if path.is_file() and desk.folder / "world" not in path.parents:
                assert SECRET.encode() not in path.read_bytes()


class IncrementalConformance:
    """For a connector whose cursor tells of changes."""

    async def test_the_cursor_spares_a_listing_of_everything(self, desk: Desk, world: World) -> None:
        """Later runs ask for changes."""
        for number in range(3):
            await world.put(f"n{number}", f"The heron number{number} stands by the river.")
        await desk.ingest()
        first = await desk.state()
        assert first.cursor
        await world.put("n1", "The otter swims at night.")
        report = await desk.ingest()
        assert report.changed == 1
        assert report.unchanged <= 1, "one that changed in the same moment may be looked at again"
        second = await desk.state()
        assert second.cursor != first.cursor
        assert second.full_at == first.full_at
        assert len(await desk.documents()) == 3

    async def test_another_configuration_lists_everything_again(self, desk: Desk, world: World) -> None:
        """A cursor holds for the fields it was made with."""
        await world.put("n0", "The heron stands by the river.")
        await desk.ingest()
        first = await desk.state()
        await desk.ingest(exclude=["nothing-has-this-name"])
        second = await desk.state()
        assert first.full_at is not None
        assert second.full_at is not None
        assert second.full_at > first.full_at


class ReadersConformance:
    """For a source system that says who may read. `world.source` maps ``staff`` to ``group:staff``."""

    async def test_readers_come_from_the_source_and_nobody_is_the_default(self, desk: Desk, world: World) -> None:
        """The source's names become readers through the map."""
        await world.put("n0", "The heron stands by the river.")
        await world.share("n0", "staff")
        await world.put("n1", "The otter swims at night.")
        await world.share("n1", "unmapped-circle")
        await desk.ingest()
        assert await desk.found("heron", "staff") == {world.path("n0")}
        assert await desk.found("heron") == set()
        assert await desk.found("otter", "staff") == set()
        assert (await desk.documents())[world.path("n1")].readers == frozenset()

    async def test_a_right_taken_away_there_is_gone_here_without_embedding(self, desk: Desk, world: World) -> None:
        """A right taken away there is gone here."""
        await world.put("n0", "The heron stands by the river.")
        await world.share("n0", "staff")
        await desk.ingest()
        embedded = len(desk.embedder.texts)
        await world.share("n0", "unmapped-circle")
        await asyncio.sleep(1.1)
        report = await desk.ingest(full_every="1s")
        assert await desk.found("heron", "staff") == set()
        assert report.updated_facts == 1
        assert len(desk.embedder.texts) == embedded

    async def test_a_map_without_a_name_takes_its_right_away_before_the_source_is_asked(
        self, desk: Desk, world: World
    ) -> None:
        """A right taken out of the map is gone at once."""
        await world.put("n0", "The heron stands by the river.")
        await world.share("n0", "staff")
        await desk.ingest()
        await world.go_away()
        with pytest.raises(InterlockError):
            await desk.ingest(readers_map={"other": ["group:other"]})
        assert await desk.found("heron", "staff") == set()


class AttachmentConformance:
    """For a source whose things have files. `world.attach(name, file, data)` gives the path of the file."""

    async def test_attachments_are_documents_of_their_own(self, desk: Desk, world: World) -> None:
        """Files become documents."""
        await world.put("n0", "The heron stands by the river.")
        path = await world.attach("n0", "notes.txt", b"A walrus was seen from the pier.")
        report = await desk.ingest()
        assert report.added == 2
        assert await desk.found("walrus") == {path}


class ThrottleConformance:
    """For what is asked over HTTP."""

    async def test_a_source_that_says_slow_down_is_asked_again_later(self, desk: Desk, world: World) -> None:
        """429 is waited for."""
        await world.put("n0", "The heron stands by the river.")
        world.throttle(2)
        report = await desk.ingest()
        assert (report.added, report.failed) == (1, ())
        assert world.throttled == 2

    async def test_a_source_that_keeps_saying_it_is_left_alone_and_nothing_is_deleted(
        self, desk: Desk, world: World
    ) -> None:
        """429 without end is an outage."""
        await world.put("n0", "The heron stands by the river.")
        await desk.ingest()
        world.throttle(10_000)
        with pytest.raises(InterlockError) as caught:
            await desk.ingest()
        assert caught.value.code in {"rate_limit_exceeded", "source_unreachable"}
        assert len(await desk.documents()) == 1

    async def test_a_document_that_never_ends_is_one_line_of_the_report(self, desk: Desk, world: World) -> None:
        """What is too large fails alone."""
        await world.put("n0", "The heron stands by the river.")
        await world.put("n1", "endless " * 40_000)
        report = await desk.ingest()
        assert report.added == 1
        assert [f.code for f in report.failed] == ["request_too_large"]


class TokenConformance:
    """For a source that wants a token."""

    async def test_a_token_that_expired_is_read_anew(self, desk: Desk, world: World) -> None:
        """A token is read again after 401."""
        await world.put("n0", "The heron stands by the river.")
        await desk.ingest()
        world.renew_token()
        await world.put("n1", "The otter swims at night.")
        report = await desk.ingest()
        assert report.added == 1

    async def test_a_wrong_token_is_said_and_nothing_is_deleted(self, desk: Desk, world: World) -> None:
        """A refused token is told."""
        await world.put("n0", "The heron stands by the river.")
        await desk.ingest()
        world.refuse_token()
        with pytest.raises(InterlockError) as caught:
            await desk.ingest()
        assert caught.value.code in {"source_refused", "invalid_api_key"}
        assert SECRET not in str(caught.value)
        assert len(await desk.documents()) == 1

    async def test_a_token_that_is_not_there_is_named(self, desk: Desk, world: World) -> None:
        """A missing variable is named."""
        world.environ.clear()
        with pytest.raises(InterlockError) as caught:
            await desk.ingest()
        assert caught.value.code == "misconfigured"
