"""Make labelled questions of a collection: drafts of its passages, weak ones thrown away, the rest for a person.

With a model each passage is one call through the gateway, with a bill, an audit line and the run's budget. Without one,
drafts are of headings, definitions and quantities.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from interlock.core.audit import AuditEvent
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.core.money import Money
from interlock.core.passages import Passage, Span
from interlock.flows.asking_of_passages import Writer, is_found, passages_in_turn
from interlock.flows.parts import Parts
from interlock.knowledge.questions.asking import ask_for, drafts_in
from interlock.knowledge.questions.checks import Known, weakness_of
from interlock.knowledge.questions.drafting import drafts_of
from interlock.knowledge.questions.service import NewQuestion, Place
from interlock.knowledge.questions.types import Draft, Question, Weakness
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.types import Progress

__all__ = ["MOST_QUESTIONS", "Made", "make_questions"]

_log = logging.getLogger("interlock.knowledge")
MOST_QUESTIONS = 2_000
"""Of one run."""
_OUTPUT_TOKENS = 800
_DRAFTS = 3
"""A model is asked for so many questions of a passage; the first good one is kept."""
_TRIES = 6
"""Passages looked at for each question that is wanted."""

Tell = Callable[[Progress], Awaitable[None]]


@dataclass(slots=True)
class Made:
    """What a run gave."""

    questions: list[Question] = field(default_factory=list)
    thrown: Counter[Weakness] = field(default_factory=Counter)
    """Drafts that were too weak, by reason."""
    passages: int = 0
    """Looked at."""
    calls: int = 0
    spent: Money = field(default_factory=Money.zero)
    stopped: str = ""
    """Why it ended before its number: `budget`, an error's code, or `passages` when no more were there."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one run makes, and what it has made."""

    collection: str
    model: str
    user: str
    known: Known
    made: Made


async def make_questions(
    parts: Parts,
    ctx: Context,
    collection: str,
    *,
    count: int,
    model: str = "",
    budget_usd: float = 1.0,
    user: str = "",
    tell: Tell | None = None,
) -> Made:
    """Make up to `count` questions of what `ctx` may read, as proposals. Needs the role developer or operator; audited.

    Args:
        parts: of this process.
        ctx: whose rights decide which documents are asked about.
        collection: which one.
        count: 1 to 2,000.
        model: a route or ``provider/model``; empty for none.
        budget_usd: what the calls of this run may cost together. Of a model without a price nothing is known: then the
            number of calls is the only bound.
        user: the end user `ctx` stands for: the questions are asked as them.
        tell: is told how far it is.

    Raises: Forbidden; InvalidInput; NotFound: nothing readable is there; what the first call of the model raises.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    if not 1 <= count <= MOST_QUESTIONS:
        raise InvalidInput(f"count must be from 1 to {MOST_QUESTIONS}, not {count}", param="count")
    if budget_usd <= 0:
        raise InvalidInput("the budget must be above zero", param="budget")
    knowledge = parts.knowledge
    if knowledge.is_external(ctx, collection):
        raise InvalidInput(
            f"the documents of {collection!r} are in an index elsewhere: questions are made of ingested ones",
            param="collection",
        )
    writer = Writer(parts, model, budget_usd, {"purpose": "questions"}, output_tokens=_OUTPUT_TOKENS) if model else None
    made = Made()
    with ctx.span("knowledge.questions", collection=collection) as (span, inner):
        known = Known(await knowledge.questions.texts(inner, collection))
        wanted = _Wanted(collection, model, user, known, made)
        async with aclosing(passages_in_turn(knowledge, inner, collection, most=count * _TRIES)) as passages:
            async for passage in passages:
                made.passages += 1
                try:
                    drafts = list(drafts_of(passage)) if writer is None else await _written(writer, inner, passage)
                except InterlockError as error:
                    if not made.questions:
                        raise
                    _log.warning("no questions are written any more in this run: %s", error.code)
                    made.stopped = error.code
                    break
                question = await _first_good(knowledge, inner, wanted, passage, drafts)
                if question is not None:
                    made.questions.append(question)
                    known.add(question.text)
                if writer is not None:
                    made.calls, made.spent = writer.calls, writer.spent
                if tell is not None:
                    await tell(Progress(len(made.questions), count, passage.source))
                if len(made.questions) >= count:
                    break
                if writer is not None and writer.is_spent:
                    made.stopped = "budget"
                    break
            else:
                made.stopped = "passages"
        if not made.passages:
            raise NotFound(
                f"the collection {collection!r} has no passage that you may read",
                param="collection",
                hint="ingest it first, or make them as a user who may read it",
            )
        span.set(made=len(made.questions), thrown=made.thrown.total(), calls=made.calls)
    details: dict[str, str | int | bool] = {
        "made": len(made.questions),
        "thrown": made.thrown.total(),
        "model": model,
        "spent_nano": made.spent.nano,
    }
    await parts.governance.append(
        AuditEvent(
            ctx.tenant,
            ctx.principal.id,
            "questions.make",
            collection,
            "ok",
            details,
            end_user=user,
            trace_id=ctx.trace_id,
        )
    )
    return made


async def _first_good(
    knowledge: KnowledgeService, ctx: Context, wanted: _Wanted, passage: Passage, drafts: Sequence[Draft]
) -> Question | None:
    for draft in drafts:
        weakness = weakness_of(draft, passage.text)
        if weakness is None and wanted.known.has(draft.text):
            weakness = "duplicate"
        start = passage.span.start + passage.text.find(draft.quote)
        span = Span(start, start + len(draft.quote))
        place = Place(passage.document_id, passage.document_digest, span, draft.quote)
        if weakness is None and not await is_found(
            knowledge, ctx, wanted.collection, draft.text, document=passage.document_id, span=span
        ):
            weakness = "not_found"
        if weakness is not None:
            wanted.made.thrown[weakness] += 1
            continue
        new = NewQuestion(draft.text, draft.origin, (place,), user=wanted.user, model=wanted.model)
        with suppress(NotFound):  # erased since: nothing of it is stored
            return await knowledge.questions.add(ctx, wanted.collection, new)
    return None


async def _written(writer: Writer, ctx: Context, passage: Passage) -> list[Draft]:
    return drafts_in(await writer.ask(ctx, ask_for(passage, _DRAFTS)))
