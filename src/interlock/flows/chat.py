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
from typing import NamedTuple

from interlock.core.answers import Answer, AnswerEvent, AnswerSentence, Quote
from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.messages import ChatEvent, ChatRequest, TextDelta, Usage, text_message
from interlock.core.money import Money
from interlock.core.passages import Citation
from interlock.core.release import Release
from interlock.core.trace import Span
from interlock.cost.handed import Handed
from interlock.cost.service import Bill
from interlock.flows.answer import answer
from interlock.flows.metering import metered
from interlock.flows.parts import Parts
from interlock.gateway.cache.types import CacheScope, CacheStatus
from interlock.gateway.handing import Replay
from interlock.gateway.service import Gateway, Served
from interlock.gateway.types import RouteSpec, Target
from interlock.governance.service import Record
from interlock.knowledge.grounding.types import AnswerSpec
from interlock.knowledge.release import RetrievalSpec
from interlock.prompts.service import render

__all__ = ["Answered", "Receipt", "ask", "chat", "for_app", "has_knowledge"]


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
        async with parts.governance.record(inner, release, action=action) as record:
            bill: Bill | None = None
            try:
                handed = answered.handed if answered is not None else None
                async with parts.cost.reserve(inner, release, tags=tags, handed=handed) as bill:
                    yield _Line(inner, span, record, bill)
            finally:
                if bill is not None:
                    _stamp(bill, span, record)


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
    spec = AnswerSpec.model_validate(release.components.get("answer", {}), extra="ignore")
    route = RouteSpec.model_validate(release.components["route"], extra="ignore")
    question = request.last_user_text.strip()
    if not question:
        raise InvalidInput("there is no question: the last user message is empty", param="messages")
    ctx = ctx.with_deadline(Deadline.after(route.total_timeout_s))
    served = served or Served()

    async with _open(parts, ctx, release, "chat.answer", request.tags) as line:
        system = render(line.ctx, release)
        await parts.guardrails.check_input(line.ctx, release, question)
        found = await parts.knowledge.search(
            line.ctx,
            standalone(request, question),
            collection=retrieval.collection,
            limit=retrieval.limit,
            mode=retrieval.search,
            fusion=retrieval.fusion,
        )
        trusted = await parts.guardrails.check_passages(line.ctx, release, found)
        tier = parts.gateway.profile_of(route).tier
        passages = trusted
        if tier == "capable":
            # One prompt holds all of it, so it must fit; claim by claim, each sentence is a prompt of its own.
            merged = await parts.knowledge.evidence(line.ctx, trusted, budget_tokens=retrieval.context_tokens)
            # Merging reads the documents again, so what was blanked is back and text between passages is new.
            passages = await parts.guardrails.check_passages(line.ctx, release, merged)
        snapshot = await parts.knowledge.snapshot(line.ctx, retrieval.collection)
        scope = CacheScope(
            snapshot=snapshot.id,
            collection=retrieval.collection,
            documents=[passage.document_id for passage in passages],
        )
        events = answer(
            line.ctx,
            question=question,
            passages=passages,
            spec=spec,
            tier=tier,
            model=metered(parts.gateway, line.bill, _generating(parts.gateway, route), served, knowledge=scope),
            system=system,
            grounding=parts.grounding,
            on_usage=lambda _: None,  # `metered` puts usage on the bill, broken-off calls included
            snapshot=snapshot.id,
        )
        async with aclosing(events):
            async for event in events:
                checked = await parts.guardrails.watch_output(
                    release, partial(_checked, event, partial(parts.guardrails.check_output, release))
                )
                if isinstance(checked, Answer):
                    checked = replace(checked, passages=tuple(trusted))
                    _describe(line, checked)
                yield checked
        receipt = _receipt(line, parts, release, served)
    yield receipt


def _checked(event: AnswerEvent, check: Callable[[str], str]) -> AnswerEvent:
    """The event with everything it shows checked: sentences and the quotes that back them."""

    def citations(given: tuple[Citation, ...]) -> tuple[Citation, ...]:
        return tuple(replace(citation, quote=check(citation.quote)) for citation in given)

    match event:
        case Quote():
            return Quote(*citations((event.citation,)))
        case AnswerSentence():
            return replace(event, text=check(event.text), citations=citations(event.citations))
        case Answer():
            return replace(
                event,
                text=check(event.text),
                citations=citations(event.citations),
                sentences=tuple(
                    replace(sentence, text=check(sentence.text), citations=citations(sentence.citations))
                    for sentence in event.sentences
                ),
            )


