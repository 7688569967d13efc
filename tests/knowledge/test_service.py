from __future__ import annotations

import os
from datetime import UTC

import anyio
import pytest

from interlock.core.context import Role
from interlock.core.errors import Forbidden, InvalidInput, NotFound, StorageFull
from interlock.core.ids import TenantId
from interlock.knowledge import KnowledgeService, KnowledgeSettings
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import Progress
from interlock.testing.embedders import HashEmbedder

from .conftest import OPERATOR, caller

REFUNDS = "# Refunds\n\nRefunds are paid within 14 days of the parcel reaching our warehouse.\n"
PLANS = "plan,price\nTeam,29\nStarter,9\n"


async def test_a_question_finds_the_passage_with_exact_span_and_both_scores(house):
    house.write("refunds.md", REFUNDS)
    house.write("plans.csv", PLANS)
    report = await house.ingest()
    assert (report.added, report.failed, report.skipped) == (2, (), 0)
    best = (await house.search("when are refunds paid"))[0]
    assert best.source == "refunds.md"
    assert best.heading == "Refunds"
    assert best.dense_score is not None
    assert best.lexical_score == 1.0
    assert 0 < best.score <= 1
    text = await house.knowledge.document_text(caller(), best.document_id)
    assert text.digest == best.document_digest
    assert text.text[best.span.start : best.span.end] == best.text


async def test_a_table_row_is_found_by_its_column_name_but_quoted_verbatim(house):
    house.write("plans.csv", PLANS)
    await house.ingest()
    best = (await house.search("price of the Team plan", mode="lexical"))[0]
    assert "Team | 29" in best.text
    assert "price: 29" not in best.text


async def test_an_unchanged_folder_does_no_embedding_and_keeps_its_snapshot(house):
    house.write("refunds.md", REFUNDS)
    first = await house.ingest()
    embedded, applied = len(house.embedder.texts), house.index.applied
    second = await house.ingest()
    assert (second.unchanged, second.added, second.changed, second.passages) == (1, 0, 0, 0)
    assert second.embedding_tokens == 0
    assert len(house.embedder.texts) == embedded
    assert second.snapshot == first.snapshot
    assert house.index.applied == applied


async def test_changed_and_deleted_files_are_reflected(house):
    house.write("refunds.md", REFUNDS)
    house.write("old.txt", "The lighthouse keeper retires on Monday.")
    first = await house.ingest()
    house.write("refunds.md", REFUNDS.replace("14 days", "30 days"))
    (house.folder / "old.txt").unlink()
    second = await house.ingest()
    assert (second.changed, second.deleted, second.unchanged) == (1, 1, 0)
    assert second.snapshot != first.snapshot
    assert "30 days" in (await house.search("refunds paid"))[0].text
    assert all(p.source != "old.txt" for p in await house.search("lighthouse keeper"))


async def test_an_old_version_still_resolves_for_its_citations(house):
    house.write("refunds.md", REFUNDS)
    await house.ingest()
    old = (await house.search("refunds"))[0]
    house.write("refunds.md", REFUNDS.replace("14 days", "30 days"))
    await house.ingest()
    text = await house.knowledge.document_text(caller(), old.document_id, old.document_digest)
    assert text.text[old.span.start : old.span.end] == old.text
    with pytest.raises(NotFound):
        await house.knowledge.document_text(caller(), old.document_id, "sha256:" + "0" * 64)


async def test_a_permission_change_is_applied_without_embedding(house):
    house.write("hr/pay.md", "# Pay\n\nThe pay review is in April.")
    await house.ingest()
    assert await house.search("pay review", caller())
    embedded = len(house.embedder.texts)
    report = await house.ingest(permissions=[{"match": "hr/**", "readers": ["group:hr"]}])
    assert (report.updated_facts, report.unchanged, report.embedding_tokens) == (1, 1, 0)
    assert len(house.embedder.texts) == embedded
    assert await house.search("pay review", caller()) == []
    assert await house.search("pay review", caller("hr"))
    assert await house.search("pay review", OPERATOR) == []


