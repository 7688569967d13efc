"""Variants of an app beside each other on its own cases: build each, run the suite on it, say which nobody beats."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from anyio import to_thread

from interlock.core.canonical import digest_json
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InterlockError, InvalidInput
from interlock.core.release import Release
from interlock.evals.comparing import Beside, Cell, compared, frontier, frontier_shares
from interlock.evals.matrix.shelf import Shelf
from interlock.evals.matrix.types import Matrix, Measured, Variant
from interlock.evals.report import Report
from interlock.evals.running.journal import runs_in
from interlock.evals.running.runner import Progress
from interlock.evals.service import Evaluations, Options
from interlock.evals.suite import Suite, measuring, overridden
from interlock.flows.evaluation_instruments import workspace_instruments
from interlock.flows.evaluation_oracle import cases_with_documents
from interlock.flows.evaluation_targets import open_release_target
from interlock.flows.freezing import freeze_release
from interlock.flows.parts import Parts
from interlock.releases.types import ReleaseInfo

__all__ = ["MatrixRuns", "besides", "freeze_variant", "run_matrix"]

_BESIDES = ("cost", "latency")
"""Measured with every variant, whether the suite asks for it or not."""


@dataclass(frozen=True, slots=True)
class MatrixRuns:
    """How a matrix is measured."""

    home: Path
    """Of the workspace's evaluations: ``runs`` and ``matrices`` lie there."""
    judge: str | None = None
    licences: Sequence[Path] = ()
    quality: str | None = None
    """Metric of the frontier; else the first of the suite's gate, else the suite's first."""
    max_cost_usd: float | None = None
    """Over all variants: nothing more is asked once so much is spent."""
    fresh: bool = False
    """Begin anew although the same matrix was not finished."""
    started: Callable[[Variant, int, int], None] | None = None
    """Told each variant as it begins, its number from 1, and how many there are."""
    progress: Callable[[Progress], None] | None = None


class _Built(NamedTuple):
    variant: Variant
    release: Release


