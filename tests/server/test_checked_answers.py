"""Claims, flags, questions back and contradictions as each face shows them, and in the record of the answer."""

from __future__ import annotations

import json
import re

import anthropic
import httpx2
import openai
import pytest
from dirty_equals import IsPartialDict
from tests.knowledge.layout_samples import words_pdf

from interlock.app import open_app
from interlock.cli.knowledge import ingest_collection
from interlock.client import Client
from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

pytestmark = pytest.mark.model
DOCUMENTS = {
    "returns.md": "# Returns\n\nCustomers may return hardware within 30 days of delivery.\n",
    "fees.md": "# Fees\n\nThe restocking fee is 10 percent of the price.\n",
    "plans/premier.md": "# Premier plan\n\nSupport answers a ticket within 4 hours.\n",
    "plans/basic.md": "# Basic plan\n\nSupport answers a ticket within 24 hours.\n",
    "plans/secret.md": "# Secret plan\n\nSupport answers a ticket within 2 hours.\n",
    "2021/parcels.md": "---\nupdated: 2021-05-01\n---\n# Parcels\n\nThe depot keeps a lost parcel for 60 days.\n",
    "2025/parcels.md": "---\nupdated: 2025-05-01\n---\n# Parcels\n\nThe depot keeps a lost parcel for 90 days.\n",
}
HALF = (
    "Customers may return hardware within 30 days of delivery, and the restocking fee is 20 percent of the price [1]."
)
ASKED = "Within how many days may hardware be returned, and what is the restocking fee?"
FLAGGED = (
    "Customers may return hardware within 30 days of delivery [1], "
    "and the restocking fee is 20 percent of the price [not confirmed by the documents]."
)


def app_of(**answer):
    return {
        "route": {"targets": ["scripted"], "retries": 0},
        "knowledge": {"collection": "docs"},
        "answer": {"strategy": "passages", "min_answerability": 0, **answer},
    }


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, models_dir):
    return write_workspace(
        tmp_path_factory.mktemp("checked") / "workspace",
        settings={
            "models_dir": str(models_dir),
            "knowledge": {"reader": "none"},
            "gateway": {"detect": False, "providers": {"scripted": {"kind": "scripted", "script": [{"reply": HALF}]}}},
        },
        apps={
            "flags": app_of(unsupported="flag"),
            "removes": app_of(unsupported="remove"),
            "declines": app_of(unsupported="decline"),
            "asks": app_of(strategy="extractive", clarify=True),
            "quotes": app_of(strategy="extractive"),
        },
        documents=DOCUMENTS,
        permissions=[
            {"match": "plans/secret.md", "readers": ["group:board"]},
            {"match": "**", "readers": ["public"]},
        ],
        users={"ada": [], "bo": ["board"]},
    )


async def _ingest(workspace):
    pages = words_pdf(((100, 700, "The lobby of the tower is locked at 22 hours."),), pages=2)
    (workspace / "documents" / "tower.pdf").write_bytes(pages)
    async with open_app(workspace) as app:
        await ingest_collection(app, "docs", quiet=True)


@pytest.fixture(scope="module")
def server(workspace):
    import asyncio

    asyncio.run(_ingest(workspace))
    with run_server(workspace) as found:
        yield found


def user(text=ASKED):
    return [{"role": "user", "content": text}]


@pytest.fixture
def chat(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="local", max_retries=0) as client:
        yield client


def test_a_flagged_claim_is_marked_in_the_text_and_in_the_map(chat):
    answer = chat.chat.completions.create(model="app/flags", messages=user())
    message = answer.choices[0].message
    assert message.content == FLAGGED
    facts = answer.model_extra["interlock"]
    assert (facts["outcome"], facts["sentences"][0]["support"]) == ("flagged", "unsupported")
    right, wrong = facts["support_map"]
    assert right == IsPartialDict(sentence=0, support="supported", reason="ok", checker="rules")
    assert wrong == IsPartialDict(sentence=0, support="unsupported", reason="number", checker="features")
    assert wrong["evidence"] == IsPartialDict(marker=0, source="fees.md")
    for claim in (right, wrong):
        assert message.content[claim["start"] : claim["end"]] == claim["text"]


