"""What the API, the command line and the console say of a search."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from interlock.core.passages import Passage
from interlock.flows.views import passage_view
from interlock.knowledge.explanation import ExplainedPassage, Explanation

__all__ = ["explanation_view", "found_view"]

# Any in this module: JSON objects on their way out.


def found_view(passage: Passage) -> dict[str, Any]:
    """A found passage with its document's facts."""
    return {**passage_view(passage), "digest": passage.document_digest, "metadata": dict(passage.metadata)}


def explanation_view(told: Explanation) -> dict[str, Any]:
    """A whole explanation; seconds and scores as they are."""
    return {
        "query": told.query,
        "embedded": told.embedded,
        "languages": list(told.languages),
        "terms": list(told.terms),
        "mode": told.mode,
        "fusion": told.fusion,
        "filtered_documents": told.documents,
        "stages": [asdict(stage) for stage in told.stages],
        "candidates": [_candidate(candidate) for candidate in told.candidates],
        "context": [found_view(passage) for passage in told.context],
        "context_tokens": told.context_tokens,
        "budget_tokens": told.budget_tokens,
        "why_not": None if told.why_not is None else asdict(told.why_not),
    }


def _candidate(candidate: ExplainedPassage) -> dict[str, Any]:
    return {
        "rank": candidate.rank,
        "fate": candidate.fate,
        "dense": None if candidate.dense is None else asdict(candidate.dense),
        "lexical": None if candidate.lexical is None else asdict(candidate.lexical),
        "words": list(candidate.words),
        "passage": found_view(candidate.passage),
    }
