"""What a run writes into the registry about one file."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from interlock.core.canonical import digest_bytes
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError, MissingExtra
from interlock.knowledge.cleaning.types import CleaningFacts
from interlock.knowledge.ports import SourceItem
from interlock.knowledge.quality import Quality
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.store import StoredDocument, document_id
from interlock.knowledge.types import DocumentInfo, LoadedDocument, PageReview

__all__ = ["VERSION_KEYS", "Recorder"]


VERSION_KEYS = ("version_group", "version_rank", "newer_version")
"""Metadata that links versions: the thing, ``1 of 3``, and the id of the newest where the order is known."""


def _version_metadata(cleaning: CleaningFacts) -> dict[str, str]:
    linked = cleaning.versions
    if linked is None:
        return {}
    facts = {"version_group": linked.group, "version_rank": f"{linked.rank} of {linked.of}"}
    return {**facts, "newer_version": linked.newer} if linked.newer else facts


class Recorder:
    """Builds registry rows of one source.

    Args:
        ctx: whose tenant the rows belong to.
        spec: decides readers and facts.
        at: when the run started; every row it looks at was checked then.
    """

    def __init__(self, ctx: Context, spec: SourceSpec, at: datetime) -> None:
        self._ctx = ctx
        self._spec = spec
        self._at = at
        self._sources = {source.name: source for source in spec.sources}

    def with_facts(self, known: StoredDocument) -> StoredDocument:
        """The row with the readers and metadata that the spec gives it now."""
        path = known.info.source
        # What is told of versions is found out here: a document cannot say it of itself.
        own = {key: value for key, value in known.own_metadata.items() if key not in VERSION_KEYS}
        facts = {**own, **_version_metadata(known.info.cleaning), **self._spec.facts_of(path)}
        source = self._sources.get(known.origin)
        stated = known.stated
        if stated is not None and source is not None:
            # What is no longer in the map is gone before the source is asked again.
            stated = stated & source.all_readers() if source.readers_from == "source" else None
        readers = self._spec.readers_of(path) if stated is None else stated
        return known._replace(info=replace(known.info, readers=readers, metadata=facts), stated=stated)

    def listed(self, known: StoredDocument, origin: str, item: SourceItem) -> StoredDocument:
        """The row with what its source says about it now; content and version stay."""
        own = {**known.own_metadata, **item.metadata}
        return self.with_facts(
            known._replace(own_metadata=own, origin=origin, name_hint=item.name_hint, stated=item.readers)
        )

    def parsed(
        self,
        source: str,
        origin: str,
        item: SourceItem,
        document: LoadedDocument,
        raw: bytes,
        *,
        passages: int,
        languages: tuple[str, ...],
        quality: Quality,
        boxes_digest: str,
        fingerprint: str,
        cleaning: CleaningFacts,
        keeps_original: bool,
    ) -> StoredDocument:
        """The row of an item that was read."""
        digest = digest_bytes(raw)
        info = replace(
            self._blank(source),
            title=document.title,
            media_type=document.media_type,
            raw_digest=digest if keeps_original else "",
            text_digest=digest_bytes(document.text.encode()),
            size_bytes=len(raw),
            pages=document.pages,
            passages=passages,
            languages=languages,
            quality=quality.score,
            review=quality.review,
            state="held" if cleaning.held else "ok",
            cleaning=cleaning,
            ingested_at=now(),
            fingerprint=fingerprint,
            seen_digest=digest,
        )
        row = StoredDocument(info, dict(document.metadata), version=item.version, boxes_digest=boxes_digest)
        return self.listed(row, origin, item)

    def without_text(
        self, source: str, origin: str, item: SourceItem, raw: bytes, *, fingerprint: str
    ) -> StoredDocument:
        """The row of an item that is in order and holds no text: nothing to find, and something to look at."""
        info = replace(
            self._blank(source),
            size_bytes=len(raw),
            state="ok",
            review=(PageReview(None, 0.0, ("no_text",)),),
            fingerprint=fingerprint,
            seen_digest=digest_bytes(raw),
        )
        return self.listed(StoredDocument(info, {}, version=item.version), origin, item)

    def failed(
        self,
        source: str,
        origin: str,
        item: SourceItem,
        *,
        known: StoredDocument | None,
        raw: bytes,
        error: InterlockError,
        fingerprint: str,
    ) -> StoredDocument:
        """The row of an item that could not be read; an older version stays what passages point into."""
        before = known or StoredDocument(self._blank(source), {})
        # A missing library may be installed tomorrow and an unreadable file repaired: look at those again.
        settled = bool(raw) and not isinstance(error, MissingExtra)
        info = replace(
            before.info,
            state="failed",
            error_code=error.code,
            error_message=str(error),
            checked_at=self._at,
            seen_digest=digest_bytes(raw) if settled else "",
            fingerprint=fingerprint,
        )
        return self.listed(
            before._replace(info=info, version=item.version if settled or item.error else ""), origin, item
        )

    def _blank(self, source: str) -> DocumentInfo:
        return DocumentInfo(
            id=document_id(self._ctx.tenant, self._spec.collection, source),
            collection=self._spec.collection,
            source=source,
            title=source.rsplit("/", 1)[-1],
            media_type="application/octet-stream",
            raw_digest="",
            text_digest="",
            size_bytes=0,
            pages=None,
            passages=0,
            readers=frozenset(),
            metadata={},
            languages=(),
            state="failed",
            error_code="",
            error_message="",
            ingested_at=None,
            checked_at=self._at,
            fingerprint="",
            seen_digest="",
            quality=0.0,
            review=(),
        )
