"""The fast lane gives what the ordinary path gives: answers, ledger, audit, spans, limits, errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.gateway.wires.openai import decode_usage
from interlock.server.lane.bodies import WIRES
from interlock.testing.servers import run_server
from interlock.testing.upstream import Reply, fake_upstream, sse
from interlock.testing.wires import AnthropicWire, OpenAIWire
from interlock.testing.workspaces import write_workspace

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
JSON = {"content-type": "application/json"}
MODEL = "gpt-4.1-mini"
MESSAGES = [{"role": "user", "content": "hi ✓"}]


def whole(text="Hello ✓", **more):
    message = {"role": "assistant", "content": text}
    answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": MODEL, "usage": USAGE, **more}
    answer["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return Reply([json.dumps(answer, ensure_ascii=False).encode()], headers=JSON)


def streamed(*texts, then="end"):
    pieces = OpenAIWire().answer(list(texts))
    return Reply(pieces if then == "end" else pieces[:-2], then=then)


class Site:
    """A running server, its upstream, and a key."""

    def __init__(self, server, upstream, key, http, on):
        self.server, self.upstream, self.key, self.http, self.on = server, upstream, key, http, on

    async def ask(self, *, path="/v1/chat/completions", key=None, **body):
        body = {"model": "route/r", "messages": MESSAGES, **body}
        headers = {"authorization": f"Bearer {key or self.key}"}
        return await self.http.post(path, json=body, headers=headers)

    async def warm(self, **body):
        """Ask until the lane has learnt the key and the route."""
        for _ in range(8):
            answer = await self.ask(**body)
            assert answer.status_code == 200, answer.text
            if not self.on or await self.took_lane(answer):
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("no request took the lane")
        self.upstream.requests.clear()

    async def trace(self, answer):
        """Spans and ledger rows of an answer. Reading them needs no key on this machine."""
        for _ in range(100):
            found = await self.http.get(f"/api/v1/traces/{answer.headers['x-interlock-trace-id']}")
            if found.status_code == 200:
                return found.json()
            await asyncio.sleep(0.02)
        raise AssertionError("there is no trace")

    async def took_lane(self, answer):
        root = next(span for span in (await self.trace(answer))["spans"] if span["parent_id"] is None)
        return bool(root["attributes"].get("interlock.lane"))


@asynccontextmanager
async def site(
    tmp_path, *, on=True, kind="openai", model=MODEL, limits=(), route=None, provider=None, gateway=None, prices=None
):
    async with fake_upstream() as upstream:
        up = {
            "kind": kind,
            "base_url": upstream.url,
            "api_key_env": "FAKE_KEY",
            "models": [model, "gpt-4.1", "other"],
            **(provider or {}),
        }
        settings = {
            "gateway": {
                "providers": {"up": up, **((gateway or {}).get("providers", {}))},
                "routes": {"r": {"targets": [f"up/{model}"], "retries": 1, "max_output_tokens": 500, **(route or {})}},
                "breaker": {"failures": 1000},
                **{name: value for name, value in (gateway or {}).items() if name != "providers"},
            },
            "cost": {
                "limits": list(limits),
                "prices": {"up/*": {"input_per_million": "1", "output_per_million": "2"}, **(prices or {})},
            },
            "server": {"fast_lane": on},
        }
        workspace = write_workspace(tmp_path / "w", settings=settings)
        command = [sys.executable, "-m", "interlock", "--workspace", str(workspace), "keys", "create", "k", "--json"]
        made = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
        starting = run_server(workspace, environ={"FAKE_KEY": "secret"})
        server = await asyncio.to_thread(starting.__enter__)
        try:
            async with httpx2.AsyncClient(base_url=server.url, timeout=30) as http:
                yield Site(server, upstream, json.loads(made.stdout)["secret"], http, on)
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)


BOTH = pytest.mark.parametrize("on", [True, False], ids=["lane", "ordinary"])


@BOTH
async def test_answers_ledger_audit_and_span_are_the_same(tmp_path, on):
    # The ordinary path asks every upstream to stream.
    reply = (lambda *texts: whole("".join(texts))) if on else streamed
    async with site(tmp_path, on=on) as s:
        s.upstream.will(whole() if on else streamed("Hello ✓"))
        if on:
            s.upstream.will(streamed("Hello ✓"))
            await s.warm(stream=True)
        s.upstream.will(reply("Hel", "lo ✓"))
        answer = await s.ask(max_tokens=9, temperature=0.5)
        body = answer.json()
        assert body["choices"][0]["message"]["content"] == "Hello ✓"
        assert body["choices"][0]["finish_reason"] == "stop"
        assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (11, 7)
        assert body["interlock"]["model"] == f"up/{MODEL}"
        assert body["interlock"]["cost_usd"] == "0.000025"
        assert answer.headers["x-interlock-route"] == f"up/{MODEL}"
        sent = s.upstream.requests[-1]
        assert sent.path == "/v1/chat/completions"
        assert sent.headers["authorization"] == "Bearer secret"
        assert (sent.body["model"], sent.body["max_tokens"], sent.body["temperature"]) == (MODEL, 9, 0.5)
        assert sent.body["messages"] == MESSAGES
        assert bool(sent.body.get("stream")) is not on

        found = await s.trace(answer)
        assert await s.took_lane(answer) is on
        (row,) = found["ledger"]
        assert (row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (11, 7)
        assert row["cost_usd"] == "0.000025"
        lines = (await s.http.get("/api/v1/audit")).json()["data"]
        line = next(line for line in lines if line["trace_id"] == answer.headers["x-interlock-trace-id"])
        assert (line["action"], line["subject"], line["outcome"]) == ("chat.model", "route/r", "ok")
        assert line["details"] == {"input_tokens": 11, "output_tokens": 7, "cost_nano_usd": 25_000}


@BOTH
async def test_a_stream_tells_its_usage_to_who_asked_and_to_nobody_else(tmp_path, on):
    async with site(tmp_path, on=on) as s:
        s.upstream.will(streamed("Hel", "lo ✓"))
        await s.warm(stream=True)
        for wanted in (False, True):
            options = {"stream_options": {"include_usage": True}} if wanted else {}
            answer = await s.ask(stream=True, **options)
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
            assert events[-1] == "[DONE]"
            chunks = [json.loads(event) for event in events[:-1]]
            texts = [c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]]
            assert "".join(texts) == "Hello ✓"
            told = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
            assert told == ([7] if wanted else [])
            assert s.upstream.requests[-1].body["stream_options"] == {"include_usage": True}
            (row,) = (await s.trace(answer))["ledger"]
            assert (row["usage"]["output_tokens"], row["usage"]["estimated"]) == (7, False)
            assert await s.took_lane(answer) is on


async def test_anthropic_messages_and_embeddings_take_the_lane_too(tmp_path):
    async with site(tmp_path / "a", kind="anthropic", model="claude-haiku-4-5") as s:
        wire = AnthropicWire()
        ask = {"path": "/v1/messages", "max_tokens": 20}
        s.upstream.will(Reply(wire.answer(["Hel", "lo ✓"])))
        await s.warm(stream=True, **ask)
        answer = await s.ask(stream=True, **ask)
        assert "lo ✓" in answer.text
        assert "message_stop" in answer.text
        assert await s.took_lane(answer)
        (row,) = (await s.trace(answer))["ledger"]
        assert (row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (11, 7)
        assert s.upstream.requests[-1].headers["x-api-key"] == "secret"
        said = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "yes"}]}
        s.upstream.will(
            Reply([json.dumps({**said, "usage": {"input_tokens": 3, "output_tokens": 2}}).encode()], headers=JSON)
        )
        answer = await s.ask(**ask)
        assert answer.json()["content"][0]["text"] == "yes"
        assert (await s.trace(answer))["ledger"][0]["usage"]["output_tokens"] == 2
    async with site(tmp_path / "e") as s:
        vectors = {"object": "list", "data": [{"index": 0, "embedding": [0.5, 1.0]}], "usage": {"prompt_tokens": 4}}
        s.upstream.will(Reply([json.dumps(vectors).encode()], headers=JSON))
        for _ in range(8):
            answer = await s.http.post(
                "/v1/embeddings",
                json={"model": f"up/{MODEL}", "input": ["a"]},
                headers={"authorization": f"Bearer {s.key}"},
            )
            if await s.took_lane(answer):
                break
            await asyncio.sleep(0.05)
        assert answer.json()["data"][0]["embedding"] == [0.5, 1.0]
        found = await s.trace(answer)
        assert found["ledger"][0]["usage"]["input_tokens"] == 4
        assert await s.took_lane(answer)


@BOTH
async def test_a_failed_try_is_the_target_s_first_and_is_not_made_twice(tmp_path, on):
    async with site(tmp_path, on=on) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        s.upstream.will(OpenAIWire().error(500, "server_error", "oh"), streamed("well"))
        answer = await s.ask(stream=True)
        assert "well" in answer.text
        assert len(s.upstream.requests) == 2, "one retry, as the route says"
        assert len((await s.trace(answer))["ledger"]) == 1

        s.upstream.requests.clear()
        s.upstream.will(OpenAIWire().error(400, "invalid_request_error", "no"))
        refused = await s.ask(stream=True)
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
        assert len(s.upstream.requests) == 1, "a request that is wrong is wrong everywhere"

        s.upstream.requests.clear()
        s.upstream.will(Reply(status=503))
        failed = await s.ask(stream=True)
        assert failed.status_code == 502
        assert len(s.upstream.requests) == 2


@BOTH
async def test_a_stream_that_breaks_off_is_told_and_charged_as_an_estimate(tmp_path, on):
    async with site(tmp_path, on=on) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        for reply in (
            streamed("Hel", "lo", then="break off"),
            Reply([*streamed("Hel", then="end").pieces[:2], OpenAIWire().error_event("server_error", "oh")]),
        ):
            s.upstream.will(reply)
            answer = await s.ask(stream=True)
            events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
            assert "error" in json.loads(events[-1]), answer.text
            assert "Hel" in answer.text
            (row,) = (await s.trace(answer))["ledger"]
            assert row["usage"]["estimated"]
            assert row["outcome"] == "error"
            # A token that was sent cannot be taken back; where both came at once, it was not sent yet.
            assert len(s.upstream.requests) == 1 or "error" in str(reply.pieces[-1])
            s.upstream.requests.clear()


@BOTH
async def test_a_client_that_leaves_stops_the_upstream_and_pays_for_what_came(tmp_path, on):
    async with site(tmp_path, on=on) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        s.upstream.will(streamed("Hel", "lo", then="fall silent"))
        body = {"model": "route/r", "messages": MESSAGES, "stream": True}
        headers = {"authorization": f"Bearer {s.key}"}
        async with s.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            async for _ in answer.aiter_text():
                break
        await asyncio.wait_for(s.upstream.until_idle(), 20)
        (row,) = (await s.trace(answer))["ledger"]
        assert (row["outcome"], row["usage"]["estimated"]) == ("cancelled", True)


@BOTH
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_first_token_pays_for_what_was_sent(tmp_path, on, stream):
    async with site(tmp_path, on=on) as s:
        s.upstream.will(streamed("ok") if stream else whole())
        await s.warm(stream=stream)
        s.upstream.will(Reply([], then="fall silent"))
        asking = asyncio.create_task(s.ask(stream=stream))
        while not s.upstream.requests:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.wait_for(s.upstream.until_idle(), 20)
        for _ in range(100):
            traces = (await s.http.get("/api/v1/traces?status=cancelled")).json()["data"]
            if traces:
                break
            await asyncio.sleep(0.05)
        (row,) = (await s.http.get(f"/api/v1/traces/{traces[0]['trace_id']}")).json()["ledger"]
        assert (row["outcome"], row["usage"]["estimated"], row["usage"]["output_tokens"]) == ("cancelled", True, 0)
        assert row["usage"]["input_tokens"] > 0


@BOTH
async def test_a_limit_holds_whatever_path_the_calls_take(tmp_path, on):
    limits = [{"name": "few", "period": "day", "requests": 10, "per": ["key"]}]
    async with site(tmp_path, on=on, limits=limits) as s:
        s.upstream.will(streamed("ok"))
        answers = [await s.ask(stream=True) for _ in range(14)]
        assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 4
        assert len(s.upstream.requests) == 10
        assert "few" in answers[-1].json()["error"]["message"]


async def test_concurrent_calls_cannot_pass_a_budget(tmp_path):
    # 40 + 2 * 500 microdollars are reserved a call, and 25 are used.
    limits = [{"name": "money", "period": "month", "money": "0.01"}]
    async with site(tmp_path, limits=limits, provider={"max_concurrency": 8}) as s:
        s.upstream.will(streamed("ok"))
        answers = [a for _ in range(12) for a in await asyncio.gather(*(s.ask(stream=True) for _ in range(40)))]
        served = [answer for answer in answers if answer.status_code == 200]
        assert 0 < len(served) == len(s.upstream.requests)
        assert len(served) * 25 <= 10_000
        assert {answer.status_code for answer in answers} <= {200, 402, 429}


TWO = [f"up/{MODEL}", "up/gpt-4.1"]
DEAR = {"up/gpt-4.1": {"input_per_million": "3", "output_per_million": "9"}}


def sent_to(s):
    return [request.body["model"] for request in s.upstream.requests]


@BOTH
async def test_the_cheapest_target_goes_first_and_the_head_says_why_others_do_not(tmp_path, on):
    route = {"targets": ["up/other", *reversed(TWO)], "strategy": "cost", "require": {"regions": ["eu"]}}
    register = {"approvals": {"up/gpt*": {"regions": ["eu"]}}, "breaker": {"failures": 1, "pause_s": 600}}
    async with site(tmp_path, on=on, route=route | {"retries": 0}, gateway=register, prices=DEAR) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        answer = await s.ask(stream=True)
        assert await s.took_lane(answer) is on
        assert sent_to(s) == [MODEL]
        assert answer.headers["x-interlock-route"] == f"up/{MODEL}; up/other=region"
        # It fails once, and rests: the dearer one serves, and it is told why.
        s.upstream.will(OpenAIWire().error(500, "server_error", "oh"), streamed("well"))
        answer = await s.ask(stream=True)
        assert "well" in answer.text
        answer = await s.ask(stream=True)
        assert await s.took_lane(answer) is on
        assert sent_to(s) == [MODEL, MODEL, "gpt-4.1", "gpt-4.1"]
        assert answer.headers["x-interlock-route"] == f"up/gpt-4.1; up/other=region; up/{MODEL}=breaker_open"


@BOTH
async def test_weights_give_each_target_its_share(tmp_path, on):
    route = {"targets": TWO, "strategy": "weighted", "weights": {TWO[0]: 1, TWO[1]: 3}}
    async with site(tmp_path, on=on, route=route) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        answers = [await s.ask(stream=True) for _ in range(200)]
        assert await s.took_lane(answers[-1]) is on
        assert [answer.headers["x-interlock-route"] for answer in answers] == [f"up/{model}" for model in sent_to(s)]
        # Five standard deviations on either side of 50.
        assert 20 <= sent_to(s).count(MODEL) <= 80


@BOTH
async def test_the_faster_of_two_targets_serves(tmp_path, on):
    route = {"targets": ["slow/gpt-4.1", *TWO[:1]], "strategy": "latency"}
    async with fake_upstream() as slow:
        slow.will(Reply(streamed("ok").pieces, after_s=0.3))
        providers = {"slow": {"kind": "openai", "base_url": slow.url, "api_key_env": "FAKE_KEY"}}
        async with site(tmp_path, on=on, route=route, gateway={"providers": providers}) as s:
            s.upstream.will(streamed("ok"))
            await s.warm(stream=True)
            for _ in range(10):
                answer = await s.ask(stream=True)
            assert await s.took_lane(answer) is on
            assert answer.headers["x-interlock-route"] == f"up/{MODEL}"
            assert len(s.upstream.requests) >= 8, "the slow one is asked once or twice, until it is known"


async def test_a_sticky_caller_meets_the_same_target_on_both_paths(tmp_path):
    route = {"targets": TWO, "strategy": "weighted", "sticky": "user"}
    async with site(tmp_path, route=route) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        met = set()
        for number in range(12):
            made = await s.http.post("/api/v1/keys", json={"name": f"k{number}"})
            key = made.json()["secret"]
            for _ in range(8):
                answer = await s.ask(stream=True, key=key)
                if await s.took_lane(answer):
                    break
                await asyncio.sleep(0.05)
            else:
                raise AssertionError("the lane never knew the key")
            # A field that is not forwarded sends a request the ordinary way.
            other = await s.ask(stream=True, key=key, metadata={"a": "b"})
            assert not await s.took_lane(other)
            assert answer.headers["x-interlock-route"] == other.headers["x-interlock-route"]
            met.add(answer.headers["x-interlock-route"])
        assert len(met) == 2


@BOTH
async def test_what_was_drawn_is_not_drawn_anew_when_it_fails(tmp_path, on):
    route = {"targets": TWO, "strategy": "weighted", "retries": 0}
    async with site(tmp_path, on=on, route=route) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        for _ in range(12):
            s.upstream.will(OpenAIWire().error(500, "server_error", "oh"), streamed("well"))
            s.upstream.requests.clear()
            answer = await s.ask(stream=True)
            assert "well" in answer.text
            first, second = sent_to(s)
            assert first != second
            assert answer.headers["x-interlock-route"] == f"up/{second}; up/{first}=provider_error"


async def test_a_revoked_key_is_refused_at_once(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        (key,) = (await s.http.get("/api/v1/keys")).json()["data"]
        assert (await s.http.delete(f"/api/v1/keys/{key['id']}")).status_code in {200, 204}
        assert (await s.ask(stream=True)).status_code == 401


async def test_an_upstream_that_answers_otherwise_than_asked_is_read_the_long_way(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        # Asked for one object, it streams.
        answer = await s.ask()
        assert answer.json()["choices"][0]["message"]["content"] == "ok"
        assert len(s.upstream.requests) == 2
        await s.ask()
        assert len(s.upstream.requests) == 3, "it is remembered for a while"


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"max_tokens": 9999}, {"max_tokens": 500}),
        ({}, {"max_tokens": 500}),
        ({"temperature": 0.1}, {"temperature": 0.1}),
    ],
)
async def test_the_route_s_limits_reach_the_upstream(tmp_path, body, sent):
    async with site(tmp_path, route={"temperature": 0.7}) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        said = {"messages": [{"role": "user", "content": 'say "model": "route/r"'}], **body}
        answer = await s.ask(stream=True, **said)
        assert await s.took_lane(answer)
        got = s.upstream.requests[-1].body
        assert got["model"] == MODEL
        assert got["messages"] == said["messages"]
        assert sent.items() <= got.items()
        assert body.get("temperature", 0.7) == got["temperature"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"n": 2}, 400),
        ({"temperature": 7}, 400),
        ({"messages": []}, 400),
        ({"model": "route/none"}, 404),
        ({"max_tokens": 0}, 400),
    ],
)
async def test_what_is_wrong_is_refused_as_ever(tmp_path, body, status):
    async with site(tmp_path) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        refused = await s.ask(**{"stream": True, **body})
        assert refused.status_code == status
        assert refused.json()["error"]["message"]


async def _raw(s, data, *, until=None, seconds=20):
    """Send bytes, read until the connection ends or `until` was seen."""
    host, port = s.server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    got = b""
    try:
        async with asyncio.timeout(seconds):
            while until is None or got.count(until[0]) < until[1]:
                piece = await reader.read(65536)
                if not piece:
                    break
                got += piece
    finally:
        writer.close()
    return got


def _http(s, body, *headers, path="/v1/chat/completions"):
    raw = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {s.key}"]
    lines += ["content-type: application/json", f"content-length: {len(raw)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


async def test_pipelined_requests_are_answered_in_order(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        lane = _http(s, {"model": "route/r", "messages": MESSAGES, "stream": True})
        models = b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\n\r\n" % s.key.encode()
        got = await _raw(s, lane + models + lane, until=(b"[DONE]", 2))
        first, second, third = (got.index(b"[DONE]"), got.index(b'"object":"list"'), got.rindex(b"[DONE]"))
        assert first < second < third
        assert got.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: xchunked",
        "content-length: +5",
        "content-length: 5 5",
        "content-length : 5",
        "x: a\r\n b: c\r\ncontent-length: 5",
        "content-length: 5\r\nx\x00y: z",
    ],
)
async def test_a_request_that_two_readers_could_read_differently_reaches_nobody(tmp_path_factory, head, hostile):
    s = hostile
    s.upstream.requests.clear()
    smuggled = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {s.key}\r\n"
    body = b"0\r\n\r\n" + _http(s, {"model": "route/r", "messages": MESSAGES, "stream": True})
    got = await _raw(s, f"{smuggled}{head}\r\n\r\n".encode("latin-1") + body, until=(b"\r\n\r\n", 1))
    assert got.startswith(b"HTTP/1.1 400"), got[:200]
    await asyncio.sleep(0.05)
    assert s.upstream.requests == []


@pytest.fixture
async def hostile(tmp_path):
    patient = {"connect_timeout_s": 100, "idle_timeout_s": 100}
    route = {"first_token_timeout_s": 200, "total_timeout_s": 300}
    async with site(tmp_path, provider=patient, route=route) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        yield s


async def test_bounds_of_a_head(hostile):
    many = b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 200 + b"\r\n"
    large = b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000 + b"\r\n\r\n"
    address = b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    for data in (many, large, address):
        assert (await _raw(hostile, data)).startswith(b"HTTP/1.1 431")
    for hosts in (b"", b"host: a\r\nhost: b\r\n"):
        assert (await _raw(hostile, b"GET /healthz HTTP/1.1\r\n" + hosts + b"\r\n")).startswith(b"HTTP/1.1 400")
    assert (await hostile.ask(stream=True)).status_code == 200


async def test_a_body_that_is_no_utf_8_or_no_json_is_refused(hostile):
    for raw in (b'{"model": "route/r", "messages": [{"role": "user", "content": "\xff\xfe"}]}', b"{", b"[]", b"\x00"):
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {hostile.key}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(raw)}\r\nconnection: close\r\n\r\n"
        assert b" 400 " in (await _raw(hostile, head.encode() + raw)).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "reply",
    [
        Reply([b"data: {not json\n\n", *sse("[DONE]")]),
        Reply([b"data: " + b"x" * 9_000_000]),
        Reply([b'{"usage": '], headers=JSON),
        Reply([b"{}"], headers=JSON, length=50),
        Reply([b"{}"], headers={**JSON, "content-encoding": "gzip"}),
        Reply([b"<html>"], headers={"content-type": "text/html"}),
        Reply([], silent_first=False, then="break off"),
    ],
    ids=["no json", "no end", "half", "short", "packed", "html", "cut"],
)
async def test_an_upstream_that_misbehaves_harms_nobody_else(hostile, reply):
    hostile.upstream.will(reply)
    for stream in (True, False):
        answer = await hostile.ask(stream=stream)
        assert answer.status_code == 502 or "error" in answer.text or "[DONE]" in answer.text
    hostile.upstream.will(streamed("still here"))
    assert "still here" in (await hostile.ask(stream=True)).text


async def test_a_chunk_of_ten_megabytes_passes(hostile):
    big = whole("x" * 10_000_000)
    hostile.upstream.will(big)
    answer = await hostile.ask()
    assert answer.status_code == 200, answer.text[:500]
    assert len(answer.json()["choices"][0]["message"]["content"]) == 10_000_000


async def test_two_thousand_streams_at_once(hostile):
    """Slow ones, all open together, and every one of them whole."""
    hostile.upstream.will(streamed(*(f"t{n} " for n in range(5))))
    body = _http(hostile, {"model": "route/r", "messages": MESSAGES, "stream": True})
    answers = await asyncio.gather(*(_raw(hostile, body, until=(b"[DONE]", 1), seconds=120) for _ in range(2000)))
    assert sum(b"t4 " in answer and b"[DONE]" in answer for answer in answers) == 2000


async def _answer(reader):
    """Status and body of the next answer on a connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line[16:]) for line in lines if line.startswith(b"content-length: ")), None)
    if length is not None:
        return int(head[9:12]), await reader.readexactly(length)
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return int(head[9:12]), body


