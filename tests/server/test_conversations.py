"""Conversations, references to items and responses in the background, through the official client."""

from __future__ import annotations

import asyncio
import time

import openai
import pytest

from interlock.app import open_app
from interlock.testing.servers import run_server

from .conftest import workspace_of

pytestmark = pytest.mark.model


@pytest.fixture
def client(site):
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.keys["plain"], max_retries=0) as client:
        yield client


def others(site):
    return site.client("admin"), site.client("rival"), site.client("plain", token=site.token())


def until_ended(client, response, *, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        response = client.responses.retrieve(response.id)
        if response.status not in {"queued", "in_progress"}:
            return response
        time.sleep(0.05)
    raise AssertionError(f"the response is still {response.status}")


def test_a_conversation_remembers_what_was_asked_and_answered(client):
    said = {"type": "message", "role": "user", "content": "zero"}
    talk = client.conversations.create(items=[said], metadata={"topic": "tea"})
    assert (talk.object, talk.metadata) == ("conversation", {"topic": "tea"})
    first = client.responses.create(model="scripted", input="one", conversation=talk.id)
    assert first.conversation.id == talk.id
    # "zero", "one".
    assert first.usage.input_tokens == 2
    with client.responses.stream(model="scripted", input="two", conversation={"id": talk.id}, store=False) as events:
        second = events.get_final_response()
    # "zero", "one", "You said: one", "two".
    assert second.usage.input_tokens == 6
    items = client.conversations.items.list(talk.id, order="asc").data
    assert [(item.role, item.content[0].text) for item in items] == [
        ("user", "zero"),
        ("user", "one"),
        ("assistant", "You said: one"),
        ("user", "two"),
        ("assistant", "You said: two"),
    ]
    pages = client.conversations.items.list(talk.id, limit=2)
    assert [item.id for item in pages] == [item.id for item in reversed(items)]
    assert client.conversations.items.retrieve(items[0].id, conversation_id=talk.id).content[0].text == "zero"


def test_items_of_a_conversation_are_added_taken_out_and_the_whole_is_deleted(client):
    talk = client.conversations.create()
    added = client.conversations.items.create(
        talk.id,
        items=[
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a b"}]},
            {"type": "message", "role": "assistant", "content": "c"},
        ],
    )
    assert [item.role for item in added.data] == ["user", "assistant"]
    assert client.conversations.items.delete(added.first_id, conversation_id=talk.id).id == talk.id
    assert [item.id for item in client.conversations.items.list(talk.id)] == [added.last_id]
    assert client.conversations.update(talk.id, metadata={"n": "1"}).metadata == {"n": "1"}
    assert client.conversations.retrieve(talk.id).metadata == {"n": "1"}
    answer = client.responses.create(model="scripted", input="hi", conversation=talk.id)
    assert client.conversations.delete(talk.id).deleted
    for call in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
        with pytest.raises(openai.NotFoundError):
            call(talk.id)
    assert client.responses.retrieve(answer.id).output_text == "You said: hi", "a stored response stays"
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="scripted", input="hi", conversation=talk.id)
    assert caught.value.param == "conversation"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("conversations", {"items": [{"type": "computer_call", "id": "x"}]}, "items[0].type"),
        ("conversations", {"items": [{"type": "item_reference", "id": "x"}]}, "items[0].type"),
        ("conversations", {"items": [{"role": "user", "content": "a"}] * 21}, "items"),
        ("conversations", {"metadata": {"a": "b" * 600}}, "metadata"),
        ("responses", {"model": "scripted", "input": "a", "conversation": {}}, "conversation"),
        ("responses", {"model": "scripted", "input": "a", "background": True, "stream": True}, "stream"),
        ("responses", {"model": "scripted", "input": "a", "background": True, "store": False}, "store"),
        ("responses", {"model": "scripted", "input": [{"type": "item_reference", "id": "x"}]}, "input[0].id"),
        ("responses", {"model": "scripted", "input": [{"type": "item_reference"}]}, "input[0].id"),
        ("responses", {"model": "no/x", "input": "a", "background": True}, "model"),
        (
            "responses",
            {"model": "scripted", "input": "a", "conversation": "c", "previous_response_id": "r"},
            "previous_response_id",
        ),
    ],
)
def test_what_is_wrong_is_named(http, path, body, param):
    refused = http.post(f"/v1/{path}", json=body)
    assert refused.status_code in {400, 404}
    assert refused.json()["error"]["param"] == param


