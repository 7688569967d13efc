"""The other three APIs as their clients meet them: apps, errors, stored responses, models, rerank, moderation."""

from __future__ import annotations

import json
import time

import anthropic
import openai
import pytest
from google import genai
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

from .clients import CLIENTS, Anthropic, Google, OpenAIChat

pytestmark = pytest.mark.model
QUESTION = "How many days have customers to return hardware?"


@pytest.fixture(params=CLIENTS, ids=lambda kind: kind.name)
def vendor(request, site):
    client = request.param(site.url, site.keys["admin"])
    yield client
    client.close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_app_answers_with_its_sources_through_every_api(vendor, stream):
    said = vendor.ask("app/helper", QUESTION, stream=stream)
    assert "30 days" in said.text
    assert "[1]" in said.text
    assert said.usage[0] > 0
    if isinstance(vendor, (OpenAIChat, Google)) or (stream and isinstance(vendor, Anthropic)):
        return  # Google's client drops the field; a stream's helpers keep that of the last event alone, or none.
    assert said.extension["citations"][0]["source"] == "returns.md"
    assert said.extension["release"].startswith("sha256:")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"max_tokens": 90, "messages": [{"role": "user", "content": QUESTION}]}),
        ("/v1/responses", {"input": QUESTION}),
        ("/v1beta/models/app/helper:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": QUESTION}]}]}),
    ],
)
def test_a_stream_carries_quote_sentences_and_receipt(http, path, body):
    with http.stream("POST", path, json={"model": "app/helper", "stream": True, **body}) as response:
        lines = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    events = [line["interlock"]["event"] for line in lines if "interlock" in line]
    events += ["done"] if path == "/v1/responses" and "interlock" in lines[-1]["response"] else []
    assert events[0] == "quote"
    assert "sentence" in events
    assert events[-1] == "done"
    assert response.headers["x-interlock-release"].startswith("sha256:")
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_target_that_served_is_named(http, stream):
    body = {"model": "route/answers", "input": "hi", "stream": stream}
    assert http.post("/v1/responses", json=body).headers["x-interlock-route"] == "scripted"
    refused = http.post("/v1/responses", json={**body, "input": "UPSTREAM LIMIT"})
    assert refused.headers["x-interlock-route"] == "none; scripted=provider_rate_limited"


CASES = [
    ({"model": "app/nobody"}, 404),
    ({"model": "nobody/x"}, 404),
    ({"model": "route/answers", "text": "UPSTREAM LIMIT"}, 429),
    ({"model": "app/talker", "text": "ghp_" + "a" * 40}, 403),
    ({"model": "app/helper", "text": "x" * 20_000}, 413),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("call", "status"), CASES, ids=[str(case[1]) + case[0]["model"] for case in CASES])
def test_an_error_is_one_the_client_knows(vendor, call, status, stream):
    with pytest.raises(vendor.error) as caught:
        vendor.ask(call["model"], call.get("text", "hi"), stream=stream)
    assert getattr(caught.value, "status_code", None) or caught.value.code == status


def test_each_api_writes_errors_in_its_own_shape(http):
    message = http.post("/v1/messages", json={"model": "x", "max_tokens": 1, "messages": 3})
    body = message.json()
    assert (message.status_code, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
    assert body["error"]["param"] == "messages"
    assert body["request_id"] == message.headers["x-request-id"]
    limited = {"model": "route/answers", "max_tokens": 5, "messages": [{"role": "user", "content": "UPSTREAM LIMIT"}]}
    answer = http.post("/v1/messages", json=limited)
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert int(answer.headers["retry-after"]) >= 1
    google = http.post("/v1beta/models/nobody/x:generateContent", json={"contents": [{"parts": [{"text": "a"}]}]})
    assert google.json()["error"]["status"] == "NOT_FOUND"
    assert google.json()["error"]["details"][0]["reason"] == "model_not_found"
    assert http.post("/v1beta/models/x:fly", json={}).json()["error"]["code"] == 404
    assert http.post("/v1/responses", json={"model": "scripted"}).json()["error"]["param"] == "input"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1beta/models/scripted:generateContent"])
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"model": 1}',
        b"[" * 100_000,
        b'{"input": NaN}',
        b'{"model": "scripted", "input": "\\ud800", "contents": [], "messages": []}',
    ],
    ids=["cut", "not utf-8", "list", "null", "wrong type", "deep", "nan", "surrogate"],
)
def test_what_is_no_request_is_refused_by_name(http, path, body):
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused_in_each_shape(http):
    big = {"model": "scripted", "max_tokens": 1, "input": "x" * 30_000_000}
    for path, kind in (("/v1/messages", "request_too_large"), ("/v1/responses", "invalid_request_error")):
        answer = http.post(path, json=big)
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, kind)


