"""`interlock apps`, `interlock release`."""

from __future__ import annotations

from typing import Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

__all__ = ["apps", "release"]


@click.command()
@json_option
@pass_session
def apps(session: Session, as_json: bool) -> None:
    """List apps and where their channels point."""
    from interlock.core.errors import InterlockError

    async def work() -> None:
        async with session.open() as app:
            releases = app.parts.releases
            rows: list[dict[str, Any]] = []
            for source in releases.apps(app.owner()):
                channels = {c.name: c.release for c in await releases.channels(app.owner(), source.name)}
                broken = ""
                try:
                    channels = {"dev": releases.live(source.name).id, **channels}
                except InterlockError as error:
                    # The others are listed all the same, and so are its frozen releases.
                    broken = f"broken: {error.message}"
                rows.append(
                    {
                        "name": source.name,
                        "model": f"app/{source.name}",
                        "description": broken or source.description,
                        "default_channel": source.default_channel,
                        "channels": channels,
                    }
                )
            if as_json:
                emit(rows)
            else:
                table(
                    ["app", "description", "channels"],
                    [
                        (
                            r["model"],
                            r["description"],
                            ", ".join(f"{n} → rel_{str(d)[7:15]}" for n, d in r["channels"].items()),
                        )
                        for r in rows
                    ],
                )

    run(work())


@click.group()
def release() -> None:
    """Freeze releases and point channels at them."""


@release.command()
@click.option("--app", "app_name", required=True)
@click.option("--channel", type=click.Choice(["stage", "prod"]), help="Also point this channel at it.")
@click.option("--note", default="", help="Why, for the record.")
@json_option
@pass_session
def build(session: Session, app_name: str, channel: str | None, note: str, as_json: bool) -> None:
    """Freeze what the app's files describe now."""

    async def work() -> None:
        async with session.open() as app:
            ctx = app.owner()
            info = await app.parts.releases.freeze(ctx, app_name, note)
            if channel:
                await app.parts.releases.point(ctx, app_name, channel, info.id)
            if as_json:
                emit({"id": info.id, "app": info.app, "components": dict(info.components), "channel": channel})
            else:
                click.echo(info.id)
                for kind, digest in sorted(info.components.items()):
                    click.secho(f"  {kind:12} {digest}", dim=True)
                if channel:
                    click.echo(f"{channel} now points at it")

    run(work())


@release.command("list")
@click.option("--app", "app_name", required=True)
@json_option
@pass_session
def list_releases(session: Session, app_name: str, as_json: bool) -> None:
    """Frozen releases, newest first."""

    async def work() -> None:
        async with session.open() as app:
            ctx = app.owner()
            found = await app.parts.releases.list(ctx, app_name)
            channels = await app.parts.releases.channels(ctx, app_name)
            if as_json:
                emit(
                    [
                        {
                            "id": i.id,
                            "created_at": i.created_at,
                            "created_by": i.created_by,
                            "note": i.note,
                            "channels": [c.name for c in channels if c.release == i.id],
                        }
                        for i in found
                    ]
                )
            else:
                table(
                    ["release", "created", "by", "channels", "note"],
                    [
                        (
                            "rel_" + i.id[7:15],
                            f"{i.created_at:%Y-%m-%d %H:%M}",
                            i.created_by,
                            ", ".join(c.name for c in channels if c.release == i.id),
                            i.note,
                        )
                        for i in found
                    ],
                )

    run(work())


@release.command()
@click.argument("release_id")
@click.option("--app", "app_name", required=True)
@click.option("--channel", type=click.Choice(["stage", "prod"]), required=True)
@json_option
@pass_session
def point(session: Session, release_id: str, app_name: str, channel: str, as_json: bool) -> None:
    """Point a channel at a frozen release (also to roll back)."""

    async def work() -> None:
        async with session.open() as app:
            moved = await app.parts.releases.point(app.owner(), app_name, channel, release_id)
            if as_json:
                emit({"app": moved.app, "channel": moved.name, "release": moved.release})
            else:
                click.echo(f"{moved.app}@{moved.name} → {moved.release}")

    run(work())
