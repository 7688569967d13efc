"""`interlock gate`: may this release go out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.evals.report import Report
    from interlock.evals.running.runner import Progress
    from interlock.flows.gate import Gate

__all__ = ["gate"]

_EXIT = {"pass": 0, "fail": 5, "not_enough_evidence": 6}
_COLOURS = {"met": "green", "failed": "red", "open": "yellow"}


@click.command()
@click.option("--app", "app_name", required=True)
@click.option(
    "--release", "release_id", help="A frozen release or a channel (default: the app's files as they are now)."
)
@click.option("--channel", type=click.Choice(["stage", "prod"]), default="prod", show_default=True)
@click.option("--run", "with_runs", is_flag=True, help="Run the suites that it asks for first.")
@click.option("--judge", help="Route or provider/model that judges.")
@click.option(
    "--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write a table for a pull request there."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@pass_session
def gate(
    session: Session,
    /,
    app_name: str,
    release_id: str | None,
    channel: str,
    with_runs: bool,
    judge: str | None,
    markdown: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Say whether a release has shown what a channel asks for.

    Exits with 0 when it has, with 5 when something speaks against it, with 6 when there is not enough evidence.
    """

    async def work() -> Gate:
        from interlock.flows.gate import GateRuns, ask_gate, run_gate

        async with session.open() as app:
            if not with_runs:
                return await ask_gate(app.parts, app.owner(), app_name, channel=channel, release=release_id)
            source = app.parts.releases.source(app_name, app.owner())
            runs = GateRuns(
                folder=app.workspace.path(app.workspace.settings.apps_dir) / source.name / "evals",
                home=app.workspace.data / "evaluations" / "runs",
                judge=judge,
                licences=[app.workspace.root / "judges"],
                started=None if quiet else _begun,
                progress=None if quiet else _tell,
            )
            try:
                return await run_gate(app.parts, app.owner(), app_name, runs, channel=channel, release=release_id)
            finally:
                if not quiet and sys.stderr.isatty():
                    click.echo("\r\033[K", nl=False, err=True)

    found = run(work())
    if markdown is not None:
        try:
            markdown.write_text(_markdown(found), "utf-8")
        except OSError as error:
            raise InvalidInput(f"{markdown.name!r} cannot be written: {error.strerror}", param="--markdown") from error
    if as_json:
        _emit(found)
    else:
        _show(found)
    sys.exit(_EXIT[found.verdict])


def _begun(suite: str, release: str) -> None:
    click.echo(f"running {suite} on rel_{release.removeprefix('sha256:')[:8]}", err=True)


def _tell(progress: Progress) -> None:
    if sys.stderr.isatty():
        line = f"{progress.done:,} of {progress.total:,}, {progress.cost_nano / 1e9:.4f} USD"
        click.echo(f"\r\033[K{line}", nl=False, err=True)


def _emit(found: Gate) -> None:
    import msgspec

    from interlock.flows.release_views import demand_view

    emit(
        {
            "app": found.app,
            "channel": found.channel,
            "release": found.release,
            "live": found.live,
            "verdict": found.verdict,
            "by_rollout": found.by_rollout,
            "demands": [demand_view(each) for each in found.demands],
            "runs": [
                {"id": r.id, "suite": r.suite, "baseline": r.baseline or None, "gate": msgspec.to_builtins(r.gate)}
                for r in found.reports
            ],
        }
    )


def _show(found: Gate) -> None:
    what = "the files" if found.live else "the release"
    click.secho(f"{found.app}@{found.channel}  rel_{found.release[7:15]} ({what})", bold=True)
    for report in found.reports:
        _run(report)
    if found.demands:
        table(["demand", "state", "why"], [(each.demand, each.state, each.why) for each in found.demands])
    else:
        click.echo("the channel asks for nothing: see `channels` in app.yaml and `releases.channels` in interlock.yaml")
    colour = {"pass": "green", "fail": "red"}.get(found.verdict, "yellow")
    click.secho(f"gate: {found.verdict.replace('_', ' ')}", fg=colour, bold=True)
    for hint in dict.fromkeys(each.hint for each in found.demands if each.hint):
        click.echo(f"  next: {hint}")
    if found.by_rollout:
        click.echo(f"  {found.channel} moves by a rollout: interlock rollout start RELEASE --app {found.app}")


def _run(report: Report) -> None:
    means = "  ".join(f"{each.name} {each.mean:.3f}" for each in report.metrics if each.mean is not None)
    click.echo(f"{report.suite}  {report.id}  {means}")
    for reason in () if report.gate is None else report.gate.reasons:
        click.echo(f"  {reason}")


_MARKS = {"met": "✅ met", "failed": "❌ failed", "open": "⏳ open"}


def _markdown(found: Gate) -> str:
    verdict = {"pass": "✅ pass", "fail": "❌ fail"}.get(found.verdict, "⏳ not enough evidence")
    lines = [
        f"### Gate of `{found.app}@{found.channel}`: {verdict}",
        "",
        f"Release `{found.release[7:19]}`" + (" (the files of this change)" if found.live else ""),
        "",
        "| Demand | State | Why |",
        "|---|---|---|",
        *(f"| {_cell(each.demand)} | {_MARKS[each.state]} | {_cell(each.why)} |" for each in found.demands),
    ]
    if not found.demands:
        lines += ["| none | ✅ met | the channel asks for nothing |"]
    for report in found.reports:
        lines += ["", f"**{_cell(report.suite)}**, {report.cases:,} cases, {report.cost_nano / 1e9:.4f} USD", ""]
        lines += ["| Metric | Mean | 95 % | Cases |", "|---|---:|---|---:|"]
        for each in report.metrics:
            mean = "–" if each.mean is None else f"{each.mean:.3f}"
            interval = "" if each.interval is None else f"{each.interval.low:.3f} to {each.interval.high:.3f}"
            lines.append(f"| {_cell(each.name)} | {mean} | {interval} | {each.units} |")
        if report.gate is not None and report.gate.reasons:
            lines += ["", *(f"- {_cell(reason)}" for reason in report.gate.reasons)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A bar or a line break would end the table's row."""
    return text.replace("|", "\\|").replace("\n", " ")
