"""What is too old to go back to goes, with everything that only it held; what stays can be gone back to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.core.clock import now
from interlock.core.errors import Forbidden, NotFound
from interlock.flows.scanning import DocumentScanner
from interlock.knowledge.history.tables import knowledge_entries
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.settings import KnowledgeSettings
from interlock.knowledge.store import knowledge_snapshots, knowledge_versions
from interlock.stores.blob.files import FileBlobs
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import open_sql
from interlock.testing.embedders import HashEmbedder
from knowledge.conftest import OPERATOR, House, caller


async def age(house, days):
    """Everything that is recorded so far is older by `days`."""

    def write(connection):
        for table, column in ((knowledge_snapshots, "created_at"), (knowledge_versions, "ingested_at")):
            for row in connection.execute(table.select()).all():
                where = [table.c[key.name] == getattr(row, key.name) for key in table.primary_key]
                older = getattr(row, column) - timedelta(days=days)
                connection.execute(table.update().where(*where).values({column: older}))

    await house.sql.write(write)


async def said(house, words):
    """A document with one sentence, taken in; gives the snapshot."""
    house.write("pay.md", f"# Pay\n\nThe pay review is in {words}.")
    return (await house.ingest()).snapshot


async def texts(house):
    """Digests of the versions that are known."""

    def read(connection):
        return {row.text_digest for row in connection.execute(knowledge_versions.select())}

    return await house.sql.read(read)


async def test_old_snapshots_go_with_the_versions_that_only_they_hold(house):
    first = await said(house, "April")
    [old] = await house.knowledge.documents(OPERATOR)
    await age(house, 100)
    second = await said(house, "May")
    await age(house, 100)
    third = await said(house, "June")
    history = house.knowledge.history
    told = await history.prune(OPERATOR, "docs", keep_days=90, dry_run=True)
    assert (told.snapshots, told.versions) == (1, 1)
    assert await house.blobs.exists(OPERATOR.tenant, old.text_digest)
    done = await history.prune(OPERATOR, "docs", keep_days=90)
    assert done == told
    assert [one.id for one in await history.snapshots(OPERATOR, "docs")] == [third, second]
    for digest in (old.text_digest, old.raw_digest, first):
        assert not await house.blobs.exists(OPERATOR.tenant, digest)
    with pytest.raises(NotFound):
        await house.knowledge.document_text(caller(), old.id, old.text_digest)
    with pytest.raises(NotFound):
        await history.diff(OPERATOR, "docs", first)
    report = await history.rollback(OPERATOR, house.spec(), second)
    assert (report.restored, report.missing) == (1, ())
    assert ["May" in passage.text for passage in await house.search("pay review")] == [True]
    again = await history.prune(OPERATOR, "docs", keep_days=90)
    assert (again.snapshots, again.versions, again.blobs) == (0, 0, 0)


async def test_what_a_collection_is_set_back_to_is_not_too_old(house):
    first = await said(house, "April")
    await age(house, 100)
    await said(house, "May")
    await age(house, 100)
    await said(house, "June")
    await house.knowledge.history.rollback(OPERATOR, house.spec(), first)
    await house.knowledge.history.prune(OPERATOR, "docs", keep_days=1)
    assert ["April" in passage.text for passage in await house.search("pay review")] == [True]
    report = await house.knowledge.history.rollback(OPERATOR, house.spec(), first)
    assert report.missing == ()


async def test_content_that_comes_back_is_the_newest_snapshot_again(house):
    first = await said(house, "April")
    await age(house, 400)
    second = await said(house, "May")
    await age(house, 10)
    assert await said(house, "April") == first
    found = await house.knowledge.history.snapshots(OPERATOR, "docs")
    assert [one.id for one in found] == [first, second]
    await said(house, "June")
    # It was current until now, however long ago it was so for the first time.
    await house.knowledge.history.prune(OPERATOR, "docs", keep_days=5)
    assert (await house.knowledge.history.rollback(OPERATOR, house.spec(), first)).missing == ()


async def test_an_ingest_removes_what_is_too_old_by_itself_and_keeps_all_when_told_to(house):
    service = KnowledgeService(
        house.sql,
        house.blobs,
        house.index,
        settings=KnowledgeSettings(keep_versions_days=None),
        embedder=house.embedder,
        scanner=DocumentScanner(),
    )
    await said(house, "April")
    await age(house, 400)
    await said(house, "May")
    await age(house, 400)
    house.write("pay.md", "# Pay\n\nThe pay review is in June.")
    await service.ingest(OPERATOR, house.spec())
    assert len(await service.history.snapshots(OPERATOR, "docs")) == 3
    await house.ingest()
    assert len(await service.history.snapshots(OPERATOR, "docs")) == 2
    assert len(await texts(house)) == 2


async def test_it_is_for_those_who_oversee_and_stays_within_the_tenant(house):
    await said(house, "April")
    await age(house, 100)
    await said(house, "May")
    await age(house, 100)
    await said(house, "June")
    with pytest.raises(Forbidden):
        await house.knowledge.history.prune(caller(), "docs", keep_days=1)
    other = caller(tenant="other", roles=tuple(OPERATOR.principal.roles))
    assert (await house.knowledge.history.prune(other, "docs", keep_days=1)).snapshots == 0
    assert len(await house.knowledge.history.snapshots(OPERATOR, "docs")) == 3


def test_versions_are_kept_at_least_as_long_as_what_was_deleted():
    with pytest.raises(ValidationError, match="keep_versions_days is less than keep_deleted_days"):
        KnowledgeSettings(keep_deleted_days=30, keep_versions_days=7)


_NAMES = ("a.md", "b.md", "c.md")
_states = st.dictionaries(st.sampled_from(_NAMES), st.integers(0, 3), max_size=3)


@given(states=st.lists(_states, min_size=2, max_size=5), keep=st.integers(1, 60))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
async def test_every_snapshot_that_stays_can_be_gone_back_to_and_nothing_else_is_kept(states, keep, tmp_path_factory):
    assume(states[0])
    root = tmp_path_factory.mktemp("law")
    sql = open_sql(f"sqlite:///{root}/control.db")
    await sql.write(knowledge_entries.metadata.create_all)
    (root / "documents").mkdir()
    blobs, index, embedder = FileBlobs(root / "blobs"), SqliteIndex(root / "index"), HashEmbedder()
    wanted = KnowledgeSettings(keep_deleted_days=3650, keep_versions_days=None)
    service = KnowledgeService(sql, blobs, index, settings=wanted, embedder=embedder)
    house = House(service, index, embedder, root / "documents", sql, blobs)
    then = {}
    try:
        for state in states:
            for name in _NAMES:
                (house.folder / name).unlink(missing_ok=True)
            for name, number in state.items():
                house.write(name, f"# {name}\n\nThe note {name} is in its edition number {number}.")
            await age(house, 10)
            then[(await house.ingest(allow_removals=True)).snapshot] = state
        began = now()
        await service.history.prune(OPERATOR, "docs", keep_days=keep)
        kept = await service.history.snapshots(OPERATOR, "docs")
        assert kept[0].id == (await service.history.snapshot(OPERATOR, "docs")).id
        assert sum(one.created_at < began - timedelta(days=keep) for one in kept) <= 1

        def read(connection):
            rows = connection.execute(knowledge_versions.select()).all()
            return {d for row in rows for d in (row.text_digest, row.raw_digest, row.boxes_digest, row.kept_digest)}

        held = {digest async for digest in blobs.list(OPERATOR.tenant)}
        assert held == (await sql.read(read) - {""}) | {one.id for one in kept}
        for one in reversed(kept):
            report = await service.history.rollback(OPERATOR, house.spec(), one.id)
            hits = await house.search("note edition number", limit=50)
            assert report.missing == ()
            assert {p.source for p in hits} == set(then[one.id])
            for passage in hits:
                assert f"number {then[one.id][passage.source]}" in passage.text
    finally:
        await index.close()
        await blobs.close()
        await sql.close()
