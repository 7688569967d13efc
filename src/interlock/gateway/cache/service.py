"""The cache's door: a kept answer, an equal call's answer, or the provider's, kept for the next."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import anyio

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.ids import TenantId
from interlock.core.messages import ChatEvent, ChatRequest, Finish, NativeDelta, ToolCallDelta, Usage
from interlock.core.ports import Meter
from interlock.gateway.cache.calibration import Calibration
from interlock.gateway.cache.embeddings import EmbeddingCache
from interlock.gateway.cache.entries import joined, replayed
from interlock.gateway.cache.flights import Flight, Flights
from interlock.gateway.cache.keys import key_of, question_key_of
from interlock.gateway.cache.semantic import Question, Semantic
from interlock.gateway.cache.settings import CacheSpec
from interlock.gateway.cache.store import CacheStore, Place, Stamp
from interlock.gateway.cache.types import CacheScope, CacheStatus, Entry, Purge

_log = logging.getLogger("interlock.gateway")
__all__ = ["PROVIDER", "AnswerCache", "CacheCall", "Note"]

PROVIDER = "cache"
"""What the ledger calls the provider of an answer that cost nothing."""
Note = Callable[[CacheStatus, str], None]
"""Told what the cache did, and the target whose answer it is (empty when it is not a kept one)."""
_LOOK_S = 0.05
_MOST_LOOK_S = 0.5
_LET_GO_S = 1.0
_COUNTED = ("hit", "shared", "semantic", "stale", "miss", "refresh", "bypass")


@dataclass(frozen=True, slots=True)
class CacheCall:
    """One call as the cache sees it."""

    ctx: Context
    request: ChatRequest
    spec: CacheSpec
    scope: CacheScope
    route: str
    """Name of the route, empty for an app's own or a bare target."""
    decides: Mapping[str, object]
    """What of the route decides an answer."""
    residency: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """Where its answer is kept."""
        digest = key_of(self.ctx, self.request, self.scope, self.spec, route=self.decides, residency=self.residency)
        return Place.of(self.ctx.tenant, self.scope, self.route, digest, user=self._user)

    @property
    def _user(self) -> str:
        return self.ctx.end_user.id if self.ctx.end_user else ""

    @property
    def question(self) -> Question | None:
        """What the semantic cache may look for."""
        if not self.spec.semantic or self.scope.snapshot:
            # A prompt that is written from documents holds them beside the question: near is not the same there.
            return None
        bucket = question_key_of(
            self.ctx, self.request, self.scope, self.spec, route=self.decides, residency=self.residency
        )
        if bucket is None:
            return None
        place = Place.of(self.ctx.tenant, self.scope, self.route, bucket, user=self._user)
        return Question(self.request.last_user_text, place)


