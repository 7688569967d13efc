"""One ingest run: mirror a source into a collection, doing only the work that changes require.

Order of a run: rights that changed, then deletions, then content in batches. Order of a batch: blobs, index (one
transaction), registry. A crash between two steps leaves the previous version findable, or the new one complete; the
next run finds the registry unchanged and does the batch again, which is idempotent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from anyio import to_thread

from interlock.core.canonical import digest_bytes, digest_json
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, MissingExtra, Unavailable
from interlock.core.ids import DocumentId, SnapshotId
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import VERSION as ANALYSER
from interlock.knowledge.analysers import analyse
from interlock.knowledge.boxes import encode_boxes
from interlock.knowledge.detection import HEAD_BYTES, loader_for, loader_of_unnamed
from interlock.knowledge.languages import languages_of
from interlock.knowledge.loaders import find_loader, loaders
from interlock.knowledge.parsing import Parser
from interlock.knowledge.payload import PassagePayload, passage_id
from interlock.knowledge.ports import Chunker, ReportProgress
from interlock.knowledge.quality import assess
from interlock.knowledge.records import Recorder
from interlock.knowledge.settings import KnowledgeSettings
from interlock.knowledge.sources import SourceFile, SourceSpec, read_file, read_head, walk
from interlock.knowledge.store import DocumentStore, StoredDocument
from interlock.knowledge.types import Chunk, DocumentInfo, FileFailure, IngestReport, LoadedDocument, Progress
from interlock.stores.blob.base import Blobs
from interlock.stores.index.base import Index, IndexRow, IndexScope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["IngestRun", "Pipeline"]

_EMBED_AT_ONCE = 128
"""Texts handed to the embedder at once: cancelling and progress take effect between two such calls."""
_REMOVE_AT_ONCE = 200
_NOTHING_TO_READ = frozenset({"no_text_in_picture"})
"""Codes of files that are in order and hold no text: they are remembered, but no failure of the run."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything a run works with."""

    documents: DocumentStore
    blobs: Blobs
    index: Index
    embedder: Embedder
    chunker: Chunker
    settings: KnowledgeSettings


