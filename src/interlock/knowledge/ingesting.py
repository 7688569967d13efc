"""One ingest run: mirror a source into a collection, doing only the work that changes require.

Order of a run: rights that the file changed; then source by source and page by page rights, deletions, content in
batches, and last the cursor. Order of a batch: blobs, index (one transaction), registry. A crash between two steps
leaves the previous version findable, or the new one complete; the next run finds the registry unchanged and does the
batch again, which is idempotent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from interlock.core.canonical import digest_bytes, digest_json
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, MissingExtra, NotFound, TooLarge, Unavailable
from interlock.core.ids import DocumentId, SnapshotId
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import VERSION as ANALYSER
from interlock.knowledge.analysers import analyse
from interlock.knowledge.boxes import encode_boxes
from interlock.knowledge.connectors import connectors
from interlock.knowledge.detection import loader_for
from interlock.knowledge.languages import languages_of
from interlock.knowledge.listing import Listed, ListedPage, Listing, SourceAway, suffix_of
from interlock.knowledge.loaders import find_loader, loaders
from interlock.knowledge.parsing import Parser
from interlock.knowledge.payload import PassagePayload, passage_id
from interlock.knowledge.ports import Chunker, Connector, CursorExpired, ReportProgress, SourceItem, Surroundings
from interlock.knowledge.quality import assess
from interlock.knowledge.records import Recorder
from interlock.knowledge.settings import KnowledgeSettings
from interlock.knowledge.source_store import SourceState, SourceStore
from interlock.knowledge.sources import Source, SourceSpec
from interlock.knowledge.store import DocumentStore, Noted, StoredDocument
from interlock.knowledge.types import Chunk, FileFailure, IngestReport, LoadedDocument, Progress, SourceFailure
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
    sources: SourceStore
    environ: Mapping[str, str]
    """Where connectors find their secrets."""


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
    away: list[SourceFailure] = field(default_factory=list)


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

    def __init__(
        self,
        pipeline: Pipeline,
        ctx: Context,
        spec: SourceSpec,
        progress: ReportProgress | None,
        *,
        only: str | None = None,
    ) -> None:
        self._p = pipeline
        self._ctx = ctx
        self._spec = spec
        self._progress = progress
        self._scope = IndexScope(ctx.tenant, spec.collection, pipeline.embedder.id)
        self._tally = _Tally()
        self._known: dict[str, StoredDocument] = {}
        self._only = only
        self._names = {source.name for source in spec.sources}
        self._checked: list[DocumentId] = []
        self._noted: list[Noted] = []
        self._taken: dict[str, str] = {}
        """Source of every path that this run listed."""
        self._fingerprints: dict[str, str] = {}
        self._done = 0
        self._trusts_versions = True
        self._pending: list[_Pending] = []
        self._started = now()
        self._recorder = Recorder(ctx, spec, self._started)
        self._total = 0
        self._rebuild = False

    async def run(self, parser: Parser) -> SnapshotId | None:
        """Do it. Gives the collection's snapshot id when nothing changed and one was recorded, else None."""
        for name in self._spec.loaders.values():
            loaders.get(name)  # a name that is nobody's fails the run, not each file
        held = await self._passages_held()
        await self._leave_other_embedder()
        self._known = {
            d.info.source: d for d in await self._p.documents.documents(self._ctx.tenant, self._spec.collection)
        }
        # Derived data that was lost is made again: everything the registry knows is read as if it were new.
        self._rebuild = held < sum(stored.info.passages for stored in self._known.values())
        await self._apply_facts()
        asked = [source for source in self._spec.sources if self._only in {None, source.name}]
        states = await self._p.sources.states(self._ctx.tenant, self._spec.collection)
        away: list[SourceAway] = []
        for source in asked:
            try:
                await self._mirror(source, states.get(source.name, SourceState()), parser)
            except SourceAway as error:
                away.append(error)
                await self._note_away(error)
        if not away and self._only is None:
            await self._remove([known for known in self._known.values() if self._is_orphan(known)])
        await self._p.documents.mark_checked(self._ctx.tenant, self._checked, self._started)
        await self._p.documents.note(self._ctx.tenant, self._noted)
        if away and len(away) == len(asked):
            raise away[0].error from away[0]
        self._tally.away = [SourceFailure(a.source, a.error.code, str(a.error)) for a in away]
        await self._tell(self._total, "done")
        state = await self._p.documents.collection(self._ctx.tenant, self._spec.collection)
        return state.snapshot_id if state else None

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
            away=tuple(self._tally.away),
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

    async def _mirror(self, source: Source, state: SourceState, parser: Parser) -> None:
        """One source. Raises: SourceAway."""
        config = source.digest()
        full = self._must_be_full(source, state, config)
        # Under other fields the same version may be other text: it is fetched again, and its digest decides.
        self._trusts_versions = state.config in {"", config}
        if not state.config:
            await self._note_source(source.name, config=config)
        connector = self._open(source)
        try:
            listing = Listing(source, connector, max_bytes=self._p.settings.max_file_bytes, loaders=self._spec.loaders)
            try:
                cursor, complete = await self._follow(source, listing, None if full else state.cursor, parser)
            except CursorExpired:
                full = True
                cursor, complete = await self._follow(source, listing, None, parser)
        finally:
            await connector.aclose()
        values = {"full_at": self._started} if full and complete else {}
        await self._note_source(
            source.name,
            config=config,
            cursor=cursor,
            synced_at=self._started,
            error_code="",
            error_message="",
            **values,
        )

    def _open(self, source: Source) -> Connector:
        surroundings = Surroundings(self._p.settings.max_file_bytes, self._p.environ)
        try:
            return connectors.get(source.kind).open(source, surroundings)
        except InterlockError as error:
            raise SourceAway(source.name, error) from error

    def _must_be_full(self, source: Source, state: SourceState, config: str) -> bool:
        """Whether a listing of changes would not do."""
        if self._rebuild or state.cursor is None or state.config != config or state.full_at is None:
            return True
        if self._started - state.full_at >= source.full_every:
            return True
        return any(known.origin == source.name and self._must_be_read_again(known) for known in self._known.values())

    def _must_be_read_again(self, known: StoredDocument) -> bool:
        info = known.info
        if info.state == "failed" and not info.seen_digest and not known.version:
            # Too large stays too large; a library may be there by now, a file be readable.
            return info.error_code != TooLarge.code
        named = known.name_hint or info.source
        loader = find_loader(named, self._spec.loaders)
        if loader is None or suffix_of(named) in self._spec.loaders:
            return loader is not None and info.fingerprint != self._fingerprint(loader)
        # What was read by its content has another loader's fingerprint than its name says.
        return info.fingerprint not in self._current_fingerprints()

    async def _follow(
        self, source: Source, listing: Listing, cursor: str | None, parser: Parser
    ) -> tuple[str | None, bool]:
        """Do what the pages say; gives the last cursor, and whether everything was listed."""
        seen: set[str] = set()
        last, complete = cursor, False
        async with aclosing(listing.pages(cursor)) as pages:
            async for page in pages:
                self._tally.skipped.update(page.skipped)
                self._total += len(page.items)
                self._claim(source, page)
                seen.update(listed.path for listed in page.items)
                await self._apply_listed(source, page)
                complete = page.complete and cursor is None
                await self._remove(self._gone(source, page, seen if complete else None))
                await self._take_content(source, listing, page.items, parser)
                last = page.cursor or last
                if cursor is not None and page.cursor is not None:
                    await self._flush()
                    await self._note_source(source.name, cursor=page.cursor)
        await self._flush()
        return last, complete

    def _claim(self, source: Source, page: ListedPage) -> None:
        for listed in page.items:
            known = self._known.get(listed.path)
            owner = self._taken.get(listed.path, known.origin if known else "")
            if owner != source.name and owner in self._names:
                error = InvalidInput(
                    f"two sources of {self._spec.collection!r} have the path {listed.path!r}",
                    param="sources.prefix",
                    hint="give one of them a prefix",
                )
                raise SourceAway(source.name, error)
            self._taken[listed.path] = source.name

    def _gone(self, source: Source, page: ListedPage, seen: set[str] | None) -> list[StoredDocument]:
        """What the source no longer has; `seen` is everything it has, None when that is not known."""
        alone = len(self._spec.sources) == 1

        def is_gone(known: StoredDocument) -> bool:
            if known.origin != source.name and not (alone and known.origin not in self._names):
                return False
            path = known.info.source
            return path in page.removed or (seen is not None and path not in seen)

        if seen is None:
            candidates = [self._known[path] for path in page.removed if path in self._known]
        else:
            candidates = list(self._known.values())
        return [known for known in candidates if is_gone(known)]

    def _is_orphan(self, known: StoredDocument) -> bool:
        """True of what came from a source that is no longer named, and that no other one has."""
        return known.origin not in self._names and known.info.source not in self._taken

    async def _apply_listed(self, source: Source, page: ListedPage) -> None:
        """Readers and facts that the source system states, before any content is fetched."""
        changed: list[StoredDocument] = []
        for listed in page.items:
            known = self._known.get(listed.path)
            if known is None:
                continue
            record = self._recorder.listed(known, source.name, listed.item)
            if record == known:
                continue
            if known.origin != source.name:
                # Versions of another source say nothing here.
                record = record._replace(version="")
            if record.info == known.info and record.stated == known.stated:
                self._known[listed.path] = record
                self._noted.append(Noted(known.info.id, source.name, record.version, listed.item.name_hint))
                continue
            if record.info.readers != known.info.readers and known.info.text_digest:
                await self._p.index.set_readers(self._scope, known.info.id, record.info.readers)
            changed.append(record)
        self._known.update({record.info.source: record for record in changed})
        await self._save(changed)
        self._tally.updated_facts += len(changed)

    async def _remove(self, gone: Sequence[StoredDocument]) -> None:
        ids = [known.info.id for known in gone]
        for start in range(0, len(ids), _REMOVE_AT_ONCE):
            part = ids[start : start + _REMOVE_AT_ONCE]
            await self._p.index.apply(self._scope, upsert=(), delete=part)
            unused = await self._p.documents.delete(
                self._ctx.tenant, self._spec.collection, part, embedder=self._p.embedder.id
            )
            for digest in unused:
                await self._p.blobs.delete(self._ctx.tenant, digest)
        for known in gone:
            self._known.pop(known.info.source, None)
        self._tally.deleted += len(gone)

    async def _take_content(self, source: Source, listing: Listing, wanted: Sequence[Listed], parser: Parser) -> None:
        for listed in wanted:
            await self._tell(self._done, listed.path)
            one = await self._take(source, listing, listed, parser)
            self._done += 1
            if one is not None:
                self._pending.append(one)
            if sum(len(p.chunks) for p in self._pending) >= self._p.settings.batch_passages:
                await self._flush()

    async def _flush(self) -> None:
        pending, self._pending = self._pending, []
        await self._commit(pending, self._done)

    async def _take(self, source: Source, listing: Listing, listed: Listed, parser: Parser) -> _Pending | None:
        """Fetch and parse one item; None when there is nothing to index. Its failure is recorded, not raised."""
        raw, item, path, loader = b"", listed.item, listed.path, listed.loader
        known, fingerprint = self._known.get(path), self._fingerprint(loader)
        read_before = known is not None and known.info.fingerprint == fingerprint and not self._rebuild
        try:
            if item.error is not None:
                raise item.error
            is_same = item.version != "" and self._trusts_versions
            if known is not None and read_before and is_same and known.version == item.version:
                self._note_unchanged(known, source, item)
                return None
            raw = await listing.fetch(listed)
            # The few whose content contradicts their name take some milliseconds.
            loader = loader_for(item.name_hint or path, raw, loader) or loader
            fingerprint = self._fingerprint(loader)
            read_before = known is not None and known.info.fingerprint == fingerprint and not self._rebuild
            if known is not None and read_before and known.info.seen_digest == digest_bytes(raw):
                self._note_unchanged(known, source, item)
                return None
            document = await parser.load(loader, raw, item.name_hint or path)
            chunks = await to_thread.run_sync(self._chunk, document)
            if not chunks:
                raise InvalidInput(f"the file {path!r} has no text", param=path, code="empty_document")
            languages = self._spec.languages or await to_thread.run_sync(languages_of, document.text)
            quality = await to_thread.run_sync(assess, document)
            boxes = await to_thread.run_sync(encode_boxes, document)
        except (InvalidInput, MissingExtra, NotFound) as error:
            await self._record_failure(source, listed, loader, raw, error)
            return None
        record = self._recorder.parsed(
            path,
            source.name,
            item,
            document,
            raw,
            passages=len(chunks),
            languages=languages,
            quality=quality,
            boxes_digest=digest_bytes(boxes) if boxes else "",
            fingerprint=fingerprint,
        )
        return _Pending(record, raw, document, boxes, chunks, known is None or not known.info.text_digest)

    def _chunk(self, document: LoadedDocument) -> Sequence[Chunk]:
        return self._p.chunker.chunk(
            document, count_tokens=self._p.embedder.count_tokens, max_tokens=self._p.embedder.max_tokens
        )

    def _note_unchanged(self, known: StoredDocument, source: Source, item: SourceItem) -> None:
        info = known.info
        self._checked.append(info.id)
        if (known.origin, known.version, known.name_hint) != (source.name, item.version, item.name_hint):
            self._noted.append(Noted(info.id, source.name, item.version, item.name_hint))
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

    async def _record_failure(
        self, source: Source, listed: Listed, loader: str, raw: bytes, error: InterlockError
    ) -> None:
        path, item, known = listed.path, listed.item, self._known.get(listed.path)
        fingerprint = self._fingerprint(loader)
        if error.code in _NOTHING_TO_READ and not (known is not None and known.info.text_digest):
            self._tally.skipped[suffix_of(path)] += 1
            record = self._recorder.without_text(path, source.name, item, raw, fingerprint=fingerprint)
        else:
            self._tally.failed.append(FileFailure(path, error.code, str(error)))
            record = self._recorder.failed(
                path, source.name, item, known=known, raw=raw, error=error, fingerprint=fingerprint
            )
        await self._save([record])

    def _fingerprint(self, loader: str) -> str:
        if loader not in self._fingerprints:
            p = self._p
            parts = [loaders.get(loader).version, p.chunker.version, ANALYSER, p.embedder.id, *self._spec.languages]
            self._fingerprints[loader] = digest_json(parts)
        return self._fingerprints[loader]

    def _current_fingerprints(self) -> frozenset[str]:
        for name in loaders.names():
            with suppress(MissingExtra):
                self._fingerprint(name)
        return frozenset(self._fingerprints.values())

    async def _note_away(self, away: SourceAway) -> None:
        # What was read before it broke off is whole.
        await self._flush()
        await self._note_source(away.source, error_code=away.error.code, error_message=str(away.error)[:500])

    # Any: columns of several types.
    async def _note_source(self, name: str, **values: Any) -> None:
        await self._p.sources.note(self._ctx.tenant, self._spec.collection, name, **values)

    async def _save(self, records: Sequence[StoredDocument]) -> None:
        replaced = await self._p.documents.save(self._ctx.tenant, records, embedder=self._p.embedder.id)
        for digest in replaced:
            await self._p.blobs.delete(self._ctx.tenant, digest)

    async def _tell(self, done: int, message: str) -> None:
        if self._progress is not None:
            await self._progress(Progress(done, self._total, message))
