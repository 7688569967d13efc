"""`interlock prompt lint`, `rules`, `test`, `quality`: prompts looked over, tried, and what they have shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.flows.prompt_lint import Linted
    from interlock.flows.prompt_quality import Figure, Quality, VersionQuality
    from interlock.flows.prompt_testing import AskRuns, Tested
    from interlock.prompts.linting import Finding

__all__ = ["lint_prompts", "list_rules", "print_findings", "run_tests", "show_quality"]


@click.command("lint")
@click.argument("names", metavar="[PROMPT]...", nargs=-1)
@click.option("--version", "wanted", default="files", show_default=True, help="files, a label, a channel, or a digest.")
@click.option("--release", metavar="APP:ID", help="The prompt of this release, and note it as evidence.")
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    show_default=True,
    help="github: annotations of its workflows; sarif: 2.1.0.",
)
@json_option
@pass_session
def lint_prompts(
    session: Session,
    /,
    names: tuple[str, ...],
    wanted: str,
    release: str | None,
    strict: bool,
    form: str,
    as_json: bool,
) -> None:
    """Look prompts over: all of them, or each PROMPT.

    Exits with 5 on errors, with --strict on warnings too, and with 1 where an app that uses one cannot be read.
    """
    if release is not None and names:
        raise click.UsageError("name prompts, or a release")

    async def work() -> list[Linted]:
        async with session.open() as app:
            return await _linted(app, names, wanted, release)

    looked = run(work())
    found = [each for one in looked for each in one.findings]
    if as_json or form == "json":
        from interlock.flows.prompt_views import linted_view

        emit([linted_view(each) for each in looked])
    elif form == "text":
        _show(looked)
    else:
        from interlock.prompts.annotations import github, sarif

        # Whoever reads these looks for files from where the command was run.
        root = session.workspace().root
        placed = [replace(each, file=os.path.relpath(root / each.file)) for each in found]
        click.echo(github(placed) if form == "github" else json.dumps(sarif(placed), indent=2), nl=form != "github")
    notes = [note for one in looked for note in one.notes]
    for note in notes:
        click.secho(f"error: {note}", fg="red", err=True)
    # Who has not looked at everything cannot say how bad it is.
    sys.exit(1 if notes else 5 if any(each.severity == "error" or strict for each in found) else 0)


async def _linted(app: App, names: Sequence[str], wanted: str, release: str | None) -> list[Linted]:
    from interlock.core.errors import InterlockError
    from interlock.flows.prompt_lint import attach_lint, lint_prompt, lint_release

    ctx, parts = app.owner(), app.parts
    if release is not None:
        name, colon, wanted = release.partition(":")
        if not colon:
            raise click.UsageError(f"--release takes APP:ID, not {release!r}")
        chosen = await parts.releases.pick(ctx, name, wanted)
        found = await lint_release(parts, ctx, chosen)
        await attach_lint(parts, ctx, chosen, found)
        return [found]
    chosen_names = list(names) or [each.place.name for each in await parts.prompts.list(ctx)]
    looked = []
    for name in chosen_names:
        try:
            looked.append(await lint_prompt(parts, ctx, name, wanted=wanted))
        except InterlockError as error:
            if names:
                raise
            looked.append(_broken(name, error))
    return looked


def _broken(name: str, error: Exception) -> Linted:
    """One of many that cannot be read: the others are looked over all the same."""
    from interlock.flows.prompt_lint import Linted
    from interlock.prompts.linting import Finding

    why = Finding(
        "unreadable", "error", str(error), "A prompt that cannot be read serves nobody.", "Mend its files.", name, 1
    )
    return Linted(name, "", (why,))


def _show(looked: Sequence[Linted]) -> None:
    for one in looked:
        errors = sum(each.severity == "error" for each in one.findings)
        warnings = len(one.findings) - errors
        told = f"{errors} errors, {warnings} warnings" if one.findings else "no findings"
        told += ", not looked at whole" if one.notes else ""
        colour = "red" if errors or one.notes else "yellow" if warnings else "green"
        click.secho(f"{one.name}  {told}", bold=True, fg=colour)
        print_findings(one.findings)


def print_findings(found: Sequence[Finding], *, err: bool = False) -> None:
    """Each with its place and what to do about it."""
    for each in found:
        click.secho(
            f"  {each.file}:{each.line}  {each.severity}  {each.rule}",
            fg="red" if each.severity == "error" else "yellow",
            err=err,
        )
        whose = f" (for {', '.join(each.apps)})" if each.apps else ""
        click.echo(f"    {each.message}{whose}", err=err)
        click.secho(f"    {each.remedy}", dim=True, err=err)


@click.command("rules")
@json_option
def list_rules(as_json: bool) -> None:
    """Rules that prompts are looked over by."""
    from interlock.prompts.linting import rules

    found = [(name, rules.get(name)) for name in rules.names()]
    if as_json:
        emit([{"rule": n, "severity": r.severity, "reason": r.reason, "remedy": r.remedy} for n, r in found])
        return
    table(["rule", "counts as", "why"], [(name, rule.severity, rule.reason) for name, rule in found])


@click.command("test")
@click.argument("names", metavar="[PROMPT]...", nargs=-1)
@click.option("--version", "wanted", default="files", show_default=True, help="files, a label, a channel, or a digest.")
@click.option("--no-ask", is_flag=True, help="Only look at renderings: ask no model.")
@click.option("--judge", help="Route or provider/model that judges.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML there.")
@click.option("-q", "--quiet", is_flag=True, help="Only failures.")
@json_option
@pass_session
def run_tests(
    session: Session,
    /,
    names: tuple[str, ...],
    wanted: str,
    no_ask: bool,
    judge: str | None,
    junit: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the tests beside each PROMPT, or beside all that have some. Exits with 5 where one fails."""

    async def work() -> list[Tested]:
        from interlock.flows.prompt_testing import AskRuns

        async with session.open() as app:
            runs = AskRuns(
                app.workspace.data / "evaluations" / "runs",
                judge=judge,
                licences=[app.workspace.root / "judges"],
                ask=not no_ask,
            )
            return await _tested(app, names, wanted, runs)

    tested = run(work())
    results = [each for one in tested for each in one.results]
    if junit is not None:
        from interlock.prompts.junit import junit as written

        try:
            junit.write_text(written(results), "utf-8")
        except OSError as error:
            raise InvalidInput(f"{junit.name!r} cannot be written: {error.strerror}", param="--junit") from error
    if as_json:
        from interlock.flows.prompt_views import tested_view

        emit([tested_view(each) for each in tested])
    else:
        for one in tested:
            _show_tested(one, quiet=quiet)
        if not tested:
            click.echo("no prompt has tests: write prompt.tests.yaml beside one")
    sys.exit(5 if any(not each.passed for each in results) else 0)


