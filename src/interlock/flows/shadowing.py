"""Copies of requests to the release that a rollout tries in the shadow: answered, measured, thrown away.

A copy starts when its caller has the whole answer, so nobody waits for it. It reads as the same person reads, its
answer goes nowhere, and it is paid by the rollout and not out of the caller's own limits.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from interlock.core.clock import Deadline
from interlock.core.context import Context, Notices, Principal
from interlock.core.errors import InterlockError
from interlock.core.ids import PrincipalId, new_trace_id
from interlock.core.messages import ChatRequest
from interlock.core.release import Release
from interlock.releases.service import Releases

__all__ = ["Shadowing"]

_log = logging.getLogger("interlock.rollout")
_HOUR_S = 3600.0
_TIMEOUT_S = 120.0
Answer = Callable[[Context, ChatRequest, Release], "AsyncGenerator[object, None]"]


class Shadowing:
    """Copies under way in this worker.

    Args:
        answer: the flow that answers a request by a release.
    """

    def __init__(self, releases: Releases, answer: Answer, *, draw: Callable[[], float] = random.random) -> None:
        self._releases = releases
        self._answer = answer
        self._draw = draw
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}
        self._sent: dict[str, deque[float]] = {}

    def maybe(self, ctx: Context, request: ChatRequest, release: Release | None) -> None:
        """Send a copy if the caller's rollout wants one and its bounds allow it. Gives back at once."""
        assignment = release.assignment if release is not None else None
        if release is None or assignment is None or assignment.shadow is None:
            return
        wanted = assignment.shadow
        if self._draw() >= wanted.share:
            return
        tasks = self._tasks.setdefault(assignment.rollout, set())
        sent = self._sent.setdefault(assignment.rollout, deque())
        at = time.monotonic()
        while sent and sent[0] <= at - _HOUR_S:
            sent.popleft()
        if len(tasks) >= wanted.concurrency or len(sent) >= wanted.max_per_hour:
            return
        sent.append(at)
        task = asyncio.ensure_future(self._copy(ctx, request, release))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _copy(self, ctx: Context, request: ChatRequest, release: Release) -> None:
        assignment = release.assignment
        assert assignment is not None and assignment.shadow is not None, "asked for by `maybe`"
        own = replace(
            ctx,
            principal=Principal(PrincipalId(assignment.rollout), "service", ctx.principal.roles),
            deadline=Deadline.after(_TIMEOUT_S),
            trace_id=new_trace_id(),
            parent_span=None,
            notices=Notices(),
            cache="no-store",
        )
        try:
            candidate = await self._releases.load(own, release.app, assignment.shadow.release)
            copied = replace(
                candidate, channel=release.channel, assignment=assignment._replace(arm="shadow", shadow=None)
            )
            async with aclosing(self._answer(own, request, copied)) as events:
                async for _ in events:
                    pass
        except InterlockError as error:
            # It is on the copy's own span, which is what the rollout is judged by.
            _log.info("a copy for the rollout %s ended in %s", assignment.rollout, error.code)
        except Exception as error:  # noqa: BLE001 - border: nobody waits for a copy, so nobody else would tell
            _log.error("a copy for the rollout %s broke: %s", assignment.rollout, type(error).__name__)

    async def drain(self) -> None:
        """Wait for the copies that are under way: for tests and drills."""
        while waiting := [task for tasks in self._tasks.values() for task in tasks]:
            await asyncio.wait(waiting)

    async def close(self) -> None:
        """Stop them."""
        waiting = [task for tasks in self._tasks.values() for task in tasks]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