class AnswerCache:
    """Kept answers of all tenants."""

    def __init__(self, store: CacheStore, semantic: Semantic) -> None:
        self._store = store
        self._semantic = semantic
        self._flights = Flights()
        self._holder = secrets.token_hex(8)
        self.embeddings = EmbeddingCache(store)
        self.counts: dict[TenantId, Counter[str]] = {}
        """Tenant to what the cache did for its calls, and tokens that were not bought, in this worker."""

    def use(self, calibration: Calibration | None) -> None:
        """Take over what was recorded of the semantic cache's precision."""
        self._semantic.use(calibration)

    def check(self, route: str, spec: CacheSpec) -> None:
        """Raise Misconfigured when `spec` asks for what is not there."""
        if spec.semantic:
            self._semantic.require(route)

    async def stream(
        self,
        call: CacheCall,
        meter: Meter,
        note: Note,
        ask: Callable[[], AsyncGenerator[ChatEvent, None]],
        *,
        target: Callable[[], str],
    ) -> AsyncGenerator[ChatEvent, None]:
        """Events of a kept answer, or those of `ask`, which are then kept if they may be.

        Args:
            target: who served `ask`, once it has ended.

        Raises: what `ask` raises; LimitExceeded: also a kept answer counts as a request.
        """
        if call.ctx.cache == "no-store" or not _may_look(call):
            self._noted(call, note, "bypass")
            async with aclosing(ask()) as events:
                async for event in events:
                    yield event
            return
        self.check(call.route, call.spec)
        place, question = call.place, call.question
        refresh = call.ctx.cache == "refresh"
        flight: Flight | None = None
        leads = False
        if not refresh:
            found = await self._find(call, place, question)
            if found is None and call.spec.coalesce:
                found, flight = await self._follow_or_lead(call, place)
            if flight is not None:
                try:
                    found, leads = await self._follow_elsewhere(call, place)
                except BaseException:
                    flight.lost()
                    raise
                if found is not None:
                    flight.landed(found[0].events, found[0].target)
            if found is not None:
                entry, status = found
                await self._charge(call, meter, entry)
                self._noted(call, note, status, entry)
                for event in replayed(entry.events):
                    yield event
                return
        try:
            self._noted(call, note, "refresh" if refresh else "miss")
            stamp = await self._stamp(place)
            gathered: list[ChatEvent] = []
            async with aclosing(ask()) as events:
                async for event in events:
                    gathered.append(event)
                    if isinstance(event, Finish):
                        # Before the last event: a caller that knows its answer finds it kept.
                        kept = joined(gathered)
                        if _may_keep(kept, call.spec):
                            await self._keep(call, place, question, stamp, entry=Entry(kept, target(), fresh=True))
                            if flight is not None:
                                flight.landed(kept, target())
                        elif flight is not None:
                            flight.alone()
                    yield event
        finally:
            if flight is not None:
                flight.lost()
            if leads:
                await self._let_others(place)

    async def stale(self, call: CacheCall, meter: Meter, note: Note) -> AsyncGenerator[ChatEvent, None]:
        """Events of a kept answer that is past its time; none when there is none."""
        if call.ctx.cache == "no-store" or not _may_look(call):
            return
        entry = await self._store.get(call.place, call.spec)
        if entry is None:
            return
        await self._charge(call, meter, entry)
        self._noted(call, note, "stale", entry)
        for event in replayed(entry.events):
            yield event

    async def purge(self, tenant: TenantId, what: Purge) -> int:
        """Forget answers; how many were removed. What is being written now is not given to anybody either."""
        return await self._store.purge(tenant, what)

    async def _find(self, call: CacheCall, place: Place, question: Question | None) -> tuple[Entry, CacheStatus] | None:
        try:
            entry = await self._store.get(place, call.spec)
            if entry is not None and entry.fresh:
                return entry, "hit"
            if question is None:
                return None
            digest = await self._semantic.find(question)
            if digest is None:
                return None
            near = await self._store.get(place._replace(digest=digest), call.spec)
        except Exception as error:  # noqa: BLE001 - a border: without its store the cache is a miss
            _log.warning("the cache's store is away: %s", type(error).__name__)
            return None
        return (near, "semantic") if near is not None and near.fresh else None

    async def _follow_or_lead(
        self, call: CacheCall, place: Place
    ) -> tuple[tuple[Entry, CacheStatus] | None, Flight | None]:
        """The answer of an equal call under way, or the lead of a new flight, or neither: ask without others."""
        name = _flight_name(place)
        until = Deadline.after(call.spec.coalesce_wait_s)
        # No wait between looking and leading: two callers cannot both lead.
        while (flight := self._flights.find(name)) is not None:
            landing = await flight.wait(min(until.remaining_s(), call.ctx.deadline.remaining_s()))
            call.ctx.deadline.check("waiting for an equal call's answer")
            if landing.kind == "landed":
                return (Entry(landing.events, landing.target, fresh=True), "shared"), None
            if landing.kind != "lost" or until.remaining_s() <= 0:
                return None, None
        return None, self._flights.lead(name)

    async def _follow_elsewhere(self, call: CacheCall, place: Place) -> tuple[tuple[Entry, CacheStatus] | None, bool]:
        """The answer of an equal call under way in another worker, or whether the others know that this one asks.

        The lead ends by itself when its holder dies; whoever waits asks after `coalesce_wait_s` at the latest.
        """
        most = min(call.spec.coalesce_wait_s, call.ctx.deadline.remaining_s())
        until = Deadline.after(most)
        pause = _LOOK_S
        try:
            while not await self._store.lead(place, self._holder, call.spec.coalesce_wait_s):
                while await self._store.is_led(place) and until.remaining_s() > 0:
                    await asyncio.sleep(min(pause, max(0.0, until.remaining_s())))
                    pause = min(pause * 1.5, _MOST_LOOK_S)
                entry = await self._store.get(place, call.spec)
                if entry is not None and entry.fresh:
                    return (entry, "shared"), False
                if until.remaining_s() <= 0:
                    return None, False
        except Exception as error:  # noqa: BLE001 - a border: without its store each worker asks for itself
            _log.warning("the cache's store is away: %s", type(error).__name__)
            return None, False
        return None, True

    async def _let_others(self, place: Place) -> None:
        # Also when the caller has left: others wait for it. Not for long: the lead ends by itself.
        with anyio.move_on_after(_LET_GO_S, shield=True):
            try:
                await self._store.led(place, self._holder)
            except Exception as error:  # noqa: BLE001 - a border, as above
                _log.warning("the cache's store is away: %s", type(error).__name__)

    async def _keep(
        self,
        call: CacheCall,
        place: Place,
        question: Question | None,
        stamp: Stamp | None,
        *,
        entry: Entry,
    ) -> None:
        stored = False
        try:
            if stamp is not None:
                stored = await self._store.put(place, call.spec, stamp, entry.events, entry.target)
            if stored and question is not None:
                await self._semantic.keep(question, place.digest, call.spec.ttl_s)
                if stamp is not None and await self._store.has_moved(place, stamp):
                    await self._store.forget_questions(question.bucket)
        except Exception as error:  # noqa: BLE001 - a border: a store that is away must not take the answer away
            _log.warning("an answer was not kept: %s", type(error).__name__)
        self._count(call.ctx.tenant)["kept" if stored else "not_kept"] += 1

    async def _stamp(self, place: Place) -> Stamp | None:
        try:
            return await self._store.stamp(place)
        except Exception as error:  # noqa: BLE001 - a border, as above
            _log.warning("the cache's store is away: %s", type(error).__name__)
            return None

    async def _charge(self, call: CacheCall, meter: Meter, entry: Entry) -> None:
        admitted = await meter.admit(PROVIDER, entry.target, Usage())
        try:
            admitted.charge(Usage())
        finally:
            admitted.drop()
        finish = entry.events[-1]
        assert isinstance(finish, Finish), "an entry ends with its finish"
        self._count(call.ctx.tenant)["saved_tokens"] += finish.usage.total_tokens

    def _noted(self, call: CacheCall, note: Note, status: CacheStatus, entry: Entry | None = None) -> None:
        self._count(call.ctx.tenant)[status] += 1
        note(status, entry.target if entry else "")

    def _count(self, tenant: TenantId) -> Counter[str]:
        return self.counts.setdefault(tenant, Counter())

    def totals(self) -> Mapping[str, int]:
        """What the cache did for all tenants of this worker, for metrics."""
        total: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))
        for counts in self.counts.values():
            total.update(counts)
        return total


def _flight_name(place: Place) -> str:
    return f"{place.tenant}/{place.key}"


def _may_look(call: CacheCall) -> bool:
    most = call.spec.max_temperature
    return most is None or (call.request.temperature or 0.0) <= most


def _may_keep(events: Sequence[ChatEvent], spec: CacheSpec) -> bool:
    finish = events[-1]
    assert isinstance(finish, Finish), "asked at the finish"
    if any(isinstance(event, NativeDelta) for event in events):
        # What a provider's tools found holds for a moment, and is kept in no form of ours.
        return False
    allowed = {"stop", *(["length"] if spec.truncated else []), *(["tool_calls"] if spec.tool_calls else [])}
    has_calls = any(isinstance(event, ToolCallDelta) for event in events)
    return finish.reason in allowed and (spec.tool_calls or not has_calls)
