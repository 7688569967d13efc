"""One ingest run: mirror a source into a collection, doing only the work that changes require.

Order of a run: rights that the file changed; then source by source and page by page rights, deletions, content in
batches, and last the cursor. Order of a batch: blobs, index (one transaction), registry. A crash between two steps
leaves the previous version findable, or the new one complete; the next run finds the registry unchanged and does the
batch again, which is idempotent.

Files are read and batches embedded on an executor (`stores/compute`), while earlier batches are stored. What depends on
the order of documents is decided here, in that order, and batches are stored in it: the outcome is the same on any
executor.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import anyio
from anyio import to_thread

from interlock.core.canonical import digest_bytes, digest_json
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import (
    InterlockError,
    InvalidInput,
    Misconfigured,
    MissingExtra,
    NotFound,
    TooLarge,
    Unavailable,
)
from interlock.core.ids import DocumentId, SnapshotId
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import VERSION as ANALYSER
from interlock.knowledge.beside import Beside, Conveyor, Promise
from interlock.knowledge.cleaning.boilerplate import Blocks, Counting
from interlock.knowledge.cleaning.normalise import VERSION as NORMAL
from interlock.knowledge.cleaning.policy import REFUSED
from interlock.knowledge.cleaning.ports import ContextWriter, Scanner
from interlock.knowledge.cleaning.signatures import VERSION as SIGNATURE
from interlock.knowledge.cleaning.store import CleanedStore
from interlock.knowledge.committing import Committer, Made
from interlock.knowledge.connectors import connectors
from interlock.knowledge.contexts import Contexts
from interlock.knowledge.desk import Embedded, ReadTask, embed, read
from interlock.knowledge.detection import loader_for
from interlock.knowledge.history.restoring import Restorer
from interlock.knowledge.history.store import HistoryStore
from interlock.knowledge.listing import Listed, ListedPage, Listing, SourceAway, suffix_of
from interlock.knowledge.loaders import find_loader, loaders
from interlock.knowledge.ports import Chunker, Connector, CursorExpired, ReportProgress, SourceItem, Surroundings
from interlock.knowledge.preparing import Copies, Prepared, Preparer
from interlock.knowledge.records import Recorder
from interlock.knowledge.removals import Removals
from interlock.knowledge.settings import KnowledgeSettings
from interlock.knowledge.settling import changes, prepared, unlinked
from interlock.knowledge.shaping import Cutter, Shaped
from interlock.knowledge.source_store import SourceState, SourceStore
from interlock.knowledge.sources import Source, SourceSpec
from interlock.knowledge.spaces.service import Beside as OtherSpaces
from interlock.knowledge.store import DocumentStore, Noted, StoredDocument, document_id
from interlock.knowledge.transcripts import LOADER, NOT_NOW, Transcriber, encode_transcript
from interlock.knowledge.types import FileFailure, IngestReport, Progress, SourceFailure
from interlock.stores.blob.base import Blobs
from interlock.stores.compute.base import Executor, WorkerLost
from interlock.stores.index.base import Index, IndexRow, IndexScope

__all__ = ["IngestRun", "Pipeline"]

_REMOVE_AT_ONCE = 200
_AHEAD = 16
"""Files a worker that are read ahead of the one whose turn it is."""
_AHEAD_BYTES = 64 * 1024 * 1024
_RESTORE_AT_ONCE = 500
"""Passages of one transaction."""
_OWN_FAULT = frozenset({"worker_lost", "worker_memory"})
"""Codes of workers' ends that a file may have caused."""
_NOTHING_TO_READ = frozenset({"no_text_in_picture", "nothing_said"})
"""Codes of files that are in order and hold no text: they are remembered, but no failure of the run."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything a run works with."""

    documents: DocumentStore
    blobs: Blobs
    index: Index
    embedder: Embedder
    """Of the space that answers."""
    scope: IndexScope
    beside: OtherSpaces
    """Spaces that do not answer."""
    chunker: Chunker
    settings: KnowledgeSettings
    sources: SourceStore
    history: HistoryStore
    environ: Mapping[str, str]
    """Where connectors find their secrets."""
    cleaned: CleanedStore
    scanner: Scanner | None
    """None looks for nothing in documents."""
    contexts: ContextWriter | None = None
    """Of this run; None writes no contexts."""
    transcriber: Transcriber | None = None
    """Of this run; None fails recordings."""


