"""What is kept of an answer is given while its owner may read what it was made from, and no longer."""

from __future__ import annotations

import asyncio
import time

import openai
import pytest
import sqlalchemy as sa

from interlock.app import open_app
from interlock.core.context import EndUser
from interlock.core.ids import DocumentId
from interlock.gateway.kept import KeptResponse
from interlock.gateway.store import conversation_items, responses

pytestmark = pytest.mark.model
QUESTION = "What is the salary band of a senior engineer in Leeds?"


def fay(site, *groups):
    """The same person, with the groups of the moment."""
    return openai.OpenAI(
        base_url=f"{site.url}/v1",
        api_key=site.keys["plain"],
        default_headers={"x-interlock-on-behalf-of": site.token(groups=list(groups))},
        max_retries=0,
        timeout=60,
    )


@pytest.fixture
def before(site):
    with fay(site, "finance") as client:
        yield client


@pytest.fixture
def after(site):
    with fay(site) as client:
        yield client


def is_none(call, code="response_not_found"):
    with pytest.raises(openai.NotFoundError) as caught:
        call()
    assert caught.value.code == code
    assert "61,000" not in caught.value.response.text
    return True


def streamed(client, **request):
    with client.responses.stream(**request) as events:
        return events.get_final_response()


def in_background(client, **request):
    response = client.responses.create(**request, background=True)
    deadline = time.monotonic() + 60
    while response.status in {"queued", "in_progress"} and time.monotonic() < deadline:
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    assert response.status == "completed"
    return response


async def write(app, statement):
    await app.sql.write(lambda conn: conn.execute(statement))


@pytest.mark.parametrize("make", [lambda client, **asked: client.responses.create(**asked), streamed, in_background])
def test_a_response_ends_with_the_right_to_what_it_was_made_from(before, after, make):
    made = make(before, model="app/helper", input=QUESTION)
    assert "61,000" in made.model_dump_json()
    assert before.responses.retrieve(made.id).output_text == made.output_text
    assert is_none(lambda: after.responses.retrieve(made.id))
    assert is_none(lambda: after.responses.input_items.list(made.id))
    assert is_none(lambda: after.responses.create(model="scripted", input="and?", previous_response_id=made.id))
    reference = [{"type": "item_reference", "id": made.output[0].id}]
    assert is_none(lambda: after.responses.create(model="scripted", input=reference), "item_not_found")
    unknown = "resp_0000"
    assert is_none(lambda: before.responses.retrieve(unknown))
    # Nothing was lost: who may read it again has it again.
    assert before.responses.retrieve(made.id).output_text == made.output_text
    after.responses.delete(made.id)
    assert is_none(lambda: before.responses.retrieve(made.id))


def test_an_answer_from_readable_documents_stays(before, after):
    made = after.responses.create(model="app/helper", input="How many days have customers to return hardware?")
    plain = after.responses.create(model="scripted", input="hello")
    for client in (before, after):
        assert client.responses.retrieve(made.id).output_text == made.output_text
        assert client.responses.retrieve(plain.id).output_text == "You said: hello"


def test_answers_that_go_on_from_one_end_with_it(before, after):
    first = before.responses.create(model="app/helper", input=QUESTION)
    second = before.responses.create(model="scripted", input="say it again", previous_response_id=first.id)
    reference = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "and again"}]
    third = before.responses.create(model="scripted", input=reference)
    fourth = before.responses.create(model="scripted", input="once more", previous_response_id=third.id)
    for made in (second, third, fourth):
        assert before.responses.retrieve(made.id).id == made.id
        assert is_none(lambda made=made: after.responses.retrieve(made.id))
        assert is_none(lambda made=made: after.responses.input_items.list(made.id))


@pytest.mark.parametrize("store", [True, False])
def test_items_of_a_conversation_end_with_the_right_to_what_they_were_made_from(before, after, store):
    talk = before.conversations.create(items=[{"type": "message", "role": "user", "content": "zero"}])
    told = before.responses.create(model="app/helper", input=QUESTION, conversation=talk.id, store=store)
    again = before.responses.create(model="scripted", input="again", conversation=talk.id, store=store)
    everything = before.conversations.items.list(talk.id, order="asc").data
    assert [item.role for item in everything] == ["user", "user", "assistant", "user", "assistant"]
    hidden = {told.output[0].id, again.output[0].id}
    seen = after.conversations.items.list(talk.id, order="asc").data
    assert [item.id for item in seen] == [item.id for item in everything if item.id not in hidden]
    pages = list(after.conversations.items.list(talk.id, limit=1))
    assert [item.id for item in pages] == [item.id for item in reversed(seen)]
    for item in hidden:
        assert is_none(lambda item=item: after.conversations.items.retrieve(item, conversation_id=talk.id),
                       "item_not_found")  # fmt: skip
    # It goes on without them, and what comes now rests on nothing hidden.
    now = after.responses.create(model="scripted", input="now", conversation=talk.id)
    assert now.usage.input_tokens == len(f"zero {QUESTION} again now".split())
    assert now.output[0].id in {item.id for item in after.conversations.items.list(talk.id)}
    assert hidden < {item.id for item in before.conversations.items.list(talk.id)}


def test_what_was_stored_by_an_older_release_is_withheld_by_the_documents_it_names(site, before, after):
    made = before.responses.create(model="app/helper", input=QUESTION)
    talk = before.conversations.create()
    said = before.responses.create(model="app/helper", input=QUESTION, conversation=talk.id)
    search = {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["x"], "results": None}
    searched = KeptResponse([], {"id": "resp_older", "background": False, "output": [search]})

    async def make_older():
        async with open_app(site.workspace) as app:
            kept = app.parts.kept
            ctx = app.owner().on_behalf_of(EndUser("fay"))
            await kept.keep_response(ctx, searched)
            which = responses.c.id.in_([made.id, said.id, "resp_older"])
            for row in await app.sql.read(lambda conn: conn.execute(sa.select(responses).where(which)).all()):
                one = await kept.unseal(row.sealed, f"response:acme:{row.id}")
                older = await kept.seal({n: one[n] for n in ("items", "response")}, f"response:acme:{row.id}")
                await write(app, sa.update(responses).where(responses.c.id == row.id).values(sealed=older))
            mine = conversation_items.c.conversation == talk.id
            for row in await app.sql.read(lambda conn: conn.execute(sa.select(conversation_items).where(mine)).all()):
                purpose = f"item:acme:{talk.id}:{row.id}"
                older = await kept.seal((await kept.unseal(row.sealed, purpose))["item"], purpose)
                whole = sa.update(conversation_items).where(mine, conversation_items.c.id == row.id)
                await write(app, whole.values(sealed=older))

    asyncio.run(make_older())
    assert before.responses.retrieve(made.id).output_text == made.output_text
    assert is_none(lambda: after.responses.retrieve(made.id))
    assert len(before.conversations.items.list(talk.id).data) == 2
    assert said.output[0].id not in {item.id for item in after.conversations.items.list(talk.id)}
    # What that answer was made from was not told, and cannot be known.
    assert is_none(lambda: before.responses.retrieve("resp_older"))


async def test_nobody_may_read_a_document_that_is_gone(site):
    async with open_app(site.workspace) as app:
        ctx = app.owner().on_behalf_of(EndUser("fay", frozenset({"finance"})))
        knowledge = app.parts.knowledge
        own = [info.id for info in await knowledge.documents(ctx)]
        assert await knowledge.may_read(ctx, [])
        assert await knowledge.may_read(ctx, own)
        assert not await knowledge.may_read(ctx, [*own, DocumentId("doc_" + "0" * 26)])
