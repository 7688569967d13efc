"""`interlock migrate`: a model goes out of use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.compare import tell
from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.flows.migrate import Migration

__all__ = ["migrate"]

_COLOURS = {"ready": "green", "worse": "red", "failed": "red"}
_NOT_READY = 6


@click.command()
@click.argument("model", required=False, metavar="[PROVIDER/MODEL]")
@click.option("--to", "successors", multiple=True, metavar="PROVIDER/MODEL", help="A successor to try; several times.")
@click.option("--app", "apps", multiple=True, help="Only this app; several times.")
@click.option(
    "--margin",
    type=FiniteRange(0, min_open=True),
    default=0.05,
    show_default=True,
    help="Of quality: a successor that is worse by less does as well.",
)
@click.option("--judge", help="Route or provider/model that judges.")
@click.option(
    "--max-cost", type=FiniteRange(0, min_open=True), help="US dollars of one comparison of an app on one suite."
)
@click.option("--no-gate", is_flag=True, help="Do not run what prod asks of the candidates.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@pass_session
def migrate(session: Session, /, model: str | None, successors: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Say what uses a model that goes out of use, measure successors, and prepare releases with them.

    Without a model: those of the register (`gateway.approvals`) that end. With successors: each app that uses the
    model is measured on its own suites with each of them, and those that do as well become releases, which no user
    gets before they are promoted like any other. Exits with 6 where an app has no successor that is ready.
    """
    if model is None:
        if successors:
            raise InvalidInput("name the model that is succeeded", param="model")
        _ends(session, as_json=as_json)
        return
    found = run(_migrate(session, model, successors, **given))
    if as_json:
        import msgspec

        emit(msgspec.to_builtins(found))
    else:
        _show(found)
    apps = {each.app for each in found.candidates}
    if apps - {each.app for each in found.candidates if each.verdict == "ready"}:
        sys.exit(_NOT_READY)


def _ends(session: Session, *, as_json: bool) -> None:
    from interlock.flows.operations import provider_register, registered_view

    async def work() -> list[dict[str, Any]]:  # Any: JSON
        async with session.open() as app:
            rows = [registered_view(row) for row in provider_register(app.parts, app.owner())]
        return sorted((row for row in rows if row["deprecated_on"]), key=lambda row: str(row["deprecated_on"]))

    rows = run(work())
    if as_json:
        emit(rows)
        return
    if not rows:
        click.echo("no model of the register has a last day: gateway.approvals.NAME.deprecated_on")
        return
    table(
        ["model", "last day", "state", "used by"],
        [(row["target"], row["deprecated_on"], row["state"], ", ".join(row["used_by"])) for row in rows],
    )
    click.echo(f"  next: interlock migrate {rows[0]['target']} --to PROVIDER/MODEL")


async def _migrate(
    session: Session,
    model: str,
    successors: tuple[str, ...],
    *,
    apps: tuple[str, ...],
    margin: float,
    judge: str | None,
    max_cost: float | None,
    no_gate: bool,
    quiet: bool,
) -> Migration:
    from interlock.flows.migrate import MigrationRuns, uses_of
    from interlock.flows.migrate import migrate as run_migration

    async with session.open() as app:
        workspace = app.workspace
        runs = MigrationRuns(
            workspace.data / "evaluations",
            workspace.path(workspace.settings.apps_dir),
            margin=margin,
            only=apps,
            judge=judge,
            licences=[workspace.root / "judges"],
            max_cost_usd=max_cost,
            gate=not no_gate,
            started=None if quiet else _begun,
            progress=None if quiet else tell,
        )
        apps_dir = workspace.path(workspace.settings.apps_dir)
        judges = [
            workspace.root / "judges",
            *sorted(apps_dir.glob("*/evals")),
            *sorted(apps_dir.glob("*/evals/judges")),
        ]
        uses = await uses_of(app.parts, app.owner(), model, workspace.settings.model_dump(mode="json"), judges=judges)
        try:
            return await run_migration(app.parts, app.owner(), model, successors, runs, uses=uses)
        finally:
            if not quiet and sys.stderr.isatty():
                click.echo("\r\033[K", nl=False, err=True)


def _begun(app: str, suite: str) -> None:
    click.echo(f"{app} on {suite}", err=True)


def _show(found: Migration) -> None:
    ends = f", last day {found.last_day.isoformat()}" if found.last_day is not None else ""
    click.secho(f"{found.model}{ends}", bold=True)
    if not found.uses:
        click.echo("nothing here names it")
        return
    table(["", "what", "field"], [(use.kind, use.name, use.field) for use in found.uses])
    if not found.successors:
        click.echo(f"  next: interlock migrate {found.model} --to PROVIDER/MODEL")
        return
    click.echo()
    for each in found.candidates:
        told = click.style(each.verdict, fg=_COLOURS.get(each.verdict, "yellow"))
        gate = f", prod's gate: {each.gate.replace('_', ' ')}" if each.gate is not None else ""
        click.echo(f"{each.app}  {each.successor}  {told}{gate}")
        click.echo(f"  {each.said}")
        if each.release:
            short = each.release[7:15]
            click.echo(f"  release rel_{short}; write {each.successor} into apps/{each.app}/app.yaml too")
            click.echo(f"  next: interlock gate --app {each.app} --release {short}")
    for use in found.uses:
        if use.kind == "setting":
            click.echo(f"change the setting {use.name} by hand: no cases measure it")
