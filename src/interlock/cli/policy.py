"""`interlock policy`: what a channel asks of a release, and whether it asks what was meant."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

__all__ = ["policy"]


@click.group()
def policy() -> None:
    """What channels ask of releases: explained on one, tested on made-up evidence."""


@policy.command()
@click.option("--app", "app_name", required=True)
@click.option("--channel", type=click.Choice(["stage", "prod"]), default="prod", show_default=True)
@click.option("--release", "release_id", help="A frozen one; without it what the files describe now.")
@json_option
@pass_session
def explain(session: Session, /, app_name: str, channel: str, release_id: str | None, as_json: bool) -> None:
    """Every demand of a channel, what it reads of a release, and why it is met or not. Always exits with 0."""

    async def work() -> None:
        from interlock.flows.gate import ask_gate
        from interlock.flows.release_views import demand_view

        async with session.open() as app:
            found = await ask_gate(app.parts, app.owner(), app_name, channel=channel, release=release_id)
            said = app.parts.releases.policy(app.parts.releases.source(app_name).name, channel)
            expressions = {each.name: each.that for each in said.conditions}
            if as_json:
                emit(
                    {
                        "policy": said.model_dump(mode="json"),
                        "release": found.release,
                        "verdict": found.verdict,
                        "demands": [demand_view(each) for each in found.demands],
                    }
                )
                return
            click.secho(
                f"{app_name}@{channel}  rel_{found.release[7:15]}: {found.verdict.replace('_', ' ')}", bold=True
            )
            for each in found.demands:
                colour = {"met": "green", "failed": "red"}.get(each.state, "yellow")
                click.secho(f"{each.state:<7}{each.demand}", fg=colour)
                if each.demand in expressions:
                    click.echo(f"       {expressions[each.demand]}")
                click.echo(f"       {each.why}")
                if each.hint:
                    click.echo(f"       next: {each.hint}")
            if not found.demands:
                click.echo("it asks for nothing")
            if said.rollout:
                click.echo("after its first release it moves only by a rollout")

    run(work())


@policy.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--app", "app_name", required=True)
@json_option
@pass_session
def test(session: Session, /, file: Path | None, app_name: str, as_json: bool) -> None:
    """Hold the policy of an app's channel against FILE (apps/NAME/policy.tests.yaml); exits with 1 where it differs."""

    async def work() -> bool:
        from interlock.flows.policy import read_tests, run_tests

        async with session.open() as app:
            name = app.parts.releases.source(app_name).name
            home = app.workspace.path(app.workspace.settings.apps_dir) / name
            tests = read_tests(file or home / "policy.tests.yaml")
            found = run_tests(app.parts, name, tests)
            if as_json:
                emit([{"name": each.name, "passed": each.passed, "why": each.why} for each in found])
            else:
                table(
                    ["test", "", "why"],
                    [(each.name, "passed" if each.passed else "FAILED", each.why) for each in found],
                )
                click.echo(f"{sum(each.passed for each in found)} of {len(found)} passed")
            return all(each.passed for each in found)

    if not run(work()):
        sys.exit(1)
