"""A collection goes over to another embedder: built beside, kept up, compared, switched, and back."""

from __future__ import annotations

import random

import pytest

from interlock.core.errors import Conflict, Forbidden, InvalidInput, Misconfigured, NotFound, Unavailable
from interlock.flows.scanning import DocumentScanner
from interlock.knowledge.history.kept import decode_kept
from interlock.knowledge.payload import PassagePayload
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.settings import CollectionSettings, KnowledgeSettings
from interlock.knowledge.spaces.types import place_of
from interlock.stores.index.base import IndexScope
from interlock.testing.embedders import HashEmbedder
from knowledge.conftest import OPERATOR, caller

ALL = frozenset({"public", "group:hr", "group:finance", "user:ada"})


class Failing(HashEmbedder):
    """Fails when told to, as a model does that is away."""

    after: int | None = None
    meanwhile = None
    """Runs once, when passages are asked for and before they are made."""

    async def embed(self, texts, kind):
        if self.meanwhile is not None:
            then, self.meanwhile = self.meanwhile, None
            await then()
        if self.after is not None:
            if self.after <= 0:
                raise Unavailable("the model is away", code="embedder_away")
            self.after -= len(texts)
        return await super().embed(texts, kind)


class Change:
    """One house whose settings name another embedder than its collection has."""

    def __init__(self, house) -> None:
        self.house = house
        self.one, self.two = HashEmbedder(name="one"), Failing(name="two", dimensions=32)
        self.before, self.after = self.service("one"), self.service("two")

    def service(self, name: str, **more) -> KnowledgeService:
        house = self.house
        settings = KnowledgeSettings(batch_passages=4, embedder=name, **more)
        named = {"one": self.one, "two": self.two}
        return KnowledgeService(
            house.sql, house.blobs, house.index, settings=settings, embedders=named, scanner=DocumentScanner()
        )

    async def ingest(self, service=None, **spec):
        return await (service or self.after).ingest(OPERATOR, self.house.spec(**spec))

    async def build(self, progress=None):
        return await self.after.spaces.build(OPERATOR, "docs", progress)

    async def switch(self, service=None):
        return await (service or self.after).switch_space(OPERATOR, self.house.spec())

    async def found(self, query, ctx=None, **more) -> set[str]:
        return {p.source for p in await self.after.search(ctx or caller(), query, collection="docs", **more)}

    async def rows(self, space, document, readers=ALL):
        scopes = await self.after.spaces.scopes(OPERATOR.tenant, "docs")
        [scope] = [scope for scope in scopes if scope.embedder == space]
        return await self.house.index.document_passages(scope, document, readers=readers)

    async def ids(self) -> dict[str, str]:
        return {info.source: info.id for info in await self.after.documents(OPERATOR, collection="docs")}


@pytest.fixture
async def change(house):
    for number in range(6):
        house.write(f"d{number}.md", f"# Rule {number}\n\nThe owl{number} rests on branch{number} at noon.")
    found = Change(house)
    await found.ingest(found.before)
    return found


async def test_the_present_space_answers_until_somebody_switches(change):
    assert await change.found("owl3") >= {"d3.md"}
    change.house.write("new.md", "# New\n\nThe heron fishes at dawn.")
    assert (await change.ingest()).added == 1  # by the embedder that the collection has
    assert not change.two.texts
    status = await change.after.spaces.status(OPERATOR, "docs")
    assert (status.answers.id, status.configured, status.beside) == ("one:64", "two:32", None)
    report = await change.build()
    assert (report.complete, report.documents, report.embedded) == (True, 7, 7)
    assert (await change.after.explain(caller(), "heron", collection="docs")).space == "one:64"
    done = await change.switch()
    assert (done.answers.id, done.answers.switched_by) == ("two:32", OPERATOR.principal.id)
    asked = len(change.two.texts)
    told = await change.after.explain(caller(), "heron", collection="docs", mode="dense")
    assert told.space == "two:32"
    assert told.candidates[0].passage.source == "new.md"
    assert change.two.texts[asked:] == ["heron"]