async def test_a_withdrawn_permission_is_gone_even_when_the_run_fails_later(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    await house.ingest()
    house.write("zzz.md", "# New\n\nSomething new.")
    house.index.fail_next = StorageFull("the disk is full")
    with pytest.raises(StorageFull):
        await house.ingest(permissions=[])
    assert await house.search("pay review", caller()) == []


async def test_a_document_that_matches_no_rule_is_read_by_nobody(house):
    house.write("a.md", "# A\n\nSecret fox.")
    await house.ingest(permissions=[])
    assert await house.search("fox") == []
    (info,) = await house.knowledge.documents(OPERATOR)
    assert await house.knowledge.documents(caller()) == []
    for ctx in (caller(), OPERATOR):
        with pytest.raises(NotFound):
            await house.knowledge.document_text(ctx, info.id)
        with pytest.raises(NotFound):
            await house.knowledge.original_bytes(ctx, info.id)
    with pytest.raises(NotFound) as unreadable:
        await house.knowledge.document(caller(), info.id)
    with pytest.raises(NotFound) as absent:
        await house.knowledge.document(caller(), "doc_absent")
    assert str(unreadable.value).replace(info.id, "X") == str(absent.value).replace("doc_absent", "X")
    assert (await house.knowledge.document(OPERATOR, info.id)).source == "a.md"


async def test_tenants_do_not_see_each_other(house):
    house.write("a.md", "# A\n\nThe fox is red.")
    await house.ingest()
    assert await house.search("fox", caller(tenant="rival")) == []
    assert await house.knowledge.documents(caller(tenant="rival", roles=(Role.ADMIN,))) == []


async def test_one_bad_file_does_not_stop_the_others(house):
    house.write("broken.pdf", b"%PDF-1.7 nonsense")
    house.write("binary.txt", bytes(range(256)) * 20)
    house.write("empty.md", b"")
    house.write("huge.txt", b"a " * 1_500_000)
    house.write("picture.png", b"\x89PNG")
    house.write("tool.bin", b"\x7fELF\x02\x01\x01" + bytes(4000))
    house.write("good.md", REFUNDS)
    outside = house.folder.parent / "secret.txt"
    outside.write_text("The vault code is 1234.")
    (house.folder / "link.txt").symlink_to(outside)
    os.mkfifo(house.folder / "pipe.txt")
    report = await house.ingest()
    assert report.added == 1
    assert report.skipped == 1
    assert {f.source: f.code for f in report.failed} == {
        "broken.pdf": "damaged_document",
        "binary.txt": "not_text",
        "empty.md": "empty_document",
        "huge.txt": "request_too_large",
        "link.txt": "link_outside_source",
        "picture.png": "damaged_document",
        "pipe.txt": "invalid_request",
    }
    assert all(f.source in f.message for f in report.failed)
    states = {info.source: info.state for info in await house.knowledge.documents(OPERATOR)}
    assert states["broken.pdf"] == "failed"
    again = await house.ingest()
    assert (again.added, again.unchanged, len(again.failed)) == (0, 1, 7)


async def test_a_file_that_breaks_keeps_its_older_version_findable(house):
    house.write("a.md", REFUNDS)
    await house.ingest()
    house.write("a.md", b"")
    report = await house.ingest()
    assert [f.code for f in report.failed] == ["empty_document"]
    (found,) = await house.search("refunds")
    assert "14 days" in found.text
    house.write("a.md", REFUNDS)
    assert (await house.ingest()).failed == ()


async def test_a_full_disk_leaves_the_previous_version_and_a_second_run_completes(house):
    house.write("a.md", REFUNDS)
    await house.ingest()
    house.write("a.md", REFUNDS.replace("14", "30"))
    house.index.fail_next = StorageFull("the disk is full")
    with pytest.raises(StorageFull):
        await house.ingest()
    assert "14 days" in (await house.search("refunds"))[0].text
    assert (await house.ingest()).changed == 1
    assert "30 days" in (await house.search("refunds"))[0].text


async def test_a_cancelled_run_keeps_its_committed_batches_and_the_next_one_finishes(house):
    # Of the batches before the 30th note a few may still be on their way, the others are stored.
    for number in range(40):
        house.write(f"{number:02}.md", f"# Note {number}\n\nThe number of this note is {number}.")

    with anyio.CancelScope() as scope:

        async def stop_in_the_middle(progress: Progress) -> None:
            if progress.done == 30:
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        await house.ingest(progress=stop_in_the_middle)
    assert scope.cancelled_caught
    kept = len(await house.knowledge.documents(OPERATOR))
    assert 0 < kept < 40
    report = await house.ingest()
    assert (report.unchanged, report.added) == (kept, 40 - kept)


async def test_progress_counts_up_to_the_total_and_never_quotes(house):
    for number in range(3):
        house.write(f"{number}.md", "# T\n\nsecret words here.")
    seen = []

    async def note(progress: Progress) -> None:
        seen.append(progress)

    await house.ingest(progress=note)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[-1].done, seen[-1].total) == (3, 3)
    assert not any("secret" in p.message for p in seen)


