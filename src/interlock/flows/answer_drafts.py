"""What is written for an answer, sentence by sentence: from one fact at a time, over all passages, or quoted.

A sentence leaves here only after its checks. A model that fails or is late never raises: what is left is quoted, and
the tally says why.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from interlock.core.answers import AnswerSentence, Claim, Origin
from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import Blocked, InterlockError
from interlock.core.messages import ChatEvent, ChatRequest, Finish, TextDelta, Usage
from interlock.core.passages import Passage, Span
from interlock.flows.answer_claims import quoted, shown
from interlock.knowledge.grounding.citations import Citations, markers, without_markers
from interlock.knowledge.grounding.prompts import NONE, WritePassages, claim_request, passages_request
from interlock.knowledge.grounding.types import AnswerSpec, CheckerSpec, Evidence, Judged, Selection, Verdict
from interlock.knowledge.sentences import sentences

if TYPE_CHECKING:
    from interlock.knowledge.grounding.service import Grounding

__all__ = ["Job", "ModelStream", "OnUsage", "Tally", "Written", "drafts"]

ModelStream = Callable[[Context, ChatRequest], AsyncGenerator[ChatEvent, None]]
OnUsage = Callable[[Usage], None]
Written = Literal["claims", "passages", "extractive"]

_LEAST_CALL_S = 0.3
"""Less time than this left is not worth a call."""
_LONGEST_JUDGEMENT = 400
"""Characters of a judge's answer that are read."""


@dataclass(slots=True)
class Tally:
    """What happened, for the spans."""

    calls: int = 0
    checked: int = 0
    refused: int = 0
    failed: str = ""
    """Code of the error that ended generation, `out_of_time` when our own budget did."""
    unchecked: str = ""
    """Code of the error that left the app's checker out."""
    reasons: dict[str, int] = field(default_factory=dict)
    removed: list[Claim] = field(default_factory=list)
    """Claims that were refused and are not shown."""

    def note(self, verdict: Verdict) -> None:
        """Count one check."""
        self.checked += 1
        if not verdict.supported:
            self.refused += 1
            self.reasons[verdict.reason] = self.reasons.get(verdict.reason, 0) + 1


@dataclass(frozen=True, slots=True)
class Job:
    """One question under way."""

    question: str
    passages: Sequence[Passage]
    spec: AnswerSpec
    model: ModelStream
    judge: ModelStream
    """Of a checker that asks a model."""
    system: str
    grounding: Grounding
    on_usage: OnUsage
    deadline: Deadline
    """When writing must have ended."""
    write: WritePassages | None = None
    """How passages are put before a capable model."""


async def drafts(
    ctx: Context,
    job: Job,
    selection: Selection,
    citations: Citations,
    *,
    strategy: Written,
    tally: Tally,
) -> AsyncGenerator[AnswerSentence, None]:
    """Sentences in the order in which they are shown. Raises: Refused, Blocked; of the model nothing else."""
    if strategy == "passages":
        async with aclosing(_from_passages(ctx, job, selection, citations, tally)) as found:
            async for sentence in found:
                yield sentence
        return
    for evidence in selection.evidence[: job.spec.max_sentences]:
        if strategy == "claims" and not tally.failed:
            restated = await _claim(ctx, job, evidence, citations, tally)
            if restated is not None:
                yield restated
        else:
            yield quoted(evidence, citations)


async def _claim(
    ctx: Context, job: Job, evidence: Evidence, citations: Citations, tally: Tally
) -> AnswerSentence | None:
    """Restate one piece of evidence: a try, a repair with the question in sight, else what the app's policy says.

    A row is restated from a plain sentence, and repaired from its names and values. A small model is asked for a
    near-copy, so only the strict rules judge it. Raises: Refused.
    """
    fact, worded = job.grounding.fact(job.question, evidence), job.grounding.worded(job.question, evidence)
    tries: list[tuple[Origin, str, bool]] = [("generated", worded or fact, False), ("repaired", fact, True)]
    last: Judged | None = None
    for origin, fact, repair in tries:
        text = await _complete(ctx, job, claim_request(job.question, fact, repair=repair), tally)
        if text is None:
            return quoted(evidence, citations)
        claim = without_markers(text)
        verdict = job.grounding.check(claim, evidence, job.spec, question=job.question)
        tally.note(verdict)
        judged = _whole(claim, evidence, verdict)
        if verdict.supported:
            return shown(claim, [judged], citations, job.spec, origin=origin).sentences[0]
        last = judged if judged.text else last
    if last is None or job.spec.unsupported == "repair":
        tally.removed += [] if last is None else shown(last.reads, [last], citations, job.spec).removed
        return quoted(evidence, citations)
    result = shown(last.reads, [last], citations, job.spec)
    tally.removed += result.removed
    return next(iter(result.sentences), None)


