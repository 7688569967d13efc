"""Rerank, moderation and relays over a provider that has them: what is passed on, charged, stopped."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager

import httpx2
import pytest

from interlock.app import open_app
from interlock.core.errors import LimitExceeded
from interlock.core.messages import Usage
from interlock.flows.relay import RelayHead, relay, used_of
from interlock.gateway.ports import Moderated, Ranked, RelayAnswer, RelayCall, Reranked
from interlock.gateway.providers.scripted import ScriptedProvider
from interlock.gateway.service import PROVIDERS
from interlock.server.asgi import build_asgi
from interlock.server.media import field_of_form
from interlock.testing.workspaces import write_workspace


class Toy(ScriptedProvider):
    """Has every endpoint, and says what it was sent."""

    def __init__(self, name, settings, deps):
        super().__init__(name, settings)
        self.seen = []
        self.closed = 0

    async def rerank(self, ctx, query, documents, model, *, limit):
        self.seen.append((query, list(documents), limit))
        rows = sorted((Ranked(at, float(len(text))) for at, text in enumerate(documents)), key=lambda r: -r.score)
        return Reranked(rows[:limit], Usage(12))

    async def moderate(self, ctx, inputs, model):
        return [Moderated("bad" in text, {"violence": "bad" in text}, {"violence": 0.9}) for text in inputs]

    async def relay(self, ctx, call, model):
        self.seen.append(call)
        if b"BUSY" in call.body:
            raise LimitExceeded("busy", retry_after_s=9)
        return RelayAnswer(200, "audio/mpeg", self._body(b"ENDLESS" in call.body))

    async def _body(self, endless):
        try:
            yield b"one"
            while endless:
                await asyncio.sleep(0.01)
                yield b"more"
            yield b'{"usage": {"input_tokens": 5, "output_tokens": 7}}'
        finally:
            self.closed += 1


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setitem(PROVIDERS._loaded, "toy", Toy)
    prices = {"toy/*": {"input_per_million": "1", "output_per_million": "2"}}

    @asynccontextmanager
    async def start(**gateway):
        settings = {"gateway": {"providers": {"toy": {"kind": "toy"}}, **gateway}, "cost": {"prices": prices}}
        workspace = write_workspace(tmp_path / "w", settings=settings)
        async with open_app(workspace) as app:
            transport = httpx2.ASGITransport(app=build_asgi(app), client=("127.0.0.1", 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                yield app, http

    return start


async def test_documents_are_ranked_and_the_tokens_charged(opened):
    async with opened() as (app, http):
        body = {"model": "toy/r", "query": "q", "documents": ["a", {"text": "bbb"}, "cc"], "top_n": 2}
        answer = (await http.post("/v1/rerank", json={**body, "return_documents": True})).json()
        assert [(row["index"], row["relevance_score"]) for row in answer["results"]] == [(1, 3.0), (2, 2.0)]
        assert answer["results"][0]["document"] == {"text": "bbb"}
        (row,) = await app.parts.cost.ledger(app.owner())
        assert (row.usage.input_tokens, row.outcome, row.cost is None) == (12, "ok", False)


async def test_a_provider_moderates(opened):
    async with opened() as (_, http):
        answer = (await http.post("/v1/moderations", json={"model": "toy/m", "input": ["fine", "bad"]})).json()
        assert [row["flagged"] for row in answer["results"]] == [False, True]
        assert answer["results"][1]["categories"]["violence"] is True


async def test_a_relayed_body_goes_both_ways_untouched_and_its_usage_is_charged(opened):
    async with opened() as (app, http):
        body = json.dumps({"model": "toy/tts", "input": "hi"}).encode()
        answer = await http.post("/v1/audio/speech", content=body, headers={"content-type": "application/json"})
        assert answer.content == b'one{"usage": {"input_tokens": 5, "output_tokens": 7}}'
        assert answer.headers["content-type"] == "audio/mpeg"
        assert answer.headers["content-security-policy"].startswith("sandbox")
        toy = app.parts.gateway.provider("toy")
        assert (toy.seen[0].operation, toy.seen[0].body) == ("speech", body)
        (row,) = await app.parts.cost.ledger(app.owner())
        assert (row.usage.input_tokens, row.usage.output_tokens, row.model) == (5, 7, "tts")


async def test_a_form_is_searched_for_its_model_and_no_further(opened):
    async with opened() as (app, http):
        form = {"data": {"model": "toy/whisper", "prompt": "x"}, "files": {"file": ("a.wav", b"--RIFF\r\n--")}}
        assert (await http.post("/v1/audio/transcriptions", **form)).status_code == 200
        seen = app.parts.gateway.provider("toy").seen[0]
        assert seen.operation == "transcription"
        assert b"--RIFF\r\n--" in seen.body
        assert seen.content_type.startswith("multipart/form-data")


async def test_a_limit_of_the_provider_is_an_error_before_any_body(opened):
    async with opened() as (app, http):
        answer = await http.post("/v1/images/generations", json={"model": "toy/x", "prompt": "BUSY"})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")
        assert await app.parts.cost.ledger(app.owner()) == []


async def test_leaving_a_relay_stops_the_provider_and_charges_once(opened):
    async with opened() as (app, _):
        call = RelayCall("speech", "application/json", b"ENDLESS")
        async with aclosing(relay(app.parts, app.owner(), call, "toy/tts")) as pieces:
            assert await anext(pieces) == RelayHead(200, "audio/mpeg")
            assert await anext(pieces) == b"one"
        assert app.parts.gateway.provider("toy").closed == 1
        (row,) = await app.parts.cost.ledger(app.owner())
        # The provider had not said what it used: no price is better than a wrong one.
        assert (row.outcome, row.cost) == ("cancelled", None)


@pytest.mark.parametrize(
    ("tail", "used"),
    [
        (b'{"data": "x", "usage": {"input_tokens": 3, "output_tokens": 4}}', (3, 4, False)),
        (b'{"usage": {"type": "duration", "seconds": 9}}', (0, 0, True)),
        (b'{"usage": {"input_tokens": -3, "output_tokens": 4}}', (0, 0, True)),
        (b'{"usage": {"input', (0, 0, True)),
        (b"\xff\xfb\x90", (0, 0, True)),
    ],
)
def test_usage_is_read_from_the_end_of_an_answer(tail, used):
    usage = used_of(tail)
    assert (usage.input_tokens, usage.output_tokens, usage.unmetered) == used


@pytest.mark.parametrize(
    "body",
    [b"", b"--b", b"--b--", b"--b\r\n\r\n", b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nnever ends'],
)
def test_a_broken_form_has_no_model(body):
    assert field_of_form(body, b"b", b"model") is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "a"}),
        ("/v1/rerank", {"query": "q", "documents": ["a"]}),
        ("/v1/moderations", {"input": "a"}),
        ("/v1/audio/speech", {"input": "a", "voice": "v"}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}]}),
    ],
)
async def test_what_must_stay_in_a_region_stays_there_whatever_is_asked(opened, path, body):
    register = {"toy/here": {"regions": ["eu"]}, "toy/there": {"regions": ["us"]}}
    routes = {"both": {"targets": ["toy/there", "toy/here"]}, "away": {"targets": ["toy/there"]}}
    async with opened(approvals=register, routes=routes, residency={"acme": ["eu"]}) as (app, http):
        refused = await http.post(path, json={"model": "route/away", **body})
        assert refused.status_code == 403, refused.text
        assert "outside eu" in refused.json()["error"]["message"]
        assert app.parts.gateway.provider("toy").seen == []
        served = await http.post(path, json={"model": "route/both", **body})
        assert served.status_code == 200, served.text
        rows = await app.parts.cost.ledger(app.owner())
        assert {row.model for row in rows} <= {"here"}


async def test_every_kind_of_answer_tells_which_target_served(opened):
    approvals = {"toy/old": {"deprecated_on": "2020-01-01"}}
    routes = {"r": {"targets": ["toy/old", "toy/m"], "cache": {"ttl_s": 60}}}
    async with opened(approvals=approvals, routes=routes) as (_, http):
        calls = {
            "/v1/rerank": {"query": "q", "documents": ["a"]},
            "/v1/moderations": {"input": "fine"},
            "/v1/audio/speech": {"input": "hi"},
            "/v1/images/generations": {"prompt": "hi"},
            "/v1/embeddings": {"input": "hi"},
        }
        for path, body in calls.items():
            answer = await http.post(path, json={**body, "model": "route/r"})
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-interlock-route"] == "toy/m; toy/old=deprecated", path
        kept = []
        for texts, mode in ((["hi", "you"], "use"), (["hi", "you"], "use"), ("hi", "refresh"), ("hi", "no-store")):
            body = {"input": texts, "model": "route/r"}
            answer = await http.post("/v1/embeddings", json=body, headers={"x-interlock-cache": mode})
            kept.append(answer.headers["x-interlock-cache"])
        assert kept == ["partial", "hit", "refresh", "bypass"]
        first = await http.post("/v1/embeddings", json={"input": "first", "model": "route/r"})
        assert first.headers["x-interlock-cache"] == "miss"
        own = await http.post("/v1/moderations", json={"input": "fine"})
        assert own.headers["x-interlock-route"] == "interlock/guardrails"


async def test_a_part_that_is_no_text_is_refused_by_its_name_and_never_passed_over(opened):
    async with opened() as (_, http):
        words = {"type": "text", "text": "fine"}
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        good = await http.post("/v1/moderations", json={"input": [words, words]})
        assert len(good.json()["results"]) == 2
        refused = await http.post("/v1/moderations", json={"input": [words, image]})
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_content", "input[1]")
        assert "image_url" in error["message"]
        empty = await http.post("/v1/embeddings", json={"model": "toy/m", "input": []})
        assert (empty.status_code, "should" in empty.text) == (400, False)


async def test_a_failed_call_tells_that_none_served(opened):
    down = {"kind": "scripted", "script": [{"reply": "half of it", "fail_status": 503, "fail_after_chunks": 1}]}
    providers = {"toy": {"kind": "toy"}, "down": down}
    routes = {"r": {"targets": ["down/x"], "retries": 0}}
    async with opened(providers=providers, routes=routes) as (_, http):
        for path, body in {
            "/v1/audio/speech": {"input": "BUSY", "model": "toy/tts"},
            "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "model": "route/r"},
        }.items():
            answer = await http.post(path, json=body)
            assert answer.status_code >= 400
            target = "toy/tts" if path.endswith("speech") else "down/x"
            assert answer.headers["x-interlock-route"] == f"none; {target}={answer.json()['error']['code']}", path
