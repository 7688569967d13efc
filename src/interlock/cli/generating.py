"""`interlock eval generate` and `accepted`: cases made from documents, put before people, written to a suite."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table
from interlock.evals.synthetic.types import KINDS

if TYPE_CHECKING:
    from interlock.evals.synthetic.types import Made
    from interlock.knowledge.types import Progress

__all__ = ["accepted", "coverage", "generate"]

_suite = click.option(
    "--suite",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The suite that accepted cases go to; it need not be there yet.",
)
_queue = click.option("--queue", help="The review queue (else named after the suite).")


@click.command()
@click.argument("target", metavar="APP|COLLECTION")
@_suite
@_queue
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only these (else all).")
@click.option("--count", default=10, show_default=True, type=click.IntRange(1, 1000), help="Of each kind.")
@click.option("--model", default="", help="A route or provider/model that writes and checks; without it rules do.")
@click.option(
    "--budget",
    default=1.0,
    show_default=True,
    type=FiniteRange(0, min_open=True),
    help="US dollars after which the model is asked nothing more.",
)
@click.option("--language", "languages", multiple=True, help="ISO 639-1 code of cases in other languages (de, fr).")
@click.option("--persona", "personas", multiple=True, help="Who talks in conversations, in words.")
@click.option("--as", "user", default="", metavar="USER", help="As a user of the directory: of their documents.")
@click.option("--fresh", is_flag=True, help="Begin anew; what is in the queue stays.")
@json_option
@pass_session
def generate(session: Session, /, target: str, suite: Path, as_json: bool, **given: Any) -> None:
    """Make cases from the documents of a collection, or of what an app searches, and put them before people.

    Weak ones are thrown away and counted. Nothing is in the suite before somebody has accepted it: see
    `interlock eval accepted`. The same command goes on where an earlier one was ended.
    """
    from interlock.flows.generation import Wanted, collection_of
    from interlock.flows.generation import generate as generated

    async def work() -> Made:
        async with session.open() as app:
            parts, owner = app.parts, app.owner()
            from interlock.evals.synthetic.asking import PERSONAS
            from interlock.evals.synthetic.curating import queue_of

            user = given["user"]
            ctx = parts.access.act_as(owner, user) if user else owner
            wanted = Wanted(
                collection=await collection_of(parts, owner, target, list(app.collections())),
                suite=suite,
                queue=given["queue"] or queue_of(suite),
                kinds=given["kinds"] or KINDS,
                count=given["count"],
                model=given["model"],
                budget_usd=given["budget"],
                languages=given["languages"] or ("de", "fr"),
                personas=given["personas"] or tuple(PERSONAS),
                user=user,
                fresh=given["fresh"],
            )
            home = app.workspace.data / "evaluations" / "generation"
            return await generated(parts, ctx, wanted, home, tell=_tell)

    try:
        made = run(work())
    finally:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)
    if as_json:
        emit(_view(made))
    else:
        _show(made, suite)


async def _tell(progress: Progress) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{progress.done} of {progress.total} made", nl=False, err=True)


# Any: JSON on its way out.
def _view(made: Made) -> dict[str, Any]:
    told = asdict(made)
    told["spent_usd"] = told.pop("spent_nano") / 1e9
    told["kinds"] = {kind: {**asdict(report), "thrown": dict(report.thrown)} for kind, report in made.kinds.items()}
    return told


def _show(made: Made, suite: Path) -> None:
    rows = []
    for kind, report in made.kinds.items():
        thrown = ", ".join(f"{count} {fault.replace('_', ' ')}" for fault, count in report.thrown.most_common())
        rows.append((kind, report.sent, report.wanted, report.hand, report.note or thrown))
    table(["kind", "made", "wanted", "by", "thrown away, or why none"], rows, right=["made", "wanted"])
    if made.taken_over:
        click.echo(f"went on after {made.taken_over:,} steps that were done")
    if made.model_note:
        click.echo(f"the model is not used: {made.model_note}; what a rule can make was made by rule")
    if made.calls:
        cost = "without a price" if made.unpriced else f"{made.spent_nano / 1e9:.4f} USD"
        click.echo(f"{made.calls:,} calls, {cost}")
    if made.stopped:
        click.echo(f"ended early: {made.stopped}")
    click.echo(f"next: interlock review next {made.queue} --all, then interlock eval accepted --suite {suite}")


@click.command()
@_suite
@_queue
@json_option
@pass_session
def accepted(session: Session, /, suite: Path, queue: str | None, as_json: bool) -> None:
    """Write the cases that people accepted to the suite.

    Those whose documents have another text by now are left out. Cases that bring documents of their own go to a suite
    beside it, because an app then searches these alone.
    """
    from interlock.evals.synthetic.curating import queue_of, write_accepted
    from interlock.evals.types import Case
    from interlock.flows.generation import accepted_cases

    named = queue or queue_of(suite)

    async def work() -> tuple[Any, list[Case], int]:
        async with session.open() as app:
            return await accepted_cases(app.parts, app.owner(), named)

    found, holds, stale = run(work())
    done = write_accepted(holds, suite)
    told = {
        "queue": named,
        "accepted": len(found.items),
        "rejected": found.rejected,
        "waiting": found.waiting,
        "stale": stale,
        "suites": [
            {"suite": each.suite.name, "cases_file": str(each.cases_file), "added": len(each.added)} for each in done
        ],
    }
    if as_json:
        emit(told)
        return
    for each in done:
        click.echo(f"{len(each.added)} cases added to {each.suite.name} ({each.cases_file.name})")
    if stale:
        click.echo(f"{stale} left out: their documents have another text by now")
    click.echo(f"{len(found.items)} accepted, {found.rejected} rejected, {found.waiting} wait for people")


@click.command()
@click.argument("app_name", metavar="APP")
@click.option(
    "--suite",
    "suites",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Whose cases cover (else the suites in the app's folder).",
)
@click.option("--days", type=FiniteRange(0, 365, min_open=True), default=30.0, show_default=True)
@click.option(
    "--questions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Questions of a file (input, question or query a row) in place of sampled ones.",
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Show so many intents.")
@click.option("--propose", "count", type=click.IntRange(1, 500), help="Put so many uncovered ones before people.")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="The suite that proposed cases go to.")
@json_option
@pass_session
def coverage(session: Session, /, app_name: str, limit: int, as_json: bool, **given: Any) -> None:
    """What people ask APP, grouped, and which of it no case asks: uncovered first, then by poor answers and volume."""
    from interlock.evals.synthetic.curating import queue_of
    from interlock.flows.coverage import Coverage, coverage_view, propose, suites_of
    from interlock.flows.coverage import coverage as covered

    count, to = given["count"], given["to"]
    if (count is None) != (to is None):
        raise click.UsageError("--propose and --to go together")

    async def work() -> tuple[Coverage, int | None]:
        async with session.open() as app:
            folder = app.workspace.path(app.workspace.settings.apps_dir) / app_name
            suites = list(given["suites"]) or suites_of(folder)
            found = await covered(
                app.parts, app.owner(), app_name, suites=suites, days=given["days"], questions=given["questions"]
            )
            new = None
            if count is not None:
                new = await propose(app.parts, app.owner(), found, queue_of(to), count=count)
            return found, new

    found, new = run(work())
    if as_json:
        emit({**coverage_view(found, limit=limit), "proposed": new})
        return
    click.echo(
        f"{found.questions:,} questions of {found.source}, {len(found.intents):,} intents; "
        f"{found.cases:,} cases ask {found.near_case:.0%} of the questions"
    )
    if found.without_text:
        click.echo(f"{found.without_text:,} samples are left out: their text is no longer kept")
    rows = []
    for each in found.intents[:limit]:
        moved = f"{each.share_before:.0%} → {each.share_now:.0%}" if each.drifting else ""
        mark = "covered" if each.covered else "uncovered"
        rows.append((each.name[:70], each.count, each.poor, mark, moved, " ".join(t[:12] for t in each.traces[:2])))
    table(["asked", "count", "poor", "cases", "drifting", "open"], rows, right=["count", "poor"])
    if new is not None:
        click.echo(f"{new} proposed: interlock review next {queue_of(to)} --all")
