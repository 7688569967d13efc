"""One request on its way through the targets of a plan: tries, retries, fallbacks, escalation, repair."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from interlock.core.context import Context
from interlock.core.errors import (
    DeadlineExceeded,
    InterlockError,
    InvalidInput,
    LimitExceeded,
    ProviderError,
    Unavailable,
)
from interlock.core.messages import ChatEvent, ChatRequest, Finish, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from interlock.core.patterns import aside, found_in
from interlock.core.ports import Meter
from interlock.core.trace import Span
from interlock.gateway.attempt import Attempt, Attempts
from interlock.gateway.cache.types import CacheStatus
from interlock.gateway.estimate import estimate_usage
from interlock.gateway.marks import marked
from interlock.gateway.ports import Lacking, Provider, TakesNative
from interlock.gateway.retry import backoff_s, worth_retrying
from interlock.gateway.routing import Plan, no_target
from interlock.gateway.structured.recover import find_json
from interlock.gateway.structured.schema import first_violation
from interlock.gateway.structured.shape import Shape, Unmet, shape_for
from interlock.gateway.texts import Texts
from interlock.gateway.types import Cascade, Considered, Decision, RouteSpec, Target

if TYPE_CHECKING:
    from interlock.gateway.handing import Replay

__all__ = ["Call", "Served", "refuse_foreign"]

_log = logging.getLogger("interlock.gateway")
_PATIENCE_S = 10.0
"""Longest wait before another try: a caller that is told to come back later can do better with the time."""


_HITS = frozenset({"hit", "shared", "semantic", "stale"})


class Served:
    """Filled while a stream runs: which target answered, what it used, and why it was chosen."""

    def __init__(self) -> None:
        self.target: Target | None = None
        self.usage: Usage | None = None
        self.attempts = 0
        self.fallbacks = 0
        self.decision = Decision()
        self.tried: tuple[Target, InterlockError] | None = None
        """A try of this request that was made and failed elsewhere: it counts as the target's first."""
        self.first: Target | None = None
        """Drawn for this request before: it goes first while it may be asked, so that nothing is drawn twice."""
        self.repairs = 0
        """Further tries for an answer in the form that was asked for."""
        self.caches: list[CacheStatus] = []
        """What the cache did for each model call, in order."""
        self.degraded = ""
        """Which step of the route's `degrade` answered, empty when none had to."""

    @property
    def cache(self) -> CacheStatus:
        """What the cache did for the call; `partial` when some of an app's several calls were kept answers."""
        if len(set(self.caches)) <= 1 or self.degraded == "cache":
            return self.caches[-1] if self.caches else ""
        hits = [status in _HITS for status in self.caches]
        return "hit" if all(hits) else "partial" if any(hits) else self.caches[-1]

    def note(self, row: Considered) -> None:
        """Say what became of a target."""
        self.decision.considered.append(row)

    def answered(self, target: Target) -> None:
        """A call that is no chat was served by `target`."""
        self.target = target
        self.note(Considered(str(target), "served"))

    def failed(self, target: Target, error: InterlockError) -> None:
        """`target` did not serve it."""
        self.note(Considered(str(target), "failed", error.code))


