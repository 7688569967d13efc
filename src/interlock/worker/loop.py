"""One worker: claims jobs, runs them, goes on; a job whose worker died is taken over when its lease ends.

Ingests, batches and responses in the background run beside each other: a batch may take a day. So do batches.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from interlock.app import App
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.ids import JobId
from interlock.flows import background, batch, experiment, gate_job, ingest, monitoring, rollout, staleness
from interlock.flows.batch import BatchLimits
from interlock.flows.gate import GateRuns
from interlock.flows.monitor_files import MonitorFiles
from interlock.flows.parts import Parts
from interlock.stores.jobs.base import Job

__all__ = ["limits_of", "work", "work_batches"]

_IDLE_S = 1.0
_SOON_S = 0.5
"""Somebody may be waiting for a response, as nobody is for a batch."""
_DUE_EVERY_S = 15.0
"""How often schedules of sources are looked at."""
_TIDY_EVERY_S = 3600.0
_MOST_ASIDE = 10_000
_LOOK_S = 10.0
_NEW_ROLLOUT_S = 2.0
_MONITOR_S = 15.0
_log = logging.getLogger("interlock.worker")


async def work(app: App) -> None:
    """Run jobs until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_work_ingests(app))
        group.create_task(work_batches(app))
        group.create_task(_work_responses(app))
        group.create_task(_work_gates(app))
        group.create_task(_look_at_rollouts(app))
        group.create_task(_monitor(app, monitoring.look_at_due))
        group.create_task(_monitor(app, monitoring.nights_due))
        group.create_task(_tidy(app))


async def _look_at_rollouts(app: App) -> None:
    while True:
        wait = _LOOK_S
        try:
            wait = await rollout.look_at_due(app.parts, app.owner())
            wait = min(wait, await experiment.look_at_due(app.parts, app.owner()))
        except InterlockError as error:
            _log.warning("worker: rollouts and experiments cannot be looked at: %s", error.code)
        # One that was started a moment ago must not wait a minute for its first look.
        await asyncio.sleep(min(wait, _NEW_ROLLOUT_S))


async def _monitor(app: App, look: Callable[[Parts, Context, MonitorFiles], Awaitable[object]]) -> None:
    """Score samples of answers and ask canaries, or run suites at night, as the apps' files say."""
    files = MonitorFiles(app.workspace.path(app.workspace.settings.apps_dir))
    while True:
        try:
            await look(app.parts, app.owner(), files)
        except InterlockError as error:
            _log.warning("worker: answers cannot be looked at: %s", error.code)
        except Exception as error:  # noqa: BLE001 - a border: the next look may succeed, and ingests go on meanwhile
            _log.error("a look at answers broke off: %s", type(error).__name__, exc_info=error)
        await asyncio.sleep(_MONITOR_S)


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


async def _work_ingests(app: App) -> None:
    # Workspaces of several tenants may share a database; each reads its own folders alone.
    tenant = app.workspace.settings.tenant
    look_at = 0.0
    while True:
        try:
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _DUE_EVERY_S
                for name, error in app.broken_collections().items():
                    _log.warning("worker: the source file %s is left out: %s", name, error.code)
                specs = [app.source_spec(name) for name in app.collections()]
                await ingest.enqueue_due(app.parts, app.owner(), specs)
                post = staleness.post_with(app.workspace.settings.knowledge.alerts, os.environ)
                await staleness.tell_changes(app.parts, app.owner(), specs, post)
            job = await app.parts.jobs.claim(_name(), [ingest.KIND], lease_s=ingest.LEASE_S, tenant=tenant)
            if job is not None:
                await _ingest(app, job)
                continue
        except InterlockError as error:
            # The job carries its own error; a database that is away is asked again later.
            _log.warning("worker: %s", error.code)
        await asyncio.sleep(_IDLE_S)


async def _ingest(app: App, job: Job) -> None:
    collection = str(job.payload.get("collection", ""))
    try:
        spec = app.source_spec(collection)
    except InterlockError as error:
        await app.parts.jobs.fail(job, code=error.code, message=error.message, retry_in_s=None)
        raise InvalidInput(f"job {job.id} names no collection of this workspace") from error
    await ingest.run_job(app.parts, app.owner(), job, spec)


async def _work_gates(app: App) -> None:
    """One after the other: their calls are bounded by the suites' own concurrency."""
    workspace = app.workspace
    while True:
        try:
            job = await app.parts.jobs.claim(
                _name(), [gate_job.KIND], lease_s=gate_job.LEASE_S, tenant=workspace.settings.tenant
            )
            if job is not None:
                runs = GateRuns(
                    workspace.path(workspace.settings.apps_dir) / str(job.payload.get("app", "")) / "evals",
                    workspace.data / "evaluations" / "runs",
                    licences=[workspace.root / "judges"],
                )
                await gate_job.run_gate_job(app.parts, app.owner(), job, runs)
                continue
        except InterlockError as error:
            # The job carries its own error.
            _log.warning("worker: the runs of a gate ended: %s", error.code)
        except Exception as error:  # noqa: BLE001 - a border: other jobs are done all the same
            _log.error("the runs of a gate broke off: %s", type(error).__name__, exc_info=error)
        await asyncio.sleep(_IDLE_S)


