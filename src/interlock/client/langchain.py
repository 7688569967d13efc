"""A LangChain retriever over a running Interlock: ``pip install interlock langchain-core``.

>>> from interlock.client.langchain import InterlockRetriever
>>> retriever = InterlockRetriever(collection="handbook")                # doctest: +SKIP
>>> retriever.invoke("How long may hardware be returned?")               # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, SecretStr

from interlock.client.http import AsyncClient, Client
from interlock.client.types import Passage

__all__ = ["InterlockRetriever"]


class InterlockRetriever(BaseRetriever):
    """Finds passages by the rights of its key, or of the person it asks for."""

    # A misspelt `on_behalf_of` or `filter` would search more than was meant.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    base_url: str = "http://127.0.0.1:8321"
    api_key: SecretStr | None = None
    collection: str
    limit: int = Field(default=8, ge=1, le=200)
    mode: str = "hybrid"
    """`hybrid`, `dense` or `lexical`."""
    filter: dict[str, Any] = Field(default_factory=dict)  # Any: a condition's value, as of the search API
    on_behalf_of: SecretStr | None = None
    """An on-behalf-of token: what that person may not read is not found."""
    timeout_s: float = 30.0

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        with Client(self.base_url, api_key=_plain(self.api_key), timeout_s=self.timeout_s) as client:
            found = client.search(self.collection, query, **self._options())
        return [_document(passage) for passage in found]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        async with AsyncClient(self.base_url, api_key=_plain(self.api_key), timeout_s=self.timeout_s) as client:
            found = await client.search(self.collection, query, **self._options())
        return [_document(passage) for passage in found]

    # Any: arguments of several types.
    def _options(self) -> dict[str, Any]:
        return {
            "limit": self.limit,
            "mode": self.mode,
            "filter": self.filter,
            "on_behalf_of": _plain(self.on_behalf_of),
        }


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _document(passage: Passage) -> Document:
    facts = passage.facts()
    return Document(id=passage.id, page_content=passage.text, metadata=facts)
