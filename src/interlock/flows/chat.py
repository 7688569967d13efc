"""One request, top to bottom: resolve, reserve, check, find, answer, settle.

What must happen on every exit (close the span, write the audit line, settle the bill, close the model's stream) is held
by context managers, so blocking, a provider that dies and a client that leaves need no code here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

from interlock.core.answers import Answer, AnswerEvent, AnswerSentence, Claim, Quote
from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.messages import ChatRequest, TextDelta, Usage
from interlock.core.money import Money
from interlock.core.passages import Citation, Passage
from interlock.core.release import Release
from interlock.core.trace import Span
from interlock.cost.handed import Handed
from interlock.cost.service import Bill
from interlock.flows.answer import answer
from interlock.flows.answer_claims import recheck
from interlock.flows.answer_places import Boxes, boxed
from interlock.flows.file_search import file_search_of
from interlock.flows.interleaved import interleaved_of
from interlock.flows.metering import metered
from interlock.flows.parts import Parts
from interlock.flows.pipelines.running import working
from interlock.flows.pipelines.types import pipeline_of
from interlock.flows.prompting import (
    composed,
    describe_prompt,
    for_app,
    refuse_variables,
    under,
    written_passages,
)
from interlock.flows.retrieval_assistant import RetrievalAssistant
from interlock.gateway.cache.types import CacheScope, CacheStatus
from interlock.gateway.handing import Replay
from interlock.gateway.ports import FileCited, FileSearchTool, ReplyEvent
from interlock.gateway.service import Gateway, Served
from interlock.gateway.types import RouteSpec, Target
from interlock.governance.service import Record
from interlock.knowledge.filters import EVERYTHING, Filter
from interlock.knowledge.freshness import AsOf
from interlock.knowledge.grounding.clarifying import meant
from interlock.knowledge.grounding.types import AnswerSpec
from interlock.knowledge.release import RetrievalSpec
from interlock.knowledge.retrieval.conversation import standalone
from interlock.knowledge.retrieval.types import Turn

__all__ = ["Answered", "Receipt", "ask", "chat", "has_knowledge"]


class Receipt(NamedTuple):
    """What one request used, once it is over: for the faces to show."""

    trace_id: str
    release: Release | None
    usage: Usage
    cost: Money | None
    model: str
    cache: CacheStatus = ""
    """What the cache did, empty when it was not asked."""
    degraded: str = ""
    """The step of the route's `degrade` that answered."""


class Answered(NamedTuple):
    """An answer that a provider's batch API gave before, and what its call was admitted by."""

    replay: Replay
    handed: Handed


class _Line(NamedTuple):
    """One open request."""

    ctx: Context
    span: Span
    record: Record
    bill: Bill


def has_knowledge(release: Release) -> bool:
    """True when the app answers from documents."""
    return "retrieval" in release.components


@asynccontextmanager
async def _open(
    parts: Parts,
    ctx: Context,
    release: Release | None,
    action: str,
    tags: Mapping[str, str],
    *,
    answered: Answered | None = None,
) -> AsyncIterator[_Line]:
    """Span, audit line and bill around one request. The bill is settled first, so the other two can state the cost."""
    with parts.observe.span(ctx, "chat", release) as (span, inner):
        async with parts.governance.record(
            inner, release, action="chat.shadow" if _is_copy(release) else action
        ) as record:
            bill: Bill | None = None
            try:
                handed = answered.handed if answered is not None else None
                outcome: Literal["shadow", "ok"] = "shadow" if _is_copy(release) else "ok"
                async with parts.cost.reserve(inner, release, tags=tags, outcome=outcome, handed=handed) as bill:
                    yield _Line(inner, span, record, bill)
            finally:
                if bill is not None:
                    _stamp(bill, span, record)


def _is_copy(release: Release | None) -> bool:
    return release is not None and release.assignment is not None and release.assignment.arm == "shadow"


