"""`interlock knowledge tune`: find how a collection is best cut and searched, and propose it as a diff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.judged_set import Asked, subject_of, with_bar
from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.evals.judged import JudgedQuestion
    from interlock.flows.retrieval_tuning import Proposal
    from interlock.flows.tuning_trials import Stage

__all__ = ["tune"]

_STAGES: Sequence[Stage] = ("fusion", "candidates", "chunking", "steps")
_SHOWN = 8


@click.command()
@click.argument("place", metavar="[SET]", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--collection", help="What a file of questions is asked of (default: the only one).")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many questions.")
@click.option("--as", "users", multiple=True, metavar="USER", help="Without SET: the questions of this user, too.")
@click.option(
    "--budget-minutes", default=30.0, show_default=True, type=FiniteRange(0, min_open=True), help="For trials."
)
@click.option("--trials", default=20, show_default=True, type=click.IntRange(1), help="At most so many.")
@click.option(
    "--stage", "stages", multiple=True, type=click.Choice(_STAGES), help="Only these (default: all, in this order)."
)
@click.option(
    "--context", default=6000, show_default=True, type=click.IntRange(500), help="Characters that evidence must fit."
)
@click.option("--apply", "applies", is_flag=True, help="Write what is proposed into interlock.yaml.")
@json_option
@pass_session
def tune(session: Session, /, **options: Any) -> None:
    """Find how a collection is best cut and searched, by SET (as of `eval`).

    Without SET, by the accepted questions of the collection. One half of the questions chooses, the other judges the
    choice. Proposes a diff of interlock.yaml where the gain is more than chance. Stop it with Ctrl-C: the next run goes
    on.
    """
    run(_tune(session, options))


async def _tune(session: Session, asked: Mapping[str, Any]) -> None:
    from interlock.flows.retrieval_tuning import Budget, Subject, tune
    from interlock.flows.settings_diff import diff_of, with_settings, write_whole
    from interlock.flows.tuning_measure import measure_for
    from interlock.flows.tuning_trials import settings_of
    from interlock.knowledge.scratch import SCRATCH, scratch

    as_json, place = bool(asked["as_json"]), asked["place"]
    found: list[Proposal] = []
    async with session.open() as app, AsyncExitStack() as stack:
        wanted = Asked(place, asked["collection"], asked["limit"], asked["users"])
        subject = await subject_of(app, wanted, stack, shown=not as_json)
        is_folder = place is not None and place.is_dir()
        name = place.name if is_folder else subject.collection
        stages, skipped = _possible(app, subject.collection, asked["stages"], is_folder=is_folder)
        measured = await measure_for(
            subject.knowledge,
            subject.collection,
            subject.questions,
            asker=subject.asker,
            named=subject.named,
            context=asked["context"],
        )
        tuned = Subject(
            subject.knowledge, subject.collection, subject.questions, subject.asker, measured, subject.assistant
        )
        budget = Budget(asked["budget_minutes"], asked["trials"], stages)
        tenant = app.owner().tenant
        kept = f"{place.resolve()}" if is_folder else subject.collection
        with scratch(app.workspace.data / SCRATCH, tenant, kept) as folder:

            async def work(show: Any) -> None:
                found.append(await tune(tuned, budget, folder, show))

            await with_bar("tuning", not as_json, work)
        warnings = [*skipped, *(await _origins(app, subject.questions, name) if place is None else [])]
        file = app.workspace.root / "interlock.yaml"
    told = found[0]
    own = settings_of(told.best, told.own) if told.is_better else {}
    before = file.read_text("utf-8")
    after = with_settings(before, ["knowledge", "collections", name], own) if own else before
    diff = diff_of(before, after, file.name)
    if asked["applies"] and own:
        write_whole(file, before, after)
    if as_json:
        emit(_view(told, name, own, diff, applied=bool(asked["applies"] and own), warnings=warnings))
        return
    _print(told, warnings)
    if not own:
        return
    click.echo(f"\n{diff}", nl=False)
    cut = " Then ingest: its documents are cut anew." if "chunking" in own else ""
    if asked["applies"]:
        click.echo(f"\nWritten.{cut} Freeze new releases of the apps that use it.")
    else:
        click.echo(f"\nPut it in with --apply.{cut} Then freeze new releases of the apps that use it.")


def _possible(
    app: App, collection: str, asked: Sequence[Stage], *, is_folder: bool
) -> tuple[Sequence[Stage], list[str]]:
    """The stages to take, and why one is left out."""
    stages: Sequence[Stage] = asked or _STAGES
    if is_folder or "chunking" not in stages:
        return stages, []
    spec = app.source_spec(collection)
    reason = ""
    if spec.index is not None:
        reason = "its documents are in an index elsewhere"
    elif spec.cleaning.context is not None:
        reason = "its passages have contexts that a model wrote, which trials would not have"
    elif app.workspace.settings.knowledge.chunker != "structural":
        reason = "its chunker takes no settings"
    if not reason:
        return stages, []
    return [stage for stage in stages if stage != "chunking"], [f"chunking is not tried: {reason}"]


async def _origins(app: App, questions: Sequence[JudgedQuestion], collection: str) -> list[str]:
    """Warns of sets that speak as the documents do."""
    known = await app.parts.knowledge.questions.of_collection(app.owner(), collection, state="accepted")
    origin = {one.id: one.origin for one in known if not one.edited}
    extracted = sum(origin.get(one.id) in {"heading", "definition", "quantity"} for one in questions)
    if 2 * extracted < len(questions):
        return []
    return [
        f"{extracted} of {len(questions)} questions were made without a model and use the documents' own words: what "
        "is proposed favours searching by words"
    ]


# Any: JSON on its way out.
def _view(
    told: Proposal, name: str, own: Mapping[str, Any], diff: str, *, applied: bool, warnings: Sequence[str]
) -> dict[str, Any]:
    best = max((one.score for one in told.tried), default=None)
    return {
        "collection": name,
        "measure": told.measure,
        "way": told.best.told(),
        "fusion": told.best.fusion.model_dump(mode="json"),
        "chunking": told.best.chunking.model_dump(mode="json"),
        "candidates": told.best.candidates,
        "chosen_on": told.chosen_on,
        "judged_on": told.judged_on,
        "score": {"value": round(told.score, 4), "interval": _rounded(told.interval)},
        "current": round(told.current, 4),
        "gain": {"value": round(told.gain, 4), "interval": _rounded(told.gain_interval)},
        "better": told.is_better,
        "legs": {leg.name: {"score": round(leg.score, 4), "dead": leg.is_dead} for leg in told.legs},
        "tried": len(told.tried),
        "best_of_choosing": None if best is None else round(best, 4),
        "trials": [{"stage": t.stage, "way": t.way.told(), "score": round(t.score, 4)} for t in told.tried],
        "embedded": told.embedded,
        "stopped": told.stopped or None,
        "warnings": list(warnings),
        "settings": {"knowledge": {"collections": {name: own}}} if own else None,
        "diff": diff or None,
        "applied": applied,
    }


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(interval[0], 4), round(interval[1], 4)]


def _print(told: Proposal, warnings: Sequence[str]) -> None:
    for leg in told.legs:
        click.echo(f"{leg.name + ' alone':<16} {told.measure} {leg.score:.4f}", nl=False)
        click.secho("  nearly nothing: leave it out" if leg.is_dead else "", fg="red")
    best = sorted(told.tried, key=lambda one: -one.score)[:_SHOWN]
    if best:
        title = f"best of {len(told.tried)} ways"
        table(
            [title, "stage", told.measure],
            [(one.way.told(), one.stage, f"{one.score:.4f}") for one in best],
            right=[told.measure],
        )
    low, high = told.gain_interval
    click.echo(
        f"\n{'now':<16} {told.measure} {told.current:.4f}\n{'chosen':<16} {told.measure} {told.score:.4f}  "
        f"{told.gain:+.4f} [{low:+.4f}, {high:+.4f}]  chosen by {told.chosen_on} questions, judged by "
        f"{told.judged_on} others"
    )
    if len({round(one.score, 6) for one in told.tried}) == 1 and len(told.tried) > 1:
        click.echo(f"every one of {len(told.tried)} ways scores the same on these questions: there is no gain in any")
    elif not told.is_better:
        click.echo("no gain beyond chance: leave the settings as they are, or bring more questions")
    if told.stopped:
        click.echo(f"ended by its budget of {told.stopped}: run it again, and it goes on")
    for warning in warnings:
        click.secho(warning, fg="yellow", err=True)
