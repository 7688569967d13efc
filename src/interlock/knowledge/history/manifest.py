"""A snapshot's content: which documents, and for each the digest of everything that decides what is found of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from interlock.core.canonical import canonical_bytes, digest_json
from interlock.core.errors import InvalidInput
from interlock.core.ids import DocumentId, SnapshotId
from interlock.knowledge.cleaning.store import facts_from, facts_to
from interlock.knowledge.history.types import Change, ChangeKind, Entry, SnapshotDiff
from interlock.knowledge.store import StoredDocument
from interlock.knowledge.types import DocumentInfo, PageReview

__all__ = ["compare", "content_of", "entry_of", "manifest_of", "read_manifest", "stored_of"]

_VERSION = 2
_LONG_AGO = datetime.fromtimestamp(0, UTC)


def content_of(stored: StoredDocument) -> dict[str, object]:
    """What an entry says: content, rights and pipeline, and no moment in time."""
    info = stored.info
    return {
        "document": info.id,
        "collection": info.collection,
        "source": info.source,
        "origin": stored.origin,
        "name_hint": stored.name_hint,
        "title": info.title,
        "media_type": info.media_type,
        "raw_digest": info.raw_digest,
        "text_digest": info.text_digest,
        "size_bytes": info.size_bytes,
        "readers": sorted(info.readers),
        "stated_readers": None if stored.stated is None else sorted(stored.stated),
        "metadata": dict(info.metadata),
        "own_metadata": dict(stored.own_metadata),
        "fingerprint": info.fingerprint,
        "pages": info.pages,
        "passages": info.passages,
        "languages": list(info.languages),
        "quality": info.quality,
        "cleaning": facts_to(info.cleaning),
        "review": [[review.page, review.score, list(review.reasons)] for review in info.review],
    }


# Any: a JSON object of our own, as `content_of` wrote it.
def stored_of(content: Mapping[str, Any]) -> StoredDocument:
    """The registry's row that an entry was made of, without the moments: its source's version is unknown."""
    info = DocumentInfo(
        id=DocumentId(content["document"]),
        collection=content["collection"],
        source=content["source"],
        title=content["title"],
        media_type=content["media_type"],
        raw_digest=content["raw_digest"],
        text_digest=content["text_digest"],
        size_bytes=content["size_bytes"],
        pages=content["pages"],
        passages=content["passages"],
        readers=frozenset(content["readers"]),
        metadata=dict(content["metadata"]),
        languages=tuple(content["languages"]),
        state="ok",
        error_code="",
        error_message="",
        ingested_at=None,
        checked_at=_LONG_AGO,
        fingerprint=content["fingerprint"],
        seen_digest=content["raw_digest"],
        quality=content["quality"],
        review=tuple(PageReview(page, score, tuple(reasons)) for page, score, reasons in content["review"]),
        cleaning=facts_from(content["cleaning"]),
    )
    stated = content["stated_readers"]
    return StoredDocument(
        info,
        dict(content["own_metadata"]),
        content["origin"],
        "",
        content["name_hint"],
        None if stated is None else frozenset(stated),
    )


# Any: as of `stored_of`.
def entry_of(content: Mapping[str, Any]) -> Entry:
    """An entry for people and programs."""
    return Entry(
        id=DocumentId(content["document"]),
        source=content["source"],
        title=content["title"],
        text_digest=content["text_digest"],
        readers=frozenset(content["readers"]),
        metadata=dict(content["metadata"]),
        fingerprint=content["fingerprint"],
        passages=content["passages"],
        found_through=facts_from(content["cleaning"]).duplicate_of,
    )


def manifest_of(stored: Sequence[StoredDocument]) -> tuple[bytes, dict[str, tuple[DocumentId, dict[str, object]]]]:
    """The manifest of these documents, and its entries by digest. Its own digest is the snapshot's id."""
    entries: dict[str, tuple[DocumentId, dict[str, object]]] = {}
    listed: list[list[str]] = []
    for one in sorted(stored, key=lambda one: one.info.id):
        content = content_of(one)
        digest = digest_json(content)
        entries[digest] = (one.info.id, content)
        listed.append([one.info.id, digest])
    return canonical_bytes({"version": _VERSION, "documents": listed}), entries


def read_manifest(data: bytes) -> dict[DocumentId, str]:
    """Digest of the entry by document. Raises: InvalidInput: an older product wrote it, without entries."""
    manifest = msgspec.json.decode(data)
    if manifest["version"] != _VERSION:
        raise InvalidInput(
            "this snapshot was recorded by an older version, which kept too little to compare it or go back to it",
            param="snapshot",
            code="snapshot_too_old",
        )
    return {DocumentId(document): digest for document, digest in manifest["documents"]}


def compare(
    collection: str,
    before: tuple[SnapshotId, Mapping[DocumentId, str]],
    after: tuple[SnapshotId, Mapping[DocumentId, str]],
    contents: Mapping[str, Mapping[str, Any]],
) -> SnapshotDiff:
    """Two manifests with what is still known of their entries.

    Args:
        contents: by digest.
    """
    old, new = before[1], after[1]

    def known(digests: Mapping[DocumentId, str], ids: set[DocumentId]) -> list[Entry]:
        found = [entry_of(contents[digests[one]]) for one in ids if digests[one] in contents]
        return sorted(found, key=lambda entry: entry.source)

    same = {one for one in old.keys() & new.keys() if old[one] == new[one]}
    changed: list[Change] = []
    for one in (old.keys() & new.keys()) - same:
        if old[one] in contents and new[one] in contents:
            first, second = entry_of(contents[old[one]]), entry_of(contents[new[one]])
            changed.append(Change(first, second, _kinds(first, second)))
    gone = {one for digests in (old, new) for one, digest in digests.items() if digest not in contents}
    return SnapshotDiff(
        collection,
        before[0],
        after[0],
        added=tuple(known(new, set(new.keys() - old.keys()))),
        removed=tuple(known(old, set(old.keys() - new.keys()))),
        changed=tuple(sorted(changed, key=lambda change: change.after.source)),
        unchanged=len(same - gone),
        erased=len(gone),
    )


def _kinds(before: Entry, after: Entry) -> tuple[ChangeKind, ...]:
    kinds: list[ChangeKind] = []
    if before.text_digest != after.text_digest:
        kinds.append("text")
    if before.readers != after.readers:
        kinds.append("readers")
    if before.metadata != after.metadata or before.title != after.title:
        kinds.append("facts")
    if before.found_through != after.found_through:
        kinds.append("copy")
    if before.fingerprint != after.fingerprint or not kinds:
        kinds.append("pipeline")
    return tuple(kinds)
