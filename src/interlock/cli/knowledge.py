"""`interlock ingest`, `interlock documents`, `interlock knowledge`."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING

import click

from interlock.cli.abstention import calibrate
from interlock.cli.embedder import embedder
from interlock.cli.history import (
    claim,
    diff,
    is_dead,
    lineage,
    prune,
    rebuild,
    resume,
    rollback,
    snapshots,
    this_process,
)
from interlock.cli.questions import questions
from interlock.cli.retrieval import explain, graph, search
from interlock.cli.retrieval_eval import evaluate
from interlock.cli.review import review
from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.cli.tuning import tune
from interlock.core.errors import Conflict, NotFound

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.knowledge.types import DocumentInfo, IngestReport, Progress, SourceStatus
    from interlock.stores.compute.base import ExecutorKind
    from interlock.stores.compute.settings import ComputeChoice
    from interlock.stores.jobs.base import Job

__all__ = ["documents", "ingest", "ingest_collection", "knowledge"]

_MOST_SHOWN = 60


@click.command()
@click.argument("collection", required=False)
@click.option("--source", help="Only this source of COLLECTION.")
@click.option(
    "--executor",
    type=click.Choice(["inline", "processes", "ray"]),
    help="Where files are read and embedded, otherwise than compute.executor says.",
)
@click.option("--workers", type=click.IntRange(1, 1024), help="Workers, otherwise than compute.workers says.")
@click.option("--allow-removals", is_flag=True, help="Remove what is gone even when that is all or most of a source.")
@json_option
@pass_session
def ingest(
    session: Session,
    collection: str | None,
    source: str | None,
    executor: ExecutorKind | None,
    workers: int | None,
    allow_removals: bool,
    as_json: bool,
) -> None:
    """Read the sources of COLLECTION (default: all) into the index. Unchanged documents cost nothing."""
    from interlock.stores.compute.settings import ComputeChoice

    compute = ComputeChoice(executor, workers) if executor or workers else None
    if source is not None and collection is None:
        raise click.UsageError("--source needs the COLLECTION it belongs to")
    run(_ingest(session, collection, source, compute, allow_removals=allow_removals, as_json=as_json))


async def _ingest(
    session: Session,
    collection: str | None,
    source: str | None,
    compute: ComputeChoice | None,
    *,
    allow_removals: bool,
    as_json: bool,
) -> None:
    async with session.open() as app:
        names = [collection] if collection else app.ingested_collections()
        broken = {} if collection else app.broken_collections()
        if not names:
            for error in broken.values():
                raise error
            raise NotFound(
                "this workspace has no knowledge to ingest", hint="add knowledge/NAME.yaml; see interlock init --help"
            )
        reports = [
            await ingest_collection(app, name, source, compute=compute, allow_removals=allow_removals, quiet=as_json)
            for name in names
        ]
        if as_json:
            emit([asdict(report) for report in reports])
        else:
            for report in reports:
                print_report(report)
                await _hint_at_embedder(app, report.collection)
        for error in broken.values():
            click.secho(f"left out: {error}", fg="red", err=True)
    if broken or any(report.failed or report.away for report in reports):
        raise click.exceptions.Exit(1)


async def _hint_at_embedder(app: App, collection: str) -> None:
    """Settings that name another embedder change nothing by themselves: say what does."""
    try:
        status = await app.parts.knowledge.spaces.status(app.owner(), collection)
    except NotFound:
        # Its sources were empty: no embedder was needed yet.
        return
    spaces = {status.answers.id, status.beside.id if status.beside else ""}
    if status.configured and status.configured not in spaces:
        click.secho(
            f"  the settings name another embedder: interlock knowledge embedder build {collection}", fg="yellow"
        )


async def ingest_collection(
    app: App,
    name: str,
    source: str | None = None,
    *,
    compute: ComputeChoice | None = None,
    allow_removals: bool = False,
    quiet: bool,
) -> IngestReport:
    """Ingest one collection, or one source of it, as a durable job, with a progress bar unless `quiet`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from interlock.flows.ingest import enqueue_ingest, run_ingest

    spec = app.source_spec(name)
    ctx = app.owner()
    if source is not None:
        spec.source(source)

    async def begin() -> Job:
        return await enqueue_ingest(
            app.parts, ctx, name, source, compute=compute, allow_removals=allow_removals, worker=this_process()
        )

    job = await begin()
    claimed = await claim(app, job)
    if claimed is None and is_dead(job.worker):
        # Its process was killed on this machine: nobody will renew that lease.
        await app.parts.jobs.fail(job, code="worker_lost", message="its process was killed", retry_in_s=None)
        job = await begin()
        claimed = await claim(app, job)
    if claimed is None:
        raise Conflict(
            f"the collection {name!r} is being ingested by another process",
            hint=f"watch it in the console, or try again later ({job.id})",
        )
    # A job that was queued before may say otherwise; here the asker does.
    if compute is not None:
        claimed = replace(claimed, payload={**claimed.payload, **_given(compute)})
    if allow_removals:
        claimed = replace(claimed, payload={**claimed.payload, "allow_removals": True})
    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    ) as bar:
        task = bar.add_task(name, total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total, description=progress.message[:60] or name)

        return await run_ingest(app.parts, ctx, claimed, spec, on_progress=show)


