"""`interlock experiment`: releases beside each other under a frozen plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.releases.experiment_store import Noted
    from interlock.releases.experiments.types import Comparison, Experiment, Report

__all__ = ["experiment"]

_reason = click.option("--reason", required=True, help="Why; it stays with the record.")


@click.group()
def experiment() -> None:
    """Compare releases on live traffic under a plan that is frozen before it begins."""


@experiment.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--reason", default="", help="Why, for the record.")
@json_option
@pass_session
def plan(session: Session, /, file: Path, reason: str, as_json: bool) -> None:
    """Freeze the plan in FILE (YAML), and say how many units and days it takes. Nobody is served differently yet."""
    from interlock.flows.app_files import validate_yaml
    from interlock.releases.experiments.types import ExperimentSpec

    spec = validate_yaml(file, ExperimentSpec)

    async def work() -> None:
        from interlock.flows.experiment import plan as planning

        async with session.open() as app:
            _show(await planning(app.parts, app.owner(), spec, reason=reason), as_json=as_json)

    run(work())


@experiment.command()
@click.argument("experiment_id", metavar="EXPERIMENT")
@click.option("--reason", default="", help="Why, for the record.")
@json_option
@pass_session
def start(session: Session, /, experiment_id: str, reason: str, as_json: bool) -> None:
    """Give units to the arms of the planned EXPERIMENT from now on."""

    async def work() -> None:
        async with session.open() as app:
            found = await app.parts.releases.start_experiment(app.owner(), experiment_id, reason=reason)
            _show(found, as_json=as_json)

    run(work())


@experiment.command()
@click.argument("experiment_id", metavar="EXPERIMENT")
@click.option("--look", is_flag=True, help="Judge it now instead of at its next turn.")
@json_option
@pass_session
def status(session: Session, /, experiment_id: str, look: bool, as_json: bool) -> None:
    """What EXPERIMENT has shown so far, and what happened to it. Looking often costs nothing."""

    async def work() -> None:
        from interlock.flows.experiment import look_at
        from interlock.flows.release_views import experiment_view

        async with session.open() as app:
            experiments = app.parts.releases.experiments
            found = await experiments.one(app.owner(), experiment_id)
            if look:
                found = await look_at(app.parts, app.owner(), found)
            history = await experiments.history(app.owner(), experiment_id)
            if as_json:
                emit(experiment_view(found, history))
                return
            _show(found, as_json=False)
            _history(history)

    run(work())


@experiment.command()
@click.argument("experiment_id", metavar="EXPERIMENT")
@_reason
@json_option
@pass_session
def stop(session: Session, /, experiment_id: str, reason: str, as_json: bool) -> None:
    """End EXPERIMENT without a verdict: everybody is served by the channel's release again, at once."""

    async def work() -> None:
        async with session.open() as app:
            found = await app.parts.releases.experiments.stop(app.owner(), experiment_id, reason)
            _show(found, as_json=as_json)

    run(work())


@experiment.command()
@click.argument("experiment_id", metavar="EXPERIMENT")
@_reason
@json_option
@pass_session
def conclude(session: Session, /, experiment_id: str, reason: str, as_json: bool) -> None:
    """End EXPERIMENT with its verdict, which becomes evidence of each variant's release."""

    async def work() -> None:
        from interlock.flows.experiment import conclude as concluding

        async with session.open() as app:
            found = await concluding(app.parts, app.owner(), experiment_id, reason)
            _show(found, as_json=as_json)

    run(work())


@experiment.command("list")
@click.option("--app", "app_name")
@click.option("--active", is_flag=True, help="Only those that give units to arms.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@pass_session
def list_experiments(session: Session, /, app_name: str | None, active: bool, limit: int, as_json: bool) -> None:
    """Experiments, newest first."""

    async def work() -> None:
        from interlock.flows.release_views import experiment_view

        async with session.open() as app:
            releases = app.parts.releases
            name = None if app_name is None else releases.source(app_name).name
            found = await releases.experiments.list(app.owner(), app=name, serving=active, limit=limit)
            if as_json:
                emit([experiment_view(each) for each in found])
                return
            rows = [
                (
                    e.id,
                    e.plan.spec.name,
                    f"{e.app}@{e.channel}",
                    e.state,
                    "" if e.report is None else e.report.verdict.replace("_", " "),
                    ", ".join(arm.name for arm in e.plan.arms),
                    e.reason[:80],
                )
                for e in found
            ]
            table(["experiment", "name", "channel", "state", "verdict", "arms", "why"], rows)

    run(work())


def _show(found: Experiment, *, as_json: bool) -> None:
    if as_json:
        from interlock.flows.release_views import experiment_view

        emit(experiment_view(found))
        return
    spec = found.plan.spec
    click.secho(f"{found.id}  {spec.name} on {found.app}@{found.channel}  {found.state}", bold=True)
    rows = [
        (arm.name, f"rel_{arm.release[7:15]}", f"{100 * arm.share * spec.traffic / 100:.3g} %")
        for arm in found.plan.arms
    ]
    table(["arm", "release", "of the units"], rows, right=["of the units"])
    click.echo(
        f"{spec.primary.measure} decides, {spec.primary.effect:g} is worth acting on; plan {found.plan.digest[:19]}"
    )
    if found.state == "planned":
        _forecast(found)
    else:
        click.echo(found.reason)
    if found.report is not None:
        _report(found.report)


def _forecast(found: Experiment) -> None:
    told = found.plan.forecast
    spec = found.plan.spec
    click.echo(
        f"to find {spec.primary.effect:g} with power {spec.power:g}: {told.units} units in the smallest arm; "
        f"a verdict whatever is true: {told.units_at_most}"
    )
    click.echo(f"spread of a unit {told.spread:.3g} ({told.spread_from})")
    if told.days is not None and told.days_at_most is not None:
        click.echo(f"at {told.units_per_day:g} new units a day: {told.days:.1f} days, {told.days_at_most:.1f} at most")
        if told.days_at_most > spec.max_days:
            click.secho(f"that is more than max_days {spec.max_days:g}: it may end inconclusive", fg="yellow")
    else:
        click.echo("how long that takes: say expected.units_per_day")
    click.echo(f"next: interlock experiment start {found.id}")


def _report(report: Report) -> None:
    colour = {"winner": "green", "harmful": "red", "worse": "red", "invalid": "red"}.get(report.verdict, "yellow")
    click.secho(report.verdict.replace("_", " "), fg=colour, bold=True)
    if report.more_units:
        click.echo(f"not clear yet: at most {report.more_units} more units in the smallest arm")
    table(
        ["arm", "units", "requests"],
        [(c.name, c.units, c.requests) for c in report.counts],
        right=["units", "requests"],
    )
    if report.comparisons:
        columns = ["arm", "measure", "role", "value", "control", "difference", "surely within", "p", "verdict"]
        table(columns, [_row(check) for check in report.comparisons], right=columns[3:-1])


def _row(check: Comparison) -> tuple[str, ...]:
    return (
        check.arm,
        check.measure,
        check.role,
        f"{check.value:.4g}",
        f"{check.control:.4g}",
        f"{check.difference:+.4g}",
        f"{check.low:+.4g} to {check.high:+.4g}",
        "" if check.p is None else f"{check.p:.2g}",
        check.verdict,
    )


def _history(history: Sequence[Noted]) -> None:
    rows = [(f"{h.at:%Y-%m-%d %H:%M:%S}", h.action, h.state, h.by, h.reason) for h in history]
    click.echo()
    table(["at", "action", "state", "by", "why"], rows)
