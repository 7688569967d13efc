"""`interlock erase`: documents, sources and persons, everywhere, with a certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import Conflict

if TYPE_CHECKING:
    from interlock.flows.erasures import Erasure
    from interlock.governance.certificates import Certificate

__all__ = ["erase"]

_dry = click.option("--dry-run", is_flag=True, help="Only list what would go.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def erase() -> None:
    """Erase a document, a source, or what is known of a person, everywhere, with a signed certificate."""


@erase.command()
@click.argument("document")
@_dry
@_yes
@json_option
@pass_session
def document(session: Session, document: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Erase DOCUMENT (its id) with all versions. No ingest brings it back until `interlock erase allow`."""
    from interlock.flows.erasures import Erasure

    _erase(session, Erasure("document", document), dry_run=dry_run, yes=yes, as_json=as_json)


@erase.command()
@click.argument("collection")
@click.argument("name")
@_dry
@_yes
@json_option
@pass_session
def source(session: Session, collection: str, name: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Erase everything that came from the source NAME of COLLECTION."""
    from interlock.flows.erasures import Erasure

    _erase(session, Erasure("source", name, collection), dry_run=dry_run, yes=yes, as_json=as_json)


@erase.command()
@click.argument("person")
@_dry
@_yes
@json_option
@pass_session
def subject(session: Session, person: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Erase what is held of PERSON: documents whose facts name them as subject, and what is kept of the end user."""
    from interlock.flows.erasures import Erasure

    _erase(session, Erasure("subject", person), dry_run=dry_run, yes=yes, as_json=as_json)


def _erase(session: Session, what: Erasure, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    from interlock.flows import erasures
    from interlock.flows.history_views import certificate_view

    if not yes and not dry_run and not as_json:
        click.confirm("Erase it for good, everywhere?", abort=True)

    async def work() -> bool:
        async with session.open() as app:
            if app.workspace.settings.stores.kv == "memory" and not dry_run:
                raise Conflict(
                    "kept answers are in the server's memory, which this command cannot reach",
                    hint="POST /api/v1/erasures on the server, or set stores.kv: sql",
                )
            if dry_run:
                targets = await erasures.plan_erasure(app.parts, app.owner(), what)
                if as_json:
                    emit([{"id": t.id, "collection": t.collection, "passages": t.passages} for t in targets])
                else:
                    table(
                        ["document", "collection", "passages"],
                        [(t.id, t.collection, t.passages) for t in targets],
                        right=["passages"],
                    )
                return True
            certificate = await erasures.erase(app.parts, app.owner(), what)
            if as_json:
                emit(certificate_view(certificate))
            else:
                _show(certificate)
            return bool(certificate.content["complete"])

    if not run(work()):
        raise click.exceptions.Exit(1)


@erase.command("list")
@json_option
@pass_session
def list_certificates(session: Session, as_json: bool) -> None:
    """List certificates, newest first."""
    from interlock.flows.history_views import certificate_view

    async def work() -> None:
        async with session.open() as app:
            found = await app.parts.governance.certificates.list(app.owner())
            if as_json:
                emit([certificate_view(certificate) for certificate in found])
                return
            table(
                ["certificate", "when", "kind", "signature"],
                [
                    (c.id, f"{c.at:%Y-%m-%d %H:%M:%S}", c.kind, "holds" if c.is_valid else "DOES NOT HOLD")
                    for c in found
                ],
            )

    run(work())


@erase.command()
@click.argument("certificate")
@json_option
@pass_session
def show(session: Session, certificate: str, as_json: bool) -> None:
    """Show CERTIFICATE (its id), and check its signature. Fails when that does not hold."""
    from interlock.flows.history_views import certificate_view

    async def work() -> bool:
        async with session.open() as app:
            found = await app.parts.governance.certificates.get(app.owner(), certificate)
            if as_json:
                emit(certificate_view(found))
            else:
                _show(found)
            return found.is_valid

    if not run(work()):
        raise click.exceptions.Exit(1)


@erase.command()
@click.argument("document")
@json_option
@pass_session
def allow(session: Session, document: str, as_json: bool) -> None:
    """Let ingests read DOCUMENT (its id) again after it was erased."""
    from interlock.core.ids import DocumentId

    async def work() -> None:
        async with session.open() as app:
            await app.parts.knowledge.history.let_in(app.owner(), DocumentId(document))
            if as_json:
                emit({"id": document, "kept_out": False})
            else:
                click.echo(f"the next ingest may read {document} again")

    run(work())


def _show(certificate: Certificate) -> None:
    content = certificate.content
    documents, removed, left = content["documents"], content["removed"], content["looked_at_again"]
    remains, asked = content["remains"], content["asked"]
    assert isinstance(documents, list)
    assert isinstance(removed, dict)
    assert isinstance(left, dict)
    assert isinstance(remains, list)
    assert isinstance(asked, dict)
    blobs = removed["blobs"]
    table(
        ["erasure", ""],
        [
            ("certificate", certificate.id),
            ("when", f"{certificate.at:%Y-%m-%d %H:%M:%S} UTC"),
            ("asked by", content["by"]),
            ("what", f"{asked['kind']} {asked['collection']} {asked['value']}"),
            ("documents", len(documents)),
            ("blobs removed", len(blobs)),
            ("kept answers removed", removed["cached_answers"]),
            ("stored responses removed", removed["stored_responses"]),
            # Certificates of earlier releases do not tell of them.
            ("batch results removed", removed.get("batch_results", 0)),
            # Certificates of before count none.
            ("questions removed", removed.get("questions", 0)),
            *((f"left: {place.replace('_', ' ')}", count) for place, count in left.items()),
            ("signature", "holds" if certificate.is_valid else "DOES NOT HOLD"),
        ],
    )
    click.echo("What stays:")
    for line in remains:
        click.echo(f"  {line}")
    if not content["complete"]:
        click.secho("Not everything is gone: ask for it again.", fg="red")