async def _tested(app: App, names: Sequence[str], wanted: str, runs: AskRuns) -> list[Tested]:
    from interlock.flows.prompt_testing import run_prompt_tests

    ctx, parts = app.owner(), app.parts
    tested = []
    for name in names or [each.place.name for each in await parts.prompts.list(ctx)]:
        try:
            tested.append(await run_prompt_tests(parts, ctx, name, runs, wanted=wanted))
        except NotFound:
            # Of all prompts those without tests are passed over.
            if names:
                raise
    return tested


def _show_tested(tested: Tested, *, quiet: bool) -> None:
    run_id = "" if tested.report is None else f"  {tested.report.id}"
    passed = len(tested.results) - tested.failed
    colour = "red" if tested.failed else "green"
    click.secho(f"{tested.prompt}  {passed} of {len(tested.results)} passed{run_id}", bold=True, fg=colour)
    for each in tested.results:
        if each.passed and not quiet:
            click.echo(f"  passed  {each.kind}  {each.name}")
        if not each.passed:
            click.secho(f"  FAILED  {each.kind}  {each.name}", fg="red")
            for why in each.failures:
                click.echo(f"    {why}")


@click.command("quality")
@click.argument("name", metavar="PROMPT")
@click.option(
    "--days",
    type=FiniteRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Count requests so far back.",
)
@json_option
@pass_session
def show_quality(session: Session, /, name: str, days: float, as_json: bool) -> None:
    """What each version of PROMPT has shown: in evaluations, with 95 % intervals, and under requests."""

    async def work() -> Quality:
        from interlock.flows.prompt_quality import prompt_quality

        async with session.open() as app:
            return await prompt_quality(app.parts, app.owner(), name, days=days)

    found = run(work())
    if as_json:
        from interlock.flows.prompt_quality import quality_view

        emit(quality_view(found))
        return
    _show_measured(found)
    click.echo()
    rows = [_used(each) for each in found.versions]
    click.secho(f"requests since {found.since:%Y-%m-%d}, evaluations among them", bold=True)
    columns = ["version", "labels", "requests", "errors", "declined", "USD a request", "seconds"]
    table(columns, rows, right=columns[2:])
    for note in found.notes:
        click.echo(note)


def _show_measured(found: Quality) -> None:
    rows = [
        (_version(each), one.suite, one.metric, _told(one.figure), one.figure.of, one.run)
        for each in found.versions
        for one in each.measures
    ]
    if rows:
        table(["version", "suite", "metric", "mean (95 %)", "cases", "run"], rows, right=["mean (95 %)", "cases"])
    else:
        click.echo("no evaluation has asked an app under this prompt: interlock eval run SUITE --target app/NAME")


def _version(each: VersionQuality) -> str:
    return each.version.digest.removeprefix("sha256:")[:8] + (" (files)" if each.is_files else "")


def _told(figure: Figure | None, scale: float = 1.0, form: str = ".3f") -> str:
    if figure is None:
        return ""
    mean = f"{figure.value / scale:{form}}"
    if figure.interval is None:
        return mean
    return f"{mean} ({figure.interval.low / scale:{form}}–{figure.interval.high / scale:{form}})"


def _used(each: VersionQuality) -> tuple[str, ...]:
    labels, usage = ", ".join(each.labels), each.usage
    if usage is None:
        return (_version(each), labels, "0", "", "", "", "")
    return (
        _version(each),
        labels,
        f"{usage.requests:,}",
        _told(usage.errors),
        _told(usage.declined),
        _told(usage.cost_nano, 1e9, ".6f"),
        _told(usage.seconds),
    )
