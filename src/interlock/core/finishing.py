"""What has to be brought to its end although whoever began it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio

__all__ = ["finished"]


# Any: what is sent into a coroutine, which is nothing here.
async def finished(work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work` however often the caller is cancelled meanwhile, then let the cancellation go on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    # anyio cancels again at every await inside a cancelled scope, so its scopes must be kept out as well.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