async def run_matrix(
    parts: Parts, ctx: Context, app: str, suite: Suite, how: MatrixRuns, *, variants: Sequence[Variant]
) -> Matrix:
    """Measure every variant, one after the other, so that none slows another down.

    The same call goes on where an earlier one was ended. A variant that cannot be run is told with its error; the
    others are measured all the same. Variants that are the same release are measured once.

    Raises: InvalidInput: a variant is no valid app, or the suite lacks the quality; NotFound, Forbidden.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    built = _built(parts, ctx, app, variants)
    quality = _quality(suite, how.quality)
    whole = measuring(suite, _BESIDES)
    whole = replace(whole, spec=whole.spec.model_copy(update={"gate": None}))
    shelf = Shelf(how.home / "matrices")
    matrix = await to_thread.run_sync(lambda: _begun(shelf, app, whole, quality, built, fresh=how.fresh))
    await to_thread.run_sync(shelf.put, matrix)
    measured: list[Measured] = []
    spent = 0
    for number, each in enumerate(built, start=1):
        if how.started is not None:
            how.started(each.variant, number, len(built))
        left = None if how.max_cost_usd is None else how.max_cost_usd - spent / 1e9
        found = await _measure(parts, matrix, whole, each, how, left_usd=left)
        spent += found.cost_nano
        measured.append(found)
        matrix = replace(matrix, variants=tuple(measured))
        await to_thread.run_sync(shelf.put, matrix)
        if how.max_cost_usd is not None and spent >= how.max_cost_usd * 1e9 and number < len(built):
            notes = (*matrix.notes, f"the budget was spent: {len(built) - number} variants were not measured")
            matrix = replace(matrix, ended="budget", notes=notes)
            break
    ended: Literal["budget", "finished"] = "budget" if matrix.ended == "budget" else "finished"
    done = await to_thread.run_sync(_beside, Evaluations(how.home / "runs"), replace(matrix, ended=ended))
    done = replace(done, ended_at=now())
    await to_thread.run_sync(shelf.put, done)
    return done


async def freeze_variant(parts: Parts, ctx: Context, matrix: Matrix, label: str, *, note: str = "") -> ReleaseInfo:
    """Store a measured variant as a release of its app.

    Raises: InvalidInput: no such variant; Conflict: the app's files changed since, so that it would be another release
        than the one that was measured.
    """
    for each in matrix.variants:
        if each.variant.label == label:
            break
    else:
        labels = ", ".join(repr(each.variant.label) for each in matrix.variants)
        raise InvalidInput(f"{matrix.id} has no variant {label!r}", param="variant", hint=f"one of {labels}")
    if each.variant.oracle:
        raise InvalidInput(
            "it was given the right documents by hand: no app can be like that", param="variant", hint="freeze another"
        )
    if parts.releases.variant(ctx, matrix.app, each.variant.changes).id != each.release:
        raise Conflict(
            "the app's files changed since it was measured: it would be another release",
            param="variant",
            hint="run the comparison again",
        )
    told = note or f"{label} (comparison {matrix.id})"
    return (await freeze_release(parts, ctx, matrix.app, told, changes=each.variant.changes)).info


def _built(parts: Parts, ctx: Context, app: str, variants: Sequence[Variant]) -> list[_Built]:
    found: dict[tuple[str, bool], _Built] = {}
    for variant in variants:
        try:
            release = parts.releases.variant(ctx, app, variant.changes)
        except InvalidInput as error:
            raise InvalidInput(
                f"the variant {variant.label!r} is no valid app: {error.message}", param=error.param, hint=error.hint
            ) from error
        found.setdefault((release.id, variant.oracle), _Built(variant, release))
    if len(found) < 2:
        raise InvalidInput(
            "all variants are the same release: there is nothing to compare", param="axes", hint="vary something"
        )
    return list(found.values())


def _quality(suite: Suite, wanted: str | None) -> str:
    known = [each.label for each in suite.measured_by]
    if wanted is not None and wanted not in known:
        raise InvalidInput(f"the suite does not measure {wanted!r}", param="quality", hint=f"one of {', '.join(known)}")
    gated = [rule.metric for rule in suite.spec.gate.rules] if suite.spec.gate is not None else []
    plain = [name for name in (*gated, *known) if name in known and name not in _BESIDES]
    if wanted is None and not plain:
        raise InvalidInput("the suite measures no quality", param="quality", hint="give it a metric such as facts")
    return wanted or plain[0]


def _begun(shelf: Shelf, app: str, suite: Suite, quality: str, built: Sequence[_Built], *, fresh: bool) -> Matrix:
    key = digest_json(
        {
            "app": app,
            "suite": suite.digest,
            "quality": quality,
            "releases": [each.release.id for each in built],
            "labels": [each.variant.label for each in built],
        }
    )
    if not fresh:
        for other in shelf.list():
            if other.key == key and other.ended != "finished":
                return replace(other, ended="running", notes=(), variants=())
    began = now()
    # Ids sort by their time.
    matrix_id = f"mx_{int(began.timestamp() * 1000):012x}{secrets.token_hex(2)}"
    return Matrix(matrix_id, key, app, suite.name, suite.digest, quality, (), began, None, "running", ())


async def _measure(
    parts: Parts, matrix: Matrix, suite: Suite, built: _Built, how: MatrixRuns, *, left_usd: float | None
) -> Measured:
    variant, release = built
    evaluations = Evaluations(how.home / "runs")
    known = await to_thread.run_sync(_finished, evaluations, matrix.id, variant.label)
    if known is not None:
        return _told(variant, known)
    nothing = Measured(variant, release.id, "", 0, 0, None)
    if left_usd is not None:
        suite = overridden(suite, max_cost_usd=max(left_usd, 1e-9))
    target = None
    try:
        cases = await cases_with_documents(parts, release, suite.cases) if variant.oracle else suite.cases
        target = await open_release_target(parts, release, f"{matrix.app}: {variant.label}", cases=cases)
        instruments = workspace_instruments(parts, judge=how.judge, folder=suite.folder, licences=how.licences)
        options = Options(
            # Times of another day are no times of this comparison.
            use_kept=False,
            note=f"comparison {matrix.id}: {variant.label}"[:500],
            report=how.progress,
            tags={"matrix": matrix.id, "variant": variant.label},
        )
        report = await evaluations.run(suite, target, instruments, options)
    except InterlockError as error:
        # One model that is away says nothing of the others.
        return replace(nothing, error=f"{error.code}: {error.message}"[:500])
    finally:
        if target is not None:
            await target.close()
    return _told(variant, report)


def _told(variant: Variant, report: Report) -> Measured:
    error = "ended by the budget" if report.ended == "budget" else ""
    if report.executions and report.failed == report.executions:
        error = f"it answered nothing: interlock eval show {report.id}"
    return Measured(variant, report.release, report.id, report.failed, report.cost_nano, None, error)


def _finished(evaluations: Evaluations, matrix: str, label: str) -> Report | None:
    for folder, plan in runs_in(evaluations.home):
        mine = plan.tags.get("matrix") == matrix and plan.tags.get("variant") == label
        if mine and (folder / "report.json").exists():
            report = evaluations.report(plan.id)
            return None if report.ended == "budget" else report
    return None


def _beside(evaluations: Evaluations, matrix: Matrix) -> Matrix:
    """With figures, differences and the frontier of all that was measured whole."""
    whole = [each for each in matrix.variants if not each.error]
    if len(whole) < 2:
        return replace(matrix, notes=(*matrix.notes, "fewer than two variants were measured whole"))
    runs = besides(evaluations, matrix)
    cells = compared(runs)
    dimensions = [name for name in (matrix.quality, *_BESIDES) if _known(cells, name, len(runs))]
    notes = list(matrix.notes)
    if left_out := [name for name in (matrix.quality, *_BESIDES) if name not in dimensions]:
        notes.append(f"{', '.join(left_out)} is not known of every variant: the frontier is told without it")
    labels = {each.run: each.variant.label for each in whole if not each.variant.oracle}
    own = [cell for cell in cells if cell.run in labels]
    best = [labels[run] for run in frontier(own, dimensions)] if dimensions else []
    shares: Mapping[str, float] = {}
    if dimensions:
        shares = frontier_shares([run for run in runs if run.id in labels], dimensions)
    return replace(
        matrix,
        cells=tuple(cells),
        dimensions=tuple(dimensions),
        frontier=tuple(best),
        variants=tuple(replace(each, frontier=shares.get(each.run)) for each in matrix.variants),
        notes=tuple(notes),
    )


def besides(evaluations: Evaluations, matrix: Matrix) -> list[Beside]:
    """What the variants that were measured whole gave, case by case, each called by its label."""
    found: list[Beside] = []
    for each in matrix.variants:
        if not each.error:
            values = evaluations.baseline(each.run)
            found.append(Beside(each.run, each.variant.label, values.cases, values.measured))
    return found


def _known(cells: Sequence[Cell], name: str, runs: int) -> bool:
    return sum(cell.metric == name for cell in cells) == runs