async def test_requests_under_one_head_are_read_alike_however_they_come(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(streamed("Hello"))
        await s.warm(stream=True)
        s.upstream.will(whole())

        def request(text, **more):
            messages = [{"role": "user", "content": text}]
            body = json.dumps({"model": "route/r", "messages": messages, **more}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {s.key}\r\n"
            return (head + f"Content-Length: {len(body)}\r\nAccept: */*\r\n\r\n").encode() + body

        url = httpx2.URL(s.server.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        # Whole, whole again and longer, in two pieces, cut in the digits of the length, two at once, whole.
        one, two = request("first"), request("second " * 20)
        cut = request("x" * 1000)
        digits = cut.index(b"Content-Length: ") + 17
        pieces = [[one], [two], [one[:200], one[200:]], [cut[:digits], cut[digits:]], [one + two], [two]]
        said = []
        for sent in pieces:
            for piece in sent:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05)
            for _ in range(b"".join(sent).count(b"POST ")):
                said.append(await asyncio.wait_for(_answer(reader), 10))
        assert [status for status, _ in said] == [200] * 7
        texts = [request.body["messages"][0]["content"] for request in s.upstream.requests]
        long = "second " * 20
        assert texts == ["first", long, "first", "x" * 1000, "first", long, long]
        # One that the lane cannot forward, of another length than the head was known with.
        s.upstream.will(streamed("Hello"))
        writer.write(request("odd", metadata={"team": "a"}))
        assert (await asyncio.wait_for(_answer(reader), 10))[0] == 200
        assert s.upstream.requests[-1].body["messages"] == [{"role": "user", "content": "odd"}]
        # What follows a whole request in the same piece is never taken for its body.
        s.upstream.will(whole())
        writer.write(one + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [(await asyncio.wait_for(_answer(reader), 10))[0] for _ in range(2)] == [200, 200]
        # A length that is not the body's: the rest is awaited, and what comes too much is another request.
        writer.write(one[:-1])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_answer(reader), 0.3)
        writer.write(one[-1:])
        assert (await asyncio.wait_for(_answer(reader), 10))[0] == 200
        writer.write(b"nonsense\r\n\r\n")
        assert (await asyncio.wait_for(_answer(reader), 10))[0] == 400
        writer.close()


@given(st.data())
def test_usage_is_read_as_the_ordinary_path_reads_it(data):
    number = st.none() | st.integers(0, 10_000)
    details = st.none() | st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("cached_tokens", "cache_write_tokens", "cache_creation_tokens"), number)
    )
    fields = {"prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens", "cached_tokens"}
    usage = data.draw(
        st.fixed_dictionaries(
            {"prompt_tokens": number},
            optional={
                **{name: number for name in (*fields, "prompt_cache_hit_tokens") if name != "prompt_tokens"},
                "prompt_tokens_details": details,
                "completion_tokens_details": st.none() | st.fixed_dictionaries({"reasoning_tokens": number}),
            },
        )
    )
    answer = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    found = WIRES[b"/v1/chat/completions"].usage(json.dumps(answer).encode())
    assert found == decode_usage(usage)


