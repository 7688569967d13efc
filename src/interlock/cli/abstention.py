"""`interlock knowledge calibrate`: from which probability an app answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.flows.abstention import Assessed, Threshold

__all__ = ["calibrate"]


@click.command()
@click.argument("app_name", metavar="APP")
@click.argument("questions", metavar="SET", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--false-answers",
    "rate",
    default=0.1,
    show_default=True,
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Share of unanswerable questions that may be answered.",
)
@json_option
@pass_session
def calibrate(session: Session, app_name: str, questions: Path, rate: float, as_json: bool) -> None:
    """Find APP's answer.min_answerability by SET: questions labelled answerable or not (JSONL, golden sets too).

    Searches and assesses each question as the app would; no model writes. Proposes the lowest threshold that keeps the
    share of false answers, with intervals, and changes nothing.
    """
    run(_calibrate(session, app_name, questions, rate, as_json=as_json))


async def _calibrate(session: Session, name: str, path: Path, rate: float, *, as_json: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    from interlock.flows.abstention import assessed, propose, read_labelled
    from interlock.flows.chat import has_knowledge
    from interlock.knowledge.grounding.types import AnswerSpec

    labelled = read_labelled(path)
    found: list[Assessed] = []
    async with session.open() as app:
        owner = app.owner()
        release = await app.parts.releases.resolve(owner, f"app/{name}")
        if not has_knowledge(release):
            raise InvalidInput(f"the app {name!r} has no documents to answer from", param="APP")
        spec = AnswerSpec.of_release(release.components.get("answer", {}))
        bar = Bar(
            TextColumn("assessing"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=as_json,
        )
        with bar:
            task = bar.add_task("assessing", total=len(labelled))
            asked = assessed(
                app.parts,
                release,
                labelled,
                asker=lambda user: owner if user is None else app.parts.access.act_as(owner, user),
            )
            async for one in asked:
                found.append(one)
                bar.advance(task)
    told = propose(found, rate=rate, now=spec.min_answerability)
    if as_json:
        emit(_view(name, told))
        return
    table(
        ["threshold", "false answers", "95 %", "answered", "95 %"],
        [
            (f"now {told.now:.4f}", f"{told.now_false_answers:.1%}", "", f"{told.now_answered:.1%}", ""),
            (
                f"proposed {told.value:.4f}",
                f"{told.false_answers:.1%}",
                f"{told.false_interval.low:.1%} to {told.false_interval.high:.1%}",
                f"{told.answered:.1%}",
                f"{told.answered_interval.low:.1%} to {told.answered_interval.high:.1%}",
            ),
        ],
    )
    click.echo(
        f"\nby {told.unanswerable} unanswerable and {told.answerable} answerable questions; "
        f"for {told.rate:.0%} false answers the threshold lies between {told.interval.low:.4f} and "
        f"{told.interval.high:.4f} (95 %)"
    )
    click.echo(f"\nin apps/{name.partition('@')[0]}/app.yaml:\n\nanswer:\n  min_answerability: {told.value:g}")


def _view(name: str, told: Threshold) -> dict[str, object]:
    return {
        "app": name,
        "min_answerability": {
            "value": told.value,
            "interval": [round(told.interval.low, 4), round(told.interval.high, 4)],
        },
        "false_answers": {
            "asked": told.rate,
            "value": round(told.false_answers, 4),
            "interval": [round(told.false_interval.low, 4), round(told.false_interval.high, 4)],
            "of": told.unanswerable,
        },
        "answered": {
            "value": round(told.answered, 4),
            "interval": [round(told.answered_interval.low, 4), round(told.answered_interval.high, 4)],
            "of": told.answerable,
        },
        "now": {
            "min_answerability": told.now,
            "false_answers": round(told.now_false_answers, 4),
            "answered": round(told.now_answered, 4),
        },
        "settings": {"answer": {"min_answerability": told.value}},
    }
