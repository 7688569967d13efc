"""The step `graph` of a search: from what the question names to what is said of it elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from anyio import to_thread

from interlock.core.context import Context
from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Span
from interlock.knowledge.graph.graph import Graph, Related
from interlock.knowledge.graph.modelled import Said
from interlock.knowledge.graph.settings import GraphSettings
from interlock.knowledge.payload import PassagePayload
from interlock.knowledge.searching import Findings, Searcher, SearchPlan
from interlock.stores.index.base import Hit

__all__ = ["Followed", "follow"]

_ELSEWHERE = 0.05
"""What a sentence is worth whose passage the search did not find."""
_NAMED = 0.5
"""What a passage gains for naming a related entity; the rest goes by how well it answers the question beside it."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What following the graph brought."""

    seeds: Sequence[str]
    """Names of what the question names."""
    related: Sequence[Related]
    gains: Mapping[PassageId, float]
    """In [0, 1]."""

    @property
    def told(self) -> str:
        """For the one who asked."""
        if not self.seeds:
            return "the question names nothing that the documents name"
        return "; ".join(f"{one.via} → {one.name} ({one.kind})" for one in self.related) or "nothing is said of it"


async def follow(
    ctx: Context,
    plan: SearchPlan,
    found: Findings,
    graph: Graph,
    settings: GraphSettings,
    *,
    searcher: Searcher,
    allowed: frozenset[DocumentId] | None,
    said: Sequence[Said] = (),
) -> Followed:
    """Look up what the graph leads to; what it finds is added to `found.further` and `found.documents`.

    Args:
        ctx: the caller; `graph` is of what this caller may read.
        plan: of the search that found `found`.
        allowed: documents that the plan's filter leaves; None without one.
        said: what a model read in the passages found.

    Raises: as `Searcher.find`.
    """
    graph = graph.with_said(said) if said else graph
    seeds = await to_thread.run_sync(graph.named_in, plan.query)
    if not seeds:
        return Followed((), (), {})
    related = await to_thread.run_sync(
        lambda: graph.related(seeds, hops=settings.hops, most=settings.entities, worth=_Worth(found))
    )
    gains: dict[PassageId, float] = {}
    for one in related:
        places = {DocumentId(k): v for k, v in graph.documents_of(one.key).items() if allowed is None or k in allowed}
        # Only a model calls it so: its name is looked for everywhere.
        is_unknown = not graph.knows(one.key)
        if not places and not is_unknown:
            continue
        asked = replace(plan, query=f"{plan.query} {one.name}", hypothesis="")
        other = await searcher.find(ctx, asked, only=None if is_unknown else frozenset(places))
        hits = {hit.passage_id: hit for hit in (*other.dense, *other.lexical)}
        for passage, score in other.ranked:
            hit = hits[passage]
            payload = PassagePayload.decode(hit.payload)
            start, end = payload.start, payload.end
            if (is_unknown and one.name.casefold() in payload.text.casefold()) or any(
                place.start < end and start < place.end for place in places.get(hit.document_id, ())
            ):
                # The last of a ranking has a score of 0, and still is where the documents speak of it.
                gains[passage] = max(gains.get(passage, 0.0), one.strength * (_NAMED + (1.0 - _NAMED) * score))
        found.further += [hit for key, hit in hits.items() if key in gains]
        found.documents |= other.documents
    return Followed([graph.name(seed) for seed in seeds], related, gains)


class _Worth:
    """How well the passage that holds a sentence answers the question."""

    def __init__(self, found: Findings) -> None:
        scores = dict(found.ranked)
        self._passages: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
        for hit in {hit.passage_id: hit for hit in (*found.further, *found.lexical, *found.dense)}.values():
            self._passages[hit.document_id].append((*_span_of(hit), scores.get(hit.passage_id, 0.0)))

    def __call__(self, document: str, sentence: Span) -> float:
        scores = [s for start, end, s in self._passages.get(document, ()) if start <= sentence.start < end]
        return max(_ELSEWHERE, *scores) if scores else _ELSEWHERE


def _span_of(hit: Hit) -> tuple[int, int]:
    payload = PassagePayload.decode(hit.payload)
    return payload.start, payload.end
