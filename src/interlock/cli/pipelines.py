"""`interlock pipeline`: files and tables through an app that works through texts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run

if TYPE_CHECKING:
    from interlock.flows.pipelines.batch import BatchDone, Progress

__all__ = ["pipeline"]


@click.group()
def pipeline() -> None:
    """Work through files and tables with an app that has a `pipeline`: summaries, forms, labels, drafts."""


@pipeline.command("run")
@click.argument("app_name", metavar="APP")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="JSONL; what is in it is not redone."
)
@click.option("--column", default="text", show_default=True, help="Of tables (.csv .tsv .jsonl): where the text is.")
@click.option("--release", "release_id", help="A frozen release or a channel (default: the app's files as they are).")
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True, help="Rows at a time.")
@click.option("--max-cost", type=FiniteRange(0, min_open=True), help="US dollars after which no further row is begun.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@pass_session
def run_rows(
    session: Session,
    /,
    app_name: str,
    inputs: tuple[Path, ...],
    out: Path,
    column: str,
    release_id: str | None,
    concurrency: int,
    max_cost: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Work through INPUTS (files, folders, tables) with APP, a line a row.

    The same command goes on where it was ended, and tries again what failed. Each line says which text it is of
    (`id`, `sha256`), its parts, the release and model, its cost, and of a form where its values stand. Exits with 1
    when a row failed, with 6 when the budget ended it.
    """

    async def work() -> BatchDone:
        from interlock.flows.pipelines.batch import BatchAsked, run_batch

        async with session.open() as app:
            release = await app.parts.releases.pick(app.owner(), app_name, release_id or "live")
            asked = BatchAsked(inputs, out, column, concurrency, max_cost, None if quiet else _tell)
            files = app.workspace.settings.knowledge
            try:
                return await run_batch(app.parts, app.owner(), release, asked, files=files)
            finally:
                if not quiet and sys.stderr.isatty():
                    click.echo("\r\033[K", nl=False, err=True)

    done = run(work())
    if as_json:
        from interlock.flows.pipelines.batch import view

        emit(view(done))
    else:
        kept = f", {done.kept} were there already" if done.kept else ""
        click.echo(f"{done.done} of {done.rows} rows done{kept}, {done.failed} failed, {done.cost_nano / 1e9:.4f} USD")
        click.echo(f"  {done.out}")
    if done.ended == "budget":
        sys.exit(6)
    if done.failed:
        sys.exit(1)


def _tell(progress: Progress) -> None:
    if sys.stderr.isatty():
        failed = f", {progress.failed} failed" if progress.failed else ""
        click.echo(f"\r\033[K{progress.done:,} done{failed}, {progress.cost_nano / 1e9:.4f} USD", nl=False, err=True)
