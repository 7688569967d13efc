"""What a run takes away: sources that come back, documents that may come back, and outages that look like emptiness."""

from __future__ import annotations

import pytest
from tests.knowledge.connectors.test_folder import Folder
from tests.knowledge.connectors.test_git import Repository

from interlock.core.errors import Unavailable
from interlock.knowledge import parse_spec
from interlock.knowledge.removals import Removals
from interlock.testing.connectors import OPERATOR, desk

__all__ = ["desk"]


@pytest.fixture
async def world(tmp_path):
    root = tmp_path / "world"
    root.mkdir()
    repository = Repository({"kind": "git", "url": "world", "ref": "main"}, {}, root)
    repository.git("init", "-q", "-b", "main")
    return repository


@pytest.fixture
def notes(tmp_path):
    """A folder beside the repository."""
    (tmp_path / "notes").mkdir()
    return Folder({}, {}, tmp_path / "notes")


def spec_of(desk, *sources):
    rules = [{"match": "**", "readers": ["public"]}]
    values = {"collection": "docs", "sources": list(sources), "permissions": rules}
    return parse_spec(values, base=desk.folder, name="x")


async def fill(world, count, first=0):
    for number in range(first, first + count):
        await world.put(f"n{number}", f"The heron number{number} stands by the river.")


GIT = {"kind": "git", "name": "it", "url": "world", "ref": "main"}
NOTES = {"name": "notes", "path": "notes", "prefix": "notes"}


async def test_a_source_that_is_put_back_into_the_file_is_read_again(desk, world, notes):
    await world.put("n0", "The heron stands by the river.")
    await notes.put("m0", "The otter swims at night.")
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, GIT, NOTES))
    report = await desk.knowledge.ingest(OPERATOR, spec_of(desk, NOTES))
    assert report.deleted == 1
    assert set(await desk.states.states(OPERATOR.tenant, "docs")) == {"notes"}
    report = await desk.knowledge.ingest(OPERATOR, spec_of(desk, GIT, NOTES))
    assert report.added == 1
    assert await desk.found("heron") == {"n0.md"}


async def test_a_run_over_one_source_forgets_no_other(desk, world, notes):
    await world.put("n0", "The heron stands by the river.")
    await notes.put("m0", "The otter swims at night.")
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, GIT, NOTES))
    cursor = (await desk.state()).cursor
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, GIT, NOTES), only="notes")
    assert (await desk.state()).cursor == cursor
    assert set(await desk.documents()) == {"n0.md", "notes/m0.md"}


async def test_a_deleted_document_comes_back_while_its_file_is_there(desk, world):
    await world.put("n0", "The heron stands by the river.")
    await world.put("n1", "The otter swims at night.")
    await desk.ingest()
    gone = (await desk.documents())["n0.md"]
    await desk.knowledge.delete(OPERATOR, gone.id)
    assert await desk.found("heron") == set()
    report = await desk.ingest()
    assert (report.added, report.unchanged) == (1, 1)
    assert (await desk.documents())["n0.md"].id == gone.id


async def test_an_erased_document_comes_back_when_it_is_allowed_again(desk, world):
    await world.put("n0", "The heron stands by the river.")
    await world.put("n1", "The otter swims at night.")
    await desk.ingest()
    history = desk.knowledge.history
    gone = (await desk.documents())["n0.md"].id
    await history.erase(OPERATOR, [await history.target(OPERATOR, gone)])
    assert (await desk.ingest()).added == 0
    await history.let_in(OPERATOR, gone)
    assert (await desk.ingest()).added == 1
    assert await desk.found("heron") == {"n0.md"}


async def test_a_source_that_says_it_is_empty_keeps_its_documents_until_that_is_confirmed(desk, notes):
    await fill(notes, 3)
    source = {**NOTES, "prefix": ""}
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, source))
    for number in range(3):
        await notes.remove(f"n{number}")
    with pytest.raises(Unavailable) as caught:
        await desk.knowledge.ingest(OPERATOR, spec_of(desk, source))
    assert caught.value.code == "too_many_removals"
    assert "3 of its 3" in caught.value.message
    assert "--allow-removals" in caught.value.hint
    assert await desk.found("heron") == {"n0.md", "n1.md", "n2.md"}
    state = (await desk.states.states(OPERATOR.tenant, "docs"))["notes"]
    assert state.error_code == "too_many_removals"
    assert (await desk.knowledge.ingest(OPERATOR, spec_of(desk, source), allow_removals=True)).deleted == 3
    assert await desk.documents() == {}


