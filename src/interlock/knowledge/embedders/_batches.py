"""Rows of texts into batches that a model runs at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import anyio
from anyio import to_thread

__all__ = ["batches", "run_batches"]

_TEXTS = 32
_TOKENS = 1024
"""What a batch computes with stays in a core's cache: batches four times as large take an eighth longer."""


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers in batches of similar length, longest first, bounded in texts and in padded tokens."""
    batch: list[int] = []
    width = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        width = width or lengths[row]
        if batch and (len(batch) >= _TEXTS or (len(batch) + 1) * width > _TOKENS):
            yield batch
            batch, width = [], lengths[row]
        batch.append(row)
    if batch:
        yield batch


async def run_batches(lengths: Sequence[int], run: Callable[[list[int]], None], *, workers: int) -> None:
    """Give batches of rows to `run`, in threads, so many at a time; cancelling takes effect between two of them.

    Raises: what `run` raised first.
    """
    left = batches(lengths)

    async def work() -> None:
        for rows in left:
            await to_thread.run_sync(run, rows)

    try:
        async with anyio.create_task_group() as group:
            for _ in range(workers):
                group.start_soon(work)
    except BaseExceptionGroup as failures:
        # One batch's error is the caller's error; the group is only how it travelled.
        raise failures.exceptions[0] from failures
