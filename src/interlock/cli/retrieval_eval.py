"""`interlock knowledge eval`: how well a collection is searched, by judged questions, and whether worse than before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.judged_set import Asked, Subject, subject_of, with_bar
from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.flows.retrieval_eval import Comparison, Figure, Gate, ScoredQuestion
    from interlock.knowledge.types import Progress, SearchMode

__all__ = ["evaluate"]

_MODES = ("hybrid", "dense", "lexical")


@dataclass(frozen=True)
class _Options:
    place: Path | None
    collection: str | None
    mode: SearchMode
    beside: Sequence[SearchMode]
    cut: int | None
    limit: int | None
    out: Path | None
    against: Path | None
    baseline: Path | None
    gate: bool
    tolerance: float
    bars: Sequence[str]
    steps: Sequence[str]
    users: Sequence[str]
    as_json: bool


@click.command("eval")
@click.argument("place", metavar="[SET]", required=False, type=click.Path(exists=True, path_type=Path))
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
@click.option(
    "--baseline", type=click.Path(exists=True, path_type=Path), help="As --against, and fails with --gate only."
)
@click.option("--gate", is_flag=True, help="Fail where a figure is worse than --baseline by more than chance.")
@click.option(
    "--tolerance",
    default=0.0,
    show_default=True,
    type=FiniteRange(0, 1),
    help="With --gate: a loss up to it is let through.",
)
@click.option("--fail-under", "bars", multiple=True, metavar="FIGURE=VALUE", help="Fail below it, as ndcg@10=0.8.")
@click.option(
    "--step",
    "steps",
    multiple=True,
    metavar="STEP[=VALUE]",
    help="Search with it, as of `search`, and give the gain over the settings without.",
)
@click.option("--as", "users", multiple=True, metavar="USER", help="Without SET: the questions of this user, too.")
@json_option
@pass_session
def evaluate(session: Session, /, **options: Any) -> None:
    """Measure a search by SET: questions with their documents (JSONL), or a folder in BEIR's format.

    Without SET, by the accepted questions of the collection (`interlock knowledge questions`).

    A folder is ingested once, into stores of its own, with the settings of this workspace. Fails below a --fail-under,
    and where it is worse than --against by more than chance.
    """
    run(_evaluate(session, _Options(**options)))


async def _evaluate(session: Session, asked: _Options) -> None:
    from interlock.flows.retrieval_eval import compared, gated, parse_bars, summed_up

    earlier = None if asked.against is None else _earlier(asked.against, "--against")
    baseline = None if asked.baseline is None else _earlier(asked.baseline, "--baseline")
    if asked.gate and baseline is None:
        raise InvalidInput(
            "a gate needs what it compares with", param="--gate", hint="--baseline FILE, written before with --out FILE"
        )
    async with session.open() as app, AsyncExitStack() as stack:
        wanted = Asked(asked.place, asked.collection, asked.limit, asked.users)
        subject = await subject_of(app, wanted, stack, shown=not asked.as_json)
        scores = await _scores(subject, asked, asked.mode)
        figures = summed_up(scores)
        bars = parse_bars(asked.bars, [figure.name for figure in figures])
        gains: dict[str, list[Comparison]] = {}
        if earlier is not None:
            gains[f"over {asked.against.name if asked.against else ''}"] = compared(scores, earlier)
        if asked.steps:
            without = await _scores(subject, asked, asked.mode, plain=True)
            gains["over without"] = compared(scores, {each.id: each.scores for each in without})
        for mode in dict.fromkeys(asked.beside):
            others = await _scores(subject, asked, mode)
            gains[f"over {mode}"] = compared(scores, {each.id: each.scores for each in others})
    gate = None if baseline is None else gated(scores, baseline, tolerance=asked.tolerance)
    if asked.out is not None:
        _write(asked.out, scores)
    missed = [figure for figure in figures if figure.value < bars.get(figure.name, 0.0)]
    worse = [each for each in next(iter(gains.values()), []) if each.is_worse] if earlier is not None else []
    if asked.as_json:
        emit({**_view(asked, len(scores), figures, gains, failed=[*missed, *worse]), "gate": _gate_view(gate)})
    else:
        _print(len(scores), figures, gains)
        for figure in missed:
            click.secho(f"{figure.name} is {figure.value:.4f}, below {bars[figure.name]:g}", fg="red", err=True)
        for each in worse:
            click.secho(f"{each.name} is worse than before by {-each.gain:.4f}", fg="red", err=True)
        if gate is not None:
            _print_gate(gate, asked.tolerance)
    if missed or worse or (asked.gate and gate is not None and gate.verdict == "fail"):
        raise click.exceptions.Exit(1)


async def _scores(subject: Subject, asked: _Options, mode: SearchMode, *, plain: bool = False) -> list[ScoredQuestion]:
    from interlock.flows.retrieval_eval import scored
    from interlock.knowledge.retrieval.settings import parse_steps
    from interlock.knowledge.types import Progress

    found: list[ScoredQuestion] = []
    own = subject.knowledge.steps_of(subject.collection)
    steps = own if plain else parse_steps(asked.steps, own)

    async def work(show: Callable[[Progress], Any]) -> None:
        async for one in scored(
            subject.knowledge,
            subject.questions,
            collection=subject.collection,
            asker=subject.asker,
            mode=mode,
            cut=asked.cut,
            steps=steps,
            assistant=subject.assistant,
            named=subject.named,
        ):
            found.append(one)
            await show(Progress(len(found), len(subject.questions), one.id))

    await with_bar(f"searching ({mode})", not asked.as_json, work)
    return found


def _earlier(path: Path, option: str) -> dict[str, Mapping[str, float]]:
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return {str(row["id"]): {str(n): float(v) for n, v in row["scores"].items()} for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path.name} is no result of --out", param=option) from error


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
        "set": asked.place.name if asked.place is not None else "questions",
        "questions": questions,
        "mode": asked.mode,
        "steps": list(asked.steps),
        "figures": {f.name: {"value": round(f.value, 4), "interval": _rounded(f.interval)} for f in figures},
        "gains": {
            label: {c.name: {"value": round(c.gain, 4), "interval": _rounded(c.interval)} for c in each}
            for label, each in gains.items()
        },
        "failed": [each.name for each in failed],
    }


# Any: JSON on its way out.
def _gate_view(gate: Gate | None) -> dict[str, Any] | None:
    if gate is None:
        return None
    return {
        "verdict": gate.verdict,
        "questions": gate.questions,
        "left_out": gate.left_out,
        "figures": {
            each.name: {"gain": round(each.gain, 4), "interval": _rounded(each.interval), "verdict": each.verdict}
            for each in gate.figures
        },
    }


def _print_gate(gate: Gate, tolerance: float) -> None:
    colours = {"pass": "green", "fail": "red", "not_enough_evidence": "yellow"}
    said = gate.verdict.replace("_", " ")
    left_out = f", {gate.left_out} of the baseline's not in this run" if gate.left_out else ""
    click.secho(f"gate: {said} ({gate.questions} questions{left_out})", fg=colours[gate.verdict], err=True)
    for each in gate.figures:
        low, high = each.interval
        if each.verdict == "fail":
            click.secho(f"  {each.name} lost {-each.gain:.4f}, surely between {-high:.4f} and {-low:.4f}", err=True)
        elif each.verdict == "not_enough_evidence" and not tolerance:
            click.echo(f"  {each.name} {each.gain:+.4f} [{low:+.4f}, {high:+.4f}]: may be better or worse", err=True)
        elif each.verdict == "not_enough_evidence":
            needed = round(gate.questions * max(1.0, ((each.gain - low) / tolerance) ** 2))
            click.echo(
                f"  {each.name} {each.gain:+.4f} [{low:+.4f}, {high:+.4f}]: a loss of {-low:.4f} is not ruled "
                f"out; about {needed} questions would tell one of {tolerance:g}",
                err=True,
            )


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