def _whole(text: str, evidence: Evidence, verdict: Verdict) -> Judged:
    """A sentence that was asked for as one claim."""
    end = len(text.rstrip(" .!?…"))
    return Judged(Span(0, end), text[:end], text, evidence, verdict, "rules")


async def _complete(ctx: Context, job: Job, request: ChatRequest, tally: Tally) -> str | None:
    """The model's text, or None when it failed or its time ran out; `tally.failed` then says why."""
    parts: list[str] = []
    async with aclosing(_deltas(ctx, job, request, tally)) as deltas:
        async for delta in deltas:
            parts.append(delta)
    return None if tally.failed else "".join(parts).strip()


async def _deltas(ctx: Context, job: Job, request: ChatRequest, tally: Tally) -> AsyncGenerator[str, None]:
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
    ctx: Context, job: Job, selection: Selection, citations: Citations, tally: Tally
) -> AsyncGenerator[AnswerSentence, None]:
    """A cited answer over all passages, sentence by sentence; each claim is judged. Raises: Refused."""
    request = passages_request(
        job.question,
        job.passages,
        selection.candidates,
        system=job.system,
        limit=job.spec.max_sentences,
        write=job.write,
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
            judged = await _judge(ctx, job, claim, selection, numbers=markers(text), tally=tally)
            for one in judged:
                tally.note(one.verdict)
            if not judged:
                continue
            result = shown(claim, judged, citations, job.spec)
            tally.removed += result.removed
            cited += [one.evidence for one in judged if one.verdict.supported and one.evidence is not None]
            for sentence in result.sentences:
                yield sentence
            for evidence in result.missed if job.spec.unsupported == "repair" else ():
                if evidence in selection.evidence and evidence not in cited:
                    cited.append(evidence)
                    yield quoted(evidence, citations)
    if tally.failed or not cited:
        for evidence in selection.evidence[: max(0, job.spec.max_sentences - len(cited))]:
            if evidence not in cited:
                yield quoted(evidence, citations)


async def _judge(
    ctx: Context, job: Job, claim: str, selection: Selection, *, numbers: Sequence[int], tally: Tally
) -> tuple[Judged, ...]:
    """Every claim of a sentence with its verdict. A checker that cannot be had refuses what the rules refuse."""

    async def ask(request: ChatRequest) -> str | None:
        return await _asked(ctx, job, request, tally)

    try:
        return await job.grounding.judge(claim, selection, numbers, job.spec, ask=ask)
    except Blocked:
        raise
    except InterlockError as error:
        tally.unchecked = error.code
        only_rules = job.spec.model_copy(update={"checker": CheckerSpec(kind="rules")})
        return await job.grounding.judge(claim, selection, numbers, only_rules)


async def _asked(ctx: Context, job: Job, request: ChatRequest, tally: Tally) -> str | None:
    """A judge's answer. Its failure leaves a claim unjudged and the rest of the answer as it is."""
    if job.deadline.remaining_s() < _LEAST_CALL_S:
        return None
    tally.calls += 1
    said = ""
    try:
        async with aclosing(job.judge(ctx.with_deadline(job.deadline), request)) as events:
            async for event in events:
                if isinstance(event, Finish):
                    job.on_usage(event.usage)
                elif isinstance(event, TextDelta) and len(said) < _LONGEST_JUDGEMENT:
                    said += event.text
    except Blocked:
        raise
    except InterlockError:
        return None
    return said


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
