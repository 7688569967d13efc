"""`interlock rollout`: move a channel to a release step by step, and stop it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.releases.rollouts.types import Check, Rollout

__all__ = ["rollout"]

_reason = click.option("--reason", required=True, help="Why; it stays with the record.")


@click.group()
def rollout() -> None:
    """Move a channel to a new release step by step; harm that is proven rolls it back."""


@rollout.command()
@click.argument("release_id", metavar="RELEASE")
@click.option("--app", "app_name", required=True)
@click.option("--channel", type=click.Choice(["stage", "prod"]), default="prod", show_default=True)
@click.option(
    "--spec", type=click.Path(dir_okay=False, path_type=Path), help="How it goes (YAML), instead of app.yaml's."
)
@click.option("--reason", default="", help="Why, for the record.")
@json_option
@pass_session
def start(
    session: Session, /, release_id: str, app_name: str, channel: str, spec: Path | None, reason: str, as_json: bool
) -> None:
    """Begin to move a channel to RELEASE."""
    from interlock.flows.app_files import validate_yaml
    from interlock.releases.rollouts.types import RolloutSpec

    how = None if spec is None else validate_yaml(spec, RolloutSpec)

    async def work() -> None:
        async with session.open() as app:
            started = await app.parts.releases.start_rollout(
                app.owner(), app_name, channel, release_id, spec=how, reason=reason
            )
            _show(started, as_json=as_json)

    run(work())


@rollout.command("list")
@click.option("--app", "app_name")
@click.option("--active", is_flag=True, help="Only those that are not over.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@pass_session
def list_rollouts(session: Session, /, app_name: str | None, active: bool, limit: int, as_json: bool) -> None:
    """Rollouts, newest first."""

    async def work() -> None:
        async with session.open() as app:
            name = None if app_name is None else app.parts.releases.source(app_name).name
            found = await app.parts.releases.rollouts.list(app.owner(), app=name, active=active, limit=limit)
            if as_json:
                emit([_told(each) for each in found])
                return
            rows = [
                (r.id, f"{r.app}@{r.channel}", r.state, f"{r.percent:g} %", _short(r.candidate), r.reason[:80])
                for r in found
            ]
            table(["rollout", "channel", "state", "candidate serves", "candidate", "why"], rows)

    run(work())


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@json_option
@pass_session
def show(session: Session, /, rollout_id: str, as_json: bool) -> None:
    """What ROLLOUT has seen and done, with the numbers each step rested on."""

    async def work() -> None:
        async with session.open() as app:
            rollouts = app.parts.releases.rollouts
            found = await rollouts.one(app.owner(), rollout_id)
            history = await rollouts.history(app.owner(), rollout_id)
            if as_json:
                from interlock.flows.release_views import rollout_view

                emit(rollout_view(found, history))
                return
            _show(found, as_json=False)
            click.echo()
            rows = [
                (f"{h.at:%Y-%m-%d %H:%M:%S}", h.action, h.state, f"{h.percent:g} %", h.by, h.reason) for h in history
            ]
            table(["at", "action", "state", "candidate serves", "by", "why"], rows)

    run(work())


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@json_option
@pass_session
def look(session: Session, /, rollout_id: str, as_json: bool) -> None:
    """Judge ROLLOUT now instead of at its next turn."""

    async def work() -> None:
        from interlock.flows.rollout import look_at

        async with session.open() as app:
            found = await app.parts.releases.rollouts.one(app.owner(), rollout_id)
            _show(await look_at(app.parts, app.owner(), found), as_json=as_json)

    run(work())


def _move(session: Session, action: str, rollout_id: str, reason: str, as_json: bool) -> None:
    async def work() -> None:
        async with session.open() as app:
            rollouts = app.parts.releases.rollouts
            moves = {
                "pause": rollouts.pause,
                "resume": rollouts.resume,
                "abort": rollouts.roll_back,
                "promote": rollouts.promote,
            }
            _show(await moves[action](app.owner(), rollout_id, reason), as_json=as_json)

    run(work())


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@_reason
@json_option
@pass_session
def pause(session: Session, /, rollout_id: str, reason: str, as_json: bool) -> None:
    """Keep ROLLOUT's split as it is."""
    _move(session, "pause", rollout_id, reason, as_json)


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@_reason
@json_option
@pass_session
def resume(session: Session, /, rollout_id: str, reason: str, as_json: bool) -> None:
    """Go on with ROLLOUT, its step counted from now."""
    _move(session, "resume", rollout_id, reason, as_json)


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@_reason
@json_option
@pass_session
def abort(session: Session, /, rollout_id: str, reason: str, as_json: bool) -> None:
    """Roll ROLLOUT back: everybody is served by the control again, at once."""
    _move(session, "abort", rollout_id, reason, as_json)


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@_reason
@json_option
@pass_session
def promote(session: Session, /, rollout_id: str, reason: str, as_json: bool) -> None:
    """End ROLLOUT by moving the channel to the candidate, although its proof is not whole."""
    _move(session, "promote", rollout_id, reason, as_json)


