"""What batches leave at providers is stopped and deleted there, also when the batch or its worker is gone."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.core.ids import TenantId, new_trace_id
from interlock.cost.handed import Handed
from interlock.flows.batch_line import context_of
from interlock.flows.parts import Parts
from interlock.gateway.handing import lane_of
from interlock.gateway.kept_lanes import KeptLane, KeptLanes
from interlock.gateway.lanes.ports import BatchLane

__all__ = ["clean_up", "remove"]

_log = logging.getLogger("interlock.batch")
_STEP_S = 600.0


async def remove(store: KeptLanes, ctx: Context, lane: KeptLane, api: BatchLane) -> KeptLane:
    """Delete what is left of a lane at its provider."""
    remote = lane.remote
    if not remote.batch and lane.state == "creating":
        # Its creation may have gone through without our being told.
        found = await api.find(ctx, lane.id, lane.lines)
        if found is not None:
            remote = found.remote
            await api.cancel(ctx, remote)
    await api.remove(ctx, remote)
    return await store.change(lane, state="closed", failures=0)


async def _cleaned(store: KeptLanes, ctx: Context, lane: KeptLane, api: BatchLane | None) -> None:
    if api is None:
        await store.change(lane, state="closed", reason="provider_removed")
        return
    if lane.is_open and lane.remote.batch:
        await api.cancel(ctx, lane.remote)
    await remove(store, ctx, lane, api)


async def clean_up(parts: Parts, base: Context, home: TenantId) -> int:
    """Stop and delete at providers what batches left there that have ended or are gone; gives the number of lanes.

    Args:
        base: whose trace sink is used.
    """
    store = KeptLanes(parts.kept)
    cleaned = 0
    for lane in await store.left_behind(home):
        ctx = context_of(Context(lane.tenant, base.principal, sink=base.sink), new_trace_id())
        for hold in await store.drop(lane, await store.holds(lane)):
            await Handed.read(hold.held).put_right(parts.cost)
        try:
            with parts.gateway.hold():
                api = lane_of(parts.gateway, lane.provider)
                async with asyncio.timeout(_STEP_S):
                    await _cleaned(store, ctx, lane, api)
            cleaned += 1
        except (InterlockError, TimeoutError) as error:
            code = error.code if isinstance(error, InterlockError) else "provider_timeout"
            _log.warning("batch lane %s: %s was not cleaned up: %s", lane.id, lane.provider, code)
            wait = timedelta(seconds=60.0 * 2.0 ** min(lane.failures, 10))
            await store.change(lane, failures=lane.failures + 1, next_at=now() + wait)
    await store.forget_closed(home)
    return cleaned
