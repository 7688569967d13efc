"""Forget what the gateway keeps of a person or of a whole tenant: answers in the cache, and what callers stored here.

Stored are responses, conversations, files and batches. The ledger and the audit log hold no content; the sealed ids in
the audit log have keys of their own.
"""

from __future__ import annotations

from typing import NamedTuple

from interlock.core.audit import AuditEvent
from interlock.core.context import Context, Role
from interlock.flows.cache import forget_answers
from interlock.flows.parts import Parts
from interlock.gateway.cache.types import Purge

__all__ = ["Erased", "erase_kept"]


class Erased(NamedTuple):
    """What was removed."""

    answers: int
    """In the cache."""
    stored: int
    """Responses, conversations, files and batches."""


async def erase_kept(parts: Parts, ctx: Context, *, user: str | None) -> Erased:
    """Forget what is kept of an end user of the caller's tenant, or with None of the whole tenant.

    What is under way for them is not kept when it is done: an answer that is being written is given to nobody else, a
    batch or a response in the background stops. Needs the role operator; audited.
    """
    ctx.require(Role.OPERATOR)
    # What is stored goes first: what is still running for it then ends before the cache is emptied.
    stored = await (parts.kept.forget_all(ctx.tenant) if user is None else parts.kept.forget(ctx.tenant, user))
    answers = await forget_answers(parts, ctx, Purge(user=user))
    await parts.knowledge.history.scrub(ctx)
    event = AuditEvent(
        ctx.tenant,
        ctx.principal.id,
        "kept.erase",
        "everything" if user is None else "user",
        "ok",
        {"answers": answers, "stored": stored},
        end_user=user or "",
        trace_id=ctx.trace_id,
    )
    await parts.governance.append(event)
    return Erased(answers, stored)
