"""`interlock knowledge snapshots|diff|rollback|resume|rebuild|prune|lineage`: what a collection was, and back to it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table
from interlock.core.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.knowledge.history.types import Entry, SnapshotDiff
    from interlock.knowledge.types import Progress
    from interlock.stores.jobs.base import Job

__all__ = [
    "claim",
    "diff",
    "give_up_dead",
    "is_dead",
    "lineage",
    "prune",
    "rebuild",
    "resume",
    "rollback",
    "run_alone",
    "snapshots",
    "this_process",
]

T = TypeVar("T")
_SHOWN = 15
"""Digits of an id in a table: enough to name it."""


@click.command()
@click.argument("collection")
@json_option
@pass_session
def snapshots(session: Session, collection: str, as_json: bool) -> None:
    """List the snapshots of COLLECTION, newest first."""
    from interlock.flows.history_views import hold_view, snapshot_view

    async def work() -> None:
        async with session.open() as app:
            app.source_spec(collection)
            history, ctx = app.parts.knowledge.history, app.owner()
            # First: it is recorded then, should something have been erased since the last run.
            current = (await history.snapshot(ctx, collection)).id
            found = await history.snapshots(ctx, collection)
            hold = await history.held(ctx, collection)
            if as_json:
                emit({"data": [snapshot_view(one) for one in found], "current": current, "held": hold_view(hold)})
                return
            table(
                ["snapshot", "when", "documents", "passages", ""],
                [
                    (
                        _short(s.id),
                        f"{s.created_at:%Y-%m-%d %H:%M:%S}",
                        s.documents,
                        s.passages,
                        "now" if s.id == current else "",
                    )
                    for s in found
                ],
                right=["documents", "passages"],
            )
            if hold is not None:
                click.secho(
                    f"held at {_short(hold.snapshot)} by {hold.by} since {hold.at:%Y-%m-%d %H:%M}; "
                    f"let it go on with: interlock knowledge resume {collection}",
                    fg="yellow",
                )

    run(work())


@click.command()
@click.argument("collection")
@click.argument("before")
@click.argument("after", required=False)
@click.option("--text", "source", metavar="SOURCE", help="Show what changed in the text of this document.")
@click.option("--as", "user", metavar="USER", help="Read the text as a user of the directory.")
@json_option
@pass_session
def diff(
    session: Session,
    collection: str,
    before: str,
    after: str | None,
    source: str | None,
    user: str | None,
    as_json: bool,
) -> None:
    """Show what changed in COLLECTION from the snapshot BEFORE to AFTER (default: as it is now).

    A snapshot is named by eight or more of its digits, or as `previous` or `current`.
    """
    from interlock.flows.history_views import diff_view

    async def work() -> None:
        async with session.open() as app:
            app.source_spec(collection)
            found = await app.parts.knowledge.history.diff(app.owner(), collection, before, after)
            if source is not None:
                lines = await _text(app, found, source, user)
                if as_json:
                    emit({"source": source, "lines": lines})
                else:
                    click.echo("\n".join(lines))
            elif as_json:
                emit(diff_view(found))
            else:
                _show(found)

    run(work())


async def _text(app: App, found: SnapshotDiff, source: str, user: str | None) -> list[str]:
    change = next((change for change in found.changed if change.after.source == source), None)
    if change is None or "text" not in change.kinds:
        raise NotFound(f"the text of {source!r} is the same in both, or it is in one of them only", param="text")
    ctx = app.owner() if user is None else app.parts.access.act_as(app.owner(), user)
    service = app.parts.knowledge
    return await service.text_diff(ctx, change.after.id, change.before.text_digest, change.after.text_digest)


def _show(found: SnapshotDiff) -> None:
    rows: list[tuple[str, str, str]] = [("added", _name(entry), "") for entry in found.added]
    rows += [("removed", _name(entry), "") for entry in found.removed]
    rows += [("changed", _name(change.after), ", ".join(change.kinds)) for change in found.changed]
    if rows:
        table(["", "document", "what"], rows)
    click.echo(
        f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} changed, "
        f"{found.unchanged} unchanged" + (f", {found.erased} erased since" if found.erased else "")
    )


def _name(entry: Entry) -> str:
    return entry.source


@click.command()
@click.argument("collection")
@click.argument("snapshot")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def rollback(session: Session, collection: str, snapshot: str, yes: bool, as_json: bool) -> None:
    """Set COLLECTION back to SNAPSHOT (or `previous`), and hold it there until `interlock knowledge resume`.

    No file is read and nothing is embedded. Rights stay those of today.
    """
    from interlock.flows.history_views import report_view
    from interlock.flows.ingest import enqueue_rollback, run_rollback

    if not yes and not as_json:
        click.confirm(f"Set {collection} back, and hold it there?", abort=True)

    async def work() -> int:
        async with session.open() as app:
            spec = app.source_spec(collection)
            await give_up_dead(app, collection)
            job = await enqueue_rollback(app.parts, app.owner(), collection, snapshot, worker=this_process())
            report = await run_alone(
                app,
                job,
                quiet=as_json,
                do=lambda job, show: run_rollback(app.parts, app.owner(), job, spec, on_progress=show),
            )
            if as_json:
                emit(report_view(report))
            else:
                click.echo(
                    f"{collection}: {report.restored} documents set back, {report.removed} taken out, "
                    f"{report.unchanged} unchanged · now {_short(report.snapshot)}"
                )
                for source in report.missing:
                    click.secho(f"  not kept any more: {source}", fg="red")
                if report.held_back:
                    click.echo(f"  {report.held_back} documents are held back (interlock knowledge review list)")
                if report.erased:
                    click.echo(f"  {report.erased} documents of that snapshot were erased, and stay so")
            return len(report.missing)

    if run(work()):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("collection", required=False)
@click.option("--answer", metavar="TRACE", help="The run that wrote the answer with this trace.")
@json_option
@pass_session
def lineage(session: Session, collection: str | None, answer: str | None, as_json: bool) -> None:
    """Print OpenLineage run events of COLLECTION or of one answer, one JSON object a line; with --json, one list."""
    from interlock.flows.lineage import answer_lineage, collection_lineage

    if (collection is None) == (answer is None):
        raise click.UsageError("name a COLLECTION, or --answer TRACE")

    async def work() -> None:
        async with session.open() as app:
            if answer is not None:
                events = await answer_lineage(app.parts, app.owner(), answer)
            else:
                assert collection is not None
                events = await collection_lineage(app.parts, app.owner(), app.source_spec(collection))
        if as_json:
            emit(events)
            return
        for event in events:
            click.echo(json.dumps(event))

    run(work())


@click.command()
@click.argument("collection")
@json_option
@pass_session
def resume(session: Session, collection: str, as_json: bool) -> None:
    """Let ingests of COLLECTION mirror its sources again after a rollback."""
    from interlock.flows import ingest

    async def work() -> None:
        async with session.open() as app:
            await ingest.resume(app.parts, app.owner(), app.source_spec(collection))
            if as_json:
                emit({"collection": collection, "held": None})
            else:
                click.echo(f"{collection} follows its sources again; the next ingest applies what they hold")

    run(work())


@click.command()
@click.argument("collection")
@json_option
@pass_session
def rebuild(session: Session, collection: str, as_json: bool) -> None:
    """Make the index of COLLECTION again from what was kept: no file is read and no model is needed."""
    from interlock.flows.history_views import report_view
    from interlock.flows.ingest import enqueue_rebuild, run_rebuild

    async def work() -> None:
        async with session.open() as app:
            spec = app.source_spec(collection)
            await give_up_dead(app, collection)
            job = await enqueue_rebuild(app.parts, app.owner(), collection, worker=this_process())
            report = await run_alone(
                app,
                job,
                quiet=as_json,
                do=lambda job, show: run_rebuild(app.parts, app.owner(), job, spec, on_progress=show),
            )
            if as_json:
                emit(report_view(report))
            else:
                click.echo(
                    f"{collection}: {report.documents} documents, {report.passages} passages in {report.seconds:.1f} s"
                )
                if report.missing:
                    click.echo(f"  {report.missing} were not kept: interlock ingest {collection} reads them")

    run(work())


@click.command()
@click.argument("collection")
@click.option("--keep-days", type=FiniteRange(1, 36_500), help="Default: knowledge.keep_versions_days.")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def prune(session: Session, collection: str, keep_days: float | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove snapshots of COLLECTION that are too old to go back to, and versions of documents that only they hold.

    Ingests do it by themselves with knowledge.keep_versions_days.
    """
    from interlock.flows.history_views import report_view
    from interlock.flows.ingest import enqueue_prune, run_prune

    async def work() -> None:
        async with session.open() as app:
            spec = app.source_spec(collection)
            days = keep_days or app.workspace.settings.knowledge.keep_versions_days
            if days is None:
                raise InvalidInput(
                    "knowledge.keep_versions_days is null: everything is kept",
                    param="keep_days",
                    hint="say how much to keep with --keep-days",
                )
            if dry_run:
                done = await app.parts.knowledge.history.prune(app.owner(), collection, keep_days=days, dry_run=True)
            else:
                if not yes and not as_json:
                    click.confirm(f"Remove what {collection} was more than {days:g} days ago?", abort=True)
                job = await enqueue_prune(app.parts, app.owner(), collection, days, worker=this_process())
                done = await run_alone(
                    app,
                    job,
                    quiet=as_json,
                    do=lambda job, show: run_prune(app.parts, app.owner(), job, spec, on_progress=show),
                )
            if as_json:
                emit(report_view(done))
            else:
                how = "would be removed" if dry_run else "removed"
                click.echo(f"{collection}: {done.snapshots} snapshots and {done.versions} versions {how}")

    run(work())


