"""What the API, the command line and the console say of a search."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from interlock.core.passages import Passage
from interlock.flows.views import passage_view
from interlock.knowledge.explanation import ExplainedPassage, Explanation
from interlock.knowledge.graph.types import Edge, GraphView, Place

__all__ = ["explanation_view", "found_view", "graph_view"]

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
        "searched": told.searched,
        "space": told.space,
        "legs_off": [{"leg": one.leg, "why": one.why, "told": one.told(figures=told.oversees)} for one in told.off],
        "steps": [asdict(step) for step in told.steps],
        "stages": [asdict(stage) for stage in told.stages],
        "candidates": [_candidate(candidate) for candidate in told.candidates],
        "context": [found_view(passage) for passage in told.context],
        "context_tokens": told.context_tokens,
        "budget_tokens": told.budget_tokens,
        "removed_by_rights": None if told.removed is None else [asdict(one) for one in told.removed],
        "hint": told.hint or None,
        "why_not": None if told.why_not is None else asdict(told.why_not),
    }


def _candidate(candidate: ExplainedPassage) -> dict[str, Any]:
    return {
        "rank": candidate.rank,
        "fate": candidate.fate,
        "fused": round(candidate.passage.score, 4),
        "dense": None if candidate.dense is None else asdict(candidate.dense),
        "lexical": None if candidate.lexical is None else asdict(candidate.lexical),
        "words": list(candidate.words),
        "passage": found_view(candidate.passage),
    }


def graph_view(graph: GraphView) -> dict[str, Any]:
    """Entities and edges with the places that say so."""
    names = {entity.key: entity.name for entity in graph.entities}
    return {
        "collection": graph.collection,
        "total": graph.total,
        "entities": [
            {
                "name": entity.name,
                "aliases": list(entity.aliases),
                "mentions": entity.mentions,
                "documents": entity.documents,
                "places": [_place(place) for place in entity.places],
            }
            for entity in graph.entities
        ],
        "edges": [_edge(edge, names) for edge in graph.edges],
    }


def _edge(edge: Edge, names: dict[str, str]) -> dict[str, Any]:
    return {
        "source": names[edge.source],
        "relation": edge.kind,
        "target": names[edge.target],
        "count": edge.count,
        "places": [_place(place) for place in edge.places],
    }


def _place(place: Place) -> dict[str, Any]:
    return {
        "document": place.document_id,
        "source": place.source,
        "digest": place.digest,
        "start": place.span.start,
        "end": place.span.end,
    }
