"""`interlock apps`, `interlock release`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.consumers import consumers
from interlock.cli.prompt_checks import print_findings
from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.context import Role
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.releases.comparing import FieldChange
    from interlock.releases.promotion import Evidence
    from interlock.releases.types import Move

__all__ = ["apps", "release"]

_app = click.option("--app", "app_name", required=True)
_release = click.argument("release_id", metavar="RELEASE")
_file = click.Path(dir_okay=False, path_type=Path)


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
    """Freeze releases, look at them, sign them off, carry them elsewhere, and point channels at them."""


release.add_command(consumers)


@release.command()
@click.option("--app", "app_name", required=True)
@click.option("--channel", type=click.Choice(["stage", "prod"]), help="Also point this channel at it.")
@click.option("--note", default="", help="Why, for the record.")
@json_option
@pass_session
def build(session: Session, /, app_name: str, channel: str | None, note: str, as_json: bool) -> None:
    """Freeze what the app's files describe now, and say what rules find in its prompt."""

    async def work() -> None:
        from interlock.flows.freezing import freeze_release
        from interlock.flows.prompt_views import finding_view

        async with session.open() as app:
            ctx = app.owner()
            info, findings = await freeze_release(app.parts, ctx, app_name, note)
            if channel:
                await app.parts.releases.point(ctx, app_name, channel, info.id, reason=note)
            if as_json:
                emit(
                    {
                        "id": info.id,
                        "app": info.app,
                        "components": dict(info.components),
                        "channel": channel,
                        "lint": [finding_view(each) for each in findings],
                    }
                )
            else:
                click.echo(info.id)
                for kind, digest in sorted(info.components.items()):
                    click.secho(f"  {kind:12} {digest}", dim=True)
                if channel:
                    click.echo(f"{channel} now points at it")
                if findings:
                    click.secho("what rules find in its prompt:", fg="yellow", err=True)
                    print_findings(findings, err=True)

    run(work())


@release.command("list")
@_app
@json_option
@pass_session
def list_releases(session: Session, app_name: str, as_json: bool) -> None:
    """Frozen releases, newest first."""

    async def work() -> None:
        from interlock.flows.release_views import release_view

        async with session.open() as app:
            ctx = app.owner()
            found = await app.parts.releases.list(ctx, app_name)
            channels = await app.parts.releases.channels(ctx, app_name)
            if as_json:
                emit([release_view(info, channels) for info in found])
                return
            rows = [
                (
                    _short(i.id),
                    f"{i.created_at:%Y-%m-%d %H:%M}",
                    i.created_by,
                    ", ".join(c.name for c in channels if c.release == i.id),
                    i.note if i.retired is None else f"retired: {i.retired.reason}",
                )
                for i in found
            ]
            table(["release", "created", "by", "channels", "note"], rows)

    run(work())


@release.command()
@_release
@_app
@click.option("--channel", type=click.Choice(["stage", "prod"]), required=True)
@click.option("--reason", default="", help="Why, for the record.")
@json_option
@pass_session
def point(session: Session, /, release_id: str, app_name: str, channel: str, reason: str, as_json: bool) -> None:
    """Point a channel at RELEASE (also to roll back)."""

    async def work() -> None:
        async with session.open() as app:
            moved = await app.parts.releases.point(app.owner(), app_name, channel, release_id, reason=reason)
            if as_json:
                emit({"app": moved.app, "channel": moved.name, "release": moved.release})
            else:
                click.echo(f"{moved.app}@{moved.name} → {moved.release}")

    run(work())


@release.command()
@_release
@_app
@click.option("--components", "with_values", is_flag=True, help="Print what each component says.")
@json_option
@pass_session
def show(session: Session, /, release_id: str, app_name: str, with_values: bool, as_json: bool) -> None:
    """What RELEASE is made of, what is known of it, where it serves and has served."""

    async def work() -> None:
        from interlock.flows.release_views import demand_view, evidence_view, move_view, release_view

        async with session.open() as app:
            ctx, releases = app.owner(), app.parts.releases
            info = await releases.find(ctx, app_name, release_id)
            whole = await releases.pick(ctx, app_name, info.id)
            channels = await releases.channels(ctx, app_name)
            evidence = await releases.evidence(ctx, app_name, info.id)
            moves = [each for each in await releases.moves(ctx, app_name, limit=1000) if each.release == info.id]
            asked = {name: await releases.demands(ctx, app_name, name, info.id) for name in ("stage", "prod")}
            if as_json:
                emit(
                    {
                        **release_view(info, channels),
                        "values": {kind: dict(value) for kind, value in whole.components.items()},
                        "evidence": [evidence_view(each) for each in evidence],
                        "moves": [move_view(each) for each in moves],
                        "demands": {name: [demand_view(each) for each in found] for name, found in asked.items()},
                    }
                )
                return
            click.secho(f"{_short(info.id)}  {info.app}", bold=True)
            click.echo(info.id)
            click.echo(f"frozen {info.created_at:%Y-%m-%d %H:%M} by {info.created_by}" + _after(": ", info.note))
            if info.retired is not None:
                click.secho(f"retired by {info.retired.by}: {info.retired.reason}", fg="yellow")
            serving = [each.name for each in channels if each.release == info.id]
            click.echo(f"serves {', '.join(serving)}" if serving else "serves no channel")
            for kind, digest in sorted(info.components.items()):
                click.secho(f"  {kind:12} {digest}", dim=True)
                if with_values:
                    click.echo(json.dumps(whole.components[kind], indent=2, ensure_ascii=False, sort_keys=True))
            if evidence:
                click.echo()
                _evidence(evidence)
            if moves:
                click.echo()
                _moves(moves)
            for name, found in asked.items():
                for each in found:
                    if each.state != "met":
                        click.secho(f"{name}: {each.demand}: {each.why}", fg="yellow")

    run(work())


