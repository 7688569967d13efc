"""The door of knowledge: ingest a source, search it by the caller's rights, read a document."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import anyio
from anyio import to_thread

from interlock.core.canonical import canonical_bytes, digest_bytes
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import DocumentId, PassageId, SnapshotId
from interlock.core.passages import Passage, Span
from interlock.core.ports import Embedder, Retriever
from interlock.knowledge.analysers import analyse
from interlock.knowledge.boxes import boxes_of
from interlock.knowledge.chunkers import chunkers
from interlock.knowledge.context import assemble
from interlock.knowledge.embedders import embedders
from interlock.knowledge.fusion import convex, min_max, rrf
from interlock.knowledge.ingesting import IngestRun, Pipeline
from interlock.knowledge.languages import asked_in
from interlock.knowledge.parsing import Parser
from interlock.knowledge.payload import PassagePayload
from interlock.knowledge.ports import CountTokens, Reader, ReportProgress
from interlock.knowledge.readers import readers
from interlock.knowledge.sentences import sentences
from interlock.knowledge.settings import FusionSettings, KnowledgeSettings
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import DocumentInfo, DocumentText, IngestReport, PageBoxes, SearchMode, Snapshot
from interlock.stores.blob.base import Blobs
from interlock.stores.index.base import Hit, Index, IndexScope, IndexStats
from interlock.stores.sql.base import Sql

__all__ = ["KnowledgeService"]

MAX_QUERY_CHARACTERS = 20_000
MAX_LIMIT = 200
_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)


class KnowledgeService:
    """Knowledge of all tenants. Every method takes the caller's context and answers for that caller alone.

    Args:
        sql: registry of documents.
        blobs: originals and extracted texts.
        index: passages.
        settings: see :class:`KnowledgeSettings`.
        embedder: overrides the one the settings name.
    """

    def __init__(
        self,
        sql: Sql,
        blobs: Blobs,
        index: Index,
        *,
        settings: KnowledgeSettings | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self._documents = DocumentStore(sql)
        self._blobs = blobs
        self._index = index
        self._settings = settings or KnowledgeSettings()
        self._embedder = embedder
        self._reader: Reader | None = None
        self._reads = "none" if embedder is not None else self._settings.reader

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

    async def ingest(self, ctx: Context, spec: SourceSpec, progress: ReportProgress | None = None) -> IngestReport:
        """Make the collection mirror its source. Needs the role developer or operator.

        Disk and CPU heavy; the context's deadline does not bound it. An unchanged folder costs one read of its bytes.
        Cancel it, or raise from `progress`, to stop: committed batches stay, and the next run does the rest. Runs of
        one collection must not overlap (a job key of tenant and collection sees to that).

        Raises: Forbidden; InvalidInput: a source folder is missing; ModelMissing; StorageFull: nothing half-written.
        """
        ctx.require(*_OVERSIGHT)
        started = time.monotonic()
        with ctx.span("knowledge.ingest", collection=spec.collection) as (span, inner):
            pipeline = Pipeline(
                self._documents,
                self._blobs,
                self._index,
                self.embedder,
                chunkers.get(self._settings.chunker),
                self._settings,
            )
            run = IngestRun(pipeline, inner, spec, progress)
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
                passages=report.passages,
                embedding_tokens=report.embedding_tokens,
            )
            return report

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
    ) -> list[Passage]:
        """The passages that answer `query` best, among those `ctx.readers` may read.

        Rights are applied inside both legs, before their top rows are taken, and checked again against the registry.
        A question longer than the embedder reads is searched by its first sentences.

        Args:
            query: words of a person; no syntax.
            collection: where to look; an unknown one has no passages.
            limit: at most 200.
            mode: `lexical` works without a model.
            fusion: overrides the settings, for evaluations.

        Returns: best first, `score` in [0, 1].
        Raises: InvalidInput: blank query, limit out of range; DeadlineExceeded; ModelMissing (unless lexical).
        """
        if not query.strip():
            raise InvalidInput("the query is empty", param="query")
        if len(query) > MAX_QUERY_CHARACTERS:
            raise InvalidInput(f"the query is longer than {MAX_QUERY_CHARACTERS} characters", param="query")
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"limit must be from 1 to {MAX_LIMIT}, not {limit}", param="limit")
        ctx.deadline.check("searching")
        with ctx.span("knowledge.search", collection=collection, mode=mode, limit=limit) as (span, inner):
            k = max(self._settings.candidates, limit)
            scope = IndexScope(inner.tenant, collection, self.embedder.id)
            dense, lexical = await self._legs(inner, scope, query, mode=mode, k=k)
            ranked = _fuse(dense, lexical, fusion or self._settings.fusion)
            passages = await self._passages(inner, ranked, dense, lexical, limit=limit)
            span.set(dense_hits=len(dense), lexical_hits=len(lexical), passages=len(passages))
            return passages

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

    async def _legs(
        self, ctx: Context, scope: IndexScope, query: str, *, mode: SearchMode, k: int
    ) -> tuple[list[Hit], list[Hit]]:
        dense: list[Hit] = []
        lexical: list[Hit] = []

        async def by_meaning() -> None:
            with ctx.span("knowledge.embed_query"):
                vectors = await self.embedder.embed([_first_sentences(query, self.embedder)], "query")
            dense.extend(await self._index.dense(scope, vectors[0], readers=ctx.readers, k=k))

        async def by_words() -> None:
            held = await self._documents.languages(ctx.tenant, scope.collection)
            languages = asked_in(query, held) if len(held) < 2 else await to_thread.run_sync(asked_in, query, held)
            terms = list(dict.fromkeys(analyse(query, languages)))[:256]
            if terms:
                lexical.extend(await self._index.lexical(scope, terms, readers=ctx.readers, k=k))

        try:
            async with anyio.create_task_group() as legs:
                if mode != "lexical":
                    legs.start_soon(by_meaning)
                if mode != "dense":
                    legs.start_soon(by_words)
        except BaseExceptionGroup as group:
            # One leg's error is the caller's error; the group is only how it travelled.
            raise group.exceptions[0] from group
        return dense, lexical

    async def _passages(
        self,
        ctx: Context,
        ranked: Sequence[tuple[PassageId, float]],
        dense: Sequence[Hit],
        lexical: Sequence[Hit],
        *,
        limit: int,
    ) -> list[Passage]:
        hits = {hit.passage_id: hit for hit in (*lexical, *dense)}
        cosine = {hit.passage_id: hit.score for hit in dense}
        best = max((hit.score for hit in lexical), default=0.0) or 1.0
        words = {hit.passage_id: max(0.0, hit.score / best) for hit in lexical}
        documents = await self._documents.by_id(ctx.tenant, {hit.document_id for hit in hits.values()})
        passages: list[Passage] = []
        for passage, score in ranked:
            info = documents.get(hits[passage].document_id)
            # A row the registry does not know is being written or removed right now.
            if info is None or not info.readers & ctx.readers:
                continue
            passages.append(_passage(hits[passage], info, score, dense=cosine.get(passage), lexical=words.get(passage)))
            if len(passages) == limit:
                break
        return passages

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
        found = [_passage(hit, info, 0.0, dense=None, lexical=None) for hit in hits]
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


def _fuse(dense: Sequence[Hit], lexical: Sequence[Hit], fusion: FusionSettings) -> list[tuple[PassageId, float]]:
    by_meaning = {hit.passage_id: hit.score for hit in dense}
    by_words = {hit.passage_id: hit.score for hit in lexical}
    if not by_meaning or not by_words:
        alone: dict[PassageId, float] = min_max(by_meaning or by_words)
        return list(alone.items())
    if fusion.method == "convex":
        return convex(by_meaning, by_words, fusion.dense_weight)
    top = 2 / (fusion.k + 1)
    return [(passage, score / top) for passage, score in rrf([list(by_meaning), list(by_words)], fusion.k)]


def _passage(hit: Hit, info: DocumentInfo, score: float, *, dense: float | None, lexical: float | None) -> Passage:
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


def _no_document(document: DocumentId) -> NotFound:
    return NotFound(f"no document {document!r}", param="document")
