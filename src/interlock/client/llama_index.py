"""A LlamaIndex retriever over a running Interlock: ``pip install interlock llama-index-core``.

>>> from interlock.client.llama_index import InterlockRetriever
>>> retriever = InterlockRetriever(collection="handbook")                # doctest: +SKIP
>>> retriever.retrieve("How long may hardware be returned?")             # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode

from interlock.client.http import AsyncClient, Client
from interlock.client.types import Passage

__all__ = ["InterlockRetriever"]

_READ = frozenset({"source", "title", "heading", "page"})


class InterlockRetriever(BaseRetriever):
    """Finds passages by the rights of its key, or of the person it asks for.

    Args:
        collection: where to look.
        api_key: of the server at `base_url`.
        limit: most passages.
        mode: `hybrid`, `dense` or `lexical`.
        filter: conditions on metadata, as of the search API.
        on_behalf_of: an on-behalf-of token: what that person may not read is not found.
    """

    def __init__(
        self,
        collection: str,
        *,
        base_url: str = "http://127.0.0.1:8321",
        api_key: str | None = None,
        limit: int = 8,
        mode: str = "hybrid",
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - what every search interface calls it. Any: a condition's value
        on_behalf_of: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._collection = collection
        self._server: dict[str, Any] = {"base_url": base_url, "api_key": api_key, "timeout_s": timeout_s}
        self._options: dict[str, Any] = {
            "limit": limit,
            "mode": mode,
            "filter": dict(filter or {}),
            "on_behalf_of": on_behalf_of,
        }
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        with Client(**self._server) as client:
            found = client.search(self._collection, query_bundle.query_str, **self._options)
        return [_node(passage) for passage in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        async with AsyncClient(**self._server) as client:
            found = await client.search(self._collection, query_bundle.query_str, **self._options)
        return [_node(passage) for passage in found]


def _node(passage: Passage) -> NodeWithScore:
    # By default every fact is written before the text that a model reads; of these it needs where the text is from.
    facts = passage.facts()
    unread = [name for name in facts if name not in _READ]
    node = TextNode(
        id_=passage.id,
        text=passage.text,
        metadata=facts,
        excluded_llm_metadata_keys=unread,
        excluded_embed_metadata_keys=unread,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=passage.document)},
        start_char_idx=passage.start,
        end_char_idx=passage.end,
    )
    return NodeWithScore(node=node, score=passage.score)
