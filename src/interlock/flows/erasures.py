"""Erase documents, a source, or everything about a person, everywhere, and certify it.

Order: nobody brings it back (tombstones), nobody finds it (index), nothing holds it (blobs, registry, entries of
snapshots), nobody is told it again (caches, stored responses); then every place is looked at once more, and what was
seen is signed. Whatever stops it in the middle, asking again does the rest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec

from interlock.core.audit import AuditEvent
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, NotFound
from interlock.core.ids import DocumentId
from interlock.flows.cache import forget_answers
from interlock.flows.erase import erase_kept
from interlock.flows.parts import Parts
from interlock.gateway.cache.types import Purge
from interlock.governance.certificates import Certificate
from interlock.knowledge.history.types import Target

__all__ = ["Erasure", "erase", "plan_erasure"]

KIND = "erasure"
_REMAINS = (
    "backups made before this moment hold what they held; they are removed by their own retention",
    "the audit log names what was erased by its id, which is a digest, and holds no content",
)
_IN_FILES = (
    "bytes of removed rows may stay in the database's files until it writes over them: an older state was being read, "
    "or the database is a server's and does it at its next vacuum"
)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What to erase. One of the three kinds."""

    kind: Literal["document", "source", "subject"]
    value: str
    """A document's id, a source's name, or the id of a person: an end user, or whom documents name as `subject`."""
    collection: str = ""
    """Of a source."""


async def plan_erasure(parts: Parts, ctx: Context, what: Erasure) -> list[Target]:
    """The documents that `erase` would remove, by id. Needs the role operator. Raises: NotFound, Forbidden."""
    ctx.require(Role.OPERATOR)
    history = parts.knowledge.history
    if what.kind == "document":
        return [await history.target(ctx, DocumentId(what.value))]
    if what.kind == "source":
        return await history.targets_of_source(ctx, what.collection, what.value)
    return await history.targets_of_subject(ctx, what.value)


async def erase(parts: Parts, ctx: Context, what: Erasure) -> Certificate:
    """Do it, look again, and give the signed certificate. Needs the role operator; audited, refusals too.

    Raises: NotFound: no such document, or a source that brought nothing; Forbidden; whatever a store raises: then
    nothing is certified, and asking again goes on where it stopped.
    """
    event = AuditEvent(ctx.tenant, ctx.principal.id, "knowledge.erase", what.kind, "ok", trace_id=ctx.trace_id)
    try:
        with ctx.span("knowledge.erase", kind=what.kind) as (span, inner):
            certificate = await _erase(parts, inner, what)
            span.set(documents=len(_listed(certificate)))
    except InterlockError as error:
        await parts.governance.append(_ended(event, error.code, {}))
        raise
    details: dict[str, str | int | bool] = {"certificate": certificate.id, "documents": len(_listed(certificate))}
    await parts.governance.append(_ended(event, "ok", details))
    return certificate


async def _erase(parts: Parts, ctx: Context, what: Erasure) -> Certificate:
    targets = await plan_erasure(parts, ctx, what)
    if not targets and what.kind == "source":
        raise NotFound(f"no document came from a source {what.value!r} of {what.collection!r}", param="source")
    history = parts.knowledge.history
    ids = [target.id for target in targets]
    questions = await parts.knowledge.questions.count_of(ctx, ids)
    blobs = await history.erase(ctx, targets)
    answers = 0
    for target in ids:
        answers += await forget_answers(parts, ctx, Purge(document=target))
    stored = await parts.kept.forget_mentions(ctx.tenant, ids) if ids else 0
    results = await parts.kept.forget_results(ctx.tenant, ids) if ids else 0
    person = what.value if what.kind == "subject" else None
    # Runs of evaluations are the workspace's own, and so of its own tenant.
    has_runs = ctx.tenant == parts.access.local_owner().tenant
    evaluated = await parts.evaluations.forget(ids, person) if has_runs and (ids or person is not None) else 0
    reviewed = await parts.reviews.forget(ctx, ids, person) if ids or person is not None else 0
    sampled = await parts.monitors.forget(ctx, ids, person) if ids or person is not None else 0
    if what.kind == "subject":
        kept = await erase_kept(parts, ctx, user=what.value)
        answers, stored = answers + kept.answers, stored + kept.stored
        questions += await parts.knowledge.questions.forget_user(ctx, what.value)
    written_over = await history.scrub(ctx)
    left = await history.left_of(ctx, targets, blobs)
    left["batch_results"] = await parts.kept.forget_results(ctx.tenant, ids, count_only=True) if ids else 0
    left["evaluations"] = await parts.evaluations.mentions(ids, person) if has_runs else 0
    left["review_items"] = await parts.reviews.mentions(ctx, ids, person)
    left["monitor_samples"] = await parts.monitors.mentions(ctx, ids, person)
    left["questions"] = await parts.knowledge.questions.count_of(ctx, ids)
    content: dict[str, object] = {
        "by": ctx.principal.id,
        "asked": {"kind": what.kind, "value": _name(what), "collection": what.collection},
        "documents": [
            {"id": target.id, "collection": target.collection, "passages": target.passages} for target in targets
        ],
        "removed": {
            "blobs": blobs,
            "cached_answers": answers,
            "stored_responses": stored,
            "batch_results": results,
            "questions": questions,
            "evaluations": evaluated,
            "review_items": reviewed,
            "monitor_samples": sampled,
        },
        "looked_at_again": left,
        "complete": not any(left.values()),
        "remains": [*_REMAINS, *(() if written_over else (_IN_FILES,))],
    }
    return await parts.governance.certificates.issue(ctx, KIND, content)


def _name(what: Erasure) -> str:
    """A person is named by a digest: the certificate must not be the last place that knows the name."""
    if what.kind != "subject":
        return what.value
    return "sha256:" + hashlib.sha256(what.value.encode()).hexdigest()


def _listed(certificate: Certificate) -> list[object]:
    documents = certificate.content["documents"]
    assert isinstance(documents, list)
    return documents


def _ended(event: AuditEvent, outcome: str, details: dict[str, str | int | bool]) -> AuditEvent:
    return msgspec.structs.replace(event, outcome=outcome, details={**event.details, **details})
