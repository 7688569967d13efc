"""One search: both legs by the caller's rights, fused, and checked once more against the registry.

Every search of the product comes through here, the explained ones too.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import anyio
from anyio import to_thread

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Passage, Span
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import analyse
from interlock.knowledge.filters import EVERYTHING, Filter
from interlock.knowledge.fusion import convex, min_max, rrf
from interlock.knowledge.languages import asked_in
from interlock.knowledge.payload import PassagePayload
from interlock.knowledge.sentences import sentences
from interlock.knowledge.settings import FusionSettings
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import DocumentInfo, SearchMode
from interlock.stores.index.base import Hit, Index, IndexScope

__all__ = ["Findings", "SearchPlan", "Searcher", "as_passage"]

MAX_QUERY_CHARACTERS = 20_000
MAX_LIMIT = 200
_MAX_TERMS = 256
_BEST_OF_DOCUMENT = 3
"""Passages that speak for their document: with all of them, long documents would win by their length."""


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What to look for, and how."""

    query: str
    collection: str
    limit: int
    mode: SearchMode
    fusion: FusionSettings
    candidates: int
    """Rows each leg hands to fusion."""
    filter: Filter = EVERYTHING

    def check(self) -> None:
        """Raises: InvalidInput."""
        if not self.query.strip():
            raise InvalidInput("the query is empty", param="query")
        if len(self.query) > MAX_QUERY_CHARACTERS:
            raise InvalidInput(f"the query is longer than {MAX_QUERY_CHARACTERS} characters", param="query")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidInput(f"limit must be from 1 to {MAX_LIMIT}, not {self.limit}", param="limit")


