"""Requests for a provider's batch API: which target would take one and in what words, and answers played back later."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from interlock.core.context import Context
from interlock.core.messages import ChatEvent, ChatRequest, Usage
from interlock.gateway.call import refuse_foreign
from interlock.gateway.estimate import estimate_usage
from interlock.gateway.lanes.ports import BatchLane, HasLane
from interlock.gateway.marks import marked
from interlock.gateway.ports import Lacking
from interlock.gateway.profiles import profile
from interlock.gateway.structured.shape import shape_for
from interlock.gateway.types import RouteSpec, Target

if TYPE_CHECKING:
    from interlock.gateway.service import Gateway

__all__ = ["Prepared", "Replay", "lane_of", "prepare"]


@dataclass(slots=True)
class Replay:
    """An answer that a provider gave hours ago, for the call it belongs to. Further tries of that call are ordinary."""

    target: Target
    events: Sequence[ChatEvent]
    """Ends with a Finish."""
    played: bool = field(default=False)

    async def play(self) -> AsyncGenerator[ChatEvent, None]:
        """The events, once."""
        self.played = True
        for event in self.events:
            yield event


class Prepared(NamedTuple):
    """One request, ready for the batch API of the target that would serve it."""

    target: Target
    lane: BatchLane
    request: ChatRequest
    """In the form that the target is asked in."""
    estimate: Usage


def lane_of(gateway: Gateway, provider: str) -> BatchLane | None:
    """The batch API of a configured provider."""
    if provider not in gateway.settings.providers:
        return None
    found = gateway.provider(provider)
    return found.lane() if isinstance(found, HasLane) else None


def prepare(
    gateway: Gateway,
    ctx: Context,
    request: ChatRequest,
    route: RouteSpec,
    *,
    pressure: float,
    target: Target | None = None,
) -> Prepared | str:
    """The request as its first permitted target's batch API takes it, or why it must be an ordinary call.

    Args:
        target: it was handed to this one before; no other is chosen.

    Raises: InvalidInput: the request asks for what the target does not have.
    """
    request = gateway.with_defaults(request, route)
    if target is None:
        if route.strategy == "cascade":
            # Whether the first answer is good enough is seen at once, or the others wait for a day.
            return "cascade"
        planned = gateway.plan(request, route, ctx=ctx, pressure=pressure)
        if not planned.order:
            return "no_target"
        target = planned.order[0]
    entry = gateway.settings.providers.get(target.provider)
    lane = lane_of(gateway, target.provider)
    if entry is not None and entry.batch == "never":
        return "set_to_never"
    if lane is None:
        return "no_batch_api"
    provider, facts = gateway.provider(target.provider), profile(target.model)
    request = request.for_target(str(target))
    refuse_foreign(request, provider, target)
    lacks = provider.lacks if isinstance(provider, Lacking) else frozenset[str]()
    shape = shape_for(request, facts, lacks, route.structured)
    asked = request if shape is None else shape.request
    if route.prompt_cache:
        asked = marked(asked, facts)
    return Prepared(target, lane, asked, estimate_usage(asked, facts.max_output_tokens))