def _given(compute: ComputeChoice) -> dict[str, object]:
    return {name: value for name, value in compute._asdict().items() if value is not None}


def print_report(report: IngestReport) -> None:
    """What an ingest did, for people."""
    click.echo(
        f"{report.collection}: {report.added} added, {report.changed} changed, {report.unchanged} unchanged, "
        f"{report.deleted} deleted, {report.skipped} skipped, {len(report.failed)} failed · "
        f"{report.passages} passages, {report.embedding_tokens} tokens embedded in {report.seconds:.1f} s"
    )
    if report.set_back:
        click.secho(
            "  held at an older snapshot: only rights were applied; go on with: "
            f"interlock knowledge resume {report.collection}",
            fg="yellow",
        )
    if report.restored:
        click.echo(f"  the index had lost {report.restored} documents: they are there again")
    if report.kept_out:
        click.echo(f"  {report.kept_out} were erased and stay out (interlock erase allow ID)")
    cleaned = _cleaned(report)
    if cleaned:
        click.echo(f"  cleaning: {cleaned}")
    for away in report.away:
        click.secho(f"  not reached: {away.source}: {away.message}", fg="red")
    if report.skipped:
        kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in report.skipped_suffixes.items())
        click.echo(f"  skipped: {kinds}{_advice(report)}")
    for failure in report.failed:
        click.secho(f"  failed: {failure.source}: {failure.message}", fg="red")


def _cleaned(report: IngestReport) -> str:
    """What cleaning leaves in the collection, in a few words."""
    told = [
        (report.held, "held for a person"),
        (report.flagged - report.held, "flagged"),
        (report.redacted, "values redacted"),
        (report.duplicates, "copies behind others"),
        (report.versions, "linked as versions"),
        (report.left_out, "repeated blocks left out"),
        (report.repaired, "words repaired"),
        (report.without_context, "passages without context (the budget is spent, or the model away)"),
    ]
    return ", ".join(f"{count} {what}" for count, what in told if count > 0)


def _advice(report: IngestReport) -> str:
    from interlock.knowledge.loaders import find_loader

    pictures = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"} & set(report.skipped_suffixes)
    if pictures and find_loader("a.png") is None:
        return " (pictures are read with: pip install 'interlock[ocr]')"
    return ""


@click.group(invoke_without_command=True)
@click.option("--collection", help="Only this collection.")
@click.option("--as", "user", metavar="USER", help="What a user of the directory may see.")
@json_option
@pass_session
@click.pass_context
def documents(
    context: click.Context, session: Session, collection: str | None, user: str | None, as_json: bool
) -> None:
    """List documents with their readers and state, or delete one."""
    if context.invoked_subcommand is not None:
        return

    async def work() -> None:
        async with session.open() as app:
            ctx = app.owner() if user is None else app.parts.access.act_as(app.owner(), user)
            infos = await app.parts.knowledge.documents(ctx, collection=collection)
            if user is not None:
                # The local owner oversees everything; looking through a user's eyes shows what that user may read.
                infos = [info for info in infos if info.readers & ctx.readers]
            if as_json:
                emit([_facts(info) for info in infos])
                return
            table(
                ["source", "title", "pages", "passages", "readers", "state", "look at"],
                [
                    (
                        _shortened(i.source),
                        _shortened(i.title),
                        i.pages,
                        i.passages,
                        ", ".join(sorted(i.readers)) or "nobody",
                        i.state,
                        _look(i),
                    )
                    for i in infos
                ],
                right=["pages", "passages"],
            )

    run(work())


def _facts(info: DocumentInfo) -> dict[str, object]:
    review = [{"page": r.page, "score": r.score, "reasons": list(r.reasons)} for r in info.review]
    return {**asdict(info), "readers": sorted(info.readers), "review": review}


def _told_cleaning(info: DocumentInfo) -> list[tuple[str, str]]:
    facts = info.cleaning
    rows = [
        ("found in it", ", ".join(f"{count} {name}" for name, count in facts.counts.items())),
        ("decision", facts.decision),
        ("found through", facts.duplicate_of or ""),
        ("redacted", str(facts.redacted or "")),
        ("blocks left out", str(facts.left_out or "")),
    ]
    return [(name, value) for name, value in rows if value]


def _shortened(text: str) -> str:
    """A long path by its two ends: one of them must not make every row as long."""
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN // 2 - 1]}…{text[-_MOST_SHOWN // 2 :]}"


def _look(info: DocumentInfo) -> str:
    """Which pages a person should look at, in a few words."""
    if not info.review:
        return ""
    if info.review[0].page is None:
        return "its text"
    shown = ", ".join(str(review.page) for review in info.review[:5])
    return f"page {shown}" + (" …" if len(info.review) > 5 else "")


