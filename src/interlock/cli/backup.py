"""`interlock backup`, `restore`, `upgrade`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.flows.backup import BackupReport, Site

__all__ = ["backup", "restore", "upgrade"]


def _site(app: App) -> Site:
    from interlock.flows.backup import Site

    return Site(app.sql, app.blobs, app.workspace.data, (app.workspace.settings.tenant,), app.embedded_index)


async def _note(app: App, action: str, file: Path, report: BackupReport) -> None:
    from interlock.core.audit import AuditEvent

    ctx = app.owner()
    details: dict[str, str | int | bool] = {"rows": report.rows, "objects": report.objects, "bytes": report.size_bytes}
    await app.parts.governance.append(AuditEvent(ctx.tenant, ctx.principal.id, action, file.name[:200], "ok", details))


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int], None]]:
    from rich.console import Console

    with Console(stderr=True, quiet=quiet).status("starting") as status:
        yield lambda what, done: status.update(f"{what} {done or ''}")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@json_option
@pass_session
def backup(session: Session, file: Path | None, as_json: bool) -> None:
    """Write everything Interlock wrote (database, documents, index, traces, keys) to FILE, while the server runs on."""
    target = file or Path(f"interlock-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz")

    async def work() -> BackupReport:
        from interlock.flows.backup import back_up

        async with session.open() as app:
            with _progress(as_json) as progress:
                report = await back_up(_site(app), target, progress)
            await _note(app, "backup.create", target, report)
            return report

    report = run(work())
    if as_json:
        emit({"file": str(target), **report._asdict()})
    else:
        click.echo(
            f"{target}: {report.rows} rows, {report.objects} objects, {report.index_files} index files, "
            f"{report.size_bytes / 1e6:.1f} MB, schema {report.revision}"
        )
        click.secho("It holds the workspace's keys: keep it as safe as the workspace.", dim=True, err=True)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Also when the database holds data already; that data is lost.")
@json_option
@pass_session
def restore(session: Session, file: Path, replace: bool, as_json: bool) -> None:
    """Load FILE into this workspace and bring it to this version's schema. Stop the server first."""

    async def work() -> BackupReport:
        from interlock.flows.backup import restore as restore_flow

        async with session.open() as app:
            with _progress(as_json) as progress:
                report = await restore_flow(_site(app), file, progress, replace=replace)
        # Opened again: the log that goes on is the restored one.
        async with session.open() as app:
            await _note(app, "backup.restore", file, report)
        return report

    report = run(work())
    if as_json:
        emit(report._asdict())
    else:
        click.echo(
            f"restored {report.rows} rows and {report.objects} objects (schema {report.revision} → this version)"
        )
        if report.rebuild_index:
            click.echo("the index is not in the archive; rebuild it with: interlock ingest")


@click.command()
@json_option
@pass_session
def upgrade(session: Session, as_json: bool) -> None:
    """Bring the database to this version's schema (opening it does the same)."""

    async def work() -> dict[str, object]:
        from interlock.stores.sql import open_sql

        workspace = session.workspace()
        workspace.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        sql = open_sql(workspace.settings.stores.sql.replace("{data}", str(workspace.data)))
        try:
            before = await sql.revision()
            applied = await sql.migrate()
            return {"before": before, "applied": applied, "now": await sql.revision()}
        finally:
            await sql.close()

    result = run(work())
    if as_json:
        emit(result)
    elif result["applied"]:
        click.echo(f"schema {result['before'] or 'empty'} → {result['now']}")
    else:
        click.echo(f"schema {result['now']}: nothing to do")
