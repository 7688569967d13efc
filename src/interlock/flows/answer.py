"""Answer a question from found passages: quote at once, write from evidence, show only what passed its check.

The three strategies share one loop over *drafts* (sentences with the evidence they claim to rest on):

- ``claims``: a small model restates one piece of evidence at a time;
- ``passages``: a capable model writes a cited answer over all passages, checked sentence by sentence as it streams;
- ``extractive``: no model; evidence is quoted.

Whatever fails its check, its model or its time is replaced by the quote it should have restated.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from interlock.core.answers import Answer, AnswerEvent, AnswerSentence, DeclineReason, Origin, Outcome, Quote
from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import Blocked, InterlockError
from interlock.core.messages import ChatEvent, ChatRequest, Finish, TextDelta, Usage
from interlock.core.passages import Passage
from interlock.knowledge.grounding.citations import Citations, cite, markers, with_markers, without_markers
from interlock.knowledge.grounding.prompts import NONE, claim_request, passages_request
from interlock.knowledge.grounding.types import AnswerSpec, Evidence, Selection, Verdict
from interlock.knowledge.sentences import sentences

if TYPE_CHECKING:
    from interlock.knowledge.grounding.service import Grounding

__all__ = ["ModelStream", "Tier", "answer"]

Tier = Literal["none", "small", "capable"]
ModelStream = Callable[[Context, ChatRequest], AsyncGenerator[ChatEvent, None]]
OnUsage = Callable[[Usage], None]

_QUOTED = Verdict(True, 1.0, "ok")
_LEAST_CALL_S = 0.3
"""Less time than this left is not worth a call."""
_ORDER: tuple[Outcome, ...] = ("generated", "repaired", "extracted")


@dataclass(slots=True)
class _Tally:
    """What happened, for the spans."""

    calls: int = 0
    checked: int = 0
    refused: int = 0
    failed: str = ""
    """Code of the error that ended generation, `out_of_time` when our own budget did."""
    reasons: dict[str, int] = field(default_factory=dict)

    def note(self, verdict: Verdict) -> None:
        self.checked += 1
        if not verdict.supported:
            self.refused += 1
            self.reasons[verdict.reason] = self.reasons.get(verdict.reason, 0) + 1


@dataclass(frozen=True, slots=True)
class _Job:
    """One question under way."""

    question: str
    passages: Sequence[Passage]
    spec: AnswerSpec
    model: ModelStream
    system: str
    grounding: Grounding
    on_usage: OnUsage
    deadline: Deadline
    """When writing must have ended."""


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
) -> AsyncGenerator[AnswerEvent, None]:
    """Yield a Quote as soon as evidence is chosen, each sentence after its checks, and last the Answer.

    Args:
        passages: readable by the caller, best first.
        tier: of the model behind `model`; decides `auto`.
        system: the app's own instructions, given to capable models.
        on_usage: told the tokens of every finished model call.
        snapshot: knowledge snapshot that answered.

    A model's failure never fails the answer: what is left is quoted, and the outcome says so. Writing stops after
    ``spec.max_seconds`` or at the context's deadline. Closing this generator closes the model's stream.
    Raises: ModelMissing and its kin of the embedder; nothing of the model.
    """
    job = _Job(
        question,
        passages,
        spec,
        model,
        system,
        grounding,
        on_usage,
        ctx.with_deadline(Deadline.after(spec.max_seconds)).deadline,
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
    yield Quote(cite(selection.evidence[0], 1, _QUOTED))
    written: list[AnswerSentence] = []
    citations = Citations()
    strategy = _strategy(spec, tier)
    with ctx.span("answer generate", **{"interlock.strategy": strategy}) as (span, inner):
        tally = _Tally()
        async with aclosing(_drafts(inner, job, selection, citations, strategy=strategy, tally=tally)) as drafts:
            async for sentence in drafts:
                written.append(sentence)
                yield sentence
        span.set(
            {
                "interlock.calls": tally.calls,
                "interlock.checked": tally.checked,
                "interlock.refused": tally.refused,
                "interlock.sentences": len(written),
                "interlock.fallback": tally.failed or None,
                **{f"interlock.refused.{reason}": count for reason, count in tally.reasons.items()},
            }
        )
    if not written:
        for event in _declined(job, "unsupported", probability, snapshot):
            yield event
        return
    yield Answer(
        text=" ".join(sentence.text for sentence in written),
        sentences=tuple(written),
        citations=citations.all,
        outcome=_outcome(written),
        decline_reason="",
        answerability=probability,
        passages=tuple(passages),
        snapshot=snapshot,
        conflicts=selection.conflicts,
        degraded=tally.failed,
    )


def _strategy(spec: AnswerSpec, tier: Tier) -> Literal["claims", "passages", "extractive"]:
    if tier == "none":
        return "extractive"
    if spec.strategy == "auto":
        return "claims" if tier == "small" else "passages"
    return spec.strategy


def _outcome(written: Sequence[AnswerSentence]) -> Outcome:
    origins = {sentence.origin for sentence in written}
    return next((outcome for outcome in reversed(_ORDER) if outcome in origins), "extracted")


def _declined(job: _Job, reason: DeclineReason, probability: float, snapshot: str) -> tuple[AnswerEvent, ...]:
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
    )
    return notice, done


async def _drafts(
    ctx: Context,
    job: _Job,
    selection: Selection,
    citations: Citations,
    *,
    strategy: Literal["claims", "passages", "extractive"],
    tally: _Tally,
) -> AsyncGenerator[AnswerSentence, None]:
    if strategy == "passages":
        async with aclosing(_from_passages(ctx, job, selection, citations, tally)) as found:
            async for sentence in found:
                yield sentence
        return
    for evidence in selection.evidence[: job.spec.max_sentences]:
        if strategy == "claims" and not tally.failed:
            yield await _claim(ctx, job, evidence, citations, tally)
        else:
            yield _quoted(evidence, citations)


def _quoted(evidence: Evidence, citations: Citations) -> AnswerSentence:
    citation = citations.add(evidence, _QUOTED)
    return AnswerSentence(with_markers(evidence.readable, [citation.marker]), (citation,), "extracted")


def _said(text: str, evidence: Evidence, verdict: Verdict, citations: Citations, origin: Origin) -> AnswerSentence:
    citation = citations.add(evidence, verdict)
    return AnswerSentence(with_markers(text, [citation.marker]), (citation,), origin)


async def _claim(ctx: Context, job: _Job, evidence: Evidence, citations: Citations, tally: _Tally) -> AnswerSentence:
    """Restate one piece of evidence: a try, a repair with the question in sight, else its quote.

    A row is restated from a plain sentence, and repaired from its names and values.
    """
    fact, worded = job.grounding.fact(job.question, evidence), job.grounding.worded(job.question, evidence)
    tries: list[tuple[Origin, str, bool]] = [("generated", worded or fact, False), ("repaired", fact, True)]
    for origin, fact, repair in tries:
        text = await _complete(ctx, job, claim_request(job.question, fact, repair=repair), tally)
        if text is None:
            break
        claim = without_markers(text)
        verdict = job.grounding.check(claim, evidence, job.spec, question=job.question)
        tally.note(verdict)
        if verdict.supported:
            return _said(claim, evidence, verdict, citations, origin)
    return _quoted(evidence, citations)


async def _complete(ctx: Context, job: _Job, request: ChatRequest, tally: _Tally) -> str | None:
    """The model's text, or None when it failed or its time ran out; `tally.failed` then says why."""
    parts: list[str] = []
    async with aclosing(_deltas(ctx, job, request, tally)) as deltas:
        async for delta in deltas:
            parts.append(delta)
    return None if tally.failed else "".join(parts).strip()