@release.command()
@click.argument("before")
@click.argument("after", default="live")
@_app
@json_option
@pass_session
def diff(session: Session, /, before: str, after: str, app_name: str, as_json: bool) -> None:
    """What turns BEFORE into AFTER: releases, channels, or `live` for the files as they are now."""

    async def work() -> None:
        from interlock.flows.release_views import diff_view

        async with session.open() as app:
            found = await app.parts.releases.diff(app.owner(), app_name, before, after)
            if as_json:
                emit(diff_view(found))
                return
            click.secho(f"{_short(found.before)} → {_short(found.after)}", bold=True)
            if not found.changed:
                click.echo("they are the same release")
            for component in found.changed:
                click.secho(f"{component.kind}: {component.state}", bold=True)
                for change in component.changes:
                    _change(change)

    run(work())


@release.command()
@_release
@_app
@json_option
@pass_session
def verify(session: Session, /, release_id: str, app_name: str, as_json: bool) -> None:
    """Check every stored piece of RELEASE against its digest. Exits with 1 when one is damaged."""

    async def work() -> int:
        from interlock.flows.release_views import damage_view

        async with session.open() as app:
            info = await app.parts.releases.find(app.owner(), app_name, release_id)
            found = await app.parts.releases.verify(app.owner(), app_name, info.id)
            if as_json:
                emit({"release": info.id, "whole": not found, "damaged": [damage_view(each) for each in found]})
            elif not found:
                click.secho(f"{_short(info.id)} is whole: {len(info.components)} components", fg="green")
            for each in () if as_json else found:
                click.secho(f"{each.what} is {each.why}: {each.digest}", fg="red")
            if found and not as_json:
                click.echo(
                    "restore a backup (interlock restore), or import the release again (interlock release import)"
                )
            return 1 if found else 0

    if code := run(work()):
        sys.exit(code)


@release.command()
@_release
@_app
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="In which you sign.")
@click.option("--reject", is_flag=True, help="Reject it instead; say why with --note.")
@click.option("--note", default="", help="What you looked at.")
@json_option
@pass_session
def sign(
    session: Session, /, release_id: str, app_name: str, role: str, reject: bool, note: str, as_json: bool
) -> None:
    """Sign RELEASE off, or reject it."""

    async def work() -> None:
        from interlock.flows.release_views import evidence_view

        async with session.open() as app:
            signed = await app.parts.releases.sign(
                app.owner(), app_name, release_id, role=Role(role), approve=not reject, note=note
            )
            if as_json:
                emit(evidence_view(signed))
            else:
                click.echo(f"{_short(signed.release)} {signed.verdict} as {role} by {signed.by}")

    run(work())


@release.command()
@_release
@_app
@json_option
@pass_session
def evidence(session: Session, /, release_id: str, app_name: str, as_json: bool) -> None:
    """What is known of RELEASE, oldest first; `live` for the files as they are now."""

    async def work() -> None:
        from interlock.flows.release_views import evidence_view

        async with session.open() as app:
            ctx = app.owner()
            chosen = await app.parts.releases.pick(ctx, app_name, release_id)
            found = await app.parts.releases.evidence(ctx, app_name, chosen.id)
            if as_json:
                emit([evidence_view(each) for each in found])
            else:
                _evidence(found)

    run(work())


@release.command()
@_app
@click.option("--channel", type=click.Choice(["stage", "prod"]))
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
@pass_session
def history(session: Session, /, app_name: str, channel: str | None, limit: int, as_json: bool) -> None:
    """Where channels have pointed, who moved them and why; newest first."""

    async def work() -> None:
        from interlock.flows.release_views import move_view

        async with session.open() as app:
            found = await app.parts.releases.moves(app.owner(), app_name, channel=channel, limit=limit)
            if as_json:
                emit([move_view(each) for each in found])
            else:
                _moves(found)

    run(work())


