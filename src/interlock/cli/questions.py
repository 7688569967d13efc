"""`interlock knowledge questions`: make them, look at them, accept and reject them, write them out."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.core.context import Context
    from interlock.knowledge.questions.types import Question, State, Verdict
    from interlock.knowledge.types import Progress

__all__ = ["questions"]

_as_user = click.option("--as", "user", metavar="USER", help="As a user of the directory: their documents, their view.")


def _caller(app: App, user: str | None) -> Context:
    return app.owner() if user is None else app.parts.access.act_as(app.owner(), user)


@click.group()
def questions() -> None:
    """Labelled questions of a collection: what `eval` and `tune` measure by."""


@questions.command()
@click.argument("collection")
@click.option("--count", default=50, show_default=True, type=click.IntRange(1, 2000))
@click.option("--model", default="", help="A route or provider/model that writes them; without it none is asked.")
@click.option("--budget", default=1.0, show_default=True, help="What the model's calls may cost together, in dollars.")
@_as_user
@json_option
@pass_session
def make(
    session: Session, collection: str, count: int, model: str, budget: float, user: str | None, as_json: bool
) -> None:
    """Propose questions about COLLECTION, for a person to accept.

    Without a model they are of headings, definitions and quantities, and favour searching by words.
    """
    from interlock.flows.question_making import make_questions
    from interlock.flows.questions import made_view

    async def work() -> None:
        async with session.open() as app:
            app.source_spec(collection)

            # In a log each step would be a line of its own, or all of them one.
            shown = not as_json and sys.stderr.isatty()

            async def tell(progress: Progress) -> None:
                if shown:
                    click.echo(f"\r{progress.done} of {progress.total} made", nl=False, err=True)

            made = await make_questions(
                app.parts,
                _caller(app, user),
                collection,
                count=count,
                model=model,
                budget_usd=budget,
                user=user or "",
                tell=tell,
            )
            if as_json:
                emit(made_view(made))
                return
            if shown:
                click.echo("", err=True)
            kinds = Counter(one.origin for one in made.questions)
            told = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
            click.echo(f"{len(made.questions)} proposed" + (f": {told}" if told else ""))
            for reason, number in made.thrown.most_common():
                click.echo(f"  {number} drafts thrown away: {reason.replace('_', ' ')}")
            if made.calls:
                click.echo(f"  {made.calls} calls, {made.spent.nano / 1e9:.4f} USD")
            if made.stopped:
                click.echo(f"  ended early: {made.stopped}")
            if made.questions:
                click.echo(f"Look at them: interlock knowledge questions list {collection} --state proposed")

    run(work())


@questions.command("list")
@click.argument("collection")
@click.option("--state", type=click.Choice(["proposed", "accepted", "rejected"]))
@_as_user
@json_option
@pass_session
def list_questions(session: Session, collection: str, state: State | None, user: str | None, as_json: bool) -> None:
    """List the questions of COLLECTION, oldest first."""
    from interlock.flows.questions import question_view

    async def work() -> None:
        async with session.open() as app:
            found = await app.parts.knowledge.questions.of_collection(_caller(app, user), collection, state=state)
            if as_json:
                emit([question_view(one) for one in found])
                return
            table(
                ["id", "question", "answer", "of", "state"],
                [
                    (
                        one.id,
                        one.text or "(you may not read its document)",
                        _short(one.answers[0].quote) if one.answers else "",
                        one.origin,
                        f"{one.state}, stale" if one.stale else one.state,
                    )
                    for one in found
                ],
            )

    run(work())


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 80 else words[:79] + "…"


@questions.command()
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "collection", metavar="COLLECTION", help="All that are proposed there and not stale.")
@_as_user
@json_option
@pass_session
def accept(session: Session, ids: tuple[str, ...], collection: str | None, user: str | None, as_json: bool) -> None:
    """Accept questions by their ids: `eval` and `tune` use them from now on."""
    _decide(session, ids, collection, "accepted", user, as_json=as_json)


@questions.command()
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "collection", metavar="COLLECTION", help="All that are proposed there.")
@_as_user
@json_option
@pass_session
def reject(session: Session, ids: tuple[str, ...], collection: str | None, user: str | None, as_json: bool) -> None:
    """Reject questions by their ids. They stay, so that they are not made again."""
    _decide(session, ids, collection, "rejected", user, as_json=as_json)


def _decide(
    session: Session,
    ids: tuple[str, ...],
    collection: str | None,
    verdict: Verdict,
    user: str | None,
    *,
    as_json: bool,
) -> None:
    from interlock.flows.questions import decide_question, question_view

    if bool(ids) == (collection is not None):
        raise click.UsageError("name questions by their ids, or a collection with --all")

    async def work() -> None:
        async with session.open() as app:
            ctx = _caller(app, user)
            wanted = list(ids)
            if collection is not None:
                proposed = await app.parts.knowledge.questions.of_collection(ctx, collection, state="proposed")
                wanted = [o.id for o in proposed if not o.withheld and not (o.stale and verdict == "accepted")]
            done: list[Question] = [await decide_question(app.parts, ctx, one, verdict) for one in wanted]
            if as_json:
                emit([question_view(one) for one in done])
            else:
                click.echo(f"{len(done)} {verdict}")

    run(work())


@questions.command()
@click.argument("question")
@click.argument("text")
@_as_user
@json_option
@pass_session
def edit(session: Session, question: str, text: str, user: str | None, as_json: bool) -> None:
    """Give QUESTION (its id) the words TEXT, and accept it."""
    from interlock.flows.questions import edit_question, question_view

    async def work() -> None:
        async with session.open() as app:
            found = await edit_question(app.parts, _caller(app, user), question, text)
            if as_json:
                emit(question_view(found))
            else:
                click.echo(f"{found.id} is accepted as: {found.text}")

    run(work())


@questions.command()
@click.argument("collection")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@pass_session
def add(session: Session, collection: str, file: Path, as_json: bool) -> None:
    """Add the questions that people wrote in FILE (JSONL, as of `eval`) to those of COLLECTION, as accepted."""
    from interlock.evals.judged import read_judged
    from interlock.flows.questions import add_questions

    async def work() -> bool:
        async with session.open() as app:
            app.source_spec(collection)
            added = await add_questions(app.parts, collection, read_judged(file), lambda user: _caller(app, user))
            if as_json:
                emit({"added": added.added, "known": added.known, "unplaced": list(added.unplaced)})
            else:
                click.echo(f"{added.added} added, {added.known} known already")
                for one in added.unplaced:
                    click.secho(f"  {one!r} names a document or a quote that is not there", fg="red", err=True)
            return not added.unplaced

    if not run(work()):
        raise click.exceptions.Exit(1)


@questions.command()
@click.argument("collection")
@click.option("--out", type=click.Path(path_type=Path), help="A file of JSON lines; standard output without it.")
@click.option("--beir", is_flag=True, help="A folder in BEIR's format (--out), with the documents.")
@_as_user
@json_option
@pass_session
def export(session: Session, collection: str, out: Path | None, beir: bool, user: str | None, as_json: bool) -> None:
    """Write the accepted questions of COLLECTION, as `eval` reads them."""
    from interlock.flows.questions import judged_of, write_beir, write_lines

    if out is None and (beir or as_json):
        raise InvalidInput("say where to write it", param="--out")

    async def work() -> None:
        async with session.open() as app:
            ctx = _caller(app, user)
            found = await judged_of(app.parts, ctx, collection, user)
            documents = 0
            if out is None:
                click.echo(write_lines(found), nl=False)
                return
            if beir:
                documents = await write_beir(app.parts, ctx, collection, found, out)
            else:
                out.write_text(write_lines(found), "utf-8")
            if as_json:
                emit({"questions": len(found), "documents": documents, "out": str(out)})
            else:
                click.echo(f"{len(found)} questions written to {out}")

    run(work())
