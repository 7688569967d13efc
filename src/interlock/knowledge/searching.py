"""One search: both legs by the caller's rights, fused, and checked once more against the registry.

Every search of the product comes through here, the explained ones too.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, Misconfigured
from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Passage, Span
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import analyse
from interlock.knowledge.external.rows import hit_of, parts_of
from interlock.knowledge.external.service import Away, ExternalIndexes
from interlock.knowledge.filters import EVERYTHING, Filter
from interlock.knowledge.fusion import bounded, convex, is_flat, min_max, relevance, rrf
from interlock.knowledge.languages import asked_in
from interlock.knowledge.legs import LEGS, LegHealth, LegName, LegOff, legs_off
from interlock.knowledge.narrowing import narrowed
from interlock.knowledge.payload import PassagePayload
from interlock.knowledge.retrieval.types import StepTold
from interlock.knowledge.sentences import first_sentences
from interlock.knowledge.settings import BOTH_LEGS, FusionSettings, LegSettings
from interlock.knowledge.spaces.service import Spaces
from interlock.knowledge.spaces.types import OpenSpace
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import DocumentInfo, SearchMode
from interlock.stores.index.base import Hit, Index

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Findings", "SearchPlan", "Searcher", "as_passage"]

MAX_QUERY_CHARACTERS = 20_000
MAX_LIMIT = 200
_MAX_TERMS = 256
_WEIGHTLESS = 0.2
_WEIGHTLESS_ROWS = 20
"""Where the lexical leg finds so few passages, with so little BM25 a word of the question, the collection is too small
for its words to have weights."""
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
    hypothesis: str = ""
    """An imagined answer: the dense leg looks half way between it and the question."""
    space: str = ""
    """Another embedding space of the collection than the one that answers."""
    legs: LegSettings = BOTH_LEGS

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

    space: str = ""
    """The embedding space that was searched; empty for a collection elsewhere."""
    embedded: str = ""
    languages: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    within: frozenset[DocumentId] | None = None
    """Documents that the filter left of those the caller may read, None without one."""
    dense: list[Hit] = field(default_factory=list)
    lexical: list[Hit] = field(default_factory=list)
    ranked: list[tuple[PassageId, float]] = field(default_factory=list)
    """Fused, best first."""
    documents: dict[DocumentId, DocumentInfo] = field(default_factory=dict)
    """Of all hits, as the registry knows them now."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""
    further: list[Hit] = field(default_factory=list)
    """What further texts found; their scores say nothing of this question."""
    further_relevance: dict[PassageId, float] = field(default_factory=dict)
    """How near those are to the text that found them."""
    asked: tuple[LegName, ...] = ()
    """Legs that were asked."""
    plan: SearchPlan | None = None
    """What was searched in the end, when steps changed it."""
    steps: Sequence[StepTold] = ()
    """What every step beside the search did, in order."""
    off: tuple[LegOff, ...] = ()
    """Legs that were left out."""
    is_judged: bool = False
    """Both legs are known to be of use for questions like this one."""
    fusion: FusionSettings | None = None
    """How the legs were fused in the end."""

    def fuse(self, fusion: FusionSettings) -> None:
        """Rank the hits of both legs: by ranks where nothing is known of a leg and its scores say nothing."""
        if fusion.method == "convex" and not self.is_judged and self.flat():
            fusion = fusion.model_copy(update={"method": "rrf"})
        self.fusion = fusion
        self.ranked = _fuse(self.dense, self.lexical, fusion)

    def flat(self) -> tuple[LegName, ...]:
        """Legs that scored everything alike, where both found something."""
        legs: tuple[tuple[LegName, list[Hit]], ...] = (("dense", self.dense), ("lexical", self.lexical))
        if not (self.dense and self.lexical):
            return ()
        return tuple(leg for leg, hits in legs if is_flat({hit.passage_id: hit.score for hit in hits}))

    def passages(self, ctx: Context, *, limit: int | None = None) -> list[Passage]:
        """The best of what the caller may read."""
        hits = {hit.passage_id: hit for hit in (*self.further, *self.lexical, *self.dense)}
        cosine = {hit.passage_id: hit.score for hit in self.dense}
        best = max((hit.score for hit in self.lexical), default=0.0) or 1.0
        words = {hit.passage_id: max(0.0, hit.score / best) for hit in self.lexical}
        near = self.further_relevance | self.relevances()
        found: list[Passage] = []
        for passage, score in self.ranked:
            info = self.documents.get(hits[passage].document_id)
            # A row the registry does not know is being written or removed right now.
            if info is None or not info.readers & ctx.readers:
                continue
            found.append(
                as_passage(
                    hits[passage],
                    info,
                    score,
                    dense=cosine.get(passage),
                    lexical=words.get(passage),
                    relevance=near.get(passage, 0.0),
                )
            )
            if len(found) == limit:
                break
        return found

    def relevances(self) -> dict[PassageId, float]:
        """How near each passage is to the question by itself."""
        cosine = {hit.passage_id: hit.score for hit in self.dense}
        words = self._shares_of_words()
        weight = self._share_of_meaning()
        return {
            passage: relevance(cosine.get(passage), words.get(passage), weight=weight)
            for passage in cosine.keys() | words.keys()
        }

    def _shares_of_words(self) -> dict[PassageId, float]:
        """How much of the question's words each passage of the lexical leg has, in [0, 1]."""
        means = {hit.passage_id: max(0.0, hit.score) / max(1, len(self.terms)) for hit in self.lexical}
        if len(means) > _WEIGHTLESS_ROWS or max(means.values(), default=1.0) >= _WEIGHTLESS:
            return {passage: bounded(mean) for passage, mean in means.items()}
        # BM25 has no weights for words of a few passages: they are counted.
        asked = frozenset(self.terms)
        found = {}
        for hit in self.lexical:
            payload = PassagePayload.decode(hit.payload)
            here = asked.intersection(analyse(f"{payload.heading}\n{payload.text}", self.languages or ("en",)))
            found[hit.passage_id] = max(bounded(means[hit.passage_id]), len(here) / max(1, len(asked)))
        return found

    def _share_of_meaning(self) -> float:
        """That of the fusion; a leg that was not asked has none."""
        if "dense" not in self.asked:
            return 0.0
        if "lexical" not in self.asked:
            return 1.0
        return (self.fusion or FusionSettings()).dense_weight


