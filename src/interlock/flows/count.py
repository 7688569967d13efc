"""Count the tokens of a prompt: by its provider where that can, else estimated."""

from __future__ import annotations

from typing import NamedTuple

from interlock.core.context import Context
from interlock.core.messages import ChatRequest
from interlock.core.release import Release
from interlock.flows.parts import Parts
from interlock.flows.prompting import for_app
from interlock.gateway.call import refuse_foreign
from interlock.gateway.estimate import estimate_input
from interlock.gateway.ports import CountsTokens
from interlock.gateway.types import RouteSpec

__all__ = ["Count", "count_tokens"]


class Count(NamedTuple):
    """Input tokens of a prompt."""

    tokens: int
    estimated: bool


async def count_tokens(parts: Parts, ctx: Context, request: ChatRequest, release: Release | None) -> Count:
    """Input tokens of `request`, an app's prompt included and its passages not. Nothing is generated or billed.

    Raises: NotFound, and the provider's errors.
    """
    ctx.notices.model = request.model
    with parts.gateway.hold(), parts.observe.span(ctx, "count_tokens", release) as (_, inner):
        async with parts.governance.record(inner, release, action="tokens.count") as record:
            if release is None:
                route = parts.gateway.route(request.model)
                record.subject = request.model
            else:
                route = RouteSpec.model_validate(release.components["route"], extra="ignore")
                request = await for_app(parts, inner, request, release)
            target = parts.gateway.order(inner, route)[0]
            request = request.for_target(str(target))
            provider = parts.gateway.provider(target.provider)
            refuse_foreign(request, provider, target)
            if isinstance(provider, CountsTokens):
                return Count(await provider.count_tokens(inner, request, target.model), False)
            return Count(estimate_input(request), True)
