"""`interlock eval`: run suites against anything, look at runs, compare and export them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from interlock.cli.generating import accepted, coverage, generate
from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.core.release import Release
    from interlock.evals.ports import Instruments, Target
    from interlock.evals.report import Report
    from interlock.evals.running.runner import Progress
    from interlock.evals.suite import Suite
    from interlock.releases.promotion import EvidenceKind

__all__ = [
    "ALONE",
    "EXIT",
    "Asked",
    "app_of",
    "evaluate",
    "evaluation",
    "given_variables",
    "opened",
    "own_home",
    "variables_of",
    "writer_of",
]

EXIT = {"pass": 0, "fail": 5, "not_enough_evidence": 6}
ALONE = ("python:", "command:", "http://", "https://")
"""Beginnings of targets that need no workspace."""
_FORMS = {".json": "json", ".xml": "junit", ".html": "html", ".md": "markdown"}


@click.group("eval")
def evaluation() -> None:
    """Run suites against apps, releases, endpoints and programs; gate on what they show."""


evaluation.add_command(generate)
evaluation.add_command(accepted)
evaluation.add_command(coverage)
_path = click.Path(dir_okay=False, path_type=Path)
_home = click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="Folder of runs (else the workspace's own)."
)


@dataclass(frozen=True)
class Asked:
    """The options of a run."""

    target: str
    options: Sequence[str] = ()
    baseline: str | None = None
    judge: str | None = None
    repeats: int | None = None
    concurrency: int | None = None
    max_cost: float | None = None
    stop_early: bool | None = None
    fresh: bool = False
    no_kept: bool = False
    note: str = ""
    home: Path | None = None
    quiet: bool = False
    kind: EvidenceKind = "evaluation"
    """What the report is evidence of."""
    tags: Mapping[str, str] = field(default_factory=dict)
    attacker: str | None = None
    """Model that chooses attacks as they go on."""
    executor: str = "inline"
    workers: int | None = None
    variables: Sequence[str] = ()
    """``NAME=VALUE`` for the app's prompt, where a case gives no other."""


given_variables = click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="A variable of the app's prompt, where a case gives no other; YAML unless text.",
)


@evaluation.command("run")
@click.argument("suite", type=_path)
@click.option(
    "--target", required=True, help="app/NAME, release:APP:ID, model:ROUTE, URL, command:…, python:MODULE:NAME."
)
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the target, e.g. model=gpt-5."
)
@given_variables
@click.option("--baseline", help="Run to compare with: an id, or 'last'.")
@click.option("--judge", help="Route or provider/model that judges.")
@click.option("--repeats", type=click.IntRange(1, 100), help="Ask each case so often.")
@click.option("--concurrency", type=click.IntRange(1, 512), help="Ask so many at once.")
@click.option("--max-cost", type=FiniteRange(0, min_open=True), help="US dollars after which nothing more is asked.")
@click.option(
    "--executor",
    type=click.Choice(["inline", "processes", "ray"]),
    default="inline",
    show_default=True,
    help="Where cases are asked and scored: this process, worker processes, a Ray cluster.",
)
@click.option("--workers", type=click.IntRange(1, 1024), help="How many of them (else `compute.workers`).")
@click.option("--stop-early/--no-stop-early", default=None, help="Stop as soon as the gate is clear.")
@click.option("--fresh", is_flag=True, help="Begin anew, and ask everything again.")
@click.option("--no-kept", is_flag=True, help="Ask again what runs of the last day were answered.")
@click.option("--note", default="", help="Why, for the record.")
@_home
@click.option("-o", "--output", "outputs", multiple=True, type=_path, help="Write the report: .json .xml .html .md")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@pass_session
def run_suite(session: Session, /, suite: Path, outputs: tuple[Path, ...], as_json: bool, **given: Any) -> None:
    """Run SUITE against a target. The same command goes on where an earlier one was ended.

    With a gate the exit code is 0 when it passes, 5 when it fails, 6 when there is not enough evidence; of an app or a
    release the report is then attached to the release as evidence.
    """
    asked = Asked(**given)
    writers = [(place, writer_of(place)) for place in outputs]
    report = run(evaluate(session, suite, asked))
    for place, write in writers:
        place.write_text(write(report), "utf-8")
    _show(report, as_json=as_json)
    sys.exit(0 if report.gate is None else EXIT[report.gate.verdict])