@dataclass(slots=True)
class _Tally:
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    updated_facts: int = 0
    deleted: int = 0
    kept_out: int = 0
    restored: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """By suffix."""
    passages: int = 0
    tokens: int = 0
    failed: list[FileFailure] = field(default_factory=list)
    away: list[SourceFailure] = field(default_factory=list)


@dataclass(slots=True)
class _Begun:
    """A listed item on its way: it is read, or there is a reason why not."""

    listed: Listed
    known: StoredDocument | None
    loader: str
    fingerprint: str
    raw: bytes = b""
    reading: Promise[Shaped] | None = None
    error: InterlockError | None = None
    is_unchanged: bool = False
    """With neither of the three it is kept out."""


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
        is_held: bool = False,
        allow_removals: bool = False,
    ) -> None:
        self._p = pipeline
        self._is_held = is_held
        self._allow_removals = allow_removals
        self._ctx = ctx
        self._spec = spec
        self._progress = progress
        self._scope = pipeline.scope
        self._tally = _Tally()
        self._known: dict[str, StoredDocument] = {}
        self._only = only
        self._names = {source.name for source in spec.sources}
        self._checked: list[DocumentId] = []
        self._noted: list[Noted] = []
        self._taken: dict[str, str] = {}
        """Source of every path that this run listed."""
        self._fingerprints: dict[tuple[str, str], str] = {}
        """By loader and source."""
        self._policies = {source.name: self._policy_of(source) for source in spec.sources}
        self._done = 0
        self._trusts_versions = True
        self._pending: list[Prepared] = []
        self._preparer: Preparer | None = None
        wanted = spec.cleaning.context
        reserve = wanted.max_tokens if wanted else 0
        self._cutter = Cutter(pipeline.chunker, pipeline.embedder, reserve=reserve)
        self._contexts = (
            Contexts(wanted, pipeline.cleaned, pipeline.embedder, pipeline.contexts) if wanted is not None else None
        )
        self._committer = Committer(
            pipeline.documents,
            pipeline.cleaned,
            pipeline.blobs,
            pipeline.index,
            pipeline.embedder,
            self._scope,
            pipeline.beside,
            self._embed,
        )
        self._executor: Executor | None = None
        self._beside = Beside()
        self._conveyor: Conveyor[Sequence[Prepared], Made] | None = None
        self._begun: deque[_Begun] = deque()
        self._writing = anyio.Lock()
        """One write of blobs and their registry rows at a time: an object that one has put and not yet named in the
        registry must not be deleted by the other as nobody's."""
        self._started = now()
        self._recorder = Recorder(ctx, spec, self._started)
        self._total = 0
        self._lost: set[DocumentId] = set()
        """Documents whose passages the index lost and that nothing kept could replace: they are read as if new."""
        self._kept_out: frozenset[DocumentId] = frozenset()
        self._restorer = Restorer(pipeline.documents, pipeline.blobs, embedder=pipeline.embedder.id)

    async def run(self, executor: Executor) -> SnapshotId | None:
        """Do it. Gives the collection's snapshot id when nothing changed and one was recorded, else None.

        Args:
            executor: of the units `desk.read` and `desk.embed`.
        """
        self._executor = executor
        # A model that is here uses this process's threads already: two batches of it would only be in each other's way.
        self._embedding = anyio.Semaphore(1 if executor.kind == "inline" else executor.workers + 1)
        self._conveyor = Conveyor(self._beside, make=self._make, store=self._store, room=executor.workers + 1)
        async with self._beside:
            return await self._run()

    async def _run(self) -> SnapshotId | None:
        for name in self._spec.reads.values():
            loaders.get(name)  # a name that is nobody's fails the run, not each file
        self._check_policies()
        held = await self._passages_held()
        self._known = {
            d.info.source: d for d in await self._p.documents.documents(self._ctx.tenant, self._spec.collection)
        }
        if held < sum(stored.info.passages for stored in self._known.values()):
            self._lost = set(await self.restore())
        self._lost |= await self._unshaped()
        self._kept_out = await self._p.history.kept_out(self._ctx.tenant, self._spec.collection)
        await self._apply_facts()
        if not self._is_held:
            # Before their documents go: a cursor that outlives them would never bring them back.
            await self._p.sources.keep_only(self._ctx.tenant, self._spec.collection, self._names)
        asked = [source for source in self._spec.sources if self._only in {None, source.name}]
        states = await self._p.sources.states(self._ctx.tenant, self._spec.collection)
        away: list[SourceAway] = []
        for source in asked:
            try:
                await self._mirror(source, states.get(source.name, SourceState()))
            except SourceAway as error:
                away.append(error)
                await self._note_away(error)
        if not away and self._only is None and not self._is_held:
            await self._remove([known for known in self._known.values() if self._is_orphan(known)])
        if not self._is_held:
            await self._settle()
        await self._p.documents.mark_checked(self._ctx.tenant, self._checked, self._started)
        await self._p.documents.note(self._ctx.tenant, self._noted)
        if away and len(away) == len(asked):
            raise away[0].error from away[0]
        self._tally.away = [SourceFailure(a.source, a.error.code, str(a.error)) for a in away]
        await self._tell(self._total, "done")
        state = await self._p.documents.collection(self._ctx.tenant, self._spec.collection)
        return state.snapshot_id if state else None

    async def _unshaped(self) -> set[DocumentId]:
        """What going back to a snapshot wrote: nothing is known of it that comparing documents needs."""
        tenant, collection = self._ctx.tenant, self._spec.collection
        state = await self._p.documents.collection(tenant, collection)
        if state is None or state.settled or self._is_held:
            return set()
        shaped = await self._p.cleaned.shaped(tenant, collection)
        return {s.info.id for s in self._known.values() if s.info.text_digest and s.info.id not in shaped}

    async def _passages_held(self) -> int:
        """Passages in the index. A damaged file is removed: it is derived from what is kept, and lies in part."""
        try:
            await self._p.index.check(self._ctx.tenant)
            return (await self._p.index.stats(self._scope)).passages
        except Unavailable as error:
            if error.code != "corrupt_index":
                raise
            await self._p.index.drop(self._ctx.tenant)
            return 0

    async def rebuild(self) -> list[DocumentId]:
        """Put everything into the index again, without a parser or a model; gives what was not kept."""
        for known in await self._p.documents.documents(self._ctx.tenant, self._spec.collection):
            self._known[known.info.source] = known
        await self._passages_held()
        return await self.restore()

    async def restore(self) -> list[DocumentId]:
        """Put every known document into the index again from what was kept; gives those of which nothing was."""
        missing: list[DocumentId] = []
        rows: list[IndexRow] = []
        searchable = [known.info for known in self._known.values() if known.info.passages]
        for done, info in enumerate(searchable, 1):
            kept = await self._restorer.kept(self._ctx.tenant, info)
            own = None if kept is None else await self._restorer.rows(self._ctx.tenant, info, kept)
            if own is None:
                missing.append(info.id)
            else:
                rows.extend(own)
                self._tally.restored += 1
            if len(rows) >= _RESTORE_AT_ONCE or done == len(searchable):
                await self._p.index.apply(self._scope, upsert=rows, delete=())
                await self._p.beside.follow({row.document_id for row in rows})
                rows = []
            if self._progress is not None:
                await self._progress(Progress(done, len(searchable), "put into the index again"))
        return missing

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
            restored=t.restored,
            kept_out=t.kept_out,
            set_back=self._is_held,
            **self._standing(),
        )

    def _standing(self) -> dict[str, int]:
        """What cleaning leaves in the collection."""
        facts = [known.info.cleaning for known in self._known.values()]
        return {
            "held": sum(fact.held for fact in facts),
            "flagged": sum(fact.flagged for fact in facts),
            "redacted": sum(fact.redacted for fact in facts),
            "repaired": sum(fact.repaired for fact in facts),
            "duplicates": sum(fact.duplicate_of is not None for fact in facts),
            "versions": sum(fact.versions is not None for fact in facts),
            "left_out": sum(fact.left_out for fact in facts),
            "without_context": sum(fact.without_context for fact in facts),
        }

    def _check_policies(self) -> None:
        """Raises: Misconfigured: a policy could not be kept here."""
        for source in self._spec.sources:
            if source.policy.acts and self._p.scanner is None:
                raise Misconfigured(
                    f"the source {source.name!r} wants its documents scanned, and this service has no scanner",
                    param="sources.pii",
                    hint="give the service a scanner, or set pii, secrets and injection to allow or flag",
                )

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
        await self._save_facts(changed)
        self._tally.updated_facts = len(changed)

    async def _settled(self) -> None:
        """Wait for batches on their way: what is done to documents next must not be done beside storing them."""
        if self._conveyor is not None:
            await self._conveyor.drain()

    async def _save_facts(self, changed: Sequence[StoredDocument]) -> None:
        """Other readers or metadata. Links to what somebody may read no more are gone with the right."""
        closed = [r for r in changed if r.info.readers != self._known[r.info.source].info.readers]
        apart = {} if not closed else {s.info.source: s for s in unlinked(self._known, closed)}
        records = {record.info.source: record for record in changed}
        for source, stored in apart.items():
            versions_gone = records.get(source, stored)
            cleaning = stored.info.cleaning
            records[source] = self._recorder.with_facts(
                versions_gone._replace(info=replace(versions_gone.info, cleaning=cleaning))
            )
        self._known.update(records)
        await self._save(list(records.values()))

    async def _mirror(self, source: Source, state: SourceState) -> None:
        """One source. Raises: SourceAway."""
        config = source.digest()
        full = self._must_be_full(source, state, config)
        # Under other fields the same version may be other text: it is fetched again, and its digest decides.
        self._trusts_versions = state.config in {"", config}
        if not state.config:
            await self._note_source(source.name, config=config)
        connector = self._open(source)
        try:
            listing = Listing(source, connector, max_bytes=self._p.settings.max_file_bytes, loaders=self._spec.reads)
            try:
                cursor, complete = await self._follow(source, listing, None if full else state.cursor)
            except CursorExpired:
                full = True
                cursor, complete = await self._follow(source, listing, None)
        finally:
            await connector.aclose()
        if self._is_held:
            return
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
        if self._lost or self._is_held or state.cursor is None or state.config != config or state.full_at is None:
            return True
        # A clock that was set back must not put the next full listing off.
        if not timedelta(0) <= self._started - state.full_at < source.full_every:
            return True
        return any(known.origin == source.name and self._must_be_read_again(known) for known in self._known.values())

    def _must_be_read_again(self, known: StoredDocument) -> bool:
        info = known.info
        if info.state == "failed" and not info.seen_digest and not known.version:
            # Too large stays too large; a library may be there by now, a file be readable.
            return info.error_code != TooLarge.code
        named = known.name_hint or info.source
        loader = find_loader(named, self._spec.reads)
        if loader is None or suffix_of(named) in self._spec.reads:
            return loader is not None and info.fingerprint != self._fingerprint(loader, known.origin)
        # What was read by its content has another loader's fingerprint than its name says.
        return info.fingerprint not in self._current_fingerprints(known.origin)

    async def _follow(self, source: Source, listing: Listing, cursor: str | None) -> tuple[str | None, bool]:
        """Do what the pages say; gives the last cursor, and whether everything was listed.

        What is gone goes where the listing may be gone on with, or ends: only then it is known how much that is.
        """
        seen: set[str] = set()
        gone: dict[str, StoredDocument] = {}
        refusal: InterlockError | None = None
        removals = Removals(source, self._held_by(source), allowed=self._allow_removals)
        last, complete = cursor, False
        async with aclosing(listing.pages(cursor)) as pages:
            async for page in pages:
                self._tally.skipped.update(page.skipped)
                self._total += len(page.items)
                page = self._without_values(source, page)
                self._claim(source, page)
                seen.update(listed.path for listed in page.items)
                await self._apply_listed(source, page)
                complete = page.complete and cursor is None
                if self._is_held:
                    continue
                gone |= {known.info.source: known for known in self._gone(source, page, seen if complete else None)}
                gone = {path: known for path, known in gone.items() if path not in seen or path in page.removed}
                if page.certain:
                    removals.confirm()
                if complete or page.cursor is not None:
                    refusal = refusal or removals.refusal(gone, seen)
                    if refusal is None:
                        await self._remove(list(gone.values()))
                        gone = {}
                await self._take_content(source, listing, page.items)
                last = page.cursor or last
                if cursor is not None and page.cursor is not None and refusal is None:
                    await self._drain()
                    await self._note_source(source.name, cursor=page.cursor)
        refusal = refusal or removals.refusal(gone, seen)
        if refusal is not None:
            raise SourceAway(source.name, refusal)
        await self._remove(list(gone.values()))
        await self._drain()
        return last, complete

    def _without_values(self, source: Source, page: ListedPage) -> ListedPage:
        """What the source system says beside a document is redacted as the document is."""
        if source.policy.keeps_originals:
            return page

        def told(item: SourceItem) -> SourceItem:
            facts = {key: source.policy.redacted(value, self._p.scanner) for key, value in item.metadata.items()}
            return replace(item, metadata=facts)

        return replace(page, items=[replace(listed, item=told(listed.item)) for listed in page.items])

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

        def is_gone(known: StoredDocument) -> bool:
            if not self._is_of(source, known):
                return False
            path = known.info.source
            return path in page.removed or (seen is not None and path not in seen)

        if seen is None:
            candidates = [self._known[path] for path in page.removed if path in self._known]
        else:
            candidates = list(self._known.values())
        return [known for known in candidates if is_gone(known)]

    def _is_of(self, source: Source, known: StoredDocument) -> bool:
        alone = len(self._spec.sources) == 1
        return known.origin == source.name or (alone and known.origin not in self._names)

    def _held_by(self, source: Source) -> list[str]:
        """What the source had when the run began; of one with a new name what it had under the other one."""
        own = [path for path, known in self._known.items() if known.origin == source.name]
        return own or [path for path, known in self._known.items() if self._is_of(source, known)]

    def _is_orphan(self, known: StoredDocument) -> bool:
        """True of what came from a source that is no longer named, and that no other one has."""
        return known.origin not in self._names and known.info.source not in self._taken

    async def _apply_listed(self, source: Source, page: ListedPage) -> None:
        """Readers and facts that the source system states, before any content is fetched."""
        changed: list[StoredDocument] = []
        await self._settled()
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
        await self._save_facts(changed)
        self._tally.updated_facts += len(changed)

    async def _remove(self, gone: Sequence[StoredDocument]) -> None:
        if gone:
            await self._settled()
        ids = [known.info.id for known in gone]
        for start in range(0, len(ids), _REMOVE_AT_ONCE):
            part = ids[start : start + _REMOVE_AT_ONCE]
            await self._p.index.apply(self._scope, upsert=(), delete=part)
            await self._p.documents.retire(self._ctx.tenant, self._spec.collection, part, embedder=self._p.embedder.id)
        for known in gone:
            self._known.pop(known.info.source, None)
        self._tally.deleted += len(gone)

    async def _take_content(self, source: Source, listing: Listing, wanted: Sequence[Listed]) -> None:
        assert self._executor is not None
        # In this process reading ahead of its turn would only compete with what has it.
        ahead = 0 if self._executor.kind == "inline" else _AHEAD * self._executor.workers
        for listed in wanted:
            await self._tell(self._done, listed.path)
            try:
                self._begun.append(await self._begin(source, listing, listed))
            except SourceAway:
                await self._finish(source, leave=0)
                raise
            await self._finish(source, leave=ahead)
        await self._finish(source, leave=0)

    async def _finish(self, source: Source, *, leave: int) -> None:
        """Take what was begun, in order, until `leave` are left on their way."""
        while len(self._begun) > leave or sum(len(one.raw) for one in self._begun) > _AHEAD_BYTES:
            one = await self._take(source, self._begun.popleft())
            self._done += 1
            if one is not None:
                self._pending.append(one)
            if sum(max(1, len(p.chunks)) for p in self._pending) >= self._p.settings.batch_passages:
                await self._flush()

    async def _flush(self) -> None:
        """Send what is prepared on its way."""
        assert self._conveyor is not None
        pending, self._pending = self._pending, []
        await self._conveyor.put(pending)

    async def _drain(self) -> None:
        """Store all that is prepared."""
        assert self._conveyor is not None
        await self._flush()
        await self._conveyor.drain()

    async def _begin(self, source: Source, listing: Listing, listed: Listed) -> _Begun:
        """Fetch one item and begin to read it. Raises: SourceAway."""
        item, path, known = listed.item, listed.path, self._known.get(listed.path)
        one = _Begun(listed, known, listed.loader, self._fingerprint(listed.loader, source.name))
        read_before = self._is_read(known, one.fingerprint)
        try:
            if item.error is not None:
                raise item.error
            if document_id(self._ctx.tenant, self._spec.collection, path) in self._kept_out:
                return one
            is_same = item.version != "" and self._trusts_versions
            # A version that was listed as failed was never fetched.
            is_same = is_same and not (
                known is not None and known.info.state == "failed" and not known.info.seen_digest
            )
            if known is not None and read_before and is_same and known.version == item.version:
                one.is_unchanged = True
                return one
            one.raw = await listing.fetch(listed)
            # The few whose content contradicts their name take some milliseconds.
            one.loader = loader_for(item.name_hint or path, one.raw, one.loader) or one.loader
            one.fingerprint = self._fingerprint(one.loader, source.name)
            if known is not None and self._is_read(known, one.fingerprint):
                one.is_unchanged = known.info.seen_digest == digest_bytes(one.raw)
            if not one.is_unchanged:
                await self._begin_reading(source, one)
        except (InvalidInput, MissingExtra, NotFound) as error:
            one.error = error
        return one

    async def _begin_reading(self, source: Source, one: _Begun) -> None:
        executor = self._executor
        assert executor is not None
        preparer = self._preparer or await self._begin_preparing()
        task = ReadTask(
            one.loader,
            one.raw,
            one.listed.item.name_hint or one.listed.path,
            one.listed.path,
            source.policy,
            tuple(self._spec.languages),
            None if executor.kind == "inline" else preparer.repeated(source.name),
        )

        async def reading() -> Shaped:
            try:
                given = task if one.loader != LOADER else task._replace(raw=await self._transcribed(one))
                return await executor.run(read, given, urgent=True)
            except (WorkerLost, Unavailable) as error:
                if error.code not in _OWN_FAULT:
                    raise
                # A file that ends workers, or wants more memory than they have, is one failed file.
                raise InvalidInput(
                    f"the parser ended while reading the file {task.path!r}", param=task.path, code="parser_crashed"
                ) from error

        one.reading = self._beside.start(reading)

    async def _transcribed(self, one: _Begun) -> bytes:
        """What is said in a recording, as its loader reads it. Raises: InvalidInput, TooLarge."""
        wanted, transcriber = self._spec.transcription, self._p.transcriber
        if wanted is None or transcriber is None:
            raise InvalidInput(
                f"no model is named that transcribes the recording {one.listed.path!r}",
                param=one.listed.path,
                hint="set transcription.model in the collection's file",
            )
        name = one.listed.item.name_hint or one.listed.path
        with self._ctx.span("knowledge.transcribe", bytes=len(one.raw)) as (span, inner):
            transcript = await transcriber.transcribe(inner, wanted, one.raw, name)
            span.set(seconds=transcript.seconds, segments=len(transcript.segments))
        return encode_transcript(transcript)

    async def _take(self, source: Source, one: _Begun) -> Prepared | None:
        """Prepare one item; None when there is nothing to store. A failure is recorded, not raised."""
        item, path, known = one.listed.item, one.listed.path, one.known
        if one.is_unchanged:
            assert known is not None
            self._note_unchanged(known, source, item)
            return None
        if one.error is None and one.reading is None:
            self._tally.kept_out += 1
            return None
        try:
            if one.reading is None:
                assert one.error is not None
                raise one.error
            shaped = await one.reading.get()
            is_new = known is None or not known.info.text_digest
            preparer = self._preparer or await self._begin_preparing()
            prepared_one = await to_thread.run_sync(
                lambda: preparer.prepare(
                    source, path, item, one.raw, shaped, fingerprint=one.fingerprint, is_new=is_new
                )
            )
        except (InvalidInput, MissingExtra, NotFound) as error:
            await self._record_failure(source, one.listed, one.loader, one.raw, error)
            return None
        if known is not None and not source.policy.keeps_originals and known.info.fingerprint != one.fingerprint:
            await self._forget_versions(known.info.id)
        return prepared_one if self._contexts is None else await self._contexts.added(self._ctx, prepared_one)

    def _is_read(self, known: StoredDocument | None, fingerprint: str) -> bool:
        return known is not None and known.info.fingerprint == fingerprint and known.info.id not in self._lost

    async def _begin_preparing(self) -> Preparer:
        """Once a run, and only when there is something new: an unchanged source compares nothing."""
        p, tenant, collection = self._p, self._ctx.tenant, self._spec.collection
        wants = self._spec.cleaning
        rows = await p.cleaned.rows(tenant, collection)
        stored = {known.info.id: known for known in self._known.values()}
        counted = [
            Blocks(known.info.id, known.info.source, (known.origin, known.info.readers), row.blocks, row.left_out)
            for row in rows.values()
            if (known := stored.get(row.id)) is not None and row.passages_digest
        ]
        self._preparer = Preparer(
            tenant,
            self._spec,
            self._cutter,
            self._recorder,
            decisions=await p.cleaned.decisions(tenant, collection),
            copies=None if wants.duplicates == "off" else Copies(stored, rows),
            counting=Counting(counted) if wants.boilerplate else None,
        )
        return self._preparer

    def _note_unchanged(self, known: StoredDocument, source: Source, item: SourceItem) -> None:
        info = known.info
        self._checked.append(info.id)
        if (known.origin, known.version, known.name_hint) != (source.name, item.version, item.name_hint):
            self._noted.append(Noted(info.id, source.name, item.version, item.name_hint))
        if info.state == "failed":
            self._tally.failed.append(FileFailure(info.source, info.error_code, info.error_message))
        else:
            self._tally.unchanged += 1

    async def _commit(self, pending: Sequence[Prepared]) -> None:
        """Embed and store a batch, and wait for it."""
        await self._store(await self._make(pending))

    async def _make(self, pending: Sequence[Prepared]) -> Made:
        async def tell(message: str) -> None:
            await self._tell(self._done, message)

        return await self._committer.made(pending, tell, rebuild=bool(self._lost))

    async def _store(self, made: Made) -> None:
        async with self._writing:
            written = await self._committer.store(made)
        outcomes = Counter(one.outcome for one in made.batch)
        self._tally.added += outcomes["added"]
        self._tally.changed += outcomes["changed"]
        self._tally.passages += written.passages
        self._tally.tokens += written.tokens

    async def _embed(self, texts: Sequence[str]) -> Embedded:
        assert self._executor is not None
        async with self._embedding:
            found: Embedded = await self._executor.run(embed, list(texts))
        return found

    async def _forget_versions(self, document: DocumentId) -> None:
        """Texts and originals that were stored under another policy hold what this one takes out.

        Before anything new is stored: a crash in between leaves a document that the next run reads again.
        """
        async with self._writing:
            for digest in await self._p.documents.forget_versions(self._ctx.tenant, document):
                await self._p.blobs.delete(self._ctx.tenant, digest)

    async def _settle(self) -> None:
        """Compare the documents of the collection with one another, when anything changed since that was last done."""
        tenant, collection, p = self._ctx.tenant, self._spec.collection, self._p
        wants = digest_json([self._spec.cleaning.model_dump(mode="json", exclude={"context"}), SIGNATURE])
        state = await p.documents.collection(tenant, collection)
        unwritten = self._contexts is not None and any(s.info.cleaning.without_context for s in self._known.values())
        if state is None or (state.settled == f"{state.revision} {wants}" and not unwritten):
            return
        stored = await p.documents.documents(tenant, collection)
        with self._ctx.span("knowledge.settle", documents=len(stored)) as (span, _):
            found = await changes(
                tenant,
                self._spec.cleaning,
                known=stored,
                rows=await p.cleaned.rows(tenant, collection),
                decisions=await p.cleaned.decisions(tenant, collection),
                recorder=self._recorder,
                blobs=p.blobs,
            )
            batch: list[Prepared] = []
            for change in found.needed:
                if change.what == "tell":
                    continue
                one = await prepared(tenant, change, p.cleaned, p.blobs, self._cutter)
                if one is not None:
                    batch.append(one if self._contexts is None else await self._contexts.added(self._ctx, one))
                if sum(1 + len(one.chunks) for one in batch) >= p.settings.batch_passages or (
                    change.what == "hide" and any(one.chunks for one in batch)
                ):
                    # What is to be found stands before what it hides goes.
                    await self._commit(batch)
                    batch = []
            await self._commit(batch)
            await self._save([change.record for change in found.needed if change.what == "tell"])
            span.set(changed=len(found.needed))
        self._known = {s.info.source: s for s in await p.documents.documents(tenant, collection)}
        after = await p.documents.collection(tenant, collection)
        assert after is not None
        await p.documents.settle(tenant, collection, f"{after.revision} {wants}")

    async def _record_failure(
        self, source: Source, listed: Listed, loader: str, raw: bytes, error: InterlockError
    ) -> None:
        path, item, known = listed.path, listed.item, self._known.get(listed.path)
        fingerprint = self._fingerprint(loader, source.name)
        if error.code == NOT_NOW:
            # As if it had not been seen: the next run reads it.
            raw, item = b"", replace(item, version="")
        if error.code in _NOTHING_TO_READ and not (known is not None and known.info.text_digest):
            self._tally.skipped[suffix_of(path)] += 1
            record = self._recorder.without_text(path, source.name, item, raw, fingerprint=fingerprint)
        else:
            self._tally.failed.append(FileFailure(path, error.code, str(error)))
            if error.code == REFUSED and known is not None:
                # Nothing of what is refused stays, and nothing of before, which the policy may have let in.
                await self._p.index.apply(self._scope, upsert=(), delete=[known.info.id])
                await self._forget_versions(known.info.id)
                known = None
            record = self._recorder.failed(
                path, source.name, item, known=known, raw=raw, error=error, fingerprint=fingerprint
            )
        await self._save([record])

    def _fingerprint(self, loader: str, source: str) -> str:
        if (loader, source) not in self._fingerprints:
            self._fingerprints[loader, source] = self._fingerprint_in(loader, source, self._p.embedder.id)
        return self._fingerprints[loader, source]

    def _fingerprint_in(self, loader: str, source: str, space: str) -> str:
        parts = [loaders.get(loader).version, self._p.chunker.version, ANALYSER, space, *self._spec.languages]
        parts += [NORMAL, SIGNATURE, *self._policies[source]]
        context = self._spec.cleaning.context
        parts += [context.model, str(context.max_tokens)] if context else []
        said = self._spec.transcription
        parts += [said.model, said.language, str(said.timestamps)] if said and loader == LOADER else []
        return digest_json(parts)

    def fingerprints_in(self, space: str) -> dict[str, str]:
        """What documents' fingerprints become when another space answers."""
        moved: dict[str, str] = {}
        for source in self._names:
            for name in loaders.names():
                with suppress(MissingExtra):
                    moved[self._fingerprint(name, source)] = self._fingerprint_in(name, source, space)
        return moved

    def _policy_of(self, source: Source) -> list[str]:
        """A policy counts, and the scanner where one looks at anything."""
        looks = self._p.scanner is not None and any(what != "allow" for what in source.policy.by_concern().values())
        return [source.policy.digest(), self._p.scanner.version if looks and self._p.scanner else ""]

    def _current_fingerprints(self, source: str) -> frozenset[str]:
        for name in loaders.names():
            with suppress(MissingExtra):
                self._fingerprint(name, source)
        return frozenset(value for (_, of), value in self._fingerprints.items() if of == source)

    async def _note_away(self, away: SourceAway) -> None:
        # What was read before it broke off is whole.
        await self._drain()
        await self._note_source(away.source, error_code=away.error.code, error_message=str(away.error)[:500])

    # Any: columns of several types.
    async def _note_source(self, name: str, **values: Any) -> None:
        await self._p.sources.note(self._ctx.tenant, self._spec.collection, name, **values)

    async def _save(self, records: Sequence[StoredDocument]) -> None:
        async with self._writing:
            replaced = await self._p.documents.save(self._ctx.tenant, records, embedder=self._p.embedder.id)
            for digest in replaced:
                await self._p.blobs.delete(self._ctx.tenant, digest)

    async def _tell(self, done: int, message: str) -> None:
        if self._progress is not None:
            await self._progress(Progress(done, self._total, message))