class Searcher:
    """Runs searches.

    Args:
        documents: the registry.
        index: passages.
        spaces: which embedding space of a collection is searched.
        configured: the embedder that the settings name for a collection, for a caller.
        external: collections that are searched elsewhere.
    """

    def __init__(
        self,
        documents: DocumentStore,
        index: Index,
        spaces: Spaces,
        configured: Callable[[Context, str], Embedder],
        external: ExternalIndexes,
    ) -> None:
        self.external = external
        self._documents = documents
        self._index = index
        self._spaces = spaces
        self._configured = configured

    async def find(
        self,
        ctx: Context,
        plan: SearchPlan,
        *,
        only: Collection[DocumentId] | None = None,
        readers: frozenset[str] | None = None,
    ) -> Findings:
        """Run every stage.

        Args:
            ctx: the caller, whose readers decide.
            plan: checked.
            only: looks at these documents alone, whatever the plan's filter says.
            readers: instead of the caller's, to tell overseers what rights keep from a caller. `Findings.passages`
                keeps to the caller's all the same. Of no effect on collections that are searched elsewhere.

        Raises: DeadlineExceeded; NotFound: no such space; unless the mode is lexical what opening or asking the space's
        embedder raises: ModelMissing, MissingExtra, Misconfigured, Unavailable; of a collection that is searched
        elsewhere also Unavailable, LimitExceeded, Misconfigured.
        """
        found = Findings()
        readers = ctx.readers if readers is None else readers
        away = self.external.find(ctx.tenant, plan.collection)
        if away is not None:
            await self._elsewhere(ctx, away, plan, found, only)
            with _timed(found, "fuse"):
                found.fuse(plan.fusion)
            return found
        space = await self._begun(ctx, plan, found)
        found.space = space.id
        if only is not None:
            found.within = frozenset(only)
        elif plan.filter:
            with _timed(found, "filter"):
                facts = await self._documents.facts(ctx.tenant, plan.collection)
                # Readable ones only: their number is told, and would answer guesses at what others say of themselves.
                found.within = await narrowed(ctx, plan.filter, facts, readers)
        if found.within is None or found.within:
            await self._legs(ctx, space, plan, found, readers)
        with _timed(found, "fuse"):
            found.fuse(plan.fusion)
        return found

    async def _begun(self, ctx: Context, plan: SearchPlan, found: Findings) -> OpenSpace:
        """The space to search, and beside it the languages to read the question in."""
        opened: list[OpenSpace] = []

        async def open_space() -> None:
            if plan.space:
                opened.append(await self._spaces.find(ctx, plan.collection, plan.space))
            else:
                opened.append(await self._spaces.answering(ctx, plan.collection))

        async def hear() -> None:
            with _timed(found, "languages"):
                found.languages = await self._asked_in(ctx, plan)

        await _together(open_space, hear if plan.mode != "dense" else None)
        return opened[0]

    async def known(self, ctx: Context, document: DocumentId) -> DocumentInfo | None:
        """What is known of a document now. One that is elsewhere is known to those who may read it alone."""
        away = self.external.of_document(ctx.tenant, document)
        if away is None:
            return (await self._documents.by_id(ctx.tenant, [document])).get(document)
        row = await self.external.document(ctx, *away)
        return None if row is None else row.info

    async def _elsewhere(
        self, ctx: Context, away: Away, plan: SearchPlan, found: Findings, only: Collection[DocumentId] | None
    ) -> None:
        vectors = away.index.vector
        if plan.mode == "dense" and vectors is None:
            raise InvalidInput(
                f"the index of {plan.collection!r} has no vectors to search by meaning",
                param="mode",
                hint="search it with the mode hybrid or lexical, or name its vectors under index.vector",
            )
        embedder = self._configured(ctx, plan.collection)
        if vectors is not None and plan.mode != "lexical" and vectors.embedder != embedder.id:
            raise Misconfigured(
                f"the vectors of the index of {plan.collection!r} are of {vectors.embedder!r}, and questions become "
                f"vectors of {embedder.id!r}: the two cannot be compared",
                param="index.vector.embedder",
                hint="set knowledge.embedder to the one that index.vector names, or leave vector out",
            )
        with _timed(found, "analyse"):
            found.languages = away.languages
            found.terms = tuple(dict.fromkeys(analyse(plan.query, away.languages)))[:_MAX_TERMS]
        narrowed = None if only is None else tuple(only)

        async def by_meaning() -> None:
            vector = (await self._vector(ctx, embedder, plan, found)).tolist()
            with _timed(found, "dense"):
                found.dense, rows = await self.external.by_meaning(
                    ctx, away, vector, found.terms, k=plan.candidates, wanted=plan.filter, only=narrowed
                )
            found.documents |= {document: row.info for document, row in rows.items()}

        async def by_words() -> None:
            with _timed(found, "lexical"):
                found.lexical, rows = await self.external.by_words(
                    ctx, away, plan.query, found.terms, k=plan.candidates, wanted=plan.filter, only=narrowed
                )
            found.documents |= {document: row.info for document, row in rows.items()}

        if plan.mode == "hybrid" and vectors is not None:
            found.off = legs_off(plan.legs, None, ())
        found.asked = tuple(leg for leg in _asked(plan.mode, found.off) if leg == "lexical" or vectors is not None)
        await _together(by_meaning if "dense" in found.asked else None, by_words if "lexical" in found.asked else None)

    async def passages_of(self, ctx: Context, collection: str, document: DocumentId) -> list[Hit]:
        """All readable rows of a document in insertion order."""
        away = self.external.of_document(ctx.tenant, document)
        if away is not None:
            row = await self.external.document(ctx, *away)
            return [] if row is None else [hit_of(row, part, 0.0) for part in parts_of(row.text)]
        space = await self._spaces.answering(ctx, collection)
        return await self._index.document_passages(space.scope, document, readers=ctx.readers)

    async def _legs(
        self, ctx: Context, space: OpenSpace, plan: SearchPlan, found: Findings, readers: frozenset[str]
    ) -> None:
        # Both legs want it, and two threads that import it first at one moment each see half of it.
        import numpy  # noqa: F401

        scope = space.scope

        async def by_meaning() -> None:
            vector = await self._vector(ctx, space.embedder, plan, found)
            with _timed(found, "dense"):
                found.dense = await self._index.dense(
                    scope, vector, readers=readers, k=plan.candidates, documents=found.within
                )
            await self._look_up(ctx, found, found.dense)

        async def by_words() -> None:
            with _timed(found, "analyse"):
                found.terms = tuple(dict.fromkeys(analyse(plan.query, found.languages)))[:_MAX_TERMS]
            if found.terms:
                with _timed(found, "lexical"):
                    found.lexical = await self._index.lexical(
                        scope, found.terms, readers=readers, k=plan.candidates, documents=found.within
                    )
                await self._look_up(ctx, found, found.lexical)

        if plan.mode == "hybrid":
            self._choose(space, plan, found)
        found.asked = _asked(plan.mode, found.off)
        # The short one goes first: behind a model that has just begun it can wait for the processor for milliseconds.
        await _together(by_words if "lexical" in found.asked else None, by_meaning if "dense" in found.asked else None)

    def _choose(self, space: OpenSpace, plan: SearchPlan, found: Findings) -> None:
        """Which legs to leave out."""
        health = LegHealth.of(space.legs, space.id) if plan.legs.check else None
        languages = found.languages if health is not None and health.languages else ()
        found.off = legs_off(plan.legs, health, languages)
        found.is_judged = health is not None and bool(languages) and all(code in health.languages for code in languages)

    async def _asked_in(self, ctx: Context, plan: SearchPlan) -> tuple[str, ...]:
        held = await self._documents.languages(ctx.tenant, plan.collection, ctx.readers)
        return asked_in(plan.query, held) if len(held) < 2 else await to_thread.run_sync(asked_in, plan.query, held)

    async def _look_up(self, ctx: Context, found: Findings, hits: Sequence[Hit]) -> None:
        """What the registry knows of the documents of one leg: that of the faster leg costs no time then."""
        ids = {hit.document_id for hit in hits} - found.documents.keys()
        with _timed(found, "registry"):
            found.documents |= await self._documents.by_id(ctx.tenant, ids)

    async def _vector(self, ctx: Context, embedder: Embedder, plan: SearchPlan, found: Findings) -> NDArray[np.float32]:
        found.embedded = first_sentences(plan.query, embedder)
        with ctx.span("knowledge.embed_query"), _timed(found, "embed"):
            vector: NDArray[np.float32] = (await embedder.embed([found.embedded], "query"))[0]
            if plan.hypothesis:
                vector = await _half_way(vector, first_sentences(plan.hypothesis, embedder), embedder)
            return vector