def _generating(gateway: Gateway, route: RouteSpec) -> RouteSpec:
    """The route without targets that only quote: quoting is the answer flow's own floor."""
    targets = [name for name in route.targets if gateway.profile(Target.parse(name)).tier != "none"]
    return route.model_copy(update={"targets": targets or route.targets})


_FOLLOW_UP = re.compile(
    r"^(and|but|so|then|also|what about|how about|why|it|its|they|their|that|this|those|these|he|she)\b", re.IGNORECASE
)


def standalone(request: ChatRequest, question: str) -> str:
    """The search query of a question: a follow-up ("and in Germany?") is searched together with what it follows."""
    earlier = [message.text.strip() for message in request.messages if message.role == "user"][:-1]
    if earlier and (_FOLLOW_UP.match(question) or len(question.split()) <= 4):
        return f"{earlier[-1]} {question}"
    return question


def _describe(line: _Line, finished: Answer) -> None:
    line.span.set(
        {
            "interlock.answer.outcome": finished.outcome,
            "interlock.answer.decline_reason": finished.decline_reason or None,
            "interlock.answer.answerability": round(finished.answerability, 4),
            "interlock.answer.citations": len(finished.citations),
            "interlock.answer.sentences": len(finished.sentences),
            "interlock.passages": len(finished.passages),
            "interlock.snapshot": finished.snapshot or None,
        }
    )
    line.record.set(
        answer=finished.outcome,
        citations=len(finished.citations),
        snapshot=finished.snapshot,
        documents=",".join(sorted({citation.document_id for citation in finished.citations})),
    )


def for_app(ctx: Context, request: ChatRequest, release: Release) -> ChatRequest:
    """The request as an app without documents sends it: under the app's own prompt."""
    turns = tuple(message for message in request.messages if message.role != "system")
    return replace(request, messages=(text_message("system", render(ctx, release)), *turns))


async def chat(
    parts: Parts,
    ctx: Context,
    request: ChatRequest,
    release: Release | None,
    *,
    served: Served | None = None,
    answered: Answered | None = None,
) -> AsyncGenerator[ChatEvent | Receipt, None]:
    """A model's answer, passed on as it comes; an app without documents adds its prompt and its guardrails.

    Args:
        answered: the model's answer is there already.

    Yields deltas, one Finish, and last a Receipt.
    """
    if release is None:
        route = parts.gateway.route(request.model)
    else:
        route = RouteSpec.model_validate(release.components["route"], extra="ignore")
    served = served or Served()
    async with _open(parts, ctx, release, "chat.model", request.tags, answered=answered) as line:
        if release is None:
            line.span.set({"gen_ai.request.model": request.model})
            line.record.subject = request.model
        else:
            await parts.guardrails.check_input(line.ctx, release, request.last_user_text)
            request = for_app(line.ctx, request, release)
        replay = answered.replay if answered is not None else None
        model = metered(parts.gateway, line.bill, route, served, whole=not request.stream, replay=replay)
        events = model(line.ctx, request)
        if release is not None:
            events = _watched(parts, release, events)
        async with aclosing(events):
            async for event in events:
                yield event
        receipt = _receipt(line, parts, release, served)
    yield receipt


_SENTENCE_END = re.compile(r"[.!?\n](?=\s|$)")


async def _watched(
    parts: Parts, release: Release, events: AsyncGenerator[ChatEvent, None]
) -> AsyncGenerator[ChatEvent, None]:
    """Hold text back until a sentence is whole and checked, when the policy looks at answers at all."""
    looks = any("output" in rule.at for rule in parts.guardrails.rules(release))

    async def checked(text: str) -> str:
        return await parts.guardrails.watch_output(release, partial(parts.guardrails.check_output, release, text))

    pending = ""
    async with aclosing(events):
        async for event in events:
            if not looks:
                yield event
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
            yield event