async def test_a_setting_of_the_source_confirms_once_and_for_all(desk, notes):
    await fill(notes, 2)
    source = {**NOTES, "allow_removals": True}
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, source))
    await notes.remove("n0")
    await notes.remove("n1")
    assert (await desk.knowledge.ingest(OPERATOR, spec_of(desk, source))).deleted == 2


async def test_losing_more_than_half_of_many_is_refused_and_what_is_new_is_taken(desk, notes):
    await fill(notes, 20)
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, NOTES))
    for number in range(10):
        await notes.remove(f"n{number}")
    assert (await desk.knowledge.ingest(OPERATOR, spec_of(desk, NOTES))).deleted == 10
    await fill(notes, 10, first=20)
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, NOTES))
    for number in range(10, 21):
        await notes.remove(f"n{number}")
    await notes.put("fresh", "A kingfisher came.")
    with pytest.raises(Unavailable) as caught:
        await desk.knowledge.ingest(OPERATOR, spec_of(desk, NOTES))
    assert "11 of its 20" in caught.value.message
    assert await desk.found("kingfisher") == {"notes/fresh.md"}
    assert len(await desk.documents()) == 21


async def test_a_source_taken_out_of_the_file_is_no_loss_of_the_one_that_stays(desk, world, notes):
    await fill(notes, 1)
    for number in range(24):
        (world.root / f"n{number}.md").write_text(f"The heron number{number} stands by the river.")
    world.commit()
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, GIT, NOTES))
    assert (await desk.knowledge.ingest(OPERATOR, spec_of(desk, NOTES))).deleted == 24
    assert (await desk.knowledge.ingest(OPERATOR, spec_of(desk, GIT))).added == 24


async def test_a_commit_that_removes_everything_is_refused_and_stays_to_be_taken(desk, world):
    await fill(world, 2)
    await desk.ingest()
    before = (await desk.state()).cursor
    world.git("rm", "-q", "*.md")
    world.commit()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await desk.ingest()
        assert (await desk.state()).cursor == before
    assert len(await desk.documents()) == 2
    report = await desk.knowledge.ingest(OPERATOR, desk.spec(), allow_removals=True)
    assert report.deleted == 2


async def test_one_source_that_is_refused_does_not_stop_the_others(desk, world, notes):
    await world.put("n0", "The heron stands by the river.")
    await fill(notes, 2)
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, GIT, NOTES))
    await notes.remove("n0")
    await notes.remove("n1")
    await world.put("n1", "The otter swims at night.")
    report = await desk.knowledge.ingest(OPERATOR, spec_of(desk, GIT, NOTES))
    assert (report.added, report.deleted) == (1, 0)
    assert [(away.source, away.code) for away in report.away] == [("notes", "too_many_removals")]


async def test_what_the_file_leaves_out_is_no_loss(desk, notes):
    await fill(notes, 24)
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, NOTES))
    report = await desk.knowledge.ingest(OPERATOR, spec_of(desk, {**NOTES, "exclude": ["n1*", "n2*"]}))
    assert report.deleted == 16


async def test_documents_that_were_renamed_are_no_loss(desk, notes):
    await fill(notes, 2)
    await desk.knowledge.ingest(OPERATOR, spec_of(desk, NOTES))
    await notes.remove("n0")
    await notes.remove("n1")
    await fill(notes, 2, first=5)
    report = await desk.knowledge.ingest(OPERATOR, spec_of(desk, NOTES))
    assert (report.added, report.deleted) == (2, 2)


async def test_removals_that_come_in_parts_count_together(desk):
    source = spec_of(desk, NOTES).sources[0]
    held = [f"notes/n{number}.md" for number in range(40)]
    removals = Removals(source, held, allowed=False)
    assert removals.refusal(held[:20], ()) is None
    assert removals.refusal(held[20:21], ()) is not None
