"""The door of questions: list, add, decide, edit, count what an erasure removes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from interlock.core.ids import DocumentId
from interlock.core.passages import Span
from interlock.knowledge.questions.store import QuestionStore, StoredAnswer, StoredQuestion
from interlock.knowledge.questions.types import Answered, Origin, Question, State, Verdict
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import DocumentInfo

__all__ = ["MOST_CHARACTERS", "NewQuestion", "Place", "Questions"]

_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)
_REVIEWERS = (Role.DEVELOPER, Role.OPERATOR, Role.REVIEWER)
MOST_CHARACTERS = 2_000
"""Of a question."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the answer to a new question stands."""

    document: DocumentId
    text_digest: str
    span: Span | None = None
    quote: str = ""
    grade: int = 1


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A question to store."""

    text: str
    origin: Origin
    places: tuple[Place, ...]
    state: State = "proposed"
    user: str = ""
    model: str = ""


class Questions:
    """Questions of all tenants. Every method answers for the caller: who may not read a document of a question is told
    neither its words nor its quotes, whatever the role.

    Args:
        store: the tables.
        documents: says who may read what, and which text a document has.
    """

    def __init__(self, store: QuestionStore, documents: DocumentStore) -> None:
        self._store = store
        self._documents = documents

    async def of_collection(self, ctx: Context, collection: str, *, state: State | None = None) -> list[Question]:
        """Questions of a collection, oldest first. Needs the role developer, operator or reviewer.

        Developers and operators are told of all of them, without the text of those they may not read; reviewers of
        those they may read.
        """
        ctx.require(*_REVIEWERS)
        rows = [r for r in await self._store.of_collection(ctx.tenant, collection) if state in {None, r.state}]
        infos = await self._infos(ctx, rows)
        found = [_question(ctx, row, infos) for row in rows]
        return found if ctx.principal.has(*_OVERSIGHT) else [one for one in found if not one.withheld]

    async def get(self, ctx: Context, question: str) -> Question:
        """One question. Needs the role developer, operator or reviewer. Raises: NotFound."""
        ctx.require(*_REVIEWERS)
        row = await self._store.one(ctx.tenant, question)
        found = None if row is None else _question(ctx, row, await self._infos(ctx, [row]))
        if found is None or (found.withheld and not ctx.principal.has(*_OVERSIGHT)):
            raise NotFound("no question has this id", param="question")
        return found

    async def texts(self, ctx: Context, collection: str) -> list[str]:
        """The words of all questions of a collection, whoever may read them: to ask none of them twice.

        For whoever makes questions, and never to be shown. Needs the role developer or operator.
        """
        ctx.require(*_OVERSIGHT)
        return [row.text for row in await self._store.of_collection(ctx.tenant, collection)]

    async def add(self, ctx: Context, collection: str, new: NewQuestion) -> Question | None:
        """Store a question; None when the same one is there, or a document of it changed meanwhile. Needs the role
        developer or operator.

        Raises: InvalidInput: blank or too long, or it names no document; NotFound: the caller may not read one of them.
        """
        ctx.require(*_OVERSIGHT)
        text = _checked(new.text)
        if not new.places:
            raise InvalidInput("a question names the documents that answer it", param="relevant")
        infos = await self._documents.by_id(ctx.tenant, [place.document for place in new.places])
        for place in new.places:
            info = infos.get(place.document)
            if info is None or info.collection != collection or not info.readers & ctx.readers:
                raise NotFound("a question names a document that is not there", param="relevant")
        answers = tuple(
            StoredAnswer(
                place.document,
                place.text_digest,
                place.span.start if place.span else 0,
                place.span.end if place.span else 0,
                place.quote,
                place.grade,
            )
            for place in sorted(new.places, key=lambda place: place.document)
        )
        decided = new.state != "proposed"
        row = StoredQuestion(
            _identity(collection, text, [place.document for place in new.places]),
            collection,
            text,
            new.origin,
            new.state,
            new.user,
            new.model,
            edited=False,
            made_by=ctx.principal.id,
            made_at=now(),
            decided_by=ctx.principal.id if decided else "",
            decided_at=now() if decided else None,
            answers=answers,
        )
        if not await self._store.add(ctx.tenant, row):
            return None
        return _question(ctx, row, infos)

    async def decide(self, ctx: Context, question: str, verdict: Verdict) -> Question:
        """Accept or reject one. Needs the role developer, operator or reviewer, and the right to read its documents.

        Raises: NotFound; Forbidden; Conflict: it is stale, and is to be accepted.
        """
        found = await self._readable(ctx, question)
        if verdict == "accepted" and found.stale:
            raise Conflict(
                "a document of this question has another text by now",
                hint="reject it, and make questions of the new text",
                code="stale_question",
            )
        at = now()
        await self._store.change(ctx.tenant, question, state=verdict, decided_by=ctx.principal.id, decided_at=at)
        return replace(found, state=verdict, decided_by=ctx.principal.id, decided_at=at)

    async def edit(self, ctx: Context, question: str, text: str) -> Question:
        """Other words for one, which accepts it. Rights and errors as of `decide`."""
        words = _checked(text)
        await self._readable(ctx, question)
        found = await self.decide(ctx, question, "accepted")
        await self._store.change(ctx.tenant, question, text=words, edited=True)
        return replace(found, text=words, edited=True)

    async def count_of(self, ctx: Context, documents: Collection[DocumentId]) -> int:
        """How many questions name any of these documents. Needs the role operator."""
        ctx.require(Role.OPERATOR)
        return await self._store.count_of(ctx.tenant, documents)

    async def forget_user(self, ctx: Context, user: str) -> int:
        """Remove what is asked as an end user; gives how many. Needs the role operator."""
        ctx.require(Role.OPERATOR)
        return await self._store.forget_user(ctx.tenant, user)

    async def _readable(self, ctx: Context, question: str) -> Question:
        found = await self.get(ctx, question)
        if found.withheld:
            raise Forbidden(
                "you may not read a document of this question, so its words are not yours to judge",
                hint="let somebody decide who may read it",
            )
        return found

    async def _infos(self, ctx: Context, rows: Sequence[StoredQuestion]) -> Mapping[DocumentId, DocumentInfo]:
        named = {answer.document for row in rows for answer in row.answers}
        return await self._documents.by_id(ctx.tenant, named) if named else {}


def _question(ctx: Context, row: StoredQuestion, infos: Mapping[DocumentId, DocumentInfo]) -> Question:
    known = [infos.get(answer.document) for answer in row.answers]
    withheld = not known or any(info is None or not info.readers & ctx.readers for info in known)
    stale = not known or any(
        info is None
        or info.text_digest != answer.text_digest
        or info.cleaning.held
        or info.cleaning.duplicate_of is not None
        for info, answer in zip(known, row.answers, strict=True)
    )
    answers = tuple(
        Answered(
            answer.document,
            info.source if info is not None else "",
            answer.text_digest,
            Span(answer.start, answer.end) if answer.start < answer.end else None,
            "" if withheld else answer.quote,
            answer.grade,
        )
        for info, answer in zip(known, row.answers, strict=True)
    )
    return Question(
        row.id,
        row.collection,
        "" if withheld else row.text,
        _ORIGINS[row.origin],
        _STATES[row.state],
        answers,
        stale=stale,
        withheld=withheld,
        user=row.end_user,
        model=row.model,
        edited=row.edited,
        made_at=row.made_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
    )


_ORIGINS: Mapping[str, Origin] = {
    "heading": "heading",
    "definition": "definition",
    "quantity": "quantity",
    "model": "model",
    "person": "person",
}
_STATES: Mapping[str, State] = {"proposed": "proposed", "accepted": "accepted", "rejected": "rejected"}


def _checked(text: str) -> str:
    words = " ".join(text.split())
    if not words:
        raise InvalidInput("the question is empty", param="text")
    if len(words) > MOST_CHARACTERS:
        raise InvalidInput(f"a question has at most {MOST_CHARACTERS} characters", param="text")
    return words


def _identity(collection: str, text: str, documents: Sequence[DocumentId]) -> str:
    parts = "\0".join([collection, text.casefold(), *sorted(documents)])
    return "qst_" + hashlib.sha256(parts.encode()).hexdigest()[:26]
