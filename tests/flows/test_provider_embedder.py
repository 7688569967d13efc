"""Vectors by a provider's model, through the gateway, over a real server of embeddings."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.app import open_app
from interlock.core.errors import BudgetExceeded, InvalidInput, Misconfigured, Unavailable
from interlock.flows.ingest import KIND, enqueue_ingest, run_ingest
from interlock.knowledge.embedders import embedders
from interlock.knowledge.embedders.provider import tokens_at_most
from interlock.testing.embedding_server import embedding_server
from interlock.testing.workspaces import write_workspace

DOCUMENTS = {
    "heron.md": "# Herons\n\nThe heron fishes at dawn.",
    "bread.md": "# Bread\n\nBread is baked at noon.",
    "tides.md": "# Tides\n\nThe tide turns twice a day.",
}


@pytest.fixture
def server(monkeypatch):
    with embedding_server() as found:
        monkeypatch.setenv("EMBED_KEY", found.key)
        yield found


@asynccontextmanager
async def workspace(tmp_path, server, *, facts=None, knowledge=None, **cost):
    values = {
        "embedder": "provider",
        "embedder_model": f"up/{server.model}",
        "embedder_facts": {"dimensions": 48, "max_tokens": 512, "batch": 2, **(facts or {})},
        **(knowledge or {}),
    }
    settings = {
        "knowledge": values,
        "gateway": {
            "providers": {"up": {"kind": "openai", "base_url": server.url, "api_key_env": "EMBED_KEY"}},
        },
        "cost": {"prices": {"up/*": {"input_per_million": "1", "output_per_million": "0"}}, **cost},
    }
    root = write_workspace(tmp_path / "w", settings=settings, documents=DOCUMENTS)
    async with open_app(root) as app:
        yield app


async def ingest(app):
    job = await enqueue_ingest(app.parts, app.owner(), "docs")
    claimed = await app.parts.jobs.claim("test", [KIND], job=job.id, lease_s=60)
    return await run_ingest(app.parts, app.owner(), claimed, app.source_spec("docs"))


async def test_a_collection_is_embedded_and_searched_by_a_providers_model(tmp_path, server):
    async with workspace(tmp_path, server) as app:
        report = await ingest(app)
        assert (report.added, report.failed) == (3, ())
        assert sorted(map(len, server.requests)) == [1, 2]  # in batches of two
        told = await app.parts.knowledge.explain(app.owner(), "heron dawn", collection="docs", mode="dense")
        assert told.candidates[0].passage.source == "heron.md"
        assert told.space == f"provider:up/{server.model}:48:no-prefix"
        # Every batch has its price in the ledger and its line in the audit log.
        rows = await app.parts.cost.ledger(app.owner())
        assert sum(row.usage.input_tokens for row in rows) == sum(len(text.split()) for text in server.texts)
        assert all(row.cost is not None and row.cost.nano > 0 for row in rows)
        embedded = len(server.texts)
        assert (await ingest(app)).unchanged == 3
        assert len(server.texts) == embedded


async def test_prefixes_are_put_before_texts_and_belong_to_the_space(tmp_path, server):
    facts = {"query_prefix": "query: ", "passage_prefix": "passage: "}
    async with workspace(tmp_path, server, facts=facts) as app:
        await ingest(app)
        assert all(text.startswith("passage: ") for text in server.texts)
        await app.parts.knowledge.search(app.owner(), "heron", collection="docs")
        assert server.texts[-1] == "query: heron"
        space = await app.parts.knowledge.spaces.answering(app.owner(), "docs")
        assert not space.id.endswith("no-prefix")


async def test_a_busy_provider_is_waited_for_and_a_question_is_not_kept_waiting(tmp_path, server):
    async with workspace(tmp_path, server) as app:
        server.failures = [429, 429, 429, 429]
        assert (await ingest(app)).added == 3
        server.is_away = True
        with pytest.raises(Unavailable) as away:
            await app.parts.knowledge.search(app.owner(), "heron", collection="docs")
        assert away.value.code == "embedder_away"
        assert "lexical" in (away.value.hint or "")
        found = await app.parts.knowledge.search(app.owner(), "heron", collection="docs", mode="lexical")
        assert [passage.source for passage in found] == ["heron.md"]


async def test_other_dimensions_than_the_settings_say_are_refused_by_name(tmp_path, server):
    server.dimensions = 32
    async with workspace(tmp_path, server) as app:
        with pytest.raises(Misconfigured, match="32 dimensions") as wrong:
            await ingest(app)
        assert wrong.value.param == "knowledge.embedder_facts.dimensions"


async def test_a_spent_budget_stops_an_ingest_at_once(tmp_path, server):
    limits = [{"name": "tiny", "money": "0.000000001", "period": "day"}]
    async with workspace(tmp_path, server, limits=limits) as app:
        with pytest.raises(BudgetExceeded):
            await ingest(app)
        assert not server.requests


async def test_what_must_be_told_of_a_model_is_asked_for(tmp_path, server):
    async with workspace(tmp_path, server, knowledge={"embedder_facts": None}) as app:
        with pytest.raises(InvalidInput, match="must be told") as missing:
            await ingest(app)
        assert missing.value.param == "knowledge.embedder_facts"


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_count_grows_with_the_text_and_is_never_above_its_bytes(a, b):
    assert tokens_at_most(a + b) >= max(tokens_at_most(a), tokens_at_most(b)) - 1
    assert tokens_at_most(a) <= len(a.encode())


def test_the_count_is_not_below_what_a_tokenizer_counts(models_dir):
    minilm = embedders.get("minilm").open(models_dir, threads=1)
    for text in (
        "The quick brown fox jumps over the lazy dog, twice; 31,415 times in 2026.",
        "Die Donaudampfschifffahrtsgesellschaft fährt heute nicht.",
        "def tokens_at_most(text: str) -> int:  # 0x7fffe",
        "麵包在黎明時分烘烤。",
        "Хлеб пекут на рассвете.",
    ):
        assert tokens_at_most(text) >= minilm.count_tokens(text)
