"""Token numbers in place of texts: what LangChain's OpenAI client sends, through the door."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import httpx2
import pytest

from interlock.app import open_app
from interlock.server.asgi import build_asgi
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.workspaces import write_workspace


@asynccontextmanager
async def gateway(tmp_path, **routes):
    async with fake_upstream() as upstream:
        providers = {
            "up": {"kind": "openai", "base_url": upstream.url},
            "words": {"kind": "mistral", "base_url": upstream.url},
            "local": {"kind": "local"},
            "quotes": {"kind": "extractive"},
        }
        prices = {"up/*": {"input_per_million": "1000000", "output_per_million": "0"}}
        settings = {
            "gateway": {"providers": providers, "routes": routes},
            "cost": {"prices": prices},
        }
        async with open_app(write_workspace(tmp_path / "w", settings=settings)) as app:
            transport = httpx2.ASGITransport(app=build_asgi(app), client=("127.0.0.1", 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                yield app, http, upstream


def vectors(*rows, tokens=0):
    data = [{"index": at, "embedding": row} for at, row in enumerate(rows)]
    body = {"object": "list", "data": data, "usage": {"prompt_tokens": tokens}}
    return Reply([json.dumps(body).encode()], headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("given", "sent"), [([7, 8, 9], [[7, 8, 9]]), ([[7, 8], [9]], [[7, 8], [9]])], ids=["one list", "several"]
)
async def test_token_numbers_reach_an_openai_provider_and_are_counted_exactly(tmp_path, given, sent):
    async with gateway(tmp_path) as (app, http, upstream):
        upstream.will(vectors(*([0.5, 1.0] for _ in sent)))
        answer = await http.post("/v1/embeddings", json={"model": "up/e", "input": given})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["data"]) == len(sent)
        assert upstream.requests[-1].body["input"] == sent
        # The provider told no usage: the numbers themselves are the count.
        assert answer.json()["usage"]["prompt_tokens"] == 3
        (row,) = await app.parts.cost.ledger(app.owner())
        assert (row.usage.input_tokens, row.usage.estimated) == (3, False)


async def test_kept_vectors_of_tokens_and_of_texts_are_not_mixed(tmp_path):
    async with gateway(tmp_path, kept={"targets": ["up/e"], "cache": {"ttl_s": 60}}) as (_, http, upstream):
        upstream.will(vectors([0.5], tokens=2))
        body = {"model": "route/kept", "input": [[1, 2]]}
        await http.post("/v1/embeddings", json=body)
        again = await http.post("/v1/embeddings", json=body)
        assert again.json()["data"][0]["embedding"] == [0.5]
        assert again.headers["x-interlock-cache"] == "hit"
        upstream.will(vectors([0.25], tokens=2))
        other = await http.post("/v1/embeddings", json={**body, "input": ["[1, 2]"]})
        assert other.json()["data"][0]["embedding"] == [0.25]
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("model", ["words/e", "local/minilm-l6-int8", "quotes/e"])
async def test_a_provider_that_takes_only_texts_says_so(tmp_path, model):
    async with gateway(tmp_path) as (_, http, upstream):
        answer = await http.post("/v1/embeddings", json={"model": model, "input": [[1, 2]]})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == "input"
        assert "only texts" in error["message"]
        assert not upstream.requests


@pytest.mark.parametrize("given", [[], [[]], [1, "a"], [["a"]], [-1], [[1], "a"], [True], [1.5], {}, "", [2**40]])
async def test_what_is_neither_texts_nor_tokens_names_the_field(tmp_path, given):
    async with gateway(tmp_path) as (_, http, upstream):
        answer = await http.post("/v1/embeddings", json={"model": "up/e", "input": given})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
        assert not upstream.requests
