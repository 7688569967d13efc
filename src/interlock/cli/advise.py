"""`interlock advise`: prompt only, documents, examples or another model, from measurements on the app's own cases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.compare import announce, tell, write_matrix
from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.evals.matrix.types import Matrix

__all__ = ["advise"]

_path = click.Path(dir_okay=False, path_type=Path)
_COLOURS = {"yes": "green", "no": None, "cannot tell": "yellow", "not measured": None}


@click.command()
@click.option("--app", "app_name", required=True)
@click.option("--suite", required=True, type=_path, help="Cases of the app; it is measured on its split.")
@click.option(
    "--model", "models", multiple=True, metavar="PROVIDER/MODEL", help="A model to consider besides the app's own."
)
@click.option("--collection", help="Documents to consider, for an app that answers from none.")
@click.option("--quality", metavar="METRIC", help="Metric of quality (else the first of the suite's gate).")
@click.option(
    "--margin",
    type=FiniteRange(0, min_open=True),
    default=0.05,
    show_default=True,
    help="Of quality: what differs by less counts as equal.",
)
@click.option("--judge", help="Route or provider/model that judges.")
@click.option("--max-cost", type=FiniteRange(0, min_open=True), help="US dollars after which nothing more is asked.")
@click.option("--fresh", is_flag=True, help="Begin anew although the same measurements were not finished.")
@click.option("-o", "--output", "outputs", multiple=True, type=_path, help="Write the memo: .md .html, or .json")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@pass_session
def advise(session: Session, /, outputs: tuple[Path, ...], as_json: bool, **given: Any) -> None:
    """Say what would make an app better: documents, better retrieval, examples, another model, tuning one.

    Every way is measured on the suite's cases, one after the other; the same command goes on where it was ended.
    Prompts that a way needs are written to `advice/` in the app's folder, where they can be bettered.
    """
    found = run(_advise(session, **given))
    for place in outputs:
        write_matrix(found, place)
    if as_json:
        import msgspec

        emit(msgspec.to_builtins(found))
    else:
        _show(found)


async def _advise(
    session: Session,
    *,
    app_name: str,
    suite: Path,
    models: tuple[str, ...],
    collection: str | None,
    quality: str | None,
    margin: float,
    judge: str | None,
    max_cost: float | None,
    fresh: bool,
    quiet: bool,
) -> Matrix:
    from interlock.evals.suite import read_suite, unasked
    from interlock.flows.advise import AdviceAsked, advise_app
    from interlock.flows.matrix import MatrixRuns

    read = read_suite(suite)
    asked = AdviceAsked(models, collection, unasked(read), margin)
    async with session.open() as app:
        workspace = app.workspace
        source = app.parts.releases.source(app_name, app.owner())
        how = MatrixRuns(
            workspace.data / "evaluations",
            judge=judge,
            licences=[workspace.root / "judges"],
            quality=quality,
            max_cost_usd=max_cost,
            fresh=fresh,
            started=None if quiet else announce,
            progress=None if quiet else tell,
        )
        folder = workspace.path(workspace.settings.apps_dir) / source.name
        try:
            return await advise_app(app.parts, app.owner(), source.name, read, how, asked=asked, folder=folder)
        finally:
            if not quiet and sys.stderr.isatty():
                click.echo("\r\033[K", nl=False, err=True)


def _show(found: Matrix) -> None:
    from interlock.evals.matrix.exports import rows

    click.secho(f"{found.app} on {found.suite}  {found.id}", bold=True)
    columns, lines = rows(found)
    table(columns[:6], [line[:6] for line in lines])
    click.echo()
    told = found.advice
    assert told is not None, "advice was asked for"
    for finding in told.findings:
        click.echo(click.style(f"{finding.question + '?':<11} {finding.answer}", fg=_COLOURS[finding.answer]))
        click.echo(f"  {finding.said}")
    for note in found.notes:
        click.echo(f"  {note}")
    click.echo()
    click.secho(f"take {told.recommended}", bold=True)
    for reason in told.why:
        click.echo(f"  {reason}")
    number = next(at for at, each in enumerate(found.variants, 1) if each.variant.label == told.recommended)
    click.echo(
        f"  next: interlock compare freeze {found.id} {number}   the memo: interlock compare show {found.id} -o memo.md"
    )
