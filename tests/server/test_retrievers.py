"""Search with the SDK, and with LangChain's retriever over it."""

from __future__ import annotations

import pytest

from interlock.client import ApiError, AsyncClient, Client
from interlock.client.langchain import InterlockRetriever

pytestmark = pytest.mark.model
ASKED = "how many days to return hardware"
PAY = "what is the salary band of a senior engineer"


def test_the_sdk_searches_by_the_rights_of_whom_it_asks_for(site):
    with Client(site.url, api_key=site.keys["plain"]) as client:
        [best, *_] = client.search("docs", ASKED, limit=3)
        assert best.source == "returns.md"
        assert 0 <= best.score <= 1
        assert all(p.source != "pay/bands.md" for p in client.search("docs", PAY))
        found = client.search("docs", PAY, on_behalf_of=site.token(), filter={"document.source": {"matches": "pay/**"}})
        assert {p.source for p in found} == {"pay/bands.md"}
        with pytest.raises(ApiError) as refused:
            client.search("docs", " ")
        assert refused.value.status == 400
        with pytest.raises(ApiError):
            client.search("../secrets", ASKED)
        with pytest.raises(ApiError, match="one of: docs") as missing:
            client.search("no-such-collection", ASKED)
        assert missing.value.status == 404


@pytest.mark.anyio
async def test_asyncio_searches_too(site):
    async with AsyncClient(site.url, api_key=site.keys["plain"]) as client:
        assert (await client.search("docs", ASKED, mode="lexical"))[0].source == "returns.md"


@pytest.mark.anyio
async def test_langchain_retrieves_documents_with_their_places(site):
    retriever = InterlockRetriever(base_url=site.url, api_key=site.keys["plain"], collection="docs", limit=2)
    [best, *_] = retriever.invoke(ASKED)
    assert "30 days" in best.page_content
    assert best.metadata["source"] == "returns.md"
    assert best.metadata["end"] - best.metadata["start"] == len(best.page_content)
    again = await retriever.ainvoke(ASKED)
    assert [document.id for document in again] == [document.id for document in retriever.invoke(ASKED)]
    finance = InterlockRetriever(
        base_url=site.url, api_key=site.keys["plain"], collection="docs", on_behalf_of=site.token()
    )
    assert finance.invoke(PAY)[0].metadata["source"] == "pay/bands.md"
    assert site.keys["plain"] not in repr(retriever)


def test_a_misspelt_argument_of_langchains_retriever_is_refused(site):
    # `on_behalf` would otherwise search as the key, and `filters` everything.
    for misspelt in ({"on_behalf": "token"}, {"filters": {"year": 2026}}):
        with pytest.raises(ValueError, match=next(iter(misspelt))):
            InterlockRetriever(base_url=site.url, collection="docs", **misspelt)


@pytest.fixture
def anyio_backend():
    return "asyncio"
