"""The door of knowledge: ingest a source, search it by the caller's rights, read a document."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from typing import Self

from anyio import to_thread

from interlock.core.canonical import digest_json
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import (
    Conflict,
    InterlockError,
    InvalidInput,
    NotFound,
    TooLarge,
    Unavailable,
)
from interlock.core.ids import DocumentId, SnapshotId, TenantId
from interlock.core.passages import Passage, Span
from interlock.core.ports import Embedder, Retriever
from interlock.knowledge.boxes import boxes_of
from interlock.knowledge.cleaning.ports import ContextWriter, Scanner
from interlock.knowledge.cleaning.store import CleanedStore
from interlock.knowledge.cleaning.types import CleaningFacts, Decision, ReviewItem, Verdict
from interlock.knowledge.committing import Committer
from interlock.knowledge.context import assemble, judged
from interlock.knowledge.desk import OpenDesk, open_chunker
from interlock.knowledge.explaining import explained, removed_by_rights, why_not
from interlock.knowledge.explanation import Explanation
from interlock.knowledge.external.service import Away, ExternalIndexes, nothing_to_ingest
from interlock.knowledge.filters import EVERYTHING, Filter, unknown_fields
from interlock.knowledge.freshness import AsOf, as_of, is_due, status_of
from interlock.knowledge.graph.store import Graphs
from interlock.knowledge.graph.types import GraphView
from interlock.knowledge.history.pruning import Pruner
from interlock.knowledge.history.service import History, Shelves
from interlock.knowledge.history.store import HistoryStore
from interlock.knowledge.history.types import RebuildReport
from interlock.knowledge.ingesting import IngestRun, Pipeline
from interlock.knowledge.legs import LegJudge
from interlock.knowledge.ports import Chunker, CountTokens, Reader, ReportProgress, VectorModel
from interlock.knowledge.questions.service import Questions
from interlock.knowledge.questions.store import QuestionStore
from interlock.knowledge.readers import readers
from interlock.knowledge.recutting import Recutter
from interlock.knowledge.retrieval.focusing import focused
from interlock.knowledge.retrieval.lexicon import Lexicon
from interlock.knowledge.retrieval.packing import ordered, widened
from interlock.knowledge.retrieval.pipeline import Retrieval
from interlock.knowledge.retrieval.ports import Assistant
from interlock.knowledge.retrieval.rerankers import rerankers
from interlock.knowledge.retrieval.settings import PackingSettings, RetrievalSteps
from interlock.knowledge.retrieval.types import StepFailed, Turn
from interlock.knowledge.scratch import forget_scratch
from interlock.knowledge.searching import Findings, Searcher, SearchPlan, as_passage
from interlock.knowledge.settings import BOTH_LEGS, ChunkingSettings, FusionSettings, KnowledgeSettings, LegSettings
from interlock.knowledge.settling import Change, prepared, state_of
from interlock.knowledge.shaping import Cutter
from interlock.knowledge.source_store import SourceState, SourceStore
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.spaces.mirror import MirroredIndex
from interlock.knowledge.spaces.opening import Embedders, for_caller
from interlock.knowledge.spaces.service import Spaces
from interlock.knowledge.spaces.store import SpaceStore
from interlock.knowledge.spaces.types import SpacesStatus
from interlock.knowledge.spaces.writing import Shelf as SpaceShelf
from interlock.knowledge.store import DocumentStore, StoredDocument
from interlock.knowledge.transcripts import Transcriber
from interlock.knowledge.types import (
    DocumentInfo,
    DocumentText,
    IngestReport,
    PageBoxes,
    SearchMode,
    SourceStatus,
)
from interlock.stores.blob.base import Blobs
from interlock.stores.compute.settings import ComputeChoice, ComputeSettings, open_executor
from interlock.stores.index.base import Index, IndexStats
from interlock.stores.sql.base import Sql

__all__ = ["KnowledgeService"]

_log = logging.getLogger("interlock.knowledge")
_MAX_DIFF_CHARACTERS = 5_000_000
_ENTITIES = 50
_MOST_ENTITIES = 500
_GRAPH_S = 20.0
"""What somebody who asks for the graph waits for it."""
_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)
_REVIEWERS = (Role.DEVELOPER, Role.OPERATOR, Role.REVIEWER)


class KnowledgeService:
    """Knowledge of all tenants. Every method takes the caller's context and answers for that caller alone.

    Args:
        sql: registry of documents.
        blobs: originals and extracted texts.
        index: passages.
        settings: see :class:`KnowledgeSettings`.
        embedder: overrides the one the settings name, for every collection.
        embedders: embedders by the name that settings may give, beside the plug-ins.
        vectors: makes vectors at providers, for embedders that want it.
        environ: where connectors find the secrets that source files name.
        scanner: looks for personal data, secrets and instructions in documents; without one nothing is looked for, and
            a source whose policy acts on them is refused.
        compute: where ingests read and embed; in this process by default.
        configured: names of a tenant's collections that have a file, ingested or not; None where that is not known.
        external: a tenant's collections that are searched in indexes elsewhere, by name; none without it.
        scratch: where trials of tuning are kept meanwhile, so that erasing reaches them.
    """

    def __init__(
        self,
        sql: Sql,
        blobs: Blobs,
        index: Index,
        *,
        settings: KnowledgeSettings | None = None,
        embedder: Embedder | None = None,
        embedders: Mapping[str, Embedder] | None = None,
        vectors: VectorModel | None = None,
        environ: Mapping[str, str] = os.environ,
        scanner: Scanner | None = None,
        compute: ComputeSettings | None = None,
        configured: Callable[[TenantId], Collection[str] | None] | None = None,
        external: Callable[[TenantId], Mapping[str, Away]] | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._sql = sql
        self._scratch = scratch
        self._with_files = configured or (lambda _: None)
        self._documents = DocumentStore(sql)
        self._sources = SourceStore(sql)
        self._cleaned = CleanedStore(sql)
        self._scanner = scanner
        self._environ = environ
        self._blobs = blobs
        self._settings = settings or KnowledgeSettings()
        self._compute = compute or ComputeSettings()
        self._embedders = Embedders(self._settings, given=embedder, named=embedders, vectors=vectors)
        known = SpaceStore(sql)
        # Whoever takes something out of the answering space takes it out of all.
        self._index: Index = MirroredIndex(index, known)
        index = self._index
        self.spaces = Spaces(
            SpaceShelf(known, self._documents, self._cleaned, blobs, self._index.inner),
            self._embedders,
            self._chunker,
            batch_passages=self._settings.batch_passages,
        )
        """Embedding spaces of collections: what answers, what is built beside it, and the switch."""
        self._reader: Reader | None = None
        self._past = HistoryStore(sql)
        pruner = Pruner(sql, self._documents, blobs)
        shelves = Shelves(self._documents, self._past, self._sources, self._cleaned, blobs, index, pruner)
        self._external = ExternalIndexes(external, environ)
        self._searcher = Searcher(self._documents, index, self.spaces, self._configured, self._external)
        self._lexicon = Lexicon(self._documents, blobs)
        self._graphs = Graphs(self._documents, blobs)
        self._judge = LegJudge(self._documents, index)
        self.history = History(shelves, self.spaces, self._forget)
        """Snapshots, what differs between two, going back, erasing."""
        self.questions = Questions(QuestionStore(sql), self._documents)
        """Labelled questions, for tuning and for gates."""
        self._retrieval = Retrieval(
            self._searcher,
            self._documents,
            self._lexicon,
            self._graphs,
            models=self._settings.models,
            threads=self._settings.embedder_threads,
        )
        self._reads = "none" if embedder is not None else self._settings.reader

    def beside(self, sql: Sql, blobs: Blobs, index: Index, *, settings: KnowledgeSettings | None = None) -> Self:
        """Another service with the same models over stores of its own, for evaluations.

        Args:
            sql: its registry; and so `blobs` and `index`.
            settings: instead of this service's.
        """
        return type(self)(
            sql,
            blobs,
            index,
            settings=settings or self._settings,
            embedder=self.embedder,
            environ=self._environ,
            scanner=self._scanner,
        )

    def over(self, index: Index, *, embedder: Embedder) -> Self:
        """The same registry, texts and rights over another index, for trials. It is to read only.

        Args:
            index: filled with `recut`.
            embedder: of the same embedding space as this service's.
        """
        return type(self)(
            self._sql, self._blobs, index, settings=self._settings, embedder=embedder, environ=self._environ
        )

    async def recut(
        self,
        ctx: Context,
        collection: str,
        chunking: ChunkingSettings,
        *,
        index: Index,
        embedder: Embedder,
        progress: ReportProgress | None = None,
    ) -> int:
        """Cut a collection otherwise into an index beside, for trials; gives the passages. CPU heavy.

        Needs the role developer or operator. Raises: InvalidInput; Misconfigured: the chunker takes no settings.
        """
        ctx.require(*_OVERSIGHT)
        recutter = Recutter(
            self._documents,
            self._cleaned,
            self._blobs,
            chunker=self._chunker(collection, chunking),
            embedder=embedder,
            index=index,
            scope=(await self.spaces.answering(ctx, collection)).scope,
        )
        with ctx.span("knowledge.recut", collection=collection) as (span, inner):
            passages = await recutter.recut(inner, collection, progress)
            span.set(passages=passages)
            return passages

    async def close(self) -> None:
        """Let go of connections to indexes elsewhere. What was handed in stays open."""
        await self._external.close()

    @property
    def embedder(self) -> Embedder:
        """The embedder that the settings name for collections without one of their own. Which one answers in a
        collection, `spaces` knows. Raises: MissingExtra, InvalidInput, Misconfigured.
        """
        return self._embedders.open_configured()

    def embedder_of(self, collection: str) -> Embedder:
        """The embedder that the settings name for a collection. Raises: as `embedder`."""
        return self._embedders.open_configured(collection)

    def _configured(self, ctx: Context, collection: str) -> Embedder:
        return for_caller(self._embedders.open_configured(collection), ctx)

    @property
    def reader(self) -> Reader | None:
        """The reader in use, None for none. Raises: MissingExtra, InvalidInput (no such reader)."""
        name = self._reads
        if name == "auto":
            name = self._settings.embedder if self._settings.embedder in readers.names() else "none"
        if self._reader is None and name != "none":
            plugin = readers.get(name)
            self._reader = plugin.open(self._settings.models, threads=self._settings.embedder_threads)
        return self._reader

    # ── ingest ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def ingest(
        self,
        ctx: Context,
        spec: SourceSpec,
        progress: ReportProgress | None = None,
        *,
        only: str | None = None,
        contexts: ContextWriter | None = None,
        transcriber: Transcriber | None = None,
        compute: ComputeChoice | None = None,
        allow_removals: bool = False,
    ) -> IngestReport:
        """Make the collection mirror its sources, or the one called `only`. Needs the role developer or operator.

        Disk, network and CPU heavy; the context's deadline does not bound it. An unchanged item costs its line of the
        listing; one source that cannot be reached does not stop the others, and nothing of it is deleted. Cancel it, or
        raise from `progress`, to stop: committed batches stay, and the next run does the rest. Runs of one collection
        must not overlap (a job key of tenant and collection sees to that).

        Args:
            contexts: writes what `cleaning.context` of the collection asks for; without it only what was written
                before is used.
            transcriber: writes down recordings, where `transcription` of the collection asks for it.
            compute: where this run reads and embeds, otherwise than the settings: the outcome is the same everywhere.
            allow_removals: let it take all or most documents out of a source; without it, and without the same on the
                source, that is refused as the source's failure (code ``too_many_removals``).

        Raises: Forbidden; NotFound: no source `only`; ModelMissing; StorageFull: nothing half-written; when no source
        could be reached, the error of the first: InvalidInput: a folder is missing, or the collection is searched in
        an index elsewhere; Unavailable; Unauthenticated.
        """
        ctx.require(*_OVERSIGHT)
        if spec.index is not None:
            raise nothing_to_ingest(spec.collection)
        for source in spec.sources if only is None else [spec.source(only)]:
            # First of all: a run that fails before it reaches a source must not be asked for again every moment.
            await self._sources.note(ctx.tenant, spec.collection, source.name, attempted_at=now())
        started = time.monotonic()
        with ctx.span("knowledge.ingest", collection=spec.collection) as (span, inner):
            is_held = await self.history.held(inner, spec.collection) is not None
            await self.spaces.adopt(inner, spec.collection)
            await self.spaces.note(inner, spec.collection)
            pipeline = await self._pipeline(inner, spec.collection, contexts, transcriber)
            run = IngestRun(pipeline, inner, spec, progress, only=only, is_held=is_held, allow_removals=allow_removals)
            chosen, desk = await self._desk(inner, spec, self._compute.chosen(compute), pipeline.embedder)
            async with open_executor(chosen, desk) as executor:
                current = await run.run(executor)
            await self.spaces.note(inner, spec.collection)
            await self.spaces.mend(inner, spec.collection)
            await self.history.purge(inner, spec.collection, keep_days=self._settings.keep_deleted_days)
            snapshot = current or (await self.history.snapshot(inner, spec.collection)).id
            keep_days = self._settings.keep_versions_days
            if keep_days is not None:
                await self.history.prune(inner, spec.collection, keep_days=keep_days)
            await self._judge_legs(inner, spec.collection)
            report = run.report(snapshot, time.monotonic() - started)
            span.set(
                added=report.added,
                changed=report.changed,
                unchanged=report.unchanged,
                deleted=report.deleted,
                failed=len(report.failed),
                away=len(report.away),
                passages=report.passages,
                embedding_tokens=report.embedding_tokens,
                held=report.held,
                flagged=report.flagged,
                redacted=report.redacted,
                duplicates=report.duplicates,
                versions=report.versions,
                left_out=report.left_out,
                executor=executor.kind,
                workers=executor.workers,
                workers_lost=executor.lost,
            )
            return report

    async def _judge_legs(self, ctx: Context, collection: str) -> None:
        if self.legs_of(collection).check:
            space = await self.spaces.answering(ctx, collection)
            if space.opened is not None:
                await self._judge.judge(ctx, collection, space)

    async def _desk(
        self, ctx: Context, spec: SourceSpec, compute: ComputeSettings, embedder: Embedder
    ) -> tuple[ComputeSettings, OpenDesk]:
        """Where a run computes, and what each worker of it opens. Here it is what this process has open already."""
        settings, context, given = self._settings, spec.cleaning.context, self._embedders.given
        opening = (await self.spaces.answering(ctx, spec.collection)).space.opening
        if compute.executor != "inline" and given is None:
            if opening is None or self._embedders.is_served(opening):
                # Workers have no gateway, nor anything that only this process knows how to open.
                compute = compute.model_copy(update={"executor": "inline"})
            else:
                update = {"embedder": opening.name, "embedder_model": opening.model}
                settings = settings.model_copy(update=update)
        desk = OpenDesk(
            settings,
            self._scanner,
            # The cores that one process would use are shared among the workers.
            max(1, settings.embedder_threads // compute.count),
            chunking=self.chunking_of(spec.collection),
            reserve=context.max_tokens if context else 0,
            embedder=embedder if compute.executor == "inline" else given,
        )
        return compute, desk

    async def _pipeline(
        self,
        ctx: Context,
        collection: str,
        contexts: ContextWriter | None = None,
        transcriber: Transcriber | None = None,
    ) -> Pipeline:
        space = await self.spaces.answering(ctx, collection)
        return Pipeline(
            self._documents,
            self._blobs,
            self._index,
            space.embedder,
            space.scope,
            await self.spaces.beside(ctx, collection),
            self._chunker(collection),
            self._settings,
            self._sources,
            self._past,
            self._environ,
            self._cleaned,
            self._scanner,
            contexts,
            transcriber,
        )

    async def rebuild(self, ctx: Context, spec: SourceSpec, progress: ReportProgress | None = None) -> RebuildReport:
        """Make the collection's index again from what was kept. Needs the role developer or operator.

        Nothing is fetched, parsed or embedded; searches go on meanwhile. Must not overlap with a run of the same
        collection. What was not kept is read again by the next ingest.
        """
        ctx.require(*_OVERSIGHT)
        if spec.index is not None:
            raise nothing_to_ingest(spec.collection)
        started = time.monotonic()
        with ctx.span("knowledge.rebuild", collection=spec.collection) as (span, inner):
            pipeline = await self._pipeline(inner, spec.collection)
            run = IngestRun(pipeline, inner, spec, progress)
            missing = await run.rebuild()
            stats = await self._index.stats(pipeline.scope)
            span.set(passages=stats.passages, missing=len(missing))
            seconds = time.monotonic() - started
            return RebuildReport(spec.collection, stats.documents, stats.passages, len(missing), seconds)

    async def sources(self, ctx: Context, spec: SourceSpec) -> list[SourceStatus]:
        """Where the sources of a collection stand, in their order. Needs the role developer or operator."""
        ctx.require(*_OVERSIGHT)
        states = await self._sources.states(ctx.tenant, spec.collection)
        documents = await self._documents.documents(ctx.tenant, spec.collection)
        counts = Counter(known.origin for known in documents)
        failed = Counter(known.origin for known in documents if known.info.state == "failed")
        held = Counter(known.origin for known in documents if known.info.cleaning.held)
        set_back = await self.history.held(ctx, spec.collection) is not None
        return [
            status_of(
                source,
                states.get(source.name, SourceState()),
                collection=spec.collection,
                documents=counts[source.name],
                failed=failed[source.name],
                held=held[source.name],
                set_back=set_back,
            )
            for source in spec.sources
        ]

    async def as_of(self, ctx: Context, collection: str, documents: Collection[DocumentId]) -> AsOf:
        """How old what is cited from these documents may be, by the sources they came from."""
        states = await self._sources.states(ctx.tenant, collection)
        origins = await self._documents.origins(ctx.tenant, documents)
        return as_of(states.get(origin, SourceState()) for origin in origins)

    async def want(self, ctx: Context, spec: SourceSpec, source: str) -> None:
        """Note that a source changed: it is due until a run that begins later. Needs the role developer or operator.

        Raises: NotFound.
        """
        ctx.require(*_OVERSIGHT)
        await self._sources.note(ctx.tenant, spec.collection, spec.source(source).name, wanted_at=now())

    async def told(self, ctx: Context, spec: SourceSpec, source: str, before: str, after: str) -> bool:
        """Note the state of a source that is told to people; False when somebody else tells it. Needs the role
        developer or operator.
        """
        ctx.require(*_OVERSIGHT)
        return await self._sources.told(ctx.tenant, spec.collection, source, before, after)

    async def due(self, ctx: Context, spec: SourceSpec) -> list[str]:
        """Names of sources whose schedule or a note of change asks for a run now."""
        states = await self._sources.states(ctx.tenant, spec.collection)
        at = now()
        return [one.name for one in spec.sources if is_due(one, states.get(one.name, SourceState()), at)]

    async def delete(self, ctx: Context, document: DocumentId) -> None:
        """Erase a document: passages, registry row, and every stored version. Needs the role developer or operator.

        A later ingest brings it back while its file is still in the source.
        Raises: Forbidden, NotFound.
        """
        ctx.require(*_OVERSIGHT)
        with ctx.span("knowledge.delete"):
            known = await self._documents.stored(ctx.tenant, document)
            collection = known.info.collection if known else await self.history.retired_in(ctx, document)
            if collection is None:
                raise _no_document(document)
            await self.history.remove(ctx, [document], collection)
            if known is not None:
                await self._sources.read_anew(ctx.tenant, collection, known.origin)

    # ── review ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def reviews(self, ctx: Context, *, collection: str | None = None, decided: bool = False) -> list[ReviewItem]:
        """Documents that a person should decide on. Needs the role developer, operator or reviewer.

        What their source holds back comes first, then what is found and flagged. Facts and places, never text.

        Args:
            ctx: the caller.
            collection: only this one.
            decided: also those on which somebody decided.
        """
        ctx.require(*_REVIEWERS)
        infos = [stored.info for stored in await self._documents.documents(ctx.tenant, collection)]
        wanted = [i for i in infos if i.text_digest and (i.cleaning.flagged or (decided and i.cleaning.decision))]
        return [_review(info) for info in sorted(wanted, key=lambda i: (not i.cleaning.held, i.collection, i.source))]

    async def review(
        self, ctx: Context, document: DocumentId, verdict: Verdict, *, text_digest: str | None = None
    ) -> ReviewItem:
        """Release a document into the index, or keep it out. Needs the role developer, operator or reviewer.

        It is about the text that the document has now: another text is judged anew. CPU heavy when it is released.

        Args:
            ctx: who decides.
            document: its id.
            verdict: see above.
            text_digest: the text that was looked at, when the caller knows it.

        Raises: Forbidden; NotFound: no such document, or it has no text; Conflict: its text is another one by now.
        """
        ctx.require(*_REVIEWERS)
        stored = await self._documents.stored(ctx.tenant, document)
        if stored is None or not stored.info.text_digest:
            raise _no_document(document)
        info = stored.info
        if text_digest not in {None, info.text_digest}:
            raise Conflict(
                f"the document {document!r} changed since it was looked at", hint="look at it again, then decide"
            )
        with ctx.span("knowledge.review", verdict=verdict):
            decision = Decision(document, info.text_digest, verdict, ctx.principal.id, now())
            await self._cleaned.decide(ctx.tenant, info.collection, decision)
            facts = replace(info.cleaning, decision=verdict)
            stored = stored._replace(info=replace(info, cleaning=facts, state=state_of(info.error_code, facts)))
            await self._show_or_hide(ctx, stored)
        return replace(_review(stored.info), copies=await self._copies_of(ctx, stored.info))

    async def _show_or_hide(self, ctx: Context, stored: StoredDocument) -> None:
        """The index as the facts of one document want it. A copy that stands behind another one stays there."""
        info = stored.info
        row = (await self._cleaned.by_id(ctx.tenant, [info.id])).get(info.id)
        is_shown = not info.cleaning.held and info.cleaning.duplicate_of is None
        one = None
        space = await self.spaces.answering(ctx, info.collection)
        if row is not None and row.text_digest == info.text_digest:
            change = Change(stored, row, "show" if is_shown else "hide")
            cutter = Cutter(self._chunker(info.collection), space.embedder)
            one = await prepared(ctx.tenant, change, self._cleaned, self._blobs, cutter)
        if one is not None:
            beside = await self.spaces.beside(ctx, info.collection)
            stores = (self._documents, self._cleaned, self._blobs, self._index)
            await Committer(*stores, space.embedder, space.scope, beside).commit([one])
        else:
            if not is_shown:
                await self._index.apply(space.scope, upsert=(), delete=[info.id])
            await self._documents.save(ctx.tenant, [stored], embedder=space.id)
        if not is_shown:
            # Once more, for what was being written to another space meanwhile.
            await self._index.apply(space.scope, upsert=(), delete=[info.id])

    def _chunker(self, collection: str, chunking: ChunkingSettings | None = None) -> Chunker:
        return open_chunker(self._settings, chunking or self.chunking_of(collection))

    async def copies_of(self, ctx: Context, document: DocumentId) -> int:
        """How many documents are found through this one. Needs the role developer or operator. Raises: NotFound."""
        ctx.require(*_OVERSIGHT)
        return await self._copies_of(ctx, await self._visible(ctx, document, oversight=True))

    async def _copies_of(self, ctx: Context, info: DocumentInfo) -> int:
        others = await self._documents.documents(ctx.tenant, info.collection)
        return sum(other.info.cleaning.duplicate_of == info.id for other in others)

    # ── search ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def search(
        self,
        ctx: Context,
        query: str,
        *,
        collection: str,
        limit: int = 8,
        mode: SearchMode = "hybrid",
        fusion: FusionSettings | None = None,
        filter: Filter = EVERYTHING,  # noqa: A002 - what every search interface calls it
        steps: RetrievalSteps | None = None,
        history: Sequence[Turn] = (),
        assistant: Assistant | None = None,
        space: str = "",
        legs: LegSettings | None = None,
    ) -> list[Passage]:
        """The passages that answer `query` best, among those `ctx.readers` may read.

        Rights and the filter are applied inside both legs, before their top rows are taken, and rights are checked
        again against the registry. A question longer than the embedder reads is searched by its first sentences.

        Args:
            query: words of a person; no syntax.
            collection: where to look; an unknown one has no passages.
            limit: at most 200.
            mode: `lexical` works without a model.
            fusion: overrides the settings, for apps and evaluations.
            filter: which documents to look at, see :func:`~interlock.knowledge.filters.read_filter`.
            steps: overrides the settings; a step that fails leaves the result as it was without it.
            history: earlier turns of the conversation, oldest first.
            assistant: a model for the steps that need one; those are left out without it.
            space: another embedding space of the collection than the one that answers, for comparing both.
            legs: overrides the settings; matters to hybrid searches.

        Returns: best first by `score`; `relevance` says how near each is by itself.
        Raises: InvalidInput: blank query, limit out of range; DeadlineExceeded; ModelMissing (unless lexical).
        """
        plan = self._plan(
            query, collection, limit=limit, mode=mode, fusion=fusion, filter=filter, space=space, legs=legs
        )
        ctx.deadline.check("searching")
        with ctx.span("knowledge.search", collection=collection, mode=mode, limit=limit) as (span, inner):
            found = await self._find(inner, plan, steps, history, assistant)
            passages = found.passages(inner, limit=limit)
            span.set(dense_hits=len(found.dense), lexical_hits=len(found.lexical), passages=len(passages))
            span.set(space=found.space)
            if found.within is not None:
                span.set(filtered_documents=len(found.within))
            return passages

    async def explain(
        self,
        ctx: Context,
        query: str,
        *,
        collection: str,
        limit: int = 8,
        mode: SearchMode = "hybrid",
        fusion: FusionSettings | None = None,
        filter: Filter = EVERYTHING,  # noqa: A002 - as of `search`
        steps: RetrievalSteps | None = None,
        history: Sequence[Turn] = (),
        assistant: Assistant | None = None,
        budget_tokens: int = 1500,
        document: DocumentId | None = None,
    ) -> Explanation:
        """The same search told stage by stage, with what became of every candidate.

        Nothing is told of documents the caller may not read; developers and operators may ask about one by its id.

        Args:
            ctx: whose rights decide.
            query: as of `search`, and so is everything not named here.
            budget_tokens: of the context a prompt would get.
            document: answers why this one is not among the results.

        Raises: as `search`; NotFound: no such document for this caller.
        """
        if budget_tokens < 1:
            raise InvalidInput("budget_tokens must be at least 1", param="budget_tokens")
        plan = self._plan(query, collection, limit=limit, mode=mode, fusion=fusion, filter=filter)
        ctx.deadline.check("searching")
        with ctx.span("knowledge.explain", collection=collection, mode=mode, limit=limit) as (_, inner):
            found = await self._find(inner, plan, steps, history, assistant)
            count = self.embedder.count_tokens
            given = found.passages(inner, limit=limit)
            packing = (steps or self.steps_of(collection)).packing
            packed = await self._focused(inner, given, packing, query)
            context = await self.evidence(inner, given, budget_tokens=budget_tokens, packing=packing, question=query)
            why = None
            if document is not None:
                judgements = judged(packed, budget_tokens=budget_tokens, count_tokens=count)
                fates = {passage.id: fate for passage, fate in judgements}
                why = await why_not(
                    inner,
                    found.plan or plan,
                    found,
                    document,
                    searcher=self._searcher,
                    fate_of=fates.get,
                )
            facts = [] if self.is_external(inner, collection) else await self._documents.facts(ctx.tenant, collection)
            removed = await removed_by_rights(inner, found.plan or plan, facts, searcher=self._searcher)
            return explained(
                inner,
                plan,
                found,
                context=context,
                budget_tokens=budget_tokens,
                count_tokens=count,
                why=why,
                removed=removed,
                hint=unknown_fields(filter, [info for info in facts if info.readers & ctx.readers]),
            )

    async def filter_hint(self, ctx: Context, collection: str, wanted: Filter) -> str:
        """What to tell somebody whose filter names a field that no document has which they may read; else empty."""
        if not wanted or self.is_external(ctx, collection):
            return ""
        facts = await self._documents.facts(ctx.tenant, collection)
        return unknown_fields(wanted, [info for info in facts if info.readers & ctx.readers])

    def _plan(
        self,
        query: str,
        collection: str,
        *,
        limit: int,
        mode: SearchMode,
        fusion: FusionSettings | None,
        filter: Filter,  # noqa: A002 - as of `search`
        space: str = "",
        legs: LegSettings | None = None,
    ) -> SearchPlan:
        candidates = max(self.candidates_of(collection), limit)
        plan = SearchPlan(
            query,
            collection,
            limit,
            mode,
            fusion or self.fusion_of(collection),
            candidates,
            filter,
            space=space,
            legs=legs or self.legs_of(collection),
        )
        plan.check()
        return plan

    async def rankings(
        self,
        ctx: Context,
        query: str,
        *,
        collection: str,
        fusions: Sequence[FusionSettings],
        candidates: Sequence[int] = (),
    ) -> list[list[Passage]]:
        """One search fused in several ways, for tuning: the legs run once.

        Args:
            candidates: rows each leg hands to fusion, for each of `fusions`; those of the settings when empty.

        Returns: for each of `fusions` what `search` would give of it, with every candidate.
        Raises: as `search`.
        """
        plan = self._plan(query, collection, limit=1, mode="hybrid", fusion=None, filter=EVERYTHING)
        counts = candidates or [plan.candidates] * len(fusions)
        found = await self._searcher.find(ctx, replace(plan, candidates=max(counts), legs=BOTH_LEGS))
        dense, lexical = found.dense, found.lexical
        given: list[list[Passage]] = []
        for fusion, count in zip(fusions, counts, strict=True):
            # Each leg's rows are its best first: fewer of them are the first ones.
            found.dense, found.lexical = dense[:count], lexical[:count]
            found.fuse(fusion)
            given.append(found.passages(ctx))
        return given

    async def _find(
        self,
        ctx: Context,
        plan: SearchPlan,
        steps: RetrievalSteps | None,
        history: Sequence[Turn],
        assistant: Assistant | None,
    ) -> Findings:
        steps = steps or self.steps_of(plan.collection)
        return await self._retrieval.find(ctx, plan, steps, history=history, assistant=assistant)

    async def graph(
        self, ctx: Context, collection: str, entity: str | None = None, *, limit: int = _ENTITIES
    ) -> GraphView:
        """Entities and relations of a collection, as the documents give them that `ctx.readers` may read.

        Built on the first call after the collection changed: disk and CPU, about a second for 1.3 million characters.

        Args:
            ctx: the caller, whose readers decide, whatever the role.
            collection: an unknown one has no entities.
            entity: a name, in any case; what is said of it. What most is said of when None.
            limit: most edges, or entities; at most 500.

        Raises: NotFound: no readable document names it; TooLarge: the collection has more text than a graph is made
            of; Unavailable: it is not made yet; DeadlineExceeded; InvalidInput: limit out of range.
        """
        if not 1 <= limit <= _MOST_ENTITIES:
            raise InvalidInput(f"limit must be from 1 to {_MOST_ENTITIES}, not {limit}", param="limit")
        ctx.deadline.check("reading the graph")
        with ctx.span("knowledge.graph", collection=collection) as (span, inner):
            graph = await self._graphs.readable(inner, collection, within_s=min(_GRAPH_S, ctx.deadline.remaining_s()))
            if graph is None:
                ctx.deadline.check("reading the graph")
                if self._graphs.is_too_large(ctx.tenant, collection):
                    raise TooLarge(
                        f"{collection!r} has more text than the 20 million characters a graph is made of",
                        param="collection",
                    )
                raise Unavailable(f"the graph of {collection!r} is still being made", hint="ask again in a moment")
            key = None if entity is None else graph.key(entity)
            if entity is not None and key is None:
                raise NotFound("no document that you may read names this entity", param="entity")
            view = await to_thread.run_sync(lambda: graph.view(collection, key, most=limit))
            span.set(entities=len(view.entities), edges=len(view.edges))
            return view

    def _forget(self, tenant: TenantId, collection: str) -> None:
        """Nothing of an erased document stays in memory."""
        self._lexicon.forget(tenant, collection)
        self._graphs.forget(tenant, collection)
        if self._scratch is not None:
            forget_scratch(self._scratch, tenant, collection)

    def fusion_of(self, collection: str) -> FusionSettings:
        """How a collection's legs are fused where nobody says otherwise."""
        own = self._settings.collections.get(collection)
        return (own.fusion if own is not None else None) or self._settings.fusion

    def legs_of(self, collection: str) -> LegSettings:
        """Which legs a collection's searches take part of: both, where its own fusion was chosen with both."""
        own = self._settings.collections.get(collection)
        if own is None:
            return self._settings.legs
        return own.legs or (self._settings.legs if own.fusion is None else BOTH_LEGS)

    def chunking_of(self, collection: str) -> ChunkingSettings:
        """How a collection's documents are cut."""
        own = self._settings.collections.get(collection)
        return (own.chunking if own is not None else None) or self._settings.chunking

    def candidates_of(self, collection: str) -> int:
        """Rows each leg of a collection's searches hands to fusion."""
        own = self._settings.collections.get(collection)
        return (own.candidates if own is not None else None) or self._settings.candidates

    def steps_of(self, collection: str) -> RetrievalSteps:
        """Which steps a collection's searches take where nobody says otherwise."""
        own = self._settings.collections.get(collection)
        return (own.steps if own is not None else None) or self._settings.steps

    def reranker_identity(self, steps: RetrievalSteps) -> str:
        """What releases pin of a reranker; empty without one. Raises: InvalidInput, ModelMissing, MissingExtra."""
        chosen = steps.rerank
        if chosen is None:
            return ""
        plugin = rerankers.get(chosen.reranker)
        try:
            return plugin.identity(self._settings.models, chosen.model)
        except InterlockError:
            raise
        except Exception as error:
            # Somebody else's code, and one app's: the others are served all the same.
            told = error.told if isinstance(error, StepFailed) else f"it broke ({type(error).__name__})"
            raise InvalidInput(
                f"the reranker {chosen.reranker!r} cannot be used: {told}",
                param="rerank.model",
                hint="`onnx` wants a folder below the folder of models (interlock models list): rerank.model names it",
            ) from error

    def retriever(self, collection: str) -> Retriever:
        """One collection of this service as a :class:`~interlock.core.ports.Retriever`."""
        return _CollectionRetriever(self, collection)

    async def evidence(
        self,
        ctx: Context,
        passages: Sequence[Passage],
        *,
        budget_tokens: int,
        count_tokens: CountTokens | None = None,
        keep_withdrawn: bool = False,
        packing: PackingSettings | None = None,
        question: str = "",
    ) -> list[Passage]:
        """Found passages as they go into a prompt; see :func:`~interlock.knowledge.context.assemble`.

        Args:
            question: what `packing.focus` goes by.
            packing: their order, and whether each is widened to its section; best first and as found when None.
        """
        packing = packing or PackingSettings()
        passages = await self._focused(ctx, passages, packing, question)
        versions = Counter((p.document_id, p.document_digest) for p in passages)
        texts: dict[str, str] = {}
        for (document, digest), times in versions.items():
            if times > 1 or packing.sections:
                # Erased or closed to this caller meanwhile: its passages stay apart.
                with suppress(NotFound):
                    texts[digest] = (await self.document_text(ctx, document, digest)).text
        count = count_tokens or self.embedder.count_tokens
        chosen = assemble(
            passages, budget_tokens=budget_tokens, count_tokens=count, texts=texts, keep_withdrawn=keep_withdrawn
        )
        if packing.sections:
            neighbours: dict[DocumentId, Sequence[Passage]] = {}
            for document in dict.fromkeys(passage.document_id for passage in chosen):
                with suppress(NotFound):
                    neighbours[document] = await self.passages(ctx, document)
            chosen = widened(
                chosen,
                packing,
                neighbours=neighbours,
                texts=texts,
                budget_tokens=budget_tokens,
                count_tokens=count,
            )
        return ordered(chosen, packing.order)

    async def _focused(
        self, ctx: Context, passages: Sequence[Passage], packing: PackingSettings, question: str
    ) -> Sequence[Passage]:
        settings = packing.focus
        if settings is None or not question or len(passages) <= settings.whole:
            return passages
        infos = await self._documents.by_id(ctx.tenant, {passage.document_id for passage in passages})
        languages = sorted({code for info in infos.values() for code in info.languages}) or ["en"]
        return await to_thread.run_sync(focused, passages, question, settings, languages)

    # ── documents ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def documents(self, ctx: Context, *, collection: str | None = None) -> list[DocumentInfo]:
        """Documents the caller may read; for developers and operators the facts (never the text) of all of them."""
        infos = [stored.info for stored in await self._documents.documents(ctx.tenant, collection)]
        if ctx.principal.has(*_OVERSIGHT):
            return infos
        return [_for_readers(info) for info in infos if info.readers & ctx.readers]

    async def collection_names(self, ctx: Context) -> list[str]:
        """Collections with at least one document that the caller may read, by name."""
        names = await self._documents.collection_names(ctx.tenant)
        found: list[str] = []
        away = self._external.all(ctx.tenant)
        for name in names:
            facts = await self._documents.facts(ctx.tenant, name)
            if name not in away and any(info.readers & ctx.readers for info in facts):
                found.append(name)
        return sorted([*found, *(name for name, count in (await self.external_counts(ctx)).items() if count)])

    async def check_collection(self, ctx: Context, collection: str) -> None:
        """Whether there is such a collection, as far as this caller may learn. For what found nothing.

        Raises: NotFound: there is none, or, indistinguishably, nothing in it that the caller may read; for developers
            and operators: there is none, or (code ``never_ingested``) it has a file and was never ingested.
        """
        if self.is_external(ctx, collection):
            return
        oversees = ctx.principal.has(*_OVERSIGHT)
        facts = await self._documents.facts(ctx.tenant, collection)
        if any(info.readers & ctx.readers for info in facts) or (oversees and await self.is_ingested(ctx, collection)):
            return
        names = set(await self.collection_names(ctx))
        if oversees:
            files = set(self._with_files(ctx.tenant) or ())
            if collection in files:
                raise _never_ingested(collection)
            names |= {*files, *await self._documents.collection_names(ctx.tenant)}
        raise NotFound(
            f"no collection {collection!r}",
            param="collection",
            hint=f"one of: {', '.join(sorted(names)) or 'none yet'}",
            code="collection_not_found",
        )

    async def is_ingested(self, ctx: Context, collection: str) -> bool:
        """Whether a run ever looked at this collection, or it is searched elsewhere."""
        return (
            self.is_external(ctx, collection)
            or await self._documents.collection(ctx.tenant, collection) is not None
            or bool(await self._sources.states(ctx.tenant, collection))
        )

    async def check_ingested(self, ctx: Context, collection: str) -> None:
        """Whether what an app searches is there at all. Says nothing of rights, nor of other collections.

        Raises: NotFound: ``never_ingested``, or ``collection_not_found``.
        """
        files = self._with_files(ctx.tenant)
        # A tenant without files here has the apps of the house, and maybe nothing for them to search.
        if files is None or await self.is_ingested(ctx, collection):
            return
        if collection in files:
            raise _never_ingested(collection)
        raise NotFound(
            f"the collection {collection!r} that is searched does not exist",
            param="knowledge.collection",
            hint=f"name one that is there, or add knowledge/{collection}.yaml; see: interlock doctor",
            code="collection_not_found",
        )

    async def external_counts(self, ctx: Context) -> dict[str, int]:
        """Readable documents of each collection that is searched elsewhere. Asks every such index.

        One that cannot be asked now is left out, and logged: what is here does not fall with it.
        """
        counts: dict[str, int] = {}
        for name, away in self._external.all(ctx.tenant).items():
            try:
                counts[name] = await self._external.count(ctx, away)
            except InterlockError as error:
                _log.warning("the collection %s cannot be asked: %s", name, error.code)
        return counts

    async def external_count(self, ctx: Context, collection: str) -> int:
        """Readable documents of a collection that is searched elsewhere. Raises: NotFound, Unavailable."""
        away = self._external.find(ctx.tenant, collection)
        if away is None:
            raise NotFound(f"no collection {collection!r} is searched elsewhere", param="collection")
        return await self._external.count(ctx, away)

    def is_external(self, ctx: Context, collection: str) -> bool:
        """True for a collection that is searched in an index elsewhere."""
        return self._external.find(ctx.tenant, collection) is not None

    async def space_of(self, ctx: Context, collection: str) -> str:
        """The embedding space that answers; empty for a collection that is searched elsewhere."""
        return "" if self.is_external(ctx, collection) else (await self.spaces.answering(ctx, collection)).id

    async def snapshot_id(self, ctx: Context, collection: str, passages: Sequence[Passage]) -> SnapshotId:
        """What an answer from these passages was given from: the collection's snapshot, or, of a collection that is
        searched elsewhere and has none, the digest of the texts themselves.
        """
        if not self.is_external(ctx, collection):
            return (await self.history.snapshot(ctx, collection)).id
        texts = sorted({(passage.document_id, passage.document_digest) for passage in passages})
        return SnapshotId(digest_json({"collection": collection, "texts": [list(text) for text in texts]}))

    async def document(self, ctx: Context, document: DocumentId) -> DocumentInfo:
        """Facts of one document.

        Raises: NotFound: absent or, indistinguishably, not readable by this caller.
        """
        info = await self._visible(ctx, document, oversight=True)
        return info if ctx.principal.has(*_OVERSIGHT) else _for_readers(info)

    async def document_text(self, ctx: Context, document: DocumentId, digest: str | None = None) -> DocumentText:
        """Extracted text, for readers only, whatever their role.

        Args:
            ctx: the caller.
            document: its id.
            digest: an older version's text digest, as a citation names it; the newest when None.

        Raises: NotFound: absent, not readable, or never had this version. Of a document in an index elsewhere, which
        is asked for it again by the caller's rights, older versions are not there.
        """
        away = self._external.of_document(ctx.tenant, document)
        if away is not None:
            row = await self._external.document(ctx, *away)
            if row is None or digest not in {None, row.info.text_digest}:
                raise _no_document(document)
            return DocumentText(
                row.info.id, row.info.text_digest, row.info.title, row.info.source, row.info.media_type, row.text
            )
        info = await self._visible(ctx, document, oversight=False)
        wanted = digest or info.text_digest
        if not wanted or not await self._documents.has_version(ctx.tenant, document, wanted):
            raise _no_document(document)
        text = (await self._blobs.get(ctx.tenant, wanted)).decode()
        return DocumentText(info.id, wanted, info.title, info.source, info.media_type, text)

    async def text_diff(self, ctx: Context, document: DocumentId, before: str, after: str | None = None) -> list[str]:
        """What changed from one version of a document to another, as lines of a unified diff; for readers only.

        Args:
            ctx: the caller.
            document: its id.
            before: text digest of the older version.
            after: of the newer one; the newest when None.

        Raises: NotFound: absent, not readable, or never had these versions; TooLarge.
        """
        old = await self.document_text(ctx, document, before)
        new = await self.document_text(ctx, document, after)
        if max(len(old.text), len(new.text)) > _MAX_DIFF_CHARACTERS:
            raise TooLarge(f"texts of more than {_MAX_DIFF_CHARACTERS} characters are not compared", param="document")
        names = (f"{old.source} {old.digest[7:15]}", f"{new.source} {new.digest[7:15]}")
        lines = (old.text.splitlines(), new.text.splitlines())
        return await to_thread.run_sync(lambda: list(unified_diff(*lines, *names, lineterm="")))

    async def span_boxes(
        self, ctx: Context, document: DocumentId, span: Span, digest: str | None = None
    ) -> tuple[PageBoxes, ...]:
        """Where a span stands on its pages, for readers only, whatever their role.

        Args:
            ctx: the caller.
            document: its id.
            span: characters of its text, as a passage or a citation names them.
            digest: an older version's text digest; the newest when None.

        Returns: page by page; empty for formats without a layout, and for versions read before boxes were kept.
        Raises: NotFound: absent, not readable, or never had this version.
        """
        info = await self._visible(ctx, document, oversight=False)
        wanted = digest or info.text_digest
        if wanted and self._external.of_document(ctx.tenant, document) is not None:
            return ()  # an index elsewhere knows no pages
        if not wanted or not await self._documents.has_version(ctx.tenant, document, wanted):
            raise _no_document(document)
        stored = await self._documents.boxes_digest(ctx.tenant, document, wanted)
        return boxes_of(await self._blobs.get(ctx.tenant, stored), span) if stored else ()

    async def passages(self, ctx: Context, document: DocumentId) -> list[Passage]:
        """All passages of a document's newest version in reading order, for readers only. Raises: NotFound."""
        info = await self._visible(ctx, document, oversight=False)
        hits = await self._searcher.passages_of(ctx, info.collection, document)
        found = [as_passage(hit, info, 0.0, dense=None, lexical=None) for hit in hits]
        return sorted(found, key=lambda passage: passage.span)

    async def original_bytes(self, ctx: Context, document: DocumentId) -> bytes:
        """The file as it was ingested, for readers only. Raises: NotFound; also where a policy keeps no originals."""
        info = await self._visible(ctx, document, oversight=False)
        if info.text_digest and not info.raw_digest:
            raise NotFound(
                "the original is not kept: the policy of its source takes values out of what is stored",
                param="document",
                code="original_not_kept",
            )
        if not info.raw_digest:
            raise _no_document(document)
        return await self._blobs.get(ctx.tenant, info.raw_digest)

    async def may_read(self, ctx: Context, documents: Collection[str]) -> bool:
        """See `Rights.may_read`. One statement for all; documents of an index elsewhere are asked for one by one."""
        wanted = {DocumentId(document) for document in documents}
        away = {document for document in wanted if self._external.of_document(ctx.tenant, document) is not None}
        known = await self._documents.by_id(ctx.tenant, wanted - away)
        if len(known) < len(wanted - away) or not all(info.readers & ctx.readers for info in known.values()):
            return False
        for document in sorted(away):
            if await self._searcher.known(ctx, document) is None:
                return False
        return True

    async def _visible(self, ctx: Context, document: DocumentId, *, oversight: bool) -> DocumentInfo:
        info = await self._searcher.known(ctx, document)
        if info is not None and (info.readers & ctx.readers or (oversight and ctx.principal.has(*_OVERSIGHT))):
            return info
        raise _no_document(document)

    # ── collections ───────────────────────────────────────────────────────────────────────────────────────────────

    async def stats(self, ctx: Context, collection: str) -> IndexStats:
        """Size of a collection's index. Needs the role developer or operator."""
        ctx.require(*_OVERSIGHT)
        return await self._index.stats((await self.spaces.answering(ctx, collection)).scope)

    async def switch_space(self, ctx: Context, spec: SourceSpec) -> SpacesStatus:
        """Let the other embedding space of a collection answer, in one transaction; see `Spaces.switch`. Must not
        overlap with a run of the same collection.

        Raises: Forbidden; NotFound: there is one space only; Conflict: it is incomplete; what opening its embedder
        raises.
        """
        other = await self.spaces.may_switch(ctx, spec.collection)
        now_answers = await self.spaces.answering(ctx, spec.collection)
        moved: dict[str, str] = {}
        # Where the embedder of before is gone, the next run reads the files again; nothing is embedded twice.
        if now_answers.opened is not None:
            run = IngestRun(await self._pipeline(ctx, spec.collection), ctx, spec, None)
            moved = run.fingerprints_in(other.id)
        status = await self.spaces.switch(ctx, spec.collection, {other.id: moved})
        await self._judge_legs(ctx, spec.collection)
        return status


class _CollectionRetriever:
    def __init__(self, service: KnowledgeService, collection: str) -> None:
        self._service = service
        self._collection = collection

    async def search(self, ctx: Context, query: str, *, limit: int) -> Sequence[Passage]:
        return await self._service.search(ctx, query, collection=self._collection, limit=limit)


def _review(info: DocumentInfo) -> ReviewItem:
    facts = info.cleaning
    return ReviewItem(
        info.id,
        info.collection,
        info.source,
        info.title,
        info.text_digest,
        held=facts.held,
        suspended=facts.suspended,
        counts=facts.counts,
        findings=facts.findings,
        decision=facts.decision,
    )


def _for_readers(info: DocumentInfo) -> DocumentInfo:
    """What a reader is told: not what was found in it, and not behind which document, maybe closed to them, it is."""
    return replace(info, cleaning=CleaningFacts(versions=info.cleaning.versions))


def _never_ingested(collection: str) -> NotFound:
    return NotFound(
        f"nothing was ingested into {collection!r} yet",
        param="collection",
        hint=f"interlock ingest {collection}",
        code="never_ingested",
    )


def _no_document(document: DocumentId) -> NotFound:
    return NotFound(f"no document {document!r}", param="document")
