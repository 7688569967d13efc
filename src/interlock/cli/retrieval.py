"""`interlock knowledge search`, `explain`, `graph`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.core.context import Context
    from interlock.knowledge.explanation import Explanation
    from interlock.knowledge.graph.types import GraphView

__all__ = ["explain", "graph", "search"]

_MODES = ("hybrid", "dense", "lexical")
_SNIPPET = 150


# Any: click wraps a function in something else with each option.
def _search_options(command: Any) -> Any:
    options: list[Callable[[Any], Any]] = [
        click.argument("query"),
        click.option("--collection", help="Where to look (default: the only one)."),
        click.option("--as", "user", metavar="USER", help="Search as a user of the workspace's directory."),
        click.option("--limit", default=8, show_default=True, type=click.IntRange(1, 200)),
        click.option("--mode", default="hybrid", show_default=True, type=click.Choice(_MODES)),
        click.option("--filter", "conditions", multiple=True, metavar="FIELD=VALUE", help="Or !=, >, >=, <, <=, ~."),
        click.option(
            "--step",
            "steps",
            multiple=True,
            metavar="STEP[=VALUE]",
            help="Take a step beside those of the settings: spelling, diversity.mmr=0.7, rerank=null …",
        ),
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_search_options
@pass_session
def search(session: Session, /, *, as_json: bool, **asked: Any) -> None:
    """Passages that answer QUERY best, among those the asker may read."""
    run(_search(session, asked, as_json=as_json))


@click.command()
@_search_options
@click.option("--budget", "budget_tokens", default=1500, show_default=True, type=click.IntRange(1, 200_000))
@click.option("--app", "app_name", help="Ask this app too, and show which claim of its answer rests on what.")
@click.option("--document", help="Say why this document (id or source) is not among the results.")
@pass_session
def explain(
    session: Session,
    /,
    *,
    budget_tokens: int,
    app_name: str | None,
    document: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Tell a search stage by stage: ranks and scores of both legs, what was left out, what a prompt would get."""
    run(_explain(session, asked, budget_tokens, document, app_name, as_json=as_json))


