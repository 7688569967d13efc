"""`interlock batch`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.core.context import Context
    from interlock.gateway.kept import Batch

__all__ = ["batch"]

_POLL_S = 0.5


@click.group()
def batch() -> None:
    """Run many requests from a file."""


def _caller(app: App, user: str | None) -> Context:
    ctx = app.owner()
    return ctx if user is None else app.parts.access.act_as(ctx, user)


_as_user = click.option("--as", "user", help="User of the directory whose batches these are.")


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


def _tell(found: Batch, as_json: bool) -> None:
    from interlock.flows.batch_views import batch_view

    if as_json:
        emit(batch_view(found))
        return
    click.echo(f"{found.id}: {found.state}, {found.completed} done, {found.failed} failed, {found.total} in all")
    for part in (found.lanes or {}).get("parts", ()):
        became = f", ordinary calls instead: {part['reason']}" if part["reason"] else ""
        click.echo(f"  {_lines(part['lines'])} at {part['provider']}/{part['model']}, {part['state']}{became}")
    for reason, count in (found.lanes or {}).get("ordinary", {}).items():
        click.echo(f"  {_lines(count)} as ordinary calls: {reason}")
    for error in found.errors:
        where = "" if error.get("line") is None else f"line {error['line']}: "
        click.secho(f"  {where}{error['message']}", fg="red", err=True)


@batch.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--endpoint", default="/v1/chat/completions", show_default=True, help="What each line is sent to.")
@click.option("--window", default="24h", show_default=True, help="Time after which lines are not begun any more.")
@click.option(
    "--lane",
    default="auto",
    show_default=True,
    help="auto: a provider's batch API at its price, where there is one; ordinary: ordinary calls; "
    "half-price: batch APIs alone, and no answer where there is none.",
)
@click.option("--wait/--no-wait", default=False, help="Run it here and wait, instead of leaving it to `interlock up`.")
@_as_user
@json_option
@pass_session
def submit(
    session: Session,
    file: Path,
    *,
    endpoint: str,
    window: str,
    lane: str,
    wait: bool,
    user: str | None,
    as_json: bool,
) -> None:
    """Queue FILE, one JSON request a line: custom_id, method, url, body."""

    async def work() -> Batch:
        from interlock.flows.batch import create_batch
        from interlock.worker.loop import limits_of

        async with session.open() as app:
            ctx = _caller(app, user)
            kept = await app.parts.kept.keep_file(ctx, name=file.name, purpose="batch", data=file.read_bytes())
            made = await create_batch(
                app.parts, ctx, limits_of(app), endpoint=endpoint, input_file=kept.id, window=window, lane=lane
            )
            return await _followed(app, ctx, made, as_json) if wait else made

    made = run(work())
    _tell(made, as_json)
    if made.state == "failed":
        raise SystemExit(1)


async def _followed(app: App, ctx: Context, made: Batch, quiet: bool) -> Batch:
    """Work on it here until it has ended, showing progress."""
    from rich.console import Console

    from interlock.core.ids import JobId
    from interlock.worker.loop import work_batches

    worker = asyncio.ensure_future(work_batches(app, only=JobId(made.job)))
    try:
        with Console(stderr=True, quiet=quiet).status("starting") as status:
            while (made := await app.parts.kept.batch(ctx, made.id)).is_open:
                status.update(f"{made.state}: {made.completed + made.failed} of {made.total}")
                await asyncio.sleep(_POLL_S)
    finally:
        worker.cancel()
        await asyncio.wait([worker])
    return made


@batch.command("status")
@click.argument("identity", metavar="BATCH")
@_as_user
@json_option
@pass_session
def status_of(session: Session, identity: str, user: str | None, as_json: bool) -> None:
    """How far BATCH is."""

    async def work() -> Batch:
        async with session.open() as app:
            return await app.parts.kept.batch(_caller(app, user), identity)

    _tell(run(work()), as_json)


@batch.command()
@click.argument("identity", metavar="BATCH")
@click.option("--errors", is_flag=True, help="The lines that failed instead of those that were answered.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write (default: print).")
@_as_user
@json_option
@pass_session
def results(
    session: Session, identity: str, *, errors: bool, out: Path | None, user: str | None, as_json: bool
) -> None:
    """Results of BATCH, one JSON object a line, in the order of its input."""

    async def work() -> bytes:
        from interlock.core.errors import Conflict

        async with session.open() as app:
            ctx = _caller(app, user)
            found = await app.parts.kept.batch(ctx, identity)
            if found.is_open:
                raise Conflict("the batch has not ended yet", hint=f"interlock batch status {identity}")
            file = found.error_file if errors else found.output_file
            return b"" if file is None else await app.parts.kept.file_content(ctx, file)

    data = run(work())
    if out is None:
        click.echo(data.decode(), nl=False)
        return
    out.write_bytes(data)
    count = data.count(b"\n")
    if as_json:
        emit({"file": str(out), "lines": count})
    else:
        click.echo(f"{out}: {count} lines")


@batch.command()
@click.argument("identity", metavar="BATCH")
@_as_user
@json_option
@pass_session
def cancel(session: Session, identity: str, user: str | None, as_json: bool) -> None:
    """Begin no more lines of BATCH."""

    async def work() -> Batch:
        from interlock.flows.batch import cancel_batch

        async with session.open() as app:
            return await cancel_batch(app.parts, _caller(app, user), identity)

    _tell(run(work()), as_json)


@batch.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@_as_user
@json_option
@pass_session
def list_batches(session: Session, limit: int, user: str | None, as_json: bool) -> None:
    """Batches, newest first."""

    async def work() -> list[Batch]:
        async with session.open() as app:
            ctx = _caller(app, user)
            return await app.parts.kept.batches(ctx, style="openai", after=None, limit=limit)

    found = run(work())
    if as_json:
        from interlock.flows.batch_views import batch_view

        emit([batch_view(one) for one in found])
        return
    table(
        ["batch", "state", "done", "failed", "total", "endpoint", "created"],
        [(b.id, b.state, b.completed, b.failed, b.total, b.endpoint, f"{b.created_at:%Y-%m-%d %H:%M}") for b in found],
        right=["done", "failed", "total"],
    )