@dataclass(slots=True)
class Findings:
    """What the stages of one search left behind."""

    embedded: str = ""
    languages: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    within: frozenset[DocumentId] | None = None
    """Documents the filter left, None without one."""
    dense: list[Hit] = field(default_factory=list)
    lexical: list[Hit] = field(default_factory=list)
    ranked: list[tuple[PassageId, float]] = field(default_factory=list)
    """Fused, best first."""
    documents: dict[DocumentId, DocumentInfo] = field(default_factory=dict)
    """Of all hits, as the registry knows them now."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""

    def fuse(self, fusion: FusionSettings) -> None:
        """Rank the hits of both legs."""
        self.ranked = _fuse(self.dense, self.lexical, fusion)

    def passages(self, ctx: Context, *, limit: int | None = None) -> list[Passage]:
        """The best of what the caller may read."""
        hits = {hit.passage_id: hit for hit in (*self.lexical, *self.dense)}
        cosine = {hit.passage_id: hit.score for hit in self.dense}
        best = max((hit.score for hit in self.lexical), default=0.0) or 1.0
        words = {hit.passage_id: max(0.0, hit.score / best) for hit in self.lexical}
        found: list[Passage] = []
        for passage, score in self.ranked:
            info = self.documents.get(hits[passage].document_id)
            # A row the registry does not know is being written or removed right now.
            if info is None or not info.readers & ctx.readers:
                continue
            found.append(as_passage(hits[passage], info, score, dense=cosine.get(passage), lexical=words.get(passage)))
            if len(found) == limit:
                break
        return found


class Searcher:
    """Runs searches.

    Args:
        documents: the registry.
        index: passages.
        embedder: gives the embedder in use.
    """

    def __init__(self, documents: DocumentStore, index: Index, embedder: Callable[[], Embedder]) -> None:
        self._documents = documents
        self._index = index
        self._embedder = embedder

    async def find(self, ctx: Context, plan: SearchPlan, *, only: Collection[DocumentId] | None = None) -> Findings:
        """Run every stage.

        Args:
            ctx: the caller, whose readers decide.
            plan: checked.
            only: looks at these documents alone, whatever the plan's filter says.

        Raises: DeadlineExceeded; ModelMissing unless the mode is lexical.
        """
        found = Findings()
        scope = IndexScope(ctx.tenant, plan.collection, self._embedder().id)
        if only is not None:
            found.within = frozenset(only)
        elif plan.filter:
            with _timed(found, "filter"):
                facts = await self._documents.facts(ctx.tenant, plan.collection)
                found.within = frozenset(info.id for info in facts if plan.filter.holds(info))
        if found.within is None or found.within:
            await self._legs(ctx, scope, plan, found)
        with _timed(found, "fuse"):
            found.fuse(plan.fusion)
        with _timed(found, "registry"):
            ids = {hit.document_id for hit in (*found.dense, *found.lexical)}
            found.documents = await self._documents.by_id(ctx.tenant, ids)
        return found

    async def passages_of(self, ctx: Context, collection: str, document: DocumentId) -> list[Hit]:
        """All readable rows of a document in insertion order."""
        scope = IndexScope(ctx.tenant, collection, self._embedder().id)
        return await self._index.document_passages(scope, document, readers=ctx.readers)

    async def _legs(self, ctx: Context, scope: IndexScope, plan: SearchPlan, found: Findings) -> None:
        async def by_meaning() -> None:
            embedder = self._embedder()
            found.embedded = _first_sentences(plan.query, embedder)
            with ctx.span("knowledge.embed_query"), _timed(found, "embed"):
                vectors = await embedder.embed([found.embedded], "query")
            with _timed(found, "dense"):
                found.dense = await self._index.dense(
                    scope, vectors[0], readers=ctx.readers, k=plan.candidates, documents=found.within
                )

        async def by_words() -> None:
            with _timed(found, "analyse"):
                held = await self._documents.languages(ctx.tenant, scope.collection)
                found.languages = (
                    asked_in(plan.query, held)
                    if len(held) < 2
                    else await to_thread.run_sync(asked_in, plan.query, held)
                )
                found.terms = tuple(dict.fromkeys(analyse(plan.query, found.languages)))[:_MAX_TERMS]
            if found.terms:
                with _timed(found, "lexical"):
                    found.lexical = await self._index.lexical(
                        scope, found.terms, readers=ctx.readers, k=plan.candidates, documents=found.within
                    )

        try:
            async with anyio.create_task_group() as legs:
                if plan.mode != "lexical":
                    legs.start_soon(by_meaning)
                if plan.mode != "dense":
                    legs.start_soon(by_words)
        except BaseExceptionGroup as group:
            # One leg's error is the caller's error; the group is only how it travelled.
            raise group.exceptions[0] from group


class _timed:  # noqa: N801 - reads as a function at its uses
    def __init__(self, found: Findings, stage: str) -> None:
        self._found, self._stage = found, stage

    def __enter__(self) -> None:
        self._at = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._found.seconds[self._stage] = time.perf_counter() - self._at


def _fuse(dense: Sequence[Hit], lexical: Sequence[Hit], fusion: FusionSettings) -> list[tuple[PassageId, float]]:
    by_meaning = {hit.passage_id: hit.score for hit in dense}
    by_words = {hit.passage_id: hit.score for hit in lexical}
    ranked: list[tuple[PassageId, float]]
    if not by_meaning or not by_words:
        alone: dict[PassageId, float] = min_max(by_meaning or by_words)
        ranked = list(alone.items())
    elif fusion.method == "convex":
        ranked = convex(by_meaning, by_words, fusion.dense_weight)
    else:
        top = 2 / (fusion.k + 1)
        ranked = [(passage, score / top) for passage, score in rrf([list(by_meaning), list(by_words)], fusion.k)]
    if fusion.document_weight:
        ranked = _with_documents(ranked, {h.passage_id: h.document_id for h in (*dense, *lexical)}, fusion)
    return ranked


def _with_documents(
    ranked: Sequence[tuple[PassageId, float]], owners: Mapping[PassageId, DocumentId], fusion: FusionSettings
) -> list[tuple[PassageId, float]]:
    """Mix in how well each passage's document did: what it says elsewhere is what this passage is about."""
    of_document: dict[DocumentId, list[float]] = defaultdict(list)
    for passage, score in ranked:
        of_document[owners[passage]].append(score)
    documents = min_max({d: sum(scores[:_BEST_OF_DOCUMENT]) for d, scores in of_document.items()})
    share = fusion.document_weight
    mixed = [(passage, (1 - share) * score + share * documents[owners[passage]]) for passage, score in ranked]
    return sorted(mixed, key=lambda pair: -pair[1])


def as_passage(hit: Hit, info: DocumentInfo, score: float, *, dense: float | None, lexical: float | None) -> Passage:
    """A row with what the registry knows of its document."""
    payload = PassagePayload.decode(hit.payload)
    return Passage(
        id=hit.passage_id,
        document_id=hit.document_id,
        document_digest=payload.digest,
        source=info.source,
        title=info.title,
        heading=payload.heading,
        text=payload.text,
        span=Span(payload.start, payload.end),
        page=payload.page,
        score=score,
        dense_score=dense,
        lexical_score=lexical,
        metadata=tuple(sorted(info.metadata.items())),
    )


def _first_sentences(query: str, embedder: Embedder) -> str:
    """As much of a long question as the embedder reads whole, cut between sentences where it can be."""
    if embedder.count_tokens(query) <= embedder.max_tokens:
        return query
    kept = ""
    for span in sentences(query):
        longer = query[: span.end]
        if embedder.count_tokens(longer) > embedder.max_tokens:
            break
        kept = longer
    if kept:
        return kept
    words = query.split()
    while embedder.count_tokens(" ".join(words)) > embedder.max_tokens and len(words) > 1:
        words = words[: len(words) * 3 // 4]
    text = " ".join(words)
    while embedder.count_tokens(text) > embedder.max_tokens:
        text = text[: len(text) // 2]
    return text