@documents.command()
@click.argument("document")
@json_option
@pass_session
def show(session: Session, document: str, as_json: bool) -> None:
    """Show the facts of DOCUMENT (its id), how well it was read, and which pages a person should look at."""
    from interlock.core.ids import DocumentId

    async def work() -> None:
        async with session.open() as app:
            info = await app.parts.knowledge.document(app.owner(), DocumentId(document))
            if as_json:
                emit(_facts(info))
                return
            table(
                ["fact", "value"],
                [
                    ("source", info.source),
                    ("title", info.title),
                    ("type", info.media_type),
                    ("readers", ", ".join(sorted(info.readers)) or "nobody"),
                    ("languages", ", ".join(info.languages)),
                    ("pages", info.pages or ""),
                    ("passages", info.passages),
                    ("state", info.error_message if info.state == "failed" else info.state),
                    ("quality", f"{info.quality:.2f}"),
                    *_told_cleaning(info),
                    *((key, value) for key, value in sorted(info.metadata.items())),
                ],
            )
            if info.review:
                click.echo("\nA person should look at:")
                table(
                    ["page", "score", "reasons"],
                    [(r.page or "all", f"{r.score:.2f}", ", ".join(r.reasons)) for r in info.review],
                    right=["page", "score"],
                )

    run(work())


@documents.command()
@click.argument("document")
@click.argument("start", type=click.IntRange(min=0))
@click.argument("end", type=click.IntRange(min=0))
@click.option("--as", "user", metavar="USER", help="Ask as a user of the directory, who must be a reader of it.")
@json_option
@pass_session
def boxes(session: Session, document: str, start: int, end: int, user: str | None, as_json: bool) -> None:
    """Show where the characters START to END of DOCUMENT (its id) stand on its pages, as a citation names them."""
    from interlock.core.ids import DocumentId
    from interlock.core.passages import Span

    async def work() -> None:
        async with session.open() as app:
            ctx = app.owner() if user is None else app.parts.access.act_as(app.owner(), user)
            pages = await app.parts.knowledge.span_boxes(ctx, DocumentId(document), Span(start, end))
            if as_json:
                # Named tuples would come out as bare lists.
                emit([{**asdict(page), "boxes": [box._asdict() for box in page.boxes]} for page in pages])
                return
            table(
                ["page", "left", "top", "right", "bottom", "characters"],
                [(b.page, b.left, b.top, b.right, b.bottom, f"{b.start}-{b.end}") for p in pages for b in p.boxes],
                right=["page", "left", "top", "right", "bottom"],
            )

    run(work())


@documents.command()
@click.argument("document")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def delete(session: Session, document: str, yes: bool, as_json: bool) -> None:
    """Delete DOCUMENT (its id) with its passages and every stored version.

    An ingest brings it back while its file is still in the source.
    """
    from interlock.core.ids import DocumentId
    from interlock.flows.ingest import erase_document

    if not yes and not as_json:
        click.confirm("Delete it for good?", abort=True)

    async def work() -> None:
        async with session.open() as app:
            info = await erase_document(app.parts, app.owner(), DocumentId(document))
            if as_json:
                emit({"id": info.id, "collection": info.collection, "source": info.source, "deleted": True})
            else:
                click.echo(f"{info.source} is deleted")

    run(work())


@click.group()
def knowledge() -> None:
    """Search collections, measure how well, and look after their sources."""


for _command in (
    search,
    explain,
    graph,
    evaluate,
    tune,
    calibrate,
    review,
    snapshots,
    diff,
    rollback,
    resume,
    rebuild,
    prune,
    lineage,
    questions,
    embedder,
):
    knowledge.add_command(_command)
knowledge.add_command(lineage)


@knowledge.command()
@click.argument("collection", required=False)
@json_option
@pass_session
def sources(session: Session, collection: str | None, as_json: bool) -> None:
    """List the sources of COLLECTION (default: all) with their freshness. Fails when one is stale or broken."""

    async def work() -> list[SourceStatus]:
        async with session.open() as app:
            names = [collection] if collection else list(app.collections())
            specs = [app.source_spec(name) for name in names]
            return [status for spec in specs for status in await app.parts.knowledge.sources(app.owner(), spec)]

    found = run(work())
    if as_json:
        emit([asdict(status) for status in found])
    else:
        table(
            ["collection", "source", "kind", "owner", "documents", "failed", "held", "last look", "state"],
            [
                (
                    s.collection,
                    s.name,
                    s.kind,
                    s.owner,
                    s.documents,
                    s.failed,
                    s.held,
                    _moment(s.synced_at),
                    _standing(s),
                )
                for s in found
            ],
            right=["documents", "failed", "held"],
        )
    if any(status.stale or status.error_code for status in found):
        raise click.exceptions.Exit(1)


def _moment(at: datetime | None) -> str:
    return "never" if at is None else at.strftime("%Y-%m-%d %H:%M")


def _standing(status: SourceStatus) -> str:
    parts = [f"failed: {status.error_message or status.error_code}"] if status.error_code else []
    if status.set_back:
        parts.append("held at an older snapshot")
    if status.stale:
        parts.append(f"stale since {_moment(status.stale_since)}" if status.stale_since else "stale, never read")
    elif status.stale is False:
        parts.append("fresh")
    return "; ".join(parts) or ("read" if status.synced_at else "not read yet")