async def test_a_new_embedder_reads_everything_again(house):
    house.write("a.md", REFUNDS)
    await house.ingest()
    other = HashEmbedder(dimensions=32, name="other")
    moved = KnowledgeService(house.sql, house.blobs, house.index, settings=KnowledgeSettings(), embedder=other)
    report = await moved.ingest(OPERATOR, house.spec())
    assert report.changed == 1
    assert other.texts
    assert await moved.search(caller(), "refunds", collection="docs")


async def test_metadata_rules_win_over_front_matter_and_reach_passages(house):
    house.write("v2.md", "---\nstatus: current\nowner: Ops\n---\n# Returns\n\nReturns take 14 days.")
    await house.ingest(metadata=[{"match": "v2.md", "set": {"status": "withdrawn"}}])
    found = (await house.search("returns"))[0]
    assert dict(found.metadata) == {"status": "withdrawn", "owner": "Ops"}


async def test_what_a_search_looks_up_of_documents_is_what_a_listing_says_of_them(house):
    house.write("refunds.md", f"---\nowner: Ada\n---\n{REFUNDS}")
    house.write("deutsch.md", "# Rechnungen\n\nDie Rechnungen des letzten Monats werden am Freitag bezahlt.\n")
    house.write("broken.pdf", b"no document")
    house.write("empty.md", "")
    await house.ingest(permissions=[{"match": "*.md", "readers": ["group:staff", "public"]}])
    store = DocumentStore(house.sql)
    listed = {info.id: info for info in await store.facts(OPERATOR.tenant, "docs")}
    assert {info.state for info in listed.values()} == {"ok", "failed"}
    looked_up = await store.by_id(OPERATOR.tenant, listed)
    assert looked_up == listed
    assert {info.checked_at.tzinfo for info in looked_up.values()} == {UTC}
    assert await store.by_id(TenantId("another"), listed) == {}


async def test_deleting_erases_every_version(house):
    house.write("a.md", REFUNDS)
    await house.ingest()
    house.write("a.md", REFUNDS.replace("14", "30"))
    await house.ingest()
    found = (await house.search("refunds"))[0]
    with pytest.raises(Forbidden):
        await house.knowledge.delete(caller(), found.document_id)
    await house.knowledge.delete(OPERATOR, found.document_id)
    assert await house.search("refunds") == []
    left = [digest async for digest in house.blobs.list(OPERATOR.tenant)]
    texts = [await house.blobs.get(OPERATOR.tenant, digest) for digest in left]
    assert not any(b"warehouse" in text for text in texts)


async def test_the_snapshot_names_the_content_not_the_moment(house):
    house.write("a.md", REFUNDS)
    first = (await house.ingest()).snapshot
    house.write("a.md", REFUNDS.replace("14", "30"))
    second = (await house.ingest()).snapshot
    house.write("a.md", REFUNDS)
    assert (await house.ingest()).snapshot == first != second
    assert (await house.knowledge.history.snapshot(caller(), "docs")).id == first
    assert len(await house.knowledge.history.snapshots(OPERATOR, "docs")) == 2


