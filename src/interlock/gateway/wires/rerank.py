"""Reranking as Jina and Cohere ask for it, which vLLM, Voyage and others took over; and as TEI does.

Source: the API references of Jina, Cohere, Voyage, vLLM (`/rerank`), Text Embeddings Inference (`/rerank`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from interlock.core.errors import ProviderError
from interlock.core.messages import Usage, count_of
from interlock.gateway.ports import Ranked, Reranked

__all__ = ["decode_answer", "encode_request"]


def encode_request(
    query: str,
    documents: Sequence[str],
    model: str,
    *,
    limit: int | None,
    form: Literal["top_n", "top_k", "tei"] = "top_n",
) -> dict[str, Any]:
    """JSON body. TEI serves one model, calls the documents texts, and takes no limit."""
    if form == "tei":
        return {"query": query, "texts": list(documents)}
    body: dict[str, Any] = {"model": model, "query": query, "documents": list(documents)}
    return {**body, **({form: limit} if limit is not None else {})}


# Any: a foreign service's answer, narrowed here.
def decode_answer(answer: Any, *, provider: str, documents: int, limit: int | None) -> Reranked:
    """Rows best first. Raises: ProviderError: another shape, or a row of a document that was not sent."""
    try:
        found = answer if isinstance(answer, list) else answer.get("results") or answer.get("data") or []
        rows = [
            Ranked(int(row["index"]), float(row["relevance_score"] if "relevance_score" in row else row["score"]))
            for row in found
        ]
        if any(not 0 <= row.index < documents for row in rows):
            raise ValueError("a row of no document")
        usage = {} if isinstance(answer, list) else answer.get("usage") or {}
        meta = {} if isinstance(answer, list) else answer.get("meta") or {}
        billed = meta.get("billed_units") or {}
        tokens = usage.get("total_tokens") or (meta.get("tokens") or {}).get("input_tokens") or 0
        searches = count_of(billed.get("search_units"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProviderError(f"provider {provider!r} sent a ranking of another shape", provider=provider) from error
    rows.sort(key=lambda row: -row.score)
    return Reranked(rows[:limit], Usage(input_tokens=int(tokens)), searches)