async def test_after_a_switch_no_file_is_read_and_nothing_is_embedded_again(change):
    await change.build()
    first = (await change.after.history.snapshot(OPERATOR, "docs")).id
    await change.switch()
    embedded = len(change.two.texts), len(change.one.texts)
    report = await change.ingest()
    assert (report.unchanged, report.changed, report.added, report.restored) == (6, 0, 0, 0)
    assert (len(change.two.texts), len(change.one.texts)) == embedded
    assert (await change.after.history.snapshot(OPERATOR, "docs")).id != first
    [kinds] = {c.kinds for c in (await change.after.history.diff(OPERATOR, "docs", first)).changed}
    assert kinds == ("pipeline",)


async def test_switching_back_is_the_same_step_until_the_old_space_is_dropped(change):
    await change.build()
    await change.switch()
    await change.switch()
    assert (await change.after.spaces.status(OPERATOR, "docs")).answers.id == "one:64"
    report = await change.ingest(change.before)
    assert (report.unchanged, report.changed) == (6, 0)
    await change.switch()
    assert await change.after.spaces.drop(OPERATOR, "docs") == "one:64"
    with pytest.raises(NotFound, match="one space only"):
        await change.switch()
    assert await change.found("owl3") >= {"d3.md"}
    stats = await change.house.index.stats(IndexScope(OPERATOR.tenant, "docs", "one:64"))
    assert stats.passages == 0
    # And over again, from the space that was built beside to a new one.
    await change.before.spaces.build(OPERATOR, "docs")
    await change.switch(change.before)
    assert (await change.before.spaces.status(OPERATOR, "docs")).answers.id == "one:64"
    assert await change.found("owl3") >= {"d3.md"}


async def test_a_stopped_build_goes_on_without_embedding_anything_twice(change):
    change.two.after = 3
    with pytest.raises(Unavailable):
        await change.build()
    done = list(change.two.texts)
    assert done
    status = await change.after.spaces.status(OPERATOR, "docs")
    assert status.beside is not None
    assert status.beside.error_code == "embedder_away"
    assert 0 < len(status.outstanding) < 6
    with pytest.raises(Conflict) as refused:
        await change.switch()
    assert refused.value.code == "space_incomplete"
    change.two.after = None
    report = await change.build()
    assert report.complete
    assert len(change.two.texts) == len(set(change.two.texts)) == 6
    assert report.embedded == 6 - len(done)


async def test_a_build_that_is_cancelled_keeps_what_it_wrote(change):
    async def stop(progress):
        if progress.done > 0:
            raise Conflict("stopped", code="cancelled")

    with pytest.raises(Conflict):
        await change.build(stop)
    kept = len(change.two.texts)
    assert 0 < kept < 6
    assert (await change.build()).embedded == 6 - kept


async def test_what_the_index_lost_is_put_back_without_a_model(change):
    await change.build()
    embedded = len(change.two.texts)
    await change.house.index.drop(OPERATOR.tenant, place_of("docs", "two:32"))
    assert (await change.build()).documents == 6
    await change.house.index.drop(OPERATOR.tenant)
    await change.ingest()
    assert (await change.after.spaces.status(OPERATOR, "docs")).complete
    ids = await change.ids()
    assert await change.rows("two:32", ids["d1.md"])
    assert await change.rows("one:64", ids["d1.md"])
    assert len(change.two.texts) == embedded