def writer_of(place: Path) -> Callable[[Report], str]:
    """The form that a file's ending asks for. Raises: InvalidInput."""
    from interlock.evals.exports import exports

    form = _FORMS.get(place.suffix.lower())
    if form is None:
        raise InvalidInput(f"{place.name!r} has no known ending", param="--output", hint=f"one of {', '.join(_FORMS)}")
    return exports.get(form)


async def evaluate(session: Session, path: Path, asked: Asked) -> Report:
    """Run the suite `path` as the command does, without showing its report."""
    from interlock.cli.eval_workers import spread_over
    from interlock.evals.service import Evaluations, Options
    from interlock.evals.suite import overridden, read_suite, with_variables

    suite = overridden(
        read_suite(path),
        repeats=asked.repeats,
        concurrency=asked.concurrency,
        max_cost_usd=asked.max_cost,
        stop_early=asked.stop_early,
    )
    suite = with_variables(suite, await variables_of(session, asked.target, asked.variables))
    async with opened(session, suite, asked) as (target, instruments, home, app):
        options = Options(
            fresh=asked.fresh,
            use_kept=not (asked.no_kept or asked.fresh),
            baseline=asked.baseline,
            note=asked.note,
            report=None if asked.quiet else _tell,
            started=None if asked.quiet else _begun,
            tags={**_prompt_of(target, app), **asked.tags},
            spread=None if asked.executor == "inline" else partial(spread_over, session, suite, path, asked),
        )
        try:
            report = await Evaluations(home).run(suite, target, instruments, options)
        finally:
            if not asked.quiet and sys.stderr.isatty():
                click.echo("\r\033[K", nl=False, err=True)
        if app is not None and report.release and report.gate is not None and report.ended != "budget":
            from interlock.flows.evidence import attach_report

            await attach_report(app.parts, app.owner(), app_of(asked.target), report, kind=asked.kind)
        return report


def app_of(target: str) -> str:
    """The app that a workspace's target names: ``app/NAME@CHANNEL``, ``release:NAME:ID``."""
    if target.startswith("release:"):
        return target.split(":")[1]
    return target.removeprefix("app/").partition("@")[0]


class Opened(NamedTuple):
    """What a run asks, and what it scores with."""

    target: Target
    instruments: Instruments
    home: Path
    app: App | None


@asynccontextmanager
async def opened(session: Session, suite: Suite, asked: Asked) -> AsyncIterator[Opened]:
    """The target and the instruments; a workspace is opened only where one of them needs it."""
    from interlock.evals.ports import Instruments, Metric

    needs = {need for each in suite.measured_by if isinstance(each.metric, Metric) for need in each.metric.needs}
    alone = asked.target.startswith(ALONE)
    async with AsyncExitStack() as stack:
        instruments = Instruments(workspace=suite.folder)
        if "detectors" in needs:
            from interlock.flows.evaluation_instruments import detectors

            instruments = replace(instruments, detectors=detectors())
        target: Target
        home = asked.home
        app: App | None = None
        if not alone or needs - {"detectors"} or asked.judge or asked.attacker:
            from interlock.flows.evaluation_instruments import workspace_instruments
            from interlock.flows.evaluation_targets import open_workspace_target

            app = await stack.enter_async_context(session.open())
            instruments = workspace_instruments(
                app.parts, judge=asked.judge, folder=suite.folder, licences=[app.workspace.root / "judges"]
            )
            home = home or app.workspace.data / "evaluations" / "runs"
            if not alone:
                target = await open_workspace_target(app.parts, asked.target, suite.cases)
                instruments = replace(instruments, protected=target.protected)
        if alone:
            target = _alone(asked)
        stack.push_async_callback(target.close)
        if asked.attacker is not None:
            from interlock.evals.redteam.adaptive import AdaptiveTarget
            from interlock.flows.evaluation_instruments import workspace_attacker

            assert app is not None, "an attacker is a model of the workspace"
            target = AdaptiveTarget(target, workspace_attacker(app.parts, asked.attacker), instruments.protected)
        yield Opened(target, instruments, home or own_home(session), app)


