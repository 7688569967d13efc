"""The model behind retrieval steps: through the gateway, under the caller's limits and the app's guardrails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from interlock.core.context import Context
from interlock.core.errors import NotFound
from interlock.core.messages import ChatRequest, Finish, TextDelta, text_message
from interlock.core.passages import Passage
from interlock.core.release import Release
from interlock.cost.service import Bill
from interlock.flows.attempts import Operation, line
from interlock.flows.metering import metered
from interlock.flows.parts import Parts
from interlock.flows.rerank import rerank
from interlock.gateway.types import RouteSpec, Target
from interlock.knowledge.retrieval.types import Said, StepFailed

__all__ = ["RetrievalAssistant"]

_ASK = Operation("retrieval", "knowledge.ask")
_LONGEST_ANSWER = 20_000
"""Characters after which a model that does not stop is left."""


class RetrievalAssistant:
    """An :class:`~interlock.knowledge.retrieval.ports.Assistant`.

    Args:
        parts: of this process.
        release: of the app that searches; None for a search of its own.
        route: the app's, for steps that name no model.
        bill: of the request that searches; each call opens one of its own without it.
        regions: where the request may be processed, when its caller restricts it.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        release: Release | None = None,
        route: RouteSpec | None = None,
        bill: Bill | None = None,
        regions: tuple[str, ...] = (),
    ) -> None:
        self._regions = regions
        self._parts = parts
        self._release = release
        self._route = route
        self._bill = bill

    async def ask(
        self,
        ctx: Context,
        *,
        model: str,
        system: str,
        user: str,
        max_tokens: int,
        # Any: a JSON schema.
        schema: Mapping[str, Any] | None = None,
    ) -> Said:
        """See `Assistant.ask`."""
        gateway = self._parts.gateway
        if not model and self._route is None:
            raise NotFound("no model is named for the steps of this search", param="steps.model.name")
        route = gateway.route(model) if model else self._route
        assert route is not None
        writing = [name for name in route.targets if gateway.profile(Target.parse(name)).tier != "none"]
        if not writing:
            raise StepFailed("its route has no model that writes", skipped=True)
        # Nothing is kept: a cached answer would have to go with every document it was written from.
        route = route.model_copy(update={"targets": writing, "cache": None, "shadow": None, "post": []})
        request = ChatRequest(
            model or route.targets[0],
            (text_message("system", system), text_message("user", user)),
            max_output_tokens=max_tokens,
            temperature=0.0,
            response_schema=schema,
            schema_name="relations" if schema is not None else None,
            regions=self._regions,
        )
        if self._bill is not None:
            return await self._read(ctx, request, route, self._bill)
        async with line(self._parts, ctx, _ASK, request.model) as opened:
            return await self._read(opened.ctx, request, route, opened.bill)

    async def _read(self, ctx: Context, request: ChatRequest, route: RouteSpec, bill: Bill) -> Said:
        text, tokens = "", 0
        async with aclosing(metered(self._parts.gateway, bill, route, whole=True)(ctx, request)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    text += event.text
                elif isinstance(event, Finish):
                    tokens = event.usage.total_tokens
                if len(text) > _LONGEST_ANSWER:
                    break
        return Said(text, tokens)

    async def rerank(self, ctx: Context, query: str, texts: Sequence[str], *, model: str) -> Sequence[float]:
        """See `Assistant.rerank`."""
        if self._regions:
            raise StepFailed("the request is held to regions, and reranking cannot be", skipped=True)
        ranked = await rerank(self._parts, ctx, model, query, texts, limit=None)
        scores = {row.index: row.score for row in ranked.rows}
        if not scores:
            raise StepFailed("the model ranked nothing")
        # A provider may leave out what it finds worthless.
        least = min(scores.values()) - 1.0
        return [scores.get(number, least) for number in range(len(texts))]

    async def screen(self, ctx: Context, passages: Sequence[Passage]) -> Sequence[Passage]:
        """See `Assistant.screen`."""
        if self._release is None:
            return passages
        return await self._parts.guardrails.check_passages(ctx, self._release, passages)
