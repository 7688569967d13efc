"""`interlock load` and `interlock forecast`: evidence of what a release bears, and of what it will cost."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from interlock.cli.evals import EXIT, own_home
from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.flows.cost_forecast import Forecast
    from interlock.flows.load import LoadProgress, LoadReport

__all__ = ["forecast", "load"]

_COLOURS = {"pass": "green", "fail": "red"}


@click.command()
@click.option("--target", required=True, help="app/NAME, app/NAME@CHANNEL or release:APP:ID.")
@click.option("--suite", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Whose cases are asked.")
@click.option("--people", type=click.IntRange(1, 10_000), default=8, show_default=True, help="Who ask at once.")
@click.option("--seconds", type=FiniteRange(1, 86_400), default=30.0, show_default=True)
@click.option("--within", "within_s", type=FiniteRange(0, min_open=True), default=10.0, show_default=True)
@click.option("--share", type=FiniteRange(0, 1), default=0.95, show_default=True, help="In time, at least.")
@click.option("--max-errors", "most_errors", type=FiniteRange(0, 1), default=0.01, show_default=True)
@click.option("--max-cost", "max_cost_usd", type=FiniteRange(0, min_open=True), help="US dollars that end it early.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@pass_session
def load(
    session: Session,
    /,
    target: str,
    suite: Path,
    people: int,
    seconds: float,
    within_s: float,
    share: float,
    most_errors: float,
    max_cost_usd: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Ask an app with many people at once, and say whether it bears them.

    Measured inside this process: what a network and a server add is not in it. The report becomes evidence of kind
    `load` of the release. Exits with 0, with 5 where a limit is shown to be broken, with 6 where neither is shown.
    """
    from interlock.evals.suite import read_suite
    from interlock.flows.load import LoadAsked, run_load

    cases = read_suite(suite).cases

    async def work() -> LoadReport:
        async with session.open() as app:
            asked = LoadAsked(
                target,
                cases,
                people,
                seconds,
                within_s,
                share,
                most_errors,
                max_cost_usd,
                None if quiet else _tell,
            )
            try:
                return await run_load(app.parts, app.owner(), asked)
            finally:
                if not quiet and sys.stderr.isatty():
                    click.echo("\r\033[K", nl=False, err=True)

    found = run(work())
    if as_json:
        emit(asdict(found))
    else:
        _show_load(found)
    sys.exit(EXIT[found.verdict])


def _tell(progress: LoadProgress) -> None:
    if sys.stderr.isatty():
        line = f"{progress.seconds:,.0f} s, {progress.requests:,} requests, {progress.failed} failed"
        click.echo(f"\r\033[K{line}", nl=False, err=True)


def _show_load(found: LoadReport) -> None:
    click.secho(f"{found.target}  {found.people} people for {found.seconds:g} s", bold=True)
    shown = [
        ("p50", found.p50_s),
        ("p95", found.p95_s),
        ("p99", found.p99_s),
        ("first token p95", found.first_token_p95_s),
    ]
    rows = [("requests", f"{found.requests:,}"), ("answered a second", f"{found.per_second:g}")]
    rows += [("failed", f"{found.failed:,}  {', '.join(f'{k} {v}' for k, v in found.errors.items())}".strip())]
    rows += [(name, f"{value:g} s") for name, value in shown if value is not None]
    rows += [
        ("output tokens a second", f"{found.output_tokens_per_second:g}"),
        ("cost", f"{found.cost_nano / 1e9:.4f} USD"),
    ]
    table(["", "measured"], rows, right=["measured"])
    _verdict(found.verdict, found.reasons)


def _verdict(verdict: str | None, reasons: tuple[str, ...]) -> None:
    if verdict is not None:
        click.secho(f"gate: {verdict.replace('_', ' ')}", fg=_COLOURS.get(verdict, "yellow"), bold=True)
    for reason in reasons:
        click.echo(f"  {reason}")


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--requests", type=FiniteRange(0, min_open=True), required=True, help="In a period.")
@click.option("--per", type=click.Choice(["day", "month"]), default="month", show_default=True)
@click.option("--budget", type=FiniteRange(0, min_open=True), help="US dollars in a period: makes it evidence.")
@json_option
@pass_session
def forecast(session: Session, /, run_id: str, requests: float, per: str, budget: float | None, as_json: bool) -> None:
    """Forecast what an app will cost, from what the cases of RUN (an id, or 'last') cost.

    With a budget it becomes evidence of kind `cost_forecast` of the release that was run, and the exit codes are those
    of a gate.
    """
    from interlock.flows.cost_forecast import forecast_cost

    async def work() -> Forecast:
        async with session.open() as app:
            return await forecast_cost(
                app.parts,
                app.owner(),
                run_id,
                home=own_home(session),
                requests=requests,
                period=cast("Literal['day', 'month']", per),
                budget_usd=budget,
            )

    found = run(work())
    if as_json:
        emit(asdict(found))
    else:
        low, high = found.interval
        click.secho(f"{found.usd:,.2f} USD a {found.period}", bold=True)
        click.echo(f"  95 % {low:,.2f} to {high:,.2f}, by {found.cases} cases of {found.suite} ({found.run})")
        click.echo(f"  {found.usd_each * 1000:,.4f} USD a thousand requests")
        if found.unpriced:
            click.echo(f"  {found.unpriced} answers have no price and are left out")
        _verdict(found.verdict, found.reasons)
    sys.exit(0 if found.verdict is None else EXIT[found.verdict])