async def test_while_two_stand_every_ingest_writes_both(change):
    await change.build()
    change.house.write("d1.md", "# Rule 1\n\nThe stork moved to the chimney.")
    change.house.write("new.md", "# New\n\nThe heron fishes at dawn.")
    (change.house.folder / "d2.md").unlink()
    gone = (await change.ids())["d2.md"]
    await change.ingest()
    assert (await change.after.spaces.status(OPERATOR, "docs")).complete
    ids = await change.ids()
    for space in ("one:64", "two:32"):
        assert b"stork" in (await change.rows(space, ids["d1.md"]))[0].payload
        assert await change.rows(space, ids["new.md"])
        assert not await change.rows(space, gone)
    await change.switch()
    change.house.write("late.md", "# Late\n\nThe kingfisher waits.")
    await change.ingest()
    ids = await change.ids()
    assert await change.rows("one:64", ids["late.md"])
    assert await change.rows("two:32", ids["late.md"])
    await change.switch()
    assert await change.found("kingfisher") >= {"late.md"}


async def test_a_model_that_is_away_stops_only_its_own_space(change):
    await change.build()
    change.two.after = 0
    change.house.write("d1.md", "# Rule 1\n\nThe stork moved to the chimney.")
    report = await change.ingest()
    assert (report.changed, report.failed) == (1, ())
    status = await change.after.spaces.status(OPERATOR, "docs")
    assert [one.source for one in status.outstanding] == ["d1.md"]
    # What it held of before is not there either: it would be found after a switch.
    assert not await change.rows("two:32", (await change.ids())["d1.md"])
    change.two.after = None
    assert (await change.build()).documents == 1
    await change.switch()


async def test_a_right_taken_away_between_build_and_switch_is_gone_in_both(change):
    await change.build()
    ids = await change.ids()
    rules = [{"match": "d1.md", "readers": ["group:hr"]}, {"match": "**", "readers": ["public"]}]
    await change.ingest(permissions=rules)
    public = frozenset({"public"})
    for space in ("one:64", "two:32"):
        assert not await change.rows(space, ids["d1.md"], public)
        assert await change.rows(space, ids["d1.md"], frozenset({"group:hr"}))
    await change.switch()
    assert "d1.md" not in await change.found("owl1")
    assert "d1.md" in await change.found("owl1", caller("hr"))


async def test_deleting_and_erasing_reach_both(change):
    await change.build()
    ids = await change.ids()
    await change.after.delete(OPERATOR, ids["d1.md"])
    target = await change.after.history.target(OPERATOR, ids["d2.md"])
    texts = {"d1.md": b"owl1", "d2.md": b"owl2"}
    blobs = await change.after.history.erase(OPERATOR, [target])
    assert not any((await change.after.history.left_of(OPERATOR, [target], blobs)).values())
    for space in ("one:64", "two:32"):
        for name in texts:
            assert not await change.rows(space, ids[name])
    # Not in the vectors that are kept beside either.
    for digest in blobs:
        assert not await change.house.blobs.exists(OPERATOR.tenant, digest)
    held = await change.after.spaces._s.spaces.known(OPERATOR.tenant, "docs", "two:32")
    for known in held.values():
        kept = decode_kept(await change.house.blobs.get(OPERATOR.tenant, known.kept_digest))
        assert not any("owl1 " in chunk.search_text or "owl2 " in chunk.search_text for chunk in kept.chunks)
    assert set(held) == {ids[f"d{n}.md"] for n in (0, 3, 4, 5)}


async def test_what_is_erased_or_kept_out_while_it_is_built_is_in_no_space(change):
    ids = await change.ids()
    held = change.after.spaces._s.spaces
    blobs = []

    async def meanwhile():
        target = await change.after.history.target(OPERATOR, ids["d0.md"])
        blobs.extend(await change.after.history.erase(OPERATOR, [target]))
        await change.after.review(OPERATOR, ids["d1.md"], "kept")

    change.two.meanwhile = meanwhile
    assert (await change.build()).complete
    for space in ("one:64", "two:32"):
        assert not await change.rows(space, ids["d0.md"])
        assert not await change.rows(space, ids["d1.md"])
    known = await held.known(OPERATOR.tenant, "docs", "two:32")
    assert ids["d0.md"] not in known
    assert not any([await change.house.blobs.exists(OPERATOR.tenant, digest) for digest in blobs])
    await change.switch()
    assert {"d0.md", "d1.md"}.isdisjoint(await change.found("owl0 owl1", limit=50))