def _prompt_of(target: Target, app: App | None) -> Mapping[str, str]:
    """The prompt that answers, as a tag that runs are found by."""
    if app is None:
        return {}
    from interlock.evals.redteam.adaptive import AdaptiveTarget
    from interlock.flows.evaluation_targets import WorkspaceTarget

    if isinstance(target, AdaptiveTarget):
        target = target.inner
    return target.tags if isinstance(target, WorkspaceTarget) else {}


async def variables_of(session: Session, target: str, given: Sequence[str]) -> Mapping[str, Any]:
    """``--var`` for a target: read by what its app's prompt declares, as YAML where nobody declares anything."""
    if not given or target.startswith(ALONE):
        return _read(None, given)
    from interlock.flows.evaluation_targets import release_of

    async with session.open() as app:
        return _read(await release_of(app.parts, target), given)


def _read(release: Release | None, given: Sequence[str]) -> Mapping[str, Any]:
    from interlock.cli.prompts import values_of
    from interlock.prompts.service import prompt_of

    declared = {} if release is None else prompt_of(release).variables
    return values_of(declared, given, undeclared="object" if release is None else "string")


def _alone(asked: Asked) -> Target:
    from interlock.evals.targets import targets

    given: dict[str, str] = {}
    for option in asked.options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--option takes NAME=VALUE, not {option!r}")
        given[name] = value
    kind, _, address = asked.target.partition(":")
    if kind in {"http", "https"}:
        kind, address = "http", asked.target
    return targets.get(kind).open(address, given)


def own_home(session: Session) -> Path:
    """The workspace's folder of runs; beside no workspace one in the working directory."""
    try:
        return session.workspace().data / "evaluations" / "runs"
    except NotFound:
        return Path(".interlock") / "evaluations" / "runs"


def _begun(run_id: str, taken: int) -> None:
    more = f", going on after {taken:,} answers" if taken else ""
    click.echo(f"run {run_id}{more}", err=True)


def _tell(progress: Progress) -> None:
    means = "  ".join(f"{name} {mean:.3g}" for name, mean in list(progress.means.items())[:5] if name != "failed")
    eta = "" if progress.eta_s is None else f", {progress.eta_s:,.0f} s to go"
    failed = f", {progress.failed} failed" if progress.failed else ""
    line = f"{progress.done:,} of {progress.total:,}{failed}, {progress.cost_nano / 1e9:.4f} USD{eta}  {means}"
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{line[:150]}", nl=False, err=True)


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        import msgspec

        emit({**msgspec.to_builtins(report), "digest": report.digest()})
        return
    click.secho(f"{report.suite}  {report.target}  {report.id}", bold=True)
    kept = f", {report.kept:,} of them kept from before" if report.kept else ""
    click.echo(
        f"{report.executions:,} answers to {report.cases:,} cases{kept}; {report.failed:,} failed; "
        f"{report.cost_nano / 1e9:.4f} USD" + (f" and {report.unpriced:,} without a price" if report.unpriced else "")
    )
    floors = [floor.name for floor in report.floors]
    rows = []
    for metric in report.metrics:
        interval = "" if metric.interval is None else f"{metric.interval.low:.3f}–{metric.interval.high:.3f}"
        shown = [f"{floor.means[metric.name]:.3f}" if metric.name in floor.means else "" for floor in report.floors]
        mean = "–" if metric.mean is None else f"{metric.mean:.3f}"
        rows.append(
            [metric.name, mean, interval, metric.units, metric.not_applicable or "", metric.errors or "", *shown]
        )
    columns = ["metric", "mean", "95 %", "units", "n/a", "errors", *(f"floor: {name}" for name in floors)]
    table(columns, rows, right=columns[1:])
    if report.gate is not None:
        colour = {"pass": "green", "fail": "red"}.get(report.gate.verdict, "yellow")
        click.secho(f"gate: {report.gate.verdict.replace('_', ' ')}", fg=colour, bold=True)
        for reason in report.gate.reasons:
            click.echo(f"  {reason}")
    for what, count in (
        ("cases tell little: a floor passes them", len(report.weak_cases)),
        ("cases are flaky", len(report.flaky)),
    ):
        if count:
            click.echo(f"{count} {what}")
    for note in report.notes:
        click.echo(note)