# --- responses --------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(site):
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.keys["plain"], max_retries=0) as client:
        yield client


def test_a_conversation_goes_on_from_a_stored_response(client):
    first = client.responses.create(model="scripted", input="one", instructions="Be brief.", metadata={"a": "b"})
    assert first.metadata == {"a": "b"}
    second = client.responses.create(model="scripted", input="two", previous_response_id=first.id)
    assert second.output_text == "You said: two"
    assert second.previous_response_id == first.id
    items = client.responses.input_items.list(second.id, order="asc").data
    assert [item.role for item in items] == ["user", "assistant", "user"]
    # "one", the answer's three words, "two": instructions of the first do not hold for the second.
    assert second.usage.input_tokens == 5
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(first.id)


def test_what_was_not_to_be_stored_is_not(client):
    answer = client.responses.create(model="scripted", input="hi", store=False)
    for call in (client.responses.retrieve, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            call(answer.id)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="scripted", input="hi", previous_response_id=answer.id)
    assert caught.value.param == "previous_response_id"


def test_a_stored_response_is_its_owners_alone(site, client):
    words = "a very private question"
    mine = client.responses.create(model="scripted", input=words)
    with site.client("plain", token=site.token()) as fay:
        hers = fay.post("/v1/responses", json={"model": "scripted", "input": words}).json()["id"]
        assert fay.get(f"/v1/responses/{hers}").status_code == 200
        assert fay.get(f"/v1/responses/{mine.id}").status_code == 404
    with site.client("admin", token=site.token()) as fay_elsewhere:
        assert fay_elsewhere.get(f"/v1/responses/{hers}").status_code == 200
    for other in (site.client("admin"), site.client("rival"), site.client("plain", token=site.token(sub="ada"))):
        with other:
            for identity in (mine.id, hers):
                assert other.get(f"/v1/responses/{identity}").status_code == 404
                assert other.get(f"/v1/responses/{identity}/input_items").status_code == 404
                assert other.delete(f"/v1/responses/{identity}").status_code == 404
                body = {"model": "scripted", "input": "x", "previous_response_id": identity}
                assert other.post("/v1/responses", json=body).status_code == 404
    for stored in (site.workspace / ".interlock").rglob("*"):
        if stored.is_file():
            assert words.encode() not in stored.read_bytes(), stored.name


def test_a_streamed_response_is_stored_when_it_is_complete(client):
    with client.responses.stream(model="scripted", input="hi") as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert client.responses.retrieve(final.id).output_text == "You said: hi"


def test_a_stream_that_breaks_off_says_so_in_each_api(http):
    calls = [
        ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "UPSTREAM DIES"}]}, "error"),
        ("/v1/responses", {"input": "UPSTREAM DIES"}, "response.failed"),
        (
            "/v1beta/models/scripted:streamGenerateContent?alt=sse",
            {"contents": [{"parts": [{"text": "UPSTREAM DIES"}]}]},
            None,
        ),
    ]
    for path, body, kind in calls:
        with http.stream("POST", path, json={"model": "scripted", "stream": True, **body}) as response:
            lines = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
        assert lines[-1].get("type") == kind, path
        assert response.status_code == 200
        if kind is None:
            assert lines[-1]["error"]["status"] == "UNAVAILABLE"


# --- counting, models, embeddings -------------------------------------------------------------------------------------


def test_tokens_are_counted_and_estimates_marked(site, http):
    with anthropic.Anthropic(base_url=site.url, api_key=site.keys["plain"]) as client:
        counted = client.messages.count_tokens(model="scripted", messages=[{"role": "user", "content": "x" * 300}])
        assert 90 <= counted.input_tokens <= 150
    body = {"contents": [{"parts": [{"text": "x" * 300}]}]}
    answer = http.post("/v1beta/models/scripted:countTokens", json=body)
    assert answer.json()["totalTokens"] == counted.input_tokens
    assert answer.headers["x-interlock-estimated"] == "true"