async def test_a_document_that_is_held_back_leaves_both(change):
    await change.build()
    ids = await change.ids()
    await change.after.review(OPERATOR, ids["d4.md"], "kept")
    for space in ("one:64", "two:32"):
        assert not await change.rows(space, ids["d4.md"])
    await change.switch()
    assert "d4.md" not in await change.found("owl4")
    await change.after.review(OPERATOR, ids["d4.md"], "released")
    for space in ("one:64", "two:32"):
        assert await change.rows(space, ids["d4.md"])


async def test_going_back_to_a_snapshot_reaches_both(change):
    first = (await change.after.history.snapshot(OPERATOR, "docs")).id
    change.house.write("d1.md", "# Rule 1\n\nThe stork moved to the chimney.")
    change.house.write("new.md", "# New\n\nThe heron fishes at dawn.")
    await change.ingest()
    await change.build()
    report = await change.after.history.rollback(OPERATOR, change.house.spec(), first)
    assert (report.restored, report.removed, report.missing) == (1, 1, ())
    assert (await change.after.spaces.status(OPERATOR, "docs")).complete
    ids = await change.ids()
    for space in ("one:64", "two:32"):
        assert b"owl1" in (await change.rows(space, ids["d1.md"]))[0].payload
    await change.switch()
    assert await change.found("owl1") >= {"d1.md"}
    assert "new.md" not in await change.found("heron")


async def test_going_back_after_a_switch_embeds_what_was_kept_in_the_old_space(change):
    first = (await change.after.history.snapshot(OPERATOR, "docs")).id
    change.house.write("d1.md", "# Rule 1\n\nThe stork moved to the chimney.")
    await change.ingest()
    await change.build()
    await change.switch()
    await change.after.spaces.drop(OPERATOR, "docs")
    report = await change.after.history.rollback(OPERATOR, change.house.spec(), first)
    assert (report.restored, report.missing) == (1, ())
    assert await change.found("owl1", mode="dense") >= {"d1.md"}


async def test_passages_that_are_too_long_are_cut_again_from_the_kept_text(change):
    words = " ".join(f"Sentence {n} speaks of plain things." for n in range(40))
    change.house.write("long.md", f"# Long\n\n{words}")
    await change.ingest()
    change.two.max_tokens = 40
    report = await change.build()
    assert (report.complete, report.cut_again, report.refused) == (True, 1, ())
    before = {d.source: d.passages for d in await change.after.documents(OPERATOR, collection="docs")}
    await change.switch()
    after = {d.source: d.passages for d in await change.after.documents(OPERATOR, collection="docs")}
    assert after["long.md"] > before["long.md"]
    assert all(change.two.count_tokens(text) <= 40 for text in change.two.texts)
    passages = await change.after.passages(caller(), (await change.ids())["long.md"])
    text = (await change.after.document_text(caller(), (await change.ids())["long.md"])).text
    assert all(text[p.span.start : p.span.end] == p.text for p in passages)
    assert (await change.ingest()).unchanged == 7


async def test_a_collection_may_have_an_embedder_of_its_own(house):
    change = Change(house)
    own = {"docs": CollectionSettings(embedder="two")}
    service = change.service("one", collections=own)
    house.write("a.md", "# A\n\nThe heron fishes at dawn.")
    await service.ingest(OPERATOR, house.spec())
    await service.ingest(OPERATOR, house.spec(collection="rest"))
    assert (await service.spaces.status(OPERATOR, "docs")).answers.id == "two:32"
    assert (await service.spaces.status(OPERATOR, "rest")).answers.id == "one:64"
    for collection in ("docs", "rest"):
        found = await service.search(caller(), "heron", collection=collection, mode="dense")
        assert [passage.source for passage in found] == ["a.md"]


async def test_a_collection_with_nothing_to_find_goes_over_at_once(house):
    change = Change(house)
    await change.ingest(change.before)
    house.write("a.md", "# A\n\nThe heron fishes at dawn.")
    await change.ingest()
    assert (await change.after.spaces.status(OPERATOR, "docs")).answers.id == "two:32"


