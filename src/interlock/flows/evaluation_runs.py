"""Runs of evaluations that a workspace keeps, for those who oversee it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from anyio import to_thread

from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import TenantId
from interlock.evals.matrix.shelf import Shelf
from interlock.evals.matrix.types import Matrix
from interlock.evals.report import Report
from interlock.evals.running.journal import Plan, find_run, runs_in
from interlock.evals.service import Evaluations
from interlock.flows.migrate import Migration, MigrationShelf

__all__ = ["Kept", "KeptComparisons", "KeptRuns"]

_MAY_READ = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)


@dataclass(frozen=True, slots=True)
class Kept:
    """One run."""

    plan: Plan
    report: Report | None
    """None while it goes on, or where it was ended before its time."""

    @property
    def verdict(self) -> str:
        """Of its gate; ``unfinished``, or empty where nothing was to be decided."""
        if self.report is None:
            return "unfinished"
        return "" if self.report.gate is None else self.report.gate.verdict


class KeptRuns:
    """The runs of one workspace, which are its own tenant's.

    Args:
        home: their folder.
        tenant: whose they are.
    """

    def __init__(self, home: Path, tenant: TenantId) -> None:
        self._home = home
        self._tenant = tenant

    async def list(self, ctx: Context, *, suite: str | None = None, limit: int = 50) -> Sequence[Kept]:
        """Newest first. Raises: Forbidden, NotFound: another tenant."""
        self._check(ctx)
        return await to_thread.run_sync(self._list, suite, limit)

    async def one(self, ctx: Context, run: str) -> Kept:
        """One run by its id. Raises: Forbidden, NotFound; InvalidInput: its report is damaged."""
        self._check(ctx)
        return await to_thread.run_sync(self._one, run)

    def _check(self, ctx: Context) -> None:
        _check(ctx, self._tenant)

    def _list(self, suite: str | None, limit: int) -> Sequence[Kept]:
        found: list[Kept] = []
        for folder, plan in runs_in(self._home):
            if len(found) == limit:
                break
            if suite is None or plan.suite == suite:
                found.append(Kept(plan, self._report(folder, plan)))
        return found

    def _one(self, run: str) -> Kept:
        folder, plan = find_run(self._home, run)
        whole = (folder / "report.json").exists()
        return Kept(plan, Evaluations(self._home).report(plan.id) if whole else None)

    def _report(self, folder: Path, plan: Plan) -> Report | None:
        if not (folder / "report.json").exists():
            return None
        try:
            return Evaluations(self._home).report(plan.id)
        except InvalidInput:
            # The others are listed all the same; whoever opens this one is told.
            return None


class KeptComparisons:
    """Comparisons and migrations of one workspace, which are its own tenant's.

    Args:
        home: folder of its evaluations.
        tenant: whose they are.
    """

    def __init__(self, home: Path, tenant: TenantId) -> None:
        self._home = home
        self._tenant = tenant

    async def list(self, ctx: Context, *, app: str | None = None, limit: int = 50) -> Sequence[Matrix]:
        """Newest first. Raises: Forbidden, NotFound: another tenant."""
        _check(ctx, self._tenant)
        found = (each for each in Shelf(self._home / "matrices").list() if app in {None, each.app})
        return await to_thread.run_sync(lambda: list(islice(found, limit)))

    async def one(self, ctx: Context, comparison: str) -> Matrix:
        """One by its id. Raises: Forbidden, NotFound; InvalidInput: it is damaged."""
        _check(ctx, self._tenant)
        return await to_thread.run_sync(Shelf(self._home / "matrices").get, comparison)

    async def migrations(self, ctx: Context, *, limit: int = 20) -> Sequence[Migration]:
        """Newest first. Raises: Forbidden, NotFound: another tenant."""
        _check(ctx, self._tenant)
        return await to_thread.run_sync(lambda: list(islice(MigrationShelf(self._home / "migrations").list(), limit)))


def _check(ctx: Context, tenant: TenantId) -> None:
    ctx.require(*_MAY_READ)
    if ctx.tenant != tenant:
        raise NotFound("your tenant has no evaluations in this workspace", param="tenant")