async def give_up_dead(app: App, collection: str) -> None:
    """End the job of a collection whose process was killed on this machine: nobody will renew that lease."""
    from interlock.flows.ingest import KIND

    for job in await app.parts.jobs.list(app.owner().tenant, kind=KIND, limit=20):
        if job.state == "running" and job.payload.get("collection") == collection and is_dead(job.worker):
            await app.parts.jobs.fail(job, code="worker_lost", message="its process was killed", retry_in_s=None)


def is_dead(worker: str) -> bool:
    """True when `worker` (``host:pid``) was a process of this machine that is no more."""
    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def this_process() -> str:
    """The name of this process as a worker, as `is_dead` reads it."""
    return f"{socket.gethostname()}:{os.getpid()}"


async def claim(app: App, job: Job) -> Job | None:
    """The job as this process's own; None when another process has it."""
    from interlock.flows.ingest import KIND, LEASE_S

    if job.state == "running" and job.worker == this_process():
        return job
    return await app.parts.jobs.claim(this_process(), [KIND], lease_s=LEASE_S, job=job.id)


async def run_alone(
    app: App, job: Job, *, quiet: bool, do: Callable[[Job, Callable[[Progress], None]], Awaitable[T]]
) -> T:
    """Run a job that was queued with `this_process` as its worker, with a progress bar unless `quiet`.

    Raises: Conflict: it had been queued before, and another process is at it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    claimed = await claim(app, job)
    if claimed is None:
        raise Conflict("another process does the same already", hint=f"watch {job.id} in the console")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total, description=progress.message[:60])

        return await do(claimed, show)


def _short(snapshot: str) -> str:
    return snapshot.removeprefix("sha256:")[:_SHOWN]