def test_items_are_referred_to_by_id(client):
    first = client.responses.create(model="scripted", input="one")
    asked = client.responses.input_items.list(first.id).data[0]
    talk = client.conversations.create(items=[{"type": "message", "role": "user", "content": "x y z"}])
    other = client.conversations.items.list(talk.id).data[0]
    again = client.responses.create(
        model="scripted",
        input=[
            {"type": "item_reference", "id": asked.id},
            {"id": first.output[0].id},
            {"type": "item_reference", "id": other.id},
            {"role": "user", "content": "two"},
        ],
    )
    # "one", "You said: one", "x y z", "two".
    assert again.usage.input_tokens == 8
    items = client.responses.input_items.list(again.id, order="asc").data
    assert [item.id for item in items][:3] == [asked.id, first.output[0].id, other.id]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="scripted", input=[{"type": "item_reference", "id": first.output[0].id}])


def test_conversations_items_and_responses_under_way_are_their_owners_alone(site, client):
    words = "a most private sentence"
    talk = client.conversations.create(items=[{"type": "message", "role": "user", "content": words}])
    item = client.conversations.items.list(talk.id).data[0]
    made = client.responses.create(model="scripted", input=words, background=True, conversation=talk.id)
    for other in others(site):
        with other:
            for path in (f"conversations/{talk.id}", f"conversations/{talk.id}/items", f"responses/{made.id}"):
                assert other.get(f"/v1/{path}").status_code == 404
            assert other.get(f"/v1/conversations/{talk.id}/items/{item.id}").status_code == 404
            assert other.delete(f"/v1/conversations/{talk.id}/items/{item.id}").status_code == 404
            assert other.delete(f"/v1/conversations/{talk.id}").status_code == 404
            assert other.post(f"/v1/conversations/{talk.id}", json={"metadata": {}}).status_code == 404
            adding = {"items": [{"role": "user", "content": "x"}]}
            assert other.post(f"/v1/conversations/{talk.id}/items", json=adding).status_code == 404
            assert other.post(f"/v1/responses/{made.id}/cancel").status_code == 404
            for body in ({"input": "x", "conversation": talk.id}, {"input": [{"id": item.id}]}):
                assert other.post("/v1/responses", json={"model": "scripted", **body}).status_code == 404
    assert until_ended(client, made).status == "completed"
    assert len(client.conversations.items.list(talk.id).data) == 3
    for stored in (site.workspace / ".interlock").rglob("*"):
        if stored.is_file():
            assert words.encode() not in stored.read_bytes(), stored.name


def test_a_response_in_the_background_is_queued_made_and_stays_the_same(site, client):
    made = client.responses.create(model="scripted", input="A MOMENT", background=True, metadata={"a": "b"})
    assert (made.status, made.background, made.output) == ("queued", True, [])
    done = until_ended(client, made)
    assert (done.id, done.created_at, done.status, done.background) == (made.id, made.created_at, "completed", True)
    assert done.output_text.startswith("A word. A word.")
    assert done.usage.output_tokens > 0
    assert client.responses.cancel(made.id).status == "completed", "what has ended stays as it is"
    more = client.responses.create(model="app/helper", input="What do you know?", previous_response_id=made.id)
    assert more.status == "completed"


def test_a_response_in_the_background_that_fails_says_why(client):
    failed = until_ended(client, client.responses.create(model="scripted", input="UPSTREAM DOWN", background=True))
    assert (failed.status, failed.error.code) == ("failed", "server_error")
    assert failed.error.message


def test_a_response_in_the_background_is_cancelled(client):
    made = client.responses.create(model="scripted", input="LONG", background=True)
    while client.responses.retrieve(made.id).status == "queued":
        time.sleep(0.02)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="scripted", input="x", previous_response_id=made.id)
    assert client.responses.cancel(made.id).status == "cancelled"
    time.sleep(1.5)
    assert client.responses.retrieve(made.id).status == "cancelled", "nothing that comes later changes that"
    assert client.responses.retrieve(made.id).output == []
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


async def test_kill_9_while_responses_are_made_loses_none(tmp_path, models_dir):
    workspace = workspace_of(tmp_path, models_dir)

    def run():
        with run_server(workspace) as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            made = [
                client.responses.create(model="route/answers", input=f"A MOMENT {n}", background=True) for n in range(6)
            ]
            while client.responses.retrieve(made[0].id).status == "queued":
                time.sleep(0.02)
            server.kill()
        with run_server(workspace) as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            return [until_ended(client, one, seconds=100) for one in made]

    done = await asyncio.to_thread(run)
    assert [one.status for one in done] == ["completed"] * 6
    assert len({one.id for one in done}) == 6
    async with open_app(workspace) as app:
        rows = await app.parts.cost.ledger(app.owner(), limit=100)
        # What was under way at the kill is asked again.
        assert 6 <= len(rows) <= 10
