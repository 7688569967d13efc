"""Take a share of the answers that people were given, with their text, for whoever scores them afterwards.

Only what an app's `monitor` asks for is stored. Evaluations, copies of rollouts and whoever works at this machine are
no production traffic, and what somebody wants kept nowhere is not taken.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import Protocol

import msgspec

from interlock.core.answers import Answer
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.core.ids import TenantId
from interlock.core.messages import ChatRequest, Finish, TextDelta, Usage
from interlock.core.money import Money
from interlock.core.release import Release
from interlock.evals.monitoring.service import Monitors
from interlock.evals.monitoring.types import Content, MonitorSpec, Sample
from interlock.evals.types import CitedSpan, Found, Output
from interlock.flows.monitor_files import MonitorFiles

__all__ = ["Sampling", "Taken"]

_log = logging.getLogger("interlock.monitor")
_MOST_WAITING = 200
_MOST_CHARACTERS = 100_000


class Spent(Protocol):
    """What a request used, as its receipt says."""

    @property
    def model(self) -> str:
        """Who answered."""

    @property
    def usage(self) -> Usage:
        """Tokens."""

    @property
    def cost(self) -> Money | None:
        """None without a price."""


class Taken:
    """One answer that is going to be sampled, while it comes."""

    def __init__(self, spec: MonitorSpec) -> None:
        self.spec = spec
        self.began = time.perf_counter()
        self.text: list[str] = []
        self.outcome = ""

    def see(self, event: object) -> None:
        """Take note of what comes by."""
        if isinstance(event, TextDelta):
            self.text.append(event.text)
        elif isinstance(event, Finish) and event.reason == "content_filter":
            self.outcome = "refused"

    def output(self, ctx: Context, answer: Answer | None, receipt: Spent) -> Output:
        """As evaluations have it."""
        seconds = time.perf_counter() - self.began
        if answer is None:
            return Output(
                text="".join(self.text),
                outcome=self.outcome,
                latency_s=seconds,
                model=receipt.model,
                trace_id=ctx.trace_id,
                input_tokens=receipt.usage.input_tokens,
                output_tokens=receipt.usage.output_tokens,
                cost_nano=None if receipt.cost is None else receipt.cost.nano,
            )
        return Output(
            text=answer.text,
            outcome=answer.outcome,
            citations=tuple(
                CitedSpan(c.source, c.quote, c.span.start, c.span.end, c.page, sentence.text, c.support)
                for sentence in answer.sentences
                for c in sentence.citations
            ),
            found=tuple(Found(each.source, each.text, each.span.start, each.span.end) for each in answer.passages),
            documents=tuple(dict.fromkeys(each.document_id for each in answer.passages)),
            latency_s=seconds,
            model=receipt.model,
            trace_id=ctx.trace_id,
            input_tokens=receipt.usage.input_tokens,
            output_tokens=receipt.usage.output_tokens,
            cost_nano=None if receipt.cost is None else receipt.cost.nano,
        )


class Sampling:
    """Answers under way to the store, in this worker.

    Args:
        tenant: the workspace's own: of others nobody would score what was stored.
    """

    def __init__(self, monitors: Monitors, files: MonitorFiles, tenant: TenantId) -> None:
        self._tenant = tenant
        self._monitors = monitors
        self._files = files
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0
        """Samples that were not stored, because the store was slower than the traffic, or away."""

    def spec_of(self, app: str) -> MonitorSpec:
        """What the app's file asks for now."""
        return self._files.of(app)

    def begin(self, ctx: Context, release: Release | None) -> Taken | None:
        """Whether this answer is sampled: drawn by its trace, so that every worker draws alike."""
        if release is None or ctx.tenant != self._tenant or ctx.principal.kind == "local" or ctx.cache == "no-store":
            return None
        if release.assignment is not None and release.assignment.arm == "shadow":
            return None
        spec = self._files.of(release.app)
        drawn = int.from_bytes(hashlib.sha256(ctx.trace_id.encode()).digest()[:6]) / (1 << 48)
        return Taken(spec) if drawn < spec.share else None

    def end(self, ctx: Context, request: ChatRequest, release: Release, taken: Taken, output: Output) -> None:
        """Store it, without anybody waiting for it."""
        turns = [
            {"role": message.role, "content": message.text[:_MOST_CHARACTERS]}
            for message in request.messages
            if message.role in {"user", "assistant"} and message.text
        ]
        if not turns or turns[-1]["role"] != "user" or len(self._tasks) >= _MOST_WAITING:
            self.dropped += 1
            return
        asker = ctx.end_user.id if ctx.end_user is not None else ""
        content = Content(turns, msgspec.to_builtins(output))
        sample = Sample(
            ctx.trace_id, release.app, release.id, now(), content, None, None, documents=output.documents, asker=asker
        )
        task = asyncio.ensure_future(self._store(ctx, sample, taken.spec.most_per_day))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store(self, ctx: Context, sample: Sample, most_per_day: int) -> None:
        try:
            await self._monitors.take(ctx, sample, most_per_day=most_per_day)
        except InterlockError as error:
            self.dropped += 1
            _log.warning("a sample was not stored: %s", error.code)
        except Exception as error:  # noqa: BLE001 - border: nobody waits for it, so nobody else would tell
            self.dropped += 1
            _log.error("a sample was not stored: %s", type(error).__name__)

    async def drain(self) -> None:
        """Wait for what is under way: for tests, and before the stores close."""
        while self._tasks:
            await asyncio.wait(self._tasks)