def test_models_are_listed_to_each_vendors_client(site):
    with anthropic.Anthropic(base_url=site.url, api_key=site.keys["plain"]) as client:
        names = [model.id for model in client.models.list(limit=2)]
        assert {"app/helper", "route/answers"} <= set(names)
        assert client.models.retrieve("app/helper").type == "model"
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("local/never-heard-of-it")
    client = genai.Client(api_key=site.keys["plain"], http_options={"base_url": site.url})
    assert "models/app/helper" in {model.name for model in client.models.list()}
    assert client.models.get(model="app/helper").name == "models/app/helper"
    with site.client("plain") as http:
        assert http.get("/v1/models/local/never-heard-of-it").json()["error"]["code"] == "model_not_found"
        assert http.get("/v1/models/nobody/x").status_code == 404
    client.close()


def test_google_embeds(site):
    client = genai.Client(api_key=site.keys["plain"], http_options={"base_url": site.url})
    made = client.models.embed_content(model="local/minilm-l6-int8", contents=["red", "blue"])
    assert [len(row.values) for row in made.embeddings] == [384, 384]
    client.close()


def test_google_streams_an_array_unless_asked_for_events(http):
    body = {"contents": [{"role": "user", "parts": [{"text": "two words"}]}]}
    chunks = http.post("/v1beta/models/scripted:streamGenerateContent", json=body).json()
    text = "".join(part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"])
    assert text == "You said: two words"


def test_langchain_speaks_messages(site):
    chat = ChatAnthropic(model="app/helper", base_url=site.url, api_key=site.keys["admin"], max_retries=0)
    answer = chat.invoke(QUESTION)
    assert "30 days" in answer.content
    assert answer.usage_metadata["total_tokens"] > 0
    pieces = [chunk.content for chunk in chat.stream(QUESTION)]
    text = "".join(p if isinstance(p, str) else "".join(b.get("text", "") for b in p) for p in pieces)
    assert "30 days" in text


def test_langchain_speaks_responses(site):
    chat = ChatOpenAI(
        model="scripted", base_url=f"{site.url}/v1", api_key=site.keys["admin"], use_responses_api=True, max_retries=0
    )
    assert chat.invoke("hi").text == "You said: hi"
    assert "".join(chunk.text for chunk in chat.stream("hi")) == "You said: hi"


# --- moderation, rerank, relays ---------------------------------------------------------------------------------------


def test_our_own_detectors_moderate(client, http):
    verdicts = client.moderations.create(
        model="interlock/guardrails", input=["hello there", "my key is ghp_" + "a" * 40]
    ).results
    assert [verdict.flagged for verdict in verdicts] == [False, True]
    assert verdicts[1].categories.model_extra["secrets"] is True
    assert client.moderations.create(input="hello").results[0].flagged is False
    refused = http.post("/v1/moderations", json={"model": "scripted", "input": "x"})
    assert refused.json()["error"]["code"] == "unsupported_operation"


def test_an_endpoint_that_a_provider_lacks_is_refused_by_name(http):
    ranked = http.post("/v1/rerank", json={"model": "scripted", "query": "q", "documents": ["a", {"text": "b"}]})
    assert (ranked.status_code, ranked.json()["error"]["code"]) == (400, "unsupported_operation")
    assert http.post("/v2/rerank", json={"model": "scripted", "query": "q"}).json()["error"]["param"] == "documents"
    spoken = http.post("/v1/audio/speech", json={"model": "scripted", "input": "hi", "voice": "alloy"})
    assert spoken.json()["error"]["code"] == "unsupported_operation"
    form = {"data": {"model": "nobody/x"}, "files": {"file": ("a.wav", b"RIFF")}}
    assert http.post("/v1/audio/transcriptions", **form).status_code == 404
    assert http.post("/v1/images/edits", files={"image": b"x"}).json()["error"]["param"] == "model"
    assert http.post("/v1/images/generations", content=b"x").status_code in {400, 415}


def test_each_call_leaves_one_audit_line(http):
    before = {line["seq"] for line in http.get("/api/v1/audit?limit=500").json()["data"]}
    calls = [
        ("/v1/messages", {"model": "scripted", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}),
        ("/v1/responses", {"model": "scripted", "input": "a"}),
        ("/v1/moderations", {"input": "a"}),
    ]
    traces = {http.post(path, json=body).headers["x-interlock-trace-id"] for path, body in calls}
    for _ in range(100):
        lines = [line for line in http.get("/api/v1/audit?limit=500").json()["data"] if line["seq"] not in before]
        if traces <= {line["trace_id"] for line in lines}:
            break
        time.sleep(0.05)
    mine = sorted(line["action"] for line in lines if line["trace_id"] in traces)
    assert mine == ["chat.model", "chat.model", "moderation.create"]
