"""What a run writes into the registry about one file."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from interlock.core.canonical import digest_bytes
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError, MissingExtra
from interlock.knowledge.quality import Quality
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.store import StoredDocument, document_id
from interlock.knowledge.types import DocumentInfo, LoadedDocument, PageReview

__all__ = ["Recorder"]


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

    def with_facts(self, known: StoredDocument) -> StoredDocument:
        """The row with the readers and metadata the source gives it now."""
        source = known.info.source
        facts = {**known.own_metadata, **self._spec.facts_of(source)}
        return known._replace(info=replace(known.info, readers=self._spec.readers_of(source), metadata=facts))

    def parsed(
        self,
        source: str,
        document: LoadedDocument,
        raw: bytes,
        *,
        passages: int,
        languages: tuple[str, ...],
        quality: Quality,
        boxes_digest: str,
        fingerprint: str,
    ) -> StoredDocument:
        """The row of a file that was read."""
        digest = digest_bytes(raw)
        info = replace(
            self._blank(source),
            title=document.title,
            media_type=document.media_type,
            raw_digest=digest,
            text_digest=digest_bytes(document.text.encode()),
            size_bytes=len(raw),
            pages=document.pages,
            passages=passages,
            languages=languages,
            quality=quality.score,
            review=quality.review,
            state="ok",
            ingested_at=now(),
            fingerprint=fingerprint,
            seen_digest=digest,
        )
        return self.with_facts(StoredDocument(info, dict(document.metadata), boxes_digest))

    def without_text(self, source: str, raw: bytes, *, fingerprint: str) -> StoredDocument:
        """The row of a file that is in order and holds no text: nothing to find, and something to look at."""
        info = replace(
            self._blank(source),
            size_bytes=len(raw),
            state="ok",
            review=(PageReview(None, 0.0, ("no_text",)),),
            fingerprint=fingerprint,
            seen_digest=digest_bytes(raw),
        )
        return self.with_facts(StoredDocument(info, {}))

    def failed(
        self, source: str, known: StoredDocument | None, raw: bytes, error: InterlockError, *, fingerprint: str
    ) -> StoredDocument:
        """The row of a file that could not be read; an older version stays what passages point into."""
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
        return self.with_facts(before._replace(info=info))

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
