"""Executions of a run in worker processes or on a Ray cluster; each worker opens the target once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import anyio

from interlock.core.errors import InterlockError
from interlock.evals.running.journal import Row
from interlock.evals.running.runner import LocalExecutor, Work
from interlock.stores.compute.base import Executor as Compute

__all__ = ["SpreadExecutor", "execute_all"]


class SpreadExecutor:
    """Where the work is done; rows come back to the journal of this process.

    Answers that earlier runs were given are not taken: workers do not share them.

    Args:
        compute: whose workers hold a `LocalExecutor` as their state; open already.
        together: executions that a worker has under way.
    """

    def __init__(self, compute: Compute, *, together: int) -> None:
        self._compute = compute
        self._together = together

    async def do(self, work: Iterator[Work], take: Callable[[Row], bool]) -> None:
        """See `interlock.evals.running.runner.Executor`."""
        stopped: list[InterlockError] = []

        async def go_on(scope: anyio.CancelScope) -> None:
            while batch := list(islice(work, self._together)):
                try:
                    rows = await self._compute.run(execute_all, batch)
                except InterlockError as error:
                    stopped.append(error)
                    scope.cancel()
                    return
                going = True
                for row in rows:
                    # What was answered is written down, also after the run has seen enough.
                    going = take(row) and going
                if not going:
                    scope.cancel()
                    return

        async with anyio.create_task_group() as group:
            for _ in range(self._compute.workers):
                group.start_soon(go_on, group.cancel_scope)
        if stopped:
            raise stopped[0]


async def execute_all(state: LocalExecutor, works: Sequence[Work]) -> list[Row]:
    """Several at once, their rows in order. Raises: what no case could be answered by."""
    rows: dict[int, Row] = {}
    failed: list[InterlockError] = []

    async def one(number: int, work: Work) -> None:
        try:
            rows[number] = await state.execute(work)
        except InterlockError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        for number, work in enumerate(works):
            group.start_soon(one, number, work)
    if failed:
        raise failed[0]
    return [rows[number] for number in range(len(works))]
