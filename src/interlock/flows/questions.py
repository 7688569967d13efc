"""Questions of a collection as people meet them: from files, decided on, shown, written out. Changes are audited."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from interlock.core.audit import AuditEvent
from interlock.core.context import Context
from interlock.core.errors import InterlockError, NotFound
from interlock.core.passages import Span
from interlock.evals.judged import JudgedQuestion
from interlock.flows.parts import Parts
from interlock.flows.question_making import Made
from interlock.knowledge.questions.service import NewQuestion, Place
from interlock.knowledge.questions.types import Question, Verdict

__all__ = [
    "Added",
    "add_questions",
    "as_judged",
    "decide_question",
    "edit_question",
    "judged_of",
    "made_view",
    "question_view",
    "write_beir",
    "write_lines",
]


class Added(NamedTuple):
    """What became of questions that people wrote."""

    added: int
    known: int
    """They were there."""
    unplaced: tuple[str, ...]
    """Ids of those whose documents, or whose quotes in them, whoever asks cannot find."""


async def add_questions(
    parts: Parts,
    collection: str,
    questions: Sequence[JudgedQuestion],
    asker: Callable[[str | None], Context],
) -> Added:
    """Put questions that people wrote beside the others, as accepted. Needs the role developer or operator; audited.

    Args:
        parts: of this process.
        collection: whose documents they name.
        questions: of a file; a quote becomes the span where it first stands.
        asker: the context of a question's user; of None, of whoever adds them.
    """
    knowledge = parts.knowledge
    added = known = 0
    unplaced: list[str] = []
    for question in questions:
        ctx = asker(question.user)
        places = await _places(parts, ctx, collection, question)
        if places is None:
            unplaced.append(question.id)
            continue
        new = NewQuestion(question.text, "person", places, "accepted", question.user or "")
        stored = await knowledge.questions.add(ctx, collection, new)
        added, known = added + (stored is not None), known + (stored is None)
    ctx = asker(None)
    details: dict[str, str | int | bool] = {"added": added, "known": known, "unplaced": len(unplaced)}
    await parts.governance.append(
        AuditEvent(ctx.tenant, ctx.principal.id, "questions.add", collection, "ok", details, trace_id=ctx.trace_id)
    )
    return Added(added, known, tuple(unplaced))


async def _places(parts: Parts, ctx: Context, collection: str, question: JudgedQuestion) -> tuple[Place, ...] | None:
    infos = {info.source: info for info in await parts.knowledge.documents(ctx, collection=collection)}
    found: list[Place] = []
    for source, grade in question.relevant.items():
        info = infos.get(source)
        if info is None or not info.readers & ctx.readers or not info.text_digest:
            return None
        quote, span = question.quotes.get(source, ""), None
        if quote:
            text = await parts.knowledge.document_text(ctx, info.id)
            at = text.text.find(quote)
            if at < 0:
                return None
            span = Span(at, at + len(quote))
        found.append(Place(info.id, info.text_digest, span, quote, grade))
    return tuple(found)


async def decide_question(parts: Parts, ctx: Context, question: str, verdict: Verdict) -> Question:
    """Accept or reject one, and write down who did; errors as of the service, and a refusal leaves a line too."""
    event = AuditEvent(
        ctx.tenant, ctx.principal.id, f"questions.{_DONE[verdict]}", question, "ok", trace_id=ctx.trace_id
    )
    try:
        found = await parts.knowledge.questions.decide(ctx, question, verdict)
    except InterlockError as error:
        await parts.governance.append(msgspec.structs.replace(event, outcome=error.code))
        raise
    await parts.governance.append(msgspec.structs.replace(event, details={"collection": found.collection}))
    return found


async def edit_question(parts: Parts, ctx: Context, question: str, text: str) -> Question:
    """Other words for one, which accepts it. As `decide_question`."""
    event = AuditEvent(ctx.tenant, ctx.principal.id, "questions.edit", question, "ok", trace_id=ctx.trace_id)
    try:
        found = await parts.knowledge.questions.edit(ctx, question, text)
    except InterlockError as error:
        await parts.governance.append(msgspec.structs.replace(event, outcome=error.code))
        raise
    await parts.governance.append(msgspec.structs.replace(event, details={"collection": found.collection}))
    return found


_DONE = {"accepted": "accept", "rejected": "reject"}


async def judged_of(parts: Parts, ctx: Context, collection: str, user: str | None = None) -> list[JudgedQuestion]:
    """Accepted questions that are not stale, of what `ctx` may read. Raises: NotFound: there are none."""
    found = await parts.knowledge.questions.of_collection(ctx, collection, state="accepted")
    usable = [as_judged(one, user) for one in found if not one.stale and not one.withheld]
    if not usable:
        raise NotFound(
            f"{collection!r} has no accepted question whose documents you may read",
            param="collection",
            hint=f"make some with `interlock knowledge questions make {collection}`, and accept them",
        )
    return usable


def as_judged(question: Question, user: str | None = None) -> JudgedQuestion:
    """As evaluations take it."""
    return JudgedQuestion(
        question.id,
        question.text,
        {answer.source: answer.grade for answer in question.answers},
        question.user or user,
        {answer.source: answer.quote for answer in question.answers if answer.quote},
    )


def write_lines(questions: Iterable[JudgedQuestion]) -> str:
    """As the JSON lines that `eval` and `tune` read."""
    rows = []
    for one in questions:
        # Any: JSON on its way out.
        row: dict[str, Any] = {"id": one.id, "query": one.text, "relevant": dict(one.relevant)}
        row |= {"as": one.user} if one.user else {}
        row |= {"quotes": dict(one.quotes)} if one.quotes else {}
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(rows)


async def write_beir(
    parts: Parts, ctx: Context, collection: str, questions: Sequence[JudgedQuestion], folder: Path
) -> int:
    """A folder in BEIR's format with every document that `ctx` may read; gives how many documents."""
    folder.mkdir(parents=True, exist_ok=True)
    infos = [
        info
        for info in await parts.knowledge.documents(ctx, collection=collection)
        if info.readers & ctx.readers and info.passages
    ]
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as corpus:
        for info in infos:
            text = await parts.knowledge.document_text(ctx, info.id)
            row = {"_id": info.source, "title": info.title, "text": text.text}
            corpus.write(json.dumps(row, ensure_ascii=False) + "\n")
    lines = [json.dumps({"_id": one.id, "text": one.text}, ensure_ascii=False) for one in questions]
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    judged = [f"{one.id}\t{source}\t{grade}" for one in questions for source, grade in one.relevant.items()]
    (folder / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n", "utf-8")
    return len(infos)


# Any: JSON on its way out.
def question_view(question: Question) -> dict[str, Any]:
    """One question for the API and the command line."""
    return {
        "id": question.id,
        "collection": question.collection,
        "text": question.text,
        "origin": question.origin,
        "state": question.state,
        "stale": question.stale,
        "withheld": question.withheld,
        "edited": question.edited,
        "as": question.user or None,
        "model": question.model or None,
        "made_at": question.made_at.isoformat() if question.made_at else None,
        "decided_by": question.decided_by or None,
        "decided_at": question.decided_at.isoformat() if question.decided_at else None,
        "answers": [
            {
                "document": answer.document,
                "source": answer.source,
                "text_digest": answer.text_digest,
                "span": [answer.span.start, answer.span.end] if answer.span else None,
                "quote": answer.quote,
                "grade": answer.grade,
            }
            for answer in question.answers
        ],
    }


# Any: as above.
def made_view(made: Made) -> dict[str, Any]:
    """What a run of making questions gave."""
    return {
        "made": len(made.questions),
        "questions": [question_view(one) for one in made.questions],
        "thrown": dict(sorted(made.thrown.items())),
        "passages": made.passages,
        "calls": made.calls,
        "spent_usd": made.spent.nano / 1e9,
        "stopped": made.stopped or None,
    }