@dataclass(slots=True)
class _Tally:
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    updated_facts: int = 0
    deleted: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """By suffix."""
    passages: int = 0
    tokens: int = 0
    failed: list[FileFailure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Pending:
    """One parsed document that waits for its batch."""

    record: StoredDocument
    raw: bytes
    document: LoadedDocument
    boxes: bytes
    chunks: Sequence[Chunk]
    is_new: bool


class IngestRun:
    """One run over one source. Use once."""

    def __init__(self, pipeline: Pipeline, ctx: Context, spec: SourceSpec, progress: ReportProgress | None) -> None:
        self._p = pipeline
        self._ctx = ctx
        self._spec = spec
        self._progress = progress
        self._scope = IndexScope(ctx.tenant, spec.collection, pipeline.embedder.id)
        self._tally = _Tally()
        self._known: dict[str, StoredDocument] = {}
        self._checked: list[DocumentId] = []
        self._started = now()
        self._recorder = Recorder(ctx, spec, self._started)
        self._total = 0
        self._rebuild = False

    async def run(self, parser: Parser) -> SnapshotId | None:
        """Do it. Gives the collection's snapshot id when nothing changed and one was recorded, else None."""
        wanted = await to_thread.run_sync(self._look_around)
        self._total = len(wanted)
        held = await self._passages_held()
        await self._leave_other_embedder()
        self._known = {
            d.info.source: d for d in await self._p.documents.documents(self._ctx.tenant, self._spec.collection)
        }
        # Derived data that was lost is made again: everything the registry knows is read as if it were new.
        self._rebuild = held < sum(stored.info.passages for stored in self._known.values())
        await self._apply_facts()
        await self._remove_missing({file.source for file, _ in wanted})
        await self._take_content(wanted, parser)
        await self._p.documents.mark_checked(self._ctx.tenant, self._checked, self._started)
        state = await self._p.documents.collection(self._ctx.tenant, self._spec.collection)
        return state.snapshot_id if state else None

    def _look_around(self) -> list[tuple[SourceFile, str]]:
        """Files to read with their loaders, as far as names and first bytes tell."""
        wanted: list[tuple[SourceFile, str]] = []
        for name in self._spec.loaders.values():
            loaders.get(name)  # a name that is nobody's fails the run, not each file
        for file in walk(self._spec):
            loader = find_loader(file.source, self._spec.loaders)
            if loader is None:
                # What cannot be read here has no suffix that promises a document: it is left out, not failed.
                with suppress(InvalidInput, MissingExtra):
                    loader = loader_of_unnamed(file.source, read_head(file, HEAD_BYTES))
            if loader is None:
                self._tally.skipped[_suffix(file.source)] += 1
            else:
                wanted.append((file, loader))
        return wanted

    async def _passages_held(self) -> int:
        """Passages in the index. A file that is no database any more is removed: it is of use to nobody."""
        try:
            return (await self._p.index.stats(self._scope)).passages
        except Unavailable as error:
            if error.code != "corrupt_index":
                raise
            await self._p.index.drop(self._ctx.tenant)
            return 0

    def report(self, snapshot: SnapshotId, seconds: float) -> IngestReport:
        """What was done."""
        t = self._tally
        return IngestReport(
            collection=self._spec.collection,
            snapshot=snapshot,
            added=t.added,
            changed=t.changed,
            unchanged=t.unchanged,
            updated_facts=t.updated_facts,
            deleted=t.deleted,
            skipped=t.skipped.total(),
            skipped_suffixes=dict(sorted(t.skipped.items())),
            failed=tuple(t.failed),
            passages=t.passages,
            embedding_tokens=t.tokens,
            seconds=seconds,
        )

    async def _leave_other_embedder(self) -> None:
        """Vectors of two embedders cannot be searched together: the old ones go, and every document is read again."""
        state = await self._p.documents.collection(self._ctx.tenant, self._spec.collection)
        if state is not None and state.embedder != self._p.embedder.id:
            await self._p.index.drop(self._ctx.tenant, self._spec.collection)

    async def _apply_facts(self) -> None:
        """Readers and metadata rules, before any file is opened: a right that was taken away is gone at once."""
        changed: list[StoredDocument] = []
        for known in self._known.values():
            record = self._recorder.with_facts(known)
            if record == known:
                continue
            if record.info.readers != known.info.readers and known.info.text_digest:
                await self._p.index.set_readers(self._scope, known.info.id, record.info.readers)
            changed.append(record)
        self._known.update({record.info.source: record for record in changed})
        await self._save(changed)
        self._tally.updated_facts = len(changed)

    async def _remove_missing(self, present: set[str]) -> None:
        gone = [known.info.id for source, known in self._known.items() if source not in present]
        for start in range(0, len(gone), _REMOVE_AT_ONCE):
            part = gone[start : start + _REMOVE_AT_ONCE]
            await self._p.index.apply(self._scope, upsert=(), delete=part)
            unused = await self._p.documents.delete(
                self._ctx.tenant, self._spec.collection, part, embedder=self._p.embedder.id
            )
            for digest in unused:
                await self._p.blobs.delete(self._ctx.tenant, digest)
        self._tally.deleted = len(gone)

    async def _take_content(self, wanted: Sequence[tuple[SourceFile, str]], parser: Parser) -> None:
        pending: list[_Pending] = []
        for number, (file, loader) in enumerate(wanted):
            await self._tell(number, file.source)
            one = await self._take(file, loader, parser)
            if one is not None:
                pending.append(one)
            if sum(len(p.chunks) for p in pending) >= self._p.settings.batch_passages:
                await self._commit(pending, number + 1)
                pending = []
        await self._commit(pending, self._total)
        await self._tell(self._total, "done")

    async def _take(self, file: SourceFile, loader: str, parser: Parser) -> _Pending | None:
        """Read and parse one file; None when there is nothing to index. Its failure is recorded, not raised."""
        raw = b""
        try:
            raw = await to_thread.run_sync(lambda: read_file(file, max_bytes=self._p.settings.max_file_bytes))
            loader = self._loader_of(file, raw, loader)
            seen, fingerprint = digest_bytes(raw), self._fingerprint(loader)
            known = self._known.get(file.source)
            if (
                known is not None
                and known.info.seen_digest == seen
                and known.info.fingerprint == fingerprint
                and not self._rebuild
            ):
                self._note_unchanged(known.info)
                return None
            document = await parser.load(loader, raw, file.source)
            chunks = await to_thread.run_sync(self._chunk, document)
            if not chunks:
                raise InvalidInput(f"the file {file.source!r} has no text", param=file.source, code="empty_document")
            languages = self._spec.languages or await to_thread.run_sync(languages_of, document.text)
            quality = await to_thread.run_sync(assess, document)
            boxes = await to_thread.run_sync(encode_boxes, document)
        except (InvalidInput, MissingExtra) as error:
            await self._record_failure(file.source, loader, raw, error)
            return None
        record = self._recorder.parsed(
            file.source,
            document,
            raw,
            passages=len(chunks),
            languages=languages,
            quality=quality,
            boxes_digest=digest_bytes(boxes) if boxes else "",
            fingerprint=fingerprint,
        )
        return _Pending(record, raw, document, boxes, chunks, known is None or not known.info.text_digest)

    def _loader_of(self, file: SourceFile, raw: bytes, suggested: str) -> str:
        """A look at the first bytes; the few files that contradict their names take some milliseconds."""
        return loader_for(file.source, raw, suggested) or suggested

    def _chunk(self, document: LoadedDocument) -> Sequence[Chunk]:
        return self._p.chunker.chunk(
            document, count_tokens=self._p.embedder.count_tokens, max_tokens=self._p.embedder.max_tokens
        )

    def _note_unchanged(self, info: DocumentInfo) -> None:
        self._checked.append(info.id)
        if info.state == "failed":
            self._tally.failed.append(FileFailure(info.source, info.error_code, info.error_message))
        else:
            self._tally.unchanged += 1

    async def _commit(self, pending: Sequence[_Pending], done: int) -> None:
        """Embed and store a batch: blobs, then the index in one transaction, then the registry."""
        if not pending:
            return
        texts = [chunk.search_text for one in pending for chunk in one.chunks]
        vectors = await self._embed(texts, done)
        for one in pending:
            await self._p.blobs.put(self._ctx.tenant, one.raw)
            await self._p.blobs.put(self._ctx.tenant, one.document.text.encode())
            if one.boxes:
                await self._p.blobs.put(self._ctx.tenant, one.boxes)
        rows = await to_thread.run_sync(self._rows, pending, vectors)
        await self._p.index.apply(self._scope, upsert=rows, delete=())
        await self._save([one.record for one in pending])
        fresh = sum(one.is_new for one in pending)
        self._tally.added += fresh
        self._tally.changed += len(pending) - fresh
        self._tally.passages += len(rows)

    async def _embed(self, texts: Sequence[str], done: int) -> NDArray[np.float32]:
        import numpy as np

        parts: list[NDArray[np.float32]] = []
        for start in range(0, len(texts), _EMBED_AT_ONCE):
            part = texts[start : start + _EMBED_AT_ONCE]
            parts.append(await self._p.embedder.embed(part, "passage"))
            self._tally.tokens += await to_thread.run_sync(self._count, part)
            await self._tell(done, f"{start + len(part)} of {len(texts)} passages of this batch embedded")
        return np.concatenate(parts)

    def _count(self, texts: Sequence[str]) -> int:
        return sum(self._p.embedder.count_tokens(text) for text in texts)

    def _rows(self, pending: Sequence[_Pending], vectors: NDArray[np.float32]) -> list[IndexRow]:
        rows: list[IndexRow] = []
        for one in pending:
            info = one.record.info
            for chunk in one.chunks:
                text = one.document.text[chunk.span.start : chunk.span.end]
                payload = PassagePayload(
                    1, info.text_digest, chunk.span.start, chunk.span.end, chunk.page, chunk.heading, text
                )
                rows.append(
                    IndexRow(
                        passage_id=passage_id(info.id, info.text_digest, chunk.span),
                        document_id=info.id,
                        terms=" ".join(analyse(chunk.search_text, info.languages)),
                        readers=info.readers,
                        payload=payload.encode(),
                        vector=vectors[len(rows)],
                    )
                )
        return rows

    async def _record_failure(self, source: str, loader: str, raw: bytes, error: InterlockError) -> None:
        known = self._known.get(source)
        fingerprint = self._fingerprint(loader)
        if error.code in _NOTHING_TO_READ and not (known is not None and known.info.text_digest):
            self._tally.skipped[_suffix(source)] += 1
            record = self._recorder.without_text(source, raw, fingerprint=fingerprint)
        else:
            self._tally.failed.append(FileFailure(source, error.code, str(error)))
            record = self._recorder.failed(source, known, raw, error, fingerprint=fingerprint)
        await self._save([record])

    def _fingerprint(self, loader: str) -> str:
        p = self._p
        parts = [loaders.get(loader).version, p.chunker.version, ANALYSER, p.embedder.id, *self._spec.languages]
        return digest_json(parts)

    async def _save(self, records: Sequence[StoredDocument]) -> None:
        replaced = await self._p.documents.save(self._ctx.tenant, records, embedder=self._p.embedder.id)
        for digest in replaced:
            await self._p.blobs.delete(self._ctx.tenant, digest)

    async def _tell(self, done: int, message: str) -> None:
        if self._progress is not None:
            await self._progress(Progress(done, self._total, message))


def _suffix(source: str) -> str:
    return PurePosixPath(source).suffix.lower()