def test_openai_annotations_cover_exactly_the_confirmed_claims(chat):
    message = chat.chat.completions.create(model="app/flags", messages=user()).choices[0].message
    (annotation,) = message.annotations
    cited = annotation.url_citation
    assert message.content[cited.start_index : cited.end_index] == (
        "Customers may return hardware within 30 days of delivery"
    )
    assert (cited.title, cited.url.startswith("/documents/")) == ("Returns", True)


def test_a_stream_of_chat_and_responses_annotates_too(chat):
    stream = chat.chat.completions.create(model="app/flags", messages=user(), stream=True)
    chunks = [chunk for chunk in stream if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == FLAGGED
    annotations = chunks[-1].choices[0].delta.model_extra["annotations"]
    assert annotations[0]["url_citation"]["start_index"] == 0
    told = [c.model_extra["interlock"] for c in chunks if (c.model_extra or {}).get("interlock")]
    (sentence,) = [extra for extra in told if extra["event"] == "sentence"]
    assert sentence["support"] == "unsupported"
    assert [claim["support"] for claim in sentence["claims"]] == ["supported", "unsupported"]

    whole = chat.responses.create(model="app/flags", input=ASKED)
    part = whole.output[0].content[0]
    assert part.text == FLAGGED
    (found,) = part.annotations
    assert part.text[found.start_index : found.end_index].endswith("of delivery")
    events = list(chat.responses.create(model="app/flags", input=ASKED, stream=True))
    (added,) = [event for event in events if event.type == "response.output_text.annotation.added"]
    assert added.annotation.type == "url_citation"
    assert events[-1].response.output[0].content[0].annotations


def test_anthropic_citations_come_when_they_are_asked_for(server):
    with anthropic.Anthropic(base_url=server.url, api_key="local", max_retries=0) as client:
        plain = client.messages.create(model="app/flags", max_tokens=200, messages=user())
        assert plain.content[0].citations is None
        wanted = {"citations": {"enabled": True}}
        cited = client.messages.create(model="app/flags", max_tokens=200, messages=user(), extra_body=wanted)
        (location,) = cited.content[0].citations
        assert location.cited_text == "Customers may return hardware within 30 days of delivery."
        citation = cited.model_extra["interlock"]["citations"][0]
        with httpx2.Client(base_url=server.url, timeout=60) as http:
            text = http.get(f"/api/v1/documents/{citation['document']}?digest={citation['digest']}").json()["text"]
        assert text[location.start_char_index : location.end_char_index] == location.cited_text
        with client.messages.stream(model="app/flags", max_tokens=200, messages=user(), extra_body=wanted) as stream:
            final = stream.get_final_message()
        assert [c.cited_text for c in final.content[0].citations] == [location.cited_text]
        with pytest.raises(anthropic.BadRequestError, match="citations"):
            client.messages.create(model="app/flags", max_tokens=9, messages=user(), extra_body={"citations": "yes"})


def test_the_sdk_has_the_map_the_options_and_the_contradictions(server):
    with Client(server.url) as client:
        flagged = client.ask("flags", ASKED)
        assert [(c.support, c.reason) for c in flagged.support_map] == [("supported", "ok"), ("unsupported", "number")]
        assert flagged.support_map[0].evidence.quote == flagged.citations[0].quote
        removed = client.ask("removes", ASKED)
        assert "percent" not in removed.text
        assert [c.sentence for c in removed.support_map if c.support == "unsupported"] == [None]
        declined = client.ask("declines", ASKED)
        assert (declined.outcome, declined.decline_reason) == ("declined", "unsupported")
        *events, last = client.stream("flags", ASKED)
        assert events[-1].support == "unsupported"
        assert [claim.text for claim in events[-1].claims] == [claim.text for claim in last.support_map]


def test_a_contradiction_is_told_with_the_newer_document_first(server):
    with Client(server.url) as client:
        answer = client.ask("quotes", "For how many days does the depot keep a lost parcel?")
    (found,) = answer.contradictions
    assert (found.kind, found.decided_by, found.markers) == ("number", "date", (1, 2))
    assert [citation.source for citation in answer.citations] == ["2025/parcels.md", "2021/parcels.md"]
    assert "An older document says otherwise than [1]: “The depot keeps a lost parcel for 60 days.” [2]." in answer.text


def test_a_citation_of_a_paged_document_has_version_page_boxes_and_span(server):
    with Client(server.url) as client:
        answer = client.ask("quotes", "At how many hours is the lobby of the tower locked?")
    citation = answer.citations[0]
    assert (citation.source, citation.page) == ("tower.pdf", 1)
    assert citation.quote == "The lobby of the tower is locked at 22 hours."
    with httpx2.Client(base_url=server.url, timeout=60) as http:
        place = f"/api/v1/documents/{citation.document}"
        text = http.get(f"{place}?digest={citation.digest}").json()["text"]
        found = http.get(f"{place}/boxes?start={citation.start}&end={citation.end}&digest={citation.digest}").json()
    assert text[citation.start : citation.end] == citation.quote
    (box,) = citation.boxes
    edges = found["data"][0]["boxes"][0]
    assert (box.page, box.left, box.top) == (1, edges["left"], edges["top"])
    assert answer.support_map[0].evidence.boxes == citation.boxes


def _asked_as(server, workspace, who, question):
    import asyncio

    async def ask():
        async with open_app(workspace) as app:
            return (await app.ask(question, app="asks", user=who)).answer

    return asyncio.run(ask())


def test_a_question_back_offers_only_what_the_asker_may_read(server, workspace):
    question = "How fast is a ticket answered?"
    mine = _asked_as(server, workspace, "ada", question)
    assert mine.outcome == "clarify"
    assert {option.value for option in mine.options} == {"Premier plan", "Basic plan"}
    theirs = _asked_as(server, workspace, "bo", question)
    assert {option.value for option in theirs.options} == {"Premier plan", "Basic plan", "Secret plan"}
    with Client(server.url) as client:
        asked = client.ask("asks", question)
    assert asked.text.startswith("Which one do you mean: ")
    assert "Secret" not in json.dumps([option.value for option in asked.options]) + asked.text


@pytest.mark.parametrize(
    ("reply", "said"),
    [("Basic plan", "24 hours"), ("the premier one, please", "4 hours"), ("I mean the Basic plan.", "24 hours")],
)
def test_a_reply_to_a_question_back_is_answered_of_what_it_names(server, reply, said):
    question = "How fast is a ticket answered?"
    turns = [{"role": "user", "content": question}]
    with Client(server.url) as client:
        turns.append({"role": "assistant", "content": client.ask("asks", question).text})
        answer = client.ask("asks", [*turns, {"role": "user", "content": reply}])
    assert f"Support answers a ticket within {said} [1]." in answer.text


def test_nobody_is_asked_back_twice_nor_about_another_question(server):
    question = "How fast is a ticket answered?"
    with Client(server.url) as client:
        back = client.ask("asks", question)
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": back.text}]
        both = client.ask("asks", [*turns, {"role": "user", "content": "both"}])
        other = client.ask("asks", "Within how many days may customers return hardware?")
    assert not both.text.startswith("Which one do you mean")
    assert other.text.startswith("Customers may return hardware within 30 days of delivery [1].")


def test_the_console_shows_the_map_and_the_mark(server):
    with httpx2.Client(base_url=server.url, timeout=60) as http:
        token = re.search(r'name="csrf" value="([^"]+)"', http.get("/ask").text)[1]
        page = http.post("/ask", data={"csrf": token, "question": ASKED, "app": "flags", "as": ""})
    assert page.status_code == 200
    assert 'data-support="unsupported"' in page.text
    assert "not confirmed by the documents" in page.text
    assert 'id="support-map"' in page.text
    assert "the restocking fee is 20 percent of the price" in page.text
