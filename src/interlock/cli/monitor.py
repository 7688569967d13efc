"""`interlock monitor`: what is sampled of production, how it scores, what has drifted."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.evals.monitoring.types import Alert

__all__ = ["monitor"]

T = TypeVar("T")


@click.group()
def monitor() -> None:
    """Answers that people were given: sampled, scored, watched for drift."""


def _with_app(session: Session, work: Callable[[App], Coroutine[Any, Any, T]]) -> T:
    async def opened() -> T:
        async with session.open() as app:
            return await work(app)

    return run(opened())


@monitor.command("show")
@click.argument("app_name", metavar="APP")
@click.option("--days", type=FiniteRange(0, 365, min_open=True), default=7.0, show_default=True)
@json_option
@pass_session
def show(session: Session, /, app_name: str, days: float, as_json: bool) -> None:
    """Scores of APP's sampled answers, by release."""
    from interlock.flows.monitor_files import MonitorFiles
    from interlock.flows.monitor_views import summary

    async def work(app: App) -> Any:  # Any: JSON
        name = app.parts.releases.source(app_name, app.owner()).name
        # What is wrong with the file is told here: the worker goes on by what it said last.
        MonitorFiles(app.workspace.path(app.workspace.settings.apps_dir)).checked(name)
        return await summary(app.parts, app.owner(), name, days=days)

    told = _with_app(session, work)
    if as_json:
        emit(told)
        return
    click.echo(
        f"{told['samples']:,} samples in {days:g} days, {told['waiting']:,} wait to be scored; "
        f"{told['spent_usd']:.4f} USD for scoring"
    )
    rows = [
        (release["release"][:19], metric, f"{value['mean']:.3f}", value["count"])
        for release in told["releases"]
        for metric, value in release["scores"].items()
    ]
    table(["release", "metric", "mean", "answers"], rows, right=["mean", "answers"])
    if told["fault"]:
        click.secho(f"nothing can be scored: {told['fault']}", fg="red")
    if not told["share"]:
        click.echo("nothing is sampled: set monitor.share in the app's app.yaml")


@monitor.command("samples")
@click.argument("app_name", metavar="APP")
@click.option("--trace", help="Only this one, with its text as far as it is kept.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@pass_session
def samples(session: Session, /, app_name: str, trace: str | None, limit: int, as_json: bool) -> None:
    """Sampled answers of APP, newest first."""
    from interlock.flows.monitor_views import sample_view

    found = _with_app(session, lambda app: app.parts.monitors.samples(app.owner(), app_name, limit=limit))
    views = [sample_view(each) for each in found if trace is None or each.id.startswith(trace)]
    if as_json:
        emit(views)
        return
    rows = []
    for view in views:
        scores = "waits" if view["scores"] is None else ", ".join(f"{n} {v:.2f}" for n, v in view["scores"].items())
        asked = view["question"] or "(its text is no longer kept)"
        rows.append((view["trace"][:16], view["at"][:16], view["release"][:19], scores, asked[:80]))
    table(["trace", "at", "release", "scores", "asked"], rows)


@monitor.command("alerts")
@click.argument("app_name", metavar="APP", required=False)
@click.option("--all", "everything", is_flag=True, help="Also those that somebody has looked at.")
@json_option
@pass_session
def alerts(session: Session, /, app_name: str | None, everything: bool, as_json: bool) -> None:
    """What has changed and nobody has looked at yet, newest first."""
    found = _with_app(
        session, lambda app: app.parts.monitors.alerts(app.owner(), app=app_name, open_only=not everything)
    )
    if as_json:
        emit([asdict(each) for each in found])
        return
    table(
        ["alert", "at", "app", "what", "of", "facts", "open first"],
        [
            (each.id, f"{each.at:%Y-%m-%d %H:%M}", each.app, each.kind, each.subject, _facts(each), _first(each))
            for each in found
        ],
    )


def _facts(alert: Alert) -> str:
    return ", ".join(f"{name} {value}" for name, value in alert.facts.items())


def _first(alert: Alert) -> str:
    return " ".join(trace[:16] for trace in alert.traces[:3])


@monitor.command("acknowledge")
@click.argument("alert")
@json_option
@pass_session
def acknowledge(session: Session, /, alert: str, as_json: bool) -> None:
    """Say that you have looked at ALERT."""
    _with_app(session, lambda app: app.parts.monitors.acknowledge(app.owner(), alert))
    emit({"alert": alert}) if as_json else click.echo(f"{alert} is acknowledged")


@monitor.command("look")
@click.argument("app_name", metavar="APP")
@click.option("--canaries", "with_canaries", is_flag=True, help="Ask the canary prompts too.")
@json_option
@pass_session
def look_now(session: Session, /, app_name: str, with_canaries: bool, as_json: bool) -> None:
    """Score what waits of APP and run the detectors now, as the worker does by itself."""
    from interlock.core.errors import InvalidInput
    from interlock.flows.monitor_files import MonitorFiles
    from interlock.flows.monitoring import Pass, ask_canaries, look

    async def work(app: App) -> list[Pass]:
        name = app.parts.releases.source(app_name, app.owner()).name
        spec = MonitorFiles(app.workspace.path(app.workspace.settings.apps_dir)).checked(name)
        done = [await look(app.parts, app.owner(), name, spec)]
        if with_canaries:
            if spec.canaries is None:
                raise InvalidInput(f"{name!r} has no canary prompts", param="monitor.canaries")
            done.append(await ask_canaries(app.parts, app.owner(), name, spec, spec.canaries))
        return done

    done = _with_app(session, work)
    if as_json:
        emit([asdict(each) for each in done])
        return
    first = done[0]
    click.echo(
        f"{first.scored} scored, {first.failed} could not be, {first.waiting} wait; {first.spent_nano / 1e9:.4f} USD"
    )
    raised = [alert for each in done for alert in each.alerts]
    for alert in raised:
        click.secho(f"{alert.kind} of {alert.subject}: {_facts(alert)}", fg="red")
    if not raised:
        click.echo("nothing has drifted")