async def test_an_embedder_that_is_gone_is_named_and_can_be_left(change):
    # Noted before its plug-in went away.
    del change.one
    service = KnowledgeService(
        change.house.sql,
        change.house.blobs,
        change.house.index,
        settings=KnowledgeSettings(embedder="two"),
        embedders={"two": change.two},
    )
    with pytest.raises(InvalidInput, match="one"):
        await service.search(caller(), "owl1", collection="docs")
    assert await service.search(caller(), "owl1", collection="docs", mode="lexical")
    assert (await service.spaces.build(OPERATOR, "docs")).complete
    await service.switch_space(OPERATOR, change.house.spec())
    assert await service.search(caller(), "owl1", collection="docs")
    await service.spaces.drop(OPERATOR, "docs")


async def test_changes_are_for_those_who_oversee_and_for_their_tenant(change):
    await change.build()
    other = caller(roles=OPERATOR.principal.roles, tenant="other")
    for call in (
        lambda ctx: change.after.spaces.status(ctx, "docs"),
        lambda ctx: change.after.spaces.build(ctx, "docs"),
        lambda ctx: change.after.switch_space(ctx, change.house.spec()),
        lambda ctx: change.after.spaces.drop(ctx, "docs"),
    ):
        with pytest.raises(Forbidden):
            await call(caller())
        with pytest.raises(NotFound):
            await call(other)


async def test_what_cannot_be_built_says_what_to_do(change):
    with pytest.raises(Conflict, match="answers from the embedder") as same:
        await change.before.spaces.build(OPERATOR, "docs")
    assert same.value.code == "nothing_to_build"
    await change.build()
    third = change.service("three")
    third._embedders._named = {**third._embedders._named, "three": HashEmbedder(name="three")}
    with pytest.raises(Conflict) as full:
        await third.spaces.build(OPERATOR, "docs")
    assert full.value.code == "space_in_the_way"
    with pytest.raises(NotFound):
        await change.after.search(caller(), "owl1", collection="docs", space="nobody's")


async def test_a_model_whose_files_changed_is_not_taken_for_the_one_it_was(change):
    change.one.id = "one:other"
    with pytest.raises(Misconfigured) as changed:
        await change.found("owl1")
    assert changed.value.code == "embedder_changed"
    assert await change.found("owl1", mode="lexical")


async def test_no_search_in_either_space_ever_shows_what_a_reader_may_not_read(house):
    """Random rights, revoked and given between build and switch, in both spaces and both legs."""
    chance = random.Random(11)
    groups = ["public", "group:hr", "group:finance"]
    for number in range(12):
        house.write(
            f"d{number}.md", f"# Rule {number}\n\nThe owl rests on branch{number} and the stork on roof{number}."
        )
    change = Change(house)

    def rules():
        return [
            *({"match": f"d{n}.md", "readers": chance.sample(groups, chance.randint(0, 2))} for n in range(12)),
            {"match": "**", "readers": []},
        ]

    await change.ingest(change.before, permissions=rules())
    await change.build()
    for turn in range(4):
        await change.ingest(permissions=rules())
        if turn % 2:
            await change.switch()
        readers = {d.source: d.readers for d in await change.after.documents(OPERATOR, collection="docs")}
        ids = await change.ids()
        for space in ("one:64", "two:32"):
            for asker in (caller(), caller("hr"), caller("finance")):
                for mode in ("dense", "lexical", "hybrid"):
                    found = await change.found("owl branch stork", asker, mode=mode, space=space, limit=50)
                    assert found == {name for name, may in readers.items() if may & asker.readers}
                for name, document in ids.items():
                    assert bool(await change.rows(space, document, asker.readers)) == bool(
                        readers[name] & asker.readers
                    )