def _asked(mode: SearchMode, off: Sequence[LegOff]) -> tuple[LegName, ...]:
    legs: tuple[LegName, ...] = LEGS if mode == "hybrid" else (mode,)
    left_out = {one.leg for one in off}
    return tuple(leg for leg in legs if leg not in left_out)


# Any: what a coroutine is sent.
async def _together(*legs: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
    try:
        async with anyio.create_task_group() as group:
            for leg in legs:
                if leg is not None:
                    group.start_soon(leg)
    except BaseExceptionGroup as failures:
        # One leg's error is the caller's error; the group is only how it travelled.
        raise failures.exceptions[0] from failures


async def _half_way(vector: NDArray[np.float32], text: str, embedder: Embedder) -> NDArray[np.float32]:
    """Between the question's vector and that of a passage; the question's own where they cancel out."""
    import numpy as np

    mean = vector + (await embedder.embed([text], "passage"))[0]
    length = float(np.linalg.norm(mean))
    return (mean / length).astype(np.float32) if length > 1e-6 else vector


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


def as_passage(
    hit: Hit,
    info: DocumentInfo,
    score: float,
    *,
    dense: float | None,
    lexical: float | None,
    relevance: float | None = None,
) -> Passage:
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
        relevance=relevance,
        metadata=tuple(sorted(info.metadata.items())),
    )
