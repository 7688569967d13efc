"""What `eval` and `tune` search: a collection of the workspace, or a set on a shelf of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.core.context import Context
    from interlock.evals.judged import JudgedQuestion
    from interlock.knowledge.retrieval.ports import Assistant
    from interlock.knowledge.service import KnowledgeService
    from interlock.knowledge.types import Progress

__all__ = ["Asked", "Subject", "subject_of", "with_bar"]


@dataclass(frozen=True)
class Asked:
    """Which set, by the options of a command."""

    place: Path | None
    """A file of questions, a folder in BEIR's format, or None for the collection's accepted questions."""
    collection: str | None
    limit: int | None
    users: Sequence[str] = ()
    """Whose questions, beside those of whoever evaluates; only without a place."""


@dataclass(frozen=True)
class Subject:
    """What is searched, and by which questions."""

    knowledge: KnowledgeService
    collection: str
    questions: Sequence[JudgedQuestion]
    asker: Callable[[str | None], Context]
    named: Callable[[str], str]
    assistant: Assistant


async def subject_of(app: App, asked: Asked, stack: AsyncExitStack, *, shown: bool) -> Subject:
    """Open it; a folder is ingested first. Raises: InvalidInput, NotFound."""
    from interlock.evals.judged import read_beir, read_judged
    from interlock.flows.retrieval_assistant import RetrievalAssistant

    place, collection = asked.place, asked.collection
    owner, assistant = app.owner(), RetrievalAssistant(app.parts)
    if place is not None and asked.users:
        raise InvalidInput("a set says itself who asks: leave --as out", param="--as")
    if place is not None and place.is_dir():
        from interlock.flows.evaluation_shelf import COLLECTION, document_name, ingest_set, shelf

        if collection is not None:
            raise InvalidInput("a folder brings its own documents: leave --collection out", param="--collection")
        beir = read_beir(place)
        knowledge = await stack.enter_async_context(shelf(app.workspace.data, place, app.parts.knowledge))
        await with_bar("ingesting", shown, lambda show: ingest_set(knowledge, owner, place, show))
        return Subject(knowledge, COLLECTION, beir[: asked.limit], lambda _: app.owner(), document_name, assistant)
    names = list(app.collections())
    if collection is None and len(names) != 1:
        raise InvalidInput(
            "name the collection", param="--collection", hint=f"one of: {', '.join(names) or 'none yet'}"
        )
    chosen = collection or names[0]
    await app.parts.knowledge.check_collection(owner, chosen)
    questions = await _stored(app, chosen, asked.users) if place is None else read_judged(place)
    access = app.parts.access
    return Subject(
        app.parts.knowledge,
        chosen,
        questions[: asked.limit],
        # Each question has a deadline of its own.
        lambda user: app.owner() if user is None else access.act_as(app.owner(), user),
        str,
        assistant,
    )


async def _stored(app: App, collection: str, users: Sequence[str]) -> list[JudgedQuestion]:
    """Accepted questions that whoever evaluates may read, and those that these users may."""
    from interlock.flows.questions import judged_of

    found: dict[str, JudgedQuestion] = {}
    refused: NotFound | None = None
    for user in (None, *users):
        ctx = app.owner() if user is None else app.parts.access.act_as(app.owner(), user)
        try:
            for one in await judged_of(app.parts, ctx, collection, user):
                found.setdefault(one.id, one)
        except NotFound as error:
            refused = error
    if not found and refused is not None:
        raise refused
    return list(found.values())


# Any: what the work gives is of no interest here.
async def with_bar(title: str, shown: bool, work: Callable[[Any], Any]) -> None:
    """Do `work`, which is given where to tell its progress, under a bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Bar(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(title, total=None)

        async def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        await work(show)
