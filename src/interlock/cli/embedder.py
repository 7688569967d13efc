"""`interlock knowledge embedder status|build|compare|switch|drop`: a collection goes over to another embedder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import click

from interlock.cli.history import give_up_dead, run_alone, this_process
from interlock.cli.session import Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.flows.embedder_change import SpaceComparison, SpaceFigure
    from interlock.knowledge.spaces.types import Space, SpacesStatus
    from interlock.knowledge.types import Progress

__all__ = ["embedder"]

MB = 1_000_000


@click.group()
def embedder() -> None:
    """Go over to another embedder: build beside, compare, switch.

    Name the new one in interlock.yaml first (`knowledge.embedder`, or `knowledge.collections.NAME.embedder`). The
    present one answers until `switch`, and can be brought back by it until `drop`.
    """


@embedder.command()
@click.argument("collection", required=False)
@json_option
@pass_session
def status(session: Session, collection: str | None, as_json: bool) -> None:
    """Show which embedding space answers in COLLECTION (default: all), and what stands beside it."""
    from interlock.core.errors import NotFound
    from interlock.flows.embedder_views import status_view

    async def work() -> None:
        async with session.open() as app:
            found: list[SpacesStatus] = []
            for name in [collection] if collection else app.ingested_collections():
                app.source_spec(name)
                try:
                    found.append(await app.parts.knowledge.spaces.status(app.owner(), name))
                except NotFound:
                    if collection:
                        raise
            if as_json:
                emit([status_view(one) for one in found])
                return
            for one in found:
                _show(one)

    run(work())


def _show(one: SpacesStatus) -> None:
    click.echo(f"{one.collection}: {one.documents} documents, {one.passages} passages")
    click.echo(f"  answers    {_told(one.answers, one)}")
    if one.beside is not None:
        click.echo(f"  beside     {_told(one.beside, one)}")
        if one.complete:
            click.echo(f"             complete: interlock knowledge embedder switch {one.collection}")
        else:
            click.secho(
                f"             lacks {len(one.outstanding)} documents: interlock knowledge embedder build "
                f"{one.collection}",
                fg="yellow",
            )
        if one.beside.error_code:
            click.secho(f"             last: {one.beside.error_message} ({one.beside.error_code})", fg="red")
    if one.configured_error:
        click.secho(f"  settings   {one.configured_error}", fg="red")
    elif one.configured not in {one.answers.id, one.beside.id if one.beside else ""}:
        click.secho(f"  settings   {one.configured}: interlock knowledge embedder build {one.collection}", fg="yellow")


def _told(space: Space, one: SpacesStatus) -> str:
    size = f"{one.sizes.get(space.id, 0) / MB:.1f} MB"
    return f"{space.id}  ({size}{f', built in {space.seconds:.0f} s' if space.seconds else ''})"


@embedder.command()
@click.argument("collection")
@json_option
@pass_session
def build(session: Session, collection: str, as_json: bool) -> None:
    """Build the space of the embedder that the settings name, beside the one that answers.

    From kept passages: no file is read. Run it again after a stop: nothing is embedded twice.
    """
    from interlock.flows.embedder_change import enqueue_build, run_build
    from interlock.flows.embedder_views import build_view

    async def work() -> bool:
        async with session.open() as app:
            app.source_spec(collection)
            await give_up_dead(app, collection)
            job = await enqueue_build(app.parts, app.owner(), collection, worker=this_process())
            report = await run_alone(
                app,
                job,
                quiet=as_json,
                do=lambda job, show: run_build(app.parts, app.owner(), job, on_progress=show),
            )
            if as_json:
                emit(build_view(report))
                return report.complete
            click.echo(
                f"{collection}: {report.documents} documents, {report.passages} passages, {report.embedded} embedded "
                f"in {report.seconds:.1f} s · {report.space}"
            )
            if report.cut_again:
                click.echo(f"  {report.cut_again} had a passage too long for this embedder, and were cut again")
            for refused in report.refused:
                click.secho(f"  {refused.source}: {refused.message}", fg="red")
            if report.complete:
                click.echo(f"  next: interlock knowledge embedder compare {collection}, then switch")
            return report.complete

    if not run(work()):
        raise click.exceptions.Exit(1)


@embedder.command()
@click.argument("collection")
@click.option(
    "--set",
    "place",
    type=click.Path(exists=True, path_type=Path),
    help="Questions with their documents, as of `knowledge eval`: a file, or a folder with queries.jsonl and qrels.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many questions of the set.")
@click.option("--titles", default=100, show_default=True, type=click.IntRange(0, 1000), help="Titles to search with.")
@json_option
@pass_session
def compare(
    session: Session, collection: str, place: Path | None, limit: int | None, titles: int, as_json: bool
) -> None:
    """Search both spaces of COLLECTION with the same questions.

    With a set, else with the accepted questions of the collection (`interlock knowledge questions`): their figures in
    both, and the paired gain. And how far the rankings agree on titles and headings of sampled passages, and how often
    these find their own document.
    """
    from interlock.evals.judged import read_beir, read_judged
    from interlock.flows.embedder_change import accepted_questions, compare_spaces
    from interlock.flows.embedder_views import comparison_view

    async def work() -> None:
        async with session.open() as app:
            app.source_spec(collection)
            access = app.parts.access
            if place is None:
                questions = await accepted_questions(app.parts, app.owner(), collection)
            else:
                questions = list(read_beir(place) if place.is_dir() else read_judged(place))
            with _bar(quiet=as_json) as show:

                async def note(progress: Progress) -> None:
                    show(progress)

                found = await compare_spaces(
                    app.parts.knowledge,
                    app.owner(),
                    collection,
                    questions=questions[:limit],
                    asker=lambda user: app.owner() if user is None else access.act_as(app.owner(), user),
                    named=unquote if place is not None and place.is_dir() else str,
                    sample=titles,
                    progress=note,
                )
            if as_json:
                emit(comparison_view(found))
            else:
                _print(found)

    run(work())


# Any: what a context manager of rich gives.
def _bar(*, quiet: bool) -> Any:
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    @contextmanager
    def opened() -> Any:  # Any: a generator of one function
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True), disable=quiet) as bar:
            task = bar.add_task("comparing", total=None)
            yield lambda progress: bar.update(task, completed=progress.done, total=progress.total)

    return opened()


def _print(found: SpaceComparison) -> None:
    click.echo(f"answers  {found.answers}\nbeside   {found.beside}")
    if found.figures:
        _figures(f"{found.questions} questions", found.figures)
    else:
        click.echo(
            f"no question with known answers: --set, or interlock knowledge questions make {found.collection}; titles "
            "say little of real ones"
        )
    if found.own:
        _figures(f"{found.titles} titles", found.own)
    for mode, (value, interval) in found.overlap.items():
        click.echo(f"overlap@10 {mode:<7} {value:.4f}  [{interval.low:.4f}, {interval.high:.4f}]")
    if found.search_ms:
        told = ", ".join(f"{which} {p50:.1f} ms (p95 {p95:.1f})" for which, (p50, p95) in found.search_ms.items())
        click.echo(f"search by meaning: {told}")
    sizes = [found.size_bytes.get(space, 0) / MB for space in (found.answers, found.beside)]
    click.echo(f"index: answers {sizes[0]:.1f} MB, beside {sizes[1]:.1f} MB")


def _figures(title: str, figures: tuple[SpaceFigure, ...]) -> None:
    table(
        [title, "answers", "beside", "gain", "95 %"],
        [
            (
                figure.name,
                f"{figure.answers:.4f}",
                f"{figure.beside:.4f}",
                f"{figure.gain:+.4f}",
                f"[{figure.interval.low:+.4f}, {figure.interval.high:+.4f}]",
            )
            for figure in figures
        ],
        right=["answers", "beside", "gain", "95 %"],
    )


@embedder.command()
@click.argument("collection")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def switch(session: Session, collection: str, yes: bool, as_json: bool) -> None:
    """Let the other space of COLLECTION answer, in one transaction. The same command goes back, until `drop`."""
    from interlock.flows.embedder_change import enqueue_switch, run_switch
    from interlock.flows.embedder_views import status_view

    if not yes and not as_json:
        click.confirm(f"Let the other embedding space of {collection} answer?", abort=True)

    async def work() -> None:
        async with session.open() as app:
            spec = app.source_spec(collection)
            await give_up_dead(app, collection)
            job = await enqueue_switch(app.parts, app.owner(), collection, worker=this_process())
            found = await run_alone(
                app,
                job,
                quiet=True,
                do=lambda job, show: run_switch(app.parts, app.owner(), job, spec, on_progress=show),
            )
            if as_json:
                emit(status_view(found))
            else:
                click.echo(f"{collection} answers from {found.answers.id}; freeze new releases of the apps that use it")

    run(work())


@embedder.command()
@click.argument("collection")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def drop(session: Session, collection: str, yes: bool, as_json: bool) -> None:
    """Remove the space of COLLECTION that does not answer, with its vectors."""
    from interlock.flows.embedder_change import enqueue_drop, run_drop

    if not yes and not as_json:
        click.confirm(f"Remove the space of {collection} that does not answer?", abort=True)

    async def work() -> None:
        async with session.open() as app:
            app.source_spec(collection)
            await give_up_dead(app, collection)
            job = await enqueue_drop(app.parts, app.owner(), collection, worker=this_process())
            gone = await run_alone(
                app, job, quiet=True, do=lambda job, show: run_drop(app.parts, app.owner(), job, on_progress=show)
            )
            if as_json:
                emit({"collection": collection, "dropped": gone})
            else:
                click.echo(f"{collection}: {gone} is gone")

    run(work())
