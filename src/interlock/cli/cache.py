"""`interlock cache`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table

__all__ = ["cache"]


@click.group()
def cache() -> None:
    """Look at kept answers, forget them, calibrate the semantic cache."""


@cache.command()
@click.option("--days", type=FiniteRange(min=0, min_open=True), default=30.0, show_default=True)
@json_option
@pass_session
def stats(session: Session, days: float, as_json: bool) -> None:
    """How many calls were answered from the cache, and which routes keep answers."""
    from interlock.flows.cache import cache_stats

    async def work() -> None:
        async with session.open() as app:
            found = await cache_stats(app.parts, app.owner(), days=days)
        # Counts of a worker are those of a server; this command has just begun.
        del found["worker"]
        if as_json:
            emit(found)
            return
        share = "" if found["share"] is None else f" ({found['share']:.1%})"
        click.echo(f"{found['given_again']:,} of {found['calls']:,} calls were answered from the cache{share}")
        table(
            ["route", "ttl", "stale", "shared by", "semantic"],
            [
                (
                    name,
                    f"{spec['ttl_s']:g} s",
                    f"{spec['stale_s']:g} s",
                    spec["share"],
                    "yes" if spec["semantic"] else "",
                )
                for name, spec in found["routes"].items()
            ],
            right=["ttl", "stale"],
        )

    run(work())


@cache.command()
@click.option("--app", "app_name", metavar="NAME", help="Answers of one app.")
@click.option("--route", metavar="NAME", help="Answers of one named route.")
@click.option("--document", metavar="ID", help="Answers that were written from one document.")
@click.option("--collection", metavar="NAME", help="Answers that were written from one collection.")
@click.option("--user", metavar="ID", help="Answers given to an end user, and all that is stored for that user.")
@click.option("--all", "all_answers", is_flag=True, help="Every answer of the tenant.")
@click.option("--everything", is_flag=True, help="Every answer of the tenant, and all that its callers stored.")
@click.option("--yes", is_flag=True, help="Do not ask before --everything.")
@json_option
@pass_session
def purge(
    session: Session,
    app_name: str | None,
    route: str | None,
    document: str | None,
    collection: str | None,
    user: str | None,
    all_answers: bool,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Forget kept answers at once, in every worker that shares this workspace's store.

    With --user or --everything also what callers stored: responses, conversations, files, batches.
    """
    from interlock.core.errors import Conflict
    from interlock.flows.cache import purge_cache
    from interlock.flows.erase import erase_kept
    from interlock.gateway.cache.types import Purge

    chosen = [value for value in (app_name, route, document, collection, user) if value is not None]
    if len(chosen) + all_answers + everything != 1:
        raise click.UsageError("name one of --app, --route, --document, --collection, --user, --all, --everything")
    if everything and not yes:
        click.confirm("Remove all stored responses, conversations, files and batches of the tenant?", abort=True)
    what = Purge(app=app_name, route=route, document=document, collection=collection)

    async def work() -> None:
        async with session.open() as app:
            if app.workspace.settings.stores.kv == "memory":
                raise Conflict(
                    "kept answers are in the server's memory, which this command cannot reach",
                    hint="DELETE /api/v1/cache on the server, or set stores.kv: sql",
                )
            if user is not None or everything:
                erased = await erase_kept(app.parts, app.owner(), user=user)
                whose = "user" if user is not None else "everything"
                if as_json:
                    emit({"purged": whose, "removed": erased.answers, "stored": erased.stored})
                else:
                    click.echo(
                        f"forgot {whose!r}: {erased.answers:,} answers and {erased.stored:,} stored things removed"
                    )
                return
            removed = await purge_cache(app.parts, app.owner(), what)
        if as_json:
            emit({"purged": str(what), "removed": removed})
        else:
            click.echo(f"forgot {str(what)!r}: {removed:,} answers removed")

    run(work())


@cache.command()
@click.argument("pairs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--precision",
    type=FiniteRange(0.5, 1.0),
    default=0.99,
    show_default=True,
    help="Share of hits that are right.",
)
@click.option("--dry-run", is_flag=True, help="Only print; record nothing.")
@json_option
@pass_session
def calibrate(session: Session, pairs: Path, precision: float, dry_run: bool, as_json: bool) -> None:
    """Find how near two questions must be, from labelled pairs, and record it.

    PAIRS has one JSON object a line: {"a": "…", "b": "…", "same": true}. Needs the embedding model.
    """
    from interlock.gateway.cache.calibration import SEMANTIC_CALIBRATION, read_pairs, save_calibration
    from interlock.gateway.cache.calibration import calibrate as find
    from interlock.knowledge.embedders import embedders
    from interlock.serving.service import default_models_dir

    workspace = session.workspace()
    folder = workspace.settings.models_dir

    async def work() -> None:
        # Not the whole App: a route that waits for this calibration would keep it from opening.
        models = Path(folder).expanduser() if folder else default_models_dir()
        knowledge = workspace.settings.knowledge
        which = {"model": knowledge.embedder_model} if knowledge.embedder_model else {}
        embedder = embedders.get(knowledge.embedder).open(models, threads=knowledge.embedder_threads, **which)
        found = await find(read_pairs(pairs), embedder, precision=precision)
        if not dry_run:
            save_calibration(workspace.data / SEMANTIC_CALIBRATION, found)
        if as_json:
            emit({**asdict(found), "recorded": not dry_run})
            return
        click.echo(f"threshold  {found.threshold:.4f}  ({found.embedder})")
        click.echo(
            f"precision  {found.precision:.4f}  (95 % exact: at least {found.precision_low:.4f}; "
            f"{found.wrong} of {found.hits} hits wrong)"
        )
        click.echo(f"recall     {found.recall:.4f}  (95 % Wilson: {found.recall_low:.4f} to {found.recall_high:.4f})")
        click.echo(f"pairs      {found.pairs} ({found.positives} same; {found.guarded} others refused by the guards)")
        click.echo(
            "nothing recorded" if dry_run else "recorded; switch it on with `cache: {semantic: true}` of a route"
        )

    run(work())