@pytest.mark.parametrize(
    ("query", "limit", "param"), [("  ", 5, "query"), ("x", 0, "limit"), ("x" * 20_001, 5, "query")]
)
async def test_bad_searches_name_the_field(house, query, limit, param):
    with pytest.raises(InvalidInput) as caught:
        await house.search(query, limit=limit)
    assert caught.value.param == param


async def test_a_question_longer_than_the_embedder_reads_is_still_answered(house):
    house.write("a.md", REFUNDS)
    await house.ingest()
    assert await house.search("When are refunds paid? " * 400)
    assert await house.search("refunds" * 2000)


async def test_only_developers_and_operators_ingest(house):
    with pytest.raises(Forbidden):
        await house.ingest(caller())


async def test_a_missing_source_folder_deletes_nothing(house):
    house.write("a.md", REFUNDS)
    await house.ingest()
    house.folder.rename(house.folder.parent / "elsewhere")
    with pytest.raises(InvalidInput, match="does not exist"):
        await house.ingest()
    assert await house.search("refunds")


async def test_evidence_merges_neighbours_exactly(house):
    body = "\n\n".join(f"Sentence {n} about storage temperature says a few more words here." for n in range(40))
    house.write("long.md", f"# Storage\n\n{body}")
    await house.ingest()
    found = await house.search("storage temperature", limit=8)
    assert len(found) > 1
    merged = await house.knowledge.evidence(caller(), found, budget_tokens=10_000)
    assert len(merged) < len(found)
    text = (await house.knowledge.document_text(caller(), found[0].document_id)).text
    assert all(text[p.span.start : p.span.end] == p.text for p in merged)
    assert await house.knowledge.evidence(caller(), found, budget_tokens=0) == []


async def test_an_index_that_was_lost_is_built_again_by_the_next_ingest(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    await house.ingest()
    await house.index.drop(caller().tenant)
    assert await house.search("pay review", caller()) == []
    embedded = len(house.embedder.texts)
    report = await house.ingest()
    assert (report.restored, report.changed, report.unchanged) == (1, 0, 1)
    assert len(house.embedder.texts) == embedded
    assert await house.search("pay review", caller())
    assert (await house.ingest()).unchanged == 1


async def ends_between_its_commits(house):
    """A run that wrote into the index, and ended before the registry was told."""
    documents = house.knowledge._documents
    save = documents.save

    async def killed(tenant, records, **more):
        if records:
            raise RuntimeError("killed")
        return await save(tenant, records, **more)

    documents.save = killed
    with pytest.raises(RuntimeError):
        await house.ingest()
    documents.save = save


async def test_a_citation_resolves_also_when_a_run_ends_between_its_two_commits(house):
    house.write("pay.md", "# Pay\n\nThe pay review is in April.")
    await house.ingest()
    house.write("pay.md", "# Pay\n\nThe pay review is in May.")
    await ends_between_its_commits(house)
    [found] = await house.search("pay review")
    assert "May" in found.text
    text = (await house.knowledge.document_text(caller(), found.document_id, found.document_digest)).text
    assert text[found.span.start : found.span.end] == found.text
    await house.ingest()
    [info] = await house.knowledge.documents(OPERATOR)
    assert info.text_digest == found.document_digest


async def test_a_run_that_ended_between_its_commits_is_made_good_when_the_version_before_was_put_back(house):
    parts = "\n\n".join(f"## Part {number}\n\n" + "The pay review is in April. " * 60 for number in range(6))
    house.write("pay.md", f"# Pay\n\n{parts}")
    await house.ingest()
    house.write("pay.md", "# Pay\n\nThe pay review is in May.")
    await ends_between_its_commits(house)
    embedded = len(house.embedder.texts)
    report = await house.ingest()  # the index holds fewer passages than the registry says: it is restored first
    assert report.restored == 1
    assert len(house.embedder.texts) == embedded
    [found] = await house.search("pay review")
    [info] = await house.knowledge.documents(OPERATOR)
    assert "May" in found.text
    assert found.document_digest == info.text_digest
