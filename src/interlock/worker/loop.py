"""One worker: claims a job, runs it, goes on; a job whose worker died is taken over when its lease ends."""

from __future__ import annotations

import asyncio
import logging
import os
import socket

from interlock.app import App
from interlock.core.errors import InterlockError, InvalidInput
from interlock.flows.ingest import KIND, LEASE_S, run_ingest
from interlock.stores.jobs.base import Job

__all__ = ["work"]

_IDLE_S = 1.0
_log = logging.getLogger("interlock.worker")


async def work(app: App) -> None:
    """Run jobs until cancelled."""
    # Workspaces of several tenants may share a database; each reads its own folders alone.
    tenant = app.workspace.settings.tenant
    name = f"{socket.gethostname()}:{os.getpid()}"
    while True:
        try:
            job = await app.parts.jobs.claim(name, [KIND], lease_s=LEASE_S, tenant=tenant)
            if job is not None:
                await _run(app, job)
                continue
        except InterlockError as error:
            # The job carries its own error; a database that is away is asked again later.
            _log.warning("worker: %s", error.code)
        await asyncio.sleep(_IDLE_S)


async def _run(app: App, job: Job) -> None:
    collection = str(job.payload.get("collection", ""))
    try:
        spec = app.source_spec(collection)
    except InterlockError as error:
        await app.parts.jobs.fail(job, code=error.code, message=error.message, retry_in_s=None)
        raise InvalidInput(f"job {job.id} names no collection of this workspace") from error
    await run_ingest(app.parts, app.owner(), job, spec)
