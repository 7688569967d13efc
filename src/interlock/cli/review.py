"""`interlock knowledge review list|release|keep`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.knowledge.cleaning.types import ReviewItem, Verdict

__all__ = ["review"]


@click.group()
def review() -> None:
    """Decide on documents with personal data, secrets or orders to a model in them."""


@review.command("list")
@click.argument("collection", required=False)
@click.option("--decided", is_flag=True, help="Also those on which somebody decided.")
@json_option
@pass_session
def list_(session: Session, collection: str | None, decided: bool, as_json: bool) -> None:
    """List what waits for a decision: documents that are held back first, then those that are only flagged."""

    async def work() -> list[ReviewItem]:
        async with session.open() as app:
            return await app.parts.knowledge.reviews(app.owner(), collection=collection, decided=decided)

    found = run(work())
    if as_json:
        emit([asdict(item) for item in found])
        return
    table(
        ["id", "document", "state", "found", "first at"],
        [(i.id, f"{i.collection} · {i.source}", _state(i), _found(i.counts), _first(i)) for i in found],
    )
    if found:
        click.echo("interlock knowledge review release ID, or keep ID; interlock documents show ID for its facts")


def _state(item: ReviewItem) -> str:
    if item.decision:
        return item.decision
    return "held" if item.held else "flagged, found"


def _found(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _first(item: ReviewItem) -> str:
    return f"{item.findings[0].start}-{item.findings[0].end}" if item.findings else ""


def _decide(session: Session, document: str, verdict: Verdict, *, as_json: bool) -> None:
    from interlock.core.ids import DocumentId
    from interlock.flows.ingest import review_document

    async def work() -> ReviewItem:
        async with session.open() as app:
            return await review_document(app.parts, app.owner(), DocumentId(document), verdict)

    item = run(work())
    if as_json:
        emit(asdict(item))
    elif verdict == "released":
        click.echo(f"{item.source} can be found")
    else:
        click.echo(f"{item.source} stays out of the index while its text is this one")


@review.command()
@click.argument("document")
@json_option
@pass_session
def release(session: Session, document: str, as_json: bool) -> None:
    """Let DOCUMENT (its id) be found. Another text of it is judged anew."""
    _decide(session, document, "released", as_json=as_json)


@review.command()
@click.argument("document")
@json_option
@pass_session
def keep(session: Session, document: str, as_json: bool) -> None:
    """Keep DOCUMENT (its id) out of the index, whatever the policy of its source says."""
    _decide(session, document, "kept", as_json=as_json)
