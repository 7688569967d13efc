"""Passages to make questions of, a model that is asked about them within a budget, and whether a search finds them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import NotFound
from interlock.core.ids import DocumentId
from interlock.core.messages import ChatRequest, TextDelta, text_message
from interlock.core.money import Money
from interlock.core.passages import Passage, Span
from interlock.flows.chat import Receipt, chat
from interlock.flows.parts import Parts
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.types import SearchMode

__all__ = ["Writer", "is_found", "passages_in_turn"]

CALL_S = 60.0
_FOUND_AMONG = 10
_ROUNDS = 12
"""At most so many passages of one document."""
_MOST_DOCUMENTS = 5_000


async def passages_in_turn(
    knowledge: KnowledgeService, ctx: Context, collection: str, *, most: int
) -> AsyncGenerator[Passage]:
    """Passages of all documents in turn, in an order that has nothing to do with how they are called or written."""
    infos = [
        info
        for info in await knowledge.documents(ctx, collection=collection)
        if info.readers & ctx.readers and info.passages
    ]
    infos.sort(key=lambda info: hashlib.sha256(info.id.encode()).digest())
    held: dict[DocumentId, list[Passage]] = {}
    given = 0
    for turn in range(_ROUNDS):
        before = given
        for info in infos[:_MOST_DOCUMENTS]:
            if info.passages <= turn or given >= most:
                continue
            if info.id not in held:
                found: list[Passage] = []
                with suppress(NotFound):  # deleted since
                    found = await knowledge.passages(ctx, info.id)
                found.sort(key=lambda passage: hashlib.sha256(passage.id.encode()).digest())
                held[info.id] = found[:_ROUNDS]
            if turn < len(held[info.id]):
                given += 1
                yield held[info.id][turn]
        if given in (before, most):
            return


async def is_found(
    knowledge: KnowledgeService, ctx: Context, collection: str, text: str, *, document: DocumentId, span: Span
) -> bool:
    """Whether either leg has the answer among its first ten passages: else nobody can tell a bad search from a bad
    question.
    """
    modes: tuple[SearchMode, ...] = ("lexical", "dense")
    for mode in modes:
        context = replace(ctx, deadline=Deadline.after(CALL_S))
        found = await knowledge.search(context, text, collection=collection, limit=_FOUND_AMONG, mode=mode)
        for one in found:
            if one.document_id == document and one.span.start < span.end and span.start < one.span.end:
                return True
    return False


class Writer:
    """Asks a model, each time with a bill and an audit line, within a budget for all of it.

    Args:
        tags: what the calls are for, on the ledger.
        spent: by an earlier run that this one goes on with.
        told: is told what each call cost as soon as it has ended; None where the model has no price.
    """

    def __init__(
        self,
        parts: Parts,
        model: str,
        budget_usd: float,
        tags: Mapping[str, str],
        *,
        output_tokens: int = 800,
        temperature: float | None = None,
        spent: Money | None = None,
        told: Callable[[Money | None], None] | None = None,
    ) -> None:
        self._parts = parts
        self._model = model
        self._most_nano = round(budget_usd * 1e9)
        self._tags = dict(tags)
        self._output_tokens = output_tokens
        self._temperature = temperature
        self._told = told
        self.spent = spent or Money.zero()
        self.calls = 0

    @property
    def is_spent(self) -> bool:
        """Nothing more may be asked for."""
        return self.spent.nano >= self._most_nano

    async def ask(self, ctx: Context, prompt: str) -> str:
        """What it says. Raises: what a call of the gateway raises."""
        request = ChatRequest(
            self._model,
            (text_message("user", prompt),),
            max_output_tokens=self._output_tokens,
            temperature=self._temperature,
            tags=self._tags,
        )
        said: list[str] = []
        self.calls += 1
        cost: Money | None = None
        context = replace(ctx, deadline=Deadline.after(CALL_S))
        async with aclosing(chat(self._parts, context, request, None)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    said.append(event.text)
                elif isinstance(event, Receipt):
                    cost = event.cost
        if cost is not None:
            self.spent += cost
        if self._told is not None:
            self._told(cost)
        return "".join(said)