def _stamp(bill: Bill, span: Span, record: Record) -> None:
    usage = bill.usage
    cost = bill.cost if bill.entries else Money.zero()
    span.set(
        {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.response.model": ", ".join(f"{p}/{m}" for p, m in bill.lines) or None,
            "interlock.cost.nano_usd": None if cost is None else cost.nano,
            "interlock.cost.unpriced": cost is None or None,
        }
    )
    record.set(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    record.set(cost="unpriced") if cost is None else record.set(cost_nano_usd=cost.nano)


def _receipt(line: _Line, parts: Parts, release: Release | None, served: Served) -> Receipt:
    model = ", ".join(f"{provider}/{name}" for provider, name in line.bill.lines) or "extractive"
    line.span.set({"interlock.cache": served.cache or None, "interlock.degraded": served.degraded or None})
    cost = parts.cost.quote(line.bill)
    return Receipt(line.ctx.trace_id, release, line.bill.usage, cost, model, served.cache, served.degraded)


async def ask(
    parts: Parts, ctx: Context, request: ChatRequest, release: Release, *, served: Served | None = None
) -> AsyncGenerator[AnswerEvent | Receipt, None]:
    """Answer the last user message from the app's documents.

    Args:
        served: filled in by the model's calls, by the last of several.

    Yields a Quote early, each sentence after its checks, the Answer, and last a Receipt.
    Raises: InvalidInput, Blocked, TooLarge, ModelMissing, and the gateway's errors when not even a quote can be given.
    """
    retrieval = RetrievalSpec.model_validate(release.components["retrieval"], extra="ignore")
    spec = AnswerSpec.of_release(release.components.get("answer", {}))
    route = RouteSpec.model_validate(release.components["route"], extra="ignore")
    question = request.last_user_text.strip()
    if not question:
        raise InvalidInput("there is no question: the last user message is empty", param="messages")
    ctx = ctx.with_deadline(Deadline.after(route.total_timeout_s))
    served = served or Served()
    taken = parts.sampling.begin(ctx, release)
    finished: Answer | None = None

    async with _open(parts, ctx, release, "chat.answer", request.tags) as line:
        prompt = await composed(parts, line.ctx, release, request, inline=True)
        describe_prompt(line.span, prompt)
        await parts.guardrails.check_input(line.ctx, release, question)
        # A follow-up alone says too little: its evidence is chosen by what it follows, as it is searched.
        earlier = _earlier(request)
        reply = parts.grounding.replied(question, earlier, spec)
        if reply is None:
            asked = standalone(question, [turn.text for turn in earlier if turn.role == "user"])
        else:
            # The question from before is answered, of what was meant; nobody is asked back twice.
            question = asked = reply.question
            await parts.guardrails.check_input(line.ctx, release, question)
            earlier, spec = earlier[:-2], spec.model_copy(update={"clarify": False})
        space = await parts.knowledge.space_of(line.ctx, retrieval.collection)
        assistant = RetrievalAssistant(parts, release=release, route=route, bill=line.bill, regions=request.regions)
        interleaved = await interleaved_of(parts, line.ctx, release)

        async def search(narrowed: Filter, by: RetrievalSpec) -> list[Passage]:
            return await parts.knowledge.search(
                line.ctx,
                question,
                collection=by.collection,
                limit=by.limit,
                mode=by.search,
                fusion=by.fusion,
                filter=narrowed,
                steps=by.steps,
                history=earlier,
                assistant=assistant,
            )

        for narrowed in (EVERYTHING,) if reply is None or reply.option is None else meant(reply.option):
            found = await search(narrowed, retrieval)
            if interleaved is not None:
                found = await interleaved.mixed(line.ctx, found, partial(search, narrowed))
            if found:
                break
        if not found:
            # Nothing to search is the operator's to mend, and no answer to anybody's question.
            await parts.knowledge.check_ingested(line.ctx, retrieval.collection)
        trusted = await parts.guardrails.check_passages(line.ctx, release, found)
        tier = parts.gateway.profile_of(route).tier
        passages = trusted
        if tier == "capable":
            # One prompt holds all of it, so it must fit; claim by claim, each sentence is a prompt of its own.
            merged = await parts.knowledge.evidence(
                line.ctx,
                trusted,
                budget_tokens=retrieval.context_tokens,
                packing=(retrieval.steps or parts.knowledge.steps_of(retrieval.collection)).packing,
                question=asked,
            )
            # Merging reads the documents again, so what was blanked is back and text between passages is new.
            passages = await parts.guardrails.check_passages(line.ctx, release, merged)
        snapshot = await parts.knowledge.snapshot_id(line.ctx, retrieval.collection, passages)
        scope = CacheScope(
            snapshot=snapshot,
            collection=retrieval.collection,
            documents=[passage.document_id for passage in passages],
        )
        generating = _generating(parts.gateway, route)
        events = answer(
            line.ctx,
            question=asked,
            passages=passages,
            spec=spec,
            tier=tier,
            model=under(prompt.use, metered(parts.gateway, line.bill, generating, served, knowledge=scope)),
            judge=metered(parts.gateway, line.bill, _judging(spec, route), knowledge=scope),
            system=prompt.system,
            grounding=parts.grounding,
            on_usage=lambda _: None,  # `metered` puts usage on the bill, broken-off calls included
            snapshot=snapshot,
            write=written_passages(release),
        )
        known: Boxes = {}
        async with aclosing(events):
            async for event in events:
                placed = await boxed(line.ctx, parts.knowledge, event, known)
                checked = await parts.guardrails.watch_output(
                    release, partial(_checked, placed, partial(parts.guardrails.check_output, release))
                )
                if isinstance(checked, Answer):
                    cited = {citation.document_id for citation in checked.citations}
                    age = (
                        await parts.knowledge.as_of(line.ctx, retrieval.collection, cited)
                        if cited
                        else AsOf(None, False)
                    )
                    checked = replace(checked, passages=tuple(trusted), as_of=age.at, stale=age.stale, space=space)
                    _describe(line, checked)
                    if interleaved is not None:
                        line.span.set(interleaved.credited(checked))
                    finished = checked
                yield checked
        receipt = _receipt(line, parts, release, served)
    if taken is not None and finished is not None:
        parts.sampling.end(ctx, request, release, taken, taken.output(ctx, finished, receipt))
    parts.shadowing.maybe(ctx, request, release)
    yield receipt


def _checked(event: AnswerEvent, check: Callable[[str], str]) -> AnswerEvent:
    """The event with everything it shows checked: sentences and the quotes that back them."""

    def citations(given: tuple[Citation, ...]) -> tuple[Citation, ...]:
        return tuple(replace(citation, quote=check(citation.quote)) for citation in given)

    def sentence(given: AnswerSentence) -> AnswerSentence:
        return replace(
            given, text=check(given.text), citations=citations(given.citations), claims=recheck(given, check)
        )

    def refused(given: Claim) -> Claim:
        nearest = given.evidence and replace(given.evidence, quote=check(given.evidence.quote))
        return replace(given, text=check(given.text), evidence=nearest)

    match event:
        case Quote():
            return Quote(*citations((event.citation,)))
        case AnswerSentence():
            return sentence(event)
        case Answer():
            return replace(
                event,
                text=check(event.text),
                citations=citations(event.citations),
                sentences=tuple(map(sentence, event.sentences)),
                contradictions=tuple(
                    replace(conflict, citations=citations(conflict.citations)) for conflict in event.contradictions
                ),
                options=tuple(replace(option, value=check(option.value)) for option in event.options),
                removed=tuple(refused(claim) for claim in event.removed),
            )


def _generating(gateway: Gateway, route: RouteSpec) -> RouteSpec:
    """The route without targets that only quote: quoting is the answer flow's own floor."""
    targets = [name for name in route.targets if gateway.profile(Target.parse(name)).tier != "none"]
    return route.model_copy(update={"targets": targets or route.targets})


def _earlier(request: ChatRequest) -> list[Turn]:
    """What was said before the question."""
    said = [
        Turn("assistant" if message.role == "assistant" else "user", message.text)
        for message in request.messages
        if message.role in {"user", "assistant"}
    ]
    last = max((n for n, turn in enumerate(said) if turn.role == "user"), default=0)
    return said[:last]


def _judging(spec: AnswerSpec, route: RouteSpec) -> RouteSpec:
    """The route of a checker that asks a model: the one it names, under the app's own limits, or the app's."""
    if spec.checker.kind == "llm" and spec.checker.model:
        return route.model_copy(update={"targets": [spec.checker.model]})
    return route


def _describe(line: _Line, finished: Answer) -> None:
    line.span.set(
        {
            "interlock.answer.outcome": finished.outcome,
            "interlock.answer.decline_reason": finished.decline_reason or None,
            "interlock.answer.answerability": round(finished.answerability, 4),
            "interlock.answer.citations": len(finished.citations),
            "interlock.answer.sentences": len(finished.sentences),
            "interlock.answer.claims": sum(len(sentence.claims) for sentence in finished.sentences),
            "interlock.answer.unsupported": sum(
                claim.support == "unsupported" for sentence in finished.sentences for claim in sentence.claims
            ),
            "interlock.answer.removed": len(finished.removed),
            "interlock.answer.contradictions": len(finished.contradictions),
            "interlock.passages": len(finished.passages),
            "interlock.snapshot": finished.snapshot or None,
            "interlock.space": finished.space or None,
        }
    )
    line.record.set(
        answer=finished.outcome,
        citations=len(finished.citations),
        snapshot=finished.snapshot,
        documents=",".join(sorted({citation.document_id for citation in finished.citations})),
    )


async def chat(
    parts: Parts,
    ctx: Context,
    request: ChatRequest,
    release: Release | None,
    *,
    served: Served | None = None,
    answered: Answered | None = None,
    searching: FileSearchTool | None = None,
) -> AsyncGenerator[ReplyEvent | Receipt, None]:
    """A model's answer, passed on as it comes; an app without documents adds its prompt and its guardrails.

    Args:
        answered: the model's answer is there already.
        searching: a search that the model may ask for, by the caller's rights.

    Yields deltas, one Finish, and last a Receipt.
    """
    if release is None:
        route = parts.gateway.route(request.model)
    else:
        route = RouteSpec.model_validate(release.components["route"], extra="ignore")
    served = served or Served()
    asked = request
    taken = parts.sampling.begin(ctx, release)
    async with _open(parts, ctx, release, "chat.model", request.tags, answered=answered) as line:
        if release is None:
            refuse_variables(request)
            line.span.set({"gen_ai.request.model": request.model})
            line.record.subject = request.model
        else:
            await parts.guardrails.check_input(line.ctx, release, request.last_user_text)
            request = await for_app(parts, line.ctx, asked, release, line.span)
        replay = answered.replay if answered is not None else None
        events: AsyncGenerator[ReplyEvent, None]
        steps = None if release is None else pipeline_of(release)
        if searching is not None and steps is not None:
            raise InvalidInput("an app that works through a text searches nothing", param=searching.param)
        if searching is not None:
            wanted = await file_search_of(parts, line.ctx, searching)
            # Nothing is kept: a cached answer would have to go with every document it was written from.
            alone = route.model_copy(update={"cache": None, "shadow": None})
            model = metered(parts.gateway, line.bill, alone, served, whole=not request.stream)
            assistant = RetrievalAssistant(parts, release=release, route=route, bill=line.bill, regions=request.regions)
            events = wanted.running(parts, model, assistant=assistant, release=release)(line.ctx, request)
        else:
            model = metered(parts.gateway, line.bill, route, served, whole=not request.stream, replay=replay)
            events = (model if steps is None else working(model, steps))(line.ctx, request)
        if release is not None:
            events = _watched(parts, release, events)
        async with aclosing(events):
            async for event in events:
                if taken is not None:
                    taken.see(event)
                yield event
        receipt = _receipt(line, parts, release, served)
    if taken is not None and release is not None:
        parts.sampling.end(ctx, asked, release, taken, taken.output(ctx, None, receipt))
    parts.shadowing.maybe(ctx, asked, release)
    yield receipt


_SENTENCE_END = re.compile(r"[.!?\n](?=\s|$)")


async def _watched(
    parts: Parts, release: Release, events: AsyncGenerator[ReplyEvent, None]
) -> AsyncGenerator[ReplyEvent, None]:
    """Hold text back until a sentence is whole and checked, when the policy looks at answers at all."""
    looks = any("output" in rule.at for rule in parts.guardrails.rules(release))

    async def checked(text: str) -> str:
        return await parts.guardrails.watch_output(release, partial(parts.guardrails.check_output, release, text))

    pending = ""
    cited: list[FileCited] = []
    async with aclosing(events):
        async for event in events:
            if not looks:
                yield event
                continue
            if isinstance(event, FileCited):
                # Text is checked across it, and it follows its text.
                cited.append(event)
                continue
            if isinstance(event, TextDelta):
                pending += event.text
                ends = [match.end() for match in _SENTENCE_END.finditer(pending)]
                if ends and ends[-1] < len(pending):
                    yield TextDelta(await checked(pending[: ends[-1]]))
                    pending = pending[ends[-1] :]
                continue
            if pending:
                yield TextDelta(await checked(pending))
                pending = ""
            for citation in cited:
                yield citation
            cited = []
            yield event
