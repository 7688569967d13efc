"""The door of knowledge: ingest a source, search it by the caller's rights, read a document."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

from interlock.core.canonical import canonical_bytes, digest_bytes
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import DocumentId, SnapshotId
from interlock.core.passages import Passage, Span
from interlock.core.ports import Embedder, Retriever
from interlock.knowledge.boxes import boxes_of
from interlock.knowledge.chunkers import chunkers
from interlock.knowledge.context import assemble, judged
from interlock.knowledge.embedders import embedders
from interlock.knowledge.explaining import explained, why_not
from interlock.knowledge.explanation import Explanation
from interlock.knowledge.filters import EVERYTHING, Filter
from interlock.knowledge.freshness import is_due, status_of
from interlock.knowledge.ingesting import IngestRun, Pipeline
from interlock.knowledge.parsing import Parser
from interlock.knowledge.ports import CountTokens, Reader, ReportProgress
from interlock.knowledge.readers import readers
from interlock.knowledge.searching import Searcher, SearchPlan, as_passage
from interlock.knowledge.settings import FusionSettings, KnowledgeSettings
from interlock.knowledge.source_store import SourceState, SourceStore
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import (
    DocumentInfo,
    DocumentText,
    IngestReport,
    PageBoxes,
    SearchMode,
    Snapshot,
    SourceStatus,
)
from interlock.stores.blob.base import Blobs
from interlock.stores.index.base import Index, IndexScope, IndexStats
from interlock.stores.sql.base import Sql

__all__ = ["KnowledgeService"]

_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)


class KnowledgeService:
    """Knowledge of all tenants. Every method takes the caller's context and answers for that caller alone.

    Args:
        sql: registry of documents.
        blobs: originals and extracted texts.
        index: passages.
        settings: see :class:`KnowledgeSettings`.
        embedder: overrides the one the settings name.
        environ: where connectors find the secrets that source files name.
    """

    def __init__(
        self,
        sql: Sql,
        blobs: Blobs,
        index: Index,
        *,
        settings: KnowledgeSettings | None = None,
        embedder: Embedder | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._documents = DocumentStore(sql)
        self._sources = SourceStore(sql)
        self._environ = environ
        self._blobs = blobs
        self._index = index
        self._settings = settings or KnowledgeSettings()
        self._embedder = embedder
        self._reader: Reader | None = None
        self._searcher = Searcher(self._documents, index, lambda: self.embedder)
        self._reads = "none" if embedder is not None else self._settings.reader

    def beside(self, sql: Sql, blobs: Blobs, index: Index, *, settings: KnowledgeSettings | None = None) -> Self:
        """Another service with the same models over stores of its own, for evaluations.

        Args:
            sql: its registry; and so `blobs` and `index`.
            settings: instead of this service's.
        """
        return type(self)(
            sql, blobs, index, settings=settings or self._settings, embedder=self.embedder, environ=self._environ
        )

    @property
    def embedder(self) -> Embedder:
        """The embedder in use. Raises: MissingExtra."""
        if self._embedder is None:
            plugin = embedders.get(self._settings.embedder)
            self._embedder = plugin.open(self._settings.models, threads=self._settings.embedder_threads)
        return self._embedder

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
    ) -> IngestReport:
        """Make the collection mirror its sources, or the one called `only`. Needs the role developer or operator.

        Disk, network and CPU heavy; the context's deadline does not bound it. An unchanged item costs its line of the
        listing; one source that cannot be reached does not stop the others, and nothing of it is deleted.
        Cancel it, or raise from `progress`, to stop: committed batches stay, and the next run does the rest. Runs of
        one collection must not overlap (a job key of tenant and collection sees to that).

        Raises: Forbidden; NotFound: no source `only`; ModelMissing; StorageFull: nothing half-written; when no source
        could be reached, the error of the first: InvalidInput: a folder is missing; Unavailable; Unauthenticated.
        """
        ctx.require(*_OVERSIGHT)
        for source in spec.sources if only is None else [spec.source(only)]:
            # First of all: a run that fails before it reaches a source must not be asked for again every moment.
            await self._sources.note(ctx.tenant, spec.collection, source.name, attempted_at=now())
        started = time.monotonic()
        with ctx.span("knowledge.ingest", collection=spec.collection) as (span, inner):
            pipeline = Pipeline(
                self._documents,
                self._blobs,
                self._index,
                self.embedder,
                chunkers.get(self._settings.chunker),
                self._settings,
                self._sources,
                self._environ,
            )
            run = IngestRun(pipeline, inner, spec, progress, only=only)
            limits = self._settings
            async with Parser(timeout_s=limits.parse_timeout_s, memory_bytes=limits.parse_memory_bytes) as parser:
                current = await run.run(parser)
            snapshot = current or (await self.snapshot(inner, spec.collection)).id
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
            )
            return report

    async def sources(self, ctx: Context, spec: SourceSpec) -> list[SourceStatus]:
        """Where the sources of a collection stand, in their order. Needs the role developer or operator."""
        ctx.require(*_OVERSIGHT)
        states = await self._sources.states(ctx.tenant, spec.collection)
        documents = await self._documents.documents(ctx.tenant, spec.collection)
        counts = Counter(known.origin for known in documents)
        failed = Counter(known.origin for known in documents if known.info.state == "failed")
        return [
            status_of(
                source,
                states.get(source.name, SourceState()),
                collection=spec.collection,
                documents=counts[source.name],
                failed=failed[source.name],
            )
            for source in spec.sources
        ]

    async def want(self, ctx: Context, spec: SourceSpec, source: str) -> None:
        """Note that a source changed: it is due until a run that begins later. Needs the role developer or operator.

        Raises: NotFound.
        """
        ctx.require(*_OVERSIGHT)
        await self._sources.note(ctx.tenant, spec.collection, spec.source(source).name, wanted_at=now())

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
            info = (await self._documents.by_id(ctx.tenant, [document])).get(document)
            if info is None:
                raise _no_document(document)
            scope = IndexScope(ctx.tenant, info.collection, self.embedder.id)
            await self._index.apply(scope, upsert=(), delete=[document])
            unused = await self._documents.delete(ctx.tenant, info.collection, [document], embedder=self.embedder.id)
            for digest in unused:
                await self._blobs.delete(ctx.tenant, digest)

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

        Returns: best first, `score` in [0, 1].
        Raises: InvalidInput: blank query, limit out of range; DeadlineExceeded; ModelMissing (unless lexical).
        """
        plan = self._plan(query, collection, limit=limit, mode=mode, fusion=fusion, filter=filter)
        ctx.deadline.check("searching")
        with ctx.span("knowledge.search", collection=collection, mode=mode, limit=limit) as (span, inner):
            found = await self._searcher.find(inner, plan)
            passages = found.passages(inner, limit=limit)
            span.set(dense_hits=len(found.dense), lexical_hits=len(found.lexical), passages=len(passages))
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
        budget_tokens: int = 1500,
        document: DocumentId | None = None,
    ) -> Explanation:
        """The same search told stage by stage, with what became of every candidate.

        Nothing is told of documents the caller may not read; developers and operators may ask about one by its id.

        Args:
            ctx: whose rights decide.
            query: as of `search`, and so are `collection`, `limit`, `mode`, `fusion` and `filter`.
            budget_tokens: of the context a prompt would get.
            document: answers why this one is not among the results.

        Raises: as `search`; NotFound: no such document for this caller.
        """
        if budget_tokens < 1:
            raise InvalidInput("budget_tokens must be at least 1", param="budget_tokens")
        plan = self._plan(query, collection, limit=limit, mode=mode, fusion=fusion, filter=filter)
        ctx.deadline.check("searching")
        with ctx.span("knowledge.explain", collection=collection, mode=mode, limit=limit) as (_, inner):
            found = await self._searcher.find(inner, plan)
            count = self.embedder.count_tokens
            given = found.passages(inner, limit=limit)
            context = await self.evidence(inner, given, budget_tokens=budget_tokens)
            why = None
            if document is not None:
                judgements = judged(given, budget_tokens=budget_tokens, count_tokens=count)
                fates = {passage.id: fate for passage, fate in judgements}
                why = await why_not(
                    inner,
                    plan,
                    found,
                    document,
                    documents=self._documents,
                    searcher=self._searcher,
                    fate_of=fates.get,
                )
            return explained(
                inner, plan, found, context=context, budget_tokens=budget_tokens, count_tokens=count, why=why
            )

    def _plan(
        self,
        query: str,
        collection: str,
        *,
        limit: int,
        mode: SearchMode,
        fusion: FusionSettings | None,
        filter: Filter,  # noqa: A002 - as of `search`
    ) -> SearchPlan:
        candidates = max(self._settings.candidates, limit)
        plan = SearchPlan(query, collection, limit, mode, fusion or self.fusion_of(collection), candidates, filter)
        plan.check()
        return plan

    async def rankings(
        self, ctx: Context, query: str, *, collection: str, fusions: Sequence[FusionSettings]
    ) -> list[list[Passage]]:
        """One search fused in several ways, for tuning: the legs run once.

        Returns: for each of `fusions` what `search` would give of it, with every candidate.
        Raises: as `search`.
        """
        plan = self._plan(query, collection, limit=1, mode="hybrid", fusion=None, filter=EVERYTHING)
        found = await self._searcher.find(ctx, plan)
        given: list[list[Passage]] = []
        for fusion in fusions:
            found.fuse(fusion)
            given.append(found.passages(ctx))
        return given

    def fusion_of(self, collection: str) -> FusionSettings:
        """How a collection's legs are fused where nobody says otherwise."""
        own = self._settings.collections.get(collection)
        return self._settings.fusion if own is None else own.fusion

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
    ) -> list[Passage]:
        """Found passages as they go into a prompt; see :func:`~interlock.knowledge.context.assemble`."""
        versions = Counter((p.document_id, p.document_digest) for p in passages)
        texts: dict[str, str] = {}
        for (document, digest), count in versions.items():
            if count > 1:
                # Erased or closed to this caller meanwhile: its passages stay apart.
                with suppress(NotFound):
                    texts[digest] = (await self.document_text(ctx, document, digest)).text
        return assemble(
            passages,
            budget_tokens=budget_tokens,
            count_tokens=count_tokens or self.embedder.count_tokens,
            texts=texts,
            keep_withdrawn=keep_withdrawn,
        )

    # ── documents ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def documents(self, ctx: Context, *, collection: str | None = None) -> list[DocumentInfo]:
        """Documents the caller may read; for developers and operators the facts (never the text) of all of them."""
        infos = [stored.info for stored in await self._documents.documents(ctx.tenant, collection)]
        if ctx.principal.has(*_OVERSIGHT):
            return infos
        return [info for info in infos if info.readers & ctx.readers]

    async def document(self, ctx: Context, document: DocumentId) -> DocumentInfo:
        """Facts of one document.

        Raises: NotFound: absent or, indistinguishably, not readable by this caller.
        """
        return await self._visible(ctx, document, oversight=True)

    async def document_text(self, ctx: Context, document: DocumentId, digest: str | None = None) -> DocumentText:
        """Extracted text, for readers only, whatever their role.

        Args:
            ctx: the caller.
            document: its id.
            digest: an older version's text digest, as a citation names it; the newest when None.

        Raises: NotFound: absent, not readable, or never had this version.
        """
        info = await self._visible(ctx, document, oversight=False)
        wanted = digest or info.text_digest
        if not wanted or not await self._documents.has_version(ctx.tenant, document, wanted):
            raise _no_document(document)
        text = (await self._blobs.get(ctx.tenant, wanted)).decode()
        return DocumentText(info.id, wanted, info.title, info.source, info.media_type, text)

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
        if not wanted or not await self._documents.has_version(ctx.tenant, document, wanted):
            raise _no_document(document)
        stored = await self._documents.boxes_digest(ctx.tenant, document, wanted)
        return boxes_of(await self._blobs.get(ctx.tenant, stored), span) if stored else ()

    async def passages(self, ctx: Context, document: DocumentId) -> list[Passage]:
        """All passages of a document's newest version in reading order, for readers only. Raises: NotFound."""
        info = await self._visible(ctx, document, oversight=False)
        scope = IndexScope(ctx.tenant, info.collection, self.embedder.id)
        hits = await self._index.document_passages(scope, document, readers=ctx.readers)
        found = [as_passage(hit, info, 0.0, dense=None, lexical=None) for hit in hits]
        return sorted(found, key=lambda passage: passage.span)

    async def original_bytes(self, ctx: Context, document: DocumentId) -> bytes:
        """The file as it was ingested, for readers only. Raises: NotFound."""
        info = await self._visible(ctx, document, oversight=False)
        if not info.raw_digest:
            raise _no_document(document)
        return await self._blobs.get(ctx.tenant, info.raw_digest)

    async def _visible(self, ctx: Context, document: DocumentId, *, oversight: bool) -> DocumentInfo:
        info = (await self._documents.by_id(ctx.tenant, [document])).get(document)
        if info is not None and (info.readers & ctx.readers or (oversight and ctx.principal.has(*_OVERSIGHT))):
            return info
        raise _no_document(document)

    # ── collections ───────────────────────────────────────────────────────────────────────────────────────────────

    async def snapshot(self, ctx: Context, collection: str) -> Snapshot:
        """The collection's exact content as an id; the same content always has the same id.

        Cheap while nothing changes: one row. After a change the manifest is written as a blob.
        """
        state = await self._documents.collection(ctx.tenant, collection)
        if state is not None and state.snapshot_id is not None:
            known = await self._documents.snapshot(ctx.tenant, collection, state.snapshot_id)
            if known is not None:
                return known
        infos = [s.info for s in await self._documents.documents(ctx.tenant, collection) if s.info.text_digest]
        manifest = [
            [i.id, i.text_digest, sorted(i.readers), dict(i.metadata), i.fingerprint]
            for i in sorted(infos, key=lambda i: i.id)
        ]
        content = canonical_bytes({"version": 1, "documents": manifest})
        digest = digest_bytes(content)
        snapshot = Snapshot(SnapshotId(digest), collection, len(infos), sum(i.passages for i in infos), now())
        if state is not None:
            await self._blobs.put(ctx.tenant, content)
            await self._documents.save_snapshot(ctx.tenant, snapshot, revision=state.revision)
        return snapshot

    async def snapshots(self, ctx: Context, collection: str) -> list[Snapshot]:
        """Recorded snapshots, newest first. Needs the role developer or operator."""
        ctx.require(*_OVERSIGHT)
        return await self._documents.snapshots(ctx.tenant, collection)

    async def stats(self, ctx: Context, collection: str) -> IndexStats:
        """Size of a collection's index. Needs the role developer or operator."""
        ctx.require(*_OVERSIGHT)
        return await self._index.stats(IndexScope(ctx.tenant, collection, self.embedder.id))


class _CollectionRetriever:
    def __init__(self, service: KnowledgeService, collection: str) -> None:
        self._service = service
        self._collection = collection

    async def search(self, ctx: Context, query: str, *, limit: int) -> Sequence[Passage]:
        return await self._service.search(ctx, query, collection=self._collection, limit=limit)


def _no_document(document: DocumentId) -> NotFound:
    return NotFound(f"no document {document!r}", param="document")
