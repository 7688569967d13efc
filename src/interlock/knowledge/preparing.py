"""One shaped document becomes what is stored of it: compared with those before it, and cut into passages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from interlock.core.canonical import digest_bytes
from interlock.core.errors import InvalidInput
from interlock.core.ids import DocumentId, TenantId
from interlock.knowledge.analysers import VERSION as ANALYSER
from interlock.knowledge.cleaning.boilerplate import Counting
from interlock.knowledge.cleaning.layout import decode_layout
from interlock.knowledge.cleaning.store import Cleaned
from interlock.knowledge.cleaning.types import Decision
from interlock.knowledge.ports import SourceItem
from interlock.knowledge.records import Recorder
from interlock.knowledge.shaping import Cutter, Shaped
from interlock.knowledge.sources import Source, SourceSpec
from interlock.knowledge.store import StoredDocument, document_id
from interlock.knowledge.types import Chunk, LoadedDocument

__all__ = ["Copies", "Prepared", "Preparer", "again", "hide", "passages_digest"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One document that waits for its batch."""

    record: StoredDocument
    cleaned: Cleaned
    """Its `passages_digest` is filled in when it is stored."""
    document: LoadedDocument
    chunks: Sequence[Chunk]
    """Empty when nothing of it is to be found."""
    tokens: int
    """Of all chunks, as the embedder counts them."""
    raw: bytes = b""
    """What is kept of the original; empty for nothing."""
    boxes: bytes = b""
    outcome: str = "again"
    """``added``, ``changed``, or ``again`` for passages that are made anew from what is stored."""


def passages_digest(chunks: Sequence[Chunk], record: StoredDocument, embedder: str) -> str:
    """Changes when the passages in the index must be written again; empty for none."""
    if not chunks:
        return ""
    info = record.info
    digest = hashlib.sha256("\0".join([ANALYSER, embedder, info.text_digest, *info.languages]).encode())
    for chunk in chunks:
        place = f"\0{chunk.span.start}\0{chunk.span.end}\0{chunk.page}\0{chunk.heading}\0{chunk.search_text}"
        # What is empty is left out, so that passages of before it was there are not written again.
        digest.update(f"{place}\0{chunk.stressed}".encode() if chunk.stressed else place.encode())
    return digest.hexdigest()


class Copies:
    """Documents with the same words that are found already, so that copies of them need not be embedded first."""

    def __init__(self, known: Mapping[DocumentId, StoredDocument], rows: Mapping[DocumentId, Cleaned]) -> None:
        self._by_words: dict[str, list[StoredDocument]] = {}
        for row in rows.values():
            stored = known.get(row.id)
            if stored is not None and row.passages_digest and row.text_digest == stored.info.text_digest:
                self.add(row.signature.exact, stored)

    def add(self, exact: str, stored: StoredDocument) -> None:
        """One more that is found."""
        self._by_words.setdefault(exact, []).append(stored)

    def of(self, exact: str, stored: StoredDocument) -> StoredDocument | None:
        """One that all of the readers may find in its place. The end of the run chooses again among all of them."""
        for other in self._by_words.get(exact, ()):
            if other.info.id != stored.info.id and stored.info.readers <= other.info.readers:
                return other
        return None


class Preparer:
    """Prepares the documents of one run, one at a time; CPU only.

    Args:
        tenant: whose documents they are.
        spec: of the collection.
        cutter: makes passages.
        recorder: makes registry rows.
        decisions: what people said about texts.
        copies: of the collection; None where copies are not looked for.
        counting: of what documents repeat; None where nothing is left out.
    """

    def __init__(
        self,
        tenant: TenantId,
        spec: SourceSpec,
        cutter: Cutter,
        recorder: Recorder,
        *,
        decisions: Mapping[tuple[DocumentId, str], Decision],
        copies: Copies | None,
        counting: Counting | None,
    ) -> None:
        self._tenant = tenant
        self._spec = spec
        self._cutter = cutter
        self._recorder = recorder
        self._decisions = decisions
        self._copies = copies
        self._counting = counting

    def repeated(self, source: str) -> frozenset[bytes]:
        """Blocks that documents of a source repeat so far: a guess at what the next ones leave out."""
        return self._counting.repeated(source) if self._counting is not None else frozenset()

    def prepare(
        self,
        source: Source,
        path: str,
        item: SourceItem,
        raw: bytes,
        shaped: Shaped,
        *,
        fingerprint: str,
        is_new: bool,
    ) -> Prepared:
        """What is stored of a document.

        Raises: InvalidInput: it has no text, or a passage is too long.
        """
        document = shaped.document
        identity = document_id(self._tenant, self._spec.collection, path)
        decision = self._decisions.get((identity, shaped.text_digest))
        facts = replace(shaped.facts, decision=decision.verdict if decision else "")
        keeps = source.policy.keeps_originals
        record = self._recorder.parsed(
            path,
            source.name,
            item,
            document,
            raw,
            passages=0,
            languages=shaped.languages,
            quality=shaped.quality,
            boxes_digest=digest_bytes(shaped.boxes) if shaped.boxes else "",
            fingerprint=fingerprint,
            cleaning=facts,
            keeps_original=keeps,
        )
        signature = shaped.signature
        hides = facts.held
        if self._copies is not None and not hides:
            found = self._copies.of(signature.exact, record) if signature.words else None
            if found is not None:
                hides = True
                facts = replace(facts, duplicate_of=found.info.id, duplicate_digest=found.info.text_digest)
        gone: frozenset[bytes] = frozenset()
        chunks: Sequence[Chunk] = ()
        tokens = 0
        if self._counting is not None and not hides:
            gone = self._counting.add((source.name, record.info.readers), shaped.blocks)
        if hides:
            if not document.text.strip():
                raise _empty(path)
        else:
            is_cut = shaped.cut is not None and shaped.cut.gone == gone
            cut = shaped.cut if is_cut and shaped.cut else self._cutter.cut(document, gone, path)
            chunks, tokens = cut.chunks, cut.tokens
            if not chunks:
                raise _empty(path)
            if self._copies is not None:
                self._copies.add(signature.exact, record)
        facts = replace(facts, left_out=len(gone))
        record = record._replace(info=replace(record.info, passages=len(chunks), cleaning=facts))
        cleaned = Cleaned(identity, shaped.text_digest, "", signature, shaped.blocks, gone, shaped.layout)
        outcome = "added" if is_new else "changed"
        return Prepared(record, cleaned, document, chunks, tokens, raw if keeps else b"", shaped.boxes, outcome)


def again(stored: StoredDocument, cleaned: Cleaned, text: str, cutter: Cutter) -> Prepared:
    """A stored document cut anew, without what `cleaned` leaves out; CPU only. Raises: InvalidInput."""
    document = decode_layout(cleaned.layout, text)
    cut = cutter.cut(document, cleaned.left_out, stored.info.source)
    record = stored._replace(info=replace(stored.info, passages=len(cut.chunks)))
    return Prepared(record, cleaned, document, cut.chunks, cut.tokens)


def hide(stored: StoredDocument, cleaned: Cleaned) -> Prepared:
    """A stored document that is to be found no more; its text stays."""
    empty = LoadedDocument("", (), stored.info.title, stored.info.media_type)
    return Prepared(stored._replace(info=replace(stored.info, passages=0)), cleaned, empty, (), 0)


def _empty(path: str) -> InvalidInput:
    return InvalidInput(f"the file {path!r} has no text", param=path, code="empty_document")
