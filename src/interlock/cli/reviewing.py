"""`interlock review`: queues of answers that people judge."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.evals.review.types import Reviewed, Task

__all__ = ["review"]

T = TypeVar("T")
_file = click.Path(dir_okay=False, path_type=Path)


@click.group()
def review() -> None:
    """Queues of answers that people judge: blind, with overlap, and agreement that is measured."""


def _with_app(session: Session, work: Callable[[App], Coroutine[Any, Any, T]]) -> T:
    async def opened() -> T:
        async with session.open() as app:
            return await work(app)

    return run(opened())


@review.command()
@click.argument("spec", metavar="QUEUE.yaml", type=_file)
@json_option
@pass_session
def create(session: Session, /, spec: Path, as_json: bool) -> None:
    """Open the queue that QUEUE.yaml describes."""
    from interlock.evals.review.types import QueueSpec
    from interlock.flows.app_files import validate_yaml

    read = validate_yaml(spec, QueueSpec)
    _with_app(session, lambda app: app.parts.reviews.create(app.owner(), read))
    emit(read.model_dump(mode="json")) if as_json else click.echo(f"opened {read.queue}")


@review.command()
@json_option
@pass_session
def queues(session: Session, /, as_json: bool) -> None:
    """List queues."""
    found = _with_app(session, lambda app: app.parts.reviews.queues(app.owner()))
    if as_json:
        emit([spec.model_dump(mode="json") for spec in found])
    else:
        table(
            ["queue", "labels", "seen by several"], [(s.queue, ", ".join(s.choices), f"{s.overlap:.0%}") for s in found]
        )


@review.command()
@click.argument("queue")
@click.argument("items", type=_file, required=False)
@click.option("--run", "run_id", help="Answers of this run instead of a file: an id, or 'last'.")
@click.option("--suite", type=_file, help="The suite that was run; its cases hold the questions.")
@click.option("--metric", help="Of a run: only answers that this metric gives less than --below.")
@click.option("--below", type=float, default=0.5, show_default=True)
@json_option
@pass_session
def add(session: Session, /, queue: str, items: Path | None, as_json: bool, **given: Any) -> None:
    """Add items to QUEUE: lines of a JSONL file, or the answers of a run."""

    async def work(app: App) -> int:
        if items is not None:
            return await app.parts.reviews.add(app.owner(), queue, _read(items))
        if given["run_id"] is None or given["suite"] is None:
            raise click.UsageError("give a file of items, or --run with --suite")
        from interlock.evals.running.journal import find_run
        from interlock.evals.suite import read_suite
        from interlock.flows.review_items import items_of_run

        folder, _ = find_run(app.parts.evaluations.home, given["run_id"])
        suite = read_suite(given["suite"])
        found = items_of_run(suite, folder, metric=given["metric"], below=given["below"])
        return await app.parts.reviews.add(app.owner(), queue, found)

    new = _with_app(session, work)
    emit({"queue": queue, "added": new}) if as_json else click.echo(f"{new} new items in {queue}")


def _read(path: Path) -> list[Any]:
    from pydantic import ValidationError

    from interlock.evals.formats._lines import json_lines
    from interlock.evals.review.types import Item

    found = []
    for place, fields in json_lines(path):
        try:
            found.append(Item.model_validate(fields))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or "item"
            raise InvalidInput(f"{place} of {path.name!r}: {field}: {first['msg']}", param=field) from error
    return found


@review.command("next")
@click.argument("queue")
@click.option("--all", "go_on", is_flag=True, help="One after the other, until none waits or you quit.")
@json_option
@pass_session
def next_item(session: Session, /, queue: str, go_on: bool, as_json: bool) -> None:
    """Take the next item of QUEUE and say what you think of it; with --json only take it."""

    async def work(app: App) -> None:
        ctx = app.owner()
        while True:
            task = await app.parts.reviews.next(ctx, queue)
            if as_json:
                emit(None if task is None else {"item": task.item.model_dump(mode="json"), "left": task.left})
                return
            if task is None:
                click.echo("nothing waits for you")
                return
            began = time.monotonic()
            said = _ask(task)
            if said is None:
                return
            label, note = said
            await app.parts.reviews.say(ctx, queue, task.item.id, label, note=note, seconds=time.monotonic() - began)
            if not go_on:
                return

    _with_app(session, work)


def _ask(task: Task) -> tuple[str, str] | None:
    item, spec = task.item, task.spec
    click.secho(f"\n{task.done + 1}, {task.left} to go", dim=True)
    click.echo(spec.rubric)
    click.secho("\n" + item.question, bold=True)
    for name, text in (("A", item.answer), ("B", item.other)) if spec.pairwise else (("", item.answer),):
        click.echo(f"\n{name + ': ' if name else ''}{text}")
    for number, text in enumerate(item.context, start=1):
        click.secho(f"[{number}] {text}", dim=True)
    keys = {str(number): label for number, label in enumerate(spec.choices, start=1)}
    shown = "  ".join(f"{key} {label}" for key, label in keys.items())
    while True:
        key = click.prompt(f"\n{shown}  q quit", prompt_suffix=" > ").strip().casefold()
        if key == "q":
            return None
        if label := keys.get(key) or (key if key in spec.choices else None):
            return label, click.prompt("note", default="", show_default=False)


@review.command()
@click.argument("queue")
@click.argument("item")
@click.argument("label")
@click.option("--note", default="")
@json_option
@pass_session
def say(session: Session, /, queue: str, item: str, label: str, note: str, as_json: bool) -> None:
    """Say LABEL of ITEM, which was given to you by `next`."""
    _with_app(session, lambda app: app.parts.reviews.say(app.owner(), queue, item, label, note=note))
    emit({"item": item, "label": label}) if as_json else click.echo(f"{item}: {label}")


@review.command()
@click.argument("queue")
@click.argument("item")
@click.argument("label")
@click.option("--note", default="", help="Why, for the record.")
@json_option
@pass_session
def decide(session: Session, /, queue: str, item: str, label: str, note: str, as_json: bool) -> None:
    """Decide on ITEM where people disagree."""
    _with_app(session, lambda app: app.parts.reviews.decide(app.owner(), queue, item, label, note=note))
    emit({"item": item, "final": label}) if as_json else click.echo(f"{item}: {label}, decided")


@review.command("show")
@click.argument("queue")
@click.option("--state", type=click.Choice(["open", "agreed", "disputed", "decided"]))
@json_option
@pass_session
def show(session: Session, /, queue: str, state: str | None, as_json: bool) -> None:
    """Everything of QUEUE, with what was said."""
    found = _with_app(session, lambda app: app.parts.reviews.items(app.owner(), queue, state=state))
    if as_json:
        emit([_told(each) for each in found])
        return
    rows = [
        (each.item.id, each.state, each.final or "", ", ".join(f"{s.rater}: {s.label}" for s in each.labels))
        for each in found
    ]
    table(["item", "state", "holds", "said"], rows)


def _told(each: Reviewed) -> dict[str, Any]:
    return {
        "item": each.item.model_dump(mode="json"),
        "state": each.state,
        "final": each.final,
        "labels": [asdict(label) for label in each.labels],
        "decided_by": each.decided_by,
        "note": each.note,
    }


@review.command()
@click.argument("queue")
@json_option
@pass_session
def agreement(session: Session, /, queue: str, as_json: bool) -> None:
    """How far the people of QUEUE agree: over all, by label, by rater."""
    found = _with_app(session, lambda app: app.parts.reviews.agreement(app.owner(), queue))
    if as_json:
        emit(asdict(found))
        return
    alpha = "–" if found.alpha is None else f"{found.alpha:.3f}"
    fleiss = "–" if found.fleiss is None else f"{found.fleiss:.3f}"
    click.echo(
        f"{found.items} items, {found.open} open, {found.disputed} disputed; {found.several} seen by several: "
        f"Krippendorff's alpha {alpha}, Fleiss' kappa {fleiss}"
    )
    if found.by_label:
        table(["label", "alpha"], [(label, f"{value:.3f}") for label, value in found.by_label.items()])
    if found.pairs:
        rows = [(f"{p.first}, {p.second}", p.items, f"{p.agreement:.3f}", f"{p.kappa:.3f}") for p in found.pairs]
        table(["raters", "items", "agreement", "kappa"], rows)
    if found.raters:
        rater_rows = [
            (r.rater, r.labels, _share(r.with_final), f"{_share(r.gold)} of {r.gold_seen}" if r.gold_seen else "")
            for r in found.raters
        ]
        table(["rater", "labels", "as it holds", "known labels"], rater_rows)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


@review.command()
@click.argument("queue")
@click.option("--out", type=_file, help="Write here instead of standard output.")
@json_option
@pass_session
def export(session: Session, /, queue: str, out: Path | None, as_json: bool) -> None:
    """Settled items of QUEUE as labels for `interlock judge calibrate`, one JSON line each."""
    found = _with_app(session, lambda app: app.parts.reviews.labels(app.owner(), queue))
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found)
    if out is not None:
        out.write_text(lines, "utf-8")
    if as_json:
        emit({"queue": queue, "labels": len(found), "file": None if out is None else str(out)})
    elif out is None:
        click.echo(lines, nl=False)
    else:
        click.echo(f"{len(found)} labels written to {out}")