@evaluation.command("list")
@_home
@click.option("--suite", help="Only of this suite.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@json_option
@pass_session
def list_runs(session: Session, home: Path | None, suite: str | None, limit: int, as_json: bool) -> None:
    """Runs, newest first."""
    from interlock.evals.running.journal import runs_in
    from interlock.evals.service import Evaluations

    place = home or own_home(session)
    rows: list[dict[str, Any]] = []
    for folder, plan in runs_in(place):
        if suite is not None and plan.suite != suite:
            continue
        if len(rows) == limit:
            break
        finished = (folder / "report.json").exists()
        report = Evaluations(place).report(plan.id) if finished else None
        verdict = "unfinished" if report is None else "" if report.gate is None else report.gate.verdict
        rows.append(
            {
                "id": plan.id,
                "suite": plan.suite,
                "target": plan.target,
                "began_at": plan.began_at,
                "verdict": verdict,
                "cases": plan.cases,
                "note": plan.note,
            }
        )
    if as_json:
        emit(rows)
    else:
        table(
            ["run", "suite", "target", "began", "verdict", "cases", "note"],
            [
                (
                    r["id"],
                    r["suite"],
                    r["target"],
                    f"{r['began_at']:%Y-%m-%d %H:%M}",
                    r["verdict"],
                    r["cases"],
                    r["note"],
                )
                for r in rows
            ],
            right=["cases"],
        )


@evaluation.command("show")
@click.argument("run_id", metavar="RUN")
@_home
@click.option("-o", "--output", "outputs", multiple=True, type=_path, help="Write the report: .json .xml .html .md")
@json_option
@pass_session
def show(session: Session, run_id: str, home: Path | None, outputs: tuple[Path, ...], as_json: bool) -> None:
    """The report of RUN: an id, a beginning of one, or 'last'."""
    from interlock.evals.service import Evaluations

    writers = [(place, writer_of(place)) for place in outputs]
    report = Evaluations(home or own_home(session)).report(run_id)
    for place, write in writers:
        place.write_text(write(report), "utf-8")
    _show(report, as_json=as_json)


@evaluation.command("metrics")
@json_option
def list_metrics(as_json: bool) -> None:
    """What a suite can measure."""
    from interlock.evals.metrics import about, metrics
    from interlock.evals.ports import Derived

    rows: list[dict[str, Any]] = []
    for name in metrics.names():
        metric = metrics.get(name)
        needs = [metric.over] if isinstance(metric, Derived) else sorted(metric.needs)
        rows.append(
            {"metric": name, "scale": metric.scale, "better": metric.better, "needs": needs, "about": about(name)}
        )
    if as_json:
        emit(rows)
    else:
        table(
            ["metric", "scale", "better", "needs", "about"],
            [(r["metric"], r["scale"], r["better"], ", ".join(r["needs"]), r["about"]) for r in rows],
        )


@evaluation.command("check")
@click.argument("suite", type=_path)
@click.option(
    "--against",
    "against",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Files or folders the app was made from: prompts, few-shot examples, tuning data.",
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Show so many of each.")
@json_option
@pass_session
def check(session: Session, /, suite: Path, against: tuple[Path, ...], limit: int, as_json: bool) -> None:
    """Look for faults of SUITE itself: near duplicates, cases the app has seen. Exit code 5 where there are any."""
    from dataclasses import asdict

    from interlock.evals.hygiene import leaks, near_duplicates, texts_of
    from interlock.evals.suite import read_suite

    read = read_suite(suite)
    doubles = near_duplicates(read.cases)
    seen = leaks(read.cases, texts_of(against))
    if as_json:
        emit(
            {
                "suite": read.name,
                "digest": read.digest,
                "cases": len(read.cases),
                "near_duplicates": [asdict(each) for each in doubles],
                "leaks": [asdict(each) for each in seen],
            }
        )
    else:
        click.secho(f"{read.name}  {len(read.cases):,} cases  {read.digest}", bold=True)
        if doubles:
            click.echo(f"{len(doubles):,} near duplicates")
            rows = [(d.first, d.second, f"{d.alike:.2f}", "" if d.same_answer else "differs") for d in doubles[:limit]]
            table(["case", "case", "alike", "expected"], rows)
        if seen:
            click.echo(f"{len(seen):,} leaks")
            table(
                ["case", "part", "stands in", "share"],
                [(each.case, each.part, each.where, f"{each.contained:.2f}") for each in seen[:limit]],
            )
        if not doubles and not seen:
            click.echo("no faults found")
    sys.exit(5 if doubles or seen else 0)


@evaluation.command("compare")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--frontier", "on", multiple=True, metavar="METRIC", help="Say which runs nobody beats in all of these.")
@_home
@json_option
@pass_session
def compare(session: Session, /, runs: tuple[str, ...], on: tuple[str, ...], home: Path | None, as_json: bool) -> None:
    """Runs beside each other, case by case against the first: what differs beyond chance."""
    from dataclasses import asdict

    from interlock.evals.comparing import Beside, compared, frontier
    from interlock.evals.service import Evaluations

    evaluations = Evaluations(home or own_home(session))
    read = []
    for name in runs:
        values, report = evaluations.baseline(name), evaluations.report(name)
        read.append(Beside(report.id, report.target, values.cases, values.measured))
    if len({each.id for each in read}) < len(read):
        raise InvalidInput("a run is named twice", param="runs")
    cells = compared(read)
    best = frontier(cells, on) if on else []
    if as_json:
        targets = {each.id: each.target for each in read}
        emit({"runs": targets, "cells": [asdict(cell) for cell in cells], "frontier": best})
        return
    rows = []
    for cell in cells:
        found = cell.against_first
        difference = (
            "" if found is None else f"{found.value:+.3f} ({found.interval.low:+.3f} to {found.interval.high:+.3f})"
        )
        p = "" if found is None else f"{found.p:.3g}"
        rows.append((cell.metric, cell.run, f"{cell.mean:.3f}", difference, p, cell.units))
    rows.sort(key=lambda row: row[0])
    columns = ["metric", "run", "mean", "against the first", "p", "units"]
    table(columns, rows, right=columns[2:])
    for each in read:
        mark = "  nobody beats it in all of " + ", ".join(on) if each.id in best else ""
        click.echo(f"{each.id}  {each.target}{mark}")


@evaluation.command("import")
@click.argument("file", type=_path)
@click.option(
    "--from", "form", required=True, metavar="FORMAT", help="promptfoo, openai_evals, langfuse, phoenix, csv …"
)
@click.option("--out", required=True, type=_path, help="The suite to write; its cases go beside it.")
@click.option("--replace", is_flag=True, help="Write over files that are there.")
@click.option(
    "--variable",
    "variables",
    multiple=True,
    metavar="NAME",
    help="Take this value of each test for the variable of the app's prompt that is called so.",
)
@json_option
def import_file(file: Path, form: str, out: Path, replace: bool, variables: tuple[str, ...], as_json: bool) -> None:
    """Take FILE, tests of another tool, over as a suite, and list what has no counterpart."""
    from interlock.evals.importing import import_suite

    made = import_suite(file, form, out, replace=replace, variables=variables)
    told = [each.label for each in made.suite.measured_by]
    if as_json:
        emit(
            {
                "suite": str(out),
                "cases_file": str(made.cases_file),
                "cases": len(made.suite.cases),
                "metrics": told,
                "left_out": made.left_out,
            }
        )
        return
    click.echo(f"{out}: {len(made.suite.cases):,} cases in {made.cases_file.name}, measured by {', '.join(told)}")
    for each in made.left_out:
        click.echo(f"not taken over: {each}")
    click.echo(f"next: interlock eval run {out} --target …")
