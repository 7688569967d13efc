"""The end of a run: the documents of a collection are compared with one another, and made to stand as they should.

What is to be found is written first, and what is to be hidden after it: whatever happens in between, one copy is found.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from anyio import to_thread

from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import DocumentId, TenantId
from interlock.knowledge.cleaning.boilerplate import Blocks, left_out
from interlock.knowledge.cleaning.duplicates import Compared, Hidden, adds_nothing, hidden, versions
from interlock.knowledge.cleaning.settings import CleaningSettings
from interlock.knowledge.cleaning.standing import Candidate, standing_of
from interlock.knowledge.cleaning.store import Cleaned, CleanedStore
from interlock.knowledge.cleaning.types import CleaningFacts, Decision
from interlock.knowledge.preparing import Prepared, again, hide
from interlock.knowledge.records import Recorder
from interlock.knowledge.shaping import Cutter
from interlock.knowledge.store import StoredDocument
from interlock.stores.blob.base import Blobs

__all__ = ["Change", "Changes", "changes", "prepared", "state_of", "unlinked"]


class Change(NamedTuple):
    """How one document should stand otherwise than it does."""

    record: StoredDocument
    cleaned: Cleaned
    what: Literal["show", "hide", "tell"]
    """Make its passages, remove them, or only tell other facts."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a collection needs, and how it stands then."""

    needed: Sequence[Change]
    records: Sequence[StoredDocument]
    """All documents, as they stand after it."""


async def changes(
    tenant: TenantId,
    settings: CleaningSettings,
    *,
    known: Sequence[StoredDocument],
    rows: Mapping[DocumentId, Cleaned],
    decisions: Mapping[tuple[DocumentId, str], Decision],
    recorder: Recorder,
    blobs: Blobs,
) -> Changes:
    """Compare the documents of a collection. Reads texts of near copies only, each pair once.

    Args:
        tenant: whose they are.
        settings: of the collection.
        known: all of its documents.
        rows: what they look like; a row of another text than the document's is passed over.
        decisions: of people.
        recorder: makes registry rows.
        blobs: texts.
    """
    present = {s.info.id: s for s in known if _row_of(s, rows) is not None}
    facts = {one: _decided(s, decisions) for one, s in present.items()}
    open_ = [_compared(s, rows[one]) for one, s in present.items() if not facts[one].held]
    gone = await hidden(open_, settings.duplicates, _reader(tenant, blobs))
    shown = [one for one in open_ if one.id not in gone]
    linked = await to_thread.run_sync(versions, shown) if settings.versions else {}
    without = (
        await to_thread.run_sync(left_out, [_blocks(present[one.id], rows[one.id]) for one in shown])
        if settings.boilerplate
        else {}
    )
    needed: list[Change] = []
    records: list[StoredDocument] = [stored for stored in known if stored.info.id not in present]
    for identity, stored in present.items():
        behind = gone.get(identity, Hidden(DocumentId(""), ""))
        leaves = without.get(identity, frozenset())
        fact = replace(
            facts[identity],
            duplicate_of=behind.canonical or None,
            duplicate_digest=behind.digest,
            versions=linked.get(identity),
            left_out=len(leaves),
        )
        info = replace(stored.info, cleaning=fact)
        info = replace(info, state=state_of(info.error_code, fact))
        record = recorder.with_facts(stored._replace(info=info))
        row = replace(rows[identity], left_out=leaves)
        is_shown = identity not in gone and not fact.held
        was_shown = bool(rows[identity].passages_digest)
        records.append(record)
        # What a person released was cut without contexts.
        unwritten = settings.context is not None and (fact.without_context > 0 or fact.decision == "released")
        if is_shown and (not was_shown or unwritten or leaves != rows[identity].left_out):
            needed.append(Change(record, row, "show"))
        elif was_shown and not is_shown:
            needed.append(Change(record, row, "hide"))
        elif record != stored:
            needed.append(Change(record, row, "tell"))
    order = {"show": 0, "hide": 1, "tell": 2}
    return Changes(sorted(needed, key=lambda c: (order[c.what], c.record.info.source)), records)


def state_of(error_code: str, facts: CleaningFacts) -> Literal["ok", "failed", "held"]:
    """What the registry says of a document."""
    return "failed" if error_code else "held" if facts.held else "ok"


async def prepared(
    tenant: TenantId, change: Change, store: CleanedStore, blobs: Blobs, cutter: Cutter
) -> Prepared | None:
    """The document as it is to be stored; None when its text is gone, and the next run reads it again."""
    if change.what == "hide":
        return hide(change.record, change.cleaned)
    full = (await store.by_id(tenant, [change.record.info.id])).get(change.record.info.id)
    if full is None or not full.layout:
        return None
    try:
        text = (await blobs.get(tenant, full.text_digest)).decode()
    except NotFound:
        return None
    row = replace(change.cleaned, layout=full.layout)
    try:
        return await to_thread.run_sync(again, change.record, row, text, cutter)
    except InvalidInput:
        return None  # a run that reads the file tells what is wrong


def unlinked(known: Mapping[str, StoredDocument], changed: Sequence[StoredDocument]) -> list[StoredDocument]:
    """Documents that name versions whose readers changed, without the links: who may know of them is not sure now.

    Args:
        known: by path, as they were before.
        changed: with other readers now.
    """
    before = {stored.info.id: stored for stored in known.values()}
    groups = {
        linked.group
        for stored in changed
        for linked in (stored.info.cleaning.versions, before[stored.info.id].info.cleaning.versions)
        if linked is not None
    }
    found: list[StoredDocument] = []
    for stored in known.values():
        linked = stored.info.cleaning.versions
        if linked is not None and linked.group in groups:
            cleaning = replace(stored.info.cleaning, versions=None)
            found.append(stored._replace(info=replace(stored.info, cleaning=cleaning)))
    return found


def _row_of(stored: StoredDocument, rows: Mapping[DocumentId, Cleaned]) -> Cleaned | None:
    row = rows.get(stored.info.id)
    return row if row is not None and row.text_digest == stored.info.text_digest else None


def _decided(stored: StoredDocument, decisions: Mapping[tuple[DocumentId, str], Decision]) -> CleaningFacts:
    decision = decisions.get((stored.info.id, stored.info.text_digest))
    return replace(stored.info.cleaning, decision=decision.verdict if decision else "")


def _compared(stored: StoredDocument, row: Cleaned) -> Compared:
    info, before = stored.info, stored.info.cleaning
    standing = standing_of(info.title, info.source, info.metadata)
    behind = Hidden(before.duplicate_of, before.duplicate_digest) if before.duplicate_of else None
    candidate = Candidate(info.id, info.source, info.title, info.readers, standing)
    return Compared(candidate, info.text_digest, row.signature, behind)


def _blocks(stored: StoredDocument, row: Cleaned) -> Blocks:
    return Blocks(stored.info.id, stored.info.source, (stored.origin, stored.info.readers), row.blocks, row.left_out)


def _reader(tenant: TenantId, blobs: Blobs) -> Callable[[Compared, Compared], Awaitable[bool]]:
    async def says_nothing_new(document: Compared, canonical: Compared) -> bool:
        try:
            text = (await blobs.get(tenant, document.text_digest)).decode()
            other = (await blobs.get(tenant, canonical.text_digest)).decode()
        except NotFound:
            return False
        return await to_thread.run_sync(adds_nothing, text, other)

    return says_nothing_new
