"""Answer a question from found passages: quote at once, write from evidence, show only what passed its check.

The three strategies share one loop over *drafts* (sentences with the evidence they claim to rest on):

- ``claims``: a small model restates one piece of evidence at a time;
- ``passages``: a capable model writes a cited answer over all passages, checked sentence by sentence as it streams;
- ``extractive``: no model; evidence is quoted.

Whatever fails its model or its time is replaced by the quote it should have restated. What fails its check is the app's
policy: see :mod:`interlock.flows.answer_claims`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from interlock.core.answers import (
    Answer,
    AnswerEvent,
    AnswerSentence,
    Claim,
    Contradiction,
    DeclineReason,
    Option,
    Outcome,
    Quote,
)
from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.passages import Passage
from interlock.flows.answer_claims import QUOTED, Refused, contradicted
from interlock.flows.answer_drafts import Job, ModelStream, OnUsage, Tally, Written, drafts
from interlock.knowledge.grounding.citations import Citations, cite
from interlock.knowledge.grounding.clarifying import asked_back
from interlock.knowledge.grounding.contradictions import Conflict
from interlock.knowledge.grounding.prompts import WritePassages
from interlock.knowledge.grounding.types import AnswerSpec, Selection

if TYPE_CHECKING:
    from interlock.knowledge.grounding.service import Grounding

__all__ = ["ModelStream", "Tier", "answer"]

Tier = Literal["none", "small", "capable"]

_ORDER: tuple[Outcome, ...] = ("generated", "repaired", "extracted")


async def answer(
    ctx: Context,
    *,
    question: str,
    passages: Sequence[Passage],
    spec: AnswerSpec,
    tier: Tier,
    model: ModelStream,
    system: str,
    grounding: Grounding,
    on_usage: OnUsage,
    snapshot: str = "",
    judge: ModelStream | None = None,
    write: WritePassages | None = None,
) -> AsyncGenerator[AnswerEvent, None]:
    """Yield a Quote as soon as evidence is chosen, each sentence after its checks, and last the Answer.

    Args:
        passages: readable by the caller, best first.
        tier: of the model behind `model`; decides `auto`.
        system: the app's own instructions, given to capable models.
        on_usage: told the tokens of every finished model call.
        snapshot: knowledge snapshot that answered.
        judge: the model that a checker asks, where the app's checker asks one; `model` when None.
        write: how passages are put before a capable model; numbered paragraphs when None.

    Under the policy `decline` nothing is yielded before everything was checked. A model's failure never fails the
    answer: what is left is quoted, and the outcome says so. Writing stops after ``spec.max_seconds`` or at the
    context's deadline. Closing this generator closes the model's stream.
    Raises: ModelMissing and its kin of the embedder; nothing of the model.
    """
    job = Job(
        question,
        passages,
        spec,
        model,
        judge or model,
        system,
        grounding,
        on_usage,
        ctx.with_deadline(Deadline.after(spec.max_seconds)).deadline,
        write,
    )
    if not passages:
        for event in _declined(job, "no_passages", 0.0, snapshot):
            yield event
        return
    with ctx.span("answer select", **{"interlock.passages": len(passages)}) as (span, inner):
        selection = await grounding.select(inner, question, passages, spec)
        span.set({"interlock.evidence": len(selection.evidence), "interlock.conflicts": len(selection.conflicts)})
    with ctx.span("answer assess") as (span, _):
        probability = grounding.assess(question, selection).probability
        span.set({"interlock.answerability": round(probability, 4)})
    if not selection.evidence or probability < spec.min_answerability:
        for event in _declined(job, "weak_evidence", probability, snapshot):
            yield event
        return
    options = grounding.options(question, selection, spec)
    if options:
        for event in _asked_back(job, options, probability, snapshot):
            yield event
        return
    conflicts = grounding.contradictions(selection) if spec.contradictions == "show" else ()
    selection = _believed_first(selection, conflicts)
    held_back = spec.unsupported == "decline"
    if not held_back:
        yield Quote(cite(selection.evidence[0], 1, QUOTED))
    written: list[AnswerSentence] = []
    told: list[Contradiction] = []
    citations = Citations()
    strategy = _strategy(spec, tier)
    with ctx.span("answer generate", **{"interlock.strategy": strategy}) as (span, inner):
        tally = Tally()
        refused: tuple[Claim, ...] = ()
        try:
            async with aclosing(drafts(inner, job, selection, citations, strategy=strategy, tally=tally)) as found:
                async for sentence in found:
                    written.append(sentence)
                    if not held_back:
                        yield sentence
        except Refused as stop:
            refused = stop.claims
            written = []
        span.set(
            {
                "interlock.calls": tally.calls,
                "interlock.checked": tally.checked,
                "interlock.refused": tally.refused,
                "interlock.sentences": len(written),
                "interlock.fallback": tally.failed or tally.unchecked or None,
                "interlock.contradictions": len(conflicts) or None,
                **{f"interlock.refused.{reason}": count for reason, count in tally.reasons.items()},
            }
        )
    if not written:
        for event in _declined(job, "unsupported", probability, snapshot, refused or tuple(tally.removed)):
            yield event
        return
    if held_back:
        for sentence in written:
            yield sentence
    for conflict in conflicts:
        sentence, contradiction = contradicted(conflict, citations)
        told.append(contradiction)
        written.append(sentence)
        yield sentence
    yield Answer(
        text=" ".join(sentence.text for sentence in written),
        sentences=tuple(written),
        citations=citations.all,
        outcome=_outcome(written, told=len(told)),
        decline_reason="",
        answerability=probability,
        passages=tuple(passages),
        snapshot=snapshot,
        conflicts=selection.conflicts,
        degraded=tally.failed or tally.unchecked,
        contradictions=tuple(told),
        removed=tuple(tally.removed),
    )


def _believed_first(selection: Selection, conflicts: Sequence[Conflict]) -> Selection:
    """The selection with each contradicted piece of evidence exchanged for the one that is to be believed."""
    places = {(c.other.passage.document_id, c.other.span): c.believed for c in conflicts}
    if not places:
        return selection
    chosen = [places.get((e.passage.document_id, e.span), e) for e in selection.evidence]
    distinct = {(e.passage.document_id, e.span): e for e in chosen}
    return replace(selection, evidence=tuple(distinct.values()))


def _strategy(spec: AnswerSpec, tier: Tier) -> Written:
    if tier == "none":
        return "extractive"
    if spec.strategy == "auto":
        return "claims" if tier == "small" else "passages"
    return spec.strategy


def _outcome(written: Sequence[AnswerSentence], *, told: int) -> Outcome:
    """What the answer itself is; `told` sentences at its end tell of contradictions."""
    if any(sentence.support == "unsupported" for sentence in written):
        return "flagged"
    origins = {sentence.origin for sentence in written[: len(written) - told]}
    return next((outcome for outcome in reversed(_ORDER) if outcome in origins), "extracted")


def _asked_back(job: Job, options: tuple[Option, ...], probability: float, snapshot: str) -> tuple[AnswerEvent, ...]:
    notice = AnswerSentence(asked_back(options), (), "notice")
    done = Answer(
        text=notice.text,
        sentences=(notice,),
        citations=(),
        outcome="clarify",
        decline_reason="",
        answerability=probability,
        passages=tuple(job.passages),
        snapshot=snapshot,
        options=options,
    )
    return notice, done


def _declined(
    job: Job, reason: DeclineReason, probability: float, snapshot: str, removed: tuple[Claim, ...] = ()
) -> tuple[AnswerEvent, ...]:
    notice = AnswerSentence(job.spec.decline_text, (), "notice")
    done = Answer(
        text=notice.text,
        sentences=(notice,),
        citations=(),
        outcome="declined",
        decline_reason=reason,
        answerability=probability,
        passages=tuple(job.passages),
        snapshot=snapshot,
        # What was set aside matters to an answer; beside "I do not know" it would only puzzle.
        conflicts=(),
        removed=removed,
    )
    return notice, done