def limits_of(app: App) -> BatchLimits:
    """What the settings say about batches."""
    settings = app.workspace.settings
    return BatchLimits(
        settings.gateway.batch_concurrency,
        settings.gateway.batch_max_lines,
        settings.gateway.store_responses,
        settings.tenant,
        settings.gateway.batch_poll_s,
    )


async def work_batches(app: App, *, until_idle: bool = False, only: JobId | None = None) -> None:
    """Run batches beside each other, until cancelled.

    Args:
        until_idle: or until none is left that can go on now.
        only: no other than this job.
    """
    work = _Batches(app, limits_of(app), only)
    async with asyncio.TaskGroup() as group:
        while True:
            if not await work.begin(group):
                if until_idle and not work.running:
                    return
                await work.wait()


class _Aside(NamedTuple):
    owner: str
    until: float
    """Of the monotonic clock."""


class _Batches:
    """The batches that one worker has under way."""

    def __init__(self, app: App, limits: BatchLimits, only: JobId | None) -> None:
        self._app = app
        self._limits = limits
        self._kind = batch.kind_of(limits.home)
        self._only = only
        self._places = batch.Places(limits.concurrency)
        self.running: dict[JobId, asyncio.Task[None]] = {}
        self._aside: dict[JobId, _Aside] = {}
        """Jobs that wait for others of the same owner."""

    async def begin(self, group: asyncio.TaskGroup) -> bool:
        """Claim a job and run it in the group; False when there is none now, or no room."""
        if len(self.running) >= batch.MOST_BATCHES:
            return False
        at = time.monotonic()
        self._aside = {
            job: aside
            for job, aside in self._aside.items()
            if aside.until > at and self._places.is_full_for(aside.owner)
        }
        # A lease of ours that ran out while the machine was busy is renewed by its own run.
        besides = [*self.running, *self._aside]
        try:
            job = await self._app.parts.jobs.claim(
                _name(), [self._kind], lease_s=batch.LEASE_S, job=self._only, besides=besides
            )
        except InterlockError as error:
            _log.warning("worker: %s", error.code)
            return False
        if job is None:
            return False
        self.running[job.id] = group.create_task(self._run(job))
        return True

    async def wait(self) -> None:
        """For a batch to end, or a short time."""
        if self.running:
            await asyncio.wait(self.running.values(), timeout=_IDLE_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(_IDLE_S)

    async def _run(self, job: Job) -> None:
        try:
            crowded = await batch.run_batch(self._app.parts, self._app.owner(), job, self._limits, self._places)
            if crowded is not None and len(self._aside) < _MOST_ASIDE:
                # It is looked at now and then all the same: it may have been cancelled.
                look_s = max(_LOOK_S, len(self._aside) * _LOOK_S / 100)
                self._aside[job.id] = _Aside(crowded, time.monotonic() + look_s)
        except InterlockError as error:
            _log.warning("worker: %s", error.code)
        except Exception as error:  # noqa: BLE001 - a border: the job's lease ends, and it is tried again
            _log.error("a batch broke off: %s", type(error).__name__, exc_info=error)
        finally:
            del self.running[job.id]


async def _work_responses(app: App) -> None:
    """Make responses that nobody waits for, a few at a time."""
    settings = app.workspace.settings
    kind = background.kind_of(settings.tenant)
    free = asyncio.Semaphore(settings.gateway.batch_concurrency)

    async def run(job: Job) -> None:
        try:
            may_store = app.workspace.settings.gateway.store_responses
            await background.run_background(app.parts, app.owner(), job, may_store=may_store)
        except InterlockError as error:
            _log.warning("worker: %s", error.code)
        except Exception as error:  # noqa: BLE001 - a border: the job's lease ends, and it is tried again
            _log.error("a response broke off: %s", type(error).__name__, exc_info=error)
        finally:
            free.release()

    async with asyncio.TaskGroup() as group:
        while True:
            await free.acquire()
            job = None
            try:
                job = await app.parts.jobs.claim(_name(), [kind], lease_s=background.LEASE_S)
            except InterlockError as error:
                _log.warning("worker: %s", error.code)
            if job is None:
                free.release()
                await asyncio.sleep(_SOON_S)
                continue
            group.create_task(run(job))


async def _tidy_spans(app: App) -> None:
    try:
        await app.parts.observe.tidy()
    except (OSError, TimeoutError) as error:
        _log.warning("spans could not be merged: %s", type(error).__name__)


async def _tidy(app: App) -> None:
    """Remove what is past its age, and queue batches whose process died before it could."""
    last = 0.0
    while True:
        try:
            await batch.requeue_lost(app.parts, limits_of(app))
            await batch.clean_up(app.parts, app.owner(), limits_of(app).home)
            await background.requeue_lost(app.parts, limits_of(app).home)
            await _tidy_spans(app)
            if time.monotonic() - last > _TIDY_EVERY_S or not last:
                last = time.monotonic()
                await app.parts.kept.tidy()
        except InterlockError as error:
            _log.warning("worker: %s", error.code)
        await asyncio.sleep(60.0)