@click.command()
@click.argument("collection")
@click.argument("entity", required=False)
@click.option("--as", "user", metavar="USER", help="See it as a user of the workspace's directory.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500), help="Most edges, or entities.")
@json_option
@pass_session
def graph(
    session: Session, /, *, collection: str, entity: str | None, user: str | None, limit: int, as_json: bool
) -> None:
    """Who and what the documents of COLLECTION name, and what they say of ENTITY, with the places that say so."""
    run(_graph(session, collection, entity, user, limit, as_json=as_json))


async def _graph(
    session: Session, collection: str, entity: str | None, user: str | None, limit: int, *, as_json: bool
) -> None:
    from interlock.flows.search_views import graph_view

    async with session.open() as app:
        await app.parts.knowledge.check_collection(app.owner(), collection)
        ctx = app.owner() if user is None else app.parts.access.act_as(app.owner(), user)
        view = await app.parts.knowledge.graph(ctx, collection, entity, limit=limit)
        if as_json:
            emit(graph_view(view))
        else:
            _print_graph(view, entity)


def _print_graph(view: GraphView, asked: str | None) -> None:
    names = {entity.key: entity.name for entity in view.entities}
    if asked is None:
        table(
            ["entity", "also", "mentions", "documents"],
            [(e.name, ", ".join(e.aliases)[:40], e.mentions, e.documents) for e in view.entities],
            right=["mentions", "documents"],
        )
        click.echo(f"{len(view.entities)} of {view.total} entities\n")
    else:
        about = view.entities[0]
        click.secho(about.name, bold=True, nl=False)
        click.echo(f"  {about.mentions} mentions in {about.documents} documents")
        if about.aliases:
            click.echo(f"also {', '.join(about.aliases)}")
    for edge in view.edges:
        place = edge.places[0]
        click.echo(f"{names[edge.source]} ", nl=False)
        click.secho(edge.kind, fg="cyan", nl=False)
        where = f"{place.source}:{place.span.start}-{place.span.end}"
        click.echo(f" {names[edge.target]}  ({edge.count}×, {where})")
    if not view.entities:
        click.echo("no document that you may read names anything here")


# Any: the options shared by both commands, as click hands them over.
async def _search(session: Session, asked: dict[str, Any], *, as_json: bool) -> None:
    from interlock.flows.search_views import found_view
    from interlock.flows.several_searches import score_of

    async with session.open() as app:
        ctx, arguments = _arguments(app, asked)
        await app.parts.knowledge.check_collection(app.owner(), arguments["collection"])
        passages = await app.parts.knowledge.search(ctx, **arguments)
        if as_json:
            emit([found_view(passage) for passage in passages])
            return
        for rank, passage in enumerate(passages, start=1):
            where = passage.source + (f", page {passage.page}" if passage.page else "")
            click.secho(f"{rank:>3}. {passage.title}", bold=True, nl=False)
            click.echo(f"  {score_of(passage):.3f}  {where}")
            click.echo(f"     {_shown(passage.text)}")
        if not passages:
            click.echo("nothing found")
            hint = await app.parts.knowledge.filter_hint(ctx, arguments["collection"], arguments["filter"])
            if hint:
                click.echo(hint)


async def _explain(
    session: Session,
    asked: dict[str, Any],
    budget_tokens: int,
    document: str | None,
    app_name: str | None,
    *,
    as_json: bool,
) -> None:
    from interlock.cli.ask import print_answer, print_support
    from interlock.flows.search_views import explanation_view
    from interlock.flows.views import finished_view

    async with session.open() as app:
        ctx, arguments = _arguments(app, asked)
        await app.parts.knowledge.check_collection(app.owner(), arguments["collection"])
        wanted = None if document is None else await _document(app, arguments["collection"], document)
        told = await app.parts.knowledge.explain(ctx, **arguments, budget_tokens=budget_tokens, document=wanted)
        finished = None if app_name is None else await app.ask(asked["query"], app=app_name, user=asked["user"])
        if as_json:
            view = explanation_view(told)
            if finished is not None:
                view["answer"] = finished_view(finished.answer, finished.receipt)
            emit(view)
            return
        _print(told)
        if finished is not None:
            click.echo()
            print_answer(finished.answer, finished.receipt)
            print_support(finished.answer)


def _arguments(app: App, asked: dict[str, Any]) -> tuple[Context, dict[str, Any]]:
    from interlock.flows.retrieval_assistant import RetrievalAssistant
    from interlock.knowledge.filters import parse_filter
    from interlock.knowledge.retrieval.settings import parse_steps

    ctx = app.owner() if asked["user"] is None else app.parts.access.act_as(app.owner(), asked["user"])
    names = list(app.collections())
    if asked["collection"] is None and len(names) != 1:
        raise InvalidInput(
            "name the collection to search", param="--collection", hint=f"one of: {', '.join(names) or 'none yet'}"
        )
    name = asked["collection"] or names[0]
    return ctx, {
        "query": asked["query"],
        "collection": name,
        "limit": asked["limit"],
        "mode": asked["mode"],
        "filter": parse_filter(asked["conditions"]),
        "steps": parse_steps(asked["steps"], app.parts.knowledge.steps_of(name)) if asked["steps"] else None,
        "assistant": RetrievalAssistant(app.parts),
    }


# Any: a document's id, which is a text to Python.
async def _document(app: App, collection: str, named: str) -> Any:
    from interlock.core.ids import DocumentId

    if named.startswith("doc_"):
        return DocumentId(named)
    infos = await app.parts.knowledge.documents(app.owner(), collection=collection)
    found = next((info.id for info in infos if info.source == named), None)
    if found is None:
        raise InvalidInput(
            f"no document of {collection!r} has the source {named!r}",
            param="--document",
            hint=f"interlock documents --collection {collection}",
        )
    return found


def _print(told: Explanation) -> None:
    from interlock.knowledge.legs import LEG_WORDS

    click.secho("asked  ", dim=True, nl=False)
    click.echo(told.query)
    for step in told.steps:
        click.secho(f"{step.name.replace('_', ' ')}  ", dim=True, nl=False)
        click.echo(f"{step.outcome} ({step.after}, {step.seconds * 1000:.1f} ms){': ' if step.told else ''}{step.told}")
    if told.searched not in {"", told.query}:
        click.secho("became ", dim=True, nl=False)
        click.echo(told.searched)
    click.secho("words  ", dim=True, nl=False)
    click.echo(f"{' '.join(told.terms) or 'none'}  ({', '.join(told.languages) or 'not searched'})")
    click.secho("fused  ", dim=True, nl=False)
    filtered = "" if told.documents is None else f"; the filter left {told.documents} documents"
    click.echo(f"{told.fusion}; {told.mode}{filtered}")
    for off in told.off:
        click.secho("left out  ", dim=True, nl=False)
        click.echo(f"{LEG_WORDS[off.leg]}: {off.told(figures=told.oversees)}")
    click.secho("stages ", dim=True, nl=False)
    click.echo(" → ".join(f"{s.name} {s.seconds * 1000:.1f} ms ({s.rows})" for s in told.stages) + "\n")
    table(
        ["#", "score", "meaning", "words", "becomes", "source", "text"],
        [
            (
                c.rank,
                f"{c.passage.score:.3f}",
                "–" if c.dense is None else f"{c.dense.score:.3f} (#{c.dense.rank})",
                "–" if c.lexical is None else f"{c.lexical.score:.1f} (#{c.lexical.rank})",
                c.fate.replace("_", " "),
                c.passage.source,
                _shown(c.passage.text, 60),
            )
            for c in told.candidates[:20]
        ],
        right=["#", "score", "meaning", "words"],
    )
    if len(told.candidates) > 20:
        click.echo(f"… and {len(told.candidates) - 20} more")
    click.echo(f"\ncontext: {len(told.context)} passages, {told.context_tokens} of {told.budget_tokens} tokens")
    if told.hint:
        click.echo(told.hint)
    if told.removed:
        click.echo("\nkept away by rights, with the place each would have:")
        for one in told.removed:
            who = ", ".join(one.readers) or "nobody"
            click.echo(f"  #{one.rank}  {one.document_id}  (readers: {who})")
    if told.why_not is not None:
        click.secho(f"\n{told.why_not.source}: ", bold=True, nl=False)
        click.echo(told.why_not.told)


def _shown(text: str, most: int = _SNIPPET) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