class Call:
    """One request.

    Args:
        whole: the caller takes the answer whole, so that one that breaks off half way can still be asked for again.
        replay: the answer to the first try, which a provider's batch API gave before.
    """

    def __init__(
        self,
        attempts: Attempts,
        request: ChatRequest,
        route: RouteSpec,
        *,
        served: Served,
        meter: Meter,
        sleep: Callable[[float], Awaitable[object]],
        whole: bool = False,
        replay: Replay | None = None,
    ) -> None:
        self._whole_only = whole
        self.replay = replay
        self._attempts = attempts
        self._request = request
        self._route = route
        self.served = served
        self._meter = meter
        self._sleep = sleep
        self._tried = 0
        self._others = 0
        """Targets that may still be asked after the present one."""
        self.began = False
        """True once the caller has been given something: from there on nothing can be tried again."""

    async def run(self, ctx: Context, plan: Plan) -> AsyncGenerator[ChatEvent, None]:
        """Events of the first target of the plan that answers (for a cascade: whose answer is good enough).

        Raises: the last target's error; a limit of the caller's own when every target met one; Unavailable
        (`no_target`) when the plan has none.
        """
        for refused in plan.refused:
            self.served.note(refused)
        if not plan.order:
            raise self.served.tried[1] if self.served.tried is not None else no_target(plan)
        last: InterlockError | None = None
        order = self._order(plan)
        for position, target in enumerate(order):
            self.served.fallbacks = self._tried
            self._tried += 1
            is_last = position == len(order) - 1
            judged = self._route.strategy == "cascade" and not is_last
            self._others = len(order) - position - 1
            try:
                async with aclosing(self._judged(ctx, target) if judged else self._formed(ctx, target)) as stream:
                    async for event in stream:
                        if not self.began:
                            self.began = True
                            self.served.note(Considered(str(target), "served"))
                        yield event
            except _NotGoodEnough as error:
                self._attempts.health.of(str(target)).fallbacks += not is_last
                self.served.note(Considered(str(target), "failed", "escalated", error.why))
                continue
            except InterlockError as error:
                last = error if last is None or not isinstance(error, LimitExceeded) else last
                self.served.note(Considered(str(target), "failed", error.code))
                # A token already sent cannot be taken back, and a deadline is the caller's: neither falls back.
                if self.began or ctx.deadline.remaining_s() <= 0:
                    raise
                self._attempts.health.of(str(target)).fallbacks += not is_last
                continue
            return
        assert last is not None, "the last target of a cascade is not judged"
        raise last

    def _order(self, plan: Plan) -> Sequence[Target]:
        first, self.served.first = self.served.first, None
        health = self._attempts.health
        if first not in plan.order or health.of(str(first)).is_cooling(health.clock()):
            return plan.order
        return [first, *(target for target in plan.order if target != first)]

    def _shape(self, target: Target, request: ChatRequest) -> Shape | None:
        """How the target has to be asked for the form that the caller wants."""
        provider = self._attempts.provider(target.provider)
        lacks = provider.lacks if isinstance(provider, Lacking) else frozenset[str]()
        return shape_for(request, self._attempts.profile(target), lacks, self._route.structured)

    async def _formed(self, ctx: Context, target: Target) -> AsyncGenerator[ChatEvent, None]:
        """Events of one target, in the form that was asked for.

        A target that its provider holds to the form streams as it comes. Any other answer is held back until it is
        whole, read, and asked for again with its fault named, at most `structured.repairs` times; each try is admitted
        and charged by itself, and the answer's usage is the sum.
        Raises: ProviderError (`schema_unmet`) naming where the form was not met.
        """
        asked = self._request.for_target(str(target))
        refuse_foreign(asked, self._attempts.provider(target.provider), target)
        shape = self._shape(target, asked)
        if shape is None:
            async with aclosing(self._target(ctx, target, asked)) as events:
                async for event in events:
                    yield event
            return
        request, spent = shape.request, Usage()
        for number in range(self._route.structured.repairs + 1):
            gathered: list[ChatEvent] = []
            async with aclosing(self._target(ctx, target, request)) as events:
                async for event in events:
                    gathered.append(event)
            finish = gathered[-1]
            assert isinstance(finish, Finish), "`_events` sees to it"
            spent += finish.usage
            try:
                read = await aside(partial(shape.read, [*gathered[:-1], replace(finish, usage=spent)]))
            except Unmet as unmet:
                if unmet.final or number == self._route.structured.repairs or ctx.deadline.remaining_s() <= 0:
                    self.served.target = None
                    raise _unmet(target, unmet, number) from unmet
                request = shape.again(unmet)
                self.served.repairs += 1
                continue
            self.served.usage = spent
            for event in read:
                yield event
            return

    async def _target(self, ctx: Context, target: Target, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Events of one target, tried again while that may help and nothing was sent."""
        if self._route.prompt_cache:
            request = marked(request, self._attempts.profile(target))
        retries = self._attempts.retries(target.provider)
        retries.call()
        for number in range(1, self._route.retries + 2):
            self.served.attempts += 1
            sent = False
            held: list[ChatEvent] = []
            try:
                async with aclosing(self._try(ctx, target, request)) as events:
                    async for event in events:
                        if self._whole_only:
                            held.append(event)
                            continue
                        sent = True
                        yield event
                for event in held:
                    sent = True
                    yield event
                return
            except InterlockError as error:
                # A limit of the caller's own is met again at once; another target may have room.
                if isinstance(error, LimitExceeded) and error.code != "provider_rate_limited":
                    raise
                if sent or number > self._route.retries or not worth_retrying(error) or not retries.take():
                    raise
                if self._others and (isinstance(error, DeadlineExceeded) or error.retry_after_s):
                    # Another target is likely to be there sooner than this one.
                    raise
                wait = backoff_s(number, error)
                if wait >= ctx.deadline.remaining_s() or wait > _PATIENCE_S:
                    raise
                await self._sleep(wait)

    async def _try(self, ctx: Context, target: Target, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        if self.served.tried is not None and self.served.tried[0] == target:
            (_, failed), self.served.tried = self.served.tried, None
            with ctx.span(f"chat {target.model}") as (span, _):
                _describe(span, request, self.served)
                raise failed
        estimate = estimate_usage(request, self._attempts.profile(target).max_output_tokens)
        replayed = self.replay is not None and not self.replay.played
        opened = self._attempts.attempt(
            ctx, target, self._meter, estimate, what="chat", priority=self._route.priority, replayed=replayed
        )
        async with opened as attempt:
            _describe(attempt.span, request, self.served)
            attempt.span.set({"interlock.batch_api": replayed or None})
            characters = 0
            replaced = False
            try:
                async with aclosing(self._events(attempt, target, request)) as events:
                    async for event in events:
                        characters += _characters(event)
                        if isinstance(event, Finish):
                            if not event.usage.is_plausible:
                                # A broken or hostile server's figures must not refund a budget, or overflow a sum.
                                event = replace(event, usage=_broken_off(request, characters))
                            self.served.usage = event.usage
                            _describe_end(attempt.span, event)
                            attempt.charge(event.usage)
                        yield event
            except InterlockError:
                # Nobody was given any of it: another try serves, and that one is charged.
                replaced = not self.began
                raise
            finally:
                if attempt.began and not attempt.charged and not replaced:
                    # It broke off after it had begun: the provider charges for that, so an estimate does too.
                    attempt.charge(_broken_off(request, characters))

    async def _events(self, attempt: Attempt, target: Target, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """The provider's events under the route's timeouts; whatever else it raises becomes a ProviderError."""
        route, deadline = self._route, attempt.ctx.deadline
        began = asyncio.get_running_loop().time()
        ends = began + (route.try_timeout_s or float("inf"))
        if self.replay is not None and not self.replay.played:
            events = self.replay.play()
        else:
            events = self._attempts.provider(target.provider).stream(attempt.ctx, request, target.model)
        first, finished = True, False
        texts = Texts()
        async with aclosing(events):
            while True:
                limit = min(deadline.remaining_s(), ends - asyncio.get_running_loop().time())
                if first:
                    # One that is silent must leave the others their share of the time.
                    share = deadline.remaining_s() / (self._others + 1)
                    limit = min(limit, route.first_token_timeout_s, share)
                try:
                    async with asyncio.timeout(max(0.0, limit)):
                        event = await anext(events)
                except StopAsyncIteration:
                    if not finished:
                        raise Unavailable(
                            f"provider {target.provider!r} ended its answer without finishing it",
                            code="provider_incomplete",
                        ) from None
                    return
                except TimeoutError as error:
                    what = "sending a first token" if first else "answering"
                    raise DeadlineExceeded(
                        f"{target} took more than {asyncio.get_running_loop().time() - began:.1f} s {what}",
                        hint="raise the route's first_token_timeout_s, try_timeout_s or total_timeout_s",
                    ) from error
                except InterlockError:
                    raise
                except Exception as error:
                    _log.error("provider %s failed: %s", target.provider, type(error).__name__, exc_info=error)
                    raise ProviderError(
                        f"provider {target.provider!r} failed: {type(error).__name__}",
                        provider=target.provider,
                        code="provider_failed",
                        hint="the log has the details",
                    ) from error
                if first:
                    attempt.first_token()
                    self.served.target = target
                    first = False
                finished = isinstance(event, Finish)
                for whole in texts.take(event):
                    yield whole

    async def _judged(self, ctx: Context, target: Target) -> AsyncGenerator[ChatEvent, None]:
        """A target's whole answer at once, when it is good enough. Raises: _NotGoodEnough."""
        gathered: list[ChatEvent] = []
        async with aclosing(self._formed(ctx, target)) as events:
            async for event in events:
                gathered.append(event)
        why = await aside(partial(shortcoming, self._route.cascade, self._request, gathered))
        if why:
            self.served.target = None
            raise _NotGoodEnough(why)
        for event in gathered:
            yield event


def refuse_foreign(request: ChatRequest, provider: Provider, target: Target) -> None:
    """Raise InvalidInput, naming the field, when a request holds what the target's API does not know."""
    for only in request.only:
        if not isinstance(provider, TakesNative) or not provider.takes_native(only.origin, target.model):
            raise InvalidInput(
                f"{target} cannot take {only.what}",
                param=only.param,
                code="unsupported_content",
                hint="ask a model of the provider whose API it belongs to, or leave it out",
            )


class _NotGoodEnough(Exception):
    def __init__(self, why: str) -> None:
        self.why = why


def shortcoming(cascade: Cascade, request: ChatRequest, events: list[ChatEvent]) -> str:
    """Why an answer must be escalated, or an empty string."""
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    finish = next((event for event in events if isinstance(event, Finish)), None)
    if cascade.finished and (finish is None or finish.reason not in {"stop", "tool_calls"}):
        return "it was not finished"
    if not calls and len(text.strip()) < cascade.min_chars:
        return "it was too short"
    if any(found_in(pattern, text) for pattern in cascade.reject):
        return "it matched a pattern of the route"
    if cascade.satisfies_schema and request.response_schema is not None and not calls:
        found, value = find_json(text)
        violation = first_violation(request.response_schema or {"type": "object"}, value) if found else None
        if not found or violation is not None:
            return f"it did not hold to the schema{f' at {violation.schema_path}' if violation else ''}"
    return ""


def _unmet(target: Target, unmet: Unmet, repairs: int) -> ProviderError:
    violation = unmet.violation
    where = f" at {violation.schema_path}" if violation.schema_path else ""
    hint = "allow more tokens (max_tokens)" if unmet.final else "simplify the schema, or choose a more capable model"
    return ProviderError(
        f"{target} gave no answer in the form that was asked for{where}: {violation.message}"
        + (f" (asked again {repairs} times)" if repairs else ""),
        provider=target.provider,
        code="schema_unmet",
        hint=hint,
    )


def _characters(event: ChatEvent) -> int:
    if isinstance(event, ToolCallDelta):
        return len(event.arguments)
    return len(event.text) if isinstance(event, (TextDelta, ReasoningDelta)) else 0


def _broken_off(request: ChatRequest, characters: int) -> Usage:
    # Four characters a token is the usual rule of thumb; the figure is marked as an estimate wherever it is shown.
    sent = sum(len(message.text) for message in request.messages)
    return Usage(-(-sent // 4), -(-characters // 4), estimated=True)


def _describe(span: Span, request: ChatRequest, served: Served) -> None:
    prompt = request.prompt
    if prompt is not None:
        span.set(
            {
                "gen_ai.prompt.name": prompt.name,
                "gen_ai.prompt.version": prompt.version,
                "interlock.prompt.variant": prompt.chosen,
            }
        )
    span.set(
        {
            "interlock.attempt": served.attempts,
            "interlock.fallbacks": served.fallbacks,
            "interlock.repairs": served.repairs or None,
            "gen_ai.request.max_tokens": request.max_output_tokens,
            "gen_ai.request.temperature": request.temperature,
        }
    )


def _describe_end(span: Span, finish: Finish) -> None:
    span.set(
        {
            "gen_ai.response.model": finish.model,
            "gen_ai.response.finish_reasons": finish.reason,
            "gen_ai.usage.input_tokens": finish.usage.input_tokens,
            "gen_ai.usage.output_tokens": finish.usage.output_tokens,
        }
    )