IMAGE = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}
UNFIT = {
    "a tool that the provider runs": {"tools": [{"type": "web_search"}]},
    "no tool": {"tools": [5]},
    "no choice of a tool": {"tool_choice": "wat"},
    "no form of an answer": {"response_format": {"type": "wat"}},
    "no effort": {"reasoning_effort": "wat"},
    "no stop": {"stop": 5},
    "too many log probabilities": {"top_logprobs": 99, "logprobs": True},
    "content that is a number": {"messages": [{"role": "user", "content": 5}]},
    "a part of no known kind": {"messages": [{"role": "user", "content": [{"type": "wat"}]}]},
    "a picture from the disk": {"messages": [{"role": "user", "content": [IMAGE]}]},
    "arguments that are no text": {"messages": [*MESSAGES, {"role": "assistant", "tool_calls": [CALL]}]},
}


async def test_the_lane_takes_nothing_that_the_ordinary_path_refuses(tmp_path):
    async with site(tmp_path) as s:
        s.upstream.will(streamed("warm"))
        await s.warm(stream=True)
        for what, fields in UNFIT.items():
            answer = await s.ask(**fields)
            assert answer.status_code == 400, (what, answer.text)
        assert s.upstream.requests == []


async def test_the_lane_takes_tools_pictures_and_schemas(tmp_path):
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    call = {**CALL, "function": {"name": "f", "arguments": "{}"}}
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "what is this?"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "a cat"},
    ]
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": parameters}}
    async with site(tmp_path) as s:
        s.upstream.will(streamed("warm"))
        await s.warm(stream=True)
        for fields in ({"messages": turns, "tools": [tool], "tool_choice": "auto"}, {"response_format": wanted}):
            s.upstream.will(whole("{}"))
            answer = await s.ask(**fields)
            assert answer.status_code == 200, answer.text
            assert await s.took_lane(answer)
            sent = s.upstream.requests[-1].body
            assert {name: sent[name] for name in fields} == fields


@pytest.mark.parametrize("figure", ["1e400", "12.5", '"many"', "-4", "99999999999999999999999"])
@BOTH
async def test_usage_that_is_no_count_is_estimated(tmp_path, on, figure):
    async with site(tmp_path, on=on) as s:
        s.upstream.will(streamed("warm"))
        if on:
            await s.warm(stream=True)
        base = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        told = {**base, "choices": [{"index": 0, "delta": {"content": "four words of text"}, "finish_reason": "stop"}]}
        last = json.dumps({**base, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}})
        last = last.replace('"completion_tokens": 0', f'"completion_tokens": {figure}')
        pieces = [f"data: {json.dumps(told)}\n\n", f"data: {last}\n\n", "data: [DONE]\n\n"]
        s.upstream.will(Reply([piece.encode() for piece in pieces]))
        answer = await s.ask(stream=True)
        assert answer.status_code == 200, answer.text
        assert "four words of text" in answer.text
        (row,) = (await s.trace(answer))["ledger"]
        assert 0 < row["usage"]["output_tokens"] < 100
        assert row["usage"]["estimated"] is True
