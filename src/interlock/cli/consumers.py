"""`interlock release consumers`: who reads an app's answers, and by which schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.releases.consumers import Unread

__all__ = ["consumers"]

_app = click.argument("app_name", metavar="APP")
_COLOURS = {"incompatible": "red", "undecided": "yellow", "accepted": "yellow"}


@click.group()
def consumers() -> None:
    """Teams that read an app's answers: a release that they could not read is neither frozen nor let out."""


@consumers.command("add")
@_app
@click.option("--name", required=True, help="What it is called, e.g. billing.")
@click.option(
    "--schema",
    "file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the JSON Schema that it reads answers by.",
)
@click.option("--contact", default="", help="Whom to ask.")
@json_option
@pass_session
def add(session: Session, /, app_name: str, name: str, file: Path, contact: str, as_json: bool) -> None:
    """Record who reads answers of APP, or what it reads from now on."""
    schema = _schema(file)

    async def work() -> None:
        from interlock.flows.consumer_desk import add_consumer, consumer_view, unread_view

        async with session.open() as app:
            made, unread = await add_consumer(app.parts, app.owner(), app_name, name, schema, contact=contact)
            if as_json:
                emit({**consumer_view(made), "unread": None if unread is None else unread_view(unread)})
                return
            click.echo(f"{made.name} reads answers of {app_name} by {made.digest[7:15]}")
            if unread is not None:
                click.secho("of what the files describe now:", fg="yellow")
                _show([unread])

    run(work())


def _schema(file: Path) -> dict[str, Any]:  # Any: a JSON Schema
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file.name!r} cannot be read as UTF-8 text", param="--schema") from error
    except ValueError as error:
        raise InvalidInput(f"{file.name!r} is not JSON", param="--schema") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{file.name!r} is no JSON Schema: it is an object", param="--schema")
    return found


@consumers.command("list")
@_app
@click.option("--release", default="live", show_default=True, help="Hold this release to them: an id, a channel, live.")
@json_option
@pass_session
def list_consumers(session: Session, /, app_name: str, release: str, as_json: bool) -> None:
    """Who reads answers of APP, and what of a release each could not read."""

    async def work() -> None:
        from interlock.flows.consumer_desk import consumer_view, readers, unread_view

        async with session.open() as app:
            found, unread, error = await readers(app.parts, app.owner(), app_name, release)
            if as_json:
                told = None if unread is None else [unread_view(each) for each in unread]
                emit({"consumers": [consumer_view(each) for each in found], "unread": told})
                return
            wrong = {each.consumer.name: unread_view(each)["state"] for each in unread or ()}
            fits = "can read it" if unread is not None else "not known"
            rows = [(c.name, wrong.get(c.name, fits), c.contact, c.set_by, f"{c.set_at:%Y-%m-%d %H:%M}") for c in found]
            table(["consumer", release, "contact", "by", "since"], rows)
            _show(unread or ())
            if unread is None:
                click.secho(f"{release} cannot be read: {error}", fg="yellow")

    run(work())


def _show(unread: Sequence[Unread]) -> None:
    from interlock.flows.consumer_desk import unread_view

    for each in unread:
        state = unread_view(each)["state"]
        for misfit in each.misfits:
            told = "" if misfit.certain else " (cannot be told)"
            click.secho(f"  {each.consumer.name}: {misfit.field} {misfit.why}{told}", fg=_COLOURS[state])


@consumers.command("remove")
@_app
@click.argument("name")
@json_option
@pass_session
def remove(session: Session, /, app_name: str, name: str, as_json: bool) -> None:
    """Hold releases of APP no longer to what NAME reads."""

    async def work() -> None:
        async with session.open() as app:
            releases = app.parts.releases
            await releases.consumers.remove(app.owner(), releases.source(app_name, app.owner()).name, name)
            emit({"removed": name}) if as_json else click.echo(f"{name} is gone")

    run(work())


@consumers.command("accept")
@_app
@click.argument("release")
@click.option("--reason", required=True, help="Why; it stays with the release.")
@json_option
@pass_session
def accept(session: Session, /, app_name: str, release: str, reason: str, as_json: bool) -> None:
    """Let RELEASE out although it cannot be told whether consumers can read it. What they certainly cannot stays in."""

    async def work() -> None:
        from interlock.flows.consumer_desk import unread_view

        async with session.open() as app:
            found = await app.parts.releases.accept_unread(app.owner(), app_name, release, reason=reason)
            if as_json:
                emit([unread_view(each) for each in found])
            else:
                click.echo(f"accepted for {', '.join(each.consumer.name for each in found)}")

    run(work())
