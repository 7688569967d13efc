"""The API as its clients meet it: the unmodified OpenAI client, LangChain, curl."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess

import openai
import pytest
from dirty_equals import IsFloat, IsInt, IsPartialDict, IsStr
from langchain_openai import ChatOpenAI

pytestmark = pytest.mark.model
QUESTION = "How many days have customers to return hardware?"


@pytest.fixture
def client(site):
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.keys["admin"], max_retries=0) as client:
        yield client


def user(text):
    return [{"role": "user", "content": text}]


def test_an_app_answers_with_markers_and_its_sources(client):
    answer = client.chat.completions.create(model="app/helper", messages=user(QUESTION))
    assert "30 days" in answer.choices[0].message.content
    assert "[1]" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    extension = answer.model_extra["interlock"]
    assert extension == IsPartialDict(
        trace_id=IsStr(regex="[0-9a-f]{32}"),
        release=IsStr(regex="sha256:[0-9a-f]{64}"),
        channel="dev",
        cost_usd=IsStr(),
        answerability=IsFloat(ge=0, le=1),
        snapshot=IsStr(),
    )
    citation = extension["citations"][0]
    assert citation == IsPartialDict(marker=1, source="returns.md", start=IsInt(ge=0), support="supported")
    assert extension["passages"]
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


def test_a_citation_points_at_exact_characters(client, http):
    answer = client.chat.completions.create(model="app/helper", messages=user(QUESTION))
    for citation in answer.model_extra["interlock"]["citations"]:
        url = f"/api/v1/documents/{citation['document']}?digest={citation['digest']}"
        text = http.get(url).json()["text"]
        assert text[citation["start"] : citation["end"]] == citation["quote"]


def test_a_streamed_answer_says_the_same_and_ends_with_its_receipt(client):
    stream = client.chat.completions.create(
        model="app/helper", messages=user(QUESTION), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    whole = client.chat.completions.create(model="app/helper", messages=user(QUESTION))
    assert text == whole.choices[0].message.content
    events = [c.model_extra["interlock"]["event"] for c in chunks if "interlock" in (c.model_extra or {})]
    assert events[0] == "quote"
    assert events[-1] == "done"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert len({c.id for c in chunks}) == 1


def test_a_model_without_an_app_is_passed_through(client):
    for model in ("scripted", "scripted/any-name", "route/answers"):
        answer = client.chat.completions.create(model=model, messages=user("two words"))
        assert answer.choices[0].message.content == "You said: two words"
        assert answer.model == model
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 4)


def test_a_streamed_chat_without_usage_asked_for_has_none(client):
    chunks = list(client.chat.completions.create(model="scripted", messages=user("hi"), stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "You said: hi"
    assert all(c.usage is None for c in chunks)


def test_the_streaming_helper_of_the_client_works(client):
    with client.chat.completions.stream(model="scripted", messages=user("hi")) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == "You said: hi"


def test_content_parts_and_history_are_read(client):
    messages = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "first"}]},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond"}]},
    ]
    answer = client.chat.completions.create(model="scripted", messages=messages)
    assert answer.choices[0].message.content == "You said: second"


def test_embeddings_come_in_both_encodings(client, site):
    both = client.embeddings.create(model="local/minilm-l6-int8", input=["red", "blue"])
    assert [row.index for row in both.data] == [0, 1]
    assert len(both.data[0].embedding) == 384
    assert both.usage.prompt_tokens == both.usage.total_tokens > 0
    with site.client("admin") as http:
        body = {"model": "local/minilm-l6-int8", "input": "red", "encoding_format": "base64"}
        raw = http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
        vector = struct.unpack("<384f", base64.b64decode(raw))
        assert vector == pytest.approx(both.data[0].embedding, abs=1e-4)
        plain = http.post("/v1/embeddings", json={**body, "encoding_format": "float"}).json()
        assert plain["data"][0]["embedding"] == pytest.approx(vector, abs=1e-6)


def test_models_are_listed_and_found(client):
    names = [model.id for model in client.models.list()]
    assert {"app/helper", "app/talker", "route/answers", "scripted", "local/minilm-l6-int8"} <= set(names)
    for name in names:
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("app/nobody")


@pytest.mark.parametrize(
    ("call", "error", "status", "code"),
    [
        ({"model": "app/nobody"}, openai.NotFoundError, 404, "model_not_found"),
        ({"model": "app/helper@prod"}, openai.NotFoundError, 404, "model_not_found"),
        ({"model": "route/answer"}, openai.NotFoundError, 404, "model_not_found"),
        ({"model": "nobody/x"}, openai.NotFoundError, 404, "model_not_found"),
        ({"model": "local/smollm2-135m-instrukt"}, openai.NotFoundError, 404, "not_found"),
        ({"model": "keyless/gpt"}, openai.InternalServerError, 500, "misconfigured"),
        ({"model": "route/answers", "messages": user("UPSTREAM DOWN")},
         openai.InternalServerError, 502, "provider_error"),
        ({"model": "route/answers", "messages": user("UPSTREAM LIMIT")},
         openai.RateLimitError, 429, "provider_rate_limited"),
        ({"model": "app/talker", "messages": user("ghp_" + "a" * 40)}, openai.PermissionDeniedError, 403,
         "blocked_by_policy"),
        ({"model": "app/helper", "messages": user("x" * 20_000)}, openai.APIStatusError, 413, "request_too_large"),
        ({"model": "app/helper", "messages": user("  ")}, openai.BadRequestError, 400, "invalid_request"),
        ({"temperature": 9}, openai.BadRequestError, 400, "invalid_request"),
        ({"n": 2}, openai.BadRequestError, 400, "invalid_request"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_error_is_the_one_the_client_knows(client, call, error, status, code, stream):
    arguments = {"model": "scripted", "messages": user("hi"), **call}
    with pytest.raises(error) as caught:
        client.chat.completions.create(**arguments, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert caught.value.body["message"]


def test_a_wrong_key_is_an_authentication_error(site):
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="il_aaaaaaaa_wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"


def test_a_key_of_somebody_else_left_in_place_is_no_obstacle_on_this_machine(site):
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="sk-of-another-service", max_retries=0) as client:
        assert client.chat.completions.create(model="scripted", messages=user("hi")).choices


def test_an_error_after_the_first_words_comes_as_an_event(client):
    stream = client.chat.completions.create(model="scripted", messages=user("UPSTREAM DIES"), stream=True)
    got = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            got.append(chunk.choices[0].delta.content or "")
    assert "".join(got) == "one two "
    assert caught.value.code == "provider_error"


def test_a_rate_limit_says_when_to_come_back(site):
    with site.client("admin") as http:
        answer = http.post("/v1/chat/completions", json={"model": "route/answers", "messages": user("UPSTREAM LIMIT")})
    assert answer.headers["retry-after"] == "7"


def test_langchain_invokes_and_streams(site):
    for model, question, words in (("app/helper", QUESTION, "30 days"), ("scripted", "hi", "You said: hi")):
        chat = ChatOpenAI(model=model, base_url=f"{site.url}/v1", api_key=site.keys["admin"], max_retries=0)
        answer = chat.invoke(question)
        assert words in answer.content
        assert answer.usage_metadata["total_tokens"] > 0
        assert words in "".join(chunk.content for chunk in chat.stream(question))


def test_curl_streams_lines_of_data(site):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl on this machine")
    body = json.dumps({"model": "app/helper", "messages": user(QUESTION), "stream": True})
    done = subprocess.run(
        [curl, "-sS", "-N", "--noproxy", "*", "-i", f"{site.url}/v1/chat/completions", "-d", body,
         "-H", "content-type: application/json", "-H", f"authorization: Bearer {site.keys['admin']}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    head, _, payload = done.stdout.replace("\r\n", "\n").partition("\n\n")
    assert head.startswith("HTTP/1.1 200")
    assert "text/event-stream" in head
    assert "x-interlock-trace-id" in head
    events = [line.removeprefix("data: ") for line in payload.split("\n") if line]
    assert events[-1] == "[DONE]"
    assert all(json.loads(event)["object"] == "chat.completion.chunk" for event in events[:-1])


@pytest.mark.parametrize(
    "story",
    [
        "Dear support, I bought a lamp last year and it stands in the hall of our house. " * 40,
        "word " * 1500,
        "退货政策" * 900,
        "x" * 9000 + " ",
        "Which plan has it, and what does that plan cost, and who may use it? " * 60,
    ],
)
def test_a_question_longer_than_the_embedder_reads_is_answered(site, story):
    with site.client("plain") as client:
        body = {
            "model": "app/helper",
            "messages": [{"role": "user", "content": f"{story}Within how many days may hardware be returned?"}],
        }
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