async def test_what_fits_nowhere_is_refused_by_name(change):
    first = (await change.after.history.snapshot(OPERATOR, "docs")).id
    change.house.write("d1.md", "# Rule 1\n\nThe stork moved to the chimney.")
    await change.ingest()
    # What going back wrote has passages and no layout to cut it again by.
    await change.after.history.rollback(OPERATOR, change.house.spec(), first)
    change.two.max_tokens = 5
    report = await change.build()
    assert [(one.source, one.code) for one in report.refused] == [("d1.md", "passages_not_kept")]
    assert not report.complete
    with pytest.raises(Conflict, match="1 documents"):
        await change.switch()
    await change.after.history.resume(OPERATOR, change.house.spec())
    await change.ingest()
    assert (await change.build()).complete


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_both_spaces_hold_what_the_registry_says_and_no_more(house, seed):
    """Documents change, go, are closed, held, erased, set back; spaces are built, switched, dropped; in any order."""
    chance = random.Random(seed)
    names = [f"d{n}.md" for n in range(6)]
    for name in names:
        house.write(name, f"# {name}\n\nThe owl rests on branch{chance.randint(0, 99)} at noon.")
    change = Change(house)
    rules = [{"match": "**", "readers": ["public"]}]
    await change.ingest(change.before)
    snapshots = [(await change.after.history.snapshot(OPERATOR, "docs")).id]
    ever: set[str] = set((await change.ids()).values())

    async def step() -> None:
        what = chance.choice(["write", "write", "unlink", "close", "keep", "erase", "back", "build", "switch", "drop"])
        name = chance.choice(names)
        standing = (await change.ids()).get(name)
        if what == "write":
            words = chance.sample(["stork", "heron", "wren", "rook", "crane"], 3)
            house.write(
                name, f"# {name}\n\nThe {words[0]} and the {words[1]} met a {words[2]}. " * chance.randint(1, 60)
            )
        elif what == "unlink":
            (house.folder / name).unlink(missing_ok=True)
        elif what == "close":
            readers = chance.sample(["public", "group:hr", "group:finance"], chance.randint(0, 2))
            rules.insert(0, {"match": name, "readers": readers})
        elif what == "keep" and standing:
            await change.after.review(OPERATOR, standing, chance.choice(["kept", "released"]))
        elif what == "erase" and standing and len(ever) > 3:
            await change.after.history.erase(OPERATOR, [await change.after.history.target(OPERATOR, standing)])
        elif what == "back":
            await change.after.history.rollback(OPERATOR, house.spec(permissions=rules), chance.choice(snapshots))
            if chance.random() < 0.7:
                await change.after.history.resume(OPERATOR, house.spec(permissions=rules))
        elif what in {"build", "switch", "drop"}:
            try:
                if what == "build":
                    assert (await change.build()).complete
                elif what == "switch":
                    await change.after.switch_space(OPERATOR, house.spec(permissions=rules))
                else:
                    await change.after.spaces.drop(OPERATOR, "docs")
            except (Conflict, NotFound):
                pass  # nothing to build, nothing to switch to
            return
        await change.ingest(permissions=rules)
        snapshots.append((await change.after.history.snapshot(OPERATOR, "docs")).id)

    for _ in range(14):
        await step()
        infos = await change.after.documents(OPERATOR, collection="docs")
        ever |= {info.id for info in infos}
        found = {info.id: info for info in infos if info.passages}
        for scope in await change.after.spaces.scopes(OPERATOR.tenant, "docs"):
            for document in ever:
                info = found.get(document)
                hits = await house.index.document_passages(scope, document, readers=ALL)
                may = info is not None and bool(info.readers & ALL)
                assert bool(hits) == may, (scope.embedder, document)
                assert len(await house.index.document_passages(scope, document, readers=frozenset({"public"}))) == (
                    len(hits) if info is not None and "public" in info.readers else 0
                )
                texts = {PassagePayload.decode(hit.payload).digest for hit in hits}
                assert texts <= {info.text_digest if info else ""}
    assert not (await change.after.spaces.status(OPERATOR, "docs")).outstanding
