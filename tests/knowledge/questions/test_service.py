"""Questions follow their documents: who may read them, whether they still hold, and that they go with them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.knowledge.conftest import OPERATOR, caller

from interlock.core.context import Role
from interlock.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from interlock.core.passages import Span
from interlock.knowledge.questions.service import NewQuestion, Place
from interlock.knowledge.questions.store import QuestionStore, StoredAnswer, StoredQuestion

REVIEWER = caller(roles=(Role.REVIEWER,), user="rita")
RULES = [{"match": "pay/*", "readers": ["group:finance"]}, {"match": "**", "readers": ["public"]}]
FINANCE = caller("finance", roles=(Role.OPERATOR,), user="fay")


@pytest.fixture
async def made(house):
    """One question of an open document, and one of a closed one."""
    house.write("open.md", "# Open\n\nThe heron eats fish by the river.\n")
    house.write("pay/closed.md", "# Closed\n\nThe owl is paid in mice.\n")
    await house.ingest(permissions=RULES)
    infos = {info.source: info for info in await house.knowledge.documents(OPERATOR, collection="docs")}
    questions = house.knowledge.questions

    async def ask(source, text, quote, ctx):
        info = infos[source]
        whole = (await house.knowledge.document_text(ctx, info.id)).text
        span = Span(whole.index(quote), whole.index(quote) + len(quote))
        return await questions.add(
            ctx, "docs", NewQuestion(text, "person", (Place(info.id, info.text_digest, span, quote),))
        )

    first = await ask("open.md", "what does the heron eat?", "eats fish", OPERATOR)
    second = await ask("pay/closed.md", "what is the owl paid in?", "mice", FINANCE)
    return questions, first, second, infos


async def test_words_are_for_readers_of_all_documents_alone(house, made):
    questions, first, second, _ = made
    told = {one.id: one for one in await questions.of_collection(OPERATOR, "docs")}
    assert told[first.id].text == "what does the heron eat?"
    assert (told[second.id].withheld, told[second.id].text, told[second.id].answers[0].quote) == (True, "", "")
    assert [one.id for one in await questions.of_collection(REVIEWER, "docs")] == [first.id]
    with pytest.raises(NotFound):
        await questions.get(REVIEWER, second.id)
    with pytest.raises(Forbidden):
        await questions.decide(OPERATOR, second.id, "accepted")
    with pytest.raises(Forbidden):
        await questions.of_collection(caller(), "docs")
    assert (await questions.decide(FINANCE, second.id, "accepted")).state == "accepted"
    # A right that is taken away takes the words with it, before any run.
    await house.ingest(permissions=[{"match": "**", "readers": []}])
    assert all(one.withheld for one in await questions.of_collection(OPERATOR, "docs"))
    assert await questions.of_collection(REVIEWER, "docs") == []


async def test_another_tenant_has_no_question_of_this_one(made):
    questions, first, *_ = made
    stranger = caller(tenant="other", roles=(Role.OPERATOR,))
    assert await questions.of_collection(stranger, "docs") == []
    with pytest.raises(NotFound):
        await questions.edit(stranger, first.id, "mine?")


async def test_a_changed_document_makes_its_questions_stale(house, made):
    questions, first, *_ = made
    house.write("open.md", "# Open\n\nThe heron eats frogs by the river.\n")
    await house.ingest(permissions=RULES)
    assert (await questions.get(OPERATOR, first.id)).stale
    with pytest.raises(Conflict, match="another text by now"):
        await questions.decide(OPERATOR, first.id, "accepted")
    assert (await questions.decide(OPERATOR, first.id, "rejected")).state == "rejected"


async def test_a_document_that_is_gone_takes_its_questions_along(house, made):
    questions, first, second, infos = made
    (house.folder / "open.md").unlink()
    await house.ingest(permissions=RULES)
    # Away, and not yet removed: nobody reads its words any more.
    gone = await questions.get(OPERATOR, first.id)
    assert (gone.stale, gone.withheld, gone.text) == (True, True, "")
    await house.knowledge.delete(OPERATOR, infos["open.md"].id)
    with pytest.raises(NotFound):
        await questions.get(OPERATOR, first.id)
    assert await questions.count_of(OPERATOR, [infos["open.md"].id]) == 0
    assert [one.id for one in await questions.of_collection(FINANCE, "docs")] == [second.id]


async def test_nothing_is_stored_of_a_document_that_changed_or_went_meanwhile(house, made):
    infos = made[3]
    info = infos["open.md"]
    store = QuestionStore(house.sql)
    at = datetime.now(UTC)
    answer = StoredAnswer(info.id, "sha256:of-before", 0, 1, "T", 1)
    row = StoredQuestion(
        "qst_new", "docs", "x?", "person", "proposed", "", "", edited=False, made_by="p", made_at=at, decided_by="",
        decided_at=None, answers=(answer,),
    )  # fmt: skip
    assert not await store.add(OPERATOR.tenant, row)
    assert await store.one(OPERATOR.tenant, "qst_new") is None
    good = row._replace(answers=(answer._replace(text_digest=info.text_digest),))
    assert await store.add(OPERATOR.tenant, good)
    assert not await store.add(OPERATOR.tenant, good)


async def test_what_cannot_be_stored_is_named(made):
    questions, first, _, infos = made
    closed = infos["pay/closed.md"]
    place = Place(closed.id, closed.text_digest)
    with pytest.raises(NotFound, match="not there"):
        await questions.add(OPERATOR, "docs", NewQuestion("what?", "person", (place,)))
    for text in (" ", "x" * 2001):
        with pytest.raises(InvalidInput):
            await questions.edit(OPERATOR, first.id, text)
    with pytest.raises(InvalidInput, match="names the documents"):
        await questions.add(OPERATOR, "docs", NewQuestion("what?", "person", ()))