@release.command()
@_release
@_app
@click.option("--reason", required=True, help="Why; it stays with the record.")
@json_option
@pass_session
def retire(session: Session, /, release_id: str, app_name: str, reason: str, as_json: bool) -> None:
    """Let no channel be pointed at RELEASE any more."""
    _retire(session, "retire", release_id, app_name, reason=reason, as_json=as_json)


@release.command()
@_release
@_app
@click.option("--reason", required=True, help="Why; it stays with the record.")
@json_option
@pass_session
def reinstate(session: Session, /, release_id: str, app_name: str, reason: str, as_json: bool) -> None:
    """Take the retirement of RELEASE back."""
    _retire(session, "reinstate", release_id, app_name, reason=reason, as_json=as_json)


def _retire(session: Session, action: str, release_id: str, app_name: str, *, reason: str, as_json: bool) -> None:
    async def work() -> None:
        from interlock.flows.release_views import release_view

        async with session.open() as app:
            releases = app.parts.releases
            move = releases.retire if action == "retire" else releases.reinstate
            info = await move(app.owner(), app_name, release_id, reason=reason)
            if as_json:
                emit(release_view(info))
            else:
                click.echo(f"{_short(info.id)} is {'retired' if info.retired else 'in use again'}")

    run(work())


@release.command("export")
@_release
@_app
@click.option("-o", "--output", type=_file, required=True, help="File to write.")
@json_option
@pass_session
def export_release(session: Session, /, release_id: str, app_name: str, output: Path, as_json: bool) -> None:
    """Write RELEASE with its components and reports to one file, signed with this installation's key."""

    async def work() -> None:
        from interlock.flows.release_bundles import export_release as export

        async with session.open() as app:
            info = await app.parts.releases.find(app.owner(), app_name, release_id)
            data = await export(app.parts, app.owner(), app_name, info.id)
            try:
                with output.open("xb") as file:
                    file.write(data)
            except OSError as error:
                raise InvalidInput(
                    f"{output.name!r} cannot be written: {error.strerror}", param="--output", hint="name another file"
                ) from error
            key = app.parts.governance.public_key
            if as_json:
                emit({"release": info.id, "file": str(output), "size_bytes": len(data), "public_key": key})
            else:
                click.echo(
                    f"{_short(info.id)} in {output}, {len(data):,} bytes; whoever imports it needs the key {key}"
                )

    run(work())


@release.command("import")
@click.argument("file", type=_file)
@click.option("--app", "app_name", help="Store it under this app (default: the name it has in the file).")
@click.option("--public-key", help="Base64 key that must have signed it, instead of releases.trusted_keys.")
@json_option
@pass_session
def import_release(
    session: Session, /, file: Path, app_name: str | None, public_key: str | None, as_json: bool
) -> None:
    """Store the release of FILE, once its signature was checked. Its sign-offs are left behind: sign here."""

    async def work() -> None:
        from interlock.flows.release_bundles import import_release as take

        try:
            data = file.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{file.name!r} cannot be read: {error.strerror}", param="file") from error
        async with session.open() as app:
            keys = app.workspace.settings.releases.trusted_keys if public_key is None else [public_key]
            done = await take(app.parts, app.owner(), data, keys=keys, app=app_name)
            if as_json:
                emit(
                    {
                        "release": done.info.id,
                        "app": done.info.app,
                        "public_key": done.public_key,
                        "evidence": list(done.evidence),
                        "left_out": list(done.left_out),
                    }
                )
                return
            click.echo(f"{done.info.app}  {done.info.id}")
            click.secho(f"signed by {done.public_key}", dim=True)
            click.echo(f"runs that came with it: {', '.join(done.evidence) or 'none'}")
            for each in done.left_out:
                click.secho(f"left out: {each}", fg="yellow")

    run(work())


def _short(release: str) -> str:
    return "rel_" + release.removeprefix("sha256:")[:8]


def _after(mark: str, text: str) -> str:
    return f"{mark}{text}" if text else ""


def _evidence(found: Sequence[Evidence]) -> None:
    rows = [(e.kind, e.name, e.verdict, e.by, f"{e.at:%Y-%m-%d %H:%M}", e.note, e.digest) for e in found]
    table(["kind", "name", "verdict", "by", "at", "note", "digest"], rows)


def _moves(found: Sequence[Move]) -> None:
    rows = [(f"{m.at:%Y-%m-%d %H:%M}", m.channel, _short(m.release), m.by, m.reason) for m in found]
    table(["at", "channel", "release", "by", "why"], rows)


def _change(change: FieldChange) -> None:
    if change.text:
        click.echo(f"  {change.path}")
        for line in change.text:
            click.secho(f"    {line}", fg={"+": "green", "-": "red", "@": "cyan"}.get(line[:1]))
        return
    if change.kind != "added":
        click.secho(f"  - {change.path}: {json.dumps(change.before, ensure_ascii=False)}", fg="red")
    if change.kind != "removed":
        click.secho(f"  + {change.path}: {json.dumps(change.after, ensure_ascii=False)}", fg="green")
