"""Filters tried on all documents of a collection, beside the event loop: whoever asks slowly waits alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.ids import DocumentId
from interlock.knowledge.filters import Filter
from interlock.knowledge.types import DocumentInfo

__all__ = ["narrowed"]

WITHIN_S = 2.0
"""Longest time of the processor that one filter is tried for; plain conditions on 100,000 documents take a quarter."""
_AT_ONCE = 2
"""Threads that try filters: slow ones wait for one another and leave the rest of the machine alone."""
_STEP = 16
"""Documents between two looks at the clock."""


async def narrowed(
    ctx: Context, wanted: Filter, infos: Sequence[DocumentInfo], readers: frozenset[str]
) -> frozenset[DocumentId]:
    """The documents that `readers` may read and that meet a filter.

    Raises: InvalidInput (`filter_too_slow`); DeadlineExceeded.
    """
    given_up = False

    def run() -> frozenset[DocumentId]:
        ends = time.thread_time() + WITHIN_S
        found: list[DocumentId] = []
        for start in range(0, len(infos), _STEP):
            if given_up:
                break
            ctx.deadline.check("filtering")
            if time.thread_time() > ends:
                raise _too_slow()
            found += [
                i.id for i in infos[start : start + _STEP] if not i.readers.isdisjoint(readers) and wanted.holds(i)
            ]
        return frozenset(found)

    try:
        return await asyncio.get_running_loop().run_in_executor(_threads(), run)
    except asyncio.CancelledError:
        given_up = True
        raise


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="filters")


def _too_slow() -> InvalidInput:
    return InvalidInput(
        "the filter took too long on the collection's documents and was given up",
        code="filter_too_slow",
        param="filter",
        hint="take fewer and shorter patterns, or conditions without a pattern",
    )
