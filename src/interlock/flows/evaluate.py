"""Run a golden set through an app, each question with the rights of its asker."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from interlock.core.answers import Answer, Quote
from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.core.messages import ChatRequest, text_message
from interlock.core.release import Release
from interlock.evals.golden.judging import judge
from interlock.evals.golden.types import Case, CaseOutcome, Judgement
from interlock.flows.chat import Receipt, ask
from interlock.flows.parts import Parts
from interlock.knowledge.release import RetrievalSpec

__all__ = ["readable_sources", "run_golden"]

_FAILED = Judgement(declined=False, cited_any=False, cited_all=False, facts=False, leaked=False)


async def readable_sources(parts: Parts, owner: Context, user: Context) -> Callable[[str], bool]:
    """Whether `user` may NOT read a source, decided from the registry and not from the search under test."""
    documents = await parts.knowledge.documents(owner)
    open_to_user = {info.source for info in documents if info.readers & user.readers}
    return lambda source: source not in open_to_user


async def run_golden(parts: Parts, release: Release, cases: Sequence[Case]) -> AsyncGenerator[CaseOutcome, None]:
    """One outcome a case, in order, as they finish. Closing it stops the run.

    Raises: NotFound: what the app searches does not exist, or was never ingested.
    """
    given = release.components.get("retrieval")
    if given is not None:
        name = RetrievalSpec.model_validate(given, extra="ignore").collection
        await parts.knowledge.check_ingested(parts.access.local_owner(), name)
    for case in cases:
        # A context of its own for each question: deadline, request and trace are those of one call.
        owner = parts.access.local_owner()
        yield await _run(parts, owner, parts.access.act_as(owner, case.user), release, case)


async def _run(parts: Parts, owner: Context, user: Context, release: Release, case: Case) -> CaseOutcome:
    asked = (text_message("user", case.question),)
    request = ChatRequest(f"app/{release.app}", asked, variables=case.variables)
    answer: Answer | None = None
    receipt: Receipt | None = None
    quoted: float | None = None
    began = time.perf_counter()
    error = ""
    try:
        async with aclosing(ask(parts, user, request, release)) as events:
            async for event in events:
                match event:
                    case Quote():
                        quoted = quoted or time.perf_counter() - began
                    case Answer():
                        answer = event
                    case Receipt():
                        receipt = event
    except InterlockError as failure:
        error = failure.code
    seconds = time.perf_counter() - began
    judgement = _FAILED
    if answer is not None:
        judgement = judge(case, answer, forbidden=await readable_sources(parts, owner, user))
    cost = receipt.cost if receipt is not None else None
    return CaseOutcome(
        case=case,
        answer=answer,
        judgement=judgement,
        first_quote_s=quoted,
        seconds=seconds,
        cost_nano=None if cost is None else cost.nano,
        trace_id=user.trace_id,
        error=error,
    )
