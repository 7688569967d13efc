"""`interlock knowledge eval`, `tune`: both search judged questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.core.context import Context
    from interlock.evals.judged import JudgedQuestion
    from interlock.flows.retrieval_eval import Comparison, Figure, ScoredQuestion
    from interlock.knowledge.service import KnowledgeService
    from interlock.knowledge.types import Progress, SearchMode

__all__ = ["evaluate", "tune"]

_MODES = ("hybrid", "dense", "lexical")


@dataclass(frozen=True)
class _Options:
    place: Path
    collection: str | None
    mode: SearchMode
    beside: Sequence[SearchMode]
    cut: int | None
    limit: int | None
    out: Path | None
    against: Path | None
    bars: Sequence[str]
    as_json: bool


@dataclass(frozen=True)
class _Subject:
    """What is searched: a collection of the workspace, or a set on a shelf of its own."""

    knowledge: KnowledgeService
    collection: str
    questions: Sequence[JudgedQuestion]
    asker: Callable[[str | None], Context]
    named: Callable[[str], str]


@click.command("eval")
@click.argument("place", metavar="SET", type=click.Path(exists=True, path_type=Path))
@click.option("--collection", help="What a file of questions is asked of (default: the only one).")
@click.option("--mode", default="hybrid", show_default=True, type=click.Choice(_MODES))
@click.option(
    "--beside", multiple=True, type=click.Choice(_MODES), help="Search so as well, and give the gain over it."
)
@click.option(
    "--cut", type=click.IntRange(1, 200), help="Where every ranking is cut (default: ndcg@10, precision@5, …)."
)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many questions.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write every question's ranking and figures."
)
@click.option(
    "--against", type=click.Path(exists=True, path_type=Path), help="An earlier --out: give the gain over it."
)
@click.option("--fail-under", "bars", multiple=True, metavar="FIGURE=VALUE", help="Fail below it, as ndcg@10=0.8.")
@json_option
@pass_session
def evaluate(session: Session, /, **options: Any) -> None:
    """Measure a search by SET: questions with their documents (JSONL), or a folder in BEIR's format.

    A folder is ingested once, into stores of its own, with the settings of this workspace. Fails below a --fail-under,
    and where it is worse than --against by more than chance.
    """
    run(_evaluate(session, _Options(**options)))


async def _evaluate(session: Session, asked: _Options) -> None:
    from interlock.flows.retrieval_eval import compared, parse_bars, summed_up

    earlier = None if asked.against is None else _earlier(asked.against)
    async with session.open() as app, AsyncExitStack() as stack:
        subject = await _subject(
            app, asked.place, stack, collection=asked.collection, limit=asked.limit, shown=not asked.as_json
        )
        scores = await _scores(subject, asked, asked.mode)
        figures = summed_up(scores)
        bars = parse_bars(asked.bars, [figure.name for figure in figures])
        gains: dict[str, list[Comparison]] = {}
        if earlier is not None:
            gains[f"over {asked.against.name if asked.against else ''}"] = compared(scores, earlier)
        for mode in dict.fromkeys(asked.beside):
            others = await _scores(subject, asked, mode)
            gains[f"over {mode}"] = compared(scores, {each.id: each.scores for each in others})
    if asked.out is not None:
        _write(asked.out, scores)
    missed = [figure for figure in figures if figure.value < bars.get(figure.name, 0.0)]
    worse = [each for each in next(iter(gains.values()), []) if each.is_worse] if earlier is not None else []
    if asked.as_json:
        emit(_view(asked, len(scores), figures, gains, failed=[*missed, *worse]))
    else:
        _print(len(scores), figures, gains)
        for figure in missed:
            click.secho(f"{figure.name} is {figure.value:.4f}, below {bars[figure.name]:g}", fg="red", err=True)
        for each in worse:
            click.secho(f"{each.name} is worse than before by {-each.gain:.4f}", fg="red", err=True)
    if missed or worse:
        raise click.exceptions.Exit(1)


async def _subject(
    app: App, place: Path, stack: AsyncExitStack, *, collection: str | None, limit: int | None, shown: bool
) -> _Subject:
    from interlock.evals.judged import read_beir, read_judged

    owner = app.owner()
    if place.is_dir():
        from interlock.flows.evaluation_shelf import COLLECTION, document_name, ingest_set, shelf

        if collection is not None:
            raise InvalidInput("a folder brings its own documents: leave --collection out", param="--collection")
        questions = read_beir(place)
        knowledge = await stack.enter_async_context(shelf(app.workspace.data, place, app.parts.knowledge))
        await _with_bar("ingesting", shown, lambda show: ingest_set(knowledge, owner, place, show))
        return _Subject(knowledge, COLLECTION, questions[:limit], lambda _: app.owner(), document_name)
    names = list(app.collections())
    if collection is None and len(names) != 1:
        raise InvalidInput(
            "name the collection", param="--collection", hint=f"one of: {', '.join(names) or 'none yet'}"
        )
    access = app.parts.access
    return _Subject(
        app.parts.knowledge,
        collection or names[0],
        read_judged(place)[:limit],
        # Each question has a deadline of its own.
        lambda user: app.owner() if user is None else access.act_as(app.owner(), user),
        str,
    )


# Any: what the work gives is of no interest here.
async def _with_bar(title: str, shown: bool, work: Callable[[Any], Any]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Bar(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(title, total=None)

        async def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        await work(show)


async def _scores(subject: _Subject, asked: _Options, mode: SearchMode) -> list[ScoredQuestion]:
    from interlock.flows.retrieval_eval import scored
    from interlock.knowledge.types import Progress

    found: list[ScoredQuestion] = []

    async def work(show: Callable[[Progress], Any]) -> None:
        async for one in scored(
            subject.knowledge,
            subject.questions,
            collection=subject.collection,
            asker=subject.asker,
            mode=mode,
            cut=asked.cut,
            named=subject.named,
        ):
            found.append(one)
            await show(Progress(len(found), len(subject.questions), one.id))

    await _with_bar(f"searching ({mode})", not asked.as_json, work)
    return found


def _earlier(path: Path) -> dict[str, Mapping[str, float]]:
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return {str(row["id"]): {str(n): float(v) for n, v in row["scores"].items()} for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path.name} is no result of --out", param="--against") from error


def _write(path: Path, scores: Sequence[ScoredQuestion]) -> None:
    rows = ({"id": s.id, "scores": dict(s.scores), "ranking": list(s.ranking[:100])} for s in scores)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    whole = path.with_name(path.name + ".part")
    whole.write_text(text, "utf-8")
    whole.replace(path)


# Any: JSON on its way out.
def _view(
    asked: _Options,
    questions: int,
    figures: Sequence[Figure],
    gains: Mapping[str, Sequence[Comparison]],
    *,
    failed: Sequence[Figure | Comparison],
) -> dict[str, Any]:
    return {
        "set": asked.place.name,
        "questions": questions,
        "mode": asked.mode,
        "figures": {f.name: {"value": round(f.value, 4), "interval": _rounded(f.interval)} for f in figures},
        "gains": {
            label: {c.name: {"value": round(c.gain, 4), "interval": _rounded(c.interval)} for c in each}
            for label, each in gains.items()
        },
        "failed": [each.name for each in failed],
    }


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(interval[0], 4), round(interval[1], 4)]


def _print(questions: int, figures: Sequence[Figure], gains: Mapping[str, Sequence[Comparison]]) -> None:
    by_name = {label: {c.name: c for c in each} for label, each in gains.items()}

    def told(label: str, name: str) -> str:
        found = by_name[label].get(name)
        return "–" if found is None else f"{found.gain:+.4f} [{found.interval.low:+.4f}, {found.interval.high:+.4f}]"

    table(
        [f"{questions} questions", "mean", "95 %", *gains],
        [
            (
                f.name,
                f"{f.value:.4f}",
                f"[{f.interval.low:.4f}, {f.interval.high:.4f}]",
                *(told(label, f.name) for label in gains),
            )
            for f in figures
        ],
        right=["mean", "95 %", *gains],
    )


@click.command()
@click.argument("place", metavar="SET", type=click.Path(exists=True, path_type=Path))
@click.option("--collection", help="What a file of questions is asked of (default: the only one).")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many questions.")
@json_option
@pass_session
def tune(session: Session, place: Path, collection: str | None, limit: int | None, as_json: bool) -> None:
    """Find how a collection's legs are best fused, by SET (as of `eval`).

    One half of the questions chooses, the other judges. Proposes settings only where the gain is more than chance.
    """
    run(_tune(session, place, collection, limit, as_json=as_json))


async def _tune(session: Session, place: Path, collection: str | None, limit: int | None, *, as_json: bool) -> None:
    from interlock.flows.retrieval_tuning import Tried, propose, tried
    from interlock.knowledge.types import Progress

    found: list[Tried] = []
    async with session.open() as app, AsyncExitStack() as stack:
        subject = await _subject(app, place, stack, collection=collection, limit=limit, shown=not as_json)

        async def work(show: Callable[[Progress], Any]) -> None:
            async for one in tried(
                subject.knowledge,
                subject.questions,
                collection=subject.collection,
                asker=subject.asker,
                named=subject.named,
            ):
                found.append(one)
                await show(Progress(len(found), len(subject.questions), one.id))

        await _with_bar("searching", not as_json, work)
    told = propose(found)
    name = collection or (place.name if place.is_dir() else subject.collection)
    changed = told.fusion.model_dump(mode="json", exclude_defaults=True) or {"method": "convex"}
    settings = {"knowledge": {"collections": {name: {"fusion": changed}}}}
    if as_json:
        emit(
            {
                "collection": name,
                "fusion": told.fusion.model_dump(mode="json"),
                "chosen_on": told.chosen_on,
                "judged_on": told.judged_on,
                "ndcg@10": {"value": round(told.score, 4), "interval": _rounded(told.interval)},
                "current": round(told.current, 4),
                "gain": {"value": round(told.gain, 4), "interval": _rounded(told.gain_interval)},
                "better": told.is_better,
                "legs": {leg.name: {"ndcg@10": round(leg.score, 4), "dead": leg.is_dead} for leg in told.legs},
                "settings": settings if told.is_better else None,
            }
        )
        return
    for leg in told.legs:
        click.echo(f"{leg.name + ' alone':<16} nDCG@10 {leg.score:.4f}", nl=False)
        click.secho("  nearly nothing: leave it out" if leg.is_dead else "", fg="red")
    low, high = told.gain_interval
    click.echo(
        f"{'now':<16} nDCG@10 {told.current:.4f}\n{'best':<16} nDCG@10 {told.score:.4f}  "
        f"{told.gain:+.4f} [{low:+.4f}, {high:+.4f}]  chosen by {told.chosen_on} questions, judged by "
        f"{told.judged_on} others"
    )
    if not told.is_better:
        click.echo("The gain may be chance: leave the settings as they are, or bring more questions.")
        return
    import yaml

    click.echo("\nPut into interlock.yaml, and freeze new releases of the apps that use it:\n")
    click.echo(yaml.safe_dump(settings, sort_keys=False).rstrip())