@rollout.command()
@click.argument("release_id", metavar="RELEASE")
@click.option("--app", "app_name", required=True)
@click.option("--channel", type=click.Choice(["stage", "prod"]), default="prod", show_default=True)
@click.option(
    "--requests",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help='Past requests: a suite, or JSON lines {"input", "group"?, "as"?}.',
)
@click.option("--most", type=click.IntRange(10, 100_000), default=500, show_default=True, help="Units drawn from it.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@pass_session
def replay(
    session: Session,
    /,
    release_id: str,
    app_name: str,
    channel: str,
    requests: Path,
    most: int,
    seed: int,
    concurrency: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Answer past requests by RELEASE and by what the channel serves, and keep the comparison as evidence.

    Exits with 0 (no worse), 5 (worse) or 6 (not enough evidence).
    """

    async def work() -> str:
        import msgspec

        from interlock.flows.replay import Sample
        from interlock.flows.replay import replay as replaying

        def tell(done: int, total: int) -> None:
            if not quiet and sys.stderr.isatty():
                click.echo(f"\r\033[K{done:,} of {total:,}", nl=done == total, err=True)

        async with session.open() as app:
            sample = Sample(requests, most, seed, concurrency)
            found, given = await replaying(
                app.parts, app.owner(), app_name, release_id, sample, channel=channel, progress=tell
            )
            if as_json:
                emit({**msgspec.to_builtins(found._asdict()), "digest": given.digest})
                return found.verdict
            colour = {"pass": "green", "fail": "red"}.get(found.verdict, "yellow")
            click.secho(f"replay: {found.verdict.replace('_', ' ')}", fg=colour, bold=True)
            click.echo(f"{found.requests} requests of {found.units} units; {found.reason}")
            if found.more_units:
                click.echo(f"about {found.more_units} more units would show it")
            if found.checks:
                columns = ["measure", "candidate", "control", "harm", "surely within", "margin", "units", "verdict"]
                table(columns, [_row(check) for check in found.checks], right=columns[1:-1])
            return found.verdict

    sys.exit({"pass": 0, "fail": 5}.get(run(work()), 6))


def _short(release: str) -> str:
    return "rel_" + release.removeprefix("sha256:")[:8]


def _told(found: Rollout) -> dict[str, Any]:  # Any: JSON values
    from interlock.flows.release_views import rollout_view

    return rollout_view(found)


def _show(found: Rollout, *, as_json: bool) -> None:
    if as_json:
        emit(_told(found))
        return
    colour = {"rolled_back": "red", "promoted": "green", "canary": None}.get(found.state, "yellow")
    click.secho(f"{found.id}  {found.app}@{found.channel}  {found.state.replace('_', ' ')}", fg=colour, bold=True)
    click.echo(f"{_short(found.control)} → {_short(found.candidate)}, which serves {found.percent:g} %")
    click.echo(found.reason)
    if found.checks:
        columns = ["measure", "candidate", "control", "harm", "surely within", "margin", "units", "verdict"]
        table(columns, [_row(check) for check in found.checks], right=columns[1:-1])


def _row(check: Check) -> tuple[str, ...]:
    return (
        check.measure,
        f"{check.candidate:.4g}",
        f"{check.control:.4g}",
        f"{check.harm:+.4g}",
        f"{check.low:+.4g} to {check.high:+.4g}",
        f"{check.margin:g}",
        f"{check.units[0]}/{check.units[1]}",
        check.verdict,
    )
