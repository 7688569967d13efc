"""The executions of `interlock eval run` in worker processes or on a Ray cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.cli.session import Session
from interlock.stores.compute.settings import ComputeSettings, open_executor

if TYPE_CHECKING:
    from interlock.cli.evals import Asked
    from interlock.evals.running.runner import LocalExecutor
    from interlock.evals.running.spreading import SpreadExecutor
    from interlock.evals.suite import Suite

__all__ = ["spread_over"]

_MOST_TOGETHER = 32


@dataclass(frozen=True)
class _Opening:
    """What a worker opens: the same target and instruments as the command. Picklable."""

    root: str | None
    suite: Path
    asked: Asked
    folder: str
    # Any: nested settings before validation.
    flags: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> AbstractAsyncContextManager[LocalExecutor]:
        return _opened(self)


@asynccontextmanager
async def _opened(opening: _Opening) -> AsyncIterator[LocalExecutor]:
    from interlock.cli.evals import opened, variables_of
    from interlock.evals.running.runner import LocalExecutor
    from interlock.evals.suite import read_suite, with_variables

    # Functions that are evaluated are found beside where the command was given, as they are by the command.
    if opening.folder not in sys.path:
        sys.path.insert(0, opening.folder)
    session = Session(opening.root, ())
    session.flags = dict(opening.flags)
    given = await variables_of(session, opening.asked.target, opening.asked.variables)
    suite = with_variables(read_suite(opening.suite), given)
    async with opened(session, suite, opening.asked) as (target, instruments, _, _):
        yield LocalExecutor(
            target, suite.measured_by, instruments, concurrency=_MOST_TOGETHER, timeout_s=suite.spec.run.timeout_s
        )


@asynccontextmanager
async def spread_over(session: Session, suite: Suite, path: Path, asked: Asked) -> AsyncIterator[SpreadExecutor]:
    """Workers as the command asks for them. Raises: MissingExtra, Unavailable: no Ray; what opening a target raises."""
    from interlock.core.errors import InterlockError
    from interlock.evals.running.spreading import SpreadExecutor

    try:
        settings = session.workspace().settings.compute
    except InterlockError:
        # A suite runs without a workspace.
        settings = ComputeSettings()
    settings = settings.model_copy(update={"executor": asked.executor, "workers": asked.workers or settings.workers})
    root = None if session.root is None else str(session.root.resolve())
    # Progress is the command's to show.
    quiet = replace(asked, quiet=True, home=None if asked.home is None else asked.home.resolve())
    opening = _Opening(root, path.resolve(), quiet, os.getcwd(), session.flags)
    together = max(1, min(_MOST_TOGETHER, suite.spec.run.concurrency // settings.count))
    async with open_executor(settings, opening) as compute:
        yield SpreadExecutor(compute, together=together)
