"""Who is let in, as whom, and what each may see; what a hostile caller can send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.model
SALARY = "What is the salary band of a senior engineer in Leeds?"


def ask(client, question="hi", model="scripted", **more):
    return client.post(
        "/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": question}], **more},
    )


def code_of(answer):
    return answer.json()["error"]["code"]


def raw(site, request):
    """Send bytes as they are; give the whole answer."""
    where = urlsplit(site.url)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(request)
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["expired", "revoked", "il_aaaaaaaa_" + "x" * 43, "il_", "il_x", "il_" + "é" * 20])
def test_a_key_that_is_not_good_any_more_is_refused(site, key):
    value = site.keys.get(key, key)
    with site.client() as client:
        answer = client.get("/v1/models", headers={"authorization": f"Bearer {value}".encode()})
    assert answer.status_code == 401
    assert code_of(answer) == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert value not in answer.text
    assert answer.headers["x-should-retry"] == "false"


def test_half_a_key_is_as_wrong_as_none(site):
    good = site.keys["plain"]
    other = good[:11] + "_" + "A" * 43
    for value in (good[:-1], good + "x", other):
        with site.client(value) as client:
            assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "il_x", "Bearer  "])
def test_another_scheme_is_refused(site, header):
    head = f"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {header}\r\nconnection: close\r\n\r\n"
    assert raw(site, head.encode()).startswith(b"HTTP/1.1 401")


def test_the_key_may_come_as_x_api_key(site):
    with site.client(**{"x-api-key": site.keys["plain"]}) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get("/api/v1/traces").status_code == 403  # known as the key, and not as the local owner


def test_a_key_is_refused_as_soon_as_it_is_revoked(site, http):
    new = http.post("/api/v1/keys", json={"name": "short-lived", "roles": ["viewer"]}).json()
    with site.client(new["secret"]) as client:
        assert client.get("/api/v1/traces").status_code == 200
        assert http.delete(f"/api/v1/keys/{new['id']}").json()["state"] == "revoked"
        assert client.get("/api/v1/traces").status_code == 401


def test_a_secret_is_shown_once_and_never_stored(site, http):
    new = http.post("/api/v1/keys", json={"name": "once"}).json()
    assert new["secret"].startswith(new["prefix"])
    listed = http.get("/api/v1/keys").text
    assert new["prefix"] in listed
    assert new["secret"] not in listed
    for file in (site.workspace / ".interlock").rglob("*"):
        if file.is_file():
            assert new["secret"].encode() not in file.read_bytes(), file.name


def test_a_key_cannot_give_a_role_it_does_not_hold(site, http):
    operator = http.post("/api/v1/keys", json={"name": "op", "roles": ["operator"]}).json()["secret"]
    with site.client(operator) as client:
        assert client.post("/api/v1/keys", json={"name": "x", "roles": ["operator"]}).status_code == 201
        answer = client.post("/api/v1/keys", json={"name": "x", "roles": ["admin"]})
        assert (answer.status_code, code_of(answer)) == (403, "permission_denied")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/traces"),
        ("GET", "/api/v1/traces/0123456789abcdef"),
        ("GET", "/api/v1/keys"),
        ("POST", "/api/v1/keys"),
        ("DELETE", "/api/v1/keys/key_x"),
        ("POST", "/api/v1/collections/docs/ingest"),
        ("GET", "/api/v1/jobs"),
        ("GET", "/api/v1/jobs/job_x"),
        ("DELETE", "/api/v1/jobs/job_x"),
        ("GET", "/api/v1/spend"),
        ("GET", "/api/v1/audit"),
    ],
)
def test_a_key_without_roles_administers_nothing(site, method, path):
    with site.client("plain") as client:
        body = {"json": {"name": "x"}} if method == "POST" else {}
        answer = client.request(method, path, **body)
    assert (answer.status_code, code_of(answer)) == (403, "permission_denied")


# --- on behalf of -----------------------------------------------------------------------------------------------------


def forged_with_the_public_key(site):
    """Algorithm confusion: the public key's text as an HMAC secret, under the public key's own id."""

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT", "kid": "rsa"}) + b"." + part(site.claims())
    mac = hmac.new(site.public_pem.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def unsigned(site, algorithm):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': algorithm, 'kid': 'default'})}.{part(site.claims())}."


BAD_TOKENS = {
    "expired": lambda s: s.token(iat=int(time.time()) - 600, exp=int(time.time()) - 300),
    "from the future": lambda s: s.token(iat=int(time.time()) + 3600, exp=int(time.time()) + 3900),
    "of another tenant": lambda s: s.token(tenant="rival"),
    "of no tenant": lambda s: s.token(tenant=None),
    "for another audience": lambda s: s.token(aud="somebody-else"),
    "for no audience": lambda s: s.token(aud=None),
    "signed by another secret": lambda s: s.token(key="x" * 64),
    "signed by an unknown key": lambda s: s.token(kid="nobody"),
    "signed by the wrong private key": lambda s: s.token(key=s.private["rsa"], algorithm="RS256", kid="ed"),
    "hmac with the public key": forged_with_the_public_key,
    "unsigned": lambda s: unsigned(s, "none"),
    "unsigned in capitals": lambda s: unsigned(s, "NONE"),
    "unsigned but named": lambda s: unsigned(s, "HS256"),
    "too long-lived": lambda s: s.token(exp=int(time.time()) + 86_400),
    "without end": lambda s: s.token(exp=None),
    "without beginning": lambda s: s.token(iat=None),
    "of nobody": lambda s: s.token(sub=None),
    "of an empty name": lambda s: s.token(sub=""),
    "with times as text": lambda s: s.token(iat=str(int(time.time())), exp=str(int(time.time()) + 60)),
    "with groups as text": lambda s: s.token(groups="finance"),
    "with groups of numbers": lambda s: s.token(groups=[1, 2]),
    "with ten thousand groups": lambda s: s.token(groups=[f"g{n}" for n in range(600)]),
    "no token": lambda s: "hello",
    "empty parts": lambda s: "..",
    "very long": lambda s: "a" * 9000,
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_token_that_is_not_right_is_refused(site, kind):
    token = BAD_TOKENS[kind](site)
    with site.client("plain", token) as client:
        answer = ask(client)
    assert answer.status_code == 401, answer.text
    assert code_of(answer) == "invalid_on_behalf_of"
    assert token not in answer.text


@pytest.mark.parametrize("kid", ["default", "ed", "rsa"])
def test_a_good_token_of_each_kind_is_taken(site, kid):
    algorithm = {"default": "HS256", "ed": "EdDSA", "rsa": "RS256"}[kid]
    token = site.token(key=site.private.get(kid), algorithm=algorithm, kid=kid)
    with site.client("plain", token) as client:
        assert "61,000" in ask(client, SALARY, "app/helper").text


def test_a_token_alone_is_no_key(site):
    with site.client(None, site.token(), **{"x-forwarded-for": "10.0.0.9"}) as client:
        assert ask(client).status_code == 401


def test_the_user_field_is_never_authority(site):
    with site.client("plain") as client:
        answer = ask(client, SALARY, "app/helper", user="fay", metadata={"groups": "finance"})
        assert answer.status_code == 200
        assert "61,000" not in answer.text
    headers = {"x-user": "fay", "x-interlock-user": "fay", "x-groups": "finance"}
    with site.client("plain", **headers) as client:
        assert "61,000" not in ask(client, SALARY, "app/helper").text


# --- documents --------------------------------------------------------------------------------------------------------


def restricted(http):
    return next(row for row in http.get("/api/v1/documents").json()["data"] if row["source"] == "pay/bands.md")


@pytest.mark.parametrize("groups", [None, [], ["support", "Finance", "finance ", "group:finance", "*", "public"]])
def test_a_restricted_document_is_invisible_without_its_group(site, http, groups):
    document = restricted(http)
    token = None if groups is None else site.token(sub="user:fay", groups=groups)
    with site.client("plain", token) as client:
        for stream in (False, True):
            answer = ask(client, SALARY, "app/helper", stream=stream)
            assert answer.status_code == 200
            assert "61,000" not in answer.text
            assert "bands" not in answer.text
            assert document["id"] not in answer.text
        listed = client.get("/api/v1/documents")
        assert "bands" not in listed.text
        assert "returns.md" in listed.text
        by_id = client.get(f"/api/v1/documents/{document['id']}")
        nowhere = client.get("/api/v1/documents/doc_01AAAAAAAAAAAAAAAAAAAAAAAA")
        assert by_id.status_code == nowhere.status_code == 404
        assert code_of(by_id) == code_of(nowhere)
        assert by_id.json()["error"]["hint"] == nowhere.json()["error"]["hint"]


def test_a_member_of_the_group_sees_it_everywhere(site, http):
    document = restricted(http)
    with site.client("plain", site.token()) as client:
        assert "61,000" in ask(client, SALARY, "app/helper").text
        assert "bands" in client.get("/api/v1/documents").text
        assert "61,000" in client.get(f"/api/v1/documents/{document['id']}").json()["text"]


def test_an_admin_oversees_facts_but_reads_only_what_is_open_to_them(http):
    document = restricted(http)
    assert document["readers"] == ["group:finance"]
    assert http.get(f"/api/v1/documents/{document['id']}").status_code == 404


def test_a_traces_spans_hold_no_words_of_anybody(site, http):
    with site.client("plain", site.token()) as client:
        answer = ask(client, SALARY, "app/helper")
    spans = http.get(f"/api/v1/traces/{answer.headers['x-interlock-trace-id']}").text
    for words in ("salary", "Leeds", "61,000", "fay"):
        assert words not in spans
    assert "guardrails.input" in spans


# --- who counts as local ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8321"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost.evil.example"},
        {"host": ""},
        {"host": "["},
        {"host": "0.0.0.0"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:1"},
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-host": "localhost"},
        {"forwarded": "for=127.0.0.1"},
        {"x-real-ip": "127.0.0.1"},
    ],
    ids=lambda h: "=".join(*h.items()),
)
def test_a_caller_who_may_be_somebody_else_is_not_the_local_owner(site, headers):
    with site.client(**headers) as client:
        for path in ("/v1/models", "/api/v1/keys", "/metrics"):
            answer = client.get(path)
            assert (answer.status_code, code_of(answer)) == (401, "invalid_api_key")
    with site.client("plain", **headers) as client:
        assert client.get("/v1/models").status_code == 200  # a key is good from anywhere


def test_a_caller_on_this_machine_needs_no_key(site):
    with site.client() as client:
        assert client.get("/api/v1/keys").status_code == 200
        assert client.get("/api/v1/keys", headers={"origin": site.url}).status_code == 200
        port = urlsplit(site.url).port
        assert client.get("/api/v1/keys", headers={"host": f"localhost:{port}"}).status_code == 200


def test_two_tenants_never_meet(site, http):
    mine = ask(http, "How many days have customers to return hardware?", "app/helper")
    trace = mine.headers["x-interlock-trace-id"]
    document = mine.json()["interlock"]["citations"][0]["document"]
    own_key = http.get("/api/v1/keys").json()["data"][0]
    job = http.get("/api/v1/jobs").json()["data"][0]["id"]
    with site.client("rival") as rival:
        assert rival.get("/api/v1/documents").json()["data"] == []
        for path in (f"/api/v1/documents/{document}", f"/api/v1/traces/{trace}", f"/api/v1/jobs/{job}"):
            assert rival.get(path).status_code == 404, path
        assert rival.delete(f"/api/v1/keys/{own_key['id']}").status_code == 404
        assert rival.delete(f"/api/v1/keys/{own_key['prefix']}").status_code == 404
        assert rival.delete(f"/api/v1/jobs/{job}").status_code == 404
        assert [key["name"] for key in rival.get("/api/v1/keys").json()["data"]] == ["rival"]
        own = ask(rival, "How many days have customers to return hardware?", "app/helper")
        assert own.json()["interlock"]["outcome"] == "declined"
        assert "30 days" not in own.text
        own_trace = own.headers["x-interlock-trace-id"]
        seen = {row["trace_id"] for row in rival.get("/api/v1/traces").json()["data"]}
        assert own_trace in seen
        assert trace not in seen
        assert {row["details"].get("app", "") for row in rival.get("/api/v1/audit").json()["data"]} == {"helper"}
        assert rival.get("/api/v1/jobs").json()["data"] == []
        assert own_trace not in http.get("/api/v1/traces?limit=500").text
        assert http.get(f"/api/v1/traces/{own_trace}").status_code == 404
        spent = rival.get("/api/v1/spend").json()["data"]
        assert all(row["key"] == "helper" and row["calls"] <= 1 for row in spent)
        # A token of my tenant says nothing to the rival's key.
        token = {"x-interlock-on-behalf-of": site.token()}
        assert rival.get("/v1/models", headers=token).status_code == 401
        # The workspace's folders belong to its own tenant.
        assert rival.post("/api/v1/collections/docs/ingest").status_code == 404


# --- hostile bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "scripted"}, "messages"),
        ({"model": "scripted", "messages": []}, "messages"),
        ({"model": "scripted", "messages": "hi"}, "messages"),
        ({"model": "scripted", "messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
        ({"model": "scripted", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"model": "scripted", "messages": [{"role": "user", "content": [{"type": "smell"}]}]},
         "messages[0].content"),
        ({"model": "scripted", "messages": [{"role": "user"}]}, "messages[0].content"),
        ({"model": "scripted", "messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"model": 5, "messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "", "messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "scripted", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}, "temperature"),
        ({"model": "scripted", "messages": [{"role": "user", "content": "x"}], "temperature": 1e999}, "temperature"),
        ({"model": "scripted", "messages": [{"role": "user", "content": "x"}], "max_tokens": -1}, "max_tokens"),
        ({"model": "scripted", "messages": [{"role": "user", "content": "x"}], "stop": 5}, "stop"),
        ({"model": "scripted", "messages": [{"role": "user", "content": "x"}], "stream": "perhaps"}, "stream"),
        ({"model": "scripted", "messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]},
         "tools[0].function"),
        ({"model": "scripted", "messages": [{"role": "user", "content": "x"}], "tool_choice": "maybe"}, "tool_choice"),
        ({"model": "scripted", "messages": [{"role": "user", "content": "x"}],
          "response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
        ({"model": "scripted", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_and_its_value_is_not_repeated(http, body, field):
    text = json.dumps(body).replace("Infinity", "1e999")
    answer = http.post("/v1/chat/completions", content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field
    assert "passwd" not in answer.text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "local/minilm-l6-int8"}, "input"),
        ({"model": "local/minilm-l6-int8", "input": []}, "input"),
        ({"model": "local/minilm-l6-int8", "input": ""}, "input"),
        ({"model": "local/minilm-l6-int8", "input": [1, 2]}, "input"),
        ({"model": "local/minilm-l6-int8", "input": {"a": 1}}, "input"),
        ({"model": "local/minilm-l6-int8", "input": "x", "dimensions": 7}, "dimensions"),
        ({"model": "local/minilm-l6-int8", "input": "x", "encoding_format": "xml"}, "encoding_format"),
    ],
)
def test_a_wrong_field_of_an_embedding_is_named(http, body, field):
    answer = http.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe\xfd",
        b'{"model": "scripted", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "\\uDFFF", "messages": [{"role": "user", "content": "x"}]}',
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"1" * 10_000,
    ],
    ids=["empty", "half", "words", "binary", "surrogate", "surrogate model", "deep list", "deep object", "big number"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/api/v1/keys"])
def test_a_body_that_is_no_json_is_refused(http, path, body):
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert code_of(answer) in {"invalid_json", "invalid_request"}


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"7", b"true"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/api/v1/keys"])
def test_a_body_that_is_no_object_is_refused(http, path, body):
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, code_of(answer)) == (400, "invalid_request")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"])
def test_another_content_type_is_refused(http, kind):
    answer = http.post("/v1/chat/completions", content=b"{}", headers={"content-type": kind})
    assert answer.status_code in {403, 415}
    assert code_of(answer) == "unsupported_media_type"


def test_odd_characters_are_passed_through(http):
    text = "NUL \0, bell \a, line \u2028, emoji 👩‍👩‍👧, right-to-left \u202e."
    assert ask(http, text).json()["choices"][0]["message"]["content"] == f"You said: {text}"


def test_a_thirty_megabyte_prompt_is_refused_without_being_kept(site, http):
    def resident_mb():
        lines = Path(f"/proc/{site.server.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    before = resident_mb()
    body = b'{"model": "scripted", "messages": [{"role": "user", "content": "' + b"x" * 30_000_000 + b'"}]}'
    answer = http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, code_of(answer)) == (413, "request_too_large")

    def pieces():
        for _ in range(30):
            yield b"x" * 1_000_000

    answer = http.post("/v1/chat/completions", content=pieces(), headers={"content-type": "application/json"})
    assert (answer.status_code, code_of(answer)) == (413, "request_too_large")
    assert resident_mb() < before + 120


def test_deeply_nested_tools_are_survived(http):
    deep: object = {}
    for _ in range(400):
        deep = {"properties": deep}
    tools = [{"type": "function", "function": {"name": "f", "parameters": deep}}]
    assert ask(http, tools=tools).status_code == 200


@pytest.mark.parametrize(
    "request_line",
    [b"GET /v1/../../etc/passwd HTTP/1.1", b"GET //v1/models HTTP/1.1", b"TRACE /v1/models HTTP/1.1",
     b"GET /v1/models/%00 HTTP/1.1", b"GET /api/v1/documents/..%2f..%2fx HTTP/1.1",
     b"GET /api/v1/traces/%F0%28 HTTP/1.1", b"GET /api/v1/traces/' HTTP/1.1"],
)  # fmt: skip
def test_odd_paths_end_in_a_clean_refusal(site, request_line):
    head = b"\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
    answer = raw(site, request_line + head)
    assert answer.split(b" ", 2)[1] in {b"400", b"404", b"405"}
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=x", "limit=99999", "since=yesterday", "until=", "before=%00", "before=x", "limit=%F0%9F%98%80"],
)
def test_a_wrong_query_is_named(http, query):
    answer = http.get(f"/api/v1/traces?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in {"limit", "since", "until", "before"}


def test_an_odd_query_of_the_others_is_refused(http):
    assert http.get("/api/v1/spend?by=secret").status_code == 400
    assert http.get("/api/v1/audit?before=x").status_code == 400
    assert http.get("/api/v1/audit?before=99999999999999999999999").status_code in {200, 400}
    assert http.get("/v1/nothing").json()["error"]["code"] == "not_found"
    wrong = http.put("/v1/models")
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (405, "invalid_request_error")
