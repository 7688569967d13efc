"""Snapshots, what differs between two, going back to one, and what is kept for it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from interlock.core.clock import now
from interlock.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from interlock.knowledge.history.tables import knowledge_entries, knowledge_retired
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.settings import KnowledgeSettings
from interlock.stores.blob.files import FileBlobs
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import open_sql
from interlock.testing.embedders import HashEmbedder
from knowledge.conftest import OPERATOR, House, caller


async def found(house: House, query: str, ctx=None) -> set[str]:
    return {passage.source for passage in await house.search(query, ctx)}


async def test_a_snapshot_is_its_content_and_says_what_changed(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    house.write("old.md", "# Old\n\nThe canteen opens at noon.")
    house.write("same.md", "# Same\n\nParking is free.")
    first = (await house.ingest()).snapshot
    house.write("pay.md", "# Pay\n\nThe pay review is in May.")
    house.write("new.md", "# New\n\nBicycles may be leased.")
    (house.folder / "old.md").unlink()
    second = (await house.ingest()).snapshot
    diff = await house.knowledge.history.diff(OPERATOR, "docs", first, second)
    assert [entry.source for entry in diff.added] == ["new.md"]
    assert [entry.source for entry in diff.removed] == ["old.md"]
    assert [(change.after.source, change.kinds) for change in diff.changed] == [("pay.md", ("text",))]
    assert (diff.unchanged, diff.erased) == (1, 0)
    back = await house.knowledge.history.diff(OPERATOR, "docs", second, first)
    assert [entry.source for entry in back.added] == ["old.md"]
    assert (await house.knowledge.history.diff(OPERATOR, "docs", first[:20])).after == second


async def test_rights_and_facts_are_told_apart_from_text(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    first = (await house.ingest()).snapshot
    await house.ingest(permissions=[{"match": "**", "readers": ["group:hr"]}])
    [change] = (await house.knowledge.history.diff(OPERATOR, "docs", first)).changed
    assert change.kinds == ("readers",)
    assert change.before.readers == {"public"}
    assert change.after.readers == {"group:hr"}


async def test_history_is_for_those_who_oversee(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    first = (await house.ingest()).snapshot
    for call in (
        lambda: house.knowledge.history.snapshots(caller(), "docs"),
        lambda: house.knowledge.history.diff(caller(), "docs", first),
        lambda: house.knowledge.history.rollback(caller(), house.spec(), first),
        lambda: house.knowledge.history.resume(caller(), house.spec()),
    ):
        with pytest.raises(Forbidden):
            await call()
    other = caller(roles=OPERATOR.principal.roles, tenant="other")
    with pytest.raises(NotFound):
        await house.knowledge.history.diff(other, "docs", first)


async def test_a_snapshot_is_named_by_enough_of_its_digits(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    first = (await house.ingest()).snapshot
    assert (await house.knowledge.history.find(OPERATOR, "docs", first.removeprefix("sha256:")[:8])).id == first
    assert (await house.knowledge.history.find(OPERATOR, "docs", "current")).id == first
    with pytest.raises(NotFound, match="one snapshot only"):
        await house.knowledge.history.find(OPERATOR, "docs", "previous")
    with pytest.raises(InvalidInput, match="8 digits"):
        await house.knowledge.history.find(OPERATOR, "docs", first[:10])
    with pytest.raises(NotFound):
        await house.knowledge.history.find(OPERATOR, "docs", "0" * 64)


async def test_going_back_brings_the_old_content_without_parsing_or_embedding(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    house.write("old.md", "# Old\n\nThe canteen opens at noon.")
    first = (await house.ingest()).snapshot
    before = await house.search("when is the pay review")
    house.write("pay.md", "# Pay\n\nThe pay review is in May.")
    house.write("new.md", "# New\n\nBicycles may be leased.")
    (house.folder / "old.md").unlink()
    await house.ingest()
    assert "old.md" not in await found(house, "canteen")
    embedded = len(house.embedder.texts)
    report = await house.knowledge.history.rollback(OPERATOR, house.spec(), first)
    assert len(house.embedder.texts) == embedded
    assert (report.restored, report.removed, report.unchanged) == (2, 1, 0)
    assert (report.missing, report.erased, report.snapshot) == ((), 0, first)
    after = await house.search("when is the pay review")
    assert [(p.id, p.text, p.span) for p in after] == [(p.id, p.text, p.span) for p in before]
    assert "old.md" in await found(house, "canteen")
    assert "new.md" not in await found(house, "bicycles leased")


async def test_a_collection_is_held_until_it_is_released(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    first = (await house.ingest()).snapshot
    house.write("pay.md", "# Pay\n\nThe pay review is in May.")
    house.write("new.md", "# New\n\nBicycles may be leased.")
    await house.ingest()
    await house.knowledge.history.rollback(OPERATOR, house.spec(), first)
    hold = await house.knowledge.history.held(OPERATOR, "docs")
    assert (hold.snapshot, hold.by) == (first, OPERATOR.principal.id)
    report = await house.ingest()
    assert report.set_back
    assert report.snapshot == first
    await house.knowledge.history.resume(OPERATOR, house.spec())
    assert await house.knowledge.due(OPERATOR, house.spec())
    report = await house.ingest()
    assert (report.set_back, report.changed, report.added) == (False, 1, 1)
    assert "new.md" in await found(house, "bicycles leased")
    with pytest.raises(Conflict):
        await house.knowledge.history.resume(OPERATOR, house.spec())


async def test_rights_that_are_taken_away_reach_a_held_collection(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    first = (await house.ingest()).snapshot
    house.write("pay.md", "# Pay\n\nThe pay review is in May.")
    await house.ingest()
    await house.knowledge.history.rollback(OPERATOR, house.spec(), first)
    closed = [{"match": "**", "readers": ["group:hr"]}]
    await house.ingest(permissions=closed)
    assert await found(house, "pay review") == set()
    assert await found(house, "pay review", caller("hr")) == {"pay.md"}


async def test_going_back_does_not_open_what_was_closed_meanwhile(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    house.write("plan.md", "# Plan\n\nThe plan is to grow.")
    first = (await house.ingest()).snapshot
    closed = [{"match": "p*.md", "readers": ["group:hr"]}]
    (house.folder / "plan.md").unlink()
    await house.ingest(permissions=closed)
    report = await house.knowledge.history.rollback(OPERATOR, house.spec(permissions=closed), first)
    assert report.snapshot != first
    assert await found(house, "pay review plan grow") == set()
    # It is there for whom both its own day and today let in: nobody.
    assert await found(house, "pay review plan grow", caller("hr")) == {"pay.md"}


async def test_what_was_erased_stays_so(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    house.write("ann.md", "# Ann\n\nAnn has asked to be forgotten.")
    first = (await house.ingest()).snapshot
    [ann] = [info.id for info in await house.knowledge.documents(OPERATOR) if info.source == "ann.md"]
    await house.knowledge.delete(OPERATOR, ann)
    diff = await house.knowledge.history.diff(OPERATOR, "docs", first)
    assert (diff.erased, diff.removed, diff.unchanged) == (1, (), 1)
    report = await house.knowledge.history.rollback(OPERATOR, house.spec(), first)
    assert (report.erased, report.restored) == (1, 0)
    assert "ann.md" not in await found(house, "Ann forgotten")

    def rows(connection):
        return connection.execute(knowledge_entries.select()).all()

    assert "ann.md" not in str(await house.sql.read(rows))


async def test_what_is_kept_out_is_not_read_again(house):
    house.write("ann.md", "# Ann\n\nAnn has asked to be forgotten.")
    await house.ingest()
    [info] = await house.knowledge.documents(OPERATOR)
    await house.knowledge.history.keep_out(OPERATOR, "docs", [info.id])
    await house.knowledge.delete(OPERATOR, info.id)
    report = await house.ingest()
    assert (report.kept_out, report.added) == (1, 0)
    assert await house.knowledge.documents(OPERATOR) == []
    await house.knowledge.history.let_in(OPERATOR, info.id)
    assert (await house.ingest()).added == 1
    with pytest.raises(NotFound):
        await house.knowledge.history.let_in(OPERATOR, info.id)


async def test_what_a_source_no_longer_has_is_removed_after_its_time(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    house.write("old.md", "# Old\n\nThe canteen opens at noon.")
    await house.ingest()
    (house.folder / "old.md").unlink()
    [old] = [info for info in await house.knowledge.documents(OPERATOR) if info.source == "old.md"]
    await house.ingest()
    assert await house.blobs.exists(OPERATOR.tenant, old.text_digest)
    with pytest.raises(NotFound):
        await house.knowledge.document_text(caller(), old.id, old.text_digest)

    def age(connection):
        connection.execute(knowledge_retired.update().values(retired_at=now() - timedelta(days=8)))

    await house.sql.write(age)
    await house.ingest()
    assert not await house.blobs.exists(OPERATOR.tenant, old.text_digest)
    assert not await house.blobs.exists(OPERATOR.tenant, old.raw_digest)


async def test_a_retired_document_can_be_erased_and_can_come_back(house):
    house.write("old.md", "# Old\n\nThe canteen opens at noon.")
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    await house.ingest()
    infos = {info.source: info for info in await house.knowledge.documents(OPERATOR)}
    for name in infos:
        (house.folder / name).unlink()
    await house.ingest(allow_removals=True)
    await house.knowledge.delete(OPERATOR, infos["old.md"].id)
    assert not await house.blobs.exists(OPERATOR.tenant, infos["old.md"].text_digest)
    with pytest.raises(NotFound):
        await house.knowledge.delete(OPERATOR, infos["old.md"].id)
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    await house.ingest()

    def retired(connection):
        return connection.execute(knowledge_retired.select()).all()

    assert await house.sql.read(retired) == []


async def test_a_changed_document_embeds_what_is_new(house):
    paragraphs = [f"# Part {n}\n\nPart {n} says something of its own about topic {n}." for n in range(6)]
    house.write("long.md", "\n\n".join(paragraphs))
    await house.ingest()
    first = len(house.embedder.texts)
    paragraphs[3] = "# Part 3\n\nPart 3 says something else now."
    house.write("long.md", "\n\n".join(paragraphs))
    await house.ingest()
    assert first >= 6
    assert len(house.embedder.texts) == first + 1


async def test_a_damaged_blob_of_passages_only_costs_time(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    await house.ingest()
    for path in (house.folder.parent / "blobs").rglob("*"):
        if path.is_file() and b"hash:64" in path.read_bytes():
            path.chmod(0o600)
            path.write_bytes(b"damaged")
    await house.index.drop(caller().tenant)
    report = await house.ingest()
    assert (report.restored, report.changed) == (0, 1)
    assert await found(house, "pay review") == {"pay.md"}


# ── laws ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

_GROUPS = ("public", "group:hr", "group:law")
_NAMES = ("a.md", "b.md", "c.md")
_states = st.fixed_dictionaries(
    {}, optional={name: st.tuples(st.integers(0, 2), st.sampled_from(_GROUPS)) for name in _NAMES}
)


def _rules(state):
    return [{"match": name, "readers": [state[name][1] if name in state else "group:none"]} for name in _NAMES]


async def _put(house, state):
    for name in _NAMES:
        path = house.folder / name
        if name in state:
            house.write(name, f"# Note\n\nThe note {name[0]} has edition number {state[name][0]}.")
        else:
            path.unlink(missing_ok=True)
    return await house.ingest(allow_removals=True, permissions=_rules(state))


@given(states=st.lists(_states, min_size=2, max_size=4), data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
async def test_going_back_gives_the_old_texts_and_never_wider_rights(states, data, tmp_path_factory):
    assume(states[0])  # a collection that never held anything has no snapshot
    root = tmp_path_factory.mktemp("law")
    sql = open_sql(f"sqlite:///{root}/control.db")
    await sql.write(knowledge_entries.metadata.create_all)
    (root / "documents").mkdir()
    blobs, index, embedder = FileBlobs(root / "blobs"), SqliteIndex(root / "index"), HashEmbedder()
    service = KnowledgeService(sql, blobs, index, settings=KnowledgeSettings(), embedder=embedder)
    house = House(service, index, embedder, root / "documents", sql, blobs)
    try:
        taken = [(await _put(house, state)).snapshot for state in states]
        at = data.draw(st.integers(0, len(states) - 1))
        today, then = states[-1], states[at]
        await service.history.rollback(OPERATOR, house.spec(permissions=_rules(today)), taken[at])
        for groups in ((), ("hr",), ("law",), ("hr", "law")):
            who = caller(*groups)
            may_today = {name for name in _NAMES if name in today and today[name][1] in who.readers}
            hits = await house.search("note edition number", who, limit=50)
            assert {p.source for p in hits} == {name for name in may_today if name in then}
            for passage in hits:
                assert f"number {then[passage.source][0]}" in passage.text
    finally:
        await index.close()
        await blobs.close()
        await sql.close()


# ── beside cleaning ───────────────────────────────────────────────────────────────────────────────────────────────────

NOTE = "# Note\n\nThe heron stands in the river and waits for a fish that swims past its feet in the morning light."


async def test_copies_stay_copies_on_the_way_back_and_on(house):
    house.write("a.md", NOTE)
    house.write("b.md", NOTE)
    first = (await house.ingest()).snapshot
    assert await found(house, "heron fish") == {"a.md"}
    (house.folder / "a.md").unlink()
    house.write("b.md", NOTE.replace("heron", "stork"))
    await house.ingest()
    assert await found(house, "stork fish") == {"b.md"}
    report = await house.knowledge.history.rollback(OPERATOR, house.spec(), first)
    assert (report.snapshot, report.missing) == (first, ())
    assert await found(house, "heron fish") == {"a.md"}
    await house.knowledge.history.resume(OPERATOR, house.spec())
    await house.ingest()
    assert await found(house, "stork fish") == {"b.md"}
    house.write("c.md", NOTE.replace("heron", "stork"))
    report = await house.ingest()
    # What going back wrote is compared with what comes later like anything else.
    assert report.duplicates == 1
    assert await found(house, "stork fish") == {"b.md"}


async def test_what_going_back_wrote_and_the_source_still_has_is_read_again(house):
    house.write("a.md", NOTE)
    first = (await house.ingest()).snapshot
    house.write("a.md", NOTE.replace("heron", "stork"))
    await house.ingest()
    await house.knowledge.history.rollback(OPERATOR, house.spec(), first)
    house.write("a.md", NOTE)
    await house.knowledge.history.resume(OPERATOR, house.spec())
    await house.ingest()
    house.write("b.md", NOTE)
    assert (await house.ingest()).duplicates == 1
    assert await found(house, "heron fish") == {"a.md"}


async def test_what_a_person_keeps_out_does_not_come_back(house):
    house.write("a.md", NOTE)
    house.write("b.md", "# Other\n\nThe canteen opens at noon.")
    first = (await house.ingest()).snapshot
    [info] = [info for info in await house.knowledge.documents(OPERATOR) if info.source == "a.md"]
    await house.knowledge.review(OPERATOR, info.id, "kept")
    assert await found(house, "heron fish") <= {"b.md"}
    report = await house.knowledge.history.rollback(OPERATOR, house.spec(), first)
    assert (report.held_back, report.restored) == (1, 0)
    assert await found(house, "heron fish") <= {"b.md"}


async def test_a_stricter_policy_leaves_nothing_of_before_in_snapshots(house):
    house.write("a.md", "---\nauthor: zoe@example.org\n---\n# Note\n\nAsk zoe@example.org about the heron.")
    first = (await house.ingest()).snapshot
    redacting = {"sources": [{"path": "documents", "pii": "redact"}]}
    await house.ingest(**redacting)

    def entries(connection):
        return [row.content for row in connection.execute(knowledge_entries.select())]

    assert "zoe@example.org" not in str(await house.sql.read(entries))
    report = await house.knowledge.history.rollback(OPERATOR, house.spec(**redacting), first)
    assert report.erased == 1
    for passage in await house.search("heron"):
        assert "zoe@example.org" not in passage.text