async def _deltas(ctx: Context, job: _Job, request: ChatRequest, tally: _Tally) -> AsyncGenerator[str, None]:
    """Text of one model call. Ends early, with `tally.failed` set, instead of raising."""
    if job.deadline.remaining_s() < _LEAST_CALL_S:
        tally.failed = "out_of_time"
        return
    tally.calls += 1
    inner = ctx.with_deadline(job.deadline)
    try:
        async with aclosing(job.model(inner, request)) as events:
            async for event in events:
                if isinstance(event, Finish):
                    job.on_usage(event.usage)
                elif isinstance(event, TextDelta):
                    yield event.text
                if job.deadline.remaining_s() <= 0:
                    tally.failed = "out_of_time"
                    return
    except Blocked:
        # A policy stopped the model's words; quoting around it would undo that.
        raise
    except InterlockError as error:
        if error.code == "degraded_refusal":
            # The route says to refuse rather than to answer with less.
            raise
        tally.failed = error.code


async def _from_passages(
    ctx: Context, job: _Job, selection: Selection, citations: Citations, tally: _Tally
) -> AsyncGenerator[AnswerSentence, None]:
    """A cited answer over all passages, sentence by sentence; refused ones are quoted or dropped."""
    request = passages_request(
        job.question, job.passages, selection.candidates, system=job.system, limit=job.spec.max_sentences
    )
    cited: list[Evidence] = []
    said: set[str] = set()
    async with aclosing(_sentences(_deltas(ctx, job, request, tally))) as written:
        async for text in written:
            claim = without_markers(text)
            if not said and claim.strip(" .") == NONE:
                return
            if len(said) >= job.spec.max_sentences or claim in said:
                continue
            said.add(claim)
            match = job.grounding.best_support(claim, selection, markers(text), job.spec)
            if match is None:
                continue
            tally.note(match.verdict)
            if match.verdict.supported:
                cited.append(match.evidence)
                yield _said(claim, match.evidence, match.verdict, citations, "generated")
            elif match.evidence in selection.evidence and match.evidence not in cited:
                cited.append(match.evidence)
                yield _quoted(match.evidence, citations)
    if tally.failed or not cited:
        for evidence in selection.evidence[: job.spec.max_sentences - len(cited)]:
            if evidence not in cited:
                yield _quoted(evidence, citations)


async def _sentences(deltas: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """Whole sentences of a stream. One is whole when the next has begun, since its markers may follow its stop."""
    buffer = ""
    async with aclosing(deltas):
        async for delta in deltas:
            buffer += delta
            spans = sentences(buffer)
            for span in spans[:-1]:
                yield buffer[span.start : span.end]
            if len(spans) > 1:
                buffer = buffer[spans[-1].start :]
    for span in sentences(buffer):
        yield buffer[span.start : span.end]
